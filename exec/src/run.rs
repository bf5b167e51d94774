//! A job from its name to its exit status: the stages of gitlab-runner, one after the other.

use crate::arguments::Arguments;
use crate::artifacts::{self, Known, Origin};
use crate::conditions::Verdict;
use crate::failure::Failure;
use crate::instances::{Instance, choose, instances};
use crate::job::{self, AllowFailure, Around, Job};
use crate::launch::{End, Launcher};
use crate::pipeline::{self, Pipeline, Sources};
use crate::place::{Place, absolute};
use crate::predefined;
use crate::prompt;
use crate::script::{self, Colour, Commit};
use crate::surroundings::{self, Wish};
use crate::tree::Tree;
use crate::variables::Variables;
use crate::{CANCELLED, NOT_RUN, passwords, secrets};
use nunbird_handover::{
    Account, Credentials, ExitCodes, FORMAT_VERSION, Handover, Identity, Shell, SiteRules, Task, Untrusted,
    Workspace,
};
use nunbird_stage::error::shown;
use nunbird_sys::random;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
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
    let mut given = arguments.variables.as_deref().map_or_else(|| Ok(Variables::default()), secrets::file)?;
    for text in &arguments.variable {
        let pair = secrets::pair(text).map_err(|failure| failure.help("--variable NAME=value"))?;
        given.set(pair.0, pair.1);
    }
    let predefined = predefined::of_project(&tree, &arguments.file, &account.name)?;
    let mut outer = predefined.clone();
    outer.add(&given);
    let sources = Sources { tree: &tree, outer: &outer, ignore_remote: arguments.ignore_remote_includes };
    let pipeline = pipeline::load(sources, &arguments.file)?;
    pipeline.remarks.iter().for_each(|remark| say(&format!("remark: {remark}")));
    let all = instances(&pipeline)?;
    let around = Around { predefined: &predefined, given: &given, tree: &tree };
    match &arguments.job {
        Some(name) if !arguments.list => {
            let instance = choose(&all, &pipeline, name)?;
            ByHand { arguments, tree: &tree, account, pipeline: &pipeline }.run(instance, &predefined, &given)
        }
        _ => list(&pipeline, &all, around),
    }
}

/// Our words, apart from the job's output. A reader that has gone is no failure.
fn say(text: &str) {
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
}

impl ByHand<'_> {
    fn run(&self, instance: &Instance<'_>, predefined: &Variables, given: &Variables) -> Result<u8, Failure> {
        let arguments = self.arguments;
        let data_dir = match &arguments.directory {
            Some(directory) => absolute(directory)?,
            None => self.account.home.join(".nunbird"),
        };
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
            Job::read(self.pipeline, instance, Around { predefined, given, tree: self.tree }, remarks)
        };
        // Once without directories, so that its errors come before anything is made.
        let job = read(&predefined, &mut Vec::new())?;
        surroundings::batch(&job, &arguments.executor, &data_dir, &decision_id)?;
        surroundings::container(&job, self.wish(), &data_dir, &decision_id)?;
        let place = Place::take(&data_dir, &project, arguments.keep)?;
        place.remarks.iter().for_each(|remark| say(&format!("remark: {remark}")));
        let path = |path: &Path| path.to_string_lossy().into_owned();
        predefined.set("CI_PROJECT_DIR", path(&place.workspace.project_dir));
        predefined.set("CI_BUILDS_DIR", path(&place.workspace.builds_dir));
        predefined.set("CI_JOB_STATUS", "running");
        let mut job = read(&predefined, &mut remarks)?;
        let handover = self.handover(&job, &place, &data_dir, decision_id)?;
        if let Some(image) = handover.container.as_ref().and_then(|container| container.image.as_ref()) {
            job.values.set("CI_JOB_IMAGE", image.name.clone());
        }
        self.remark(&job, &remarks);
        let status = Stages {
            by_hand: self,
            launcher: &launcher,
            handover: &handover,
            job: &job,
            given,
            commit: &commit,
            place: &place,
        }
        .run();
        if arguments.keep {
            say(&format!("the job's directory is {}", shown(&place.workspace.project_dir)));
        } else if let Err(e) = place.clear() {
            say(&e.to_string());
        }
        status
    }

    fn wish(&self) -> Wish<'_> {
        let Arguments { image, engine, no_container, .. } = self.arguments;
        Wish { image: image.as_deref(), engine: engine.as_deref(), no_container: *no_container }
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
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let path = PathBuf::from("/bin/bash");
        if !path.exists() {
            return Err(Failure::new("/bin/bash is missing on this host")
                .help("install bash: scripts of jobs are for it"));
        }
        Ok(Handover {
            version: FORMAT_VERSION,
            batch: surroundings::batch(job, &self.arguments.executor, data_dir, &decision_id)?,
            container: surroundings::container(job, self.wish(), data_dir, &decision_id)?,
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
            shell: Shell { path, login: true },
            environment: surroundings::environment(),
            session_variables: BTreeSet::new(),
            umask: None,
            exit_codes: ExitCodes::default(),
            exit_code_file: true,
            credentials: Credentials::default(),
            credential_helpers: Vec::new(),
            site: SiteRules::default(),
            expires_at: now.saturating_add(MONTH),
        })
    }
}

fn decision_id() -> Result<String, Failure> {
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
    handover: &'a Handover,
    job: &'a Job,
    given: &'a Variables,
    commit: &'a Commit,
    place: &'a Place,
}

impl Stages<'_> {
    /// All of them, and the clean-up whatever happened.
    fn run(&self) -> Result<u8, Failure> {
        let status = self.until_clean_up();
        if self.launcher.run(self.handover, Task::Cleanup, "")? != End::Success {
            say("the clean-up has failed: its error is above");
        }
        status
    }

    fn until_clean_up(&self) -> Result<u8, Failure> {
        let credentials = passwords::credentials(self.given, &self.by_hand.account.home);
        let prepare = Handover { credentials, ..self.handover.clone() };
        let known = RefCell::new(Known::default());
        let sources = || {
            let list = self.source_list(&mut known.borrow_mut())?;
            let (source, project) = (self.by_hand.tree.root(), &self.place.workspace.project_dir);
            let text = script::sources(self.commit, source, project, list.as_deref());
            let end = self.launcher.run(self.handover, Task::Run("get_sources".to_owned()), &text);
            self.place.forget_sources();
            end
        };
        let stages: [Before<'_>; 2] = [
            ("the job cannot be prepared", &|| self.launcher.run(&prepare, Task::Prepare, "")),
            ("the tree cannot be copied", &sources),
        ];
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
        self.launcher.run(self.handover, Task::Run(stage.to_owned()), &text)
    }

    /// Before `after_script`, which may remove what there is to see.
    fn prompt(&self, status: u8) -> Result<(), Failure> {
        let place = match (&self.handover.container, &self.handover.batch) {
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
        prompt::open(self.launcher, self.handover, &step)
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
        let origin = Origin { builds: self.place.builds(), builds_dir, project_dir };
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
