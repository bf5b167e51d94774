//! What a site can take away from jobs, and that nothing is taken unless configured.

use nunbird_tests::{Privilege, World, needs};

const ASK: &str = "\
grep NoNewPrivs /proc/self/status
perl -e 'my $b = q(x) x 64; ioctl(STDIN, 0x5412, $b) or print \"TIOCSTI: $!\\n\"'
perl -e 'my $b = q(x) x 64; ioctl(STDIN, 0x541C, $b) or print \"TIOCLINUX: $!\\n\"'
perl -e 'my $b = q(x) x 64; ioctl(STDIN, 0x5401, $b) or print \"TCGETS: $!\\n\"'
perl -e 'my $r = syscall(16, 0, 0x500005412, 0); print \"TIOCSTI above 32 bits: $!\n\"'
perl -e 'my $r = syscall(514 | 0x40000000, 0, 0x5412, 0); print \"x32: $!\\n\"'
unshare --user --map-root-user perl -e 'print \"setuid(0): \", (syscall(105, 0) == 0 ? \"done\" : \"$!\"), \"\\n\"'
perl -e 'print \"setuid(own): \", (syscall(105, $< + 0) == 0 ? \"done\" : \"$!\"), \"\\n\"'
";

fn asked(world: &World) -> String {
    let job = world.job();
    let mut session = job.begin();
    let config = session.config();
    assert!(config.succeeded(), "{}", config.log);
    let outcome = session.run_text("build_script", ASK);
    assert!(session.cleanup().succeeded());
    outcome.log
}

#[track_caller]
fn assert_has(log: &str, lines: &[&str]) {
    for line in lines {
        assert!(log.lines().any(|l| l == *line), "no {line:?} in\n{log}");
    }
}

#[needs(root, in_each = Privilege::ALL)]
fn without_isolation_in_the_configuration_nothing_is_taken_from_jobs(privilege: Privilege) {
    let world = World::new(privilege);
    world.write_keys();
    let log = asked(&world);
    assert_has(
        &log,
        &[
            "NoNewPrivs:\t0",
            "TIOCSTI: Inappropriate ioctl for device",
            "TIOCSTI above 32 bits: Inappropriate ioctl for device",
            "setuid(0): done",
            "setuid(own): done",
        ],
    );
}

#[needs(root, in_each = Privilege::ALL)]
fn terminal_injection_and_foreign_ids_can_be_refused_in_every_mode(privilege: Privilege) {
    let world = World::new(privilege);
    world.write_keys();
    world.reconfigure(
        "[job]\n",
        "[job]\nno_new_privileges = true\nblock_tty_injection = true\nlimit_setuid = true\n",
    );
    let log = asked(&world);
    let refused = "Operation not permitted";
    assert_has(
        &log,
        &[
            "NoNewPrivs:\t1",
            &format!("TIOCSTI: {refused}"),
            &format!("TIOCLINUX: {refused}"),
            &format!("TIOCSTI above 32 bits: {refused}"),
            "TCGETS: Inappropriate ioctl for device",
            &format!("x32: {refused}"),
            &format!("setuid(0): {refused}"),
            "setuid(own): done",
        ],
    );
}

#[needs(root)]
fn a_job_with_a_filter_still_clones_builds_and_uploads() {
    let world = World::new(Privilege::Setuid);
    world.write_keys();
    world.reconfigure(
        "[job]\n",
        "[job]\nno_new_privileges = true\nblock_tty_injection = true\nlimit_setuid = true\n",
    );
    world.job().script("cat data/lattice.txt > out.txt").artifact("out.txt").run().expect_success();
    assert_eq!(world.issuer().artifacts().len(), 1);
}
