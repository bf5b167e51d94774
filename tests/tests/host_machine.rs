//! Booted machines of jobs, by a real systemd-nspawn on a booted host: `engine = "nspawn"`.

use super::host_machine_counts::instances;
use nunbird_tests::host::debian_tree;
use nunbird_tests::{Cancel, Host, Job, Reason, Session, StageOutcome, Status, needs};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The ids that machines have on the host.
pub(super) const FIRST: u32 = 1_879_048_192;

const CONFIGURATION: &str =
    "[container.machine]\nengine = \"nspawn\"\ndefault_image = \"debian\"\nhome = true\n";

/// A host with a tree `debian`, whose jobs get machines with these settings.
pub(crate) fn host(settings: &str) -> Host {
    host_of(settings, "")
}

/// The same with these limits.
fn host_of(settings: &str, limits: &str) -> Host {
    host_from(&debian_tree(), 65_536, settings, limits)
}

/// The same from a copy of this tree, with so many ids for each machine.
pub(super) fn host_from(tree: &Path, size: u32, settings: &str, limits: &str) -> Host {
    let host = Host::boot_for_machines();
    let world = host.world();
    world.write_file("/etc/nunbird/machine-ids", format!("ids {FIRST} {size} 2\n"), "root", 0o644);
    add_version_of(tree, &host, "1");
    let limited = if limits.is_empty() { String::new() } else { "limits = \"small\"\n".to_owned() };
    let table = if limits.is_empty() { String::new() } else { format!("[limits.small]\n{limits}\n") };
    let text = format!("{table}{CONFIGURATION}{settings}\n[job]\ncontainer = \"machine\"\n{limited}");
    world.reconfigure("[job]\n", &text);
    host
}

/// A version of the tree, which from now on is the present one.
fn add_version(host: &Host, version: &str) {
    add_version_of(&debian_tree(), host, version);
}

fn add_version_of(tree: &Path, host: &Host, version: &str) {
    let version_path = host.world().host_path(format!("/var/lib/nunbird/machines/debian/{version}"));
    std::fs::create_dir_all(&version_path).expect("directories");
    // Links: no machine writes to its tree.
    let copied = Command::new("cp").arg("-al").arg(tree).arg(version_path.join("tree")).status();
    assert!(copied.expect("cp(1)").success());
    host.root(&format!(
        "cd /var/lib/nunbird/machines && chmod 755 . debian debian/{version} debian/{version}/tree && : >debian/{version}/lock && \
         ln -sfn /dev/null debian/{version}/tree/etc/systemd/system/rsyslog.service && \
         ln -sfn {version} debian/current"
    ))
    .success();
}

pub(super) fn begun<'a>(job: &'a Job<'a>) -> Session<'a> {
    let mut session = job.begin();
    for call in [session.config(), session.prepare()] {
        assert!(call.succeeded(), "{}", call.log);
    }
    session
}

pub(super) fn has(outcome: &StageOutcome, line: &str) {
    assert!(outcome.stdout.lines().any(|known| known == line), "{line}: {}", outcome.log);
}

/// What is left of machines on a host.
fn left(host: &Host) -> String {
    host.root(
        "ls /run/nunbird/machines 2>/dev/null; grep ' /run/nunbird' /proc/mounts; find /sys/fs/cgroup -name '*nunbird-machine*'; \
         find /run/systemd/nspawn -name 'nb-*' -o -name 'inode-*' 2>/dev/null; pgrep -x 'systemd-nspawn|nunbird-machine'; :",
    )
    .success()
}

pub(super) fn nothing_left(host: &Host) {
    assert!(host.wait_until(|host| left(host).is_empty()), "{}", left(host));
    let of_machines =
        |host: &Host| host.processes().into_iter().filter(|p| p.uid >= FIRST).collect::<Vec<_>>();
    assert!(of_machines(host).is_empty(), "{:?}", of_machines(host));
}

