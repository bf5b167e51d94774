//! Ends of containers: cancelled stages, killed launchers, cleanup.

use crate::container_world::{
    AccountIds, EVERY, IMAGE, alone, container, import, left, prepared, with, world,
};
use crate::world::{BUILD_FAILURE, SYSTEM_FAILURE, World, assert_code, err, out, runs};
use nix::sys::signal::Signal;
use nunbird_handover::PullPolicy;
use nunbird_skip::needs;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// With short waits.
fn impatient(ids: AccountIds) -> World {
    let mut world = with(World::impatient(), ids);
    import(&mut world, IMAGE, &[], ":");
    assert_code(&world.prepare(), 0);
    world
}

#[needs(root, in_each = EVERY)]
fn a_cancel_reaches_the_script_inside_and_its_last_words_arrive(ids: AccountIds) {
    let mut world = prepared(ids);
    let script = "trap 'echo asked; exit 5' TERM; echo ready; while :; do sleep 600 & wait $!; done";
    let ready = world.start_stage("build_script", script).ready();
    ready.signal(Signal::SIGTERM);
    let output = ready.finish();
    assert_code(&output, BUILD_FAILURE);
    assert_eq!((out(&output).as_str(), world.exit_code().as_str()), ("asked\n", "5\n"), "{}", err(&output));
    // As in GitLab's own executor, the script after it finds the files and none of the processes.
    let output = world.start_stage("after_script", "ps | grep -c '[s]leep 600'; exit 0").finish();
    assert_code(&output, 0);
    assert_eq!(out(&output), "0\n", "{}", err(&output));
    assert_code(&world.cleanup(), 0);
    assert_eq!(left(&world), Vec::<String>::new());
}

#[needs(root, in_each = EVERY)]
fn processes_that_ignore_term_and_leave_their_session_and_environment_are_killed(ids: AccountIds) {
    let mut world = impatient(ids);
    let script = "trap '' TERM HUP; echo kept >/tmp/kept; setsid sleep 801 & env -i /bin/busybox setsid /bin/busybox sleep 802 & \
                  (setsid sh -c 'trap \"\" TERM; sleep 803; sleep 804' &) ; echo ready; while :; do sleep 805; done";
    let ready = world.start_stage("build_script", script).ready();
    ready.signal(Signal::SIGTERM);
    let output = ready.finish();
    assert_code(&output, BUILD_FAILURE);
    assert!(err(&output).contains("did not end within"), "{}", err(&output));
    let output =
        world.start_stage("after_script", "ps | grep -c '[s]leep 80'; cat /tmp/kept; exit 0").finish();
    assert_code(&output, 0);
    assert_eq!(out(&output), "0\nkept\n", "{}", err(&output));
    assert_code(&world.cleanup(), 0);
    assert_eq!(left(&world), Vec::<String>::new());
}

#[needs(root, in_each = EVERY)]
fn cleanup_after_a_killed_launcher_ends_everything(ids: AccountIds) {
    let mut world = prepared(ids);
    let script =
        "setsid sleep 811 & env -i /bin/busybox setsid /bin/busybox sleep 812 & echo ready; sleep 813";
    let ready = world.start_stage("build_script", script).ready();
    ready.signal(Signal::SIGKILL);
    drop(ready);
    let output = world.cleanup();
    assert_code(&output, 0);
    assert_eq!(left(&world), Vec::<String>::new(), "{}", err(&output));
}

#[needs(root, in_each = EVERY)]
fn the_outer_script_needs_nothing_of_nunbird(ids: AccountIds) {
    let mut world = prepared(ids);
    let directory = container(&mut world).directory.clone();
    assert_code(&world.run("exit 3"), BUILD_FAILURE);
    let removed = alone(&world, "destroy", "");
    assert!(removed.status.success(), "{removed:?}");
    let only: Vec<String> =
        left(&world).into_iter().filter(|one| *one != directory.display().to_string()).collect();
    assert_eq!(only, Vec::<String>::new());
    // What the script has reported is read later.
    assert!(fs::read_to_string(directory.join("inside/record")).expect("a record").starts_with("code 3\n"));
    // As at the beginning of an allocation: the container is not there.
    let output = alone(&world, "run", "echo of the node; sleep 821 & exit 6");
    assert_eq!((out(&output).as_str(), output.status.code()), ("of the node\n", Some(6)), "{output:?}");
    let record = fs::read_to_string(directory.join("inside/record")).expect("a record");
    assert!(record.starts_with("code 6\nbegun yes\nend "), "{record}");
    assert!(alone(&world, "stop", "").status.success());
    assert!(alone(&world, "destroy", "").status.success());
    assert!(alone(&world, "destroy", "").status.success());
    assert_code(&world.cleanup(), 0);
    assert_eq!(left(&world), Vec::<String>::new());
}

/// A cleanup whose runner was killed goes on, and another one comes: each takes away what the other one has written.
#[needs(root)]
fn a_cleanup_whose_script_another_one_takes_away_writes_it_again() {
    let mut world = prepared(AccountIds::Many);
    let directory = container(&mut world).directory.clone();
    let outer = directory.join("outer");
    fs::remove_file(&outer).expect("a script");
    let cleaned = AtomicBool::new(false);
    let (output, taken) = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut taken = 0;
            while taken < 3 && !cleaned.load(Ordering::Relaxed) {
                taken += usize::from(fs::remove_file(&outer).is_ok());
            }
            taken
        });
        let output = world.cleanup();
        cleaned.store(true, Ordering::Relaxed);
        (output, other.join().expect("the other one"))
    });
    assert_code(&output, 0);
    assert!(taken > 0, "the script was never there");
    assert!(!directory.exists());
    assert_eq!(left(&world), Vec::<String>::new(), "{}", err(&output));
}

