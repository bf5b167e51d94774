//! The container around a stage's script, in whatever place it runs (docs/adr/0022).
//!
//! An engine is data ([`description`]). `prepare` brings the image to this host ([`pull`]) and makes
//! the container; each stage enters it by a generated script ([`outer`]) that needs nothing of
//! Nunbird, and learns how it ended from a record that the inside writes ([`inner`], [`record`]).
//! Used by the launcher and by `batch/`, as the mapped user. Nothing here needs privilege.

#![forbid(unsafe_code)]

mod allocation;
mod auth;
pub mod binds;
mod bounds;
mod call;
mod copies;
pub mod credential_helper;
pub mod description;
mod digest;
mod given;
pub mod images;
pub mod inner;
mod marks;
pub mod names;
mod needs;
pub mod networks;
pub mod outer;
mod own;
mod partial;
mod platform;
mod prepare;
mod pull;
mod pull_lock;
mod reading;
pub mod record;
mod removal;
pub mod resolved;
mod runner;
pub mod save;
mod services;
mod serving;
mod stage;
#[cfg(test)]
mod testing;
mod trees;
mod trouble;
mod words;

pub use allocation::write_for_allocation;
pub use copies::JobUse;
pub use prepare::prepare;
pub use runner::of_stage;
pub use stage::{Stage, StageEnd, base_environment, destroy, shell, stop};
pub use trouble::Failure;
pub use words::Ids;
