//! The site's validation program: what it gets, what it may answer, and that nothing of it is left.

use crate::Test;
use crate::machine::{Machine, Mode};
use crate::refusal::{Class, Refusal};
use crate::validation::{Claims, Question, Validated, ask};
use nunbird_policy::Validation;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) const ALL: &[Test] = &[
    (
        "the_program_gets_names_claims_and_a_clean_process_and_nothing_else",
        the_program_gets_names_claims_and_a_clean_process_and_nothing_else,
    ),
    (
        "an_answer_may_name_an_account_and_a_directory_or_nothing",
        an_answer_may_name_an_account_and_a_directory_or_nothing,
    ),
    ("an_answer_that_is_anything_else_is_refused", an_answer_that_is_anything_else_is_refused),
    (
        "a_program_that_says_no_denies_and_the_admin_reads_its_words",
        a_program_that_says_no_denies_and_the_admin_reads_its_words,
    ),
    (
        "a_program_that_hangs_floods_or_crashes_is_refused_and_leaves_nothing",
        a_program_that_hangs_floods_or_crashes_is_refused_and_leaves_nothing,
    ),
    (
        "whatever_the_program_detaches_is_gone_when_the_answer_is_used",
        whatever_the_program_detaches_is_gone_when_the_answer_is_used,
    ),
    (
        "a_program_that_others_could_have_written_is_not_run",
        a_program_that_others_could_have_written_is_not_run,
    ),
    ("words_that_are_no_names_never_reach_the_program", words_that_are_no_names_never_reach_the_program),
    ("the_program_runs_as_nobody_who_could_be_fooled", the_program_runs_as_nobody_who_could_be_fooled),
    ("a_program_may_run_as_root_where_the_site_says_so", a_program_may_run_as_root_where_the_site_says_so),
    (
        "the_program_can_neither_stop_nor_starve_nor_forge_what_runs_it",
        the_program_can_neither_stop_nor_starve_nor_forge_what_runs_it,
    ),
];

fn settings(machine: &Machine, script: PathBuf) -> Validation {
    Validation {
        script,
        sha256: None,
        user_variable: None,
        environment: BTreeMap::new(),
        timeout: 20,
        user: machine.helper().0.to_owned(),
        rules_first: false,
    }
}

fn claims<'a>() -> Claims<'a> {
    Claims {
        user_login: "alice",
        user_email: None,
        user_id: 210,
        namespace_id: Some(12),
        project_id: 31,
        project_path: "physics/lattice",
        job_id: 7001,
        pipeline_id: 501,
        pipeline_source: Some("push"),
        fork: Some(false),
        issuer_host: "gitlab.example.org",
        identities: &[],
    }
}

fn question<'a>() -> Question<'a> {
    Question { claims: claims(), target: None }
}

/// Asks a program with this text.
fn ask_text(machine: &Machine, text: &str) -> Result<Validated, Refusal> {
    let script = machine.write("etc/validate", format!("#!/bin/sh\n{text}\n"), 0, 0o755);
    let here = machine.privileged();
    ask(&settings(&here, script), &question(), &here.privilege.here())
}

/// Asks several programs, each in turn by the same process.
fn ask_each<'a>(
    machine: &'a Machine,
    texts: &'a [&'a str],
    timeout: u64,
) -> impl Iterator<Item = (&'a str, Result<Validated, Refusal>)> {
    let scripts: Vec<PathBuf> = texts
        .iter()
        .enumerate()
        .map(|(n, text)| machine.write(&format!("etc/validate{n}"), format!("#!/bin/sh\n{text}\n"), 0, 0o755))
        .collect();
    let here = machine.privileged();
    texts.iter().zip(scripts).map(move |(text, script)| {
        let settings = Validation { timeout, ..settings(&here, script) };
        (*text, ask(&settings, &question(), &here.privilege.here()))
    })
}

#[track_caller]
fn refused(answer: Result<Validated, Refusal>, class: Class, code: &str, why: &str) -> Refusal {
    let refusal = answer.expect_err(why);
    assert_eq!((refusal.class, refusal.code.name()), (class, code), "{refusal:?}");
    assert!(refusal.detail.contains(why), "{why}: {}", refusal.detail);
    refusal
}

