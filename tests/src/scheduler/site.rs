//! A site's real scheduler in the compliance suite: the commands in `PATH`, and jobs of the caller's own account.
//!
//! Nothing is broken on purpose there: cases that need it are shown as not possible, before a job is started for them.

use super::bed::{Bed, variable};
use super::cluster::{Cluster, Fault, Possible, Standing, Want};
use crate::fake::Dialect;
use nunbird_handover::{SCHEDULERS, Scheduler};
use std::io;
use std::path::{Path, PathBuf};

/// What leads a scheduler's commands to their configuration.
const LEADS: [&str; 7] =
    ["SLURM_CONF", "PBS_CONF_FILE", "SGE_ROOT", "SGE_CELL", "LSF_ENVDIR", "FLUX_URI", "CONDOR_CONFIG"];
/// How a question about a job fails that is not there any more.
const NOT_THERE: [&str; 8] = [
    "Invalid job id",
    "Unknown Job",
    "Job has finished",
    "is not found",
    "No such job",
    "unknown",
    "does not exist",
    "No unfinished job",
];

/// A scheduler that is there already.
#[derive(Debug)]
pub struct Site {
    name: String,
    setting: Scheduler,
    manner: Option<Manner>,
    arguments: String,
    bed: Bed,
}

/// What a site's scheduler is.
#[derive(Debug, Clone, Default)]
pub struct SiteOptions {
    /// Its name in Nunbird's configuration, or, with `description`, that of the built-in one whose commands it has.
    pub scheduler: Option<String>,
    /// The site's own description of it.
    pub description: Option<PathBuf>,
    /// Arguments of every job, such as a queue or a project.
    pub arguments: String,
    /// The launcher.
    pub launcher: PathBuf,
    /// Where the suite works, which compute nodes must share; the home directory where it is none.
    pub directory: Option<PathBuf>,
}

/// Whose commands there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Slurm,
    Of(Dialect),
}

impl Manner {
    fn of(name: &str) -> Option<Self> {
        let dialect = Dialect::ALL.into_iter().find(|dialect| dialect.name() == name).map(Manner::Of);
        if name == "slurm" { Some(Manner::Slurm) } else { dialect }
    }

    /// The words of a question about one job.
    fn question(self, id: &str) -> String {
        match self {
            Manner::Slurm => format!("squeue -h -a -t all -j {id} -o %T"),
            Manner::Of(Dialect::Pbs) => format!("qstat -f {id} | sed -n 's/^ *job_state = //p'"),
            Manner::Of(Dialect::Lsf) => format!("bjobs -a -w {id} | awk 'NR>1{{print $3}}'"),
            Manner::Of(Dialect::Flux) => format!("flux jobs -no '{{status}}' {id}"),
            Manner::Of(Dialect::Cobalt) => {
                format!("qstat -f -l --header JobID:State {id} | sed -n 's/^ *State *: //p'")
            }
            Manner::Of(Dialect::HtCondor) => format!("condor_q {id} -af JobStatus"),
            Manner::Of(Dialect::GridEngine) => format!("qstat | awk '$1 == \"{id}\" {{print $5}}'"),
        }
    }

    /// The caller's jobs that have not ended: a line for each, id and name, which Grid Engine cuts.
    fn list(self) -> &'static str {
        match self {
            Manner::Slurm => "squeue -h -u \"$(id -un)\" -o '%A %j'",
            Manner::Of(Dialect::Pbs) => {
                "qstat -f | awk '/^Job Id: /{id = $3} /^ +Job_Name = /{name = $3} /^ +Job_Owner = /{split($3, of, \"@\"); \
                 if (of[1] == me) print id, name}' me=\"$(id -un)\""
            }
            Manner::Of(Dialect::Lsf) => "bjobs -w 2>/dev/null | awk 'NR > 1 {print $1, $7}'",
            Manner::Of(Dialect::Flux) => "flux jobs -no '{id} {name}'",
            Manner::Of(Dialect::Cobalt) => {
                "qstat --header JobID:User:JobName | awk 'NR > 2 && $2 == me {print $1, $3}' me=\"$(id -un)\""
            }
            Manner::Of(Dialect::HtCondor) => "condor_q -af ClusterId JobBatchName",
            Manner::Of(Dialect::GridEngine) => "qstat -u \"$(id -un)\" | awk 'NR > 2 {print $1, $3}'",
        }
    }

    fn cancel(self, id: &str) -> String {
        match self {
            Manner::Slurm => format!("scancel {id}"),
            Manner::Of(Dialect::Pbs | Dialect::Cobalt | Dialect::GridEngine) => format!("qdel {id}"),
            Manner::Of(Dialect::Lsf) => format!("bkill {id}"),
            Manner::Of(Dialect::Flux) => format!("flux cancel {id}"),
            Manner::Of(Dialect::HtCondor) => format!("condor_rm {id}"),
        }
    }
}

