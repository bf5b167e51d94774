//! Old build directories.

use super::{action, age, credentials, items, ready, sweep};
use nunbird_tests::needs;
use nunbird_tests::world::{Exit, Privilege};

#[needs(root)]
fn old_build_directories_of_people_who_start_no_jobs_go_as_themselves() {
    for privilege in [Privilege::Setuid, Privilege::FileCaps, Privilege::None] {
        let world = ready(privilege);
        let keeper = if privilege == Privilege::None { "alice" } else { "root" };
        let (old, live) = (world.job(), world.job().id(7002));
        let (mut first, mut second) = (old.begin(), live.begin());
        for session in [&mut first, &mut second] {
            assert!(session.config().succeeded() && session.prepare().succeeded());
        }
        assert!(first.cleanup().succeeded());
        let place = credentials(&world).ancestors().nth(3).expect("this host's").to_owned();
        let builds = || ["000", "001"].map(|name| place.join(name).exists());
        assert_eq!(builds(), [true, true]);
        assert!(
            items(&sweep(&world, keeper, &[])).iter().all(|item| item.0 != "~alice"),
            "the site has no rules"
        );
        world.reconfigure("[audit]", "[directories]\nmax_age = \"1h\"\n\n[audit]");
        let young = sweep(&world, keeper, &[]);
        assert_eq!(
            (action(&items(&young), "~alice"), builds()),
            ("not looked at", [true, true]),
            "{}",
            young.stdout
        );
        for name in [".000.job", ".001.job", "000", "001"] {
            age(&place.join(name), 3);
        }
        let dry = sweep(&world, keeper, &["--dry-run"]);
        assert_eq!((action(&items(&dry), "~alice"), builds()), ("kept", [true, true]), "{}", dry.stdout);
        let done = sweep(&world, keeper, &["--account", "alice"]);
        assert_eq!(done.exit, Exit::Code(0), "{privilege:?}: {}{}", done.stdout, done.stderr);
        assert_eq!(action(&items(&done), "~alice"), "removed", "{}", done.stdout);
        assert_eq!(builds(), [false, true], "{privilege:?}: 001 has a job");
        assert!(second.cleanup().succeeded());
        for account in ["nbt_runner", "bob"] {
            let program = world.paths().bin.join("nunbird-auth");
            let refused = world.run(&world.program(account, program, &["tidy", "alice"]));
            assert_ne!(refused.exit, Exit::Code(0), "{privilege:?}: {account}: {}", refused.stdout);
        }
    }
    let world = ready(Privilege::Setuid);
    world.reconfigure("[audit]", "[directories]\nmax_age = \"1h\"\n\n[audit]");
    let system = sweep(&world, "root", &["--account", "queue"]);
    assert_eq!(action(&items(&system), "~queue"), "kept", "{}", system.stdout);
    assert_eq!(system.exit, Exit::Code(0), "the audit file remembers accounts for ever");
}
