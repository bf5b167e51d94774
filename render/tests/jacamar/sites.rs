//! Configurations that sites publish, in their own words where they are short.

use super::{findings, migrated, migrated_with, read, substance};
use nunbird_policy::{Downscope, Executor, Policy, RunAs, Syslog};
use nunbird_render::ServerOptions;
use std::path::Path;

const CINECA: &str = include_str!("cineca.toml");
const RIKEN: &str = include_str!("riken.toml");
const INSTALLER: &str = include_str!("installer.toml");
const COLLABORATION: &str = include_str!("collaboration.toml");
const EVERY_KEY: &str = include_str!("every_key.toml");

const SERVER: &str = "there is no `gitlab_server`";

/// Findings by line and the beginning of their message.
#[track_caller]
fn expect(text: &str, wanted: &[(u32, &str)]) {
    let found = findings(text);
    let same = found.len() == wanted.len()
        && found
            .iter()
            .zip(wanted)
            .all(|(found, wanted)| found.0 == wanted.0 && found.1.starts_with(wanted.1));
    assert!(same, "{found:#?}");
}

/// With the server's URL.
fn mended(text: &str) -> String {
    text.replace("[general]", "[general]\ngitlab_server = \"https://gitlab.example.org\"")
}

#[test]
fn sites_learn_at_once_what_stands_between_them_and_a_switch() {
    expect(CINECA, &[(2, SERVER)]);
    expect(RIKEN, &[(2, SERVER)]);
    expect(INSTALLER, &[(2, SERVER)]);
    expect(COLLABORATION, &[(2, SERVER)]);
    expect(
        EVERY_KEY,
        &[
            (60, "`block_calls` is not supported"),
            (62, "`allow_calls` is not supported"),
            (66, "`validation_plugin` is not supported"),
        ],
    );
}

#[test]
fn a_site_that_adds_its_server_switches() {
    let cineca = read(&mended(CINECA));
    assert_eq!(cineca.downscope, Downscope::None);
    assert_eq!(cineca.directories.data_dir, "$HOME/.jacamar-ci");
    assert_eq!(cineca.job.executor, Executor::Scheduler("slurm".to_owned()));
    assert_eq!(cineca.job.batch.scheduler_bin.as_deref(), Some(Path::new("/opt/slurm/current/bin")));
    let riken = read(&mended(RIKEN));
    assert_eq!(riken.directories.data_dir, "/home/ada/gitlab-runner_jacamar-ci_amd/$USER");
    assert_eq!(riken.job.executor, Executor::Scheduler("pbs".to_owned()));
    assert_eq!(riken.rules[0].name, "user_allowlist");
    let installer = read(&mended(INSTALLER));
    assert!(installer.audit.syslog.is_none(), "logging is not enabled");
    assert_eq!(read(&mended(COLLABORATION)).audit.file, None);
}

#[test]
fn what_an_old_configuration_says_in_every_key_is_in_force_where_it_is_not_refused() {
    let refused: Vec<u32> = findings(EVERY_KEY).iter().map(|(line, _)| *line).collect();
    let rest: Vec<&str> =
        (1..).zip(EVERY_KEY.lines()).filter(|(line, _)| !refused.contains(line)).map(|(_, l)| l).collect();
    let policy = read(&rest.join("\n"));
    assert_eq!(policy.directories.data_dir, "/ecp/$USER");
    assert!(policy.directories.user_builds_dir && policy.directories.per_job);
    assert_eq!(policy.directories.upkeep.max_dirs, Some(4));
    assert_eq!(policy.job.environment["PATH"], "/usr/local/bin:/usr/bin:/bin:/opt/site/bin");
    assert_eq!(policy.audit.syslog, Some(Syslog::Tcp("127.0.0.1:1234".parse().unwrap())));
    assert_eq!(policy.validation.as_ref().map(|v| v.rules_first), Some(true));
    let names: Vec<&str> = policy.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "user_allowlist",
            "user_blocklist",
            "groups_blocklist",
            "groups_allowlist",
            "on no list",
            "pipeline_source_allowlist"
        ]
    );
    assert!(matches!(policy.rules[0].outcome, nunbird_policy::RuleOutcome::RunAs(RunAs::Validated)));
}

#[test]
fn every_site_that_can_switch_can_migrate_as_well() {
    for text in [CINECA, RIKEN, INSTALLER, COLLABORATION] {
        let text = mended(text);
        let (native, findings) = migrated(&text);
        assert!(findings.is_empty(), "{findings:?}");
        assert_eq!(substance(&read(&native)), substance(&read(&text)), "{native}");
    }
}

#[test]
fn every_site_migrates_unchanged_when_the_admin_names_the_server() {
    let url = "https://gitlab.example.org";
    let given =
        ServerOptions { gitlab_server: Some(url.to_owned()), audience: None, ..ServerOptions::default() };
    for text in [CINECA, RIKEN, INSTALLER, COLLABORATION] {
        let (without, findings) = migrated(text);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(Policy::parse(Path::new("n"), &without).is_err(), "{without}");
        let (native, findings) = migrated_with(text, &given);
        assert!(findings.is_empty(), "{findings:?}");
        assert_eq!(substance(&read(&native)), substance(&read(&mended(text))), "{native}");
        assert!(native.contains(&format!("url = \"{url}\"  # given by --gitlab-server\n")), "{native}");
        let other = ServerOptions { audience: Some("hpc".to_owned()), ..given.clone() };
        assert_eq!(read(&migrated_with(text, &other).0).gitlab[0].audience, ["hpc"]);
    }
}

#[test]
fn jobs_of_a_scheduler_or_of_containers_never_become_jobs_on_the_runners_host() {
    let installer = mended(INSTALLER);
    let slurm = "executor = \"slurm\"";
    for (change, executor) in [
        ("executor = \"pjm\"", "pjm"),
        ("executor = \"my-scheduler\"", "my-scheduler"),
        ("executor = \"Shell\"", "Shell"),
        ("executor = \"\"", "NAME"),
        ("executor = 7", "NAME"),
        ("", "NAME"),
        ("executor = \"slurm\"\nrun_mechanism = \"docker\"", "in-docker"),
        ("executor = \"shell\"\nrun_mechanism = \"shell\"", "in-shell"),
    ] {
        let text = installer.replacen(slurm, change, 1);
        let (native, findings) = migrated(&text);
        assert!(!findings.is_empty(), "{change}");
        assert!(native.contains(&format!("\nexecutor = \"{executor}\"")), "{change}: {native}");
        assert!(
            native.contains(&format!("\n#[scheduler.{executor}]\n#description = ")),
            "{change}: {native}"
        );
        // Also without the rule that denies everybody, and with a description of the scheduler.
        let (head, rule) = native.split_once("[[rule]]").expect("a rule");
        let rest = rule.split_once("\n[[rule]]").map_or("", |(_, rest)| rest);
        let open = format!("{head}[[rule]]{rest}");
        let refused = Policy::parse(Path::new("n"), &open).expect_err(&open);
        assert!(refused.iter().any(|finding| finding.message == "unknown executor"), "{refused:?}");
        let described = open.replace("#[scheduler", "[scheduler").replace("#description", "description");
        assert_eq!(read(&described).job.executor, Executor::Described(executor.to_owned()));
    }
}