impl Site {
    /// A site's scheduler.
    ///
    /// # Errors
    /// For a name that is none, where there is no place for its files, and for a scheduler that does not answer.
    pub fn new(options: &SiteOptions) -> Result<Site, String> {
        let built_in = |name: &str| SCHEDULERS.iter().any(|(known, _)| *known == name);
        let name = options.scheduler.clone();
        if let Some(name) = name.as_deref().filter(|name| !built_in(name)) {
            let also = SCHEDULERS.iter().find(|(_, other)| other.contains(&name)).map(|(known, _)| *known);
            let names = SCHEDULERS.map(|(known, _)| known).join(", ");
            return Err(match also {
                Some(known) => format!("`{name}` is a command of {known}; write `{known}`"),
                None => format!(
                    "there is no built-in scheduler `{name}`: {names}; a description is named by --description"
                ),
            });
        }
        let (setting, shown) = match (&options.description, &name) {
            (Some(file), _) => {
                let file = std::path::absolute(file).map_err(|e| format!("{}: {e}", file.display()))?;
                let shown =
                    file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
                (Scheduler::Described(file), shown)
            }
            (None, Some(name)) => (Scheduler::Named(name.clone()), name.clone()),
            (None, None) => return Err("name a scheduler, or a description".to_owned()),
        };
        let place = |e: io::Error| {
            let directory =
                options.directory.as_deref().map_or("the home directory".into(), Path::to_string_lossy);
            format!("{directory}: {e}; name a directory of yours that the nodes share with --directory")
        };
        let mut bed = Bed::own(options.directory.as_deref(), options.launcher.clone()).map_err(place)?;
        bed.environment.extend(leads());
        let manner = name.as_deref().and_then(Manner::of);
        if let Some(manner) = manner {
            // Cases would wait for minutes for each answer.
            bed.asked(manner.list()).map_err(|why| format!("the scheduler does not answer: {why}"))?;
        }
        Ok(Site { name: shown, setting, manner, arguments: options.arguments.clone(), bed })
    }

    /// Where the suite works.
    pub fn directory(&self) -> PathBuf {
        self.bed.path("")
    }

    /// Cancels what is left in the queue of this suite's jobs, and says what that was.
    ///
    /// # Errors
    /// Where the queue cannot be asked.
    pub fn sweep(&self) -> Result<Vec<String>, String> {
        let Some(manner) = self.manner else {
            return Err("the suite knows no command that lists the jobs of this scheduler: look whether one is left whose name begins with `nb`".to_owned());
        };
        let beginning = format!("nb{}", self.bed.first_job() / 10_000);
        let list = self.bed.asked(manner.list())?;
        let ours = list
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(_, name)| name.trim().starts_with(&beginning));
        let mut left = Vec::new();
        for (id, name) in ours {
            let cancelled = match self.bed.asked(&manner.cancel(id)) {
                Ok(_) => "cancelled".to_owned(),
                Err(why) => why,
            };
            left.push(format!("{id} ({}): {cancelled}", name.trim()));
        }
        Ok(left)
    }
}

fn leads() -> impl Iterator<Item = (String, String)> {
    let set = |name: &str| Some((name.to_owned(), variable(name))).filter(|(_, value)| !value.is_empty());
    LEADS.into_iter().filter_map(set)
}

impl Cluster for Site {
    fn name(&self) -> &str {
        &self.name
    }

