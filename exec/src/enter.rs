//! `nunbird exec enter`: a prompt in what a job has left, a list of it, and its removal.
//!
//! The prompt is a stage of the launcher's, as that of `--shell-on-failure`. The container of the job has gone with the job, so a new one is made,
//! of the same image and with the same directories of the host; what differs is said. An allocation is not asked for again.
//! While the prompt is open, its lock is held, and its record has what there is to end if this program is killed.

use crate::arguments::Enter;
use crate::failure::Failure;
use crate::kept::{self, Kept, Known};
use crate::launch::{End, Held, Launcher};
use crate::passwords;
use crate::place;
use crate::prompt;
use crate::record::Record;
use crate::run::{data_dir, decision_id, end_left, in_a_month, now, say};
use crate::script;
use crate::secrets::{self, Given};
use crate::surroundings;
use crate::variables::{Values, Variables};
use crate::{CANCELLED, NOT_RUN};
use nix::sys::termios::{FlushArg, tcflush};
use nunbird_handover::{
    Account, Batch, CONTAINER_STAGES, Container, Engine, Handover, MACHINES, Scheduler, Task, Untrusted,
};
use nunbird_stage::error::shown;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;

/// The whole command; gives the exit status.
///
/// # Errors
/// For everything that opens no prompt.
pub(crate) fn run(words: &Enter) -> Result<u8, Failure> {
    let account = surroundings::account()?;
    let data_dir = data_dir(words.own.directory.as_deref(), &account)?;
    if words.list {
        return list(&data_dir);
    }
    let found = kept::find(&data_dir, words.what.as_deref())?;
    found.refuse_live_elsewhere()?;
    let lock = lock(&found)?;
    let starts = match &found.known {
        Known::ByHand(record) if !words.remove => Some(&record.handover),
        Known::OfGitLab(kept) if !words.remove => Some(&kept.job),
        _ => None,
    };
    let all: Vec<&Handover> = starts.into_iter().chain(found.left()).collect();
    if !all.is_empty() && !kept::is_usual(&data_dir, &account.home) {
        confirm(&data_dir, &all)?;
    }
    let launcher = Launcher::beside_this_program()?;
    if !words.remove {
        // Before anything that its record says is done.
        drop(found.open()?);
    }
    if let Some(left) = found.left()
        && !end_left(&launcher, (&found.job(), left), &found.path(), lock.as_fd())
    {
        // The record is all that is known of what runs.
        let what = format!("what a killed run has left in {} could not be ended", shown(&found.path()));
        return Err(Failure::new(what)
            .help("try again once its error above is mended, for example when the scheduler answers"));
    }
    if words.remove {
        return remove(&found);
    }
    match &found.known {
        Known::ByHand(record) => by_hand(words, &found, record, &launcher, &lock, &account),
        Known::OfGitLab(kept) => of_gitlab(words, &found, kept, &launcher, &lock, &account),
        Known::Nothing(why) => {
            Err(Failure::new(format!("it is not known how the job of {} ran: {why}", shown(&found.path())))
                .help(format!("look at the files: cd {}", script::quote(&found.path().to_string_lossy())))
                .help(format!(
                    "or remove them: {}",
                    command(&data_dir, &account, &["--remove", &found.name])
                )))
        }
    }
}

/// Asks before anything starts that a record outside of `~/.nunbird` names. A container may have been able to write there: in a directory of the
/// site's or the user's that is bound into it.
fn confirm(data_dir: &Path, all: &[&Handover]) -> Result<(), Failure> {
    let terminal = io::stdin();
    if !terminal.is_terminal() {
        let what = format!("refusing to start what is written in {} without asking", shown(data_dir));
        return Err(Failure::new(what).help(
            "call it in a terminal: only of ~/.nunbird it is known that no container can write there",
        ));
    }
    say(&format!(
        "{} is not your ~/.nunbird. What is written in it says what starts now, as you:",
        shown(data_dir)
    ));
    for line in all.iter().flat_map(|handover| what_starts(handover)) {
        say(&format!("  {line}"));
    }
    say("go on only if the directory is yours or your site's, and no job in a container can write there");
    drop(write!(io::stderr(), "nunbird exec: go on? [y/N] "));
    // What was pasted with the command is no answer.
    let _stays = tcflush(&terminal, FlushArg::TCIFLUSH);
    let mut answer = String::new();
    let read = terminal.read_line(&mut answer);
    match read {
        Ok(_) if matches!(answer.trim(), "y" | "yes") => Ok(()),
        _ => Err(Failure::new("nothing was started")),
    }
}

