//! The limits that a job would get, for `explain`: the amounts, what may be asked for, and what sets them.

use nunbird_handover::DiskLimit;
use nunbird_policy::{LimitsSaidBy, Reading, Rule};
use nunbird_render::limits_to_toml;
use serde_json::{Value, json};

/// What sets the limits of a rule's jobs, and the key's place; `[job]` may set none.
fn set_by(reading: &Reading, rule: &Rule) -> (&'static str, Option<String>) {
    match reading.policy.limits_said_by(rule) {
        LimitsSaidBy::Rule(place) => ("rule", Some(place.to_string())),
        LimitsSaidBy::Profile(_, place) => ("profile", Some(place.to_string())),
        LimitsSaidBy::Job => ("job", reading.origins.get("job.limits").map(ToString::to_string)),
    }
}

/// For people, by the configuration's keys. The first line has the name of the limits and what sets them.
pub(crate) fn lines(reading: &Reading, rule: &Rule) -> Vec<String> {
    let whose = match set_by(reading, rule) {
        ("job", Some(place)) => format!(", by [job] at {place}"),
        (from, Some(place)) => format!(", by the {from} at {place}"),
        (_, None) => String::new(),
    };
    let limits = reading.policy.limits_of(rule);
    let mut lines = vec![format!("{}{whose}", limits.map_or("none", |limits| limits.name.as_str()))];
    lines.extend(limits.map(limits_to_toml).unwrap_or_default().lines().map(str::to_owned));
    lines
}

/// For programs: bytes, thousandths of a CPU, seconds. docs/nunbirdctl.md lists the fields.
pub(crate) fn machine(reading: &Reading, rule: &Rule) -> Value {
    let (from, place) = set_by(reading, rule);
    let Some(limits) = reading.policy.limits_of(rule) else {
        return json!({ "name": null, "from": from, "place": place });
    };
    let most = limits.maximum;
    let disk = |disk: &DiskLimit| {
        json!({
            "device": disk.device, "read": disk.read, "write": disk.write,
            "read_ops": disk.read_ops, "write_ops": disk.write_ops,
        })
    };
    let disks: Vec<Value> = limits.disks.iter().map(disk).collect();
    json!({
        "name": limits.name,
        "from": from,
        "place": place,
        "amounts": limits.amounts,
        "maximum": { "memory": most.memory, "cpu": most.cpu, "pids": most.pids },
        "on_excess": limits.on_excess.name(),
        "require": limits.require,
        "cgroup_driver": limits.cgroup_driver.name(),
        "rlimits": limits.rlimits,
        "standing": limits.standing,
        "disks": disks,
    })
}
