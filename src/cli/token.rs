//! `jwtrail token ref`: the ref of a token, for whoever wants to find it in the trail.

use std::io::Read;

use anyhow::{Context, ensure};

/// What names a token without being one.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Token {
    /// Print the ref of a token read from standard input (a token on the command line would be seen by others)
    Ref,
}

impl Token {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self::Ref = self;
        let mut text = String::new();
        std::io::stdin().take(64 << 10).read_to_string(&mut text).context("reading standard input")?;
        let text = text.trim();
        ensure!(!text.is_empty(), "nothing on standard input; try: jwtrail token ref < FILE");
        let named = crate::token::token_ref(text)
            .context("this is not a compact JWS or JWE: three or five base64url parts with dots between")?;
        println!("{named}");
        Ok(())
    }
}