fn the_program_gets_names_claims_and_a_clean_process_and_nothing_else(machine: &Machine) {
    let notes = machine.notes();
    let text = format!(
        "#!/bin/sh\nexec > {0}/out\nchmod 644 {0}/out\nprintf '%s\\n' \"$@\"; echo --; env | sort; echo --; pwd; umask; \
         grep -E '^(Uid|Gid|Groups|CapPrm|CapEff|CapInh|CapAmb|NoNewPrivs|SigBlk)' /proc/self/status; \
         cut -d' ' -f1,6 /proc/$$/stat; ls /proc/$$/fd > {0}/fds; tr '\\n' ' ' < {0}/fds; readlink /proc/$$/fd/0\n",
        notes.display(),
    );
    // Root alone may read the program: it is run all the same.
    let script =
        machine.write("etc/validate", text, 0, if machine.mode == Mode::None { 0o755 } else { 0o700 });
    let here = machine.privileged();
    let given = [
        ("SITE", "juelich"),
        ("PATH", "/tmp"),
        ("JWT_USER_LOGIN", "root"),
        ("JWT_USER_EMAIL", "made@up"),
        ("NUNBIRD_FORK", "true"),
        ("JWT_IDENTITY_LDAP", "made-up"),
    ];
    let identities = [
        ("Site-LDAP.1".to_owned(), "uid=alice".to_owned()),
        ("saml".to_owned(), "one".to_owned()),
        ("SAML".to_owned(), "two".to_owned()),
    ];
    let settings = Validation {
        environment: given.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        ..settings(&here, script.clone())
    };
    let claims = Claims { identities: &identities, ..claims() };
    let answer = ask(&settings, &Question { claims, target: Some("hpcsvc") }, &here.privilege.here());
    assert_eq!(answer.expect("yes"), Validated::default());
    let said = fs::read_to_string(notes.join("out")).expect("what it found");
    let parts: Vec<&str> = said.split("--\n").collect();
    let [words, environment, process] = parts[..] else { panic!("{said}") };
    assert_eq!(words, "hpcsvc\nalice\n");
    let expected = format!(
        "JWT_IDENTITY_SITE_LDAP_1=uid=alice\nJWT_ISS=gitlab.example.org\nJWT_JOB_ID=7001\nJWT_NAMESPACE_ID=12\n\
         JWT_PIPELINE_ID=501\nJWT_PIPELINE_SOURCE=push\nJWT_PROJECT_ID=31\nJWT_PROJECT_PATH=physics/lattice\n\
         JWT_USER_ID=210\nJWT_USER_LOGIN=alice\nNUNBIRD_FORK=false\nNUNBIRD_VALIDATION_SCRIPT={}\n\
         PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/\nSITE=juelich\n",
        script.display()
    );
    assert_eq!(environment, expected);
    let (_, uid) = here.helper();
    for line in [
        format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n"),
        format!("Gid:\t{uid}\t{uid}\t{uid}\t{uid}\n"),
        format!("Groups:\t{uid} \n"),
        "NoNewPrivs:\t1\n".to_owned(),
        "SigBlk:\t0000000000000000\n".to_owned(),
    ] {
        assert!(process.contains(&line), "{line}: {process}");
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(process.contains(&format!("{set}:\t0000000000000000\n")), "{process}");
    }
    assert!(process.starts_with("/\n0077\n"), "{process}");
    let tail: Vec<&str> = process.lines().rev().take(2).collect();
    let (pid, session) = tail[1].split_once(' ').expect("two numbers");
    assert_eq!(pid, session, "a session of its own");
    // 3 is the program; the shell keeps it at a number of its own.
    let (fds, null) = tail[0].rsplit_once(' ').expect("a link");
    assert_eq!(null, "/dev/null");
    let mut fds: Vec<u32> = fds.split_whitespace().map(|fd| fd.parse().expect("a number")).collect();
    fds.sort_unstable();
    assert!(
        fds.starts_with(&[0, 1, 2, 3]) && fds.iter().skip(4).all(|fd| (10..=255).contains(fd)),
        "{fds:?}"
    );
    assert!(fds.len() <= 6, "{fds:?}");
}

