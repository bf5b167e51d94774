//! Jobs in containers through the installed programs: what GitLab's job says of its image reaches the engine, and one sweep ends and removes what
//! a job has left whose `nunbird-auth` was killed and to which gitlab-runner never comes back.

use crate::upsets::platforms;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nunbird_tests::containers::whole::STAGES;
use nunbird_tests::containers::{Fault, Index, On, Registry, samples};
use nunbird_tests::world::enter::{Mount, Spec};
use nunbird_tests::world::{Exit, Privilege, World};
use nunbird_tests::{Job, Session, StageOutcome, needs, records};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const ENGINES: [&str; 2] = ["bwrap", "podman"];

struct Site {
    world: World,
    registry: Option<Registry>,
}

impl Site {
    fn new(engine: &str) -> Self {
        let world = World::new(Privilege::Setuid);
        world.write_keys();
        let registry = (engine == "podman").then(Registry::open);
        if let Some(registry) = &registry {
            registry.push("lattice/tools:1", &samples::busybox());
            let bundle = "/etc/ssl/certs/ca-certificates.crt";
            let known = fs::read_to_string(bundle).expect("authorities");
            world.write_file(bundle, format!("{known}\n{}", registry.ca_pem()), "root", 0o644);
            let policy = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
            world.write_file("/etc/containers/policy.json", policy, "root", 0o644);
        }
        fs::create_dir(world.host_path("/opt/none")).expect("a directory");
        world.reconfigure("[job]\n", "[job]\ncontainer = \"view\"\n");
        let store = registry.as_ref().map_or("", |_| "store = \"$HOME/store\"\n");
        let text = world.configuration();
        world.configure(&format!("{text}\n[container.view]\nengine = \"{engine}\"\n{store}"));
        Site { world, registry }
    }

    fn job(&self) -> Job<'_> {
        let image = self.registry.as_ref().map(|registry| registry.name("lattice/tools:1"));
        self.world.job().limit(Duration::from_secs(40)).response(move |response| {
            if let Some(name) = &image {
                response["image"] = json!({ "name": name });
            }
        })
    }

    /// crun refuses a machine where both versions of control groups have controllers.
    fn on_one_version(&self, mut spec: Spec) -> Spec {
        let place = Path::new("/sys/fs/cgroup/unified");
        if self.registry.is_some() && place.exists() {
            let mount = Mount::Bind { source: self.world.host_path("/opt/none"), target: place.into() };
            spec.mounts.as_mut().expect("a namespace").push(mount);
        }
        spec
    }

    fn prepared<'j>(&self, job: &'j Job<'_>) -> Session<'j> {
        let mut session = job.begin();
        assert!(session.config().succeeded());
        let prepared = self.prepare(&mut session);
        assert!(prepared.succeeded(), "{}", prepared.log);
        session
    }

    fn prepare(&self, session: &mut Session<'_>) -> StageOutcome {
        let spec = self.on_one_version(session.spec_of_prepare());
        session.call_spec("prepare", &spec)
    }

    fn run(&self, session: &mut Session<'_>, script: &str) -> StageOutcome {
        let file = session.directory().join("script");
        session.write(&file, script.as_bytes(), 0o700);
        let spec = self.on_one_version(session.spec_of_run(&file, "build_script"));
        session.call_spec("build_script", &spec)
    }

    fn end(&self, mut session: Session<'_>) {
        let spec = self.on_one_version(session.spec_of_cleanup());
        let ended = session.call_spec("cleanup", &spec);
        assert!(ended.succeeded(), "{}", ended.log);
    }

    /// Makes a call, and kills the privileged program once `come` says so. Whether it ran until then.
    fn call_and_kill(
        &self,
        session: &mut Session<'_>,
        name: &str,
        spec: Spec,
        come: impl Fn() -> bool,
    ) -> bool {
        let mut spec = self.on_one_version(spec);
        let pid = session.directory().join("pid");
        drop(fs::remove_file(&pid));
        // It stays this process to its end, and the runner's child.
        let program = std::mem::replace(&mut spec.program, "/bin/sh".into());
        let script = format!("echo $$ >{0}.new; mv {0}.new {0}; exec \"$0\" \"$@\"", pid.display());
        spec.arguments.splice(0..0, ["-c".into(), script.into(), program]);
        std::thread::scope(|scope| {
            let stage = scope.spawn(|| session.call_spec(name, &spec));
            let begun = Instant::now();
            while !(stage.is_finished() || pid.exists() && come()) {
                assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain for {name}");
                std::thread::sleep(Duration::from_millis(5));
            }
            let number = fs::read_to_string(&pid).expect("a file").trim().parse().expect("a number");
            let runs = !stage.is_finished() && kill(Pid::from_raw(number), Signal::SIGKILL).is_ok();
            drop(stage.join().expect("the stage"));
            runs
        })
    }

    /// Has root look after jobs that are over, and after what is left of this one.
    fn nothing_is_left_after_a_sweep(&self, when: &str) {
        for record in self.world.records() {
            records::change(&record, |record| record.expires_at = 1);
        }
        let words = ["sweep", "--runner-user", self.world.runner().name.as_str()];
        let program = self.world.paths().bin.join("nunbirdctl");
        let swept = self.world.run(&self.on_one_version(self.world.program("root", program, &words)));
        assert_eq!(swept.exit, Exit::Code(0), "{when}: {swept:?}");
        assert!(self.world.records().is_empty(), "{when}: {swept:?}");
        let begun = Instant::now();
        while !self.processes().is_empty() && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(self.processes(), [""; 0], "{when}: {swept:?}");
        let names = |path: &str| {
            let entries = fs::read_dir(self.world.host_path(path)).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).collect::<Vec<PathBuf>>()
        };
        let mut left = [names("/home/alice/.nunbird/containers"), names("/home/alice/store/jobs")].concat();
        let beside = [names("/tmp"), names("/var/tmp")].concat();
        left.extend(beside.into_iter().filter(|path| path.to_string_lossy().contains("/nb-")));
        let images = names("/home/alice/store/images-one");
        left.extend(images.into_iter().filter(|path| path.to_string_lossy().contains(".new-")));
        assert!(left.is_empty(), "{when}: {left:?}\n{swept:?}");
    }

    /// Whatever runs on this machine: the directory that holds it is in the mounts of each of its processes.
    fn running(&self) -> Vec<PathBuf> {
        let root = self.world.root().display().to_string();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
        entries
            .filter(|path| {
                fs::read_to_string(path.join("mountinfo")).is_ok_and(|mounts| mounts.contains(&root))
            })
            .collect()
    }

    fn processes(&self) -> Vec<String> {
        let words = self.running().into_iter().map(|path| fs::read(path.join("cmdline")).unwrap_or_default());
        words.map(|words| String::from_utf8_lossy(&words).replace('\0', " ")).collect()
    }
}

