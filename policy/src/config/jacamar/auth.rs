//! `[auth]` and its tables.

use super::general::General;
use super::lists::{self, Lists};
use super::{
    assignments, duration, ignore, list, names, on, refuse_list, refuse_on, refuse_text, required, set,
};
use crate::DEFAULT_AUDIT_FILE;
use crate::config::model::*;
use crate::config::reader::{At, Kind, Section};
use crate::config::values;
use crate::config::{Accounts, Validation};
use nunbird_handover::Isolation;
use nunbird_handover::{Audit, Syslog};
use std::net::SocketAddr;
use std::path::PathBuf;

/// What `[auth]` says, as far as it has an effect.
pub(super) struct Auth {
    pub(super) downscope: Downscope,
    pub(super) audience: Vec<String>,
    pub(super) late_stages: u64,
    pub(super) accounts: Accounts,
    pub(super) isolation: Isolation,
    pub(super) audit: Audit,
    pub(super) validation: Option<Validation>,
    pub(super) rules: Vec<Rule>,
    /// `root_dir_creation`.
    pub(super) create: bool,
    /// `run_stage_allowlist`.
    pub(super) stages: Vec<String>,
}

pub(super) fn read(root: &mut Section<'_>, general: &General) -> Auth {
    let mut t = root.table("auth");
    if !t.is_present() {
        root.find("there is no table `[auth]`", "add it, with `downscope = \"setuid\"`");
    }
    let table = &mut t;
    let downscope = downscope(table);
    let rules_first = on(table, "lists_pre_validation");
    let validation = validation(table.table("runas"), rules_first, downscope);
    let audience = list(table, "jwt_required_aud");
    let audience = audience.map(|at| at.value.iter().map(|one| one.value.to_owned()).collect());
    let accounts = Accounts {
        shells: names(table, "shell_allowlist")
            .map_or_else(Vec::new, |at| at.value.iter().map(values::path).collect()),
        nologin: on(table, "enforce_nologin"),
        allow_bots: on(table, "allow_bot_accounts"),
        ..Accounts::default()
    };
    let rules = lists::rules(&Lists {
        user_allowlist: names(table, "user_allowlist"),
        user_blocklist: names(table, "user_blocklist"),
        groups_blocklist: groups(table, "groups_blocklist"),
        groups_allowlist: groups(table, "groups_allowlist"),
        sources: names(table, "pipeline_source_allowlist"),
        auth: table.spot(),
        validated: validation.is_some(),
    });
    let late_stages = duration(table, "jwt_exp_delay", 15 * 60, 3600);
    let no_new_privileges = on(table, "no_new_privs");
    let isolation = seccomp(table.table("seccomp"), no_new_privileges);
    let audit = logging(table.table("logging"), downscope);
    let create = root_dir_creation(table, downscope);
    let stages = list(table, "run_stage_allowlist").map_or_else(Vec::new, |at| values::stages(&at.value));
    ignore(table, &["jacamar_path", "run_mechanism"], &["enabled"], &["max_env_chars"]);
    table.allow_prefix("ff_");
    t.finish();
    let audience = audience.unwrap_or_else(|| vec![general.server.url.clone()]);
    Auth { downscope, audience, late_stages, accounts, isolation, audit, validation, rules, create, stages }
}

fn root_dir_creation(table: &mut Section<'_>, downscope: Downscope) -> bool {
    let Some(at) = table.boolean("root_dir_creation").filter(|at| at.value) else { return false };
    if downscope == Downscope::None {
        let help = "remove the line: the launcher makes the directory as the user";
        at.spot.find("without privilege no directory is made for anybody else", help);
    }
    true
}

fn downscope(table: &mut Section<'_>) -> Downscope {
    match required(table, "downscope", "write `downscope = \"setuid\"`") {
        Some(at) if at.value == "none" => return Downscope::None,
        Some(at) if at.value == "setuid" => {}
        // Jacamar's `su` is an older way to the same, through sudo and su.
        Some(at) if matches!(at.value, "sudo" | "su") => return Downscope::Sudo,
        Some(at) => at.spot.find("unknown downscope", "write `setuid`, `sudo` or `none`"),
        None => {}
    }
    Downscope::Setuid
}

/// Local groups, by their exact names: the same that native configurations take.
fn groups<'t>(table: &mut Section<'t>, key: &'static str) -> Option<At<'t, Vec<At<'t, &'t str>>>> {
    let at = names(table, key)?;
    for one in at.value.iter().filter(|one| one.value.contains(['*', '?'])) {
        one.spot.find("a local group is given by its exact name", "name each group");
    }
    Some(at)
}

