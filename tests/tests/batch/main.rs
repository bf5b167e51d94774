//! The launcher before a real Slurm: slurmctld, two slurmd and munge, jobs of several users.

#![forbid(unsafe_code)]

mod cancels;
mod ends;
mod outputs;
mod queues;
mod restarts;
mod whole;
