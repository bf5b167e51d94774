//! Real schedulers for tests: daemons, accounts and launchers of their own, stopped by pid.

mod faults;
mod kinds;
mod launch;
mod slurm;

pub use faults::Stop;
pub use launch::{Ended, Job, Stage};
pub use slurm::Slurm;
