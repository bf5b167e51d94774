//! A real Slurm in the compliance suite. What breaks more than one job needs a Slurm of its own.

use super::bed::Bed;
use super::cluster::{Cluster, Fault, JobState, Possible, Want};
use super::release::Release;
use super::slurm::Slurm;
use nix::sys::signal::Signal;

impl Cluster for Slurm {
    fn name(&self) -> &'static str {
        match self.release {
            Release::Host => "slurm",
            Release::Trixie => "slurm-trixie",
            Release::Sid => "slurm-sid",
        }
    }

    fn scheduler(&self) -> &'static str {
        "slurm"
    }

    fn bed(&self) -> &Bed {
        &self.bed
    }

    fn environment(&self) -> Vec<(String, String)> {
        vec![("SLURM_CONF".to_owned(), self.path("etc/slurm.conf").display().to_string())]
    }

    fn want(&self, want: Want) -> Possible<String> {
        let text = match want {
            Want::Hold => "--hold",
            Want::ShortTime => "-t 1",
            Want::NoSuchQueue => "-p nonesuch",
            // What more nodes than there are becomes depends on the release.
            Want::TooMuch => "-p hour -t 100",
            Want::Preemptible => "-p spare --exclusive",
            Want::LittleMemory => "--mem=50",
            Want::DoomedNode => "-w n2",
            Want::Owned => "--output=mine.txt",
            Want::OneNode => "-N 1",
            Want::ThreeNodes => "-N 3",
            Want::TwoHours => "-t 2:00:00",
        };
        Ok(text.to_owned())
    }

    fn standing(&self, id: &str) -> JobState {
        let word = self.admin(&format!("squeue -h -a -t all -j {id} -o %T"));
        match word.trim() {
            "" => JobState::Gone,
            "PENDING" => JobState::Waiting,
            "RUNNING" | "COMPLETING" | "CONFIGURING" => JobState::Running,
            _ => JobState::Ended,
        }
    }

    fn inflict(&self, fault: Fault<'_>) -> Possible<()> {
        match fault {
            Fault::Release(id) => self.admin(&format!("scontrol release {id}")),
            Fault::NodeDown(_) => self.admin("scontrol update nodename=n2 state=down reason=test"),
            Fault::Preempt(_) => {
                self.as_user("nbt_cyn", "sbatch -p urgent --exclusive -o /dev/null --wrap true")
            }
            Fault::Requeue(id) => {
                self.admin(&format!("scontrol update jobid={id} requeue=1 && scontrol requeue {id}"))
            }
            Fault::CancelByAdmin(id) => self.admin(&format!("scancel {id}")),
            Fault::Down => {
                self.stop("slurmctld", Signal::SIGTERM);
                String::new()
            }
            Fault::Up => {
                self.start_controller();
                String::new()
            }
            Fault::OutOfMemory(_) => {
                return Err(
                    "needs control groups; tests/batch/faults.rs has it where the host has them".to_owned()
                );
            }
            Fault::Forget(_) | Fault::ForgetAll(_) | Fault::GiveAway(_) => {
                return Err(
                    "a real slurmctld forgets only when it is killed in time: tests/batch/restarts.rs"
                        .to_owned(),
                );
            }
            Fault::StrangeWord(_) | Fault::PlainWord(_) | Fault::Nonsense | Fault::Slow(_) | Fault::Sane => {
                return Err("a real Slurm says only what it says".to_owned());
            }
        };
        Ok(())
    }
}