#[needs(host)]
fn a_whole_job_runs_in_a_booted_machine_as_its_user_within_its_limits() {
    let host = host_of("", "memory = \"256MiB\"\ncgroup_driver = \"v1\"\n");
    let world = host.world();
    let outcome = world
        .job()
        .script("grep CapBnd /proc/1/status; df --output=itotal / | tail -n 1 | tr -d ' '; df --output=target /tmp | tail -n 1; id -un; id -u; systemctl is-system-running; ps -p 1 -o comm=; echo hello >made; stat -c '%U %u' made; echo to''ken: $SECRET; (exec -a nbt-service sleep 300) >&- 2>&- & sed -n 's/^/map/p' /proc/self/uid_map; ! { systemctl show nunbird-job.service; cat /proc/$(pgrep -of nunbird-job/agent)/environ; cat /etc/nunbird-job/*; cat /proc/[0-9]*/cmdline; } 2>/dev/null | grep -qa hidden-val[u]e || echo lea''ked")
        .after_script("echo and af''ter; cat made; pgrep -cf '^nbt-service 300'")
        .variable("SECRET", "hidden-value")
        .run()
        .expect_success();
    for words in
        ["\nalice\n4101\n", "\nsystemd\n", "\nalice 4101\n", "token: hidden-value", "and after\nhello\n1"]
    {
        assert!(outcome.log().contains(words), "{words:?} is not in the log:\n{}", outcome.log());
    }
    assert!(!outcome.log().contains("leaked"), "{}", outcome.log());
    // What one machine can take of memory: 2 GiB, with a file for each page, and nothing beside it.
    assert!(outcome.log().contains("\n524288\n/\n"), "{}", outcome.log());
    let bounding = outcome
        .log()
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .expect("capabilities")
        .trim()
        .to_owned();
    let bounding = u64::from_str_radix(&bounding, 16).expect("a number");
    assert_eq!(bounding & (1 << 24), 0, "CAP_SYS_RESOURCE");
    assert!(outcome.log().contains(&format!("map         0 {FIRST}      65536")), "{}", outcome.log());
    println!("{}", outcome.log().lines().find(|line| line.contains("ready after")).expect("a time"));
    nothing_left(&host);

    // The file on disk is the person's.
    let made = host.root("stat -c %U $(find /home/alice -name made)").success();
    assert_eq!(made.trim(), "alice");

    let hungry = world.job().script("python3 -c 'x = bytearray(512 << 20)' || exit 7").run();
    let hungry = hungry.expect(&Status::script_failure(7));
    assert!(hungry.log().contains("out of memory"), "{}", hungry.log());
    nothing_left(&host);
}

#[needs(host)]
fn root_of_a_machine_is_nobody_on_the_host() {
    let host = host("root = true\n");
    host.root("echo of''root >/home/alice/roots; chmod 600 /home/alice/roots; echo 1 >/home/alice/bobs; chown bob /home/alice/bobs; chmod 600 /home/alice/bobs").success();
    let outcome = host
        .world()
        .job()
        .script("id -u; cd ~; for f in roots bobs; do ! cat $f || echo re''ad; ! chown 0:0 $f || echo ow''ned; done; cp /bin/sh ~/made && chmod 4755 ~/made; ! mknod ~/disk b 7 0 || echo no''de; ! mount -t tmpfs x /sys/fs/cgroup/memory/x; ! echo 1 >/proc/sys/kernel/panic; ip -o link | wc -l")
        .run()
        .expect_success();
    let log = outcome.log();
    for word in ["ofroot", "\nread", "\nowned", "\nnode"] {
        assert!(!log.contains(word), "{word}: {log}");
    }
    assert!(log.contains("\n0\n") && log.contains("\n1\n"), "root, and a loopback alone: {log}");
    assert_eq!(host.root("stat -c %U /home/alice/made").success().trim(), "alice");
    nothing_left(&host);
}

/// What a stage leaves in the machine: as soon as there are FIFOs of another stage, links to the user's files on the host take their places.
const TRAP: &str = r#"
cat >/tmp/trap.py <<'END'
import glob, os
inside = open('/etc/nunbird-job/directory').read()
said = set()
while True:
    for base in (inside, os.path.dirname(inside)):
        for stage in glob.glob(base + '/machine/s*') + glob.glob(base + '/machine'):
            for name, file in (('out', 'secret'), ('err', 'secret'), ('in', 'keys'), ('status', 'keys'), ('calls', 'keys')):
                try:
                    os.symlink('/home/alice/' + file, stage + '/.' + name)
                    os.rename(stage + '/.' + name, stage + '/' + name)
                except OSError as error:
                    if str(error.errno) not in said:
                        said.add(str(error.errno))
                        open('/tmp/said', 'a').write('errno %d\n' % error.errno)
