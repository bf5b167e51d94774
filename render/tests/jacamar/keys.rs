//! Each key with values: whether it is honoured, does nothing, or is a finding at its line.

use super::{findings, read, substance};
use Does::{Nothing, Something, Stops};
use nunbird_policy::{Policy, SourceFile};
use nunbird_render::{JACAMAR_KEYS, KeyEffect};

/// What setting a key to a value does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    /// The policy is another.
    Something,
    /// The policy is the same.
    Nothing,
    /// One finding, where the value stands.
    Stops,
}

/// With every table, so that each key can be set alone.
const BASE: &str = r#"
[general]
executor = "shell"
data_dir = "$HOME"
gitlab_server = "https://gitlab.example.org"
limit_build_dir = true
run_mechanism = "podman"
[general.podman]
[auth]
downscope = "setuid"
[auth.runas]
validation_script = "/etc/gitlab-runner/validate"
[auth.logging]
enabled = true
[auth.seccomp]
[batch]
"#;

const VALUES: &[(&str, &str, &str, Does)] = &[
    ("general", "executor", "\"slurm\"", Something),
    ("general", "executor", "\"sbatch\"", Something),
    ("general", "executor", "\"pbs\"", Something),
    ("general", "executor", "\"lsf\"", Something),
    ("general", "executor", "\"bsub\"", Something),
    ("general", "executor", "\"cobalt\"", Something),
    ("general", "executor", "\"qsub\"", Something),
    ("general", "executor", "\"flux\"", Something),
    ("general", "executor", "\"pjm\"", Stops),
    ("general", "executor", "\"docker\"", Stops),
    ("general", "executor", "\"\"", Stops),
    ("general", "executor", "1", Stops),
    ("general", "executor", "\"shell\"", Nothing),
    ("general", "data_dir", "\"/ecp\"", Something),
    ("general", "data_dir", "\"${HOME}/ci\"", Something),
    ("general", "data_dir", "\"/scratch/$USER\"", Something),
    ("general", "data_dir", "\"${HOME}\"", Nothing),
    ("general", "data_dir", "\"relative\"", Stops),
    ("general", "data_dir", "\"/a/../b\"", Stops),
    ("general", "data_dir", "\"$SCRATCH\"", Stops),
    ("general", "data_dir", "\"/x/$(id)\"", Stops),
    ("general", "retain_logs", "true", Nothing),
    ("general", "retain_logs", "\"yes\"", Stops),
    ("general", "custom_build_dir", "true", Something),
    ("general", "custom_build_dir", "false", Nothing),
    ("general", "name", "\"login1\"", Nothing),
    ("general", "kill_timeout", "\"1m30s\"", Nothing),
    ("general", "kill_timeout", "\"500ms\"", Nothing),
    ("general", "kill_timeout", "\"soon\"", Stops),
    ("general", "shell_path", "\"/usr/local/bin/bash\"", Something),
    ("general", "shell_path", "\"\"", Nothing),
    ("general", "shell_path", "\"bash\"", Stops),
    ("general", "job_message", "\"hello\"", Something),
    ("general", "job_message", "\"\"", Nothing),
    ("general", "gitlab_server", "\"https://other.example.org\"", Something),
    ("general", "gitlab_server", "\"http://other.example.org\"", Stops),
    ("general", "tls-ca-file", "\"/etc/ca.pem\"", Something),
    ("general", "tls-ca-file", "\"\"", Nothing),
    ("general", "unrestricted_cmd_line", "true", Nothing),
    ("general", "static_builds_dir", "true", Something),
    ("general", "static_builds_dir", "false", Nothing),
    ("general", "static_min_days", "3", Nothing),
    ("general", "static_min_days", "3\nstatic_builds_dir = true", Something),
    ("general", "group_permissions", "true", Something),
    ("general", "group_permissions", "false", Nothing),
    ("general", "jwt_env_variable", "\"SITE_ID_TOKEN\"", Something),
    ("general", "jwt_env_variable", "\"CI_JOB_JWT\"", Nothing),
    ("general", "jwt_env_variable", "\"\"", Nothing),
    ("general", "set_stack_size", "true", Something),
    ("general", "set_stack_size", "false", Nothing),
    ("general", "user_bash_env", "[\"A=b\"]", Something),
    ("general", "user_bash_env", "[\"PATH=/opt/bin:$PATH\"]", Something),
    ("general", "user_bash_env", "[]", Nothing),
    ("general", "user_bash_env", "[\"HOME=/tmp\"]", Stops),
    ("general", "user_bash_env", "[\"A=$(id)\"]", Stops),
    ("general", "limit_build_dir", "true", Nothing),
    ("general", "limit_build_dir", "false", Nothing),
    ("general", "max_build_dir", "4", Something),
    ("general", "max_build_dir", "0", Nothing),
    ("general", "uncap_build_dir_cleanup", "true", Something),
    ("general", "file_lock_debug", "true", Nothing),
    ("general", "user_enabled_limit", "true", Nothing),
    ("general", "run_mechanism", "\"podman\"", Nothing),
    ("general", "run_mechanism", "\"charliecloud\"", Something),
    ("general", "run_mechanism", "\"\"", Something),
    ("general", "run_mechanism", "\"docker\"", Stops),
    ("general", "variable_data_dir", "true", Nothing),
    ("general", "force_mechanism", "\"x\"", Nothing),
    ("general", "ff_new_thing", "true", Nothing),
    ("general", "tls_ca_file", "\"/etc/ca.pem\"", Stops),
    ("general.podman", "application_path", "\"/usr/bin/podman\"", Something),
    ("general.podman", "application_path", "\"podman\"", Stops),
    ("general.podman", "application_path", "\"\"", Nothing),
    ("general.podman", "runner_image", "\"x\"", Something),
    ("general.podman", "runner_image", "\"-x\"", Stops),
    ("general.podman", "runner_image", "\"\"", Nothing),
    ("general.podman", "runner_options", "[\"-v\"]", Stops),
    ("general.podman", "runner_options", "[]", Nothing),
    ("general.podman", "runner_entry_point", "[\"bash\"]", Stops),
    ("general.podman", "runner_entry_point", "[]", Nothing),
    ("general.podman", "default_image", "\"x\"", Something),
    ("general.podman", "default_image", "\"-x\"", Stops),
    ("general.podman", "custom_options", "[\"-v\"]", Something),
    ("general.podman", "custom_options", "[\"-e A=$(id)\"]", Stops),
    ("general.podman", "user_entry_point", "\"bash\"", Nothing),
    ("general.podman", "user_entry_point", "[\"/bin/sh\", \"-l\", \"-c\"]", Nothing),
    ("general.podman", "user_entry_point", "[\"/entry.sh\"]", Stops),
    ("general.podman", "custom_entry_point", "\"bash\"", Nothing),
    ("general.podman", "custom_entry_point", "\"env\"", Stops),
    ("general.podman", "step_script_only", "true", Something),
    ("general.podman", "step_script_only", "false", Nothing),
    ("auth", "downscope", "\"none\"", Stops),
    ("auth", "downscope", "\"sudo\"", Stops),
    ("auth", "downscope", "\"su\"", Stops),
    ("auth", "downscope", "\"setgid\"", Stops),
    ("auth", "downscope", "\"setuid\"", Nothing),
    ("auth", "jacamar_path", "\"/opt/jacamar/bin\"", Nothing),
    ("auth", "max_env_chars", "99", Nothing),
    ("auth", "lists_pre_validation", "true", Something),
    ("auth", "root_dir_creation", "true", Something),
    ("auth", "root_dir_creation", "false", Nothing),
    ("auth", "user_allowlist", "[\"ada\"]", Something),
    ("auth", "user_allowlist", "[]", Nothing),
    ("auth", "user_allowlist", "[\"\"]", Stops),
    ("auth", "user_allowlist", "[7]", Stops),
    ("auth", "user_blocklist", "[\"eve\"]", Something),
    ("auth", "groups_allowlist", "[\"physics\"]", Something),
    ("auth", "groups_blocklist", "[\"guests\"]", Something),
    ("auth", "shell_allowlist", "[\"/bin/bash\"]", Something),
    ("auth", "shell_allowlist", "[\"\"]", Stops),
    ("auth", "pipeline_source_allowlist", "[\"push\"]", Something),
    ("auth", "jwt_exp_delay", "\"1h\"", Something),
    ("auth", "jwt_exp_delay", "\"15m\"", Nothing),
    ("auth", "jwt_exp_delay", "\"61m\"", Stops),
    ("auth", "jwt_required_aud", "\"https://hpc.example.org\"", Something),
    ("auth", "jwt_required_aud", "[\"a\", \"b\"]", Something),
    ("auth", "jwt_required_aud", "\"\"", Nothing),
    ("auth", "allow_bot_accounts", "true", Something),
    ("auth", "no_new_privs", "true", Nothing),
    ("auth", "run_stage_allowlist", "[\"step_script\"]", Something),
    ("auth", "run_stage_allowlist", "[\"step script\"]", Stops),
    ("auth", "run_stage_allowlist", "[]", Nothing),
    ("auth", "enforce_nologin", "true", Something),
    ("auth", "enabled", "true", Nothing),
    ("auth", "run_mechanism", "\"setuid\"", Nothing),
    ("auth", "ff_new_thing", "1", Nothing),
    ("auth", "user_alowlist", "[\"ada\"]", Stops),
    ("auth", "broker", "{}", Stops),
    ("auth.runas", "validation_script", "\"/etc/other\"", Something),
    ("auth.runas", "validation_script", "\"other\"", Stops),
    ("auth.runas", "user_variable", "\"SERVICE_USER\"", Something),
    ("auth.runas", "sha256", "\"abc\"", Stops),
    (
        "auth.runas",
        "sha256",
        "\"E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855\"",
        Something,
    ),
    ("auth.runas", "validation_env", "[\"SITE=x\"]", Something),
    ("auth.runas", "validation_env", "[\"SITE\"]", Stops),
    ("auth.logging", "enabled", "false", Something),
    ("auth.logging", "location", "\"/var/log/ci/jacamar.log\"", Something),
    ("auth.logging", "location", "\"syslog\"", Nothing),
    ("auth.logging", "location", "\"jacamar.log\"", Stops),
    ("auth.logging", "level", "\"info\"", Nothing),
    ("auth.logging", "level", "\"trace\"", Stops),
    ("auth.logging", "network", "\"tcp\"\naddress = \"192.0.2.1:514\"", Something),
    ("auth.logging", "network", "\"tcp\"", Stops),
    ("auth.logging", "address", "\"192.0.2.1:514\"\nnetwork = \"udp\"", Something),
    ("auth.logging", "address", "\"loghost:514\"\nnetwork = \"udp\"", Stops),
    ("auth.seccomp", "disabled", "true", Something),
    ("auth.seccomp", "disabled", "true\nblock_calls = [\"ptrace\"]\nblock_all = true", Something),
    ("auth.seccomp", "block_calls", "[\"ptrace\"]", Stops),
    ("auth.seccomp", "block_calls", "[]", Nothing),
    ("auth.seccomp", "block_all", "true", Stops),
    ("auth.seccomp", "block_all", "false", Nothing),
    ("auth.seccomp", "allow_calls", "[\"mount\"]", Stops),
    ("auth.seccomp", "allow_calls", "[]", Nothing),
    ("auth.seccomp", "log_allowed_actions", "true", Nothing),
    ("auth.seccomp", "disable_no_new_privs", "true", Something),
    ("auth.seccomp", "error_num_block_actions", "true", Nothing),
    ("auth.seccomp", "error_num_block_actions", "1", Nothing),
    ("auth.seccomp", "validation_plugin", "\"/opt/plugin.so\"", Stops),
    ("auth.seccomp", "validation_plugin", "\"\"", Nothing),
    ("auth.seccomp", "limit_setuid", "true", Something),
    ("auth.seccomp", "tty_rules", "true", Something),
    ("batch", "arguments_variable", "[\"SITE_PARAMETERS\"]", Something),
    ("batch", "arguments_variable", "[\"SCHEDULER_PARAMETERS\"]", Nothing),
    ("batch", "arguments_variable", "[\"A B\"]", Stops),
    ("batch", "command_delay", "\"1m\"", Something),
    ("batch", "command_delay", "\"30s\"", Nothing),
    ("batch", "command_delay", "30", Stops),
    ("batch", "command_delay", "\"2h\"", Stops),
    ("batch", "nfs_timeout", "\"10m\"", Something),
    ("batch", "scheduler_bin", "\"/opt/slurm/bin\"", Something),
    ("batch", "scheduler_bin", "\"\"", Nothing),
    ("batch", "scheduler_bin", "\"slurm/bin\"", Stops),
    ("batch", "env_vars", "[\"PATH=$PATH:/x\"]", Something),
    ("batch", "env_vars", "[\"LD_LIBRARY_PATH=$LD_LIBRARY_PATH:/x\"]", Something),
    ("batch", "env_vars", "[\"LD_PRELOAD=/x\"]", Stops),
    ("batch", "env_vars", "[\"A=$UNKNOWN\"]", Stops),
    ("batch", "env_vars", "[\"PATH\"]", Stops),
    ("batch", "allow_illegal_args", "true", Something),
    ("batch", "skip_cobalt_log", "true", Nothing),
    ("batch", "lsf_job_cancellation", "true", Nothing),
    ("batch", "default_args", "[\"-A ci\", \"-N 2\"]", Something),
    ("batch", "default_args", "[\"--comment='a b'\"]", Stops),
    ("batch", "disable_name_prefix", "true", Something),
    ("batch", "disable_name_prefix", "false", Nothing),
    ("batch", "command_dely", "\"1m\"", Stops),
];

