//! One notation for amounts, durations and numbers, in every key of every section, in job variables and options.

use crate::diff::with;
use crate::scene::Scene;
use nunbird_policy::{Kind, Policy, every_key, read_duration, seconds_option};
use nunbird_render::to_toml;
use std::path::Path;
use std::process::Command;

/// Spellings of one value. Of the rows of a kind each key takes one at least: they differ in size.
type Row = &'static [&'static str];

const AMOUNTS: &[Row] = &[&["\"4G\"", "\"4GiB\"", "\"4 GiB\"", "\"4 G\"", "\"4096MiB\"", "\"4194304K\""]];
const NO_AMOUNTS: Row =
    &["\"4GB\"", "\"4\"", "4", "\"4g\"", "\"1.5G\"", "\"-4G\"", "\"4  G\"", "true", "\"\""];
const DURATIONS: &[Row] = &[
    &["\"90s\"", "\"1m30s\"", "\"90 s\"", "\"1m 30s\""],
    &["\"5m\"", "\"300s\"", "\"4m60s\""],
    &["\"1h30m\"", "\"90m\"", "\"1h 30m\"", "\"5400s\""],
    &["\"2w\"", "\"14d\"", "\"1w7d\"", "\"336h\"", "\"2 w\""],
];
const NO_DURATIONS: Row =
    &["\"5\"", "5", "\"1.5h\"", "\"30m1h\"", "\"5S\"", "\"5 min\"", "\"-5s\"", "true", "\"\""];
const CPUS: &[Row] = &[&["2", "2.0", "\"2\"", "\"2.0\"", "\"2.000\""], &["2.5", "\"2.5\"", "\"2.500\""]];
const NO_CPUS: Row = &["\"2,5\"", "\"1e1\"", "0", "-1", "\"2 \"", "true", "\"\""];
const NUMBERS: &[Row] = &[&["5", "\"5\""], &["1000", "\"1000\""]];
const NO_NUMBERS: Row = &["\"5 \"", "\"five\"", "5.0", "\"5.0\"", "-5", "\"-5\"", "\"0x5\"", "true", "\"\""];
const LISTS: &[Row] = &[&["5", "\"5\"", "[5]", "[\"5\"]"]];

