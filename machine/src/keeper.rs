//! The process that keeps a machine: its mount namespace has the machine's file systems, and systemd-nspawn is its child. When it ends, the
//! kernel ends systemd-nspawn; the machine itself ends with its control groups.

use crate::counts::{self, Setter, Shares};
use crate::ids::Range;
use crate::places::MOUNTS;
use crate::state::{Note, machine_name};
use crate::tree::Tree;
use crate::{Trouble, account, groups, layer};
use nunbird_files::identity::{Caller, acting_as};
use nunbird_mounts::{self as mounts, Allows, Leader};
use nunbird_order::{Machine, MachineBind};
use nunbird_parts::{MachineAccount, MachineAnswer};
use nunbird_started::process::outlive_parent;
use nunbird_sys::fork::{Child, fork_into};
use nunbird_sys::kernel::{Kernel, Linux};
use nunbird_sys::{exec, process, signals};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io::{self, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How much of the console is kept, in bytes.
const CONSOLE: usize = 4096;
/// Of so many bytes of its layer one machine can have a file.
const PAGE: u64 = 4096;
/// The fewest files that a machine's layer has room for.
const LEAST_INODES: u64 = 4096;
/// Between two looks at whether it has ended.
const GLANCE: Duration = Duration::from_millis(20);

/// All that a machine is made from.
pub(crate) struct Kept<'a> {
    pub(crate) decision: &'a str,
    pub(crate) machine: Machine,
    /// Seconds until it has to be ready.
    pub(crate) ready: u64,
    pub(crate) account: MachineAccount,
    pub(crate) note: Note,
    pub(crate) range: Range,
    pub(crate) shares: Shares,
    pub(crate) tree: Tree,
    pub(crate) program: File,
}

/// A bind that is in its place: its path for systemd-nspawn, and the target.
struct Placed {
    path: PathBuf,
    bind: MachineBind,
}

/// Makes the machine, answers, and stays as long as it runs.
pub(crate) fn keep(
    mut kept: Kept<'_>,
    parent: i32,
    answer: impl FnOnce(MachineAnswer) -> io::Result<()>,
) -> io::Result<()> {
    // Until it has answered, it ends with the process that would have heard it.
    process::die_with_parent(signals::KILL, parent)?;
    process::new_session()?;
    let console = Console::default();
    let began = Instant::now();
    match boot(&mut kept, parent, &console) {
        Ok((child, leader)) => {
            let note = format!(
                "the machine runs {}, version {}; it was ready after {:.2} s",
                kept.machine.tree,
                kept.tree.version,
                began.elapsed().as_secs_f64()
            );
            // First of all: who has heard the answer ends, and this process must not end with it.
            let answered = outlive_parent().and_then(|()| answer(MachineAnswer::Started(note)));
            if answered.is_err() {
                // No process waits for the machine. Its first process outlives systemd-nspawn.
                let _already_gone = leader.kill();
                let _already_gone = child.signal(signals::KILL);
            }
            child.wait().and(answered)
        }
        Err(trouble) => {
            let console = if trouble.console.is_empty() { console.text() } else { trouble.console };
            answer(MachineAnswer::Trouble(trouble.why, console))
        }
    }
}

/// Returns systemd-nspawn and the machine's first process.
fn boot(kept: &mut Kept<'_>, parent: i32, console: &Console) -> Result<(Child, Leader), Trouble> {
    let short = kept.decision.get(..16).unwrap_or(kept.decision);
    let own = groups::own(&format!("nunbird-machine-{short}"))?;
    kept.note.write(&own).map_err(Trouble::of("the machine's note"))?;
    // Step N5.
    groups::enter(&own)?;
    // Step N6.
    mounts::own_namespace().map_err(Trouble::of("a mount namespace"))?;
    let placed = mount(kept)?;
    // Again: to open files as the user has changed ids, which takes it back (PR_SET_PDEATHSIG(2const)).
    process::die_with_parent(signals::KILL, parent).map_err(Trouble::of("the parent of the keeper"))?;
    let socket = Path::new(MOUNTS).join("notify");
    let notified = UnixDatagram::bind(&socket).map_err(Trouble::of("a socket"))?;
    let (read, write) = io::pipe().map_err(Trouble::of("pipe"))?;
    let words = words(kept, &machine_name(kept.decision), &placed);
    let environment = [
        c"PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        c"LC_ALL=C".to_owned(),
        // Its /tmp is a part of the layer, not a file system beside it.
        c"SYSTEMD_NSPAWN_TMPFS_TMP=0".to_owned(),
        // A lock of its own on the tree is a file that a killed one leaves behind.
        c"SYSTEMD_NSPAWN_LOCK=0".to_owned(),
        c_word(format!("NOTIFY_SOCKET={}", socket.display())),
    ];
    let keeper = process::id();
    let program = &kept.program;
    // Step N10.
    let child = fork_into(|| match become_nspawn(program, &write, &words, &environment, keeper) {
        Ok(never) => match never {},
        Err(_) => 1,
    });
    let child = child.map_err(Trouble::of("fork"))?;
    drop(write);
    let setter = Setter::fork(&kept.shares).map_err(Trouble::of("fork"))?;
    // A job that fills its memory ends its own processes. The fork is before this: what inherits a low score may take it back at any time.
    spare("self");
    console.follow(read);
    let ready = wait(&child, &notified, kept.ready, console);
    // Step N11.
    let verified = ready.and_then(|leader| {
        // By its directory from here on: a tree whose first process has ended at once must not have another process in its place.
        let leader = Leader::open(leader, child.pid()).map_err(Trouble::of("the machine's first process"))?;
        groups::verify(&leader.name()).and_then(|()| setter.set(&leader)).inspect_err(|_| {
            // It may be in none of the groups that are emptied.
            let _already_gone = leader.kill();
        })?;
        Ok(leader)
    });
    spare(&child.pid().to_string());
    match verified {
        Ok(leader) => Ok((child, leader)),
        Err(trouble) => {
            let _already_gone = child.signal(signals::KILL);
            let _reaped = child.wait();
            Err(trouble)
        }
    }
}

