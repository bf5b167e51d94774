use super::go_duration;
use crate::made_up::{MadeUp, account, subject};
use crate::{Dialect, Downscope, Policy, RuleOutcome, RunAs, Subject, Syslog, Verdict, decide};
use std::path::Path;

const SMALL: &str = r#"
[general]
executor = "shell"
data_dir = "$HOME"
gitlab_server = "https://gitlab.example.org"
[auth]
downscope = "setuid"
"#;

fn with(general: &str, auth: &str) -> String {
    SMALL.replace("[auth]", &format!("{general}\n[auth]")) + auth
}

fn policy(text: &str) -> Policy {
    Policy::parse(Path::new("/etc/gitlab-runner/jacamar.toml"), text).unwrap_or_else(|findings| {
        panic!("{}", findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

fn findings(text: &str) -> Vec<(u32, String)> {
    let found = Policy::parse(Path::new("j"), text).expect_err(text);
    assert!(found.iter().all(|f| f.help.is_some()), "{found:?}");
    found.into_iter().map(|f| (f.place.line, f.message)).collect()
}

#[test]
fn a_small_configuration_gets_jacamars_defaults() {
    let policy = policy(SMALL);
    assert_eq!((policy.dialect, policy.downscope), (Dialect::Jacamar, Downscope::Setuid));
    assert_eq!(policy.directories.data_dir, "$HOME/.jacamar-ci");
    assert_eq!(policy.identity.token_variables, ["CI_JOB_JWT"]);
    assert_eq!(policy.identity.late_stages, 900);
    assert_eq!(policy.gitlab[0].name, "gitlab-example-org");
    assert_eq!(policy.gitlab[0].audience, ["https://gitlab.example.org"]);
    assert!(policy.job.isolation.no_new_privileges && !policy.accounts.allow_bots);
    assert!(matches!(policy.rules[0].outcome, RuleOutcome::RunAs(RunAs::UserLogin)));
    assert!(policy.validation.is_none() && policy.audit.syslog.is_none());
}

#[test]
fn every_key_that_is_honoured_has_its_effect() {
    let text = with(
        "shell_path = \"/usr/bin/bash\"\ntls-ca-file = \"/etc/ca.pem\"\njwt_env_variable = \"SITE_ID_TOKEN\"\n\
         user_bash_env = [\"SITE=1\", \"A=b c\"]\nname = \"x\"\nretain_logs = true\nkill_timeout = \"2m\"\n\
         unrestricted_cmd_line = true\nstatic_min_days = 3\nff_something = 1",
        "user_allowlist = [\"ada\"]\nshell_allowlist = [\"/bin/bash\"]\nenforce_nologin = true\nallow_bot_accounts = true\n\
         jwt_exp_delay = \"30m\"\njwt_required_aud = [\"https://a\", \"https://b\"]\nlists_pre_validation = true\n\
         no_new_privs = true\njacamar_path = \"/opt/jacamar/bin\"\nmax_env_chars = 5\n\
         [auth.runas]\nvalidation_script = \"/etc/v\"\nuser_variable = \"SVC\"\nvalidation_env = [\"K=v\"]\n\
         [auth.seccomp]\nlimit_setuid = true\ntty_rules = true\nerror_num_block_actions = true\n\
         [auth.logging]\nenabled = true\nnetwork = \"udp\"\naddress = \"192.0.2.7:514\"\nlevel = \"info\"\n\
         [batch]\ncommand_delay = \"1m\"\nenv_vars = [\"PATH=$PATH:/x\"]\narguments_variable = [\"SITE_PARAMETERS\"]\n\
         default_args = [\"-A ci\", \"--nice\"]\nnfs_timeout = \"500ms\"\n",
    );
    let policy = policy(&text);
    assert_eq!(policy.job.shell, Path::new("/usr/bin/bash"));
    assert_eq!(policy.job.environment["A"], "b c");
    let batch = &policy.job.batch;
    assert_eq!((batch.poll_interval, batch.nfs_timeout), (60, 1));
    assert_eq!(batch.environment["PATH"], "/usr/local/bin:/usr/bin:/bin:/x");
    assert_eq!(batch.arguments_variables, ["SITE_PARAMETERS", "SCHEDULER_PARAMETERS"]);
    assert_eq!(batch.rules.default, ["-A", "ci", "--nice"]);
    assert_eq!(policy.gitlab[0].ca_file.as_deref(), Some(Path::new("/etc/ca.pem")));
    assert_eq!(policy.gitlab[0].audience, ["https://a", "https://b"]);
    assert_eq!(policy.identity.token_variables, ["SITE_ID_TOKEN"]);
    assert_eq!(policy.identity.late_stages, 1800);
    assert!(policy.accounts.nologin && policy.accounts.allow_bots && policy.accounts.shells.len() == 1);
    let isolation = policy.job.isolation;
    assert!(isolation.limit_setuid && isolation.block_tty_injection && isolation.no_new_privileges);
    assert_eq!(policy.audit.syslog, Some(Syslog::Udp("192.0.2.7:514".parse().unwrap())));
    let validation = policy.validation.expect("a script");
    assert!(validation.rules_first && validation.user == "root");
    assert_eq!(validation.user_variable.as_deref(), Some("SVC"));
    assert_eq!(validation.environment["K"], "v");
    assert!(matches!(policy.rules[0].outcome, RuleOutcome::RunAs(RunAs::Validated)));
}

#[test]
fn what_a_site_says_of_directories_stages_and_messages_is_in_force() {
    let text = with(
        "custom_build_dir = true\nlimit_build_dir = true\nmax_build_dir = 3\nuncap_build_dir_cleanup = true\n\
         group_permissions = true\nset_stack_size = true\njob_message = \"\"\"\nhello\n\\u001b[2Jworld\"\"\"",
        "root_dir_creation = true\nrun_stage_allowlist = [\"step_script\", \"get_sources\", \"\"]",
    );
    let policy = policy(&text);
    let upkeep = &policy.directories.upkeep;
    assert!(policy.directories.user_builds_dir && !policy.directories.per_job);
    assert!(upkeep.create && upkeep.group_access && policy.job.raise_stack_limit);
    assert_eq!((upkeep.max_dirs, upkeep.at_once, upkeep.max_age), (Some(3), None, None));
    assert_eq!(policy.job.stages, ["step_script", "get_sources"]);
    let message = policy.job.message.expect("a message");
    assert!(message.starts_with("hello\n") && !message.contains('\u{1b}'), "{message}");
}

#[test]
fn static_directories_go_after_a_week_or_after_as_many_days_as_the_site_says_or_never() {
    for (days, age) in [("", Some(7)), ("static_min_days = 30", Some(30)), ("static_min_days = 0", None)] {
        let directories = policy(&with(&format!("static_builds_dir = true\n{days}"), "")).directories;
        assert!(directories.per_job);
        assert_eq!(directories.upkeep.max_age, age.map(|days: u64| days * 86_400), "{days}");
    }
    let alone = policy(&with("static_min_days = 30\nmax_build_dir = 3", "")).directories;
    assert_eq!(alone, policy(&with("", "")).directories, "neither does anything alone");
}

#[test]
fn a_value_that_would_change_a_result_is_refused_where_it_stands() {
    for general in [
        "run_mechanism = \"docker\"",
        "user_bash_env = [\"A=$NOT_KNOWN\"]",
        "user_bash_env = [\"A=${PATH\"]",
        "user_bash_env = [\"A=`id`\"]",
        "user_bash_env = [\"A=$(id)\"]",
        "user_bash_env = [\"LD_PRELOAD=/x\"]",
        "user_bash_env = [\"nothing\"]",
        "kill_timeout = \"2 minutes\"",
        "jwt_env_variable = \"A-B\"",
        "custom_build_dirs = false",
    ] {
        let found = findings(&with(general, ""));
        assert_eq!(found.len(), 1, "{general}: {found:?}");
        let lines = u32::try_from(general.lines().count()).unwrap();
        assert_eq!(found[0].0, 5 + lines, "{general}: {found:?}");
    }
    for auth in [
        "run_stage_allowlist = [\"step script\"]",
        "jwt_exp_delay = \"2h\"",
        "user_blocklst = [\"eve\"]",
        "seccomp = { block_calls = [\"ptrace\"] }",
        "seccomp = { block_all = true }",
        "seccomp = { validation_plugin = \"/x.so\" }",
        "seccomp = { disable_no_new_privs = true, tty_rules = true }",
        "logging = { enabled = true, network = \"tcp\", address = \"loghost:514\" }",
        "logging = { enabled = true, network = \"tcp\" }",
        "logging = { enabled = true, address = \"192.0.2.1:514\" }",
        "logging = { enabled = true, network = \"unix\", address = \"192.0.2.1:514\" }",
        "logging = { level = \"loud\" }",
        "runas = { user_variable = \"X\" }",
        "shell_allowlist = \"bash\"",
        "user_allowlist = [\"\"]",
        "user_allowlist = \"\"",
        "groups_allowlist = [\"\"]",
        "pipeline_source_allowlist = [\"push\", \"\"]",
        "groups_blocklist = [\"*\"]",
    ] {
        let found = findings(&with("", auth));
        assert_eq!(found.len(), 1, "{auth}: {found:?}");
        assert_eq!(found[0].0, 9, "{auth}: {found:?}");
    }
    for (from, to, part) in [
        ("\"shell\"", "\"pjm\"", "this scheduler is not built in"),
        ("\"shell\"", "\"shel\"", "unknown executor"),
        ("\"setuid\"", "\"root\"", "unknown downscope"),
        ("gitlab_server = \"https://gitlab.example.org\"\n", "", "no `gitlab_server`"),
        ("\"https://gitlab.example.org\"", "\"http://gitlab.example.org\"", "invalid URL"),
        ("data_dir = \"$HOME\"\n", "", "no `data_dir`"),
        ("downscope = \"setuid\"", "", "no `downscope`"),
        ("\"shell\"", "\"\"", "`executor` is empty"),
        ("\"$HOME\"", "\"\"", "`data_dir` is empty"),
        ("\"setuid\"", "\"\"", "`downscope` is empty"),
        ("$HOME", "/ci/$USERNAME", "invalid data directory"),
        ("$HOME", "/ci/$SCRATCH", "invalid data directory"),
        ("\"setuid\"", "\"none\"\n[auth.runas]\nvalidation_script = \"/v\"", "cannot run as root"),
    ] {
        let found = findings(&SMALL.replace(from, to));
        assert!(found.iter().any(|(_, message)| message.contains(part)), "{to}: {found:?}");
    }
}

#[test]
fn containers_of_podman_and_charliecloud_are_those_of_a_table_of_containers() {
    let text = with(
        "run_mechanism = \"podman\"\n[general.podman]\napplication_path = \"/usr/bin/podman\"\ndefault_image = \"rocky:9\"\n\
         custom_options = [\"-v /a:/b\", \"--ipc=host\"]\nuser_entry_point = [\"/bin/bash\", \"-l\", \"-c\"]\n\
         runner_image = \"r\"\nrunner_options = [\"-v\"]\nrunner_entry_point = [\"sh\"]\nstep_script_only = true",
        "",
    );
    let read = policy(&text);
    assert_eq!(read.job.container.as_deref(), Some("podman"));
    let container = &read.containers["podman"];
    assert!(container.is_by("podman") && container.allowed_images.is_none());
    assert_eq!(container.program.as_deref(), Some(Path::new("/usr/bin/podman")));
    assert_eq!(container.default_image.as_deref(), Some("rocky:9"));
    assert_eq!(container.options, ["-v", "/a:/b", "--ipc=host"]);
    assert_eq!(container.stages, ["build_script", "step_*"]);
    let other =
        policy(&with("run_mechanism = \"charliecloud\"\n[general.podman]\ndefault_image = \"x\"", ""));
    assert!(other.containers["charliecloud"].is_by("charliecloud"));
    assert_eq!(other.containers["charliecloud"].default_image, None);
    assert_eq!(container.runner_image, None);
    let whole = policy(&with(
        "run_mechanism = \"podman\"\n[general.podman]\nrunner_image = \"r.example.org/a:1\"",
        "",
    ));
    assert_eq!(whole.containers["podman"].runner_image.as_deref(), Some("r.example.org/a:1"));
    for key in [
        "runner_image = \"-r\"",
        "runner_options = [\"-v\"]",
        "user_entry_point = [\"/entry\"]",
        "default_image = \"-v\"",
    ] {
        let found = findings(&with(&format!("run_mechanism = \"podman\"\n[general.podman]\n{key}"), ""));
        assert_eq!((found.len(), found[0].0), (1, 8), "{key}: {found:?}");
    }
}

#[test]
fn what_is_empty_or_off_is_not_set() {
    let text = with(
        "custom_build_dir = false\njob_message = \"\"\nrun_mechanism = \"\"\nlimit_build_dir = false\njwt_env_variable = \"\"\nuser_bash_env = []",
        "root_dir_creation = false\nuser_allowlist = []\ngroups_allowlist = []\nrun_stage_allowlist = []\njwt_required_aud = \"\"\n\
         [auth.seccomp]\nblock_calls = []\n[auth.runas]\nvalidation_script = \"\"\n[general.podman]\nrunner_options = []\n",
    );
    assert_eq!(policy(&text).rules, policy(&with("\n\n\n\n\n", "")).rules);
    let disabled =
        "[auth.seccomp]\ndisabled = true\nblock_calls = [\"ptrace\"]\nvalidation_plugin = \"/x\"\n";
    assert!(!policy(&with("", disabled)).job.isolation.no_new_privileges);
}

#[test]
fn data_directories_mean_what_they_mean_to_jacamar() {
    for (written, meant) in [
        ("$HOME", "$HOME/.jacamar-ci"),
        ("${HOME}/", "$HOME/.jacamar-ci"),
        ("$HOME/ci", "$HOME/ci"),
        ("/scratch/$USER", "/scratch/$USER"),
        ("/ecp/", "/ecp/$USER"),
    ] {
        let policy = policy(&SMALL.replace("$HOME", written));
        assert_eq!(policy.directories.data_dir, meant, "{written}");
    }
}

#[test]
fn gos_durations_are_read_as_go_reads_them() {
    for (text, seconds) in [
        ("30s", 30),
        ("2m", 120),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("500ms", 1),
        ("0", 0),
        ("1m0.5s", 61),
        (".5s", 1),
    ] {
        assert_eq!(go_duration(text), Some(seconds), "{text}");
    }
    for bad in ["", "5", "s", "1d", "-1s", "1 s", "1h-1m", "..5s", ".s", "99999999999999999999h"] {
        assert_eq!(go_duration(bad), None, "{bad}");
    }
}

/// Accounts with a group each: `ada` in `physics`, `bob` in `guests`, `eve` in both.
fn host() -> MadeUp {
    let mut host = MadeUp::default();
    for (name, uid, groups) in
        [("ada", 5001, vec![7001]), ("bob", 5002, vec![7002]), ("eve", 5003, vec![7001, 7002])]
    {
        let mut facts = account(name, uid);
        facts.groups = groups;
        host = host.with(facts);
    }
    host.groups.extend([("physics".to_owned(), 7001), ("guests".to_owned(), 7002)]);
    host
}

/// The rule that decides for each of the three.
fn verdicts(auth: &str) -> [String; 3] {
    let policy = policy(&with("", auth));
    ["ada", "bob", "eve"].map(|user| {
        let subject = Subject { user_login: user.to_owned(), validated: Some(user.to_owned()), ..subject() };
        match decide(&policy, &subject, &host(), 990).verdict {
            Verdict::Admitted { rule, .. } => format!("+{}", rule.name),
            Verdict::DeniedByRule { rule, .. } => format!("-{}", rule.name),
            other => panic!("{other:?}"),
        }
    })
}

#[test]
fn the_lists_have_jacamars_precedence() {
    assert_eq!(verdicts(""), ["+everybody", "+everybody", "+everybody"]);
    assert_eq!(verdicts("user_allowlist = [\"ada\"]"), ["+user_allowlist", "-on no list", "-on no list"]);
    assert_eq!(verdicts("user_blocklist = [\"ada\"]"), ["-user_blocklist", "+everybody", "+everybody"]);
    assert_eq!(
        verdicts(
            "user_allowlist = [\"eve\"]\nuser_blocklist = [\"eve\", \"ada\"]\ngroups_allowlist = [\"physics\"]"
        ),
        ["-user_blocklist", "-on no list", "+user_allowlist"]
    );
    assert_eq!(
        verdicts("groups_blocklist = [\"guests\"]\ngroups_allowlist = [\"physics\"]"),
        ["+groups_allowlist", "-groups_blocklist", "-groups_blocklist"]
    );
    assert_eq!(
        verdicts("pipeline_source_allowlist = [\"web\"]"),
        ["-pipeline_source_allowlist", "-pipeline_source_allowlist", "-pipeline_source_allowlist"]
    );
    assert_eq!(
        verdicts("pipeline_source_allowlist = [\"push\"]"),
        ["+everybody", "+everybody", "+everybody"]
    );
    assert_eq!(
        verdicts(
            "pipeline_source_allowlist = [\"web\"]\nuser_allowlist = [\"ada\"]\nuser_blocklist = [\"bob\"]"
        ),
        ["-pipeline_source_allowlist", "-pipeline_source_allowlist", "-pipeline_source_allowlist"]
    );
    assert_eq!(
        verdicts("pipeline_source_allowlist = [\"push\"]\nuser_allowlist = [\"ada\"]"),
        ["+user_allowlist", "-on no list", "-on no list"]
    );
}

#[test]
fn a_list_compares_names_and_knows_no_patterns() {
    assert_eq!(verdicts("user_allowlist = [\"*\", \"[a]\"]"), ["-on no list", "-on no list", "-on no list"]);
}

#[test]
fn a_rule_stands_where_its_key_stands() {
    let policy = policy(&with("", "user_blocklist = [\"eve\"]"));
    assert_eq!(policy.rules[0].place.to_string(), "/etc/gitlab-runner/jacamar.toml:9:18");
}

#[test]
fn an_assignment_may_name_the_path_and_what_stands_before_it() {
    let text = with("user_bash_env = [\"ROOT=/opt/site\", \"PATH=${ROOT}/bin:$PATH\"]", "");
    let environment = policy(&text).job.environment;
    assert_eq!(environment["PATH"], "/opt/site/bin:/usr/local/bin:/usr/bin:/bin");
}

#[test]
fn a_server_has_the_name_of_its_host_in_any_form() {
    let long = "a".repeat(70);
    for (url, name) in [
        ("https://GitLab.example.org:8443/gitlab/", "gitlab-example-org"),
        ("https://192.0.2.7", "192-0-2-7"),
        ("https://[2001:db8::7]:8443", "2001-db8--7"),
        (&format!("https://{long}"), &"a".repeat(64)),
    ] {
        let policy = policy(&SMALL.replace("https://gitlab.example.org", url));
        assert_eq!(policy.gitlab[0].name, name, "{url}");
    }
}

#[test]
fn a_log_daemon_is_this_hosts_or_one_by_address() {
    for (logging, syslog) in [
        ("enabled = true", Some(Syslog::Local)),
        ("enabled = true\nlocation = \"syslog\"", Some(Syslog::Local)),
        ("enabled = false\nnetwork = \"tcp\"\naddress = \"loghost:514\"", None),
        (
            "enabled = true\nnetwork = \"tcp\"\naddress = \"localhost:1234\"",
            Some(Syslog::Tcp("127.0.0.1:1234".parse().unwrap())),
        ),
        (
            "enabled = true\nnetwork = \"udp6\"\naddress = \"[::1]:514\"",
            Some(Syslog::Udp("[::1]:514".parse().unwrap())),
        ),
    ] {
        let audit = policy(&with("", &format!("[auth.logging]\n{logging}\n"))).audit;
        assert_eq!(audit.syslog, syslog, "{logging}");
        assert_eq!(audit.file.as_deref(), Some(Path::new("/var/log/nunbird/audit.jsonl")), "{logging}");
    }
    let location = "[auth.logging]\nenabled = true\nlocation = \"/var/log/ci/jacamar.log\"\n";
    assert_eq!(policy(&with("", location)).audit.file.as_deref(), Some(Path::new("/var/log/ci/jacamar.log")));
}

#[test]
fn both_of_jacamars_ways_by_sudo_are_sudo() {
    for word in ["sudo", "su"] {
        let policy = policy(&SMALL.replace("\"setuid\"", &format!("\"{word}\"")));
        assert_eq!((policy.downscope, policy.audit.file), (Downscope::Sudo, None), "{word}");
    }
}
