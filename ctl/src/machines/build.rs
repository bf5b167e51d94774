//! Makes a version of a tree: source, hook, playbook, checks, list and manifest, and the switch to it.

use super::definition::{Definition, Source};
use super::steps::{Steps, answer, go_on};
use super::store::{Held, LIST, MANIFEST, Machine, PARTIAL, remove_tree};
use super::tree;
use crate::output::CtlError;
use crate::replace;
use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use nunbird_files::trusted::open_trusted;
use nunbird_stage::signals::Signals;
use nunbird_sys::process;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Without these a suite has no machine that boots.
const BASE: [&str; 2] = ["systemd-sysv", "dbus"];
/// What root of a tree does not get from systemd-nspawn(1): only package managers and scripts run there. With these, it could make device
/// nodes, change the mounts that protect `/proc` and `/sys`, and send any packet: a throw-away layer has no user namespace around it.
const DROPPED: [&str; 16] = [
    "CAP_AUDIT_CONTROL",
    "CAP_DAC_READ_SEARCH",
    "CAP_IPC_OWNER",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BROADCAST",
    "CAP_NET_RAW",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TTY_CONFIG",
];
/// The longest list of a registry's image, in bytes.
const MAX_INDEX: u64 = 4 << 20;

/// What was built.
pub(super) struct Built {
    pub(super) version: String,
    pub(super) manifest: Value,
    /// What was removed from the tree, or is worth a look.
    pub(super) remarks: Vec<String>,
}

/// What a tree is made of: a definition, or a tree that a shell has changed.
pub(super) enum From<'a> {
    Definition(&'a Definition),
    /// The version that a shell begins with, and what it runs in its copy.
    Version(&'a str, &'a dyn Fn(&Path) -> Result<(), CtlError>),
}

/// Builds a version and makes it current. If it fails, nothing is left of it.
pub(super) fn build(
    machine: &Machine,
    from: &From<'_>,
    held: &Held,
    say: &dyn Fn(&str),
) -> Result<Built, CtlError> {
    machine.clear(held)?;
    let signals = Signals::block().map_err(|e| CtlError::new(format!("cannot wait for signals: {e}")))?;
    process::set_umask(0o022);
    let now = Timestamp::now();
    let version = machine.new_version(now);
    let partial = machine.path.join(format!("{PARTIAL}{version}"));
    DirBuilder::new().mode(0o700).create(&partial).map_err(at(&partial))?;
    let work = Work { machine, partial: &partial, steps: Steps::new(&partial, &held.0, &signals), say };
    let done = work.fill(from, &version, now).and_then(|(manifest, remarks)| {
        work.steps.go_on()?;
        machine.publish(&partial, &version)?;
        Ok(Built { version, manifest, remarks })
    });
    if done.is_err() && partial.symlink_metadata().is_ok() {
        remove_tree(&partial)?;
    }
    done
}

fn at(path: &Path) -> impl Fn(io::Error) -> CtlError {
    move |e| CtlError::new(format!("{}: {e}", path.display()))
}

struct Work<'a> {
    machine: &'a Machine,
    partial: &'a Path,
    steps: Steps<'a>,
    say: &'a dyn Fn(&str),
}

