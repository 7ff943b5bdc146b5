//! `jwtrail token ref`: the ref of a token, for whoever wants to find it in the trail.

use std::io::Read;

use anyhow::{Context, ensure};

use crate::token;

/// What names a token without being one.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Token {
    /// Print the ref (JWS) or outer_ref (JWE) of a token read from standard input (a token on the command line would be seen by others)
    Ref,
}

impl Token {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self::Ref = self;
        let mut text = String::new();
        std::io::stdin().take(64 << 10).read_to_string(&mut text).context("reading standard input")?;
        let text = text.trim();
        ensure!(!text.is_empty(), "nothing on standard input; try: jwtrail token ref < FILE");
        // An encrypted token has five segments; what is in it has a ref of its own, which only its holder can compute.
        if text.bytes().filter(|byte| *byte == b'.').count() == 4 {
            println!("outer_ref {}", token::outer_ref(text)?);
        } else {
            println!("ref {}", token::token_ref(text)?);
        }
        Ok(())
    }
}
