//! A job from its name to its exit status: the stages of gitlab-runner, one after the other.

use crate::arguments::Arguments;
use crate::artifacts::{self, Known, Origin};
use crate::conditions::Verdict;
use crate::enter;
use crate::failure::Failure;
use crate::instances::{Instance, choose, instances};
use crate::job::{self, AllowFailure, Around, Job};
use crate::kept;
use crate::launch::{End, Held, Launcher};
use crate::pipeline::{self, Pipeline, Sources};
use crate::place::{Place, absolute};
use crate::predefined;
use crate::prompt;
use crate::record::{Ended, Origins, Record};
use crate::script::{self, Colour, Commit};
use crate::secrets::{self, Given};
use crate::site::Site;
use crate::surroundings::{self, ContainerFlags};
use crate::tree::Tree;
use crate::variables::Variables;
use crate::{CANCELLED, NOT_RUN, passwords};
use nunbird_handover::{
    Account, Batch, Container, Credentials, ExitCodes, FORMAT_VERSION, Handover, Identity, Shell, Task,
    Untrusted, Workspace,
};
use nunbird_stage::error::shown;
use nunbird_sys::random;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// Longer than any allocation.
const MONTH: u64 = 31 * 24 * 3600;

/// Lists the jobs, or runs one; gives the exit status.
///
/// # Errors
/// For everything that stops a job before its script.
pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let here =
        std::env::current_dir().map_err(|e| Failure::new(format!("cannot find this directory: {e}")))?;
    let tree = Tree::around(&here)?;
    let account = surroundings::account()?;
    let of_command_line = Given::of_command_line(&arguments.own.variable, &arguments.own.file_variable)?;
    let mut all_given =
        arguments.own.variables.as_deref().map_or_else(|| Ok(Given::default()), secrets::file)?;
    all_given.add(&of_command_line);
    let given = &all_given.variables;
    let predefined = predefined::of_project(&tree, &arguments.file, &account.name)?;
    let mut outer = predefined.clone();
    outer.add(given);
    let sources = Sources { tree: &tree, outer: &outer, ignore_remote: arguments.ignore_remote_includes };
    let pipeline = pipeline::load(sources, &arguments.file)?;
    pipeline.remarks.iter().for_each(|remark| say(&format!("remark: {remark}")));
    let all = instances(&pipeline)?;
    let around = Around { predefined: &predefined, given, tree: &tree };
    match &arguments.job {
        Some(name) if !arguments.list => {
            let instance = choose(&all, &pipeline, name)?;
            all_given.check_files()?;
            let given = Givens { all: &all_given, of_command_line: &of_command_line };
            let site = arguments.as_rule.as_deref().map(|name| Site::read(name, &arguments.configuration));
            let by_hand =
                ByHand { arguments, tree: &tree, account, pipeline: &pipeline, site: site.transpose()? };
            by_hand.run(instance, &predefined, given)
        }
        _ => list(&pipeline, &all, around),
    }
}

/// What the user gives for the job's variables.
#[derive(Clone, Copy)]
struct Givens<'a> {
    all: &'a Given,
    of_command_line: &'a Given,
}

/// Our words, apart from the job's output. A reader that has gone is no failure.
pub(crate) fn say(text: &str) {
    drop(writeln!(io::stderr(), "nunbird exec: {text}"));
}

