//! `DATA_DIR/credentials.toml`: the secrets of a single-machine installation. Made once, whole or not at all, readable
//! by its owner alone, never logged.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

use super::private_file::make_private;
use super::reader::{Context, Section};
use super::{MissingCredentials, Problem, Secret, written};
use crate::clock::Random;

/// The drawn secrets.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    /// May name any gateway and tenant at the door.
    pub(crate) ingest_key: Secret,
    /// Opens the admin API.
    pub(crate) admin_key: Secret,
    /// Of the ClickHouse user `jwtrail`.
    pub(crate) clickhouse_password: Secret,
    /// Of the ClickHouse user `analyst`, who may only read.
    pub(crate) analyst_password: Secret,
    /// Signs what goes to webhooks without a secret of their own.
    pub(crate) webhook_secret: Secret,
}

/// Why the credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    #[error("{path} is readable by others (mode {mode:04o}): run `chmod 600 {path}`, and draw new secrets if they may have been seen", path = path.display())]
    LooseMode { path: PathBuf, mode: u32 },
    #[error("{path} cannot be {doing}: {cause}", path = path.display())]
    Io { path: PathBuf, doing: &'static str, cause: std::io::Error },
    #[error("{path} is not as it was made: {problems}; mend it, or move it away to have new ones drawn (gateways and receivers then need the new ones)", path = path.display())]
    Wrong { path: PathBuf, problems: String },
}

impl Credentials {
    /// Where they lie.
    pub(crate) fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("credentials.toml")
    }

    /// Reads them; draws and writes them first if that is wanted and they are not there.
    pub(super) fn load(
        data_dir: &Path,
        missing: MissingCredentials,
    ) -> Result<Option<Self>, CredentialsError> {
        let path = Self::path(data_dir);
        match std::fs::metadata(&path) {
            Ok(metadata) => Self::read(path, metadata.permissions().mode() & 0o7777).map(Some),
            Err(cause) if cause.kind() == ErrorKind::NotFound => match missing {
                MissingCredentials::Accept => Ok(None),
                MissingCredentials::Make => {
                    make_private(&path, &draw()).map_err(|cause| CredentialsError::Io {
                        path: path.clone(),
                        doing: "made",
                        cause,
                    })?;
                    Self::read(path, 0o600).map(Some)
                }
            },
            Err(cause) => Err(CredentialsError::Io { path, doing: "read", cause }),
        }
    }

    fn read(path: PathBuf, mode: u32) -> Result<Self, CredentialsError> {
        if mode & 0o077 != 0 {
            return Err(CredentialsError::LooseMode { path, mode });
        }
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => zeroize::Zeroizing::new(text),
            Err(cause) => return Err(CredentialsError::Io { path, doing: "read", cause }),
        };
        let (environment, mut problems) = (BTreeMap::new(), Vec::new());
        let table = written::from_toml("credentials.toml", &text, &mut problems);
        let context = Context::new(&environment, problems);
        let credentials = Self::convert(Section::root(&context, table));
        let (problems, ..) = context.finish();
        match credentials {
            Some(credentials) if problems.is_empty() => Ok(credentials),
            _ => {
                let problems: Vec<String> = problems.iter().map(Problem::to_string).collect();
                Err(CredentialsError::Wrong { path, problems: problems.join("; ") })
            }
        }
    }

    fn convert(mut root: Section<'_>) -> Option<Self> {
        let mut need = |key: &'static str| {
            let there = root.has(key);
            let secret = root.secret(key);
            match &secret {
                None if !there => root.report(key, "is missing"),
                Some(secret) if secret.expose().len() < MIN_SECRET => root.report(key, "is too short"),
                _ => {}
            }
            secret
        };
        let (ingest_key, admin_key) = (need("ingest_key"), need("admin_key"));
        let (clickhouse_password, analyst_password) = (need("clickhouse_password"), need("analyst_password"));
        let webhook_secret = need("webhook_secret");
        if webhook_secret.as_ref().is_some_and(|secret| webhook_key(secret).is_none()) {
            root.report("webhook_secret", "is `whsec_` and 24 to 64 bytes in base64");
        }
        root.finish();
        Some(Self {
            ingest_key: ingest_key?,
            admin_key: admin_key?,
            clickhouse_password: clickhouse_password?,
            analyst_password: analyst_password?,
            webhook_secret: webhook_secret?,
        })
    }
}

/// Fewer characters than this were not drawn by us, and are guessable.
const MIN_SECRET: usize = 16;

/// A new file's text. The prefixes let secret scanners and people tell what they found.
fn draw() -> zeroize::Zeroizing<String> {
    let key = || BASE64_URL_SAFE_NO_PAD.encode(Random::bytes::<32>());
    let webhook = BASE64_STANDARD.encode(Random::bytes::<32>());
    zeroize::Zeroizing::new(format!(
        "# Made by jwtrail. Whoever reads this file can write events, read all data and sign webhooks.\n\
         ingest_key = \"jwtrail_ingest_{}\"\n\
         admin_key = \"jwtrail_admin_{}\"\n\
         clickhouse_password = \"{}\"\n\
         analyst_password = \"{}\"\n\
         webhook_secret = \"{WEBHOOK_PREFIX}{webhook}\"\n",
        key(),
        key(),
        key(),
        key(),
    ))
}

const WEBHOOK_PREFIX: &str = "whsec_";

/// The bytes that a webhook secret (`whsec_` and base64, as Standard Webhooks writes it) stands for.
pub(crate) fn webhook_key(secret: &Secret) -> Option<zeroize::Zeroizing<Vec<u8>>> {
    let encoded = secret.expose().strip_prefix(WEBHOOK_PREFIX)?;
    let key = zeroize::Zeroizing::new(BASE64_STANDARD.decode(encoded).ok()?);
    (24..=64).contains(&key.len()).then_some(key)
}
