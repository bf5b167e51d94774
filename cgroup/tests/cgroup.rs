//! Groups of version 1 on this host: each limit set, read back, and enforced on a real process. Needs root.
//!
//! Everything in one test: acting as a user changes the ids of all threads of this process (nptl(7)).

use nunbird_cgroup::{Amounts, Hierarchy, JobGroup, Parent, Place, Trouble, Way, below, make_room, name_of};
use nunbird_skip::{needs, skip, skip_part};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// No account of any host has it.
const USER: u32 = 641_237;
const PATIENCE: Duration = Duration::from_secs(20);

/// A group of the test's own in every hierarchy, removed when it goes.
struct Parents(Place);

impl Parents {
    fn make() -> Option<Self> {
        let mut place = Place { unified: None, separate: BTreeMap::new() };
        for (name, hierarchy) in Place::own().expect("proc").separate {
            let group = hierarchy.mount.join(format!("nbt_{}", std::process::id()));
            if ["memory", "cpu", "cpuacct", "pids", "freezer"].contains(&name.as_str()) {
                if !group.exists() {
                    std::fs::create_dir(&group).ok()?;
                }
                place.separate.insert(name, Hierarchy { group, ..hierarchy });
            }
        }
        Some(Parents(place))
    }
}

impl Drop for Parents {
    fn drop(&mut self) {
        for hierarchy in self.0.separate.values() {
            // After a failed assertion the jobs' groups are still there, with processes of USER alone.
            for job in std::fs::read_dir(&hierarchy.group).into_iter().flatten().flatten() {
                let paths = BTreeMap::from([("pids".to_owned(), job.path())]);
                if let Ok(group) = JobGroup::open(Way::Separate, &paths, 0) {
                    let _ = group.kill(USER, PATIENCE);
                    let _ = group.remove(PATIENCE);
                }
            }
            let _also_when_failed = std::fs::remove_dir(&hierarchy.group);
        }
    }
}

/// Runs a script in the group. The shell waits until it is there, as a stage's process does.
fn run(group: &JobGroup, script: &str) -> ExitStatus {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("read -r go\n{script}")]).uid(USER).gid(USER);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("sh");
    group.enter(child.id().cast_signed()).expect("entered");
    child.stdin.take().expect("a pipe").write_all(b"go\n").expect("it waits");
    child.wait().expect("sh")
}

/// A group of root's below the unified hierarchy, which needs no controllers for this; removed when it goes.
struct Unit(Hierarchy);

impl Unit {
    fn make(name: &str) -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("proc");
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?;
        let group = Path::new(mount).join(format!("nbt_{}_{name}", std::process::id()));
        std::fs::create_dir(&group).ok()?;
        Some(Unit(Hierarchy { mount: mount.into(), group }))
    }

    fn mark(&self, value: &str) {
        let path = CString::new(self.0.group.as_os_str().as_bytes()).expect("no NUL");
        let name = c"user.delegate";
        // SAFETY: path and name end with NUL, and the length is that of the value, which is only read.
        let set =
            unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let leaf = self.0.group.join("runner");
        for group in [&leaf, &self.0.group] {
            let _absent = std::fs::remove_dir(group);
        }
    }
}

#[needs(root)]
fn nothing_is_made_below_a_group_of_roots_that_systemd_has_not_delegated() {
    // Where cron(8) has the runner's account call from.
    let Some(unit) = Unit::make("cron.service") else {
        skip!("this host has no unified hierarchy to write to");
    };
    let below =
        || std::fs::read_dir(&unit.0.group).expect("a group").flatten().filter(|e| e.path().is_dir()).count();
    let mut sleeper = Command::new("/bin/sleep").arg("60").spawn().expect("sleep runs");
    std::fs::write(unit.0.group.join("cgroup.procs"), sleeper.id().to_string()).expect("moved");
    let place = |group: &Path| Hierarchy { group: group.to_path_buf(), mount: unit.0.mount.clone() };
    let refused = |hierarchy: &Hierarchy| match make_room(hierarchy, 0, &[]) {
        Err(trouble @ Trouble::NotDelegated(_)) => trouble.to_string(),
        other => panic!("{other:?}"),
    };
    let trouble = refused(&unit.0);
    assert!(trouble.contains("cron.service`") && trouble.contains("Delegate=yes"), "{trouble}");
    // Also from a group below it, and with a mark that says no.
    refused(&place(&unit.0.group.join("session")));
    unit.mark("0");
    refused(&unit.0);
    let processes = std::fs::read_to_string(unit.0.group.join("cgroup.procs")).expect("processes");
    assert_eq!((below(), processes.trim()), (0, sleeper.id().to_string().as_str()), "nothing has moved");
    unit.mark("1");
    assert_eq!(make_room(&unit.0, 0, &[]).expect("delegated"), unit.0.group);
    sleeper.kill().expect("ended");
    sleeper.wait().expect("waited for");
}