fn list(pipeline: &Pipeline, instances: &[Instance<'_>], around: Around<'_>) -> Result<u8, Failure> {
    let mut remarks = Vec::new();
    let mut rows = vec![["JOB", "STAGE", "IMAGE", "RUNS"].map(str::to_owned)];
    for instance in instances {
        let one = job::listed(pipeline, instance, around, &mut remarks)?;
        let runs = match one.verdict {
            Verdict::Runs => "yes".to_owned(),
            Verdict::When(when) => Untrusted(&when).to_string(),
            Verdict::Not(why) => format!("no: {why}"),
        };
        let image = if one.image.is_empty() { "-" } else { &one.image };
        rows.push(
            [&one.name, &one.stage, image]
                .map(|text| Untrusted(text).to_string())
                .into_iter()
                .chain([runs])
                .collect::<Vec<_>>()
                .try_into()
                .unwrap_or_default(),
        );
    }
    remarks.dedup();
    remarks.iter().for_each(|remark| say(&format!("remark: {remark}")));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let line = |row: &[String; 4]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}  "));
        format!("{}{}\n", cells.collect::<String>(), row[3])
    };
    let text: String = rows.iter().map(line).collect();
    // Such as a pager that has ended.
    drop(io::stdout().write_all(text.as_bytes()));
    Ok(0)
}

struct ByHand<'a> {
    arguments: &'a Arguments,
    tree: &'a Tree,
    account: Account,
    pipeline: &'a Pipeline,
    /// The rule of the site's that the job runs by.
    site: Option<Site>,
}

