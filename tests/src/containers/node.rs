//! A machine with container engines: namespaces of its own, accounts of its own, the host's network and kernel.
//!
//! | what | how |
//! |---|---|
//! | engines | the host's, or those of a newer Debian release: `/usr` of a tree |
//! | `/etc` | an overlay on the release's own: the accounts, their subordinate ids, trust in a registry |
//! | `/var/lib` | an overlay on the release's own: directories of its packages |
//! | `/home`, `/tmp`, `/var/tmp`, `/run` | its own; `/run/user/UID` is each account's |
//! | `/dev/fuse`, `/dev/net/tun` | open to all, as udev makes them on a real machine |
//! | `/sys/fs/cgroup/unified` | not there: crun refuses a machine where both versions have controllers |
//! | processes | a pid namespace: all end with its first process, which ends when the test does |
//!
//! Nothing of it is on the host but one directory below `/var/tmp`.

use super::person::Person;
use super::registry::ADDRESS;
use crate::scheduler::release::Release;
use crate::world::process::under_test;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

type Subordinate = Option<(u32, u32)>;

/// The accounts: name, uid, which is also the gid, and the first subordinate id and how many there are.
const ACCOUNTS: [(&str, u32, Subordinate); 4] = [
    ("nbt_ann", 41201, Some((412_010_000, 65_536))),
    ("nbt_bea", 41202, Some((422_020_000, 65_536))),
    ("nbt_cyn", 41203, None),
    ("nbt_dee", 41204, Some((NESTING, 65_539))),
];

/// The first subordinate id of `nbt_dee`, who has enough for containers in containers.
pub const NESTING: u32 = 432_030_000;

/// The group that all accounts are in, beside their own.
pub(super) const GROUP: (&str, u32) = ("nbt_lattice", 41299);

/// Engines and what they call, of the newer releases.
const PACKAGES: &str = "apptainer,aardvark-dns,btrfs-progs,bubblewrap,ca-certificates,catatonit,charliecloud,containers-storage,crun,\
    fuse-overlayfs,libcap2-bin,netavark,passt,podman,skopeo,slirp4netns,squashfs-tools,squashfuse,uidmap,umoci";

/// Mounts, in the order of the table above, and then the wait for the end of the test, which closes standard input. bash
/// reaps what is orphaned meanwhile.
const INIT: &str = r#"set -e
mount --make-rprivate /
for part in $TREE_PARTS; do mount --bind "$TREE/$part" "/$part"; mount -o remount,bind,ro "/$part"; done
mount -t overlay overlay -o "lowerdir=$ETC,upperdir=$NODE/etc,workdir=$NODE/work" /etc
mount -t overlay overlay -o "lowerdir=$LIB,upperdir=$NODE/lib,workdir=$NODE/libwork" /var/lib
mount --bind "$NODE/home" /home
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/user /run/lock
mkdir "$NODE/tmp/${NODE##*/}"
mount --bind "$NODE" "$NODE/tmp/${NODE##*/}"
mount --rbind "$NODE/tmp" /var/tmp
chmod 1777 /var/tmp
mount --bind "$NODE/fuse" /dev/fuse
mount --bind "$NODE/tun" /dev/net/tun
if [ -d /sys/fs/cgroup/unified ]; then umount /sys/fs/cgroup/unified; fi
mount -t proc proc /proc
for id in $IDS; do mkdir -m 700 "/run/user/$id"; chown "$id:$id" "/run/user/$id"; done
echo ready
read -r _ || :
"#;

/// One machine.
#[derive(Debug)]
pub struct Node {
    /// unshare(1), whose child is the machine's first process.
    holder: Child,
    /// The first process, as the host numbers it.
    first: u32,
    /// Mounts when it was new.
    mounts: Vec<String>,
    directory: TempDir,
}