/// `[auth.runas]`. Jacamar runs the script as root, and so it is here.
fn validation(mut table: Section<'_>, rules_first: bool, downscope: Downscope) -> Option<Validation> {
    let script = set(&mut table, "validation_script");
    let user_variable = set(&mut table, "user_variable").and_then(|at| values::variable_name(&at));
    let sha256 = set(&mut table, "sha256").map(|at| values::sha256(&at));
    let environment = assignments(list(&mut table, "validation_env").into_iter().flat_map(|at| at.value));
    if script.is_none() && (user_variable.is_some() || sha256.is_some() || !environment.is_empty()) {
        table.find("there is no program to ask", "add `validation_script`, or remove the table");
    }
    if let Some(script) = script.as_ref().filter(|_| downscope != Downscope::Setuid) {
        let help = "use `downscope = \"setuid\"`, or a native configuration with `user` under `[validation]`: \
                    see `/opt/nunbird/bin/nunbirdctl migrate`";
        script.spot.find("without privilege the script cannot run as root", help);
    }
    table.allow_prefix("ff_");
    table.finish();
    Some(Validation {
        script: values::path(&script?),
        sha256,
        user_variable,
        environment,
        timeout: 60,
        user: "root".to_owned(),
        rules_first,
    })
}

/// `[auth.logging]` comes beside Nunbird's own audit file, which is written whatever it says.
fn logging(mut table: Section<'_>, downscope: Downscope) -> Audit {
    let default = (downscope == Downscope::Setuid).then(|| PathBuf::from(DEFAULT_AUDIT_FILE));
    let enabled = on(&mut table, "enabled");
    let location = set(&mut table, "location");
    let network = set(&mut table, "network");
    let address = set(&mut table, "address");
    if let Some(level) = set(&mut table, "level")
        && !["error", "warn", "info", "debug"].contains(&level.value)
    {
        level.spot.find("unknown level", "write `error`, `warn`, `info` or `debug`");
    }
    let mut audit = Audit { file: default, journald: false, syslog: None, required: true };
    match location {
        _ if !enabled => {}
        Some(at) if at.value != "syslog" => audit.file = Some(values::path(&at)),
        _ => audit.syslog = syslog(network, address),
    }
    table.allow_prefix("ff_");
    table.finish();
    audit
}

/// The daemon of this host, or the one that `network` and `address` name together, in the words of Go's net package.
fn syslog(network: Option<At<'_, &str>>, address: Option<At<'_, &str>>) -> Option<Syslog> {
    let (network, address) = match (network, address) {
        (None, None) => return Some(Syslog::Local),
        (Some(network), Some(address)) => (network, address),
        (Some(network), None) => {
            network.spot.find("there is no `address`", "add `address = \"192.0.2.1:514\"`");
            return None;
        }
        (None, Some(address)) => {
            address.spot.find("there is no `network`", "add `network = \"tcp\"`, or remove `address`");
            return None;
        }
    };
    // RFC 6761: the one name that needs no look-up.
    let text = address.value.replacen("localhost:", "127.0.0.1:", 1);
    let Ok(socket) = text.parse::<SocketAddr>() else {
        let help = "write `192.0.2.1:514`: no name is looked up with privilege";
        address.spot.find("expected an address and a port", help);
        return None;
    };
    match network.value {
        "tcp" | "tcp4" | "tcp6" => Some(Syslog::Tcp(socket)),
        "udp" | "udp4" | "udp6" => Some(Syslog::Udp(socket)),
        _ => {
            network.spot.find("unknown network", "write `tcp` or `udp`");
            None
        }
    }
}

/// `[auth.seccomp]`. Jacamar's filter is on unless it is disabled, and brings no_new_privs with it.
fn seccomp(mut table: Section<'_>, no_new_privileges: bool) -> Isolation {
    let calls = "Nunbird filters no system calls by name; limit jobs with `no_new_privs`, `limit_setuid` and `tty_rules`";
    let disabled = on(&mut table, "disabled");
    for key in ["block_calls", "allow_calls"] {
        if disabled {
            let _without_effect = list(&mut table, key);
        } else {
            refuse_list(&mut table, key, calls);
        }
    }
    if disabled {
        ignore(&mut table, &["validation_plugin"], &["block_all", "log_allowed_actions"], &[]);
    } else {
        refuse_text(&mut table, "validation_plugin", "a plug-in is code with privilege; Nunbird takes none");
        refuse_on(&mut table, "block_all", calls);
        ignore(&mut table, &[], &["log_allowed_actions"], &[]);
    }
    // A switch or an error's number, by the release.
    let _without_effect = table.raw("error_num_block_actions", Kind::Boolean);
    let without = table.boolean("disable_no_new_privs").filter(|at| at.value);
    let filters = Isolation {
        limit_setuid: on(&mut table, "limit_setuid") && !disabled,
        block_tty_injection: on(&mut table, "tty_rules") && !disabled,
        no_new_privileges: no_new_privileges || (!disabled && without.is_none()),
    };
    if let Some(without) = without
        && !filters.no_new_privileges
        && (filters.limit_setuid || filters.block_tty_injection)
    {
        let help = "remove `disable_no_new_privs`: the kernel takes a filter from a process without privilege only with no_new_privs";
        without.spot.find("`limit_setuid` and `tty_rules` need no_new_privs", help);
    }
    table.allow_prefix("ff_");
    table.finish();
    filters
}