impl ByHand<'_> {
    fn run(&self, instance: &Instance<'_>, predefined: &Variables, given: Givens<'_>) -> Result<u8, Failure> {
        let arguments = self.arguments;
        let data_dir = data_dir(arguments.own.directory.as_deref(), &self.account)?;
        // Before the place is taken: what stops a job leaves nothing.
        let launcher = Launcher::beside_this_program()?;
        let decision_id = decision_id()?;
        let own = predefined.expanded()?;
        let project = own.get("CI_PROJECT_PATH").unwrap_or("project").to_owned();
        let commit = Commit {
            sha: own.get("CI_COMMIT_SHA").unwrap_or("HEAD").to_owned(),
            url: own.get("CI_REPOSITORY_URL").map(str::to_owned),
        };
        let mut predefined = predefined.clone();
        let mut remarks = Vec::new();
        let read = |predefined: &Variables, remarks: &mut Vec<String>| {
            let around = Around { predefined, given: &given.all.variables, tree: self.tree };
            Job::read(self.pipeline, instance, around, remarks)
        };
        // Once without directories, so that its errors come before anything is made.
        let job = read(&predefined, &mut Vec::new())?;
        self.batch(&job, &data_dir, &decision_id)?;
        self.container(&job, &data_dir, &decision_id)?;
        let place = Place::take(&data_dir, &project, arguments.keep, &|record, path, lock| {
            let Some(left) = record.live.then_some(&record.handover) else { return true };
            // A record that a job may have made starts nothing.
            match kept::refuse_below_jobs(&data_dir) {
                Ok(()) => end_left(&launcher, (&record.job, left), path, lock),
                Err(failure) => {
                    say(&failure.to_string());
                    false
                }
            }
        })?;
        place.remarks.iter().for_each(|remark| say(&format!("remark: {remark}")));
        let path = |path: &Path| path.to_string_lossy().into_owned();
        predefined.set("CI_PROJECT_DIR", path(&place.workspace.project_dir));
        predefined.set("CI_BUILDS_DIR", path(&place.workspace.builds_dir));
        predefined.set("CI_JOB_STATUS", "running");
        let mut job = read(&predefined, &mut remarks)?;
        let handover = self.handover(&job, &place, &data_dir, decision_id)?;
        if let Some(image) = handover.container.as_ref().and_then(|container| container.image.as_ref()) {
            job.values.set("CI_JOB_IMAGE", image.name.clone());
            job.layers.set("CI_JOB_IMAGE", image.name.clone());
        }
        let record = self.record(&job, &handover, given)?;
        place.write_down(&record)?;
        self.remark(&job, &remarks);
        if let Some(site) = &self.site {
            say(&format!("as the rule {} runs jobs, and without what takes privilege", site.name()));
            site.limit().iter().for_each(|left| say(&format!("remark: not applied: {left}")));
        }
        let stages = Stages {
            by_hand: self,
            launcher: &launcher,
            held: Held { handover: &handover, lock: place.lock() },
            job: &job,
            given: given.all,
            commit: &commit,
            place: &place,
            record: RefCell::new(record),
        };
        let status = stages.run();
        if arguments.keep {
            stages.keep(*status.as_ref().unwrap_or(&NOT_RUN));
        } else if let Err(e) = place.clear() {
            say(&e.to_string());
        }
        status
    }

    /// The scheduler that the user names, or else the rule's.
    fn batch(&self, job: &Job, data_dir: &Path, decision_id: &str) -> Result<Option<Batch>, Failure> {
        match (&self.site, &self.arguments.executor) {
            (Some(site), None) => site.batch(job, data_dir, decision_id),
            (_, named) => {
                surroundings::batch(job, named.as_deref().unwrap_or("shell"), data_dir, decision_id)
            }
        }
    }

    /// The container of the rule, or else of what the user may use.
    fn container(&self, job: &Job, data_dir: &Path, decision_id: &str) -> Result<Option<Container>, Failure> {
        match &self.site {
            Some(_) if self.arguments.no_container => Ok(None),
            Some(site) => {
                let image = self.arguments.image.as_deref();
                site.container(job, image, (&self.account, data_dir, decision_id))
            }
            None => surroundings::container(job, self.container_flags(), data_dir, decision_id),
        }
    }

    fn container_flags(&self) -> ContainerFlags<'_> {
        let Arguments { image, engine, no_container, .. } = self.arguments;
        ContainerFlags { image: image.as_deref(), engine: engine.as_deref(), no_container: *no_container }
    }

    fn record(&self, job: &Job, handover: &Handover, given: Givens<'_>) -> Result<Record, Failure> {
        let file = self.arguments.own.variables.as_deref().map(std::path::absolute).transpose();
        let file = file.map_err(|e| Failure::new(format!("cannot find this directory: {e}")))?;
        let from = Origins {
            layers: &job.layers,
            of_command_line: given.of_command_line,
            variables_file: file.as_deref(),
            public: &job.public,
            services: job.services.iter().map(|service| service.variables.clone()).collect(),
        };
        Ok(Record::new(&job.name, now(), handover, from))
    }

    /// What the user is to know before the job begins.
    fn remark(&self, job: &Job, remarks: &[String]) {
        remarks.iter().chain(&job.notes).for_each(|remark| say(&format!("remark: {remark}")));
        if let Verdict::Not(why) = &job.verdict {
            say(&format!("remark: a pipeline of this commit would not have this job: {why}"));
        }
        if self.arguments.no_container && (job.image.is_some() || !job.services.is_empty()) {
            say("remark: `image:` and `services:` are not used: --no-container");
        }
        if job.artifacts.is_some() && self.arguments.artifacts.is_none() {
            say("remark: artifacts are not kept; --artifacts DIR copies them");
        }
    }

    fn handover(
        &self,
        job: &Job,
        place: &Place,
        data_dir: &Path,
        decision_id: String,
    ) -> Result<Handover, Failure> {
        let shell = self
            .site
            .as_ref()
            .map_or_else(|| Shell { path: PathBuf::from("/bin/bash"), login: true }, Site::shell);
        if !shell.path.exists() {
            return Err(Failure::new(format!("{} is missing on this host", shown(&shell.path)))
                .help("install it: scripts of jobs are for it"));
        }
        let batch = self.batch(job, data_dir, &decision_id)?;
        let mut environment = self.site.as_ref().map_or_else(surroundings::environment, Site::environment);
        // The allocation that this program was called in, for a script that asks for none.
        if batch.is_none() {
            environment.extend(surroundings::of_allocation());
        }
        Ok(Handover {
            version: FORMAT_VERSION,
            batch,
            container: self.container(job, data_dir, &decision_id)?,
            decision_id,
            job_id: 0,
            task: Task::Prepare,
            account: self.account.clone(),
            identity: Identity {
                server: String::new(),
                user_login: self.account.name.clone(),
                user_id: 0,
                project_path: job.values.get("CI_PROJECT_PATH").unwrap_or_default().to_owned(),
            },
            workspace: place.workspace.clone(),
            shell,
            environment,
            session_variables: BTreeSet::new(),
            umask: None,
            exit_codes: ExitCodes::default(),
            exit_code_file: true,
            credentials: Credentials::default(),
            credential_helpers: Vec::new(),
            site: self.site.as_ref().map(Site::rules).unwrap_or_default(),
            expires_at: in_a_month(),
            timed_out: false,
        })
    }
}

