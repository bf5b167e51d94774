//! A job with a container of the real Podman, for one test.
//!
//! The account, its subordinate ids and everything that Podman keeps exist in private mount
//! namespaces and in the test's own directory alone. Images are made from Debian's static busybox.

use crate::world::{World, assert_code, runs};
use nunbird_handover::{Bind, CONTAINER_STAGES, CacheBounds, Container, Engine, Image, PullPolicy};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Where the ids begin that nobody else has.
const SUBORDINATE: u32 = 655_320_000;
pub(crate) const IMAGE: &str = "localhost/nbt/busybox:1";

/// Which ids the account has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccountIds {
    Many,
    /// No subordinate ids.
    One,
    /// Subordinate ids, and setuid programs without effect.
    NoNewPrivileges,
}

pub(crate) const EVERY: [AccountIds; 3] = [AccountIds::Many, AccountIds::One, AccountIds::NoNewPrivileges];

/// A world whose job has a container of this image, which is in the account's store.
pub(crate) fn world(ids: AccountIds) -> World {
    with(World::new(), ids)
}

pub(crate) fn with(mut world: World, ids: AccountIds) -> World {
    let (uid, name) = (world.handover.account.uid, world.handover.account.name.clone());
    let line = |file: &str, line: &str| {
        let text = fs::read_to_string(Path::new("/etc").join(file)).unwrap_or_default();
        let copy = world.path(file);
        fs::write(&copy, format!("{text}{line}")).expect("a file");
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).expect("a mode");
        format!("touch /etc/{file}; mount --bind {} /etc/{file}; ", copy.display())
    };
    let ids_line = match ids {
        AccountIds::One => String::new(),
        _ => format!("{name}:{SUBORDINATE}:65536\n"),
    };
    let home = world.home();
    let mut mounts = String::new();
    mounts += &line("passwd", &format!("{name}:x:{uid}:{uid}::{}:/bin/sh\n", home.display()));
    mounts += &line("group", &format!("{name}:x:{uid}:\n"));
    mounts += &line("subuid", &ids_line);
    mounts += &line("subgid", &ids_line);
    // crun refuses hosts with both versions of control groups.
    mounts += "if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi";
    world.mounts = Some(mounts);
    if ids == AccountIds::NoNewPrivileges {
        world.prefix = "setpriv --no-new-privs".to_owned();
    }
    let data_dir = world.handover.workspace.data_dir.clone();
    let store = world.path("store");
    world.mkdir(&store, 0o700);
    world.handover.container = Some(Container {
        name: "plain".to_owned(),
        engine: Engine::Named("podman".to_owned()),
        program: None,
        image: Some(Image {
            name: IMAGE.to_owned(),
            entrypoint: None,
            user: None,
            platform: None,
            pull: vec![PullPolicy::Never],
            digest_required: false,
        }),
        runner_image: None,
        services: Vec::new(),
        stages: CONTAINER_STAGES.map(str::to_owned).to_vec(),
        directory: data_dir.join("containers/4711"),
        store: Some(store),
        cache: data_dir.join("images"),
        shared_cache: None,
        cache_bounds: CacheBounds::default(),
        binds: Vec::<Bind>::new(),
        home: false,
        gpu: None,
        root: false,
        host_network: true,
        options: Vec::new(),
        engine_environment: BTreeMap::new(),
        no_new_privileges: false,
        pull_timeout: 60,
        service_timeout: 30,
        service_required: false,
        service_logs: false,
        credential_helpers: nunbird_handover::CredentialHelpers::default(),
    });
    world
}

pub(crate) fn container(world: &mut World) -> &mut Container {
    world.handover.container.as_mut().expect("a container")
}

/// Puts an image into the account's store, with these instructions of a Dockerfile, from a tree that
/// `change` may alter.
pub(crate) fn import(world: &mut World, name: &str, instructions: &[&str], change: &str) {
    let tree = world.path("tree");
    let archive = world.path("image.tar");
    let script = format!(
        "rm -rf {tree}; mkdir -p {tree}/bin {tree}/etc {tree}/tmp {tree}/data; cp /bin/busybox {tree}/bin/; \
         for name in sh cat id ls echo sleep touch env mount ip ps kill setsid grep stat wc mkdir mv rm tr true false head nc chmod trap sed; do ln -s busybox {tree}/bin/$name; done; \
         printf 'root:x:0:0::/:/bin/sh\\n' >{tree}/etc/passwd; chmod 1777 {tree}/tmp; chown 33:33 {tree}/data; cd {tree}; {change}; \
         tar -cf {archive} .; chmod 644 {archive}",
        tree = tree.display(),
        archive = archive.display()
    );
    let output = Command::new("/bin/sh").args(["-euc", &script]).output().expect("sh");
    assert!(output.status.success(), "{output:?}");
    // The launcher's own scripts run Podman, so that the image lies where a pull would put it.
    let changes: Vec<String> = instructions.iter().map(|one| format!("--change='{one}'")).collect();
    let line =
        format!("{{program}} {{storage}} import -q {} {} {name}", changes.join(" "), archive.display());
    let output = engine(world, &line);
    assert!(output.status.success(), "{output:?}");
}