/// Keeps a process from the out-of-memory killer. Where that cannot be, as in a container of the host's, the machine is ended by its note.
fn spare(process: &str) {
    let _not_here = fs::write(format!("/proc/{process}/oom_score_adj"), "-1000");
}

/// Mounts the tree with its throw-away layer, and what of the host is in it.
fn mount(kept: &Kept<'_>) -> Result<Vec<Placed>, Trouble> {
    let at = |name: &str| Path::new(MOUNTS).join(name);
    let step = |name: &'static str| move |e: io::Error| Trouble::new(format!("{name}: {e}"));
    let layer = kept.machine.layer;
    // An empty file costs memory, too, as much as a quarter of a page.
    let inodes = (layer / PAGE).max(LEAST_INODES);
    mounts::make("tmpfs", Path::new(MOUNTS), &format!("size={layer},nr_inodes={inodes},mode=0755"))
        .map_err(step("the machine's layer"))?;
    for name in ["tree", "upper", "work", "root", "binds", "proc", "sys", layer::CONTAINERS] {
        fs::create_dir(at(name)).map_err(step("the machine's layer"))?;
    }
    // The kernel makes these two in a user namespace only where whole ones are in sight.
    mounts::make("proc", &at("proc"), "").map_err(step("proc"))?;
    mounts::make("sysfs", &at("sys"), "").map_err(step("sysfs"))?;
    // Step N7.
    let all = account::of_tree(&kept.range);
    let users = mounts::user_namespace(&all, &all).map_err(step("a user namespace"))?;
    let directory = kept.tree.directory()?;
    let tree = mounts::mapped(&directory, &users, Allows { writing: false, setuid: true })
        .map_err(|e| unmapped(Path::new(crate::places::TREES), &e))?;
    mounts::place(&tree, &at("tree")).map_err(step("the tree"))?;
    // Step N8.
    layer::write(&at("upper"), &directory, &kept.range, &kept.machine, &kept.account)?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        at("tree").display(),
        at("upper").display(),
        at("work").display()
    );
    mounts::make("overlay", &at("root"), &options).map_err(step("overlay"))?;
    // Step N9.
    let (uids, gids) = account::of_binds(&kept.range, &kept.machine, &kept.account);
    let users = mounts::user_namespace(&uids, &gids).map_err(step("a user namespace"))?;
    let mut placed = Vec::new();
    for bind in &kept.machine.binds {
        let source = match open_as_user(&bind.source, &kept.account) {
            Err(e) if bind.optional && e.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(|e| {
                Trouble::new(format!("{} cannot be opened as the job's user: {e}", bind.source.display()))
            })?,
        };
        let path = at("binds").join(placed.len().to_string());
        let kind =
            File::from(source.try_clone().map_err(step("a bind"))?).metadata().map_err(step("a bind"))?;
        let made = if kind.is_dir() { fs::create_dir(&path) } else { File::create(&path).map(drop) };
        made.map_err(step("a bind"))?;
        let allows = Allows { writing: bind.writable, setuid: false };
        let mapped = mounts::mapped(&source, &users, allows).map_err(|e| unmapped(&bind.source, &e))?;
        mounts::place(&mapped, &path).map_err(step("a bind"))?;
        placed.push(Placed { path, bind: bind.clone() });
    }
    Ok(placed)
}

fn unmapped(path: &Path, error: &io::Error) -> Trouble {
    Trouble::new(format!(
        "{} cannot be in a machine: its file system or this kernel gives files no other owners (mount_setattr(2): {error}); use one on a \
         local file system (ext4, xfs, btrfs), with Linux 5.19 or later",
        path.display()
    ))
}

/// What the user could not open is in no machine of theirs. The capabilities stay root's, which would open what links of /proc lead to.
fn open_as_user(path: &Path, account: &MachineAccount) -> io::Result<OwnedFd> {
    Linux.set_groups(&account.groups)?;
    let ids = Caller { uid: account.ids.uid, gid: account.ids.gid };
    let opened = acting_as(ids, || mounts::find(path)).flatten();
    Linux.set_groups(&[])?;
    opened
}

