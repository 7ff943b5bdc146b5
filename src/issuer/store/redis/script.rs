//! The scripts, each in a file of its own: what each decides is decided whole, on Redis' own time.

use std::sync::LazyLock;

/// A script, and the name that Redis keeps it under.
pub(super) struct Script {
    pub(super) text: &'static str,
    pub(super) sha1: String,
}

macro_rules! scripts {
    ($($name:ident = $file:literal),+ $(,)?) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            let text = include_str!($file);
            Script { text, sha1: redis::Script::new(text).get_hash().to_owned() }
        });)+
    };
}

scripts! {
    BEGIN = "begin.lua",
    REFRESH = "refresh.lua",
    REVOKE_FAMILY = "revoke_family.lua",
    REVOKE_SUBJECT = "revoke_subject.lua",
    ADVANCE = "advance.lua",
    FIRST_USE = "first_use.lua",
    TRY_LOGIN = "try_login.lua",
    LOGIN_SUCCEEDED = "login_succeeded.lua",
    REVOKE = "revoke.lua",
    REVOKED_SINCE = "revoked_since.lua",
}