fn read(key: &str, value: &str) -> Result<String, String> {
    let read = Policy::parse(Path::new("c.toml"), &with(key, Some(value)));
    read.map(|policy| to_toml(&policy, &|_| None))
        .map_err(|findings| findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

#[test]
fn every_key_reads_every_spelling_and_nothing_else() {
    let mut count = 0;
    for (key, kind) in every_key() {
        let (rows, bad, word) = match kind {
            Kind::Amount | Kind::AmountOrUnlimited => (AMOUNTS, NO_AMOUNTS, "amount"),
            Kind::Duration => (DURATIONS, NO_DURATIONS, "duration"),
            Kind::Cpus => (CPUS, NO_CPUS, "number of processors"),
            Kind::Integer => (NUMBERS, NO_NUMBERS, "integer"),
            Kind::Integers => (LISTS, NO_NUMBERS, "integer"),
            _ => continue,
        };
        count += 1;
        let mut taken = 0;
        for row in rows {
            let meanings: Vec<_> = row.iter().map(|value| read(&key, value)).collect();
            taken += usize::from(meanings[0].is_ok());
            for (value, meaning) in row.iter().zip(&meanings) {
                let same = match (meaning, &meanings[0]) {
                    (Ok(one), Ok(first)) => one == first,
                    // Both are out of the key's bounds.
                    (one, first) => one.is_err() && first.is_err(),
                };
                assert!(same, "{key} = {value} is not {key} = {}: {meaning:?}", row[0]);
            }
        }
        assert!(taken > 0, "{key} takes none of {rows:?}: {:?}", read(&key, rows[0][0]));
        for value in bad {
            let refused = read(&key, value).expect_err(&format!("{key} = {value}"));
            assert!(
                refused.contains("expected ") || refused.contains("negative"),
                "{key} = {value} ({word}): {refused}"
            );
        }
        if matches!(kind, Kind::AmountOrUnlimited) {
            assert!(read(&key, "\"unlimited\"").is_ok(), "{key}");
        }
    }
    assert!(count > 60, "{count} keys");
}

/// A key that has a number, a size or a time in its table has it by one of the kinds above.
#[test]
fn no_key_has_a_notation_of_its_own() {
    for (table, keys) in nunbird_policy::key_info() {
        for key in keys {
            let path = if table.is_empty() { key.name.to_owned() } else { format!("{table}.{}", key.name) };
            let kind = every_key().remove(&path);
            let first = key.takes.split([' ', ',']).next().unwrap_or_default();
            let fits = match (first, &kind) {
                ("amount", Some(Kind::Amount | Kind::AmountOrUnlimited))
                | ("duration", Some(Kind::Duration))
                | ("processors", Some(Kind::Cpus))
                | ("number", Some(Kind::Integer))
                | ("numbers", Some(Kind::Integers)) => true,
                ("amount" | "duration" | "processors" | "number" | "numbers", _) => kind.is_none(),
                _ => !matches!(
                    kind,
                    Some(Kind::Amount | Kind::Duration | Kind::Cpus | Kind::Integer | Kind::Integers)
                ),
            };
            assert!(fits, "{path} takes `{}`, and is read as {kind:?}", key.takes);
        }
    }
}

#[test]
fn options_read_durations_as_keys_do() {
    let scene = Scene::new();
    for row in DURATIONS {
        let seconds: Vec<_> = row.iter().map(|value| read_duration(value.trim_matches('"'))).collect();
        assert!(seconds.iter().all(|one| one.is_some() && *one == seconds[0]), "{row:?}");
    }
    for value in ["1h30m", "2w", "90 m"] {
        assert_eq!(seconds_option(value).ok(), read_duration(value));
        let log = scene.file("audit.jsonl", "");
        let since = scene.run_bare(&["audit", "--file", &log, "--since", value]);
        assert_ne!(since.code, 2, "{since:?}");
        let help = scene.run_bare(&["sweep", "--older-than", value, "--help"]);
        assert_eq!(help.code, 0, "{help:?}");
    }
    for value in ["90", "5 min", "1.5h"] {
        let sweep = scene.run_bare(&["sweep", "--dry-run", "--older-than", value]);
        assert!(sweep.code == 2 && sweep.err.contains("such as `36h`, `2d` or `1w`"), "{sweep:?}");
    }
    assert_eq!(scene.run_bare(&["sweep", "--dry-run", "--older-than", "59m"]).code, 2);
}

#[test]
fn errors_use_the_words_of_toml() {
    for (key, value, words) in [
        ("accounts.min_uid", "\"x\"", "expected integer, found string"),
        ("accounts.min_uid", "1.5", "expected integer, found float"),
        ("accounts.min_uid", "true", "expected integer, found boolean"),
        ("accounts.allow_bots", "\"true\"", "expected boolean, found string"),
        ("job.shell", "1", "expected string, found integer"),
        ("job.shell", "[]", "expected string, found array"),
        ("limits[].memory", "4", "expected string, found integer"),
        ("gitlab[].keys_max_age", "48", "expected string, found integer"),
        ("job.environment", "\"x\"", "expected table, found string"),
    ] {
        let refused = read(key, value).expect_err(key);
        assert!(refused.starts_with(&format!("error: {words}\n")), "{key} = {value}: {refused}");
    }
}

/// What a terminal gets, by script(1).
fn on_a_terminal(scene: &Scene, arguments: &[&str], no_color: &str) -> String {
    let configuration = scene.path("config.toml");
    let line = format!(
        "{} {} --configuration {}",
        env!("CARGO_BIN_EXE_nunbirdctl"),
        arguments.join(" "),
        configuration.display()
    );
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").env("NO_COLOR", no_color);
    String::from_utf8(command.output().expect("script(1)").stdout).expect("UTF-8")
}

#[test]
fn every_kind_of_finding_is_coloured_on_a_terminal_and_nowhere_else() {
    const RED: &str = "\u{1b}[31m";
    const YELLOW: &str = "\u{1b}[33m";
    let scene = Scene::new();
    let runner = scene.file(
        "runner.toml",
        "[[runners]]\nname = \"x\"\nexecutor = \"shell\"\n[runners.custom]\nrun_exec = \"/opt/nunbird/bin/nunbird-auth\"\n",
    );
    let policy = scene.policy();
    let everybody = "[[rule]]\nname = \"everybody\"\nrun_as = \"$user_login\"\n";
    for (more, arguments, coloured) in [
        ("x", &["check", "--no-host"][..], format!("{RED}error\u{1b}[0m: ")),
        (
            "[accounts]\nmin_uid = true\n",
            &["check", "--no-host"],
            format!("{RED}error\u{1b}[0m: expected integer"),
        ),
        (everybody, &["check", "--no-host"], format!("{YELLOW}remark[everybody]\u{1b}[0m: ")),
        (
            "[[rule]]\nname = \"never\"\nwhen = { project = \"/a\" }\ndeny = \"no\"\n",
            &["check", "--no-host"],
            format!("{RED}error[never-fits]\u{1b}[0m: "),
        ),
        ("", &["runner-config", "--check", &runner], format!("{RED}error[runner-executor]\u{1b}[0m: ")),
        ("", &["doctor", "--runner-config", &runner], format!("{RED}error[runner-executor]\u{1b}[0m: ")),
        (
            "[[test]]\nname = \"t\"\nclaims = { user_login = \"ada\", project_path = \"a/b\" }\nexpect = \"ada\"\n",
            &["test"],
            format!("{RED}FAIL\u{1b}[0m"),
        ),
        ("", &["show", "--key", "x"], format!("{RED}error\u{1b}[0m: ")),
    ] {
        scene.configure(&format!("{policy}{more}"));
        let shown = on_a_terminal(&scene, arguments, "");
        assert!(shown.contains(&coloured), "{arguments:?}: {shown:?}");
        let shown = on_a_terminal(&scene, arguments, "1");
        assert!(!shown.contains('\u{1b}'), "NO_COLOR, {arguments:?}: {shown:?}");
        let piped = scene.run(arguments);
        assert!(!piped.out.contains('\u{1b}') && !piped.err.contains('\u{1b}'), "{arguments:?}: {piped:?}");
    }
}
