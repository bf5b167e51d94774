//! An event of the audit file, as a JSON object.

use serde_json::{Map, Value};

/// Its fields by name.
pub(crate) type Event = Map<String, Value>;

/// The field, without the quotes of a string, if it exists.
pub(crate) fn shown(event: &Event, name: &str) -> Option<String> {
    event.get(name).map(plain)
}

/// The value, without the quotes of a string.
pub(crate) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// More cores than a stage of a job has anywhere.
const MOST_CORES: u64 = 1 << 16;

/// Seconds in the scheduler's queue and CPU time in milliseconds, of a stage in a scheduler. The launcher, which runs as the job's account, says
/// so: what cannot be, by the stage's duration, which it does not say, is left out.
pub(crate) fn batch_usage(event: &Event) -> (Option<u64>, Option<u64>) {
    let Some(batch) = event.get("batch").and_then(Value::as_object) else { return (None, None) };
    let number = |name: &str| batch.get(name).and_then(Value::as_u64);
    let lasted_ms = event.get("duration_ms").and_then(Value::as_u64).unwrap_or(0);
    let queued = number("queued_s").filter(|queued| *queued <= lasted_ms / 1000 + 1);
    let cpu = number("used_cpu_ms").filter(|cpu| *cpu <= lasted_ms.saturating_mul(MOST_CORES));
    (queued, cpu)
}
