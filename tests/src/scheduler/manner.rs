//! How the suite itself queries a site's scheduler: the commands, and how their output is parsed.
//!
//! Commands run alone, never in a pipe, whose exit status is that of its last command: a failed
//! query is no evidence about a job, and only some messages of a failure mean that the job does not
//! exist. The formats are those of recorded output.

use super::cluster::JobState;
use crate::fake::Dialect;

/// Whose commands there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Slurm,
    Of(Dialect),
}

impl Manner {
    pub(super) fn of(name: &str) -> Option<Self> {
        let dialect = Dialect::ALL.into_iter().find(|dialect| dialect.name() == name).map(Manner::Of);
        if name == "slurm" { Some(Manner::Slurm) } else { dialect }
    }

    /// The query about one job.
    pub(super) fn question(self, id: &str) -> String {
        match self {
            Manner::Slurm => format!("squeue -h -a -t all -j {id} -o %T"),
            Manner::Of(Dialect::Pbs) => format!("qstat -f {id}"),
            Manner::Of(Dialect::Lsf) => format!("bjobs -a -w {id}"),
            Manner::Of(Dialect::Flux) => format!("flux jobs -no '{{status}}' {id}"),
            Manner::Of(Dialect::Cobalt) => format!("qstat -f -l --header JobID:State {id}"),
            Manner::Of(Dialect::HtCondor) => format!("condor_q {id} -af JobStatus"),
            Manner::Of(Dialect::GridEngine) => self.list().to_owned(),
        }
    }

    /// The message of that query for a job that does not exist any more.
    fn absent(self) -> &'static [&'static str] {
        match self {
            Manner::Slurm => &["Invalid job id specified"],
            Manner::Of(Dialect::Pbs) => &["Unknown Job Id", "Job has finished"],
            Manner::Of(Dialect::Lsf) => &["> is not found", "No unfinished job found"],
            Manner::Of(Dialect::Flux) => &[" unknown\n", "No such job", "unknown job id"],
            Manner::Of(Dialect::Cobalt) => &["not found"],
            Manner::Of(Dialect::HtCondor | Dialect::GridEngine) => &[],
        }
    }

    /// The state of a job, from the output of [`Manner::question`].
    ///
    /// # Errors
    /// If the query failed otherwise than for a job that does not exist.
    pub(super) fn standing(self, id: &str, answer: Result<String, String>) -> Result<JobState, String> {
        let absent = |why: &str| self.absent().iter().any(|word| why.contains(word));
        let answer = match answer {
            // 127: it is the command that is not found.
            Err(why) if absent(&why) && !why.contains("(Code(127))") => return Ok(JobState::Gone),
            answer => answer?,
        };
        let word = match self {
            Manner::Slurm | Manner::Of(Dialect::Flux | Dialect::HtCondor) => {
                answer.lines().next().map(str::trim).filter(|word| !word.is_empty())
            }
            Manner::Of(Dialect::Pbs) => answer.lines().find_map(|line| value(line, "job_state", '=')),
            Manner::Of(Dialect::Cobalt) => answer.lines().find_map(|line| value(line, "State", ':')),
            Manner::Of(Dialect::Lsf) => {
                let mut rows = answer.lines().map(str::split_whitespace);
                rows.find_map(|mut row| (row.next() == Some(id)).then(|| row.nth(1))?)
            }
            Manner::Of(Dialect::GridEngine) => {
                let job =
                    answer.split("<job_list").skip(1).find(|job| element(job, "JB_job_number") == Some(id));
                job.and_then(|job| element(job, "state"))
            }
        };
        Ok(match word {
            None => JobState::Gone,
            Some(
                "PENDING" | "Q" | "H" | "W" | "PEND" | "PSUSP" | "SCHED" | "DEPEND" | "queued" | "user_hold"
                | "1" | "5" | "qw" | "hqw",
            ) => JobState::Waiting,
            Some(
                "RUNNING" | "COMPLETING" | "CONFIGURING" | "R" | "E" | "RUN" | "CLEANUP" | "running"
                | "starting" | "killing" | "exiting" | "2" | "3" | "r" | "t" | "dr",
            ) => JobState::Running,
            Some(_) => JobState::Ended,
        })
    }

    /// The query about all of the caller's jobs that have not ended.
    pub(super) fn list(self) -> &'static str {
        match self {
            Manner::Slurm => "squeue -h -a -u \"$(id -un)\" -o '%A %j'",
            Manner::Of(Dialect::Pbs) => "qstat -f",
            Manner::Of(Dialect::Lsf) => "bjobs -w",
            Manner::Of(Dialect::Flux) => "flux jobs -no '{id} {name}'",
            Manner::Of(Dialect::Cobalt) => "qstat -u \"$(id -un)\" -f -l --header JobID:JobName",
            // Removed and completed ones are about to disappear.
            Manner::Of(Dialect::HtCondor) => {
                "condor_q -constraint 'JobStatus != 3 && JobStatus != 4' -af ClusterId JobBatchName"
            }
            // The table cuts names after ten characters.
            Manner::Of(Dialect::GridEngine) => "qstat -u \"$(id -un)\" -xml",
        }
    }

    /// Of the jobs in an answer to [`Manner::list`] those with one of these names: id and name.
    ///
    /// # Errors
    /// When the question failed.
    pub(super) fn named(
        self,
        answer: Result<String, String>,
        names: &[String],
    ) -> Result<Vec<(String, String)>, String> {
        let answer = match answer {
            Err(why) if why.contains("No unfinished job found") => return Ok(Vec::new()),
            answer => answer?,
        };
        let row = |line: &str| {
            let mut words = line.split_whitespace().map(str::to_owned);
            let id = words.next()?;
            // LSF has other columns before the name.
            Some((id, words.find(|word| names.contains(word))?))
        };
        let part = |id: Option<&str>, name: Option<&str>| {
            Some((id?.trim().to_owned(), name?.to_owned())).filter(|(_, name)| names.contains(name))
        };
        Ok(match self {
            Manner::Slurm | Manner::Of(Dialect::Lsf | Dialect::Flux | Dialect::HtCondor) => {
                answer.lines().filter_map(row).collect()
            }
            Manner::Of(Dialect::Pbs) => {
                let jobs = answer.split("Job Id: ").skip(1);
                jobs.filter_map(|job| {
                    part(job.lines().next(), job.lines().find_map(|line| value(line, "Job_Name", '=')))
                })
                .collect()
            }
            Manner::Of(Dialect::Cobalt) => {
                let jobs = answer.split("JobID: ").skip(1);
                jobs.filter_map(|job| {
                    part(job.lines().next(), job.lines().find_map(|line| value(line, "JobName", ':')))
                })
                .collect()
            }
            Manner::Of(Dialect::GridEngine) => {
                let jobs = answer.split("<job_list").skip(1);
                jobs.filter_map(|job| part(element(job, "JB_job_number"), element(job, "JB_name"))).collect()
            }
        })
    }

    pub(super) fn cancel(self, id: &str) -> String {
        match self {
            Manner::Slurm => format!("scancel {id}"),
            Manner::Of(Dialect::Pbs | Dialect::Cobalt | Dialect::GridEngine) => format!("qdel {id}"),
            Manner::Of(Dialect::Lsf) => format!("bkill {id}"),
            Manner::Of(Dialect::Flux) => format!("flux cancel {id}"),
            Manner::Of(Dialect::HtCondor) => format!("condor_rm {id}"),
        }
    }

    pub(super) fn release(self, id: &str) -> String {
        match self {
            Manner::Slurm => format!("scontrol release {id}"),
            Manner::Of(Dialect::Pbs | Dialect::Cobalt | Dialect::GridEngine) => format!("qrls {id}"),
            Manner::Of(Dialect::Lsf) => format!("bresume {id}"),
            Manner::Of(Dialect::Flux) => format!("flux job urgency {id} default"),
            Manner::Of(Dialect::HtCondor) => format!("condor_release {id}"),
        }
    }
}

