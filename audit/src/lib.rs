//! Audit events: what was decided and what became of each stage, for the site's admins; `docs/audit.md` is the schema.
//!
//! [`Event`] is what an event says, [`encode`] its form for each kind of place, and [`Sinks`] the places that a site has set. Sending is the
//! caller's: it holds what was opened with privilege.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod encode;
#[allow(missing_docs, reason = "docs/audit.md has every field with its type, unit and meaning")]
mod event;
mod sinks;
#[cfg(test)]
mod tests;
mod usage;

pub use event::{
    Account, Circumstances, Claim, Claims, Container, End, Event, Given, Job, Outcome, ProviderIdentity,
    Script, Used,
};
pub use sinks::{Sinks, destinations};
pub use usage::{Usage, usage};