/// The directory below which everything of the account's jobs by hand lies.
pub(crate) fn data_dir(named: Option<&Path>, account: &Account) -> Result<PathBuf, Failure> {
    named.map_or_else(|| Ok(account.home.join(".nunbird")), absolute)
}

/// Ends what a run that was killed, or a prompt, in the directory `path` has left running: processes, a container, an allocation. `left` is the job's
/// name and what the launcher was started with. Gives whether nothing of it runs any more.
pub(crate) fn end_left(
    launcher: &Launcher,
    left: (&str, &Handover),
    path: &Path,
    lock: BorrowedFd<'_>,
) -> bool {
    let (name, handover) = left;
    // Of a copy of a directory nothing runs.
    if handover.workspace.builds_dir != path {
        return true;
    }
    say(&format!("ending what is left of the job `{}`, whose run was killed", Untrusted(name)));
    let end = surroundings::account().and_then(|account| {
        let handover = Handover { account, ..handover.clone() };
        launcher.run(Held { handover: &handover, lock }, Task::Cleanup, "")
    });
    match end {
        Ok(End::Success) => return true,
        Ok(_) => say("that has failed: its error is above"),
        Err(failure) => say(&failure.to_string()),
    }
    false
}

/// Seconds since the epoch.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Later than any job ends.
pub(crate) fn in_a_month() -> u64 {
    now().saturating_add(MONTH)
}

/// What marks the processes of a run.
pub(crate) fn decision_id() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    random::fill(&mut bytes).map_err(|e| Failure::new(format!("no random numbers: {e}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A stage before the script, and what its failure means.
type Before<'a> = (&'static str, &'a dyn Fn() -> Result<End, Failure>);

/// One after the other: none runs after one that has failed or was cancelled, which is given.
fn until_one_fails<'a>(
    stages: impl IntoIterator<Item = Before<'a>>,
) -> Result<Option<(&'static str, End)>, Failure> {
    for (what, stage) in stages {
        match stage()? {
            End::Success => {}
            end => return Ok(Some((what, end))),
        }
    }
    Ok(None)
}

/// The names of a commit of the user's repository.
fn committed(root: &Path, commit: &str) -> Result<Known, Failure> {
    let failed = |e: &str| {
        Failure::new(format!("cannot list the files of the commit: {}", Untrusted(e)))
            .help("try `git ls-tree HEAD`")
    };
    let output = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["ls-tree", "-r", "-z", "--full-tree", "--end-of-options", commit])
        .output()
        .map_err(|e| failed(&e.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("git failed")));
    }
    let mut known = Known::default();
    // `MODE TYPE ID<tab>NAME`
    for line in output.stdout.split(|byte| *byte == 0) {
        let Some(tab) = line.iter().position(|byte| *byte == b'\t') else { continue };
        let name = PathBuf::from(OsStr::from_bytes(&line[tab + 1..]));
        let is_submodule = line.starts_with(b"160000 ");
        let kind = if is_submodule { &mut known.directories } else { &mut known.files };
        kind.insert(name);
    }
    Ok(known)
}

struct Stages<'a> {
    by_hand: &'a ByHand<'a>,
    launcher: &'a Launcher,
    held: Held<'a>,
    job: &'a Job,
    given: &'a Given,
    commit: &'a Commit,
    place: &'a Place,
    record: RefCell<Record>,
}

