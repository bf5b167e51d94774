//! What a compromised `nunbird-decide` gets: never root, a system account, a denied group, a
//! root-only file, or a line in one.

use nunbird_tests::{Exit, Privilege, World, needs};

/// Requests, and the reply to the last of them. `ended` is the end of the conversation.
const ATTACKS: [(&str, &str); 55] = [
    ("slot root", "Refused"),
    ("slot nunbird", "Refused"),
    ("slot daemon", "Refused"),
    ("slot nbt_runner", "Refused"),
    ("slot bob", "Refused"),
    ("slot nobody-here", "Refused"),
    ("slot alice\nadmit account.uid 0", "Refused"),
    ("slot alice\nadmit account.gid 0", "Refused"),
    ("slot alice\nadmit account.name \"bob\"", "Refused"),
    ("slot alice\nadmit account.uid 4102", "Refused"),
    ("slot alice\nadmit runner_uid 4999", "Refused"),
    ("slot alice\nadmit slot 900", "Refused"),
    ("slot alice\nadmit decision_id \"0123456789abcdef0123456789abcdef\"", "Refused"),
    ("slot alice\nadmit job_directory.inode 1", "Refused"),
    ("slot alice\nadmit boot_id \"x\"", "Refused"),
    ("slot alice\nadmit closed true", "Refused"),
    ("slot alice\nadmit expires_at 99999999999", "Refused"),
    ("slot alice\nadmit expires_at_boottime 99999999999", "Refused"),
    ("slot alice\nslot alice", "Refused"),
    ("slot alice\nremember main:bob", "ended"),
    ("slot alice\nremember alice", "ended"),
    ("remember main:alice", "ended"),
    ("slot alice\nadmit audit.file \"/var/lib/nunbird/jobs/4001-1-2.json\"", "Refused"),
    ("slot alice\nadmit audit.file \"/etc/docker/daemon.json\"", "Refused"),
    (
        "slot alice\nadmit pam {\"service\":\"nunbird\",\"timeout\":301,\"environment\":[],\"session\":\"job\"}",
        "Refused",
    ),
    ("place /var/lib/nunbird/jobs/4001-1-2.json", "Trouble"),
    ("place /var/lib/nunbird/jobs/x.jsonl", "Trouble"),
    ("place /etc/docker/daemon.json", "Trouble"),
    ("place /opt/nunbird/x.jsonl", "Trouble"),
    ("validate nunbird 5", "Trouble"),
    ("permit", "ended"),
    ("tidy", "ended"),
    ("slot alice\nadmit policy_path \"/etc/shadow\"", "Refused"),
    ("slot alice\nadmit audit.file \"/etc/ld.so.preload\"", "Refused"),
    ("slot alice\nadmit site.own_directory \"/etc/systemd/system/ssh.service.d\"", "Refused"),
    (
        "slot alice\nadmit pam {\"service\":\"../x\",\"timeout\":1,\"environment\":[],\"session\":\"stage\"}",
        "Refused",
    ),
    ("admit nothing -", "Refused"),
    ("confine", "Refused"),
    ("file /etc/shadow", "Trouble"),
    ("file /var/lib/nunbird/people/x", "Trouble"),
    ("keys /etc shadow", "Trouble"),
    ("keys /var/lib/nunbird/jobs ../people/x.json", "Trouble"),
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

#[needs(root, in_each = Privilege::PRIVILEGED)]
fn a_decider_that_was_taken_over_gets_no_account_below_the_floor_and_nothing_of_roots(privilege: Privilege) {
    let world = World::new(privilege);
    world.write_keys();
    world.write_file("/etc/nunbird/floor", "min_uid 1000\ndeny_group bob\n", "root", 0o644);
    let genuine = world.job();
    let mut genuine = genuine.begin();
    assert!(genuine.config().succeeded());
    let record = std::fs::read_to_string(&world.records()[0]).expect("the record");
    world.write_file("/etc/nunbird/record.json", &record, "root", 0o644);
    world.take_over_decider();
    for (attack, expected) in ATTACKS {
        if attack.ends_with("nbt_runner") && privilege == Privilege::RootRunner {
            continue;
        }
        world.write_file("/etc/nunbird/attack", attack, "root", 0o644);
        let before = world.records().len();
        let outcome = world.job().id(7002).config();
        let seen = format!("{privilege:?}, {attack}: {}", outcome.log);
        assert_ne!(outcome.exit, Exit::Code(0), "{seen}");
        assert_eq!(world.records().len(), before, "{seen}");
        let last = attack.lines().last().unwrap_or_default();
        let answer =
            outcome.log.lines().rev().find_map(|line| line.strip_prefix(&format!("attack: {last}: ")));
        match (expected, answer) {
            ("ended", None) => {}
            (_, Some(answer)) => assert!(answer.starts_with(expected), "{seen}"),
            (_, None) => panic!("{seen}"),
        }
        assert!(!outcome.log.contains("open file"), "{seen}");
    }
    // What it can do: an account above the floor, with a record of its choice.
    world.write_file("/etc/nunbird/attack", "slot alice\nadmit nothing -", "root", 0o644);
    let admitted = world.job().id(7003).config();
    assert!(admitted.log.contains("attack: admit nothing -: Done"), "{}", admitted.log);
}
