//! What a judgement asks of the host: the user database, files that only root can have written, signing keys, whose account is whose, and
//! programs that run as other users. Nothing here decides anything: the crate `judge` does.
//!
//! [`System`] has the questions, and [`Here`] answers them in this process, with the rights that it has. `nunbird-auth` answers with
//! privilege, `nunbirdctl explain` with the rights of the admin who asks.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod ancestry;
mod as_user;
pub mod files;
mod floor;
mod here;
mod keys;
pub mod memory;
mod nologin;
mod own_file;
mod people;
mod places;
pub mod refusal;
mod rights;
pub mod runner;
mod system;
pub mod unverified;
mod validation;

pub use as_user::Doubt;
pub use floor::Floor;
pub use here::Here;
pub use keys::{Fetch, Unfetched};
pub use own_file::OwnFile;
pub use people::{PEOPLE_DIR, PersonFile, UNPRIVILEGED_PEOPLE_DIR};
pub use places::{Destination, Places, Sockets, to_syslog, turn};
pub use rights::{Rights, open_state, state_directory, state_path};
pub use system::System;
pub use unverified::Turn;
pub use validation::{End, MAX_VALIDATION_OUTPUT, Report, Said, Validate};