#[needs(root)]
fn one_cleanup_waits_for_another_one_of_its_job() {
    let mut world = prepared(AccountIds::Many);
    let directory = container(&mut world).directory.clone();
    let other = fs::File::create(directory.join("removal")).expect("a file");
    fs::set_permissions(directory.join("removal"), fs::Permissions::from_mode(0o666)).expect("a mode");
    other.lock().expect("a lock");
    let output = std::thread::scope(|scope| {
        let cleanup = scope.spawn(|| world.cleanup());
        std::thread::sleep(Duration::from_secs(3));
        assert!(!cleanup.is_finished() && directory.join("outer").exists());
        other.unlock().expect("unlocked");
        cleanup.join().expect("a cleanup")
    });
    assert_code(&output, 0);
    assert!(!directory.exists());
    assert_eq!(left(&world), Vec::<String>::new(), "{}", err(&output));
}

#[needs(root)]
fn cleanup_without_a_prepare_and_after_a_half_one_is_fine() {
    let mut world = world(AccountIds::Many);
    assert_code(&world.cleanup(), 0);
    import(&mut world, IMAGE, &[], ":");
    assert_code(&world.prepare(), 0);
    // gitlab-runner prepares up to three times.
    assert_code(&world.prepare(), 0);
    let output = world.run("echo again; exit 0");
    assert_eq!(out(&output), "again\n", "{}", err(&output));
    // What the engine keeps is lost: something has tidied up the host's temporary files.
    let lost = world.path("lost");
    fs::rename(format!("/tmp/nb-{}", world.handover.decision_id), &lost).expect("another place");
    let output = world.cleanup();
    assert_code(&output, 0);
    assert_eq!(left(&world), Vec::<String>::new(), "{}", err(&output));
}

#[needs(root)]
fn a_pull_ends_at_its_limit_of_time_and_when_the_job_is_cancelled() {
    // Takes connections and says nothing.
    let registry = TcpListener::bind("127.0.0.1:0").expect("a port");
    let name = format!("127.0.0.1:{}/nbt/slow:1", registry.local_addr().expect("an address").port());
    let mut world = world(AccountIds::Many);
    let of = container(&mut world);
    of.pull_timeout = 2;
    let image = of.image.as_mut().expect("an image");
    image.name = name;
    image.pull = vec![PullPolicy::IfNotPresent];
    let output = world.prepare();
    assert_code(&output, SYSTEM_FAILURE);
    assert!(err(&output).contains("it took more than 2 s"), "{}", err(&output));
    registry.set_nonblocking(true).expect("a listener");
    while registry.accept().is_ok() {}
    registry.set_nonblocking(false).expect("a listener");
    container(&mut world).pull_timeout = 600;
    let running = world.start("");
    let connection = registry.accept().expect("a pull");
    running.signal(Signal::SIGTERM);
    let output = running.finish();
    drop(connection);
    assert_code(&output, BUILD_FAILURE);
    assert!(err(&output).contains("cancelled while"), "{}", err(&output));
    assert_code(&world.cleanup(), 0);
    assert_eq!(left(&world), Vec::<String>::new());
}

#[needs(root)]
fn a_stage_whose_prepare_was_never_done_says_so() {
    let mut world = world(AccountIds::Many);
    world.mkdir(&world.handover.workspace.data_dir.clone(), 0o700);
    let output = world.run("exit 0");
    assert_code(&output, SYSTEM_FAILURE);
    assert!(err(&output).contains("cannot find the job's image"), "{}", err(&output));
    assert!(!runs("0"));
}

/// The double of rm(1) stands for a tree with millions of entries.
#[needs(root)]
fn what_takes_for_ever_to_remove_does_not_hold_the_next_stage_and_goes_with_a_later_one() {
    let mut world = world(AccountIds::Many);
    import(&mut world, IMAGE, &[], ":");
    // Not in /tmp, where other tests of this account remove it.
    let place = world.path("other-tmp");
    world.mkdir(&place, 0o700);
    world.mounts.as_mut().expect("mounts").push_str(&format!("; mount --bind {} /var/tmp", place.display()));
    let old = place.join("nb-0123456789abcdef0123-01234567");
    world.mkdir(&old.join("tree"), 0o700);
    world.write(&old.join("alive"), "");
    world.write(&old.join("tree/file"), "");
    let bin = world.path("bin");
    world.mkdir(&bin, 0o755);
    let double = "#!/bin/sh\ncase \"$*\" in */nb-0123456789abcdef0123-*) exec sleep 4242 ;; esac\nexec /bin/rm \"$@\"\n";
    world.write(&bin.join("rm"), double);
    fs::set_permissions(bin.join("rm"), fs::Permissions::from_mode(0o755)).expect("a mode");
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", bin.display());
    container(&mut world).engine_environment.insert("PATH".to_owned(), path);
    let begin = Instant::now();
    assert_code(&world.prepare(), 0);
    let took = begin.elapsed();
    assert!(took > Duration::from_secs(15) && took < Duration::from_secs(60), "{took:?}");
    assert!(old.join("alive").exists() && old.join("tree/file").exists());
    let sleeps = std::process::Command::new("pgrep").args(["-fx", "sleep 4242"]).output().expect("pgrep");
    assert_eq!(String::from_utf8_lossy(&sleeps.stdout), "");
    container(&mut world).engine_environment.clear();
    assert_code(&world.prepare(), 0);
    assert!(!old.exists());
    assert_code(&world.cleanup(), 0);
    assert_eq!(left(&world), Vec::<String>::new());
}