/// The base with one key set, and the key's line.
fn with(table: &str, key: &str, value: &str) -> (String, u32) {
    let head = format!("[{table}]");
    let mut lines: Vec<String> = BASE.lines().map(str::to_owned).collect();
    let start = lines.iter().position(|line| *line == head).expect("a table of the base");
    let set = |line: &String| line.starts_with(&format!("{key} = "));
    let end = lines
        .iter()
        .skip(start + 1)
        .position(|line| line.starts_with('['))
        .map_or(lines.len(), |n| start + 1 + n);
    let place = match lines[start..end].iter().position(set) {
        Some(index) => {
            lines.remove(start + index);
            start + index
        }
        None => start + 1,
    };
    lines.insert(place, format!("{key} = {value}"));
    (lines.join("\n"), u32::try_from(place + 1).unwrap())
}

#[test]
fn each_value_of_each_key_does_what_is_said_of_it() {
    let base = substance(&read(BASE));
    for (table, key, value, does) in VALUES {
        let (text, line) = with(table, key, value);
        match does {
            Stops => {
                let found = findings(&text);
                assert!(
                    found.len() == 1 && found[0].0 == line_of(&text, key, line),
                    "{table}.{key} = {value}: {found:?}"
                );
            }
            _ => {
                let same = substance(&read(&text)) == base;
                assert_eq!(same, *does == Nothing, "{table}.{key} = {value}");
            }
        }
    }
}

