//! Policies as text: read, written, migrated, and as the documentation has them.

#![forbid(unsafe_code)]

mod jacamar;
mod limits;
mod recipes;
mod reference;
mod written;
