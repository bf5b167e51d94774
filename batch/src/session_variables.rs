//! Variables of the PAM session on the runner's host that have no meaning on the nodes.
//!
//! A session names sockets, directories and caches of its own host. The scheduler's commands run
//! there and get them all: a credential cache, for example, may be how the user authenticates. A
//! job on a node must not get them: a path that is missing, or belongs to another session, breaks
//! programs (systemd issue 3355, podman issue 25663).

use nunbird_handover::{Batch, Handover};
use std::path::Path;

/// Names that belong to a host whatever their value. A trailing `*` matches any rest.
const OF_HOST: [&str; 13] = [
    "XDG_RUNTIME_DIR",
    "XDG_SESSION_*",
    "XDG_SEAT*",
    "XDG_VTNR",
    "DBUS_SESSION_BUS_ADDRESS",
    "SSH_*",
    "GPG_AGENT_INFO",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "TMPDIR",
    "TMP",
    "TEMP",
];
/// Directories that each host has of its own (file-hierarchy(7)).
const LOCAL: [&str; 5] = ["/tmp", "/run", "/var/run", "/var/tmp", "/dev"];

/// The session's variables that stay on the runner's host, with their values. A variable that the
/// site sets for the scheduler's commands by the same name is passed to the job.
pub(super) fn of_host<'h>(
    handover: &'h Handover,
    batch: &'h Batch,
) -> impl Iterator<Item = (&'h str, &'h str)> {
    let names = handover.session_variables.iter().filter(|name| !batch.environment.contains_key(*name));
    let values = names.filter_map(|name| Some((name.as_str(), handover.environment.get(name)?.as_str())));
    values.filter(|(name, value)| is_of_host(name, value))
}

fn is_of_host(name: &str, value: &str) -> bool {
    let listed = OF_HOST.iter().any(|known| match known.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == *known,
    });
    // `FILE:/tmp/krb5cc_1000`, `unix:path=/run/…`; a keyring belongs to the kernel.
    let place = value.rsplit_once([':', '=']).map_or(value, |(_, rest)| rest);
    let local = LOCAL.iter().any(|directory| Path::new(place).starts_with(directory));
    listed || local || ["KEYRING:", "KCM:", "MEMORY:"].iter().any(|kind| value.starts_with(kind))
}

#[cfg(test)]
mod tests {
    use super::is_of_host;

    #[test]
    fn what_names_a_place_of_one_host_stays_there() {
        for (name, value) in [
            ("XDG_RUNTIME_DIR", "/run/user/1000"),
            ("XDG_SESSION_ID", "12"),
            ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/run/user/1000/bus"),
            ("TMPDIR", "/scratch/ann"),
            ("KRB5CCNAME", "FILE:/tmp/krb5cc_1000_x"),
            ("KRB5CCNAME", "/tmp/krb5cc_1000_x"),
            ("KRB5CCNAME", "KEYRING:persistent:1000"),
            ("KRB5CCNAME", "KCM:"),
            ("SITE_SOCKET", "/var/run/site.sock"),
        ] {
            assert!(is_of_host(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("KRB5CCNAME", "FILE:/home/ann/.krb5cc"),
            ("LANG", "de_DE.UTF-8"),
            ("LC_TIME", "C"),
            ("SITE_PROJECT", "/tmpfoo"),
            ("SITE_NUMBER", "7"),
        ] {
            assert!(!is_of_host(name, value), "{name}={value}");
        }
    }
}