/// The programs that a message names, and their environment.
fn what_starts(handover: &Handover) -> Vec<String> {
    let mut all = vec![format!("shell: {}", shown(&handover.shell.path))];
    match &handover.container {
        None => all.push("container: none, on this host".to_owned()),
        Some(container) => {
            let engine = match &container.engine {
                Engine::Named(name) => Untrusted(name).to_string(),
                Engine::Described(path) => shown(path),
            };
            let program =
                container.program.as_deref().map_or_else(String::new, |path| format!(", {}", shown(path)));
            all.push(format!("container: {engine}{program}"));
            if let Some(image) = &container.image {
                all.push(format!("image: {}", Untrusted(&image.name)));
            }
        }
    }
    if let Some(batch) = &handover.batch {
        let scheduler = match &batch.scheduler {
            Scheduler::Named(name) => Untrusted(name).to_string(),
            Scheduler::Described(path) => shown(path),
        };
        let place =
            batch.scheduler_bin.as_deref().map_or_else(String::new, |path| format!(" in {}", shown(path)));
        all.push(format!("scheduler: {scheduler}{place}"));
    }
    let of_scheduler = handover.batch.iter().flat_map(|batch| &batch.environment);
    let of_engine = handover.container.iter().flat_map(|container| &container.engine_environment);
    for (name, value) in handover.environment.iter().chain(of_scheduler).chain(of_engine) {
        all.push(format!("variable: {}", Untrusted(&format!("{name}={value}"))));
    }
    all
}

/// No other run or prompt uses it, and none removes it, as long as this is open.
fn lock(found: &Kept) -> Result<File, Failure> {
    let failed = |e: io::Error| Failure::new(format!("cannot use {}: {e}", shown(found.all.path())));
    found.lock().map_err(failed)?.ok_or_else(|| {
        let what =
            format!("{} is in use: its job runs, or another prompt is open in it", shown(&found.path()));
        Failure::new(what).help("wait until that has ended, or end it")
    })
}

fn list(data_dir: &Path) -> Result<u8, Failure> {
    let all = kept::all(data_dir)?;
    let mut rows = vec![["NAME", "JOB", "STATUS", "AGE", "GOES", "SIZE", "DIRECTORY"].map(str::to_owned)];
    for found in &all {
        let (status, since) = match &found.known {
            _ if found.lock().is_ok_and(|lock| lock.is_none()) => ("in use".to_owned(), None),
            Known::ByHand(record) => match record.ended {
                Some(ended) => (ended.status.to_string(), Some(ended.at)),
                None => ("killed".to_owned(), Some(record.begun)),
            },
            Known::OfGitLab(kept) => ("failed".to_owned(), Some(kept.since)),
            Known::Nothing(_) => ("-".to_owned(), None),
        };
        let goes = match &found.known {
            Known::OfGitLab(kept) => format!("in {}", age(kept.until.saturating_sub(now()))),
            Known::ByHand(_) | Known::Nothing(_) => "-".to_owned(),
        };
        let age = since.map_or_else(|| "-".to_owned(), |since| age(now().saturating_sub(since)));
        let size = match found.size() {
            Some((bytes, true)) => amount(bytes),
            Some((bytes, false)) => format!(">{}", amount(bytes)),
            None => "-".to_owned(),
        };
        let job = Untrusted(&found.job()).to_string();
        rows.push([Untrusted(&found.name).to_string(), job, status, age, goes, size, shown(&found.path())]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(&format!("{}\n", row[6]));
    }
    // Such as a pager that has ended.
    drop(io::stdout().write_all(text.as_bytes()));
    Ok(0)
}

fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn amount(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes.div_ceil(1 << 20)),
        _ => format!("{} GiB", bytes.div_ceil(1 << 30)),
    }
}

fn remove(found: &Kept) -> Result<u8, Failure> {
    found.remove()?;
    say(&format!("removed {}", shown(&found.path())));
    Ok(0)
}

/// What the user gives now, over what the job had.
fn given(words: &Enter, record: &Record) -> Result<Given, Failure> {
    let file = words.own.variables.as_ref().or(record.variables_file.as_ref());
    let of_file = match file.map(|file| secrets::file(file)) {
        None => Given::default(),
        Some(Ok(given)) => given,
        // The job's own may have gone since.
        Some(Err(failure)) if words.own.variables.is_none() => {
            say(&format!("remark: the variables of the job's file are not set: {failure}"));
            Given::default()
        }
        Some(Err(failure)) => return Err(failure),
    };
    let mut given = record.given(&of_file);
    given.add(&Given::of_command_line(&words.own.variable, &words.own.file_variable)?);
    Ok(given)
}

