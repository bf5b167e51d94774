//! A Jacamar configuration as Nunbird's own.

use crate::arguments::Migrate;
use crate::files;
use crate::output::{Format, OK, Trouble, print};
use nunbird_policy::{Dialect, Policy, SourceFile, to_toml};

pub(crate) fn run(options: &Migrate) -> Result<u8, Trouble> {
    let file = &options.file;
    let source = SourceFile { path: file.clone(), text: files::text(file)? };
    let reading = Policy::read(&[source]).map_err(|findings| Trouble::Invalid(findings, Format::Text))?;
    let policy = &reading.policy;
    if policy.dialect != Dialect::Jacamar {
        let shown = file.display();
        return Err(Trouble::new(format!("{shown}: this is Nunbird's own configuration already")));
    }
    let mut text = format!(
        "# Written by `nunbirdctl migrate` from {}. It decides every job as that file does under Nunbird;\n\
         # `nunbirdctl diff {} THIS-FILE` proves it on the jobs of your audit file.\n",
        file.display(),
        file.display()
    );
    if policy.validation.as_ref().is_some_and(|validation| validation.user == "root") {
        text.push_str(
            "# The validation program runs as root, as under Jacamar. Give it a user of its own: `user` under [validation].\n",
        );
    }
    text.push('\n');
    text.push_str(&to_toml(policy, &|key| comment(policy, key).map(str::to_owned)));
    print(&text)?;
    Ok(OK)
}

/// Why a line is as it is.
fn comment(policy: &Policy, key: &str) -> Option<&'static str> {
    Some(match key {
        "gitlab[0].url" => "general.gitlab_server",
        "gitlab[0].audience" => "auth.jwt_required_aud, or the server's URL",
        "gitlab[0].ca_file" => "general.tls-ca-file",
        "identity.token_variables" => "general.jwt_env_variable",
        "identity.late_stages" => "auth.jwt_exp_delay",
        "accounts.min_uid" => "Jacamar has no such bound",
        "accounts.shells" => "auth.shell_allowlist",
        "accounts.nologin" => "auth.enforce_nologin",
        "accounts.allow_bots" => "auth.allow_bot_accounts",
        "directories.data_dir" => "general.data_dir",
        "job.shell" => "general.shell_path",
        "job.no_new_privileges" => "on with Jacamar's filter, unless auth.seccomp.disabled",
        "job.block_tty_injection" => "auth.seccomp.tty_rules",
        "job.limit_setuid" => "auth.seccomp.limit_setuid",
        "audit.syslog" => "auth.logging",
        "audit.file" if policy.audit.syslog.is_none() => "auth.logging.location, or Nunbird's own",
        "validation.script" => "auth.runas.validation_script",
        "validation.rules_first" => "auth.lists_pre_validation",
        _ => return None,
    })
}
