//! A machine of another architecture, by QEMU's software emulation: Debian's kernel of that architecture with its filters of system
//! calls, and a minimal Debian as its root file system, which lies in memory. It runs one script as process 1 and ends.
//!
//! User-mode emulation does not do for whole jobs: its emulator has a thread of its own, and a process with two threads must not fork
//! with privilege (`sys/src/fork.rs`); and it has no filters of system calls, without which decider and verifier do not start.

use super::tree::write;
use crate::tree::{must, unpacked};
use crate::world::World;
use crate::world::enter::{Ids, Spec};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// What gitlab-runner's host has, and rpm(8) and dpkg(1) with all that scripts of packages call.
const PACKAGES: &str = "base-files,base-passwd,bash,coreutils,dash,diffutils,dpkg,findutils,grep,gzip,hostname,init-system-helpers,\
    libc-bin,libcap2-bin,libgcc-s1,libpam-modules,libpam0g,login,mawk,mount,passwd,perl-base,rpm,sed,tar,util-linux";

/// What scripts of these packages would have done for the few programs that are called here.
const FINISH: &str = r#"
ln -sf dash "$1/bin/sh"
ln -sf mawk "$1/usr/bin/awk"
cp "$1/usr/share/base-passwd/passwd.master" "$1/etc/passwd"
cp "$1/usr/share/base-passwd/group.master" "$1/etc/group"
install -m 600 /dev/null "$1/etc/shadow"
mkdir -p "$1/etc/nunbird" "$1/var/log" "$1/var/tmp" "$1/home" "$1/packages"
mv "$1"/boot/vmlinu?-* "$1/boot/kernel"
"#;

const INIT: &str = "#!/bin/sh\nexport PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8\n\
    mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev\n\
    ln -s /proc/self/fd /dev/fd\n\
    bash /payload.sh </dev/null\necho \"NBT-EXIT $?\"\nsync\necho o >/proc/sysrq-trigger\nsleep 60\n";

/// How long a boot with its script may take. Two minutes are usual on a machine that does other things.
const PATIENCE: &str = "900";

/// An architecture that can be emulated.
#[derive(Debug, Clone, Copy)]
pub struct Architecture {
    /// Debian's name.
    pub debian: &'static str,
    kernel: &'static str,
    qemu: &'static str,
    console: &'static str,
}

/// ARM of 64 bits.
pub const AARCH64: Architecture = Architecture {
    debian: "arm64",
    kernel: "linux-image-cloud-arm64",
    // Without pointer authentication, whose emulation takes more time than all else.
    qemu: "qemu-system-aarch64 -M virt -cpu cortex-a72",
    console: "ttyAMA0",
};

/// POWER of 64 bits, the lower byte first.
pub const PPC64LE: Architecture = Architecture {
    debian: "ppc64el",
    kernel: "linux-image-powerpc64le",
    qemu: "qemu-system-ppc64 -M pseries -cpu POWER9",
    console: "hvc0",
};

/// A machine that has not started yet.
#[derive(Debug)]
pub struct Emulated {
    world: World,
    architecture: Architecture,
}

impl Emulated {
    /// A machine with a [`Host`](super::Host)'s accounts, Nunbird's configuration and signing keys, and without Nunbird.
    ///
    /// # Panics
    /// Without root, mmdebstrap or a mirror that serves the architecture.
    pub fn new(architecture: Architecture) -> Self {
        let packages = format!("{PACKAGES},{}", architecture.kernel);
        let cached = unpacked("emulated", architecture.debian, &packages, FINISH);
        let make = |to: &Path| {
            must(Command::new("cp").args(["-a", "--reflink=auto"]).arg(cached).arg(to));
            write(&to.join("init"), INIT, 0o755);
            fs::create_dir_all(to.join("var/lib/nunbird/keys")).expect("directories");
        };
        let world = World::in_tree(make, |_| {});
        // Without a network no server can be asked.
        world.reconfigure("audience =", "user_check = \"off\"\naudience =");
        world.write_keys();
        Emulated { world, architecture }
    }

    /// The accounts, the configuration and the GitLab server. The machine does not follow what is written here after its start.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Boots, runs a bash script as root, and returns what it wrote.
    ///
    /// # Panics
    /// When the script does not end with 0.
    pub fn run(&self, script: &str) -> String {
        let (root, tree) = (self.world.root(), self.world.host_path("/"));
        // The runner's directories have the same path in the machine.
        let shared = tree.join(self.world.runner_directory().strip_prefix("/").expect("an absolute path"));
        fs::create_dir_all(shared.parent().expect("a parent")).expect("directories");
        must(Command::new("cp").arg("-a").arg(self.world.runner_directory()).arg(&shared));
        fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
        write(&tree.join("payload.sh"), script, 0o644);
        let pack = "cd \"$1\" && find . -path ./boot -prune -o -print | cpio --quiet -o -H newc >\"$2\"";
        let initrd = root.join("initrd");
        must(Command::new("sh").args(["-euc", pack, "sh"]).arg(&tree).arg(&initrd));
        let append = format!("console={} quiet loglevel=3 panic=-1 rdinit=/init", self.architecture.console);
        // The end of the test ends QEMU, whatever the reason.
        let mut command = Command::new("timeout");
        command.args(["--foreground", PATIENCE, "setpriv", "--pdeathsig", "KILL"]);
        command.args(self.architecture.qemu.split_whitespace());
        command.args(["-m", "2048", "-display", "none", "-no-reboot", "-nodefaults", "-serial", "stdio"]);
        command.arg("-kernel").arg(tree.join("boot/kernel")).arg("-initrd").arg(&initrd);
        let ran = command.args(["-append", &append]).stdin(Stdio::null()).output().expect("timeout starts");
        let console = String::from_utf8_lossy(&ran.stdout).replace('\r', "");
        assert!(
            console.lines().any(|line| line.ends_with("NBT-EXIT 0")),
            "{}{console}",
            String::from_utf8_lossy(&ran.stderr)
        );
        console
    }
}

/// A call of a job as words of a shell, for a script of [`Emulated::run`].
///
/// # Panics
/// When it is not one of a world that boots.
pub fn as_words(call: &Spec) -> String {
    let Ids { uid, gid, groups } = call.ids.as_ref().expect("ids");
    let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
    let mut words = format!(
        "cd {} && umask 022 && exec setpriv --reuid={uid} --regid={gid} --groups={} env -i",
        quoted(&call.directory),
        groups.join(",")
    );
    for (name, value) in &call.environment {
        let mut pair = name.clone();
        pair.push("=");
        pair.push(value);
        words += &format!(" {}", quoted(&pair));
    }
    for word in std::iter::once(&call.program).chain(&call.arguments) {
        words += &format!(" {}", quoted(word));
    }
    format!("({words} </dev/null)")
}

fn quoted(word: &OsStr) -> String {
    let text = std::str::from_utf8(word.as_bytes()).expect("text");
    format!("'{}'", text.replace('\'', r"'\''"))
}