fn by_hand(
    words: &Enter,
    found: &Kept,
    record: &Record,
    launcher: &Launcher,
    lock: &File,
    account: &Account,
) -> Result<u8, Failure> {
    let builds = found.open()?;
    let given = given(words, record)?;
    given.check_files()?;
    let mut values = record.values(&given)?;
    let failed = record.ended.is_none_or(|ended| ended.status != 0);
    values.set("CI_JOB_STATUS", if failed { "failed" } else { "success" });
    let mut handover = fresh(&record.handover, account)?;
    record.fill_services(&mut handover, &values);
    let workspace = handover.workspace.clone();
    if workspace.builds_dir != found.path() {
        let what = format!("{} was moved, or is of another place", shown(&found.path()));
        let help = format!("its job worked in {}: move it back", shown(&workspace.builds_dir));
        return Err(Failure::new(what).help(help));
    }
    given.copy_files(&builds, &workspace.builds_dir, &workspace.project_dir)?;
    // The scheduler's settings stay in it, for the next prompt.
    let open = Handover { batch: record.handover.batch.clone(), ..without_services(&handover) };
    place::write_down(&found.all, &found.name, &record.open(open))?;
    let held = Held { handover: &handover, lock: lock.as_fd() };
    let tell = || say(&place_of(found, record, &handover));
    let (status, is_clean) = prompt_in(launcher, held, &given, &values, tell)?;
    if is_clean {
        place::write_down(&found.all, &found.name, &record.closed())?;
    }
    let remove = command(&handover.workspace.data_dir, account, &["--remove", &found.name]);
    say(&format!("{} stays; `{remove}` removes it", shown(&found.path())));
    status
}

/// Prepares what the prompt is in, opens it and cleans up; gives the exit status, and whether nothing is left of it.
fn prompt_in(
    launcher: &Launcher,
    held: Held<'_>,
    given: &Given,
    values: &Values,
    tell: impl FnOnce(),
) -> Result<(Result<u8, Failure>, bool), Failure> {
    let credentials = passwords::credentials(&given.variables, &held.handover.account.home);
    let prepare = Handover { credentials, ..held.handover.clone() };
    let status = match launcher.run(Held { handover: &prepare, ..held }, Task::Prepare, "")? {
        End::Success => {
            tell();
            let step = script::surroundings(values, &held.handover.workspace.project_dir);
            prompt::open(launcher, held, &step).map(|()| 0)
        }
        End::Cancelled => Ok(CANCELLED),
        End::Failed(_) | End::System => {
            say("the prompt cannot be prepared: the error is above");
            Ok(NOT_RUN)
        }
    };
    let is_clean = launcher.run(held, Task::Cleanup, "")? == End::Success;
    if !is_clean {
        say("the clean-up has failed: its error is above");
    }
    Ok((status, is_clean))
}

/// The variables of a job of GitLab's that hold no secret: all that is known here. Those of the project, and the job's own, are not kept.
fn plain_variables(job: &Handover) -> Variables {
    let mut all = Variables::default();
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let project = &job.identity.project_path;
    for (name, value) in [
        ("CI", "true".to_owned()),
        ("GITLAB_CI", "true".to_owned()),
        ("CI_JOB_ID", job.job_id.to_string()),
        ("CI_JOB_STATUS", "failed".to_owned()),
        ("CI_PROJECT_PATH", project.clone()),
        ("CI_PROJECT_NAME", project.rsplit('/').next().unwrap_or_default().to_owned()),
        ("CI_PROJECT_DIR", path(&job.workspace.project_dir)),
        ("CI_BUILDS_DIR", path(&job.workspace.builds_dir)),
        ("GITLAB_USER_LOGIN", job.identity.user_login.clone()),
    ] {
        all.set(name, value);
    }
    all
}

