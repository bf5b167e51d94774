//! The end of a job's session under adverse conditions.

use super::job::{ACCOUNT, PER_JOB, door, gone, keepers, kill, machine, sockets};
use super::{WITH_ROOT, begin, machine_with, sessions, wait};
use nunbird_tests::{Exit, Privilege, needs};
use std::path::PathBuf;

#[needs(root)]
fn a_session_that_does_not_open_keeps_no_process_and_one_that_does_not_close_is_ended() {
    let world = machine(Privilege::Setuid, "session required pam_deny.so\n");
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let prepare = session.prepare();
    assert_eq!(prepare.exit, Exit::Code(2), "{}", prepare.log);
    assert!(prepare.log.contains("[pam]"), "{}", prepare.log);
    assert_eq!(sockets(&world), Vec::<PathBuf>::new());
    assert!(session.cleanup().succeeded());

    let hang = "session required pam_exec.so type=close_session /usr/local/bin/nbt_hang\n";
    let settings = format!("{PER_JOB}timeout = \"1s\"\n");
    let world = machine_with(Privilege::Setuid, &format!("{ACCOUNT}{hang}"), &settings);
    let script = "#!/bin/bash\necho $$ > /var/log/nbt_hang; exec sleep 300\n";
    world.write_file("/usr/local/bin/nbt_hang", script, "root", 0o755);
    let job = world.job();
    let mut session = job.begin();
    begin(&mut session);
    let pids = keepers(&world);
    let cleanup = session.cleanup();
    assert!(cleanup.succeeded(), "{}", cleanup.log);
    assert!(cleanup.log.contains("was not closed as it should be"), "{}", cleanup.log);
    pids.iter().for_each(|pid| wait(|| Some(()).filter(|()| gone(*pid))));
    // The last of the keepers has reaped it.
    assert!(super::is_gone(&super::pid_in(&world.host_path("/var/log/nbt_hang"))));
    assert_eq!((sockets(&world), world.records()), (vec![], vec![]));
}

#[needs(root)]
fn two_clean_ups_at_once_both_wait_for_the_end_of_the_session() {
    // The stage continues for a while after `TERM`, so both requests come before the session is
    // closed.
    let world = machine(Privilege::Setuid, "");
    let job = world.job();
    let mut session = job.begin();
    begin(&mut session);
    let name = door(&world).expect("a socket");
    let pids = keepers(&world);
    let shown = world.host_path("/home/alice/going");
    let ask = format!(
        "import socket, sys\n\
         def ask():\n    s = socket.socket(socket.AF_UNIX); s.connect('{name}'); s.send(b'c'); return s\n\
         both = [ask(), ask()]\n\
         print([s.recv(9)[-1:] for s in both])"
    );
    let heard = std::thread::scope(|scope| {
        let stage =
            scope.spawn(|| session.run_text("build_script", "trap '' TERM; echo > ~/going; sleep 4; :"));
        wait(|| Some(()).filter(|()| shown.exists()));
        let heard = world.shell("root", &format!("/usr/bin/python3 -c \"{ask}\""));
        stage.join().expect("a stage");
        heard
    });
    assert_eq!(heard.stdout.trim(), "[b'.', b'.']", "{heard:?}");
    pids.iter().for_each(|pid| wait(|| Some(()).filter(|()| gone(*pid))));
    assert!(session.cleanup().succeeded());
}

/// Makes the runner's process the parent of the session's (`PR_SET_CHILD_SUBREAPER`, 36) before it becomes `config`.
const ADOPT: &str = r#"
import ctypes, json, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
prepare, config = json.loads(sys.argv[1]), sys.argv[2:]
subprocess.run(prepare, check=True)
os.execv(config[0], config)
"#;

#[needs(root)]
fn a_runner_that_adopts_the_keepers_of_a_session_ends_none_of_them() {
    // Whose processes are ended as root.
    let program = "[validation]\nscript = \"/etc/nunbird/validate\"\nuser = \"root\"\n";
    let world = machine(Privilege::Setuid, "");
    world.write_file("/etc/nunbird/validate", "#!/bin/sh\nexit 0\n", "root", 0o755);
    world.write_file("/etc/nunbird/floor", "validation_user root\n", "root", 0o644);
    world.reconfigure("[audit]\n", &format!("{program}\n[audit]\n"));
    let job = world.job();
    let mut session = job.begin();
    let config = session.config();
    assert!(config.succeeded(), "{}", config.log);
    let prepare = session.spec_of_prepare();
    let words: Vec<&str> = std::iter::once(&prepare.program)
        .chain(&prepare.arguments)
        .map(|w| w.to_str().expect("text"))
        .collect();
    let words = serde_json::to_string(&words).expect("JSON");
    let file = session.directory().join("adopt.py");
    session.write(&file, ADOPT.as_bytes(), 0o700);
    let mut spec = session.spec_of_config();
    let program = std::mem::replace(&mut spec.program, "/usr/bin/python3".into());
    spec.arguments.splice(0..0, [file.into(), words.into(), program]);
    let adopted = session.call_spec("config", &spec);
    assert!(adopted.stderr.contains("[process]"), "{}", adopted.log);
    let pids = keepers(&world);
    assert!(pids.iter().all(|pid| !gone(*pid)), "{pids:?}");
    let cleanup = session.cleanup();
    assert!(cleanup.succeeded(), "{}", cleanup.log);
    assert_eq!(sessions(&world), (1, 1));
}

