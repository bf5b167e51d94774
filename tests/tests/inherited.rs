//! What a process was before it became the privileged program: a parent of others, or privileged
//! when it only prints.

use nunbird_tests::needs;
use nunbird_tests::world::{Exit, Privilege, World};

#[needs(root)]
fn a_process_that_already_has_children_is_refused_in_every_mode() {
    // The second one's end is no `CHLD`, so wait(2) without __WALL does not see it: clone(2) without a signal.
    let clone = "import ctypes, os, sys, time\n\
        child = ctypes.CDLL(None).syscall(56, 0, 0, 0, 0, 0)\n\
        (os.close(1), os.close(2), time.sleep(9), os._exit(0)) if child == 0 else os.execv(sys.argv[1], sys.argv[1:])";
    let parents: [&[&str]; 2] = [
        &["/bin/bash", "-c", "sleep 9 >/dev/null 2>&1 & exec \"$0\" \"$@\""],
        &["/usr/bin/python3", "-c", clone],
    ];
    for privilege in Privilege::ALL {
        let world = World::new(privilege);
        world.write_keys();
        for [program, words @ ..] in parents.map(|words| <[&str; 3]>::try_from(words).expect("three words")) {
            let job = world.job();
            let mut session = job.begin();
            let mut spec = session.spec_of_config();
            let own = std::mem::replace(&mut spec.program, program.into());
            spec.arguments.splice(0..0, words.map(Into::into).into_iter().chain([own]));
            let outcome = session.call_spec("config", &spec);
            assert!(outcome.stderr.contains("[process]"), "{privilege:?} {program}: {}", outcome.log);
            assert!(world.records().is_empty(), "{privilege:?} {program}");
            assert_eq!(session.config().exit, Exit::Code(0), "alone it is welcome");
            assert!(session.cleanup().succeeded());
        }
    }
}

/// Starts the program with a full pipe as its outputs, where it waits, and prints its uids and capabilities.
const PRINTING: &str = r#"
import os, sys, time
reader, writer = os.pipe()
os.set_blocking(writer, False)
try:
    while True:
        os.write(writer, b"." * 4096)
except BlockingIOError:
    pass
os.set_blocking(writer, True)
child = os.fork()
if child == 0:
    os.dup2(writer, 1)
    os.dup2(writer, 2)
    os.execv(sys.argv[1], sys.argv[1:])
for _ in range(500):
    time.sleep(0.01)
    status = open(f"/proc/{child}/status").read()
    if open(f"/proc/{child}/syscall").read().startswith("1 ") if os.geteuid() == 0 else "S (sleeping)" in status:
        break
print(status)
os.kill(child, 9)
"#;

#[needs(root, in_each = Privilege::OF_FILE)]
fn what_only_prints_holds_no_privilege_while_it_does(privilege: Privilege) {
    let world = World::new(privilege);
    world.write_file("/opt/print.py", PRINTING, "root", 0o755);
    let auth = world.paths().bin.join("nunbird-auth");
    for argument in ["--help", "--version", "nonsense"] {
        let words = ["/opt/print.py", auth.to_str().expect("text"), argument];
        let printed = world.run(&world.program("nbt_runner", "/usr/bin/python3", &words)).success();
        let ids = printed.lines().find(|line| line.starts_with("Uid:")).expect("ids");
        assert_eq!(ids, "Uid:\t4001\t4001\t4001\t4001", "{privilege:?} {argument}: {printed}");
        for set in ["CapPrm:", "CapEff:"] {
            let none = format!("{set}\t0000000000000000");
            assert!(printed.contains(&none), "{privilege:?} {argument}: {printed}");
        }
    }
}