/// A `downscope` without privilege is refused where the script stands that it cannot run.
fn line_of(text: &str, key: &str, line: u32) -> u32 {
    let script = text.lines().position(|line| line.starts_with("validation_script")).unwrap_or(0);
    let without = ["\"none\"", "\"sudo\"", "\"su\""].iter().any(|word| text.contains(word));
    if key == "downscope" && without { u32::try_from(script + 1).unwrap() } else { line }
}

#[test]
fn a_key_does_something_exactly_where_the_table_of_fates_says_so() {
    for (table, key, fate) in JACAMAR_KEYS {
        let does: Vec<Does> = VALUES.iter().filter(|v| v.0 == *table && v.1 == *key).map(|v| v.3).collect();
        let right = match fate {
            // no_new_privs is on already with the filter's default.
            KeyEffect::Honoured(_) => {
                does.contains(&Something) || ["no_new_privs", "downscope"].contains(key)
            }
            KeyEffect::WithoutEffect(_) => does.contains(&Nothing) && !does.contains(&Something),
            KeyEffect::Refused => {
                does.contains(&Stops) && does.contains(&Nothing) && !does.contains(&Something)
            }
        };
        assert!(right, "{table}.{key}: {fate:?}, {does:?}");
    }
}

#[test]
fn the_table_of_fates_has_the_keys_that_the_reader_asks_for() {
    let source = SourceFile { path: "jacamar.toml".into(), text: BASE.to_owned() };
    let reading = Policy::read(&[source]).expect("a policy");
    let tables = ["general", "general.podman", "auth", "auth.runas", "auth.logging", "auth.seccomp", "batch"];
    let asked: Vec<&str> =
        reading.keys.keys().map(String::as_str).filter(|key| !tables.contains(key)).collect();
    let mut known: Vec<String> =
        JACAMAR_KEYS.iter().map(|(table, key, _)| format!("{table}.{key}")).collect();
    known.sort();
    assert_eq!(asked, known);
}

#[test]
fn the_migration_guide_has_a_line_for_every_key_with_its_fate() {
    let guide = include_str!("../../../docs/migration.md");
    for (table, key, fate) in JACAMAR_KEYS {
        let section = guide.split(&format!("\n### `[{table}]`\n")).nth(1).unwrap_or("");
        let section = section.split("\n##").next().unwrap_or("");
        let word = match fate {
            KeyEffect::Honoured(_) => "honoured",
            KeyEffect::WithoutEffect(_) => "no effect",
            KeyEffect::Refused => "refused",
        };
        let first =
            |line: &&str| line.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{key}`")));
        let row = section.lines().find(first);
        assert!(row.is_some_and(|row| row.contains(&format!("| {word}"))), "{table}.{key}: {word}: {row:?}");
    }
}