/// The value of a line `name = value`.
fn value<'l>(line: &'l str, name: &str, sign: char) -> Option<&'l str> {
    let (key, value) = line.split_once(sign)?;
    (key.trim() == name).then(|| value.trim())
}

/// The text of the first XML element of this name. Names of jobs and states need no escapes.
fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once("</").map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::Manner;
    use crate::fake::Dialect;
    use crate::scheduler::JobState;

    fn failed(text: &str) -> Result<String, String> {
        Err(format!("`question` failed (Code(1)): {text}"))
    }

    const GRID: &str = "<job_info>\n <queue_info>\n  <job_list state=\"running\">\n   <JB_job_number>7</JB_job_number>\n   \
        <JB_name>nb41230001-aaaaaaaaaa</JB_name>\n   <state>r</state>\n  </job_list>\n </queue_info>\n <job_info>\n  \
        <job_list state=\"pending\">\n   <JB_job_number>17</JB_job_number>\n   <JB_name>other</JB_name>\n   \
        <state>hqw</state>\n  </job_list>\n </job_info>\n</job_info>\n";
    const PBS: &str = "Job Id: 16.pbshost\n    Job_Name = nb41230001-aaaaaaaaaa\n    Job_Owner = ann@login\n    job_state = H\n\
        \nJob Id: 17.pbshost\n    Job_Name = other\n    job_state = R\n";
    const LSF: &str = "JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME\n\
        17      ann     RUN   normal     login       n1          other      Nov 21 03:23\n\
        16      ann     PEND  normal     login          -        nb41230001-aaaaaaaaaa Nov 21 03:23\n";
    const COBALT: &str = "JobID: 16\n    JobName           : nb41230001-aaaaaaaaaa\n    State             : user_hold\n\n\
        JobID: 17\n    JobName           : other\n    State             : running\n\n";

    #[test]
    fn a_question_that_fails_says_nothing_about_a_job() {
        let all = Dialect::ALL.map(Manner::Of);
        for manner in all.into_iter().chain([Manner::Slurm]) {
            for why in [
                "",
                "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
                "Connection refused\nqstat: cannot connect to server pbshost (errno=111)",
                "batch system daemon not responding ... still trying",
                "flux-jobs: ERROR: Unable to connect to Flux: broker socket is unknown to this instance",
                "-- Failed to fetch ads from: <10.99.0.31:9618> : condorhost",
                "error: unable to send message to qmaster using port 6444 on host \"unknown\": got send error",
            ] {
                assert!(manner.standing("16", failed(why)).is_err(), "{manner:?}: {why}");
                assert!(manner.named(failed(why), &[]).is_err(), "{manner:?}: {why}");
            }
            let command = Err("`qstat` failed (Code(127)): sh: 1: qstat: not found".to_owned());
            assert!(manner.standing("16", command).is_err(), "{manner:?}");
            assert!(!manner.question("16").contains('|') && !manner.list().contains('|'), "{manner:?}");
        }
    }

    #[test]
    fn a_job_that_is_not_there_is_gone() {
        for (manner, answer) in [
            (Manner::Slurm, failed("slurm_load_jobs error: Invalid job id specified\n")),
            (Manner::Slurm, Ok(String::new())),
            (Manner::Of(Dialect::Pbs), failed("qstat: Unknown Job Id 99999.pbshost\n")),
            (Manner::Of(Dialect::Pbs), failed("qstat: 9.pbshost Job has finished, use -x or -H to obtain\n")),
            (Manner::Of(Dialect::Lsf), failed("Job <99999> is not found\n")),
            (Manner::Of(Dialect::Flux), failed("JobID f1234 unknown\n")),
            (Manner::Of(Dialect::Cobalt), Ok(String::new())),
            (Manner::Of(Dialect::HtCondor), Ok("\n".to_owned())),
            (Manner::Of(Dialect::GridEngine), Ok(GRID.to_owned())),
        ] {
            assert_eq!(manner.standing("99999", answer), Ok(JobState::Gone), "{manner:?}");
        }
    }

    #[test]
    fn a_job_is_found_by_its_own_id_and_the_states_are_read() {
        for (manner, id, answer, standing) in [
            (Manner::Slurm, "16", "PENDING\n", JobState::Waiting),
            (Manner::Slurm, "16", "CANCELLED\n", JobState::Ended),
            (Manner::Of(Dialect::Pbs), "16.pbshost", PBS, JobState::Waiting),
            (Manner::Of(Dialect::Lsf), "16", LSF, JobState::Waiting),
            (Manner::Of(Dialect::Lsf), "17", LSF, JobState::Running),
            (Manner::Of(Dialect::Flux), "ƒ2", "SCHED\n", JobState::Waiting),
            (Manner::Of(Dialect::Cobalt), "16", COBALT, JobState::Waiting),
            (Manner::Of(Dialect::HtCondor), "16", "5\n", JobState::Waiting),
            (Manner::Of(Dialect::HtCondor), "16", "4\n", JobState::Ended),
            (Manner::Of(Dialect::GridEngine), "7", GRID, JobState::Running),
            (Manner::Of(Dialect::GridEngine), "17", GRID, JobState::Waiting),
        ] {
            assert_eq!(manner.standing(id, Ok(answer.to_owned())), Ok(standing), "{manner:?}: {id}");
        }
    }

    #[test]
    fn only_jobs_with_exactly_these_names_are_the_suites() {
        let names = ["nb41230001-aaaaaaaaaa".to_owned()];
        let neighbours = "17 nb4123\n18 nb41230001\n19 nb41230001-aaaaaaaaaab\n16 nb41230001-aaaaaaaaaa\n";
        for (manner, id, answer) in [
            (Manner::Slurm, "16", neighbours),
            (Manner::Of(Dialect::Flux), "16", neighbours),
            (Manner::Of(Dialect::HtCondor), "16", neighbours),
            (Manner::Of(Dialect::Pbs), "16.pbshost", PBS),
            (Manner::Of(Dialect::Lsf), "16", LSF),
            (Manner::Of(Dialect::Cobalt), "16", COBALT),
            (Manner::Of(Dialect::GridEngine), "7", GRID),
        ] {
            let found = manner.named(Ok(answer.to_owned()), &names);
            assert_eq!(found, Ok(vec![(id.to_owned(), names[0].clone())]), "{manner:?}");
        }
        assert_eq!(Manner::Of(Dialect::Lsf).named(failed("No unfinished job found"), &names), Ok(Vec::new()));
    }
}