fn of_gitlab(
    words: &Enter,
    found: &Kept,
    kept: &nunbird_handover::Kept,
    launcher: &Launcher,
    lock: &File,
    account: &Account,
) -> Result<u8, Failure> {
    let builds = found.open()?;
    if kept.until <= now() {
        let what = format!("the time of {} is over: it is about to be removed", shown(&found.path()));
        return Err(
            Failure::new(what).help("run the job again, with a longer NUNBIRD_KEEP if your site allows it")
        );
    }
    let mut given = words.own.variables.as_deref().map_or_else(|| Ok(Given::default()), secrets::file)?;
    given.add(&Given::of_command_line(&words.own.variable, &words.own.file_variable)?);
    given.check_files()?;
    let mut values = plain_variables(&kept.job);
    values.add(&given.variables);
    let values = values.expanded()?;
    let mut handover = fresh(&kept.job, account)?;
    // It is the user's now: no job of GitLab's, whose notes would change.
    handover.identity.user_id = 0;
    handover.site.keep = None;
    let group_access = handover.site.upkeep.group_access;
    handover.site.upkeep = nunbird_handover::Upkeep { group_access, ..nunbird_handover::Upkeep::default() };
    handover.site.unserved = None;
    handover.site.stages.clear();
    let mut without = Vec::new();
    match &mut handover.container {
        Some(container) if matches!(&container.engine, Engine::Named(name) if name == MACHINES) => {
            without.push("the job's machine has gone with it");
            handover.container = None;
        }
        Some(container) => {
            if !container.services.is_empty() {
                without.push("the job's services are not started, because their variables are not kept");
                container.services.clear();
            }
            container.stages = CONTAINER_STAGES.map(str::to_owned).to_vec();
            container.runner_image = None;
        }
        None => {}
    }
    let workspace = handover.workspace.clone();
    let another = kept.job.batch.as_ref().map(|batch| {
        let enter = command(&workspace.data_dir, account, &[&workspace.builds_dir.to_string_lossy()]);
        format!("the job's allocation has ended; after `exit`, {}", allocation(batch, None, &enter))
    });
    without.extend(another.as_deref());
    if workspace.builds_dir != found.path() {
        return Err(Failure::new(format!("{} was moved, or is of another place", shown(&found.path()))));
    }
    let cannot_note = |e: io::Error| {
        Failure::new(format!("cannot write beside {}: {e}", shown(&found.path())))
            .help("free some space there")
    };
    // Before anything of the prompt is there: what a killed one leaves is ended by this.
    kept::note_prompt(lock, Some(&handover)).map_err(cannot_note)?;
    given.copy_files(&builds, &workspace.builds_dir, &workspace.project_dir)?;
    let tell = || {
        say(&format!("this prompt is {}", place_in(handover.container.as_ref())));
        without.iter().for_each(|what| say(&format!("remark: {what}")));
        say(
            "remark: the variables of the job and its project are not set: they may hold secrets, and are not kept",
        );
        say(&format!("{} goes in {}", shown(&found.path()), age(kept.until.saturating_sub(now()))));
    };
    let held = Held { handover: &handover, lock: lock.as_fd() };
    let (status, is_clean) = prompt_in(launcher, held, &given, &values, tell)?;
    if is_clean {
        kept::note_prompt(lock, None).map_err(cannot_note)?;
    }
    status
}

/// The message of a job for a prompt: the same but for its mark, on this host, and of the account as it is now.
fn fresh(of_job: &Handover, account: &Account) -> Result<Handover, Failure> {
    let mut handover = of_job.clone();
    // Its home and its shell decide what a prompt reads first.
    handover.account = account.clone();
    handover.decision_id = decision_id()?;
    handover.expires_at = in_a_month();
    handover.batch = None;
    handover.environment.extend(surroundings::of_allocation());
    if let Some(container) = &mut handover.container {
        container.directory = handover.workspace.data_dir.join("containers").join(&handover.decision_id);
    }
    Ok(handover)
}

fn without_services(handover: &Handover) -> Handover {
    let mut handover = handover.clone();
    let services = handover.container.iter_mut().flat_map(|container| &mut container.services);
    services.for_each(|service| service.variables.clear());
    handover
}

/// Where the prompt is, and how that differs from where the script was.
fn place_of(found: &Kept, record: &Record, handover: &Handover) -> String {
    let container = handover.container.as_ref();
    let mut text = format!("this prompt is {}", place_in(container));
    if container.is_some() {
        text.push_str(": what the job has changed outside of its directory is not in it");
    }
    let digest = container.and_then(surroundings::digest);
    match (&record.digest, &digest) {
        (Some(of_job), Some(now)) if of_job != now => text.push_str(&format!(
            "\nnunbird exec: remark: the image's name means another image by now: {}, and the job had {}",
            Untrusted(now),
            Untrusted(of_job)
        )),
        (Some(_), Some(now)) => text.push_str(&format!("; the image is the job's, {}", Untrusted(now))),
        _ => {}
    }
    if let Some(batch) = &record.handover.batch {
        let path = found.path();
        let enter = command(&handover.workspace.data_dir, &handover.account, &[&path.to_string_lossy()]);
        text.push_str(&format!(
            "\nnunbird exec: remark: the job's allocation has ended; after `exit`, {}",
            allocation(batch, Some(arguments_of(batch)), &enter)
        ));
    }
    text
}

