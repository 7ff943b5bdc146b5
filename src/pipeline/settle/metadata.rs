//! What a commit says besides its offset: `{"v":1,"log":L,"end":b,"state":s}`, whole in every commit; after an adoption
//! also `"ask":r`.

use serde::{Deserialize, Serialize};

use crate::model::{LogId, Offset};

/// A commit's metadata. A commit without it is not ours (another program's, an operator's reset).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metadata {
    #[serde(rename = "v")]
    version: Version,
    pub(super) log: LogId,
    /// The last offset of the block that begins at the commit and may be in ClickHouse in part; `None` between blocks.
    pub(super) end: Option<Offset>,
    /// The first offset that the last checkpoint in `jwtrail.state` does not know of; `None` where there is none to go by.
    pub(super) state: Option<Offset>,
    /// Up to here ClickHouse may hold rows of blocks whose ends nobody knows any more, and home partitions what those
    /// forwarded, as where a commit expired. Rare: not written where there is none.
    #[serde(default)]
    pub(super) ask: Option<Offset>,
}

/// The one version there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
struct Version;

impl TryFrom<u8> for Version {
    type Error = &'static str;
    fn try_from(version: u8) -> Result<Self, Self::Error> {
        if version == 1 { Ok(Self) } else { Err("an unknown version") }
    }
}

impl From<Version> for u8 {
    fn from(_: Version) -> Self {
        1
    }
}

impl Metadata {
    pub(super) fn new(log: LogId, end: Option<Offset>, state: Option<Offset>) -> Self {
        Self { version: Version, log, end, state, ask: None }
    }

    pub(super) fn asking(self, ask: Option<Offset>) -> Self {
        Self { ask, ..self }
    }

    /// About 110 bytes: far below the 4,000 that a log must take.
    pub(super) fn encode(&self) -> String {
        let number = |offset: Option<Offset>| offset.map_or("null".to_owned(), |offset| offset.to_string());
        let (log, end, state) = (&self.log, number(self.end), number(self.state));
        let ask = self.ask.map_or(String::new(), |ask| format!(r#","ask":{ask}"#));
        format!(r#"{{"v":1,"log":"{log}","end":{end},"state":{state}{ask}}}"#)
    }

    /// `None` if it is not ours.
    pub(super) fn decode(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "00112233445566778899aabbccddeeff";

    fn log() -> LogId {
        LogId::try_from(LOG.to_owned()).unwrap()
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let offsets = [None, Offset::new(0), Offset::new(i64::MAX)];
        for (end, state) in offsets.into_iter().flat_map(|end| offsets.map(|state| (end, state))) {
            for ask in offsets {
                let metadata = Metadata::new(log(), end, state).asking(ask);
                assert_eq!(Metadata::decode(&metadata.encode()), Some(metadata.clone()));
                assert!(metadata.encode().len() <= 4_000);
            }
        }
        let text = Metadata::new(log(), Offset::new(7), None).encode();
        assert_eq!(text, format!(r#"{{"v":1,"log":"{LOG}","end":7,"state":null}}"#));
    }

    #[test]
    fn what_is_not_ours_is_not_decoded() {
        for text in [
            "",
            "by hand",
            "{}",
            r#"{"v":2,"log":"00112233445566778899aabbccddeeff","end":null,"state":null}"#,
            r#"{"v":1,"log":"not a log","end":null,"state":null}"#,
        ] {
            assert_eq!(Metadata::decode(text), None, "{text}");
        }
    }
}
