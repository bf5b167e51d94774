//! What a compromised `nunbird-decide` gets: never root, a system account, a denied group, a
//! root-only file, or a line in one.

use nunbird_handover::{Account, ExitCodes, Handover, JobSpec, Task};
use nunbird_tests::{Exit, Privilege, World, needs, records};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

/// Requests in `config`, and what the last of them is answered with. `ended` is the end of the conversation.
const IN_CONFIG: [(&str, &str); 58] = [
    ("slot root", "Refused"),
    ("slot nunbird", "Refused"),
    ("slot daemon", "Refused"),
    ("slot nbt_runner", "Refused"),
    ("slot bob", "Refused"),
    ("slot nobody-here", "Refused"),
    ("slot alice\nadmit account.uid 0", "Refused"),
    ("slot alice\nadmit account.gid 0", "Refused"),
    ("slot alice\nadmit account.name bob", "Refused"),
    ("slot alice\nadmit account.uid 4102", "Refused"),
    ("slot alice\nadmit runner_uid 4999", "Refused"),
    ("slot alice\nadmit slot 900", "Refused"),
    ("slot alice\nadmit decision_id 0123456789abcdef0123456789abcdef", "Refused"),
    ("slot alice\nadmit job_directory.inode 1", "Refused"),
    ("slot alice\nadmit job_directory.device 1", "Refused"),
    ("slot alice\nadmit job_directory.path /x", "Refused"),
    ("slot alice\nadmit boot_id x", "Refused"),
    ("slot alice\nadmit closed true", "Refused"),
    ("slot alice\nadmit expires_at 99999999999", "Refused"),
    ("slot alice\nadmit expires_at_boottime 99999999999", "Refused"),
    ("slot alice\nadmit group x", "Refused"),
    ("slot alice\nslot alice", "Refused"),
    ("slot alice\nremember main:bob", "ended"),
    ("slot alice\nremember alice", "ended"),
    ("remember main:alice", "ended"),
    ("slot alice\nadmit pam nunbird,301", "Refused"),
    ("place /var/lib/nunbird/jobs/4001-1-2.record", "Trouble"),
    ("place /var/lib/nunbird/jobs/x.jsonl", "Trouble"),
    ("place /etc/docker/daemon.json", "Trouble"),
    ("place /opt/nunbird/x.jsonl", "Trouble"),
    ("validate nunbird 5", "Trouble"),
    ("tidied", "ended"),
    ("tidy alice /opt/nunbird/bin/nunbird", "ended"),
    ("launch {}", "ended"),
    ("finish", "ended"),
    ("slot alice\nadmit policy_path /etc/shadow", "Refused"),
    ("slot alice\nadmit own_directory /etc/systemd/system/ssh.service.d", "Refused"),
    ("slot alice\nadmit pam ../x,1", "Refused"),
    ("admit nothing -", "Refused"),
    ("confine", "Refused"),
    ("file /etc/shadow", "Trouble"),
    ("file /var/lib/nunbird/people/x", "Trouble"),
    ("keys /etc shadow", "Trouble"),
    ("keys /var/lib/nunbird/jobs ../people/x.json", "Trouble"),
    ("keys /var/lib/nunbird/credentials licensed.json", "Trouble"),
    ("keys /var/lib/nunbird/jobs 0-1-2.json", "Trouble"),
    ("fetch /bin/sh /var/lib/nunbird/keys", "ended"),
    ("fetch /opt/nunbird/bin/nunbird-keys /home/bob", "Fetched(Err"),
    ("fetch /opt/nunbird/bin/nunbird-keys /proc/1", "Fetched(Err"),
    ("validate root 5", "Trouble"),
    ("validate daemon 5", "Trouble"),
    ("validate alice 301", "ended"),
    ("own root .config/nunbird/authorized_projects", "ended"),
    ("own alice .ssh/id_ed25519", "ended"),
    ("place /etc/ld.so.preload", "Trouble"),
    ("place /etc/nunbird/config.toml", "Trouble"),
    ("place /var/log/nunbird/x.jsonl\nevent {\"a\":1}\\n{\"b\":2}\\n", "ended"),
    ("trace <84>x\\n<0>forged", "ended"),
];

/// The same in `prepare` of an admitted job of alice's.
const IN_PREPARE: [(&str, &str); 19] = [
    ("slot alice", "ended"),
    ("admit nothing -", "ended"),
    ("file /etc/nunbird/config.toml", "ended"),
    ("keys /var/lib/nunbird/keys site.json", "Trouble"),
    ("keys /home/alice/keys licensed.json", "Trouble"),
    ("keys /var/lib/nunbird/credentials ../people/x.json", "Trouble"),
    ("keys /var/lib/nunbird/jobs 0-1-2.json", "Trouble"),
    ("fetch /opt/nunbird/bin/nunbird-keys /var/lib/nunbird/keys", "ended"),
    ("validate alice 1", "ended"),
    ("own alice .config/nunbird/authorized_projects", "ended"),
    ("person main:alice", "ended"),
    ("confine", "ended"),
    ("tidied", "ended"),
    ("tidy alice /opt/nunbird/bin/nunbird", "ended"),
    ("finish", "ended"),
    ("place /etc/ld.so.preload", "Trouble"),
    ("place /var/log/nunbird/x.jsonl\nevent {\"a\":1}\\n{\"b\":2}\\n", "ended"),
    ("trace <84>x\\n<0>forged", "ended"),
    ("launch {}\nlaunch []", "ended"),
];