fn an_answer_may_name_an_account_and_a_directory_or_nothing(machine: &Machine) {
    let texts = [
        "true",
        "echo; echo '  '",
        "echo '{}'",
        r#"echo '{"username":"hpcsvc"}'"#,
        r#"printf '\n{"username":"hpcsvc",\n "data_dir":"/scratch/ci"}\n'"#,
        r#"echo '{"username":null}'"#,
    ];
    let none = Validated::default;
    let named = || Validated { username: Some("hpcsvc".to_owned()), ..none() };
    let both = Validated { data_dir: Some("/scratch/ci".into()), ..named() };
    let expected = [none(), none(), none(), named(), both, none()];
    for ((text, answer), expected) in ask_each(machine, &texts, 20).zip(expected) {
        assert_eq!(answer.expect(text), expected, "{text}");
    }
}

fn an_answer_that_is_anything_else_is_refused(machine: &Machine) {
    let texts = [
        "echo yes",
        "echo hpcsvc",
        r#"echo '{"username":"hpcsvc"} {"username":"root"}'"#,
        r#"echo '{"username":"hpcsvc","shell":"/bin/sh"}'"#,
        r#"echo '{"username":"hpcsvc","username":"bob"}'"#,
        r#"echo '{"Username":"hpcsvc"}'"#,
        r#"echo '{"username":"root"}'"#,
        r#"echo '{"username":""}'"#,
        r#"echo '{"username":"-u"}'"#,
        r#"echo '{"username":"a b"}'"#,
        r#"echo '{"username":7}'"#,
        r#"echo '["hpcsvc"]'"#,
        r#"echo '{"data_dir":"scratch"}'"#,
        r#"echo '{"data_dir":"/scratch/../etc"}'"#,
        r#"echo '{"data_dir":"/scratch\u001b[2J"}'"#,
        r#"echo '{"data_dir":""}'"#,
        r"printf '\377\376'",
    ];
    for (text, answer) in ask_each(machine, &texts, 20) {
        assert!(answer.is_err(), "{text}");
        refused(answer, Class::System, "validation-program", "etc/validate");
    }
}

fn a_program_that_says_no_denies_and_the_admin_reads_its_words(machine: &Machine) {
    let refusal = refused(
        ask_text(machine, "echo '{\"username\":\"bob\"}'; printf 'not in \\033[31mgroup\\n' >&2; exit 3"),
        Class::Denied,
        "validation",
        "exit code 3\nnot in \\u{1b}[31mgroup",
    );
    assert_eq!(refusal.message, "your site does not let you run as `alice`");
}

fn a_program_that_hangs_floods_or_crashes_is_refused_and_leaves_nothing(machine: &Machine) {
    let mark = format!("{}.5", 40_000 + std::process::id());
    let hang = format!("sleep {mark} & sleep {mark}");
    let ignore = format!("trap '' TERM HUP INT; (setsid sleep {mark} &) ; exec >&- 2>&-; sleep {mark}");
    let texts =
        [hang.as_str(), ignore.as_str(), "yes", "yes >&2", "kill -SEGV $$", "head -c 70000 /dev/zero"];
    let whys = [
        "within 1 seconds",
        "within 1 seconds",
        "more than 65536",
        "within 1 seconds",
        "signal 11",
        "more than 65536",
    ];
    for ((text, answer), why) in ask_each(machine, &texts, 1).zip(whys) {
        let refusal = refused(answer, Class::System, "validation-program", why);
        assert!(refusal.detail.len() < 20_000, "{text}");
        assert!(with_argument(&mark).is_empty(), "{text}");
    }
}

