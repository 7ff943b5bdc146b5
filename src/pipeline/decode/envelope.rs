//! CloudEvents 1.0 around an event: read alike in binary mode, structured mode, or without any.
//!
//! In binary mode the value is the event and the attributes are headers; in structured mode the value is an envelope
//! whose `data` is the event. Either way the attributes are for whoever routes: they repeat what the event says, and
//! only the event counts.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::RejectReason::{BadValue, DuplicateMember, MissingField};
use super::reader::{Fault, Read, Reader};
use super::schema::{self, Draft};

const SPECVERSION: &str = "specversion";
static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(SPECVERSION));

/// Reads the event in `reader`'s text, in an envelope or bare, and nothing after it.
pub(super) fn draft<'r>(reader: &mut Reader<'r>, text: &'r str, draft: &mut Draft<'r>) -> Read<()> {
    if is_envelope(text) {
        enveloped(reader, |reader| schema::draft(reader, draft))?;
    } else {
        schema::draft(reader, draft)?;
    }
    reader.end()
}

/// Whether the text is an envelope. Broken JSON is none: it fails as an event would.
pub(super) fn is_envelope(text: &str) -> bool {
    // The members are looked over only where the word stands somewhere, which in a bare event it does not.
    FINDER.find(text.as_bytes()).is_some() && {
        let mut reader = Reader::without_limits(text);
        let mut found = false;
        let read = reader.object(|reader, name| {
            found |= name == SPECVERSION;
            reader.value().map(|_| ())
        });
        read.is_ok() && found
    }
}

/// Reads an envelope; `event` reads its `data`.
pub(super) fn enveloped<'r, T>(
    reader: &mut Reader<'r>,
    mut event: impl FnMut(&mut Reader<'r>) -> Read<T>,
) -> Read<T> {
    let (mut version, mut data) = (None, None);
    let mut others = Vec::new();
    reader.object(|reader, name| match name.as_ref() {
        "data" if data.is_none() => {
            data = Some(reader.inner(&mut event)?);
            Ok(())
        }
        SPECVERSION if version.is_none() => {
            version = Some(reader.text()?);
            if version.as_deref() == Some("1.0") { Ok(()) } else { Err(Fault::new(BadValue)) }
        }
        "data" | SPECVERSION => Err(Fault::new(DuplicateMember)),
        _ => {
            let name = reader.masked_name(name)?;
            if others.contains(&name) {
                return Err(Fault::new(DuplicateMember));
            }
            others.push(name);
            reader.value().map(|_| ())
        }
    })?;
    data.ok_or(Fault::at(MissingField, "/data"))
}
