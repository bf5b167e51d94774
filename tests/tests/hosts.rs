//! Jobs on booted systemd hosts: each test boots its own (`Host`).

#![forbid(unsafe_code)]

mod host;
mod host_login;
mod host_machine;
mod host_machine_counts;
mod host_machine_kept;
mod host_machine_options;
mod host_misbehaviour;
mod host_packages;
mod host_runner_unit;
mod host_scope;
mod host_units;
mod host_user;