fn words(kept: &Kept<'_>, name: &str, placed: &[Placed]) -> Vec<CString> {
    let (machine, range) = (&kept.machine, &kept.range);
    let mut words: Vec<OsString> = [
        "systemd-nspawn",
        "--quiet",
        "--settings=no",
        "--boot",
        "--notify-ready=yes",
        "--register=no",
        // Without it the machine would be in a unit of its own, and no limit of the job would bind.
        "--keep-unit",
        "--link-journal=no",
        "--timezone=off",
        "--console=read-only",
        // No machine needs it: it lifts limits of the kernel's.
        "--drop-capability=CAP_SYS_RESOURCE",
    ]
    .map(OsString::from)
    .to_vec();
    words.push(format!("--directory={MOUNTS}/root").into());
    words.push(format!("--machine={name}").into());
    words.push(format!("--private-users={}:{}", range.first, range.size).into());
    // In place of the kernel's first ones, which systemd-nspawn gives a machine.
    words.push(format!("--rlimit=SIGPENDING={}", kept.shares.signals).into());
    if machine.host_network {
        words.push("--resolv-conf=copy-host".into());
    } else {
        words.extend(["--private-network", "--resolv-conf=off"].map(OsString::from));
    }
    // Podman's own layers cannot lie on the machine's, but on the same tmpfs, within its bounds.
    let containers = format!("--bind={MOUNTS}/{}:/var/lib/nunbird-job", layer::CONTAINERS);
    let asked = [(machine.suppress_sync, "--suppress-sync=yes"), (machine.nested, &containers)];
    words.extend(asked.iter().filter(|(is_asked, _)| *is_asked).map(|(_, word)| word.into()));
    for Placed { path, bind } in placed {
        let option = if bind.writable { "--bind=" } else { "--bind-ro=" };
        let target = escaped(bind.target.as_os_str().as_bytes());
        words.push(OsString::from_vec(
            [option.as_bytes(), path.as_os_str().as_bytes(), b":", &target].concat(),
        ));
    }
    words.into_iter().map(c_word).collect()
}

/// A path as systemd-nspawn reads it between colons.
fn escaped(path: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for byte in path {
        if matches!(byte, b':' | b'\\') {
            text.push(b'\\');
        }
        text.push(*byte);
    }
    text
}

/// No word has a NUL: the order's texts have none.
fn c_word(word: impl Into<OsString>) -> CString {
    CString::new(word.into().into_vec()).unwrap_or_default()
}

fn become_nspawn(
    program: &File,
    console: &io::PipeWriter,
    words: &[CString],
    environment: &[CString],
    keeper: i32,
) -> io::Result<Infallible> {
    process::die_with_parent(signals::KILL, keeper)?;
    process::null_stdin()?;
    exec::outputs_to(console, console)?;
    exec::place(&[])?;
    process::set_umask(0o022);
    process::default_signals()?;
    counts::leave_half_to_the_host()?;
    exec::execute(program, words, environment)
}

/// Waits until the machine says that it is ready; returns its first process.
fn wait(child: &Child, notified: &UnixDatagram, seconds: u64, console: &Console) -> Result<i32, Trouble> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    notified.set_read_timeout(Some(GLANCE)).map_err(Trouble::of("a socket"))?;
    let (mut leader, mut ready) = (None, false);
    loop {
        let mut bytes = [0; 4096];
        if let Ok(length) = notified.recv(&mut bytes) {
            let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned();
            for line in text.lines() {
                ready |= line == "READY=1";
                leader = line.strip_prefix("X_NSPAWN_LEADER_PID=").and_then(|n| n.parse().ok()).or(leader);
            }
        }
        match leader.filter(|leader| ready && *leader > 1) {
            Some(leader) => return Ok(leader),
            None if child.is_over() => {
                return Err(console.trouble("the machine has ended before it was ready"));
            }
            None if Instant::now() >= deadline => {
                return Err(console.trouble(&format!("the machine was not ready after {seconds} s")));
            }
            None => {}
        }
    }
}

/// The end of what the machine writes to its console, which is read as long as it runs.
#[derive(Debug, Default, Clone)]
struct Console(Arc<Mutex<VecDeque<u8>>>);

impl Console {
    fn follow(&self, mut pipe: PipeReader) {
        let kept = self.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; CONSOLE];
            while let Ok(length @ 1..) = pipe.read(&mut bytes) {
                let mut kept = kept.0.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(bytes.get(..length).unwrap_or_default());
                let over = kept.len().saturating_sub(CONSOLE);
                kept.drain(..over);
            }
        });
    }

    fn text(&self) -> String {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(kept.make_contiguous()).into_owned()
    }

    fn trouble(&self, why: &str) -> Trouble {
        // What it has just written is on its way.
        std::thread::sleep(GLANCE);
        Trouble { why: why.to_owned(), console: self.text() }
    }
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn a_colon_in_a_path_is_no_end_of_it() {
        assert_eq!(escaped(br"/a:b\c"), br"/a\:b\\c");
    }
}