fn whatever_the_program_detaches_is_gone_when_the_answer_is_used(machine: &Machine) {
    let mark = format!("{}.7", 50_000 + std::process::id());
    let text = format!(
        "for n in 1 2 3; do setsid sh -c 'setsid sleep {mark} & sleep {mark} & wait' & done\n\
         (trap '' TERM; sleep {mark}) &\n\
         while [ $(grep -lzx {mark} /proc/[0-9]*/cmdline 2>/dev/null | wc -l) -lt 7 ]; do sleep 0.05; done\n\
         echo '{{\"username\":\"hpcsvc\"}}'"
    );
    let answer =
        ask_text(machine, &text).expect("a program that daemons hold the pipes of has ended all the same");
    assert_eq!(answer.username.as_deref(), Some("hpcsvc"));
    assert!(with_argument(&mark).is_empty(), "{:?}", with_argument(&mark));
}

/// Processes of this host with this argument.
fn with_argument(argument: &str) -> Vec<PathBuf> {
    let found = |path: &Path| {
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        line.split(|b| *b == 0).any(|word| word == argument.as_bytes())
    };
    fs::read_dir("/proc").expect("processes").flatten().map(|e| e.path()).filter(|p| found(p)).collect()
}

fn a_program_that_others_could_have_written_is_not_run(machine: &Machine) {
    let trusted = "#!/bin/sh\n";
    let good = machine.write("etc/good", trusted, 0, 0o755);
    let all = [
        (machine.write("etc/writable", trusted, 0, 0o775), None, "writable by others"),
        (machine.write("etc/bobs", trusted, 4102, 0o755), None, "owned by uid 4102"),
        (machine.path("etc/missing"), None, "No such file"),
        (machine.path("etc"), None, "not a regular file"),
        ("relative".into(), None, "must be absolute"),
        (machine.path("etc/link"), None, "symbolic link"),
        (good.clone(), Some("0".repeat(64)), "validation.sha256 says"),
        (machine.write("etc/nothing", "", 0, 0o755), None, "execveat"),
        (machine.write("etc/lost", "#!/nonexistent/shell\n", 0, 0o755), None, "execveat"),
    ];
    symlink(&good, machine.path("etc/link")).expect("a link");
    let here = machine.privileged();
    for (script, sha256, why) in all {
        let settings = Validation { sha256, ..settings(&here, script) };
        refused(
            ask(&settings, &question(), &here.privilege.here()),
            Class::System,
            "validation-program",
            why,
        );
    }
    let settings = Validation { sha256: Some(String::new()), ..settings(&here, good.clone()) };
    let found = ask(&settings, &question(), &here.privilege.here()).expect_err("a wrong one").detail;
    let found = found.split("SHA-256 is ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a digest");
    // By sha256sum(1).
    assert_eq!(found, "a8076d3d28d21e02012b20eaf7dbf75409a6277134439025f282e368e3305abf");
    let right = Validation { sha256: Some(found.to_ascii_uppercase()), ..settings };
    assert!(ask(&right, &question(), &here.privilege.here()).is_ok());
}

fn words_that_are_no_names_never_reach_the_program(machine: &Machine) {
    let notes = machine.notes();
    let text = format!("#!/bin/sh\ntouch {}/called\n", notes.display());
    let script = machine.write("etc/validate", text, 0, 0o755);
    let here = machine.privileged();
    let settings = settings(&here, script);
    for target in
        ["root", "-rf", "../x", "a b", "", "4101", "svc\n", "nobody", "x\u{202e}y", "A", &"x".repeat(33)]
    {
        let question = Question { target: Some(target), ..question() };
        let refusal = ask(&settings, &question, &here.privilege.here()).expect_err(target);
        assert_eq!((refusal.class, refusal.code.name()), (Class::Denied, "validation"), "{target}");
    }
    for login in ["-alice", "", "al ice", "a/b", "..", "al\nice", "\u{e4}lice"] {
        let claims = Claims { user_login: login, ..claims() };
        let refusal =
            ask(&settings, &Question { claims, target: None }, &here.privilege.here()).expect_err(login);
        assert_eq!((refusal.class, refusal.code.name()), (Class::Denied, "validation"), "{login}");
    }
    let claims = Claims { project_path: "nul\0nul", ..claims() };
    assert!(ask(&settings, &Question { claims, target: None }, &here.privilege.here()).is_err());
    assert!(!notes.join("called").exists());
    assert!(ask(&settings, &question(), &here.privilege.here()).is_ok());
    assert!(notes.join("called").exists());
}

