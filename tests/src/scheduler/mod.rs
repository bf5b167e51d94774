//! Batch schedulers for tests, real ones and fakes: daemons, accounts and launchers of their own, stopped by pid.

mod bed;
mod cluster;
mod daemons;
mod fake;
mod faults;
mod gridengine;
mod gridengine_cluster;
mod htcondor;
mod htcondor_cluster;
mod interrupt;
mod kinds;
mod launch;
mod manner;
mod ports;
pub(crate) mod release;
mod site;
mod slurm;
mod slurm_cluster;
pub(crate) mod stage;
mod wants;

pub use bed::Bed;
pub use cluster::{Cluster, Fault, JobState, Possible, Want};
pub use fake::Fake;
pub use faults::Stop;
pub use gridengine::GridEngine;
pub use htcondor::HtCondor;
pub use interrupt::{interrupt, is_interrupted, set_patience};
pub use launch::Job;
pub use release::Release;
pub use site::{Site, SiteOptions};
pub use slurm::Slurm;
pub use stage::{Ended, Stage};