END
setsid python3 /tmp/trap.py </dev/null >/dev/null 2>&1 &
"#;

#[needs(host)]
fn what_is_left_in_a_machine_reaches_no_file_of_the_users_that_is_not_in_it() {
    let host = host("");
    host.world().reconfigure("home = true\n", "home = false\n");
    host.root("cd /home/alice && echo of''alice >secret && echo ke''pt >keys && chown alice secret keys && chmod 600 secret keys").success();
    let job = host.world().job();
    let mut session = begun(&job);
    let first = session.run_text("build_script", TRAP);
    assert!(first.succeeded(), "{}", first.log);
    // Each stage is another race.
    for _ in 0..6 {
        let next = session.run_text("build_script", "cat ~/secret; echo bo''th");
        assert!(!next.log.contains("ofalice"), "{}", next.log);
        has(&next, "both");
    }
    let tried = session.run_text(
        "build_script",
        "cat /tmp/said; m=$(dirname \"$(cat /etc/nunbird-job/directory)\")/machine; ls $m; rm -f $m/calls; touch $m/more; :",
    );
    has(&tried, "errno 30");
    has(&tried, "calls");
    assert_eq!(host.root("cat /home/alice/keys").success().trim(), "kept");
    assert!(session.cleanup().succeeded());
    nothing_left(&host);
}

#[needs(host)]
fn a_machine_that_ends_or_is_cancelled_is_never_a_success_and_leaves_nothing() {
    let host = host("root = true\n");
    let world = host.world();
    for ending in [
        "systemctl poweroff --force --force",
        "systemctl poweroff",
        "kill -KILL $(pgrep -f nunbird-job/agent)",
    ] {
        let outcome = world.job().script(&format!("echo bef''ore; {ending}; sleep 20; true")).run();
        assert_ne!(outcome.status, Status::Success, "{ending}: {}", outcome.log());
        assert!(outcome.log().contains("before"), "{ending}: {}", outcome.log());
        assert!(outcome.log().contains("the machine of this job has ended"), "{ending}: {}", outcome.log());
        nothing_left(&host);
    }
    // Cancelled: the script gets its TERM inside.
    let outcome = world
        .job()
        .script("trap 'echo ter''med; exit 1' TERM; echo go''ing; sleep 300 & wait")
        .cancel_when("build_script", "going", Cancel::Gracefully)
        .after_script("echo and af''ter")
        .run()
        .expect(&Status::failed(Reason::Canceled));
    assert!(outcome.log().contains("\ntermed"), "{}", outcome.log());
    assert!(outcome.log().contains("and after"), "{}", outcome.log());
    nothing_left(&host);
    // One that ignores it is killed, with what has left its session.
    let outcome = world
        .job()
        .script("trap '' TERM; setsid sleep 301 & echo go''ing; sleep 300; sleep 300")
        .cancel_when("build_script", "going", Cancel::Gracefully)
        .after_script("echo left: $(pgrep -c sleep)")
        .kill_timeouts(Duration::from_secs(60), Duration::from_secs(5))
        .run()
        .expect(&Status::failed(Reason::Canceled));
    assert!(outcome.log().contains("left: 0"), "{}", outcome.log());
    nothing_left(&host);
}