fn the_program_runs_as_nobody_who_could_be_fooled(machine: &Machine) {
    let script = machine.write("etc/validate", "#!/bin/sh\n", 0, 0o755);
    let here = machine.privileged();
    let as_user = |user: &str| {
        let settings = Validation { user: user.to_owned(), ..settings(&here, script.clone()) };
        ask(&settings, &question(), &here.privilege.here())
    };
    refused(as_user("nobody-here"), Class::System, "validation-program", "not in the user database");
    match machine.mode {
        Mode::Setuid | Mode::FileCaps => {
            refused(as_user("nbt_runner"), Class::System, "validation-program", "runs gitlab-runner");
        }
        Mode::None => {
            refused(as_user("nunbird"), Class::System, "validation-program", "must be the account itself");
            refused(as_user("root"), Class::System, "validation-program", "must be the account itself");
        }
        Mode::Root => assert!(as_user("nbt_runner").is_ok(), "a runner that is no account's"),
    }
}

fn a_program_may_run_as_root_where_the_site_says_so(machine: &Machine) {
    if machine.mode == Mode::None {
        return;
    }
    let notes = machine.notes();
    let mark = format!("{}.9", 60_000 + std::process::id());
    let text = format!(
        "#!/bin/sh\ngrep -E '^(Uid|Gid|Groups)' /proc/self/status > {0}/out\nchmod 644 {0}/out\nsetsid sleep {mark} &\n",
        notes.display()
    );
    let script = machine.write("etc/validate", text, 0, 0o700);
    let here = machine.privileged();
    let settings = Validation { user: "root".to_owned(), ..settings(&here, script) };
    ask(&settings, &question(), &here.privilege.here()).expect("yes");
    let said = fs::read_to_string(notes.join("out")).expect("what it found");
    assert_eq!(said, "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\t0 \n");
    let begun = Instant::now();
    while !with_argument(&mark).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(1), "a daemon of the program lives on");
    }
}

fn the_program_can_neither_stop_nor_starve_nor_forge_what_runs_it(machine: &Machine) {
    if machine.mode == Mode::None {
        // One account's processes are each other's.
        return;
    }
    let notes = machine.notes();
    let mark = format!("{}.3", 70_000 + std::process::id());
    let text = format!(
        "while ! grep -qE '^Uid:[[:space:]]2147483628[[:space:]]990[[:space:]]2147483628' /proc/$PPID/status; do sleep 0.01; done\n\
         exec 2>/dev/null\n\
         {{ grep -E '^(Gid|Groups|Cap(Inh|Prm|Eff|Amb))' /proc/$PPID/status\n\
         for signal in STOP TERM KILL; do kill -$signal $PPID; echo $signal $?; done\n\
         prlimit --pid $PPID --cpu=0; echo limit $?\n\
         echo forged > /proc/$PPID/fd/5; echo report $?\n\
         ls /proc/$PPID/fd > /dev/null; echo files $?; }} > {0}/out; chmod 644 {0}/out\n\
         setsid sleep {mark} &\n\
         echo '{{\"username\":\"hpcsvc\"}}'",
        notes.display()
    );
    let answer = ask_text(machine, &text).expect("yes");
    assert_eq!(answer.username.as_deref(), Some("hpcsvc"));
    let said = fs::read_to_string(notes.join("out")).expect("what it found");
    let none = "0000000000000000";
    assert_eq!(
        said,
        format!(
            "Gid:\t2147483628\t2147483628\t2147483628\t2147483628\nGroups:\t \nCapInh:\t{none}\nCapPrm:\t{none}\n\
             CapEff:\t{none}\nCapAmb:\t{none}\nSTOP 1\nTERM 1\nKILL 1\nlimit 1\nreport 2\nfiles 2\n"
        )
    );
    assert!(with_argument(&mark).is_empty(), "{:?}", with_argument(&mark));
}
