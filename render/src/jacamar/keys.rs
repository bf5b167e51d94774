//! Every key that Jacamar's configurations have, and what becomes of it.
//!
//! The reader acts by its own code; this table is for people: `nunbirdctl migrate` explains lines by it, and
//! `docs/migration.md` has the same keys and words. Tests hold all three together.

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyEffect {
    /// It does what it does under Jacamar; the native key. `[]` is an element of an array of tables.
    Honoured(&'static str),
    /// It is taken and does nothing, because of this.
    WithoutEffect(&'static str),
    /// A value that would change something is a finding with the way out; what is off or empty is taken.
    Refused,
}

use KeyEffect::{Honoured, Refused, WithoutEffect};

const OLD: &str = "only old or unreleased versions of Jacamar had it";

/// Each key with its table.
pub const JACAMAR_KEYS: &[(&str, &str, KeyEffect)] = &[
    ("general", "executor", Honoured("job.executor")),
    ("general", "data_dir", Honoured("directories.data_dir")),
    (
        "general",
        "retain_logs",
        WithoutEffect("files of batch jobs go with the job, and scripts are not kept"),
    ),
    ("general", "custom_build_dir", Honoured("directories.user_builds_dir")),
    ("general", "name", WithoutEffect("audit events name the configuration by its digest")),
    (
        "general",
        "kill_timeout",
        WithoutEffect("the launcher gives a cancelled job 30 seconds from TERM to KILL"),
    ),
    ("general", "shell_path", Honoured("job.shell")),
    ("general", "job_message", Honoured("job.message")),
    ("general", "gitlab_server", Honoured("gitlab[].url")),
    ("general", "tls-ca-file", Honoured("gitlab[].ca_file")),
    (
        "general",
        "unrestricted_cmd_line",
        WithoutEffect(
            "the runner's scripts run as they are; hide users' processes from each other (hidepid)",
        ),
    ),
    ("general", "static_builds_dir", Honoured("directories.per_job")),
    ("general", "static_min_days", Honoured("directories.max_age")),
    ("general", "group_permissions", Honoured("directories.group_access")),
    ("general", "jwt_env_variable", Honoured("identity.token_variables")),
    ("general", "set_stack_size", Honoured("job.raise_stack_limit")),
    ("general", "user_bash_env", Honoured("job.environment")),
    (
        "general",
        "limit_build_dir",
        WithoutEffect("it is always so: a job takes the first directory that no live job has"),
    ),
    ("general", "max_build_dir", Honoured("directories.max_dirs")),
    ("general", "uncap_build_dir_cleanup", Honoured("directories.cleanup_batch")),
    ("general", "file_lock_debug", WithoutEffect("nothing is written about locks")),
    ("general", "user_enabled_limit", WithoutEffect("`limit_build_dir` applies to every job")),
    ("general", "run_mechanism", Honoured("job.container")),
    ("general", "variable_data_dir", WithoutEffect(OLD)),
    ("general", "force_mechanism", WithoutEffect(OLD)),
    ("general.podman", "application_path", Honoured("container[].program")),
    ("general.podman", "runner_image", Honoured("container[].runner_image")),
    ("general.podman", "runner_options", Refused),
    ("general.podman", "runner_entry_point", Refused),
    ("general.podman", "default_image", Honoured("container[].default_image")),
    ("general.podman", "custom_options", Honoured("container[].options")),
    ("general.podman", "user_entry_point", Refused),
    ("general.podman", "custom_entry_point", Refused),
    ("general.podman", "step_script_only", Honoured("container[].stages")),
    ("auth", "downscope", Honoured("downscope")),
    ("auth", "jacamar_path", WithoutEffect("the launcher lies at /opt/nunbird/bin/nunbird")),
    ("auth", "max_env_chars", WithoutEffect("no variable of the job passes through Nunbird")),
    ("auth", "lists_pre_validation", Honoured("validation.rules_first")),
    ("auth", "root_dir_creation", Honoured("directories.create")),
    ("auth", "user_allowlist", Honoured("rule[]")),
    ("auth", "user_blocklist", Honoured("rule[]")),
    ("auth", "groups_allowlist", Honoured("rule[]")),
    ("auth", "groups_blocklist", Honoured("rule[]")),
    ("auth", "shell_allowlist", Honoured("accounts.shells")),
    ("auth", "pipeline_source_allowlist", Honoured("rule[]")),
    ("auth", "jwt_exp_delay", Honoured("identity.late_stages")),
    ("auth", "jwt_required_aud", Honoured("gitlab[].audience")),
    ("auth", "allow_bot_accounts", Honoured("accounts.allow_bots")),
    ("auth", "no_new_privs", Honoured("job.no_new_privileges")),
    ("auth", "run_stage_allowlist", Honoured("job.stages")),
    ("auth", "enforce_nologin", Honoured("accounts.nologin")),
    ("auth", "enabled", WithoutEffect(OLD)),
    ("auth", "run_mechanism", WithoutEffect("`downscope` has its place since 0.2.0")),
    ("auth.runas", "validation_script", Honoured("validation.script")),
    ("auth.runas", "user_variable", Honoured("validation.user_variable")),
    ("auth.runas", "sha256", Honoured("validation.sha256")),
    ("auth.runas", "validation_env", Honoured("validation.environment")),
    ("auth.logging", "enabled", Honoured("audit")),
    ("auth.logging", "location", Honoured("audit.file")),
    ("auth.logging", "level", WithoutEffect("every event is written")),
    ("auth.logging", "network", Honoured("audit.syslog")),
    ("auth.logging", "address", Honoured("audit.syslog")),
    ("auth.seccomp", "disabled", Honoured("job.no_new_privileges")),
    ("auth.seccomp", "block_calls", Refused),
    ("auth.seccomp", "block_all", Refused),
    ("auth.seccomp", "allow_calls", Refused),
    (
        "auth.seccomp",
        "log_allowed_actions",
        WithoutEffect("the kernel's audit does that, by rules of its own"),
    ),
    ("auth.seccomp", "disable_no_new_privs", Honoured("job.no_new_privileges")),
    ("auth.seccomp", "error_num_block_actions", WithoutEffect("what is blocked fails with EPERM")),
    ("auth.seccomp", "validation_plugin", Refused),
    ("auth.seccomp", "limit_setuid", Honoured("job.limit_setuid")),
    ("auth.seccomp", "tty_rules", Honoured("job.block_tty_injection")),
    ("batch", "arguments_variable", Honoured("batch.arguments_variables")),
    ("batch", "command_delay", Honoured("batch.poll_interval")),
    ("batch", "nfs_timeout", Honoured("batch.nfs_timeout")),
    ("batch", "scheduler_bin", Honoured("batch.scheduler_bin")),
    ("batch", "env_vars", Honoured("batch.environment")),
    ("batch", "allow_illegal_args", Honoured("batch.allow_illegal_arguments")),
    ("batch", "skip_cobalt_log", WithoutEffect("the job itself records how it ended")),
    ("batch", "lsf_job_cancellation", WithoutEffect("a cancelled job is always ended in the scheduler, too")),
    ("batch", "default_args", Honoured("batch.default_arguments")),
    ("batch", "disable_name_prefix", Honoured("batch.job_prefix")),
];
