//! Jobs in private systems: each test has its own accounts, configuration and installation
//! (`World`), so any number of them runs at once. Nothing in this program changes the process
//! itself; a test that must is in a separate program (docs/testing.md).

#![forbid(unsafe_code)]

mod accounts;
mod adopt;
mod agreement;
mod audit;
// Tests begin in the order of their names, and two of these wait for two minutes: so they do not begin last.
#[path = "sudo/mod.rs"]
mod by_sudo;
mod cancel;
mod cleanup;
mod conditions;
mod contained;
mod decider_ends;
mod demo;
mod directories;
mod doctor;
mod doctor_jacamar;
mod exit_codes;
mod explain;
mod files;
mod flags;
mod help;
mod hostile_decider;
mod hostile_limits;
mod hostile_machine;
mod hostile_validate;
mod identity;
mod identity_attacks;
mod images;
mod inherited;
mod isolation;
mod jacamar;
mod job_token;
mod judgement;
mod kept;
mod keys;
mod ledger;
mod monitoring;
mod pam;
mod people;
mod policy;
mod process;
mod process_limits;
mod proxy;
mod quirks;
mod records;
mod runner_gone;
mod runners;
mod scheduler_variables;
mod server_user;
mod shepherd;
mod slots;
mod starve;
mod sweep;
mod testbed;
mod traces;
mod transcripts;
mod validation_output;
mod walkthrough;
mod whole_job;
mod worker;