/// Runs a line of the shell with an engine's command in it, as the account, as the launcher would.
pub(crate) fn engine(world: &mut World, line: &str) -> Output {
    let store = world.handover.container.as_ref().and_then(|one| one.store.clone()).expect("a store");
    let name = format!("{}:", world.handover.account.name);
    let subordinate = fs::read_to_string(world.path("subuid")).expect("ids");
    let one = world.prefix.contains("no-new-privs") || !subordinate.contains(&name);
    let images = store.join(if one { "images-one" } else { "images-many" });
    let runtime = world.path("import");
    if !runtime.exists() {
        for directory in ["", "config", "config/containers"] {
            world.mkdir(&runtime.join(directory), 0o700);
        }
    }
    let policy = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
    world.write(&runtime.join("config/containers/policy.json"), policy);
    let rt = runtime.display();
    let configuration = format!(
        "[containers]\ncgroups = \"disabled\"\n[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nstatic_dir = \"{rt}/static\"\n"
    );
    world.write(&runtime.join("containers.conf"), &configuration);
    let storage = match one {
        true => "--storage-driver=overlay --storage-opt=overlay.ignore_chown_errors=true",
        false => "--storage-driver=overlay",
    };
    let line = line.replace("{program}", "podman").replace("{storage}", storage);
    let uid = world.handover.account.uid;
    let script = match one {
        true => format!(
            "export _CONTAINERS_USERNS_CONFIGURED=done _CONTAINERS_ROOTLESS_UID={uid} _CONTAINERS_ROOTLESS_GID={uid}\n\
             exec unshare --user --map-root-user --mount /bin/sh -c \"$(cat <<'END'\n{line}\nEND\n)\"\n"
        ),
        false => format!("{line}\ncode=$?\nkill -9 $(cat {rt}/libpod/tmp/pause.pid)\nexit $code\n"),
    };
    world.write(&runtime.join("script"), &script);
    let text = format!(
        "{}; exec setpriv --reuid={uid} --regid={uid} --clear-groups env -i PATH=/usr/bin:/bin:/usr/sbin:/sbin HOME={rt} XDG_RUNTIME_DIR={rt} \
         XDG_CONFIG_HOME={rt}/config XDG_DATA_HOME={} CONTAINERS_CONF={rt}/containers.conf /bin/sh {rt}/script",
        world.mounts.as_deref().expect("mounts"),
        images.display(),
    );
    Command::new("unshare")
        .args(["-m", "/bin/sh", "-euc", &text])
        .current_dir(&runtime)
        .output()
        .expect("unshare")
}

/// A world whose container is there.
pub(crate) fn prepared(ids: AccountIds) -> World {
    let mut world = world(ids);
    import(&mut world, IMAGE, &[], ":");
    assert_code(&world.prepare(), 0);
    world
}

/// What is left of a job's container on this host: processes, directories, mounts.
pub(crate) fn left(world: &World) -> Vec<String> {
    let name = format!("nb-{}", world.handover.decision_id);
    // The last step kills and does not wait: a process needs a moment to end.
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut left = processes_left(world);
    while !left.is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
        left = processes_left(world);
    }
    let store = world.path("store/jobs").join(&name);
    let directories =
        [Path::new("/tmp").join(&name), store, world.handover.workspace.data_dir.join("containers/4711")];
    left.extend(directories.iter().filter(|path| path.exists()).map(|path| path.display().to_string()));
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    left.extend(mounts.lines().filter(|line| line.contains(&name)).map(str::to_owned));
    left
}

/// The processes of the account that have something of the job in their environment, arguments or mounts.
fn processes_left(world: &World) -> Vec<String> {
    let decision = &world.handover.decision_id;
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        let is_own = fs::metadata(entry.path()).is_ok_and(|meta| meta.uid() == world.handover.account.uid);
        if !pid.bytes().all(|byte| byte.is_ascii_digit()) || !is_own || !runs(&pid) {
            continue;
        }
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        let text = ["environ", "cmdline", "mountinfo"].map(read).concat();
        let text = String::from_utf8_lossy(&text).replace('\0', " ");
        if text.contains(decision.as_str())
            || text.contains(&world.handover.workspace.builds_dir.display().to_string())
        {
            left.push(format!("{pid} {}", String::from_utf8_lossy(&read("cmdline")).replace('\0', " ")));
        }
    }
    left
}

/// Runs the outer script of the last stage by itself, with an empty environment, as on a node that has nothing of
/// Nunbird.
pub(crate) fn alone(world: &World, verb: &str, script: &str) -> Output {
    let uid = world.handover.account.uid;
    let outer = world.handover.container.as_ref().expect("a container").directory.join("outer");
    let file = world.path("input");
    world.write(&file, script);
    let text = format!(
        "{}; exec {} setpriv --reuid={uid} --regid={uid} --clear-groups env -i /bin/sh {} {verb} <{}",
        world.mounts.as_deref().expect("mounts"),
        world.prefix,
        outer.display(),
        file.display()
    );
    Command::new("unshare").args(["-m", "/bin/sh", "-euc", &text]).output().expect("unshare")
}
