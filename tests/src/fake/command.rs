//! One command of a scheduler: the caller, injected faults, and the output.

use super::queue::{Job, MomRequest, Queue};
use super::{Dialect, cobalt, flux, gridengine, htcondor, lsf, mom, pbs};
use nix::unistd::{User, getuid};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// A running command.
pub(super) struct Call {
    pub(super) queue: Queue,
    pub(super) me: User,
    pub(super) arguments: Vec<String>,
    moms: Vec<u64>,
}

/// Its output.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) out: String,
    pub(super) err: String,
    pub(super) code: u8,
}

impl Said {
    pub(super) fn out(text: impl Into<String>) -> Said {
        Said { out: text.into(), ..Said::default() }
    }

    pub(super) fn error(code: u8, text: impl Into<String>) -> Said {
        Said { err: text.into() + "\n", code, ..Said::default() }
    }
}

/// The program: `DIALECT QUEUE COMMAND ARGUMENTS…`.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let mut next = || arguments.next().unwrap_or_default();
    let (dialect, at, command) = (next(), PathBuf::from(next()), next());
    let Some(dialect) = Dialect::ALL.into_iter().find(|known| known.name() == dialect) else {
        eprintln!("usage: nbt-fake-scheduler DIALECT QUEUE COMMAND [ARGUMENT…]");
        return ExitCode::from(2);
    };
    let result = match command.as_str() {
        "mom" => mom::main(dialect, &at, next().parse().unwrap_or(0)).map(|()| Said::default()),
        _ => run(dialect, &at, &command, arguments.collect()),
    };
    let said = result.unwrap_or_else(|e| Said::error(99, format!("the fake itself failed: {command}: {e}")));
    print!("{}", said.out);
    eprint!("{}", said.err);
    ExitCode::from(said.code)
}

fn run(dialect: Dialect, at: &Path, command: &str, arguments: Vec<String>) -> io::Result<Said> {
    let fault = |name: &str| std::fs::read_to_string(at.join("faults").join(name)).ok();
    if let Some(seconds) = fault("slow") {
        std::thread::sleep(Duration::from_secs(seconds.trim().parse().unwrap_or(0)));
    }
    let submits = matches!(command, "qsub" | "bsub" | "condor_submit")
        || arguments.first().is_some_and(|word| word == "batch" || word == "submit");
    if fault("down").is_some() {
        return Ok(unreachable(dialect, command, arguments.first().map_or("", String::as_str)));
    }
    if fault("nonsense").is_some() && !submits {
        return Ok(Said::out("*** System maintenance tonight, 20:00 ***\nJob 1 COMPLETED 0 F DONE 4\n"));
    }
    let me = User::from_uid(getuid())?.ok_or_else(|| io::Error::other("no account"))?;
    let mut call = Call { queue: Queue::open(at)?, me, arguments, moms: Vec::new() };
    let said = match dialect {
        Dialect::Pbs => pbs::run(&mut call, command),
        Dialect::Lsf => lsf::run(&mut call, command),
        Dialect::Flux => flux::run(&mut call),
        Dialect::Cobalt => cobalt::run(&mut call, command),
        Dialect::HtCondor => htcondor::run(&mut call, command),
        Dialect::GridEngine => gridengine::run(&mut call, command),
    }?;
    let moms = std::mem::take(&mut call.moms);
    // The lock is released first.
    drop(call);
    for number in moms {
        let program = std::env::current_exe()?;
        let mut mom = Command::new(program);
        mom.arg(dialect.name()).arg(at).arg("mom").arg(number.to_string()).env_clear().current_dir("/");
        mom.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    }
    Ok(said)
}