#[needs(root, in_each = Privilege::PRIVILEGED)]
fn a_decider_that_was_taken_over_gets_no_account_below_the_floor_and_nothing_of_roots(privilege: Privilege) {
    let world = World::new(privilege);
    world.write_keys();
    world.write_file("/etc/nunbird/floor", "min_uid 1000\ndeny_group bob\n", "root", 0o644);
    let genuine = world.job();
    let mut genuine = genuine.begin();
    assert!(genuine.config().succeeded());
    let record = std::fs::read(&world.records()[0]).expect("the record");
    world.write_file("/etc/nunbird/record", record, "root", 0o644);
    let message = of_root(&records::spec(&world.records()[0]));
    let credentials = site_password(&world, "/var/lib/nunbird/credentials", 991);
    site_password(&world, "/home/alice/keys", 4101);
    world.take_over_decider();
    for (attack, expected) in IN_CONFIG {
        if attack.ends_with("nbt_runner") && privilege == Privilege::RootRunner {
            continue;
        }
        world.write_file("/etc/nunbird/attack", attack, "root", 0o644);
        let before = world.records().len();
        let outcome = world.job().id(7002).config();
        let seen = format!("{privilege:?}, {attack}: {}", outcome.log);
        assert_ne!(outcome.exit, Exit::Code(0), "{seen}");
        assert_eq!(world.records().len(), before, "{seen}");
        check(attack, expected, &outcome.log, &seen);
    }
    // What it can do: an account above the floor, with a record of its choice.
    world.write_file("/etc/nunbird/attack", "slot alice\nadmit nothing -", "root", 0o644);
    let admitted = world.job().id(7003).config();
    assert!(admitted.log.contains("attack: admit nothing -: Done"), "{}", admitted.log);
    for (attack, expected) in IN_PREPARE {
        world.write_file("/etc/nunbird/attack", attack, "root", 0o644);
        let outcome = genuine.prepare();
        let seen = format!("{privilege:?}, prepare, {attack}: {}", outcome.log);
        assert_ne!(outcome.exit, Exit::Code(0), "{seen}");
        check(attack, expected, &outcome.log, &seen);
    }
    // The site's passwords for registries, of a system account; not of one as which a job may run, who could have put anything there.
    for (owner, expected) in [(991, "Bytes"), (4101, "Trouble"), (991, "Bytes")] {
        chown(&credentials, Some(owner), Some(0)).expect("an owner");
        chown(credentials.join("licensed.json"), Some(owner), Some(0)).expect("an owner");
        let attack = "keys /var/lib/nunbird/credentials licensed.json";
        world.write_file("/etc/nunbird/attack", attack, "root", 0o644);
        let outcome = genuine.prepare();
        check(attack, expected, &outcome.log, &format!("{privilege:?}, {owner}: {}", outcome.log));
    }
    // What it can do: a launcher of the job's account with a message of its own, which the launcher refuses where it is of another account.
    world.write_file("/etc/nunbird/attack", format!("launch {message}"), "root", 0o644);
    let outcome = genuine.prepare();
    assert!(outcome.log.contains("refusing to run a job"), "{}", outcome.log);
}

/// A directory with the file of a credential, both of this owner.
fn site_password(world: &World, directory: &str, owner: u32) -> PathBuf {
    let directory = world.host_path(directory);
    fs::create_dir(&directory).expect("a directory");
    let file = directory.join("licensed.json");
    fs::write(&file, "{}").expect("a file");
    for (path, mode) in [(&file, 0o640), (&directory, 0o2750)] {
        chown(path, Some(owner), Some(0)).expect("an owner");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    }
    directory
}

fn check(attack: &str, expected: &str, log: &str, seen: &str) {
    let last = attack.lines().last().unwrap_or_default();
    let answer = log.lines().rev().find_map(|line| line.strip_prefix(&format!("attack: {last}: ")));
    match (expected, answer) {
        ("ended", None) => {}
        (_, Some(answer)) => assert!(answer.starts_with(expected), "{seen}"),
        (_, None) => panic!("{seen}"),
    }
    assert!(!log.contains("open file"), "{seen}");
}

/// A message for the launcher of this job that says that the account is root.
fn of_root(spec: &JobSpec) -> String {
    let handover = Handover {
        version: nunbird_handover::FORMAT_VERSION,
        decision_id: spec.decision_id.clone(),
        job_id: spec.job_id,
        task: Task::Prepare,
        account: Account { uid: 0, gid: 0, ..spec.account.clone() },
        identity: spec.identity.clone(),
        workspace: spec.workspace.clone(),
        shell: spec.shell.clone(),
        environment: spec.environment.clone(),
        session_variables: std::collections::BTreeSet::new(),
        umask: None,
        exit_codes: ExitCodes::default(),
        exit_code_file: false,
        batch: None,
        container: None,
        credentials: nunbird_handover::Credentials::default(),
        credential_helpers: Vec::new(),
        site: spec.site.clone(),
        expires_at: spec.expires_at,
        timed_out: false,
    };
    String::from_utf8(handover.message().expect("a message")).expect("JSON")
}