impl Work<'_> {
    fn fill(&self, from: &From<'_>, version: &str, now: Timestamp) -> Result<(Value, Vec<String>), CtlError> {
        let tree = tree::of(self.partial);
        let (mut mark, mut suite) = (None, None);
        let mut removed = Vec::new();
        let source;
        match from {
            From::Definition(definition) => {
                mark = self.unpack(&definition.source, &tree)?;
                tree::take_over(&tree, tree::OPEN)?;
                // Before a program of the tree could open one.
                removed.extend(tree::remove_devices(&tree, &|| self.steps.go_on())?);
                self.hooks(definition, &tree)?;
                source = definition.source.manifest();
                if let Source::Suite { suite: named, .. } = &definition.source {
                    suite = Some(named.clone());
                }
            }
            From::Version(before, run) => {
                let copied = tree::of(&self.machine.path.join(before));
                (self.say)("copying the tree");
                self.steps.run(
                    "cp",
                    &[
                        OsString::from("-a"),
                        "--reflink=auto".into(),
                        "--".into(),
                        copied.into(),
                        tree.clone().into(),
                    ],
                    "install coreutils",
                )?;
                tree::take_over(&tree, tree::OPEN)?;
                run(&tree)?;
                source = json!({ "login": before });
            }
        }
        tree::take_over(&tree, tree::CLOSED)?;
        (self.say)("checking the tree");
        removed.extend(tree::remove_devices(&tree, &|| self.steps.go_on())?);
        let mut remarks = Vec::new();
        if !removed.is_empty() {
            remarks.push(format!("device nodes outside of /dev were removed: {}", removed.join(", ")));
        }
        let facts = tree::judge(&tree)?;
        let contents = tree::contents(&tree, &|| self.steps.go_on())?;
        let list = contents.text();
        let sum = tree::hex(digest(&SHA256, list.as_bytes()).as_ref());
        let defined = match from {
            From::Definition(definition) => Value::from(definition.digest()),
            From::Version(before, _) => {
                let manifest = self.machine.manifest(before)?;
                mark = manifest.get("source_digest").and_then(Value::as_str).map(str::to_owned);
                manifest.get("definition_digest").cloned().unwrap_or_default()
            }
        };
        let manifest = json!({
            "name": self.machine.name, "version": version, "made": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "source": source, "suite": suite.or(facts.suite), "digest": format!("sha256:{sum}"),
            "packages": facts.packages, "os": facts.os, "size": contents.size,
            "source_digest": mark, "definition_digest": defined,
        });
        self.write(LIST, list.as_bytes(), 0o600)?;
        self.write(MANIFEST, format!("{manifest:#}\n").as_bytes(), 0o644)?;
        Ok((manifest, remarks))
    }

    fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), CtlError> {
        let path = self.partial.join(name);
        replace::put(&path, bytes, mode).map_err(at(&path))
    }

    /// Fills the tree. Returns a digest that changes with the source, where it has one.
    fn unpack(&self, source: &Source, tree: &Path) -> Result<Option<String>, CtlError> {
        match source {
            Source::Suite { suite, mirror, packages, components } => {
                (self.say)(&format!("installing {suite} by mmdebstrap"));
                let include: Vec<&str> =
                    BASE.into_iter().chain(packages.iter().map(String::as_str)).collect();
                let mut words: Vec<OsString> = vec![
                    "--quiet".into(),
                    "--mode=root".into(),
                    "--variant=apt".into(),
                    format!("--include={}", include.join(",")).into(),
                ];
                if !components.is_empty() {
                    words.push(format!("--components={}", components.join(",")).into());
                }
                words.extend([suite.into(), tree.into()]);
                words.extend(mirror.iter().map(OsString::from));
                self.steps.run("mmdebstrap", &words, "install the package mmdebstrap")?;
                Ok(None)
            }
            Source::Tarball { path, sha256 } => self.tarball(path, sha256.as_deref(), tree).map(Some),
            Source::Oci { reference, authfile } => {
                if let Some(authfile) = authfile {
                    open_trusted(authfile, &[0]).map_err(CtlError::new)?;
                }
                self.image(reference, authfile.as_deref(), tree).map(Some)
            }
        }
    }

    /// From a copy that only root can change, because others may be able to change the tarball.
    fn tarball(&self, path: &Path, sha256: Option<&str>, tree: &Path) -> Result<String, CtlError> {
        (self.say)(&format!("unpacking {}", path.display()));
        if sha256.is_none() {
            open_trusted(path, &[0]).map_err(|e| {
                CtlError::new(format!(
                    "{e}; or write its `sha256` into the definition, which makes its owner unimportant"
                ))
            })?;
        }
        let opened = open_archive(path)?;
        let archive = self.partial.join("archive");
        let mut copy = OpenOptions::new();
        let mut copy = copy.write(true).create_new(true).mode(0o600).open(&archive).map_err(at(&archive))?;
        // Also of one that grows, or has no blocks.
        let sum = tree::copy(&opened, &mut copy, at(path), &|| self.steps.room())?;
        if let Some(wanted) = sha256.filter(|wanted| *wanted != sum) {
            return Err(CtlError::new(format!(
                "{}: its SHA-256 is {sum}, and not {wanted} as in the definition; fetch it again, or correct `sha256`",
                path.display()
            )));
        }
        DirBuilder::new().mode(0o755).create(tree).map_err(at(tree))?;
        // tar(1) makes links that lead out of the tree last, takes `/` and `..` off, and follows no link that it made.
        let mut words: Vec<OsString> = [
            "--extract",
            "--numeric-owner",
            "--same-owner",
            "--preserve-permissions",
            "--xattrs",
            "--xattrs-include=security.capability",
        ]
        .into_iter()
        .map(OsString::from)
        .collect();
        words.extend([
            "--exclude=./dev/*".into(),
            "--exclude=dev/*".into(),
            "--directory".into(),
            tree.into(),
        ]);
        words.extend(["--file".into(), archive.clone().into()]);
        self.steps.run("tar", &words, "install the package tar")?;
        fs::remove_file(&archive).map_err(at(&archive))?;
        Ok(format!("sha256:{sum}"))
    }

    fn image(&self, reference: &str, authfile: Option<&Path>, tree: &Path) -> Result<String, CtlError> {
        (self.say)(&format!("fetching {reference}"));
        let layout = self.partial.join("oci");
        let mut words: Vec<OsString> = vec!["copy".into(), "--quiet".into()];
        if let Some(authfile) = authfile {
            words.extend(["--src-authfile".into(), authfile.into()]);
        }
        let named = format!("{}:machine", layout.display());
        words.extend([reference.into(), format!("oci:{named}").into()]);
        self.steps.run("skopeo", &words, "install the package skopeo")?;
        (self.say)("unpacking its layers");
        // Kept as it is, so that `update` asks for the same thing.
        let mark = image_digest(reference, authfile, self.steps.signals)?.or_else(|| manifest_of(&layout));
        let words: [OsString; 5] =
            ["raw".into(), "unpack".into(), "--image".into(), named.into(), tree.into()];
        self.steps.run("umoci", &words, "install the package umoci")?;
        remove_tree(&layout)?;
        mark.ok_or_else(|| CtlError::new(format!("{reference}: it has no digest")))
    }

    /// Runs a program of root's that works on the tree from outside of it.
    fn beside(&self, name: &str, tree: &Path, program: &[OsString]) -> Result<(), CtlError> {
        let mut words: Vec<OsString> = vec!["-c".into(), WITH_DEVICES.into(), "sh".into(), tree.into()];
        words.extend_from_slice(program);
        self.steps.run_as(name, "/bin/sh", &words, "install a shell")
    }

    fn hooks(&self, definition: &Definition, tree: &Path) -> Result<(), CtlError> {
        if let Some(hook) = &definition.hook {
            (self.say)(&format!("running {}", hook.display()));
            let opened = open_trusted(hook, &[0]).map_err(CtlError::new)?;
            let meta = opened.metadata().map_err(at(hook))?;
            // In ids of its own root of the tree is not the hook's owner.
            let (bits, advice) = if definition.hook_inside { (0o105, "755") } else { (0o100, "u+x") };
            if meta.permissions().mode() & bits != bits {
                let shown = hook.display();
                return Err(CtlError::new(format!("{shown}: not executable; chmod {advice} {shown}")));
            }
            if definition.hook_inside {
                let mut words = in_own_ids(tree);
                words.push(OsString::from(format!("--bind-ro={}:/run/nunbird-hook", hook.display())));
                words.extend(["--pipe".into(), "--".into(), "/run/nunbird-hook".into()]);
                self.steps.run("systemd-nspawn", &words, "install the package systemd-container")?;
            } else {
                let words: [OsString; 2] = [hook.into(), tree.into()];
                self.beside(&hook.to_string_lossy(), tree, &words)?;
            }
        }
        if let Some(playbook) = &definition.playbook {
            (self.say)(&format!("playing {}", playbook.display()));
            open_trusted(playbook, &[0]).map_err(CtlError::new)?;
            let mut host = tree.as_os_str().to_owned();
            host.push(",");
            let program = "ansible-playbook";
            if super::steps::find(program).is_none() {
                return Err(CtlError::new(format!(
                    "{program} is not installed on this host; `playbook` needs ansible with the collection community.general: install \
                     the package ansible, or use a `hook`"
                )));
            }
            // Its own files go with the build.
            let mut scratch = OsString::from("ANSIBLE_LOCAL_TEMP=");
            scratch.push(self.partial.join("ansible"));
            let words = [
                "env".into(),
                scratch,
                program.into(),
                "--connection=community.general.chroot".into(),
                "--inventory".into(),
                host,
                playbook.into(),
            ];
            self.beside(program, tree, &words)?;
            remove_tree(&self.partial.join("ansible"))?;
        }
        Ok(())
    }
}

