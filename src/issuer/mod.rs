//! The issuing side: tenants, their clients, users and keys, and what happens to tokens. No HTTP here.
//!
//! Every tenant is an issuer of its own (ISSUER). Nothing here reaches lanes, the pipeline's store or settle.

mod control;
