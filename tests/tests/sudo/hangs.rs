//! Cleanups that their users keep from ending. Each takes the full time of a cleanup.

use super::{SUDOERS, begin, machine, sudoers};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nunbird_tests::records;
use nunbird_tests::world::{Account, Exit};
use nunbird_tests::{StageOutcome, World, needs};
use std::fs;
use std::time::Duration;

/// A private system with its own account: other tests' launchers run on this host at the same time.
fn hunted(uid: u32) -> (World, String) {
    let mut world = machine();
    let name = format!("hunter{uid}");
    world.add_account(Account::new(&name, uid));
    world.write_file(SUDOERS, sudoers().replace("(%lattice)", &format!("({name})")), "root", 0o440);
    (world, name)
}

/// A cleanup while a daemon of the user stops what matches `pattern`. The job leaves it enough to
/// do to be caught.
fn clean_up(world: &World, user: &str, pattern: &str) -> StageOutcome {
    let job = world.job().user(user).limit(Duration::from_secs(200));
    let mut session = job.begin();
    begin(&mut session);
    let record = || {
        let entries =
            fs::read_dir(world.host_path("/home/nbt_runner/.local/state/nunbird/jobs")).expect("records");
        let mut paths = entries.flatten().map(|entry| entry.path());
        paths.find(|path| path.extension().is_some_and(|extension| extension == "record"))
    };
    let place = records::spec(&record().expect("a record")).workspace.project_dir;
    let place = place.to_str().expect("a path");
    let much = format!("mkdir -p {place}.tmp && cd {place}.tmp && touch {{1..60000}}");
    assert!(session.run_text("prepare_script", &much).succeeded());
    // Signals do not reach processes of other accounts.
    let hunt = format!(
        "perl -e '$end = time + 20; while (time < $end) {{ select undef, undef, undef, 0.005; for (glob q(/proc/[0-9]*/cmdline)) {{ open my $f, $_ or next; \
         $line = <$f>; kill STOP => m(([0-9]+)) if $line =~ /{pattern}/ }} }}'"
    );
    let outcome = std::thread::scope(|scope| {
        let hunter = scope.spawn(|| world.shell(user, &hunt));
        std::thread::sleep(Duration::from_millis(300));
        let outcome = session.cleanup();
        let _ended = hunter.join();
        outcome
    });
    assert!(record().is_some(), "it can be called again: {}", outcome.log);
    outcome
}

#[track_caller]
fn assert_reported(outcome: &StageOutcome) {
    assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
    assert!(outcome.stderr.contains("[launcher]"), "{}", outcome.log);
    assert!((118..140).contains(&outcome.elapsed.as_secs()), "{:?}", outcome.elapsed);
}

#[needs(root)]
fn a_clean_up_whose_launcher_is_stopped_is_ended_and_reported() {
    let (world, user) = hunted(4178);
    // Not its parent, which has `--sudo`.
    let outcome = clean_up(&world, &user, "^nunbird.$");
    assert_reported(&outcome);
    let left = world.shell(&user, &format!("pgrep -u {user} -f nunbir[d]"));
    assert_eq!(left.stdout, "", "the launcher and its parent are gone");
}

#[needs(root)]
fn a_clean_up_of_which_everything_is_stopped_does_not_hold_the_runner() {
    let (world, user) = hunted(4179);
    let outcome = clean_up(&world, &user, "nunbir[d]");
    assert_reported(&outcome);
    let _killed_itself_too = world.shell(&user, "kill -KILL -1");
    // sudo has stopped itself as its child was stopped. It is root's, and of no other test: its account is this one's.
    let left = world.shell("root", &format!("pgrep -f '^sudo -n -u {user} '"));
    for pid in left.stdout.lines().filter_map(|line| line.parse().ok()) {
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("our sudo");
    }
}
