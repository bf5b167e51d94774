//! Policies as text: written, read again, and migrated from Jacamar CI.

#![forbid(unsafe_code)]

mod howto;
mod jacamar;
mod limits;
mod reference;
mod written;
