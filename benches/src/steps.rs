//! `nunbird-benches steps OUT PROGRAM …`: runs a program below ptrace(2) and writes down what each of its processes does.
//!
//! No counter of the processor is needed: with `NBT_STEPS` a process is stopped after each instruction, which is counted for the file that it
//! lies in. Three of Nunbird's processes have only seconds, and are not slowed down: decider, verifier, and `nunbird-keys`. Without
//! `NBT_STEPS` a process runs as it is, and its page faults are read at its end. A string instruction that repeats is one instruction.

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::process::{Command, ExitCode};

/// A process that has been forked and has not become a program yet.
pub(crate) const FORKED: &str = "children before their program";

/// What a process with these arguments is called.
pub(crate) fn program(words: &[&str]) -> String {
    let name = words.first().map_or("", |word| word.rsplit('/').next().unwrap_or(""));
    if words.get(1) == Some(&"verify") { format!("{name} verify") } else { name.to_owned() }
}

/// A program in a process.
#[derive(Default)]
struct Life {
    name: String,
    /// By the file that they lie in.
    instructions: BTreeMap<String, u64>,
    /// By the address in the program's own file, for its names.
    own: HashMap<u64, u64>,
    faults: u64,
}

/// A process that lives.
#[derive(Default)]
struct Traced {
    life: usize,
    /// Whether it is stopped after each instruction.
    slow: bool,
    last: u64,
    maps: Vec<(u64, u64, u64, String)>,
    faults_before: u64,
}

struct Tracer {
    steps: bool,
    lives: Vec<Life>,
    traced: HashMap<Pid, Traced>,
    /// Children whose first stop came before their parent's word of them: they wait for it.
    waiting: HashSet<Pid>,
}

/// Runs it, and writes the table to the first of the words.
pub(crate) fn main(words: &[OsString]) -> ExitCode {
    let [out, program @ ..] = words else { return ExitCode::from(2) };
    // It stops itself, is seized, and becomes the program.
    let mut child = Command::new("/bin/sh")
        .args(["-c", "kill -STOP $$; exec \"$@\"", "sh"])
        .args(program)
        .spawn()
        .expect("a shell");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).expect("the shell");
    assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
    let options = Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACEEXIT;
    ptrace::seize(pid, options).expect("ptrace");
    let steps = std::env::var_os("NBT_STEPS").is_some();
    let mut tracer =
        Tracer { steps, lives: vec![Life::default()], traced: HashMap::new(), waiting: HashSet::new() };
    tracer.traced.insert(pid, Traced::default());
    kill(pid, Signal::SIGCONT).expect("the shell goes on");
    let code = tracer.follow(pid);
    // It has been waited for.
    let _gone = child.try_wait();
    fs::write(out, tracer.table()).expect("the table");
    ExitCode::from(code)
}

impl Tracer {
    /// Until the last process has ended; the exit code of the first.
    fn follow(&mut self, first: Pid) -> u8 {
        let mut code = 255;
        loop {
            let status = match waitpid(None::<Pid>, Some(WaitPidFlag::__WALL)) {
                Ok(status) => status,
                Err(_) => return code,
            };
            match status {
                WaitStatus::Exited(pid, status) => {
                    if pid == first {
                        code = u8::try_from(status).unwrap_or(255);
                    }
                    self.traced.remove(&pid);
                }
                WaitStatus::Signaled(pid, ..) => drop(self.traced.remove(&pid)),
                WaitStatus::Stopped(pid, Signal::SIGTRAP) => {
                    self.count(pid);
                    self.resume(pid, None);
                }
                WaitStatus::Stopped(pid, signal) => self.resume(pid, Some(signal)),
                WaitStatus::PtraceEvent(pid, ..) if !self.traced.contains_key(&pid) => {
                    self.waiting.insert(pid);
                }
                WaitStatus::PtraceEvent(pid, _, event) => {
                    self.event(pid, event);
                    self.resume(pid, None);
                }
                _ => {}
            }
        }
    }

