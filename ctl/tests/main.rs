//! `nunbirdctl` as a program, on configurations of its own.

#![forbid(unsafe_code)]

mod codes;
mod commands;
mod conditions;
mod diff;
mod guide;
mod history;
mod manual;
mod migrate;
mod notation;
mod report;
mod robust;
mod runner_config;
mod scene;
mod schema;
mod server_user;
mod show;