/// Where a prompt is.
fn place_in(container: Option<&Container>) -> String {
    match container.map(|container| &container.image) {
        Some(Some(image)) => format!("in a new container of the image {}", Untrusted(&image.name)),
        Some(None) => "in a new container without an image".to_owned(),
        None => "on this host".to_owned(),
    }
}

/// The scheduler's arguments of a job by hand.
fn arguments_of(batch: &Batch) -> &str {
    batch.arguments.as_ref().map_or("", |arguments| arguments.text.as_str())
}

/// How to have the prompt that the command `enter` opens in an allocation as the job had it, as far as the scheduler has one. After this prompt: it holds
/// the directory. `arguments` are the job's; of a job of GitLab's they are not known, because they may hold values of its variables.
fn allocation(batch: &Batch, arguments: Option<&str>, enter: &str) -> String {
    let name = match &batch.scheduler {
        Scheduler::Named(name) => name.as_str(),
        Scheduler::Described(_) => "",
    };
    // Word by word, as the scheduler has got them: what a shell would run in them stays text.
    let words = arguments.map(shell_words::split).transpose();
    let Ok(words) = words else {
        return format!("in an allocation that you ask the scheduler for: {enter}");
    };
    let (same, arguments) = match words {
        Some(words) => {
            let words = words.iter().map(|word| format!(" {}", printable(word)));
            ("for one of the same size", words.collect())
        }
        None => ("for another one, with the job's SCHEDULER_PARAMETERS as OPTIONS", " OPTIONS".to_owned()),
    };
    match name {
        // salloc(1) alone gives a shell on the host where it is called, on many clusters.
        "slurm" => format!("{same}: salloc{arguments} srun --pty --overlap --nodes=1 --ntasks=1 {enter}"),
        "flux" => format!("{same}: flux alloc{arguments} {enter}"),
        "lsf" => format!("{same}: bsub -Is{arguments} {enter}"),
        "pbs" | "cobalt" => format!("{same}: qsub -I{arguments}, and in it: {enter}"),
        _ => format!("in an allocation that you ask the scheduler for: {enter}"),
    }
}

/// A word for a shell. One with control characters is shown and not meant to be copied.
fn printable(word: &str) -> String {
    Untrusted(&script::quote(word)).to_string()
}

/// The command `nunbird exec enter` with these words for the user to call, in whichever directory that is.
pub(crate) fn command(data_dir: &Path, account: &Account, words: &[&str]) -> String {
    let words: String = words.iter().map(|word| format!(" {}", printable(word))).collect();
    format!("nunbird exec enter{}{words}", elsewhere(data_dir, account))
}

/// The option of the command, where the directory is not the usual one.
fn elsewhere(data_dir: &Path, account: &Account) -> String {
    match data_dir == account.home.join(".nunbird") {
        true => String::new(),
        false => format!(" --directory {}", printable(&data_dir.to_string_lossy())),
    }
}

#[cfg(test)]
mod tests {
    use super::{allocation, arguments_of, printable};
    use nunbird_handover::{Batch, Scheduler, UserText};

    fn of(scheduler: &str, arguments: &str) -> String {
        let mut batch = Batch::new(Scheduler::Named(scheduler.to_owned()), "/d".into());
        batch.arguments =
            Some(UserText { variable: "SCHEDULER_PARAMETERS".to_owned(), text: arguments.to_owned() });
        allocation(&batch, Some(arguments_of(&batch)), "nunbird exec enter 0")
    }

    #[test]
    fn arguments_of_the_job_are_words_of_the_printed_command() {
        assert_eq!(
            of("slurm", "-n 4 --comment='a b'; touch evil $(id)"),
            "for one of the same size: salloc -n 4 '--comment=a b;' touch evil '$(id)' \
             srun --pty --overlap --nodes=1 --ntasks=1 nunbird exec enter 0"
        );
        assert_eq!(
            of("pbs", "-l x=1"),
            "for one of the same size: qsub -I -l x=1, and in it: nunbird exec enter 0"
        );
        for unusable in [of("slurm", "a 'b"), of("htcondor", "a")] {
            assert_eq!(unusable, "in an allocation that you ask the scheduler for: nunbird exec enter 0");
        }
        let batch = Batch::new(Scheduler::Named("slurm".to_owned()), "/d".into());
        assert_eq!(
            allocation(&batch, None, "nunbird exec enter 0"),
            "for another one, with the job's SCHEDULER_PARAMETERS as OPTIONS: salloc OPTIONS \
             srun --pty --overlap --nodes=1 --ntasks=1 nunbird exec enter 0"
        );
        assert_eq!(printable("a\u{1b}[31m").matches('\u{1b}').count(), 0);
    }
}
