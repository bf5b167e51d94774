//! `nunbirdctl jobs`: lists the jobs that this host has records of, and ends one of them.

use crate::arguments::{Jobs, JobsAction};
use crate::output::{CtlError, FAILURE, Format, OK, print, print_json};
use crate::sweep::{auth, records};
use crate::time;
use nunbird_handover::{JobSpec, Scheduler, Untrusted};
use nunbird_host::runner;
use nunbird_messages::{Now, Record};
use serde_json::{Value, json};

pub(crate) fn run(options: &Jobs, format: Format) -> Result<u8, CtlError> {
    let now = records::now()?;
    let found = records::read(&now)?;
    match options.action.as_ref().unwrap_or(&JobsAction::List) {
        JobsAction::List => list(&found, &now, format),
        JobsAction::End { job, decision, dry_run } => {
            end(&chosen(&found, *job, decision.as_deref())?, *dry_run, format)
        }
    }
}

/// The columns of a job.
struct JobRow<'r> {
    record: &'r Record,
    /// None where the decider's part of the record cannot be read.
    spec: Option<JobSpec>,
    place: String,
    runner: &'static str,
    state: &'static str,
}

impl<'r> JobRow<'r> {
    fn of(record: &'r Record, now: &Now) -> Self {
        let spec = JobSpec::from_bytes(&record.body).ok();
        let batch = spec.as_ref().and_then(|spec| spec.batch.as_ref());
        let place = match batch.map(|batch| &batch.settings.scheduler) {
            None if record.scheduler => "unknown".to_owned(),
            None => "here".to_owned(),
            Some(Scheduler::Named(name)) => name.clone(),
            Some(Scheduler::Described(file)) => file.display().to_string(),
        };
        let runner = match (record.runner.as_ref(), runner::is_gone(record, now)) {
            (None, _) | (_, Err(_)) => "unknown",
            (Some(_), Ok(true)) => "gone",
            (Some(_), Ok(false)) => "runs",
        };
        let state = match () {
            () if !record.is_of_boot(now) => "before the restart",
            () if record.closed => "cleaning up",
            () if !record.is_live(now) => "time is up",
            () => "admitted",
        };
        JobRow { record, spec, place, runner, state }
    }

    fn machine(&self) -> Value {
        let Record { account, .. } = self.record;
        let identity = self.spec.as_ref().map(|spec| &spec.identity);
        json!({
            "job_id": self.record.job_id,
            "decision_id": self.record.decision_id,
            "server": self.record.server,
            "project": identity.map(|identity| &identity.project_path),
            "user_login": identity.map(|identity| &identity.user_login),
            "account": account.name,
            "uid": account.uid,
            "since": self.spec.as_ref().map(|spec| time::moment(spec.admitted_at)),
            "until": time::moment(self.record.expires_at),
            "place": self.place,
            "builds_dir": self.record.builds_dir,
            "runner_uid": self.record.runner_uid,
            "runner": self.runner,
            "state": self.state,
        })
    }
}

fn list(found: &[records::JobRecord], now: &Now, format: Format) -> Result<u8, CtlError> {
    let lines: Vec<JobRow<'_>> =
        found.iter().filter_map(|found| Some(JobRow::of(found.record.as_ref()?, now))).collect();
    let unread: Vec<(String, &str)> = found
        .iter()
        .filter(|found| found.record.is_none())
        .map(|found| {
            (found.path().display().to_string(), found.over.as_ref().unwrap_or_else(|why| why).as_str())
        })
        .collect();
    match format {
        Format::Json => {
            let jobs: Vec<Value> = lines.iter().map(JobRow::machine).collect();
            let unread: Vec<Value> =
                unread.iter().map(|(path, why)| json!({ "path": path, "why": why })).collect();
            print_json(&json!({ "jobs": jobs, "unreadable": unread }))?;
        }
        Format::Text => {
            let mut text = String::new();
            if !lines.is_empty() {
                text.push_str("JOB         ACCOUNT       SINCE                 PLACE       RUNNER   STATE               PROJECT\n");
            }
            for JobRow { record, spec, place, runner, state } in &lines {
                let (since, project) = spec.as_ref().map_or_else(
                    || ("unknown".to_owned(), "unknown"),
                    |spec| (time::moment(spec.admitted_at), spec.identity.project_path.as_str()),
                );
                text.push_str(&format!(
                    "{:<11} {:<13} {:<21} {:<11} {runner:<8} {state:<19} {}\n",
                    record.job_id,
                    Untrusted(&record.account.name).to_string(),
                    since,
                    Untrusted(place).to_string(),
                    Untrusted(project),
                ));
            }
            for (path, why) in &unread {
                text.push_str(&format!("{}: {}\n", Untrusted(path), Untrusted(why)));
            }
            if text.is_empty() {
                text.push_str("this host has no jobs\n");
            }
            print(&text)?;
        }
    }
    Ok(if unread.is_empty() { OK } else { FAILURE })
}

/// The only record of this job. Each GitLab server numbers its jobs independently.
fn chosen<'f>(
    found: &'f [records::JobRecord],
    job: u64,
    decision: Option<&str>,
) -> Result<(&'f records::JobRecord, &'f Record), CtlError> {
    let fits = |record: &Record| {
        record.job_id == job && decision.is_none_or(|beginning| record.decision_id.starts_with(beginning))
    };
    let all: Vec<(&records::JobRecord, &Record)> = found
        .iter()
        .filter_map(|found| Some((found, found.record.as_ref()?)))
        .filter(|(_, record)| fits(record))
        .collect();
    match all.as_slice() {
        [one] => Ok(*one),
        [] => {
            let of = decision.map(|decision| format!(" with decision {decision}")).unwrap_or_default();
            Err(CtlError::new(format!(
                "this account keeps no record of a job {job}{of}; `nunbirdctl jobs` lists those that there are"
            )))
        }
        several => {
            let decisions: Vec<String> = several
                .iter()
                .map(|(_, record)| format!("{} on server {}", record.decision_id, record.server))
                .collect();
            Err(CtlError::new(format!(
                "there are {} jobs of this number; say which by --decision:\n{}",
                several.len(),
                decisions.join("\n")
            )))
        }
    }
}

fn end(
    (found, record): &(&records::JobRecord, &Record),
    dry_run: bool,
    format: Format,
) -> Result<u8, CtlError> {
    let whose = format!("job {} of {}", record.job_id, record.account.name);
    let (done, said) = match dry_run {
        true => (true, Vec::new()),
        false => auth(&["-u".as_ref(), "end".as_ref(), found.name().as_ref()]),
    };
    // Another cleanup may have been faster.
    let done = done || found.path().symlink_metadata().is_err();
    let action = match (dry_run, done) {
        (true, _) => "would end",
        (false, true) => "ended",
        (false, false) => "failed",
    };
    match format {
        Format::Json => print_json(
            &json!({ "job_id": record.job_id, "decision_id": record.decision_id, "action": action, "said": said }),
        )?,
        Format::Text => {
            let mut text = match action {
                "failed" => format!("failed to end {}; its record is kept\n", Untrusted(&whose)),
                action => format!("{action} {}\n", Untrusted(&whose)),
            };
            for line in &said {
                text.push_str(&format!("  {}\n", Untrusted(line)));
            }
            print(&text)?;
        }
    }
    Ok(if done { OK } else { FAILURE })
}
