//! The cost of a stage beside other ways to run an empty script as a user.

use crate::measure::{Contender, Row, in_turns, now};
use crate::report::Group;
use nunbird_tests::runner::Session;
use nunbird_tests::world::enter::Spec;
use nunbird_tests::world::{Privilege, World};
use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

const SETPRIV: &[&str] = &["/usr/bin/setpriv", "--reuid", "4101", "--regid", "4101", "--init-groups"];

/// All three ways in which the program gets its privilege.
pub(crate) fn groups(rounds: usize) -> Vec<Group> {
    Privilege::PRIVILEGED.into_iter().map(|privilege| group(rounds, privilege)).collect()
}

/// One of them.
pub(crate) fn group(rounds: usize, privilege: Privilege) -> Group {
    let world = World::new(privilege);
    assert!(world.refresh_keys().succeeded(), "keys");
    let job = world.job().with_repository();
    let mut session = job.begin();
    assert!(session.config().succeeded(), "config");
    assert!(session.prepare().succeeded(), "prepare");
    let title = format!("A stage, {}", privilege.audit_name());
    Group { title, peer: "setpriv, bash -l -c :".to_owned(), rows: rows(rounds, &world, &session, privilege) }
}

fn rows(rounds: usize, world: &World, session: &Session<'_>, privilege: Privilege) -> Vec<Row> {
    let script = session.directory().join("empty");
    session.write(&script, b":\n", 0o700);
    let run = session.spec_of_run(&script, "build_script");
    let (prepare, config) = (session.spec_of_prepare(), session.spec_of_config());
    let asks = world.configuration();
    let asks_not = asks.replace("audience =", "user_check = \"off\"\naudience =");
    // One job is admitted only a few times, and its record is what `prepare` and `run` need.
    let kept = RefCell::new(records(world));
    let admitted = |text: &str| {
        world.configure(text);
        forget(world);
        let took = once(world, &config);
        world.configure(&asks);
        forget(world);
        kept.borrow_mut().iter().for_each(|(name, bytes)| std::fs::write(name, bytes).expect("a record"));
        took
    };
    let as_root = |name: &str, words: &[&str]| {
        let spec = world.program("root", words[0], &words[1..]);
        Contender::new(name, move || once(world, &spec))
    };
    let login = |words: &[&'static str]| [words, &["bash", "-l", "-c", ":"]].concat();
    let systemd = match Path::new("/run/systemd/system").exists() {
        true => as_root(
            "systemd-run --uid --pipe",
            &login(&["/usr/bin/systemd-run", "--quiet", "--wait", "--pipe", "--uid", "alice"]),
        ),
        false => Contender::new("systemd-run --uid --pipe", || Err("systemd does not run here".to_owned())),
    };
    let mut all = vec![
        as_root("a program that does nothing", &["/bin/true"]),
        as_root("setpriv, bash -l -c :", &login(SETPRIV)),
        as_root("setpriv, bash -c :", &[SETPRIV, &["bash", "-c", ":"]].concat()),
        Contender::new("nunbird-auth run, an empty script", || once(world, &run)),
        Contender::new("nunbird-auth prepare", || once(world, &prepare)),
        Contender::new("nunbird-auth config, user not asked for", || admitted(&asks_not)),
        Contender::new("nunbird-auth config", || admitted(&asks)),
    ];
    if privilege == Privilege::RootRunner {
        all.extend([
            as_root("runuser -u, bash -l -c :", &login(&["/sbin/runuser", "-u", "alice", "--"])),
            as_root("su -l -c :", &["/bin/su", "-l", "alice", "-c", ":"]),
            as_root("sudo -n -u, bash -l -c :", &login(&["/usr/bin/sudo", "-n", "-u", "alice"])),
            systemd,
        ]);
    }
    in_turns(rounds, all)
}

fn records(world: &World) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let all = std::fs::read_dir(world.host_path("/var/lib/nunbird/jobs")).expect("the store").flatten();
    all.map(|entry| entry.path())
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), std::fs::read(&path).expect("a record")))
        .collect()
}

fn forget(world: &World) {
    records(world).iter().for_each(|(path, _)| std::fs::remove_file(path).expect("a record"));
}

fn once(world: &World, spec: &Spec) -> Result<Duration, String> {
    let begun = now();
    let finished = world.run(spec);
    let took = now() - begun;
    let last = |text: &str| text.lines().last().unwrap_or("").to_owned();
    if finished.succeeded() {
        Ok(took)
    } else {
        Err(format!("{:?} {}", finished.exit, last(&finished.stderr)))
    }
}
