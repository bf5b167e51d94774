//! The launcher with a real Slurm: slurmctld, two slurmd and munge, jobs of several users.

#![forbid(unsafe_code)]

mod accounting;
mod by_hand;
mod cancels;
mod containers;
mod crowds;
mod ends;
mod faults;
mod kept;
mod outputs;
mod podman;
mod queues;
mod restarts;
mod site;
mod whole;
