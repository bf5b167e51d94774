//! The limits of jobs on cgroup version 2 by transient units of systemd (`way = "scope"`).
//!
//! Like `vm_limits.rs`, with the same jobs, and `vm_scope.sh`.

use super::limits::{machine, rows};
use nunbird_tests::needs;

/// What the script must observe.
const FACTS: [&str; 10] = [
    "swap is on",
    "slices 2 of nunbird.slice 2",
    "the runner lifted nothing",
    "stayed alice 1 bob 1",
    "one cleanup exit 0",
    "ended alice 0 bob 1",
    "two cleanup exit 0",
    "ended all alice 0 bob 0 units 0 groups 0",
    "audit oom_kills 1",
    "after restart stayed 1 alice 0 units 0",
];

#[needs(root)]
fn with_cgroup_2_the_limits_of_jobs_in_units_of_systemd_are_in_force_and_the_units_go() {
    let machine = machine(&[("one", "alice"), ("two", "bob"), ("three", "alice")]);
    let output = machine.boot(include_str!("vm_scope.sh")).success();
    rows(&output, "scope v2");
    let begins = |wanted: &str| output.lines().find(|line| line.starts_with(wanted));
    let weight = begins("one look: io.weight:default 200");
    println!("| io_weight | scope v2 | {} | not tried |", weight.unwrap_or("NO"));
    assert!(weight.is_some(), "{output}");
    let slice = |call: &str| begins(&format!("{call}: group ")).and_then(|line| line.rsplit(' ').next());
    assert!(slice("one look").is_some_and(|name| name.ends_with(".slice")), "{output}");
    assert_eq!(slice("one sources"), slice("one look"), "one slice for all stages");
    assert_ne!(slice("one look"), slice("two look"), "each job has its own");
    for call in ["two", "three"] {
        assert!(begins(&format!("{call} look: memory.max:100663296")).is_some(), "{call}: {output}");
    }
    for fact in FACTS {
        assert!(output.lines().any(|line| line == format!("fact {fact}")), "{fact}: {output}");
    }
}