/// Gives a tree that programs are about to enter by chroot(2) the devices that package managers need, in the step's own mounts, and becomes
/// the program. What is no directory, or a link, stays as it is.
const WITH_DEVICES: &str = r#"set -e
dev=$1/dev
shift
if [ -d "$dev" ] && [ ! -L "$dev" ]; then
  mount -t tmpfs -o mode=755,nosuid,noexec nunbird "$dev"
  for node in null zero full random urandom; do
    : >"$dev/$node"
    mount --bind "/dev/$node" "$dev/$node"
  done
fi
exec "$@"
"#;

/// The options with which a program runs in a tree, without a boot. What the tree is named like is no name for its host.
fn nspawn(tree: &Path) -> Vec<OsString> {
    let mut words: Vec<OsString> =
        ["--quiet", "--settings=no", "--register=no", "--keep-unit", "--link-journal=no", "--as-pid2"]
            .into_iter()
            .map(OsString::from)
            .collect();
    words.push(format!("--drop-capability={}", DROPPED.join(",")).into());
    words.extend(["--machine=nunbird-build".into(), "--directory".into(), tree.into()]);
    words
}

/// The same in a user namespace: root of the tree has no rights on the host. Owners in the tree stay as they are, by an idmapped mount.
pub(super) fn in_own_ids(tree: &Path) -> Vec<OsString> {
    let mut words = nspawn(tree);
    words.extend(["--private-users=pick", "--private-users-ownership=map"].map(OsString::from));
    words
}