/// What each command prints if the scheduler is unreachable.
fn unreachable(dialect: Dialect, command: &str, first: &str) -> Said {
    let text = match (dialect, command) {
        (Dialect::Pbs, "qstat") => {
            return Said::error(255, "Connection refused\nqstat: cannot connect to server pbshost (errno=15010)");
        }
        (Dialect::Pbs, "qdel" | "qsig") => {
            return Said::error(162, "Connection refused\nCouldn't connect to cluster: pbshost");
        }
        (Dialect::Pbs, command) => {
            return Said::error(162, format!("Connection refused\n{command}: cannot connect to server pbshost (errno=15010)"));
        }
        (Dialect::Lsf, "bsub") => return Said::error(255, "Batch daemon not responding. Job not submitted."),
        (Dialect::Lsf, _) => return Said::error(255, "LSF is down. Please wait ..."),
        (Dialect::Flux, _) => {
            format!("flux-{first}: ERROR: Unable to connect to Flux: broker socket /run/flux/local was not found")
        }
        (Dialect::Cobalt, command) => format!("{command}: Failed to connect to system component: connection refused"),
        (Dialect::HtCondor, "condor_submit") => {
            "\nERROR: Failed to connect to local queue manager\nSECMAN:2007:Failed to end classad message.".to_owned()
        }
        (Dialect::HtCondor, "condor_q") => {
            "\n-- Failed to fetch ads from: <10.99.0.31:9618?addrs=10.99.0.31-9618&alias=condorhost&noUDP&sock=schedd_34_36b7> : condorhost\n\
             SECMAN:2007:Failed to end classad message."
                .to_owned()
        }
        (Dialect::HtCondor, _) => "Couldn't find/remove all jobs".to_owned(),
        (Dialect::GridEngine, "qsub") => {
            "Unable to run job: unable to send message to qmaster using port 6444 on host \"sgehost\": got send error\nExiting."
                .to_owned()
        }
        (Dialect::GridEngine, _) => {
            "error: commlib error: got select error (Connection refused)\nerror: unable to send message to qmaster using \
             port 6444 on host \"sgehost\": got send error"
                .to_owned()
        }
    };
    Said::error(1, text)
}

impl Call {
    pub(super) fn stdin(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// A new job of the caller's.
    pub(super) fn new_job(&self) -> io::Result<Job> {
        Ok(Job::new(self.queue.number()?, &self.me.name, self.me.uid.as_raw()))
    }

    /// Submits it: its script is copied, as all schedulers do, and its program is the copy behind `interpreter`.
    pub(super) fn submit(&mut self, mut job: Job, interpreter: &str, script: &[u8]) -> io::Result<()> {
        let copy = self.queue.directory(job.number).join("script");
        job.program = vec![interpreter.to_owned(), copy.display().to_string()];
        self.add(&job, Some(script))
    }

    /// Submits a job that already has its program.
    pub(super) fn add(&mut self, job: &Job, script: Option<&[u8]>) -> io::Result<()> {
        self.queue.add(job, script)?;
        self.moms.push(job.number);
        Ok(())
    }

    /// Whether the caller may do something to a job.
    pub(super) fn may(&self, job: &Job) -> bool {
        job.uid == self.me.uid.as_raw() || self.me.uid.is_root()
    }

    /// Cancels one.
    pub(super) fn cancel(&self, job: &Job, force: bool) -> io::Result<()> {
        let by = self.me.uid.as_raw();
        self.queue.request(job.number, if force { MomRequest::Kill(by) } else { MomRequest::Cancel(by) })
    }

    pub(super) fn home(&self) -> String {
        self.me.dir.display().to_string()
    }

    /// An environment as after a login, which is what most schedulers give.
    pub(super) fn login(&self) -> Vec<(String, String)> {
        [
            ("HOME", self.home()),
            ("LOGNAME", self.me.name.clone()),
            ("USER", self.me.name.clone()),
            ("SHELL", self.me.shell.display().to_string()),
            ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

/// The environment of the command, which some schedulers pass on.
pub(super) fn inherited() -> impl Iterator<Item = (String, String)> {
    let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

/// A file that stands for a job's script, or the reason why it cannot be read.
pub(super) fn script(path: &str) -> Result<Vec<u8>, io::Error> {
    std::fs::read(path)
}