impl Stages<'_> {
    /// All of them, and the clean-up whatever happened.
    fn run(&self) -> Result<u8, Failure> {
        let status = self.until_clean_up();
        let cleaned = self.launcher.run(self.held, Task::Cleanup, "")? == End::Success;
        if !cleaned {
            say("the clean-up has failed: its error is above");
        }
        self.record.borrow_mut().live = !cleaned;
        status
    }

    /// Writes the end of the run down, and says how to enter what is left of it.
    fn keep(&self, status: u8) {
        let mut record = self.record.borrow_mut();
        record.ended = Some(Ended { status, at: now() });
        if let Err(failure) = self.place.write_down(&record) {
            say(&failure.to_string());
        }
        let place = shown(&self.place.workspace.project_dir);
        let number = self.place.number();
        let enter = enter::command(&self.place.workspace.data_dir, &self.by_hand.account, &[number]);
        say(&format!("the job's directory is {place}; `{enter}` opens a prompt in it"));
    }

    fn until_clean_up(&self) -> Result<u8, Failure> {
        let credentials = passwords::credentials(&self.given.variables, &self.by_hand.account.home);
        let prepare = Handover { credentials, ..self.held.handover.clone() };
        let prepare = Held { handover: &prepare, ..self.held };
        let known = RefCell::new(Known::default());
        let sources = || {
            let list = self.source_list(&mut known.borrow_mut())?;
            let (source, project) = (self.by_hand.tree.root(), &self.place.workspace.project_dir);
            let text = script::sources(self.commit, source, project, list.as_deref());
            let end = self.launcher.run(self.held, Task::Run("get_sources".to_owned()), &text);
            self.place.forget_sources();
            if matches!(end, Ok(End::Success)) {
                let Workspace { builds_dir, project_dir, .. } = &self.place.workspace;
                self.given.copy_files(self.place.builds(), builds_dir, project_dir)?;
            }
            end
        };
        let prepared = || {
            let end = self.launcher.run(prepare, Task::Prepare, "")?;
            self.note_digest()?;
            Ok(end)
        };
        let stages: [Before<'_>; 2] =
            [("the job cannot be prepared", &prepared), ("the tree cannot be copied", &sources)];
        match until_one_fails(stages)? {
            None => {}
            Some((_, End::Cancelled)) => return Ok(CANCELLED),
            Some((what, _)) => {
                say(&format!("{what}: its error is above"));
                return Ok(NOT_RUN);
            }
        }
        let end = self.step("build_script", &self.job.script, None)?;
        let status = match end {
            End::Success => 0,
            End::Failed(code) => u8::try_from(code).unwrap_or(1),
            End::Cancelled => return Ok(CANCELLED),
            End::System => return Ok(NOT_RUN),
        };
        let word = if status == 0 { "success" } else { "failed" };
        if status != 0 && self.by_hand.arguments.shell_on_failure {
            self.prompt(status)?;
        }
        if !self.job.after_script.is_empty() {
            match self.step("after_script", &self.job.after_script, Some(word))? {
                End::Failed(code) => say(&format!(
                    "after_script has failed with exit code {code}, which does not change the job's result"
                )),
                End::Cancelled => return Ok(CANCELLED),
                End::Success | End::System => {}
            }
        }
        self.artifacts(word, &known.borrow())?;
        self.report(status);
        Ok(status)
    }

    /// The files to copy: those that git lists and that are there; none for those of the commit. `known` has their names, of either.
    fn source_list(&self, known: &mut Known) -> Result<Option<PathBuf>, Failure> {
        let tree = self.by_hand.tree;
        if self.by_hand.arguments.committed {
            // Before the script: later `.git` is the job's.
            if self.job.artifacts.as_ref().is_some_and(|artifacts| artifacts.untracked) {
                *known = committed(tree.root(), &self.commit.sha)?;
            }
            return Ok(None);
        }
        let mut text = Vec::new();
        // By name, once each: a file with a conflict is listed several times.
        let names: BTreeSet<PathBuf> = tree.paths()?.into_iter().collect();
        for name in names {
            let Ok(meta) = tree.root().join(&name).symlink_metadata() else { continue };
            text.extend_from_slice(name.as_os_str().as_bytes());
            text.push(0);
            // A submodule, or a repository in the tree, whose name ends with `/`.
            let kind = if meta.is_dir() { &mut known.directories } else { &mut known.files };
            kind.insert(name);
        }
        self.place.list_sources(&text).map(Some)
    }

    fn step(&self, stage: &str, lines: &[String], status: Option<&str>) -> Result<End, Failure> {
        let colour = if io::stdout().is_terminal() { Colour::Green } else { Colour::None };
        let mut values = self.job.values.clone();
        if let Some(status) = status {
            values.set("CI_JOB_STATUS", status);
        }
        let text = script::step(&values, &self.place.workspace.project_dir, lines, colour);
        self.launcher.run(self.held, Task::Run(stage.to_owned()), &text)
    }

    /// What the image's name means now.
    fn note_digest(&self) -> Result<(), Failure> {
        let digest = self.held.handover.container.as_ref().and_then(surroundings::digest);
        if digest.is_none() {
            return Ok(());
        }
        let mut record = self.record.borrow_mut();
        record.digest = digest;
        self.place.write_down(&record)
    }

    /// Before `after_script`, which may remove what there is to see.
    fn prompt(&self, status: u8) -> Result<(), Failure> {
        let place = match (&self.held.handover.container, &self.held.handover.batch) {
            (Some(_), None) => "in the job's container",
            (None, None) => "on this host",
            (Some(_), Some(_)) => {
                "in a container of the job's image on this host, because the allocation has ended"
            }
            (None, Some(_)) => "on this host, because the allocation has ended",
        };
        say(&format!("the script ended with exit code {status}; this prompt is {place}, `exit` goes on"));
        let mut values = self.job.values.clone();
        values.set("CI_JOB_STATUS", "failed");
        let step = script::surroundings(&values, &self.place.workspace.project_dir);
        prompt::open(self.launcher, self.held, &step)
    }

    fn artifacts(&self, word: &str, known: &Known) -> Result<(), Failure> {
        let (Some(artifacts), Some(to)) = (&self.job.artifacts, &self.by_hand.arguments.artifacts) else {
            return Ok(());
        };
        let wanted = matches!(
            (artifacts.when.as_str(), word),
            ("always", _) | ("on_success", "success") | ("on_failure", "failed")
        );
        if !wanted {
            say(&format!("artifacts are not copied: `when: {}`", artifacts.when));
            return Ok(());
        }
        let Workspace { builds_dir, project_dir, .. } = &self.place.workspace;
        let origin = Origin { builds: self.place.builds().as_fd(), builds_dir, project_dir };
        let copied = artifacts::copy(artifacts, origin, known, to)?;
        copied.unmatched.iter().for_each(|pattern| say(&format!("no file matches `{pattern}` of artifacts")));
        say(&format!("{} files of artifacts are in {}", copied.files, shown(to)));
        Ok(())
    }

    fn report(&self, status: u8) {
        let name = Untrusted(&self.job.name);
        if status == 0 {
            return say(&format!("job `{name}` succeeded"));
        }
        let allowed = match &self.job.allow_failure {
            AllowFailure::No => false,
            AllowFailure::Yes => true,
            AllowFailure::Codes(codes) => codes.contains(&i32::from(status)),
        };
        let allowed = if allowed { "; a pipeline would go on (`allow_failure:`)" } else { "" };
        say(&format!("job `{name}` failed with exit code {status}{allowed}"));
    }
}
