//! The launcher as a process, started the way `nunbird-auth` starts it: descriptors 3, 4 and 5, another user's
//! uid when the tests run as root, and files that this user may not open by name.

#![forbid(unsafe_code)]

mod cancelling;
mod cleaning;
mod container_pulls;
mod container_world;
mod containers;
mod containers_ending;
mod credential_helpers;
mod escaping;
mod keeping;
mod output;
mod preparing;
mod running;
mod services;
mod starting;
mod world;
