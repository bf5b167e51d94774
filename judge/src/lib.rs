//! The whole judgement of a job: who it belongs to, what the site's program and its rules say, which account it gets and whether
//! the account's owner agrees. [`identify()`] and [`judge`] are the sequence, [`Means`] is what a caller has to do it with.
//!
//! `nunbird-decide` calls it, with a verifier that reads untrusted text; `nunbirdctl explain` with the rights
//! of the admin who asks. So explain cannot differ from the program (docs/adr/0018-one-judgement.md).

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod account;
pub mod authorized_projects;
pub mod batch;
pub mod containers;
pub mod evidence;
pub mod files;
pub mod identify;
pub mod judgement;
pub mod keys;
pub mod means;
pub mod nologin;
pub mod people;
pub mod place;
pub mod questions;
pub mod registries;
mod server_user;
pub mod service_variables;
pub mod site_credentials;
pub mod token_help;
pub mod validation;

/// Refusals, which the programs that judge share with those that print them.
pub mod refusal {
    pub use nunbird_host::refusal::*;
}

pub use identify::{Identity, Proof, identify};
pub use judgement::{Course, Judged, judge, subject};
pub use means::{Fetched, Means};
pub use refusal::{Class, Refusal};
