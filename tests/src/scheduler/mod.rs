//! Batch schedulers for tests, real ones and fakes: daemons, accounts and launchers of their own, stopped by pid.

mod bed;
mod cluster;
mod fake;
mod faults;
mod kinds;
mod launch;
mod site;
mod slurm;
mod slurm_cluster;
mod wants;

pub use bed::Bed;
pub use cluster::{Cluster, Fault, Possible, Standing, Want};
pub use fake::Fake;
pub use faults::Stop;
pub use launch::{Ended, Job, Stage};
pub use site::Site;
pub use slurm::Slurm;