#[needs(root)]
fn limits_of_version_one_are_set_read_back_and_enforced() {
    let Some(parents) =
        Parents::make().filter(|p| ["memory", "cpu", "pids"].iter().all(|c| p.0.separate.contains_key(*c)))
    else {
        skip!("this machine has no control groups of version 1 that it may write to");
    };
    nix::sys::prctl::set_child_subreaper(true).expect("subreaper");
    let amounts = Amounts {
        memory: Some(64 << 20),
        swap: Some(0),
        cpu: Some(200),
        pids: Some(20),
        ..Amounts::default()
    };
    let make = |number| JobGroup::make(&parents.0, Way::Separate, &name_of(number, 7), 0, &amounts);
    let group = make(1).expect("made");
    group.verify(&amounts).expect("read back");
    assert!(make(1).is_err(), "a group that is there already is not taken over");
    let group_again = JobGroup::open(Way::Separate, &group.paths(), 0).expect("found by a later stage");

    let (files, counters) = group.gauges();
    let contents = || counters.iter().map(nunbird_groups::Counter::content).collect::<Vec<_>>();
    let killed = || nunbird_audit::usage(&files, &contents()).oom_kills.expect("memory is counted");
    let used = || {
        let (files, contents) = group.used();
        nunbird_audit::usage(&files, &contents)
    };
    let before = killed();
    let hungry = run(&group_again, "perl -e '$x = q(x) x (256 << 20); print length $x'; exit $?");
    assert_eq!(hungry.code(), Some(137), "{hungry:?}");
    assert!(killed() > before);
    assert!(run(&group_again, "perl -e '$x = q(x) x (8 << 20)'").success(), "little memory is given");

    run(&group_again, "i=0; while [ $i -lt 40 ]; do sleep 600 & i=$((i+1)); done; exit 0");
    assert!(used().forks_refused.expect("counted") > 0);
    let asleep = group.processes().expect("processes");
    assert!((1..=20).contains(&asleep.len()), "{asleep:?}");
    group.kill(USER, PATIENCE).expect("all gone");
    reap();
    assert!(asleep.iter().all(|pid| !is_running(*pid)));

    assert!(run(&group_again, "perl -e 'do { @t = times } while $t[0] + $t[1] < 0.3'").success());
    let usage = used();
    assert!(usage.throttled.expect("counted") > 0, "{usage:?}");
    assert!(usage.cpu_time.expect("counted") >= 300_000, "{usage:?}");
    assert!(usage.memory_peak.expect("counted") > 32 << 20, "{usage:?}");
    println!("limit   set                     read back  enforced");
    println!("memory  memory.limit_in_bytes   yes        {} killed", killed());
    println!("swap    memory.memsw.limit_...  yes        {} killed", killed());
    println!("pids    pids.max                yes        {:?} forks refused", usage.forks_refused);
    println!("cpu     cpu.cfs_quota_us        yes        {:?} microseconds held back", usage.throttled);

    fast_forkers_and_stopped_processes_end(&make(2).expect("made"));
    for number in [1, 2] {
        let paths =
            group.paths().into_iter().map(|(c, p)| (c, p.with_file_name(name_of(number, 7)))).collect();
        JobGroup::open(Way::Separate, &paths, 0).expect("there").remove(PATIENCE).expect("removed");
        assert!(paths.values().all(|path| !path.exists()));
    }
    what_cannot_be_is_reported_and_leaves_nothing(&parents.0);
    a_process_of_roots_in_a_stray_group_ends_only_while_it_is_frozen(&parents.0);
}