    fn scheduler(&self) -> &str {
        &self.name
    }

    fn setting(&self) -> Scheduler {
        self.setting.clone()
    }

    fn bed(&self) -> &Bed {
        &self.bed
    }

    fn environment(&self) -> Vec<(String, String)> {
        leads().collect()
    }

    fn counts_calls(&self) -> bool {
        false
    }

    fn want(&self, want: Want) -> Possible<String> {
        let text = match (self.manner, want) {
            (None, _) => return Err("only the site knows the arguments of this scheduler".to_owned()),
            (_, Want::Preemptible | Want::DoomedNode | Want::TooMuch) => {
                return Err("only the site knows which place that is".to_owned());
            }
            (Some(Manner::Of(dialect)), want) => super::wants::want(dialect, want)?,
            (Some(Manner::Slurm), Want::Hold) => "--hold".to_owned(),
            (Some(Manner::Slurm), Want::ShortTime) => "-t 1".to_owned(),
            (Some(Manner::Slurm), Want::NoSuchQueue) => "-p nonesuch".to_owned(),
            (Some(Manner::Slurm), Want::LittleMemory) => "--mem=50".to_owned(),
            (Some(Manner::Slurm), Want::Owned) => "--output=mine.txt".to_owned(),
            (Some(Manner::Slurm), Want::OneNode) => "-N 1".to_owned(),
            (Some(Manner::Slurm), Want::ThreeNodes) => "-N 3".to_owned(),
            (Some(Manner::Slurm), Want::TwoHours) => "-t 2:00:00".to_owned(),
        };
        Ok(text)
    }

    fn always(&self) -> String {
        self.arguments.clone()
    }

    fn tells(&self, cause: &str) -> Possible<()> {
        match self.manner {
            None => Err("only the site knows what this scheduler tells".to_owned()),
            Some(Manner::Slurm) => Ok(()),
            Some(Manner::Of(dialect)) => super::wants::tells(dialect, cause),
        }
    }

    fn asks(&self) -> Possible<()> {
        self.manner
            .map(drop)
            .ok_or_else(|| "the suite knows no question about the jobs of this scheduler".to_owned())
    }

    /// # Panics
    /// When the question fails otherwise than for a job that is not there: that says nothing about the job.
    fn standing(&self, id: &str) -> Standing {
        let manner = self.manner.expect("a question");
        let word = match self.bed.asked(&manner.question(id)) {
            Ok(word) => word,
            Err(why) if NOT_THERE.iter().any(|word| why.contains(word)) => String::new(),
            Err(why) => panic!("{why}"),
        };
        match word.trim() {
            "" => Standing::Gone,
            "PENDING" | "Q" | "H" | "W" | "PEND" | "PSUSP" | "SCHED" | "DEPEND" | "queued" | "user_hold"
            | "1" | "5" | "qw" | "hqw" => Standing::Waiting,
            "RUNNING" | "COMPLETING" | "CONFIGURING" | "R" | "E" | "RUN" | "CLEANUP" | "running"
            | "starting" | "killing" | "exiting" | "2" | "3" | "r" | "t" | "dr" => Standing::Running,
            _ => Standing::Ended,
        }
    }

    fn can(&self, fault: Fault<'_>) -> Possible<()> {
        match fault {
            Fault::Release(_) if self.manner.is_some() => Ok(()),
            _ => Err("nothing is broken on purpose at a site".to_owned()),
        }
    }

    fn inflict(&self, fault: Fault<'_>) -> Possible<()> {
        self.can(fault)?;
        let Fault::Release(id) = fault else { return Ok(()) };
        let command = match self.manner {
            Some(Manner::Slurm) => format!("scontrol release {id}"),
            Some(Manner::Of(Dialect::Lsf)) => format!("bresume {id}"),
            Some(Manner::Of(Dialect::Flux)) => format!("flux job urgency {id} default"),
            Some(Manner::Of(Dialect::HtCondor)) => format!("condor_release {id}"),
            Some(Manner::Of(_)) | None => format!("qrls {id}"),
        };
        self.bed.asked(&command).map(drop)
    }
}
