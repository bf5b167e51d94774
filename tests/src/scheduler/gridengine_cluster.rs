//! A real Grid Engine in the compliance suite.

use super::bed::Bed;
use super::cluster::{Cluster, Fault, JobState, Possible, Want};
use super::gridengine::GridEngine;
use super::wants;
use crate::fake::Dialect;

/// queue_conf(5): `h_vmem` becomes RLIMIT_AS.
const MEMORY: &str = "a process gets no more memory than h_vmem, and nothing ends it";

impl Cluster for GridEngine {
    fn name(&self) -> &'static str {
        "gridengine"
    }

    fn scheduler(&self) -> &'static str {
        "gridengine"
    }

    fn bed(&self) -> &Bed {
        &self.bed
    }

    fn environment(&self) -> Vec<(String, String)> {
        Self::leads(&self.bed)
    }

    fn want(&self, want: Want) -> Possible<String> {
        match want {
            Want::ShortTime => Ok("-l h_rt=5".to_owned()),
            Want::LittleMemory => Err(MEMORY.to_owned()),
            // The faults say why.
            Want::DoomedNode => wants::can(Dialect::GridEngine, Fault::NodeDown("")).map(|()| String::new()),
            Want::Preemptible => wants::can(Dialect::GridEngine, Fault::Preempt("")).map(|()| String::new()),
            want => wants::want(Dialect::GridEngine, want),
        }
    }

    fn reports(&self, cause: &str) -> Possible<()> {
        wants::reports(Dialect::GridEngine, cause)
    }

    fn shows_ended(&self) -> bool {
        false
    }

    fn standing(&self, id: &str) -> JobState {
        let state = self.bed.admin(&format!("qstat -u \\* | awk '$1 == \"{id}\" {{print $5}}'"));
        match state.trim() {
            "" => JobState::Gone,
            "qw" | "hqw" => JobState::Waiting,
            _ => JobState::Running,
        }
    }

    fn inflict(&self, fault: Fault<'_>) -> Possible<()> {
        wants::can(Dialect::GridEngine, fault)?;
        match fault {
            Fault::Release(id) => self.must(&format!("qrls {id}")),
            Fault::Down => self.stop_master(),
            Fault::Up => self.start_master(),
            Fault::Requeue(id) => self.must(&format!("qmod -f -rj {id}")),
            Fault::CancelByAdmin(id) => self.must(&format!("qdel {id}")),
            // wants::can has said it of the last two.
            Fault::OutOfMemory(_) | Fault::NodeDown(_) | Fault::Preempt(_) => return Err(MEMORY.to_owned()),
            Fault::Forget(_) | Fault::ForgetAll(_) | Fault::GiveAway(_) => {
                return Err(
                    "a real sge_qmaster forgets no job and gives no number twice in a test's time".to_owned()
                );
            }
            Fault::StrangeWord(_) | Fault::PlainWord(_) | Fault::Nonsense | Fault::Slow(_) | Fault::Sane => {
                return Err("a real Grid Engine says only what it says".to_owned());
            }
        }
        Ok(())
    }
}
