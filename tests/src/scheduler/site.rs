//! A site's real scheduler in the compliance suite: the commands in `PATH`, and jobs of the caller's own account.
//!
//! Nothing is broken on purpose there: cases that need it are reported as not possible, before a
//! job is started for them.

use super::bed::{Bed, variable};
use super::cluster::{Cluster, Fault, JobState, Possible, Want};
use super::interrupt::{is_interrupted, patience};
use super::manner::Manner;
use nunbird_handover::{SCHEDULERS, Scheduler};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What leads a scheduler's commands to their configuration, where the caller's environment has it.
const LEADS: [&str; 16] = [
    "SLURM_CONF",
    "PBS_CONF_FILE",
    "PBS_DEFAULT",
    "PBS_SERVER",
    "SGE_ROOT",
    "SGE_CELL",
    "SGE_CLUSTER_NAME",
    "SGE_QMASTER_PORT",
    "SGE_EXECD_PORT",
    "LSF_ENVDIR",
    "LSF_SERVERDIR",
    "LSF_LIBDIR",
    "FLUX_URI",
    "COBALT_CONFIG_FILES",
    "CONDOR_CONFIG",
    "CONDOR_HOST",
];
/// How long jobs whose stage has ended may take to leave the queue: the suite's timeout within
/// these limits. After an interrupt the shorter one applies.
const LEAVING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));

/// A scheduler that is there already.
#[derive(Debug)]
pub struct Site {
    name: String,
    setting: Scheduler,
    manner: Option<Manner>,
    arguments: String,
    environment: Vec<(String, String)>,
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
    /// Variables of the caller's that the scheduler's commands need, besides those that are known to lead them.
    pub environment: Vec<String>,
    /// The launcher.
    pub launcher: PathBuf,
    /// Where the suite works, which compute nodes must share; the home directory where it is none.
    pub directory: Option<PathBuf>,
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
        for (path, option) in [(bed.path(""), "--directory"), (options.launcher.clone(), "--launcher")] {
            let plain = |c: char| c.is_alphanumeric() || "/._-+@%:,=".contains(c);
            if !path.to_string_lossy().chars().all(plain) {
                return Err(format!(
                    "{}: the suite's commands cannot have this path, for its spaces or characters of the shell; name another with {option}",
                    path.display()
                ));
            }
        }
        let environment = leads(&options.environment)?;
        bed.environment.extend(environment.clone());
        let manner = name.as_deref().and_then(Manner::of);
        if let Some(manner) = manner {
            // Cases would wait for minutes for each response.
            let jobs = manner.named(bed.asked(manner.list()), &[]);
            jobs.map_err(|why| format!("the scheduler does not answer: {why}"))?;
        }
        Ok(Site { name: shown, setting, manner, arguments: options.arguments.clone(), environment, bed })
    }

    /// Where the suite works.
    pub fn directory(&self) -> PathBuf {
        self.bed.path("")
    }

    /// What is left of the suite's jobs: those whose cleanup failed, and those that are still in
    /// the queue, which are cancelled.
    ///
    /// Jobs are identified by their full names, which are partly random: the account may have other
    /// CI jobs.
    ///
    /// # Errors
    /// Where the queue cannot be asked.
    pub fn sweep(&self) -> Result<Vec<String>, String> {
        let mut left = self.bed.not_cleaned();
        let Some(manner) = self.manner else { return Ok(left) };
        let names = self.bed.tags();
        let leaving = if is_interrupted() { LEAVING.0 } else { patience().clamp(LEAVING.0, LEAVING.1) };
        let end = Instant::now() + leaving;
        let jobs = loop {
            let jobs = manner.named(self.bed.asked(manner.list()), &names)?;
            if jobs.is_empty() || Instant::now() > end {
                break jobs;
            }
            std::thread::sleep(Duration::from_secs(1));
        };
        for (id, name) in jobs {
            let cancelled = self.bed.asked(&manner.cancel(&id));
            let cancelled = cancelled.map_or_else(|why| why, |_| "cancelled".to_owned());
            left.push(format!("{id} ({name}) was in the queue: {cancelled}"));
        }
        Ok(left)
    }

    /// Whether [`Site::sweep`] asks the queue.
    pub fn can_sweep(&self) -> bool {
        self.manner.is_some()
    }
}

/// What leads the scheduler's commands, and these variables of the caller's.
fn leads(more: &[String]) -> Result<Vec<(String, String)>, String> {
    let set = |name: &str| Some((name.to_owned(), variable(name))).filter(|(_, value)| !value.is_empty());
    let mut found: Vec<_> = LEADS.into_iter().filter_map(set).collect();
    for name in more {
        found.push(
            set(name)
                .ok_or_else(|| format!("--environment {name}: your environment has no such variable"))?,
        );
    }
    Ok(found)
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
        self.environment.clone()
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

    fn reports(&self, cause: &str) -> Possible<()> {
        match self.manner {
            None => Err("only the site knows what this scheduler reports".to_owned()),
            Some(Manner::Slurm) => Ok(()),
            Some(Manner::Of(dialect)) => super::wants::reports(dialect, cause),
        }
    }

    fn asks(&self) -> Possible<()> {
        self.manner
            .map(drop)
            .ok_or_else(|| "the suite has no command that lists the jobs of this scheduler".to_owned())
    }

    /// # Panics
    /// If the query fails otherwise than for a job that does not exist: that is no evidence about
    /// the job.
    fn standing(&self, id: &str) -> JobState {
        let manner = self.manner.expect("a question");
        manner.standing(id, self.bed.asked(&manner.question(id))).unwrap_or_else(|why| panic!("{why}"))
    }

    fn can(&self, fault: Fault<'_>) -> Possible<()> {
        match fault {
            Fault::Release(_) if self.manner.is_some() => Ok(()),
            _ => Err("nothing is broken on purpose at a site".to_owned()),
        }
    }

    fn inflict(&self, fault: Fault<'_>) -> Possible<()> {
        self.can(fault)?;
        let (Fault::Release(id), Some(manner)) = (fault, self.manner) else { return Ok(()) };
        self.bed.asked(&manner.release(id)).map(drop)
    }
}