impl Node {
    /// Starts one with the engines of a release; the tree of a release that is not the host's is made once.
    ///
    /// # Panics
    /// Without root, or mmdebstrap and a mirror that serves the release.
    pub fn start(release: Release) -> Node {
        let tree = release.tree("containers", PACKAGES);
        let directory =
            tempfile::Builder::new().prefix("nbt_node_").tempdir_in("/var/tmp").expect("a directory");
        let path = directory.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
        let root = tree.as_deref().unwrap_or(Path::new("/"));
        let etc = root.join("etc");
        for part in ["etc", "work", "lib", "libwork", "home", "tmp"] {
            fs::create_dir(path.join(part)).expect("a directory");
        }
        accounts(&etc, path);
        trust_nothing(&path.join("etc"));
        for (name, numbers) in [("fuse", ["10", "229"]), ("tun", ["10", "200"])] {
            crate::tree::must(
                Command::new("mknod").args(["-m", "666"]).arg(path.join(name)).arg("c").args(numbers),
            );
        }
        let ids: Vec<String> = ACCOUNTS.iter().map(|(_, uid, _)| uid.to_string()).collect();
        let mut holder = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "--", "bash", "-c", INIT])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("NODE", path)
            .env("ETC", &etc)
            .env("LIB", root.join("var/lib"))
            .env("TREE", tree.as_deref().unwrap_or(Path::new("")))
            .env("TREE_PARTS", if tree.is_some() { "usr" } else { "" })
            .env("IDS", ids.join(" "))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let mut line = String::new();
        let output = holder.stdout.take().expect("a pipe");
        BufReader::new(output).read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n", "the machine did not start: its error is above");
        let children = format!("/proc/{0}/task/{0}/children", holder.id());
        let children = fs::read_to_string(children).expect("the children of unshare");
        let first = children.trim().parse().expect("one child");
        let mut node = Node { holder, first, mounts: Vec::new(), directory };
        node.mounts = node.mounts();
        node
    }

    /// An account: `nbt_ann` and `nbt_bea` have subordinate ids, `nbt_cyn` has none, `nbt_dee` has three more than the first two.
    ///
    /// # Panics
    /// When there is none of this name.
    #[track_caller]
    pub fn person(&self, name: &str) -> Person<'_> {
        let (name, uid, _) =
            ACCOUNTS.into_iter().find(|(known, ..)| *known == name).expect("an account of this machine");
        Person::new(self, name, uid)
    }

    /// A command in the machine, as root, with an empty environment but for PATH.
    pub fn root(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.first)).args(["--mount", "--pid", "--wd=/", "--"]);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
        command
    }

    /// The path, in the machine and on the host, of one of the programs under test.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn program(&self, name: &str) -> PathBuf {
        let copy = self.directory().join(name);
        static COPYING: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _one = COPYING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !copy.exists() {
            crate::world::copy_executable(&under_test(name), &copy);
        }
        copy
    }

    /// Has root run a shell script that must succeed. Gives its output.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn administer(&self, script: &str) -> String {
        crate::tree::must(self.root().args(["sh", "-ec", script]))
    }

    /// Writes a file as root.
    ///
    /// # Panics
    /// When it cannot be written.
    #[track_caller]
    pub fn write(&self, path: &str, content: &str) {
        let script = "mkdir -p \"${0%/*}\"; cat >\"$0\"; chmod 644 \"$0\"";
        let mut command = self.root();
        let mut child =
            command.args(["sh", "-ec", script, path]).stdin(Stdio::piped()).spawn().expect("a shell");
        child.stdin.take().expect("a pipe").write_all(content.as_bytes()).expect("a shell that reads");
        assert!(child.wait().expect("its end").success(), "{path} is not written");
    }

    /// Has every engine trust servers with certificates of this authority.
    pub fn trust(&self, authority_pem: &str) {
        let bundle = "/etc/ssl/certs/ca-certificates.crt";
        let known = self.administer(&format!("cat {bundle}"));
        self.write(bundle, &format!("{known}\n{authority_pem}"));
    }

    /// Mounts a file system of so many bytes at a directory, which it makes, for an account.
    pub fn small_disk(&self, path: &str, bytes: u64, person: &Person<'_>) {
        let id = person.uid();
        self.administer(&format!(
            "mkdir -p {path}; mount -t tmpfs -o size={bytes},mode=700,uid={id},gid={id} tmpfs {path}"
        ));
    }

    /// The same, with room for so many files.
    pub fn few_files(&self, path: &str, files: u32, person: &Person<'_>) {
        let id = person.uid();
        self.administer(&format!(
            "mkdir -p {path}; mount -t tmpfs -o nr_inodes={files},mode=700,uid={id},gid={id} tmpfs {path}"
        ));
    }

    /// Mounts a file system at a directory, which it makes, with a directory `own` in it for an account that has a quota of so many bytes. `false`
    /// where the kernel has no such file system.
    ///
    /// It is btrfs, whose quotas need no further part of the kernel: what a program gets is EDQUOT, as with quotas of users elsewhere.
    pub fn quota(&self, path: &str, bytes: u64, person: &Person<'_>) -> bool {
        let image = self.directory().join(format!("quota-{}", path.replace('/', "-")));
        let id = person.uid();
        let made = self.administer(&format!(
            "truncate -s 400M {image}; mkfs.btrfs -q {image} >&2; mkdir -p {path}; if mount -t btrfs -o loop {image} {path}; then \
             btrfs quota enable {path}; btrfs subvolume create {path}/own >&2; btrfs qgroup limit {bytes} {path}/own; \
             chown {id}:{id} {path}/own; chmod 700 {path}/own; echo made; fi",
            image = image.display()
        ));
        made.contains("made")
    }

    /// Gives it a `/dev` of its own, which has what there was, and these devices: paths, each with the numbers of a harmless device.
    pub fn devices(&self, devices: &[(&str, &str)]) {
        let mut script = "mkdir /run/dev; mount --rbind /dev /run/dev; mount -t tmpfs -o mode=755 tmpfs /dev; for one in /run/dev/*; do \
             name=/dev/${one##*/}; if [ -L \"$one\" ]; then cp -P \"$one\" \"$name\"; elif [ -d \"$one\" ]; then mkdir \"$name\"; mount --rbind \"$one\" \"$name\"; \
             else : >\"$name\"; mount --bind \"$one\" \"$name\"; fi; done"
            .to_owned();
        for (path, numbers) in devices {
            write!(script, "; mkdir -p \"$(dirname {path})\"; mknod -m 666 {path} c {numbers}")
                .expect("text");
        }
        self.administer(&script);
    }

    /// The processes, each by its pid there and its command line, but for the first one.
    pub fn processes(&self) -> BTreeMap<i32, String> {
        let proc = self.see("/proc");
        let entries = fs::read_dir(&proc).into_iter().flatten().flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let command = |pid: i32| {
            let own = proc.join(pid.to_string());
            // What has ended and is not yet waited for runs no more.
            let stat = fs::read_to_string(own.join("stat")).ok()?;
            if stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])) {
                return None;
            }
            let words = fs::read(own.join("cmdline")).ok()?;
            Some((pid, String::from_utf8_lossy(&words).replace('\0', " ").trim_end().to_owned()))
        };
        numbers.filter(|pid| *pid != 1).filter_map(command).collect()
    }

    /// Fails where a process is left, but for the first one. What was killed has a moment to end, because a clean-up does not wait for it.
    #[track_caller]
    pub fn assert_idle(&self, when: &str) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.processes().is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(self.processes(), BTreeMap::new(), "{when}");
    }

    /// Mounts that were not there when it was new, as mountinfo(5) has them.
    pub fn new_mounts(&self) -> Vec<String> {
        // Not by how many there are: one of the host's may have gone since. Nor by their paths: a directory that it is in may have another name now.
        let number = |mount: &str| mount.split(' ').take(4).map(str::to_owned).collect::<Vec<_>>();
        let known: Vec<_> = self.mounts.iter().map(|mount| number(mount)).collect();
        self.mounts().into_iter().filter(|mount| !known.contains(&number(mount))).collect()
    }

    fn mounts(&self) -> Vec<String> {
        let text = fs::read_to_string(format!("/proc/{}/mountinfo", self.first)).expect("its mounts");
        text.lines().map(str::to_owned).collect()
    }

    /// The path on the host by which a path of the machine is reached.
    pub fn see(&self, path: &str) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.first)).join(path.trim_start_matches('/'))
    }

    /// The directory on the host below which everything of the machine is.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The end of its input ends the first process, and with it all others.
        drop(self.holder.stdin.take());
        drop(self.holder.wait());
    }
}