#[needs(root)]
fn a_keeper_that_is_killed_while_cleanup_waits_for_it_leaves_no_record_and_is_an_error() {
    let world = machine(Privilege::Setuid, "");
    let job = world.job();
    let mut session = job.begin();
    begin(&mut session);
    let pids = keepers(&world);
    // The other keeper would continue it.
    pids.iter().for_each(|pid| kill(&world, "STOP", *pid));
    let cleanup = std::thread::scope(|scope| {
        let cleanup = scope.spawn(|| session.cleanup());
        std::thread::sleep(std::time::Duration::from_secs(2));
        kill(&world, "KILL", pids[1]);
        kill(&world, "CONT", pids[0]);
        cleanup.join().expect("a stage")
    });
    assert!(!cleanup.succeeded(), "{}", cleanup.log);
    assert!(cleanup.log.contains("[pam-session-lost]"), "{}", cleanup.log);
    assert_eq!(world.records(), Vec::<PathBuf>::new());
    pids.iter().for_each(|pid| wait(|| Some(()).filter(|()| gone(*pid))));
}

#[needs(root, in_each = WITH_ROOT)]
fn a_clean_up_whose_decider_ends_at_once_closes_the_session_and_keeps_the_record(privilege: Privilege) {
    let world = machine(privilege, "");
    let job = world.job();
    let mut session = job.begin();
    begin(&mut session);
    let pids = keepers(&world);
    world.take_over_decider();
    world.write_file("/etc/nunbird/attack", "", "root", 0o644);
    let cleanup = session.cleanup();
    assert_eq!(cleanup.exit, Exit::Code(2), "{privilege:?}: {}", cleanup.log);
    assert!(cleanup.log.contains("[decider]"), "{privilege:?}: {}", cleanup.log);
    pids.iter().for_each(|pid| wait(|| Some(()).filter(|()| gone(*pid))));
    assert_eq!((sockets(&world), sessions(&world)), (vec![], (1, 1)), "{privilege:?}");
    assert_eq!(world.records().len(), 1, "{privilege:?}: no launcher has cleared anything away");
    world.give_back_decider();
    let cleanup = session.cleanup();
    assert!(cleanup.succeeded(), "{privilege:?}: {}", cleanup.log);
    assert!(world.records().is_empty(), "{privilege:?}");
}

/// Only root can make a file among the records; who listens at it is asked all the same.
#[needs(root)]
fn a_listener_that_is_not_root_is_no_keeper_of_a_session() {
    let world = machine(Privilege::Setuid, "");
    let job = world.job();
    let mut session = job.begin();
    begin(&mut session);
    let name = door(&world).expect("a socket");
    let pids = keepers(&world);
    pids.iter().for_each(|pid| kill(&world, "KILL", *pid));
    pids.iter().for_each(|pid| wait(|| Some(()).filter(|()| gone(*pid))));
    let listens = world.host_path("/home/alice/listens");
    let forged = format!(
        "import os, socket, sys\n\
         s = socket.socket(socket.AF_UNIX)\n\
         os.path.exists('{name}') and os.unlink('{name}'); s.bind('{name}'); s.settimeout(60)\n\
         os.setuid(4101)\n\
         s.listen(1); open('/home/alice/listens', 'w').close()\n\
         c = s.accept()[0]; c.recv(1); c.send(b'.')"
    );
    let (cleanup, forged) = std::thread::scope(|scope| {
        let listener = scope.spawn(|| world.shell("root", &format!("/usr/bin/python3 -c \"{forged}\"")));
        wait(|| Some(()).filter(|()| listens.exists() || listener.is_finished()));
        let cleanup = session.cleanup();
        let forged = listener.join().expect("a listener");
        (cleanup, forged.stderr)
    });
    assert_eq!(cleanup.exit, Exit::Code(2), "{}{forged}", cleanup.log);
    assert!(cleanup.log.contains("[pam-session-open]"), "{}", cleanup.log);
    assert_eq!(world.records().len(), 1, "it is tried again");
    let again = session.cleanup();
    assert!(again.log.contains("[pam-session-lost]") && world.records().is_empty(), "{}", again.log);
}