    fn event(&mut self, pid: Pid, event: i32) {
        use nix::libc::{
            PTRACE_EVENT_CLONE, PTRACE_EVENT_EXEC, PTRACE_EVENT_EXIT, PTRACE_EVENT_FORK, PTRACE_EVENT_VFORK,
        };
        match event {
            PTRACE_EVENT_FORK | PTRACE_EVENT_VFORK | PTRACE_EVENT_CLONE => {
                let Ok(child) = ptrace::getevent(pid) else { return };
                let child = Pid::from_raw(i32::try_from(child).expect("a pid"));
                let parent = self.traced.get(&pid);
                let slow = parent.is_some_and(|parent| parent.slow);
                let maps = parent.map_or_else(Vec::new, |parent| parent.maps.clone());
                self.lives.push(Life { name: FORKED.to_owned(), ..Life::default() });
                let life = self.lives.len() - 1;
                self.traced.insert(child, Traced { life, slow, maps, ..Traced::default() });
                if self.waiting.remove(&child) {
                    self.resume(child, None);
                }
            }
            PTRACE_EVENT_EXEC => {
                let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let words = String::from_utf8_lossy(&words);
                let name = program(&words.split('\0').collect::<Vec<_>>());
                self.end_life(pid);
                let hurried = name.starts_with("nunbird-decide") || name == "nunbird-keys";
                self.lives.push(Life { name, ..Life::default() });
                let life = self.lives.len() - 1;
                let faults_before = faults(pid);
                let slow = self.steps && !hurried;
                self.traced.insert(pid, Traced { life, slow, faults_before, ..Traced::default() });
            }
            PTRACE_EVENT_EXIT => self.end_life(pid),
            _ => {}
        }
    }

    fn end_life(&mut self, pid: Pid) {
        if let Some(traced) = self.traced.get(&pid) {
            self.lives[traced.life].faults += faults(pid).saturating_sub(traced.faults_before);
        }
    }

    fn count(&mut self, pid: Pid) {
        let Some(traced) = self.traced.get_mut(&pid).filter(|traced| traced.slow) else { return };
        let Ok(registers) = ptrace::getregs(pid) else { return };
        let at = registers.rip;
        if at == traced.last {
            return;
        }
        traced.last = at;
        let place = |maps: &[(u64, u64, u64, String)]| {
            let found = maps.iter().find(|(start, end, ..)| (*start..*end).contains(&at));
            found.map(|(start, _, offset, file)| (at - start + offset, file.clone()))
        };
        let mut known = place(&traced.maps);
        if known.is_none() {
            traced.maps = maps(pid);
            known = place(&traced.maps);
        }
        let (offset, file) = known.unwrap_or_default();
        let life = &mut self.lives[traced.life];
        if file.contains("nunbird") {
            *life.own.entry(offset).or_default() += 1;
        }
        *life.instructions.entry(file).or_default() += 1;
    }

    fn resume(&self, pid: Pid, signal: Option<Signal>) {
        // One that was killed meanwhile is reported by waitpid(2).
        let _killed = match self.traced.get(&pid) {
            Some(traced) if traced.slow => ptrace::step(pid, signal),
            _ => ptrace::cont(pid, signal),
        };
    }

    /// `name<TAB>faults<TAB>file<TAB>instructions`, a line for each file of each process; `@<TAB>name<TAB>offset<TAB>instructions` for
    /// the program's own file.
    fn table(&self) -> String {
        let mut text = String::new();
        for life in self.lives.iter().filter(|life| !life.name.is_empty()) {
            let of_none = BTreeMap::from([(String::new(), 0)]);
            let all = if life.instructions.is_empty() { &of_none } else { &life.instructions };
            for (file, count) in all {
                // Writing into a String does not fail.
                let _ = writeln!(text, "{}\t{}\t{file}\t{count}", life.name, life.faults);
            }
            for (offset, count) in &life.own {
                let _ = writeln!(text, "@\t{}\t{offset}\t{count}", life.name);
            }
        }
        text
    }
}

/// Minor page faults so far.
fn faults(pid: Pid) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind = stat.rsplit(')').next().unwrap_or("");
    behind.split_whitespace().nth(7).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// Executable parts: start, end, offset, name of the file.
fn maps(pid: Pid) -> Vec<(u64, u64, u64, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let number = |word: &str| u64::from_str_radix(word, 16).ok();
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        words.next().filter(|mode| mode.contains('x'))?;
        let offset = number(words.next()?)?;
        let name = words.nth(2).unwrap_or("").rsplit('/').next().unwrap_or("").to_owned();
        Some((number(start)?, number(end)?, offset, name))
    };
    text.lines().filter_map(line).collect()
}