/// What changes when the image does; asked of the registry, or of the directory.
fn image_digest(
    reference: &str,
    authfile: Option<&Path>,
    signals: &Signals,
) -> Result<Option<String>, CtlError> {
    let mut words: Vec<OsString> = vec!["inspect".into(), "--format".into(), "{{.Digest}}".into()];
    if let Some(authfile) = authfile {
        words.extend(["--authfile".into(), authfile.into()]);
    }
    words.push(reference.into());
    let text = answer("skopeo", &words, signals)?;
    Ok(text.map(|text| text.trim().to_owned()).filter(|text| {
        let digits = text.strip_prefix("sha256:").unwrap_or_default();
        digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit())
    }))
}

/// Opens a tarball, which may be anybody's where it has a checksum.
fn open_archive(path: &Path) -> Result<File, CtlError> {
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    // A device does something already when it is opened.
    if !fs::metadata(path).map_err(at(path))?.is_file() {
        return Err(CtlError::new(format!("{}: not a regular file", path.display())));
    }
    let opened = File::options().read(true).custom_flags(flags).open(path).map_err(at(path))?;
    match opened.metadata().map_err(at(path))?.is_file() {
        true => Ok(opened),
        false => Err(CtlError::new(format!("{}: not a regular file", path.display()))),
    }
}

fn manifest_of(layout: &Path) -> Option<String> {
    let file = File::open(layout.join("index.json")).ok()?;
    let index: Value = serde_json::from_reader(io::Read::take(file, MAX_INDEX)).ok()?;
    let digest = index.get("manifests")?.get(0)?.get("digest")?.as_str()?;
    Some(digest.to_owned())
}

/// Why a machine has to be built again, if it has to.
///
/// # Errors
/// If an end was requested.
pub(super) fn reason(machine: &Machine, definition: &Definition) -> Result<Option<String>, CtlError> {
    let signals = Signals::block().map_err(|e| CtlError::new(format!("cannot wait for signals: {e}")))?;
    let because = |text: &str| Ok(Some(text.to_owned()));
    let Some(current) = machine.current() else { return because("there is none yet") };
    let Ok(manifest) = machine.manifest(&current) else { return because("its manifest cannot be read") };
    let text = |key: &str| manifest.get(key).and_then(Value::as_str);
    if text("definition_digest") != Some(definition.digest().as_str()) {
        return because("its definition was changed");
    }
    let made = text("made").and_then(|made| made.parse::<Timestamp>().ok()).map_or(0, Timestamp::as_second);
    let age = u64::try_from(Timestamp::now().as_second().saturating_sub(made)).unwrap_or(0);
    if definition.max_age.is_some_and(|most| age >= most) {
        return because("it is older than `max_age`");
    }
    let newer = match &definition.source {
        Source::Suite { .. } => false,
        Source::Tarball { path, .. } => {
            let asked = || go_on(&signals);
            let now = open_archive(path)
                .and_then(|file| tree::copy(&file, &mut io::sink(), at(path), &asked))
                .map(|sum| format!("sha256:{sum}"));
            asked()?;
            text("source_digest") != now.ok().as_deref()
        }
        Source::Oci { reference, authfile } => {
            let now = image_digest(reference, authfile.as_deref(), &signals)?;
            // A registry that does not answer is no reason to fetch.
            now.is_some() && text("source_digest") != now.as_deref()
        }
    };
    Ok(newer.then(|| "its source is newer".to_owned()))
}

/// The layer of a shell: the whole tree, and what is written is gone at its end. systemd-nspawn maps the ids of a layer only after it has
/// mounted it, and overlayfs does not support idmapped mounts, so that there is no user namespace.
pub(super) fn throw_away(tree: PathBuf) -> Vec<OsString> {
    let mut words = nspawn(&tree);
    words.push("--volatile=overlay".into());
    words
}