fn accounts(etc: &Path, node: &Path) {
    let known = |file: &str| fs::read_to_string(etc.join(file)).unwrap_or_default();
    let (mut passwd, mut group, mut subordinate) = (known("passwd"), known("group"), String::new());
    for (name, uid, first) in ACCOUNTS {
        writeln!(passwd, "{name}:x:{uid}:{uid}::/home/{name}:/bin/bash").expect("text");
        writeln!(group, "{name}:x:{uid}:").expect("text");
        if let Some((first, count)) = first {
            writeln!(subordinate, "{name}:{first}:{count}").expect("text");
        }
        let home = node.join("home").join(name);
        fs::create_dir(&home).expect("a home");
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).expect("a mode");
        chown(&home, Some(uid), Some(uid)).expect("an owner");
    }
    let names = ACCOUNTS.map(|(name, ..)| name).join(",");
    writeln!(group, "{}:x:{}:{names}", GROUP.0, GROUP.1).expect("text");
    for (file, text) in
        [("passwd", passwd), ("group", group), ("subuid", subordinate.clone()), ("subgid", subordinate)]
    {
        fs::write(node.join("etc").join(file), text).expect("a file of accounts");
    }
}

/// What a site has to write for engines that read `/etc/containers`: no signatures, and no registry by default.
fn trust_nothing(etc: &Path) {
    let containers = etc.join("containers");
    fs::create_dir(&containers).expect("a directory");
    let policy = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
    fs::write(containers.join("policy.json"), policy).expect("a file");
    let registries = format!("unqualified-search-registries = []\n[[registry]]\nlocation = \"{ADDRESS}\"\n");
    fs::write(containers.join("registries.conf"), registries).expect("a file");
}
