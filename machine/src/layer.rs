//! What a machine has over its tree: the account, and the unit that runs the job's stages. It is written into the empty upper layer, before
//! the two are one, so that no link of the tree is followed.

use crate::Trouble;
use crate::account;
use crate::ids::Range;
use nunbird_mounts::open_inside;
use nunbird_order::Machine;
use nunbird_parts::MachineAccount;
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

/// Beside the upper layer: what containers in the machine write.
pub(crate) const CONTAINERS: &str = "containers";
const AGENT: &str = include_str!("agent.sh");
const NESTED: &str = include_str!("nested.sh");
/// The longest file of the tree's user database, in bytes.
const LONGEST: u64 = 4 << 20;
const UNIT: &str = "nunbird-job.service";

struct Layer<'a> {
    upper: &'a Path,
    owner: u32,
}

/// Writes all of it.
pub(crate) fn write(
    upper: &Path,
    tree: &OwnedFd,
    range: &Range,
    machine: &Machine,
    account: &MachineAccount,
) -> Result<(), Trouble> {
    let layer = Layer { upper, owner: range.first };
    let step = Trouble::of("the machine's layer");
    layer.own(upper, 0o755).map_err(&step)?;
    layer.own(&upper.with_file_name(CONTAINERS), 0o755).map_err(&step)?;
    let shell = if open_inside(tree, Path::new("bin/bash")).is_ok() { "/bin/bash" } else { "/bin/sh" };
    let files = [
        ("etc/passwd", account::passwd(&of_tree(tree, "etc/passwd")?, account, shell), 0o644),
        ("etc/group", account::group(&of_tree(tree, "etc/group")?, account), 0o644),
        ("etc/shadow", account::shadow(&of_tree(tree, "etc/shadow")?, account), 0o600),
        ("etc/nunbird-job/agent", AGENT.to_owned(), 0o755),
        ("etc/nunbird-job/nested", NESTED.to_owned(), 0o755),
        (&format!("etc/systemd/system/{UNIT}"), unit(range, machine, account), 0o644),
    ];
    for (name, text, mode) in &files {
        layer.file(name, text.as_bytes(), *mode).map_err(&step)?;
    }
    layer
        .file("etc/nunbird-job/directory", machine.directory.as_os_str().as_bytes(), 0o644)
        .map_err(&step)?;
    // What a service's unit has below `[Install]`, done.
    let wants = layer.directory(Path::new("etc/systemd/system/multi-user.target.wants")).map_err(&step)?;
    symlink(format!("../{UNIT}"), wants.join(UNIT)).map_err(&step)
}

/// The unit. Nothing secret is in it: scripts come through FIFOs.
fn unit(range: &Range, machine: &Machine, account: &MachineAccount) -> String {
    // By its number: a name could be one that systemd takes for something else.
    let user = if machine.root { 0 } else { account.ids.uid };
    // By root of the machine, for which the tree's links are its own affair.
    let before = match machine.nested {
        true => {
            let network = if machine.host_network { "host" } else { "private" };
            format!("ExecStartPre=-+/bin/sh /etc/nunbird-job/nested {user} {} {network}\n", range.accounts)
        }
        false => String::new(),
    };
    format!(
        "[Unit]\nDescription=Stages of the CI job\n\n[Service]\nUser={user}\n{before}ExecStart=/bin/sh /etc/nunbird-job/agent\nDelegate=yes\n\
         RuntimeDirectory=nunbird-job\nRuntimeDirectoryMode=0700\nTasksMax=infinity\nOOMPolicy=continue\nTimeoutStopSec=5\n"
    )
}

/// A text file of the tree; nothing where there is none.
fn of_tree(tree: &OwnedFd, name: &str) -> Result<String, Trouble> {
    let step = |e| Trouble::of(&format!("{name} of the tree"))(e);
    let file = match open_inside(tree, Path::new(name)) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(String::new()),
        other => other.map_err(step)?,
    };
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).map_err(step)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Layer<'_> {
    fn own(&self, path: &Path, mode: u32) -> std::io::Result<()> {
        chown(path, Some(self.owner), Some(self.owner))?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }

    /// A directory with all that are missing on the way to it.
    fn directory(&self, name: &Path) -> std::io::Result<PathBuf> {
        let mut path = self.upper.to_path_buf();
        for part in name.components() {
            path.push(part);
            match DirBuilder::new().mode(0o755).create(&path) {
                Ok(()) => self.own(&path, 0o755)?,
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Ok(path)
    }

    fn file(&self, name: &str, bytes: &[u8], mode: u32) -> std::io::Result<()> {
        let name = Path::new(name);
        self.directory(name.parent().unwrap_or(Path::new("")))?;
        let path = self.upper.join(name);
        let mut file = File::options().write(true).create_new(true).mode(mode).open(&path)?;
        file.write_all(bytes)?;
        self.own(&path, mode)
    }
}
