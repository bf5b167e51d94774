//! A real HTCondor in the compliance suite.

use super::bed::Bed;
use super::cluster::{Cluster, Fault, JobState, Possible, Want};
use super::htcondor::HtCondor;
use super::manner::Manner;
use super::wants;
use crate::fake::Dialect;

impl HtCondor {
    /// A command that must not fail.
    #[track_caller]
    fn must(&self, command: &str) {
        self.bed.asked(command).unwrap_or_else(|why| panic!("{why}"));
    }
}

impl Cluster for HtCondor {
    fn name(&self) -> &'static str {
        "htcondor-trixie"
    }

    fn scheduler(&self) -> &'static str {
        "htcondor"
    }

    fn bed(&self) -> &Bed {
        &self.bed
    }

    fn environment(&self) -> Vec<(String, String)> {
        Self::leads(&self.bed)
    }

    fn want(&self, want: Want) -> Possible<String> {
        match want {
            // The look at it comes each second or two.
            Want::ShortTime => Ok("allowed_execute_duration=5".to_owned()),
            // The queue waits that long for a node that it has lost.
            Want::DoomedNode => Ok("job_lease_duration=20".to_owned()),
            want => wants::want(Dialect::HtCondor, want),
        }
    }

    fn reports(&self, cause: &str) -> Possible<()> {
        wants::reports(Dialect::HtCondor, cause)
    }

    fn can(&self, fault: Fault<'_>) -> Possible<()> {
        wants::can(Dialect::HtCondor, fault)?;
        let why = match fault {
            Fault::Preempt(_) => "a real negotiator preempts by priorities that build up over hours",
            Fault::OutOfMemory(_) => {
                "needs control groups, or a policy of the site's that holds the job: batch/src/recorded/htcondor.rs"
            }
            Fault::Forget(_) | Fault::ForgetAll(_) | Fault::GiveAway(_) => {
                "a real condor_schedd writes each job down before it answers, and gives no number twice"
            }
            Fault::StrangeWord(_) | Fault::PlainWord(_) | Fault::Nonsense | Fault::Slow(_) | Fault::Sane => {
                "a real HTCondor says only what it says"
            }
            Fault::Release(_)
            | Fault::Down
            | Fault::Up
            | Fault::NodeDown(_)
            | Fault::Requeue(_)
            | Fault::CancelByAdmin(_) => return Ok(()),
        };
        Err(why.to_owned())
    }

    fn standing(&self, id: &str) -> JobState {
        let manner = Manner::Of(Dialect::HtCondor);
        manner.standing(id, self.bed.asked(&manner.question(id))).unwrap_or_else(|why| panic!("{why}"))
    }

    fn inflict(&self, fault: Fault<'_>) -> Possible<()> {
        self.can(fault)?;
        match fault {
            Fault::Down => self.stop_queue(),
            Fault::Up => self.start_queue(),
            Fault::NodeDown(_) => self.lose_node(),
            Fault::Release(id) => self.must(&format!("condor_release {id}")),
            Fault::Requeue(id) => self.must(&format!("condor_vacate_job {id}")),
            Fault::CancelByAdmin(id) => self.must(&format!("condor_rm {id}")),
            // `can` refuses all others.
            _ => {}
        }
        Ok(())
    }
}
