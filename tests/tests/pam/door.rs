//! Which accounts may start `nunbird-session`, which may signal its processes, and what their end
//! means for the job.

use super::{NOTE, begin, is_gone, machine, sessions, wait};
use nunbird_tests::{Exit, Privilege, World, needs};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PROGRAM: &str = "/opt/nunbird/bin/nunbird-session";

#[needs(root)]
fn no_account_gets_anything_from_the_session_program_by_starting_it() {
    let world = machine(Privilege::Setuid, "account required pam_permit.so\n");
    for account in ["alice", "nbt_runner"] {
        let outcome = world.shell(account, PROGRAM);
        assert_eq!(outcome.exit, Exit::Code(126), "{account}: {outcome:?}");
    }
    for command in [
        PROGRAM.to_owned(),
        format!("{PROGRAM} x"),
        format!("{PROGRAM} 3</dev/null 6</dev/null 7</dev/null 8</dev/null"),
    ] {
        let outcome = world.shell("root", &command);
        assert_eq!(outcome.exit, Exit::Code(2), "{command}: {outcome:?}");
    }
    // If it were executable, it would still refuse.
    fs::set_permissions(world.host_path(PROGRAM), std::os::unix::fs::PermissionsExt::from_mode(0o4755))
        .expect("a mode");
    let outcome = world.shell("alice", PROGRAM);
    assert!(outcome.stderr.contains("only nunbird-auth starts this program"), "{outcome:?}");
    assert_eq!(sessions(&world), (0, 0));
}

/// Parents of a process, from the nearest.
fn ancestors(pid: i32, count: usize) -> Vec<i32> {
    let parent = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
    };
    std::iter::successors(Some(pid), parent).skip(1).take(count).collect()
}

/// Runs a stage with these processes: launcher, the two of the session, the shepherd.
fn while_running(world: &World, during: impl FnOnce([i32; 4])) -> nunbird_tests::StageOutcome {
    let job = world.job().limit(Duration::from_secs(30));
    let mut session = job.begin();
    begin(&mut session);
    let shown = world.host_path("/home/alice/pid");
    let script = "echo $$ > ~/pid.new; mv ~/pid.new ~/pid\nwhile [ ! -e ~/enough ]; do sleep 0.05; done\n";
    std::thread::scope(|scope| {
        let stage = scope.spawn(|| session.run_text("build_script", script));
        let shell: i32 = wait(|| fs::read_to_string(&shown).ok()).trim().parse().expect("a number");
        during(<[i32; 4]>::try_from(ancestors(shell, 4)).expect("four processes"));
        stage.join().expect("the stage's thread")
    })
}

#[needs(root)]
fn neither_runner_nor_user_reaches_the_processes_of_the_session() {
    let world = machine(Privilege::Setuid, "account required pam_permit.so\n");
    let outcome = while_running(&world, |[_, caller, waiter, shepherd]| {
        for account in ["nbt_runner", "alice", "bob"] {
            for pid in [caller, waiter] {
                for command in [
                    format!("kill -0 {pid}"),
                    format!(": < /proc/{pid}/mem"),
                    format!("cat /proc/{pid}/environ"),
                ] {
                    assert_ne!(world.shell(account, &command).exit, Exit::Code(0), "{account}: {command}");
                }
            }
        }
        let runner = world.shell("nbt_runner", &format!("kill -0 {shepherd}"));
        assert_eq!(runner.exit, Exit::Code(0), "{runner:?}");
        for pid in [caller, waiter] {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).expect("a process");
            assert!(name.starts_with("nunbird-session") || name.trim().parse::<u32>().is_ok(), "{name}");
        }
        world.write_file("/home/alice/enough", "", "alice", 0o600);
    });
    assert!(outcome.succeeded(), "{}", outcome.log);
}

#[needs(root)]
fn the_end_of_any_process_above_the_launcher_ends_the_job_and_closes_the_session() {
    for (which, closed) in [(3, true), (2, true), (0, true), (1, false)] {
        let world = machine(Privilege::Setuid, &format!("account required pam_permit.so\n{NOTE}"));
        let mut processes: Vec<PathBuf> = Vec::new();
        let outcome = while_running(&world, |pids| {
            processes = pids.iter().map(|pid| Path::new("/proc").join(pid.to_string())).collect();
            let killed = world.shell("root", &format!("kill -KILL {}", pids[which]));
            assert_eq!(killed.exit, Exit::Code(0), "{killed:?}");
        });
        assert!(!outcome.succeeded(), "{which}: {}", outcome.log);
        for process in &processes {
            wait(|| Some(()).filter(|()| is_gone(process)));
        }
        let (opened, left) = sessions(&world);
        assert_eq!(opened == left, closed, "{which}: {opened} opened, {left} closed");
    }
}
