//! What the packages install: the example configuration shows every key with its true default, and
//! the other files agree with the programs about names and paths.

use nunbird_policy::{
    CONFIGURATIONS, DEFAULT_AUDIT_FILE, DEFAULT_CONFIGURATION, DEFAULT_KEYS_DIR, DEFAULT_LAUNCHER, Policy,
};
use std::path::{Path, PathBuf};

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: &str) -> String {
    let path = tree().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The example with the `#` before keys and tables removed; prose has a space behind its `#`.
fn uncommented() -> String {
    let lines = text("packaging/config.toml");
    let key = |line: &str| line.starts_with(|c: char| c.is_ascii_alphabetic() || c == '[');
    lines
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix('#').filter(|l| key(l)).unwrap_or(line)))
        .collect()
}

fn parse(text: &str) -> Policy {
    Policy::parse(Path::new("packaging/config.toml"), text)
        .unwrap_or_else(|findings| panic!("{}", findings.iter().map(ToString::to_string).collect::<String>()))
}

#[test]
fn the_example_configuration_is_one_and_admits_nobody() {
    let policy = parse(&text("packaging/config.toml"));
    assert!(policy.rules.iter().all(|rule| matches!(rule.outcome, nunbird_policy::RuleOutcome::Deny(_))));
}

#[test]
fn what_the_example_shows_as_defaults_are_the_defaults() {
    let as_it_is = parse(&text("packaging/config.toml"));
    let mut shown = parse(&uncommented());
    assert_eq!(shown.rules.len(), as_it_is.rules.len() + 7, "each rule shown as an example is one");
    let server = &mut shown.gitlab[0];
    assert!(server.proxy.take().is_some(), "a proxy without a default is an example");
    let examples = [server.ca_file.take(), server.proxy_auth_file.take(), shown.accounts.people_file.take()];
    assert!(examples.iter().all(Option::is_some), "files without a default are examples");
    assert!(
        shown.pam.take().is_some()
            && shown.validation.take().is_some()
            && shown.audit.syslog.take().is_some()
    );
    assert!(shown.job.message.take().is_some() && !std::mem::take(&mut shown.job.stages).is_empty());
    let upkeep = &mut shown.directories.upkeep;
    let removed = [upkeep.max_age.take(), upkeep.max_dirs.take(), upkeep.min_free.take()];
    assert!(removed.iter().all(Option::is_some), "examples of what is off");
    let batch = &mut shown.job.batch;
    assert!(batch.scheduler_bin.take().is_some() && std::mem::take(&mut batch.rules).qos.is_some());
    assert_eq!(std::mem::take(&mut shown.schedulers).len(), 1);
    assert_eq!((shown.profiles.len(), shown.maps.len(), shown.tests.len()), (1, 1, 1));
    assert_eq!(std::mem::take(&mut shown.limits).len(), 1);
    assert_eq!(std::mem::take(&mut shown.containers).len(), 1);
    assert_eq!(std::mem::take(&mut shown.credentials).len(), 1);
    shown.profiles.clear();
    shown.maps.clear();
    shown.tests.clear();
    shown.rules.clone_from(&as_it_is.rules);
    assert_eq!(shown, as_it_is);
}

#[test]
fn the_example_shows_every_key_that_there_is() {
    let shown = uncommented();
    let keys: Vec<&str> = shown
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| line.split(['[', ']', '{', '}', ',', '=', ' ', '.']))
        .collect();
    let known = nunbird_policy::every_key();
    // Conditions and claims are in the reference, which is made from their table.
    let is_fact =
        |path: &str| path.contains("claims.") || path.contains(".when.") || path.contains(".unless.");
    let known = known.keys().filter(|path| !is_fact(path));
    let fields: Vec<&str> = known.filter_map(|path| path.trim_end_matches("[]").rsplit('.').next()).collect();
    assert!(fields.len() > 60, "{fields:?}");
    let missing: Vec<_> = fields.iter().filter(|field| !keys.contains(field)).collect();
    assert!(missing.is_empty(), "not in packaging/config.toml: {missing:?}");
}

#[test]
fn the_runners_snippet_calls_the_installed_program_for_all_four_stages() {
    let snippet: toml::Table = text("packaging/gitlab-runner.toml").parse().unwrap();
    let runner = &snippet["runners"][0];
    assert_eq!(runner["executor"].as_str(), Some("custom"));
    let auth = Path::new(DEFAULT_LAUNCHER).with_file_name("nunbird-auth");
    for stage in ["config", "prepare", "run", "cleanup"] {
        let custom = &runner["custom"];
        assert_eq!(custom[&format!("{stage}_exec")].as_str().map(Path::new), Some(auth.as_path()), "{stage}");
        assert_eq!(custom[&format!("{stage}_args")][0].as_str(), Some(stage));
    }
    let arguments = runner["custom"]["config_args"].as_array().unwrap();
    assert!(arguments.iter().any(|word| word.as_str() == Some(DEFAULT_CONFIGURATION)));
}

#[test]
fn units_directories_and_rotation_name_the_places_of_the_programs() {
    let service = text("packaging/nunbird-keys.service");
    let program = Path::new(DEFAULT_LAUNCHER).with_file_name("nunbird-keys");
    for line in [
        format!("ExecStart={} refresh", program.display()),
        format!("ReadWritePaths={DEFAULT_KEYS_DIR}"),
        format!("ConditionPathExists=|{DEFAULT_CONFIGURATION}"),
        format!("ConditionPathExists=|{CONFIGURATIONS}"),
        "User=nunbird".to_owned(),
    ] {
        assert!(service.lines().any(|l| l == line), "{line}");
    }
    let sweep = text("packaging/nunbird-sweep.service");
    let program = program.with_file_name("nunbirdctl");
    assert!(sweep.lines().any(|line| line == format!("ExecStart={} sweep", program.display())), "{sweep}");
    assert!(text("packaging/sysusers.d/nunbird.conf").lines().any(|l| l.starts_with("u nunbird ")));
    let directories = text("packaging/tmpfiles.d/nunbird.conf");
    let directories: Vec<Vec<&str>> = directories.lines().map(|l| l.split_whitespace().collect()).collect();
    assert!(directories.contains(&vec!["d", DEFAULT_KEYS_DIR, "0755", "nunbird", "nunbird", "-"]));
    let log = Path::new(DEFAULT_AUDIT_FILE).parent().unwrap().to_str().unwrap();
    assert!(directories.contains(&vec!["d", log, "0750", "root", "root", "-"]));
    assert!(text("packaging/logrotate.d/nunbird").contains(&format!("{DEFAULT_AUDIT_FILE} {{")));
}

#[test]
fn the_packages_have_the_programs_version() {
    let spec = text("rpm/nunbird.spec");
    let versions: Vec<&str> =
        spec.lines().filter_map(|line| line.strip_prefix("Version:")).map(str::trim).collect();
    assert_eq!(versions, [env!("CARGO_PKG_VERSION")]);
}
