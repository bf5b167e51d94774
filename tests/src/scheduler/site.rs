//! A site's real scheduler in the compliance suite: the commands in `PATH`, and jobs of the caller's own account.
//!
//! Nothing is broken on purpose there: cases that need it are shown as not possible. What the site needs besides, such as
//! a queue or a project, stands in `NBT_ARGUMENTS`, which come before a case's own.

use super::bed::{Bed, variable};
use super::cluster::{Cluster, Fault, Possible, Standing, Want};
use crate::fake::Dialect;

/// A scheduler that is there already.
#[derive(Debug)]
pub struct Site {
    name: String,
    dialect: Option<Dialect>,
    bed: Bed,
}

impl Site {
    /// The scheduler of this name in Nunbird's configuration.
    ///
    /// # Panics
    /// When the caller has no home directory to write to.
    pub fn new(name: &str) -> Site {
        let dialect = Dialect::ALL.into_iter().find(|dialect| dialect.name() == name);
        Site { name: name.to_owned(), dialect, bed: Bed::own() }
    }

    /// The words of a question about one job.
    fn question(&self, id: &str) -> String {
        match self.dialect {
            None => format!("squeue -h -t all -j {id} -o %T"),
            Some(Dialect::Pbs) => format!("qstat -f {id} | sed -n 's/^ *job_state = //p'"),
            Some(Dialect::Lsf) => format!("bjobs -a -w {id} | awk 'NR>1{{print $3}}'"),
            Some(Dialect::Flux) => format!("flux jobs -no '{{status}}' {id}"),
            Some(Dialect::Cobalt) => {
                format!("qstat -f -l --header JobID:State {id} | sed -n 's/^ *State *: //p'")
            }
            Some(Dialect::HtCondor) => format!("condor_q {id} -af JobStatus"),
            Some(Dialect::GridEngine) => format!("qstat | awk '$1 == \"{id}\" {{print $5}}'"),
        }
    }
}

impl Cluster for Site {
    fn name(&self) -> &str {
        &self.name
    }

    fn scheduler(&self) -> &str {
        &self.name
    }

    fn bed(&self) -> &Bed {
        &self.bed
    }

    fn environment(&self) -> Vec<(String, String)> {
        // What leads a scheduler's commands to their configuration.
        let leads = [
            "SLURM_CONF",
            "PBS_CONF_FILE",
            "SGE_ROOT",
            "SGE_CELL",
            "LSF_ENVDIR",
            "FLUX_URI",
            "CONDOR_CONFIG",
        ];
        let set = |name: &str| Some((name.to_owned(), variable(name))).filter(|(_, value)| !value.is_empty());
        leads.into_iter().filter_map(set).collect()
    }

    fn counts_calls(&self) -> bool {
        false
    }

    fn want(&self, want: Want) -> Possible<String> {
        let text = match (self.dialect, want) {
            (_, Want::Preemptible | Want::DoomedNode | Want::TooMuch) => {
                return Err("only the site knows which place that is".to_owned());
            }
            (Some(dialect), want) => super::wants::want(dialect, want)?,
            (None, Want::Hold) => "--hold".to_owned(),
            (None, Want::ShortTime) => "-t 1".to_owned(),
            (None, Want::NoSuchQueue) => "-p nonesuch".to_owned(),
            (None, Want::LittleMemory) => "--mem=50".to_owned(),
            (None, Want::Owned) => "--output=mine.txt".to_owned(),
            (None, Want::OneNode) => "-N 1".to_owned(),
            (None, Want::ThreeNodes) => "-N 3".to_owned(),
            (None, Want::TwoHours) => "-t 2:00:00".to_owned(),
        };
        Ok(text)
    }

    fn always(&self) -> String {
        variable("NBT_ARGUMENTS")
    }

    fn tells(&self, cause: &str) -> Possible<()> {
        self.dialect.map_or(Ok(()), |dialect| super::wants::tells(dialect, cause))
    }

    fn standing(&self, id: &str) -> Standing {
        match self.bed.admin(&self.question(id)).trim() {
            "" => Standing::Gone,
            "PENDING" | "Q" | "H" | "W" | "PEND" | "PSUSP" | "SCHED" | "DEPEND" | "queued" | "user_hold"
            | "1" | "5" | "qw" | "hqw" => Standing::Waiting,
            "RUNNING" | "COMPLETING" | "R" | "E" | "RUN" | "running" | "starting" | "killing" | "exiting"
            | "2" | "3" | "r" | "t" | "dr" => Standing::Running,
            _ => Standing::Ended,
        }
    }

    fn inflict(&self, fault: Fault<'_>) -> Possible<()> {
        let command = match (fault, self.dialect) {
            (Fault::Release(id), None) => format!("scontrol release {id}"),
            (Fault::Release(id), Some(Dialect::Lsf)) => format!("bresume {id}"),
            (Fault::Release(id), Some(Dialect::Flux)) => format!("flux job urgency {id} default"),
            (Fault::Release(id), Some(Dialect::HtCondor)) => format!("condor_release {id}"),
            (Fault::Release(id), Some(_)) => format!("qrls {id}"),
            _ => return Err("nothing is broken on purpose at a site".to_owned()),
        };
        self.bed.admin(&command);
        Ok(())
    }
}