/// A failed test leaves no container.
impl Drop for Site {
    fn drop(&mut self) {
        for path in self.running() {
            let pid = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            if let Some(pid) = pid {
                let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

/// Whether a process sleeps so many seconds, wherever it is.
fn sleeps(seconds: &str) -> bool {
    let words = format!("sleep\0{seconds}\0").into_bytes();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.into_iter().any(|entry| fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == words))
}

#[needs(root, in_each = ENGINES)]
fn a_sweep_leaves_nothing_of_a_job_whose_program_is_killed_in_any_of_the_twelve_stages(engine: &str) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let site = Site::new(engine);
    if let Some(registry) = &site.registry {
        let job = site.job();
        let mut session = job.begin();
        assert!(session.config().succeeded());
        registry.front().fail(On::Blobs, Fault::Hang);
        let spec = session.spec_of_prepare();
        let is_pulling = || !registry.front().blobs().is_empty();
        assert!(site.call_and_kill(&mut session, "prepare", spec, is_pulling));
        site.nothing_is_left_after_a_sweep("prepare, in a pull");
        registry.front().heal();
    }
    for pause in [20, 100, 300] {
        let job = site.job();
        let mut session = job.begin();
        assert!(session.config().succeeded());
        let (spec, begun) = (session.spec_of_prepare(), Instant::now());
        site.call_and_kill(&mut session, "prepare", spec, || begun.elapsed() > Duration::from_millis(pause));
        site.nothing_is_left_after_a_sweep(&format!("prepare, after {pause} ms"));
    }
    for (name, _) in STAGES {
        let job = site.job();
        let mut session = site.prepared(&job);
        // Seconds that no other process sleeps.
        let seconds = format!("{}{:03}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let file = session.directory().join("script");
        let script = format!("setsid sleep {seconds}1 & sleep {seconds} & wait\n");
        session.write(&file, script.as_bytes(), 0o700);
        let spec = session.spec_of_run(&file, name);
        let has_begun = || sleeps(&seconds) && sleeps(&format!("{seconds}1"));
        assert!(site.call_and_kill(&mut session, name, spec, has_begun), "{name}");
        site.nothing_is_left_after_a_sweep(name);
    }
    for pause in [0, 20, 100, 300] {
        let job = site.job();
        let mut session = site.prepared(&job);
        let (spec, begun) = (session.spec_of_cleanup(), Instant::now());
        site.call_and_kill(&mut session, "cleanup", spec, || begun.elapsed() > Duration::from_millis(pause));
        site.nothing_is_left_after_a_sweep(&format!("cleanup, after {pause} ms"));
    }
    let job = site.job();
    let mut session = site.prepared(&job);
    let ran = site.run(&mut session, "echo runs\n");
    assert!(ran.succeeded() && ran.log.contains("runs"), "{}", ran.log);
    site.end(session);
    site.nothing_is_left_after_a_sweep("the next job");
}

#[needs(root)]
fn user_and_platform_of_the_jobs_image_reach_the_engine() {
    let site = Site::new("podman");
    let registry = site.registry.as_ref().expect("a registry");
    registry.push("lattice/tools:1", &Index(vec![samples::busybox(), samples::foreign()]));
    let (own, foreign) = platforms();
    let job = |platform: &'static str| {
        site.job().response(move |response| {
            response["image"]["executor_opts"] = json!({ "docker": { "user": 1000, "platform": platform } });
        })
    };
    let own = job(own);
    let mut session = own.begin();
    assert!(session.config().succeeded());
    let prepared = site.prepare(&mut session);
    assert!(prepared.succeeded(), "{}", prepared.log);
    assert!(prepared.log.contains("warning: `docker: user: 1000` is not used"), "{}", prepared.log);
    let ran = site.run(&mut session, "id -u; cat /etc/image\n");
    assert!(ran.log.contains("4101\nbusybox\n"), "{}", ran.log);
    site.end(session);
    let other = job(foreign);
    let mut session = other.begin();
    assert!(session.config().succeeded());
    let prepared = site.prepare(&mut session);
    assert_eq!(prepared.exit, Exit::Code(1), "{}", prepared.log);
    assert!(
        prepared.log.contains("cannot use the image") && prepared.log.contains(foreign),
        "{}",
        prepared.log
    );
    site.end(session);
}