fn fast_forkers_and_stopped_processes_end(group: &JobGroup) {
    // Each process starts the next and ends; a list of them is old when it is read.
    let bomb = "perl -e 'use POSIX; setsid; while (1) { my $p = fork; exit if $p; }' & \
                sh -c 'trap \"\" TERM; kill -STOP $$' & exit 0";
    assert!(run(group, bomb).success());
    group.kill(USER, PATIENCE).expect("all gone");
    reap();
    assert_eq!(group.processes().expect("read"), Vec::<i32>::new());
}

fn what_cannot_be_is_reported_and_leaves_nothing(place: &Place) {
    let amounts = Amounts { pids: Some(u64::MAX), ..Amounts::default() };
    let refused = JobGroup::make(place, Way::Separate, &name_of(3, 7), 0, &amounts);
    assert!(matches!(&refused, Err(Trouble::File(path, ..)) if path.ends_with("pids.max")), "{refused:?}");
    let mut without = place.clone();
    without.separate.remove("pids");
    let refused = JobGroup::make(
        &without,
        Way::Separate,
        &name_of(3, 7),
        0,
        &Amounts { pids: Some(5), ..amounts.clone() },
    );
    assert!(matches!(&refused, Err(Trouble::Missing(names)) if names == &["pids"]), "{refused:?}");
    let refused = JobGroup::make(place, Way::Unified, &name_of(3, 7), 0, &amounts);
    assert!(matches!(refused, Err(Trouble::Missing(_))));
    for hierarchy in place.separate.values() {
        assert!(!hierarchy.group.join(name_of(3, 7)).exists());
    }
}

/// Else its number could have been given to any other of root's between the list and the signal.
fn a_process_of_roots_in_a_stray_group_ends_only_while_it_is_frozen(place: &Place) {
    let paths = |controllers: &[&str]| -> Vec<Parent> {
        let known = controllers.iter().filter_map(|name| Some((*name, place.separate.get(*name)?)));
        let parent = |(name, hierarchy): (&str, &Hierarchy)| Parent {
            way: Way::Separate,
            controller: name.to_owned(),
            path: hierarchy.group.clone(),
        };
        known.map(parent).collect()
    };
    for (number, parents, ends) in [(8, paths(&["pids"]), false), (9, paths(&["pids", "freezer"]), true)] {
        if ends && parents.len() < 2 {
            skip_part!("this machine has no freezer of version 1");
            continue;
        }
        let mut sleepers = [0, USER].map(|uid| {
            Command::new("/bin/sleep").arg("600").env_clear().uid(uid).gid(uid).spawn().expect("a process")
        });
        for parent in &parents {
            let group = parent.path.join(name_of(number, 7));
            std::fs::create_dir(&group).expect("a group");
            for sleeper in &sleepers {
                std::fs::write(group.join("cgroup.procs"), sleeper.id().to_string()).expect("moved");
            }
        }
        let strays = below(&parents, &[0]).expect("a list");
        assert_eq!(strays.len(), 1, "{strays:?}");
        let stray = strays.values().next().expect("a group");
        let ended = |sleeper: &mut Child| sleeper.try_wait().expect("a child").is_some();
        let first = std::thread::scope(|scope| {
            // Those that have ended are in the group until somebody has waited for them.
            let end = scope.spawn(|| stray.end(Instant::now() + Duration::from_millis(500)));
            while !end.is_finished() {
                for sleeper in &mut sleepers {
                    let _looked_at_again_below = ended(sleeper);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            end.join().expect("an end")
        });
        let [of_root, of_user] = &mut sleepers;
        assert!(ended(of_user), "{first:?}");
        assert_eq!((ended(of_root), first.is_ok()), (ends, ends), "{first:?}");
        if !ends {
            assert!(matches!(first, Err(Trouble::StillAlive(_, 1))), "{first:?}");
            of_root.kill().and_then(|()| of_root.wait()).expect("its end");
            assert_eq!(stray.end(Instant::now() + PATIENCE).expect("empty"), Some(0));
        }
        // As it is for a sweep that was overtaken by the job's own clean-up.
        assert_eq!(stray.end(Instant::now() + PATIENCE).expect("gone before"), None);
    }
}

/// A process counts until somebody has waited for it, and not every host's first process does.
fn reap() {
    while nix::sys::wait::waitpid(None, None).is_ok() {}
}

fn is_running(pid: i32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}