/// A job's groups in those of its unit, which systemd has given it: deeper than 64, and with paths longer than any path can be, each with a process
/// in the last one.
const DEEP: &str = r#"
cat >/tmp/deep.py <<'END'
import os, re, subprocess
line = [l for l in open('/proc/self/cgroup') if re.match(r'\d+:(name=systemd)?:', l)][-1]
own = line.strip().split(':', 2)[2].lstrip('/')
top = [t for t in ('/sys/fs/cgroup/systemd/', '/sys/fs/cgroup/') if os.path.isdir(t + own)][0] + own
for name, levels in (('x', 70), ('y' * 250, 20)):
    os.chdir(top)
    made = 0
    for _ in range(levels):
        try:
            os.mkdir(name)
        except OSError:
            break
        os.chdir(name)
        made += 1
    sleeper = subprocess.Popen(['sleep', '302'], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    open('cgroup.procs', 'w').write(str(sleeper.pid))
    # A hierarchy of version 2 has a bound.
    made = levels if made >= 50 or made == levels else made
    print(made, end=' and ' if levels == 70 else ' levels\n')
END
python3 /tmp/deep.py
"#;

#[needs(host)]
fn what_a_runner_that_was_killed_leaves_is_swept() {
    let host = host("");
    let job = host.world().job();
    let mut session = begun(&job);
    let stage = session.run_text("build_script", DEEP);
    has(&stage, "70 and 20 levels");
    assert!(!left(&host).is_empty());
    let spared = "for p in $(pgrep -x 'nunbird-machine|systemd-nspawn'); do cat /proc/$p/oom_score_adj; done | sort | uniq -c; cat /proc/$(pgrep -u {first} -xo systemd)/oom_score_adj";
    // Root of a host that is a container may not.
    let score = host
        .root("{ echo -1000 >/proc/self/oom_score_adj; } 2>/dev/null; cat /proc/self/oom_score_adj")
        .success();
    let spared = host.root(&spared.replace("{first}", &FIRST.to_string())).success();
    assert_eq!(
        spared.split_whitespace().collect::<Vec<_>>(),
        ["2", score.trim(), "0"],
        "keeper, systemd-nspawn and the machine's first"
    );
    // Without its keeper the machine lives on, and nothing is locked. Its ids and its tree are its own all the same.
    host.root("pkill -KILL -x nunbird-machine; sleep 1; ! pgrep -x nunbird-machine").success();
    let locked = host.root("flock -n -x /run/nunbird/machines/.ids-0 true && flock -n -x /var/lib/nunbird/machines/debian/1/lock true && echo none").success();
    assert_eq!(locked, "none");
    let note = host.root("cat /run/nunbird/machines/*").success();
    assert!(note.contains(&format!("ids {FIRST} 65536\ntree debian/1\nkeeper ")), "{note}");
    let other = host.world().job().user("bob");
    let mut others = begun(&other);
    let ids = others.run_text(
        "build_script",
        "cat /proc/self/uid_map; ! echo -500 >/proc/self/oom_score_adj || echo shiel''ded",
    );
    assert!(
        ids.stdout.contains(&(FIRST + 65_536).to_string()) && !ids.stdout.contains("shielded"),
        "{}",
        ids.log
    );
    assert!(others.cleanup().succeeded());
    host.root("systemctl kill --signal=KILL --kill-whom=main nbt-runner.service; sleep 1; systemctl restart nbt-runner.service").success();
    host.root("nunbirdctl sweep").success();
    nothing_left(&host);
    assert!(host.world().records().is_empty());
}

#[needs(host)]
fn a_device_of_a_tree_opens_nothing_and_a_link_of_proc_is_no_way_to_a_file() {
    let host = host("root = true\n");
    let tree = "/var/lib/nunbird/machines/debian/1/tree";
    host.root(&format!("mknod -m 666 {tree}/zero c 1 5")).success();
    let outcome = host
        .world()
        .job()
        .script("ls -l /zero; ! head -c 4 /zero >/dev/null || echo op''ened; head -c 4 /dev/zero >/dev/null && echo own de''vice")
        .run()
        .expect_success();
    assert!(outcome.log().contains("own device"), "{}", outcome.log());
    assert!(!outcome.log().contains("\nopened"), "{}", outcome.log());
    // The host reads these files of a tree before it boots: a device or a FIFO is not opened.
    host.root(&format!("cd {tree}/etc && mv passwd passwd- && mkfifo passwd")).success();
    let outcome = host.world().job().script("true").run();
    assert_ne!(outcome.status, Status::Success, "{}", outcome.log());
    let audit = host.root("grep '\"code\":\"machine\"' /var/log/nunbird/audit.jsonl | tail -n 1").success();
    assert!(audit.contains("etc/passwd of the tree: no regular file"), "{audit}");
    nothing_left(&host);
}

#[needs(host)]
fn an_unknown_tree_lists_those_that_there_are_and_a_version_lasts_as_long_as_its_job() {
    let host = host("");
    let world = host.world();
    let of_image = |name: &str| {
        let image = serde_json::json!({ "name": name });
        world.job().response(move |response| response["image"] = image.clone())
    };
    let unknown = of_image("debain").script("true").run();
    assert!(unknown.log().contains("name one of these in .gitlab-ci.yml: `debian`"), "{}", unknown.log());
    assert_eq!(unknown.status, Status::script_failure(1), "{}", unknown.log());

    let (first, second, other) = (of_image("debian"), of_image("debian:1"), world.job().user("bob"));
    let mut session = begun(&first);
    assert!(session.run_text("build_script", "ls /version 2>&1; :").succeeded());
    add_version(&host, "2");
    host.root("rm /var/lib/nunbird/machines/debian/2/tree/etc/debian_version; echo 2 >/var/lib/nunbird/machines/debian/2/tree/version").success();
    let busy = host.root("flock -n -x /var/lib/nunbird/machines/debian/1/lock true || echo in''use").stdout;
    assert!(busy.contains("inuse"), "its lock keeps the version: {busy}");
    let old = session.run_text("build_script", "ls /version || echo the ol''d");
    assert!(old.stdout.contains("the old"), "{}", old.log);

    // Two at once, each with ids of its own; one cannot see the other.
    let mut others = begun(&other);
    let new = others.run_text(
        "build_script",
        "cat /version; cat /proc/self/uid_map; ls /home; pgrep -u alice; pgrep -c systemd-journal; :",
    );
    assert!(new.succeeded(), "{}", new.log);
    has(&new, "2");
    assert!(new.stdout.contains(&(FIRST + 65_536).to_string()), "{}", new.log);
    assert!(!new.stdout.contains("alice"), "{}", new.log);
    for session in [&mut session, &mut others] {
        assert!(session.cleanup().succeeded());
    }
    nothing_left(&host);
    let named = second.script("ls /version || echo the ol''d").run().expect_success();
    assert!(named.log().contains("the old"), "{}", named.log());
}

#[needs(host)]
fn what_is_not_roots_or_has_accounts_ids_boots_nothing_and_a_machine_that_does_not_boot_shows_its_console() {
    let host = host("ready_timeout = \"5s\"\n");
    let world = host.world();
    let refused = |words: &str| {
        let outcome = world.job().script("true").run();
        assert_ne!(outcome.status, Status::Success, "{}", outcome.log());
        let audit =
            host.root("grep '\"code\":\"machine\"' /var/log/nunbird/audit.jsonl | tail -n 1").success();
        assert!(audit.contains(words), "{words}: {audit}\n{}", outcome.log());
        nothing_left(&host);
        outcome.log()
    };
    let tree = "/var/lib/nunbird/machines/debian/1";
    let too_many = instances(&host) / 64 + 1;
    let needs = format!("and {too_many} machines at a time need {}", too_many * 64);
    for (spoil, words, mend) in [
        (format!("chown alice {tree}"), "owned by uid 4101", format!("chown root {tree}")),
        (format!("chmod 777 {tree}/tree"), "mode 0777", format!("chmod 755 {tree}/tree")),
        (
            "chown alice /etc/nunbird/machine-ids".to_owned(),
            "owned by uid 4101",
            "chown root /etc/nunbird/machine-ids".to_owned(),
        ),
        (
            format!("echo 'eve:{}:65536' >>/etc/subuid", FIRST + 9),
            "gives ids of this range to `eve`",
            "sed -i /eve/d /etc/subuid".to_owned(),
        ),
        (
            "sed -i 's/65536 2/65536 0/' /etc/nunbird/machine-ids".to_owned(),
            "COUNT 1",
            "sed -i 's/65536 0/65536 2/' /etc/nunbird/machine-ids".to_owned(),
        ),
        (
            format!("echo ids 524288 65536 {too_many} >/etc/nunbird/machine-ids"),
            &needs,
            format!("echo ids {FIRST} 65536 2 >/etc/nunbird/machine-ids"),
        ),
        (
            "mv /etc/nunbird/machine-ids /root/".to_owned(),
            "no machine runs on this host before",
            "mv /root/machine-ids /etc/nunbird/".to_owned(),
        ),
        (format!("mv {tree}/lock /root/"), "lock", format!("mv /root/lock {tree}/")),
    ] {
        host.root(&spoil).success();
        refused(words);
        host.root(&mend).success();
    }
    // A tree that boots into something else than systemd says why.
    host.root(&format!(
        "cd {tree}/tree && rm sbin/init && printf '#!/bin/sh\\necho console wo''rds\\nsleep 60\\n' >sbin/init && chmod 755 sbin/init; \
         rm -f lib/systemd/systemd usr/lib/systemd/systemd"
    ))
    .success();
    let log = refused("not ready after 5 s");
    assert!(log.contains("console of the machine: ") && log.contains("console words"), "{log}");
}

/// What a decider that was taken over writes into a record about the job's machine, and why there is none of it.
const ORDERS: [(&str, &str); 16] = [
    ("machine.order nbt", "the order is malformed"),
    ("machine.tree ..", "the name of the tree or its version is malformed"),
    ("machine.tree debian/1", "the name of the tree or its version is malformed"),
    ("machine.tree /etc", "the name of the tree or its version is malformed"),
    ("machine.version ../../../etc", "the name of the tree or its version is malformed"),
    ("machine.version .1", "the name of the tree or its version is malformed"),
    ("machine.tree nowhere", "/var/lib/nunbird/machines/nowhere"),
    ("machine.tree alices", "owned by uid 4101"),
    ("machine.tree link", "/var/lib/nunbird/machines/link"),
    ("machine.directory inside", "a path of the order is malformed"),
    ("machine.bind shadow", "a path of the order is malformed"),
    ("machine.bind /root/file", "/root/file cannot be opened as the job's user"),
    ("machine.bind /proc/1/root", "/proc/1/root cannot be opened as the job's user"),
    ("machine.bind /proc/self/fd/3", "/proc/self/fd/3 cannot be opened as the job's user"),
    ("machine.bind /run/nunbird/machines", "/run/nunbird/machines cannot be opened as the job's user"),
    ("machine.ready 601", "the time to be ready is out of bounds"),
];

/// What it gets a machine for: any tree of root's, and what is found without being opened. The machine's root reads none of it.
const GRANTED: [&str; 3] = ["machine.root true", "machine.bind /etc/shadow-roots", "machine.bind /home/bob"];

#[needs(host)]
fn a_decider_that_was_taken_over_gets_no_machine_of_what_is_not_roots_or_not_the_users() {
    let host = host("");
    let world = host.world();
    host.root(
        "cd /var/lib/nunbird/machines && mkdir -p alices/1/tree && : >alices/1/lock && ln -s 1 alices/current && chown -R alice alices && \
         ln -s /home/alice link && echo x >/root/file && echo roots-own >/etc/shadow-roots && echo bobs-own >/home/bob/file && chmod 600 /etc/shadow-roots && chmod 700 /root /home/bob",
    )
    .success();
    let genuine = world.job();
    let mut genuine = genuine.begin();
    assert!(genuine.config().succeeded());
    let record = std::fs::read(&world.records()[0]).expect("the record");
    world.write_file("/etc/nunbird/record", record, "root", 0o644);
    assert!(genuine.cleanup().succeeded());
    let attack = |text: &str| world.write_file("/etc/nunbird/attack", text, "root", 0o644);
    let try_it = |number: u64, order: &str| {
        world.take_over_decider();
        attack(&format!("slot alice\nadmit {order}"));
        let job = world.job().id(7100 + number);
        let mut session = job.begin();
        let admitted = session.config();
        assert!(admitted.log.contains(&format!("attack: admit {order}: Done")), "{order}: {}", admitted.log);
        attack("launch {}");
        let stage = session.run_text("build_script", "echo it runs");
        assert!(!stage.stdout.contains("it runs"), "{order}: {}", stage.log);
        let inside = host.root(
            "p=$(pgrep -u 1879048192 -xo systemd) && nsenter -t $p -U -m -p -- /bin/sh -c 'id -u; cat /nbt /nbt/*; ls -A /nbt/ && echo listed' 2>&1; :",
        );
        world.give_back_decider();
        session.cleanup();
        (stage.log, inside.success())
    };
    for (number, (order, words)) in (0..).zip(ORDERS) {
        let (log, _) = try_it(number, order);
        assert!(log.contains("attack: launch {}: Refused") && log.contains(words), "{order}: {log}");
        nothing_left(&host);
    }
    for (number, order) in (100..).zip(GRANTED) {
        let (log, inside) = try_it(number, order);
        assert!(log.contains("the machine runs debian, version 1"), "{order}: {log}");
        // Its root has the first of the ids that root of the host has written down.
        assert!(inside.starts_with("0\n") && !inside.contains("-own"), "{order}: {inside}");
        let closed = inside.contains("Permission denied") && !inside.contains("listed");
        assert_eq!(closed, order.contains("/home") || order.contains("/etc"), "{order}: {inside}");
        nothing_left(&host);
    }
}

#[needs(host)]
fn a_keeper_outlives_who_has_started_it_before_it_answers() {
    let host = host("");
    let world = host.world();
    // strace(1) of the machine that runs this test, with its libraries.
    let copied = Command::new("sh")
        .arg("-c")
        .arg("mkdir \"$1\" && cp /usr/bin/strace $(ldd /usr/bin/strace | grep -o '/[^ ]*libunwind[^ ]*') \"$1\"")
        .arg("sh")
        .arg(world.host_path("/root/strace"))
        .status();
    assert!(copied.expect("sh(1)").success());
    host.root("cp -p /opt/nunbird/bin/nunbird-machine /opt/nunbird/bin/nunbird-machine.genuine").success();
    world.take_over_machine();
    world.write_file("/etc/nunbird/attack", "slowly the-genuine-one", "root", 0o644);
    let job = world.job();
    let mut session = begun(&job);
    let stage = session.run_text("build_script", "id -un");
    has(&stage, "alice");
    let calls = host.root("cat /root/strace/calls").success();
    assert!(calls.contains("(INJECTED)") || calls.contains("DELAYED"), "{calls}");
    // It holds the locks, so that nobody else gets the machine's ids or its tree.
    host.root("pgrep -x nunbird-machine >/dev/null && ! flock -n -x /run/nunbird/machines/.ids-0 true")
        .success();
    assert!(session.cleanup().succeeded());
    nothing_left(&host);
}

#[needs(host)]
fn a_machine_whose_start_is_killed_before_it_is_ready_has_no_keeper_any_more() {
    let host = host("ready_timeout = \"60s\"\n");
    let slow = "[Service]\nType=oneshot\nExecStart=/bin/sleep 55\n";
    let units = "/var/lib/nunbird/machines/debian/1/tree/etc/systemd/system";
    host.world().write_file(&format!("{units}/slow.service"), slow, "root", 0o644);
    host.root(&format!(
        "mkdir -p {units}/multi-user.target.wants && ln -s ../slow.service {units}/multi-user.target.wants/"
    ))
    .success();
    // The oldest of the two is the one that nunbird-auth has started; the keeper is its child.
    let started = "$(pgrep -o -x nunbird-machine)";
    for victim in [started, &format!("$(ps -o ppid= -p {started})")] {
        let job = host.world().job();
        let mut session = begun(&job);
        host.root(&format!(
            "setsid sh -c 'until pgrep -u 1879048192 -x systemd; do sleep 0.1; done; kill -KILL {victim}' >/dev/null 2>&1 </dev/null &"
        ))
        .success();
        let began = Instant::now();
        let stage = session.run_text("build_script", "echo it runs");
        // A keeper that lives on has nunbird-auth wait for it until the machine is ready.
        assert!(began.elapsed() < Duration::from_secs(40), "{victim}: {:?}", began.elapsed());
        assert!(!stage.succeeded() && !stage.stdout.contains("it runs"), "{victim}: {}", stage.log);
        let gone =
            |host: &Host| host.root("pgrep -x 'nunbird-machine|systemd-nspawn'; :").success().is_empty();
        assert!(host.wait_until(gone), "{victim}: {}", left(&host));
        assert!(session.cleanup().succeeded());
        nothing_left(&host);
    }
}
