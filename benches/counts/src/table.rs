//! The baseline: what was counted when somebody last looked, and what is compared with it.

use crate::count;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::{Command, ExitCode};

/// How much more than the baseline may be counted, in percent.
const TOLERANCE: u64 = 10;
/// How much more than in proportion a larger size may cost, in percent: sorting and searching take a logarithm more.
const MORE_THAN_LINEAR: u64 = 30;

/// The checked-in file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Baseline {
    /// Who made it: the counts are those of this compiler's programs.
    rustc: String,
    /// What counted.
    valgrind: String,
    /// By name and size.
    instructions: BTreeMap<String, BTreeMap<String, u64>>,
}

/// Name, size, instructions.
type Counts = Vec<(&'static str, usize, u64)>;

fn rustc() -> String {
    let output = Command::new("rustc").arg("--version").output();
    output.map_or_else(|_| "unknown".to_owned(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}

/// Writes what is counted now as the baseline.
///
/// # Panics
/// When it cannot be counted or written.
pub fn write(file: &str) -> ExitCode {
    let Some(valgrind) = count::valgrind() else {
        eprintln!("nunbird-counts: valgrind is not installed; `make setup` installs it");
        return ExitCode::FAILURE;
    };
    let mut instructions: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    let counts = count::count();
    for (name, size, count) in &counts {
        // Of one width, so that the sizes are in order.
        instructions.entry((*name).to_owned()).or_default().insert(format!("{size:05}"), *count);
    }
    print(&counts, None);
    let baseline = Baseline { rustc: rustc(), valgrind, instructions };
    let text = serde_json::to_string_pretty(&baseline).expect("JSON") + "\n";
    fs::write(file, text).unwrap_or_else(|e| panic!("{file}: {e}"));
    ExitCode::SUCCESS
}

/// Compares what is counted now with the baseline.
///
/// # Panics
/// When it cannot be counted, or the baseline is none.
pub fn check(file: &str) -> ExitCode {
    if !cfg!(target_arch = "x86_64") {
        return left_out("the baseline is of x86_64");
    }
    if count::valgrind().is_none() {
        return left_out("valgrind is not installed; `make setup` installs it on Debian");
    }
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{file}: {e}"));
    let baseline: Baseline = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{file}: {e}"));
    let counts = count::count();
    print(&counts, Some(&baseline));
    let (grown, steep) = (grown(&counts, &baseline), steep(&counts));
    for line in &steep {
        eprintln!("bench-check: {line}");
    }
    if !steep.is_empty() {
        eprintln!("  = help: no work may grow faster than its input (docs/performance.md)");
        return ExitCode::FAILURE;
    }
    if grown.is_empty() {
        return ExitCode::SUCCESS;
    }
    for line in &grown {
        eprintln!("bench-check: {line}");
    }
    let compiler = rustc();
    if compiler != baseline.rustc {
        // Another compiler's code is neither better nor worse for this.
        return left_out(&format!(
            "the baseline is of {}, this is {compiler}: {} counts are above it",
            baseline.rustc,
            grown.len()
        ));
    }
    eprintln!(
        "  = help: `valgrind --tool=callgrind` shows where the instructions are (docs/performance.md); if the growth is meant, \
         run `make bench-baseline` and say why in the commit"
    );
    ExitCode::FAILURE
}

fn left_out(why: &str) -> ExitCode {
    nunbird_skip::left_out::<()>(why);
    ExitCode::SUCCESS
}

fn known(baseline: &Baseline, name: &str, size: usize) -> Option<u64> {
    baseline.instructions.get(name)?.get(&format!("{size:05}")).copied()
}

/// What is above the baseline, or not in it.
fn grown(counts: &Counts, baseline: &Baseline) -> Vec<String> {
    let judge = |(name, size, count): &(&'static str, usize, u64)| match known(baseline, name, *size) {
        None => Some(format!("`{name}` of {size} is not in the baseline; run `make bench-baseline`")),
        Some(before) if *count > before + before * TOLERANCE / 100 => Some(format!(
            "`{name}` of {size} takes {count} instructions, {} % more than the baseline's {before}; the most is {TOLERANCE} %",
            (count - before) * 100 / before.max(1)
        )),
        Some(_) => None,
    };
    counts.iter().filter_map(judge).collect()
}

/// What grows faster than its input.
fn steep(counts: &Counts) -> Vec<String> {
    let judge = |pair: &[(&'static str, usize, u64)]| {
        let [(name, small, few), (other, large, many)] = pair else { return None };
        let linear = count::scenario(name).is_some_and(|scenario| scenario.linear);
        if name != other || !linear {
            return None;
        }
        // many / few > large / small, and a bit.
        let most = u128::from(*few) * (*large as u128) * u128::from(100 + MORE_THAN_LINEAR);
        let is = u128::from(*many) * (*small as u128) * 100;
        (is > most).then(|| format!("`{name}` takes {few} instructions for {small}, but {many} for {large}"))
    };
    counts.windows(2).filter_map(judge).collect()
}

fn print(counts: &Counts, baseline: Option<&Baseline>) {
    let mut text = format!(
        "{:<36} {:>16} {:>14} {:>8}\n",
        "instructions outside of the kernel", "size", "count", "baseline"
    );
    for (name, size, count) in counts {
        let before = baseline.and_then(|baseline| known(baseline, name, *size)).filter(|before| *before > 0);
        let change = before.map_or_else(String::new, |before| {
            format!("{:+.1} %", (*count as f64 / before as f64 - 1.0) * 100.0)
        });
        let unit = count::scenario(name).map_or("", |scenario| scenario.unit);
        // Writing into a String does not fail.
        let _ = writeln!(text, "{name:<36} {:>16} {count:>14} {change:>8}", format!("{size} {unit}"));
    }
    print!("{text}");
}

#[cfg(test)]
mod tests {
    use super::{Baseline, grown, steep};
    use std::collections::BTreeMap;

    fn baseline(count: u64) -> Baseline {
        let sizes = BTreeMap::from([("00020".to_owned(), count)]);
        Baseline {
            rustc: String::new(),
            valgrind: String::new(),
            instructions: BTreeMap::from([("read a policy".to_owned(), sizes)]),
        }
    }

    #[test]
    fn a_count_may_be_a_tenth_above_the_baseline_and_no_more() {
        let counts = |count| vec![("read a policy", 20, count)];
        assert!(grown(&counts(1100), &baseline(1000)).is_empty());
        assert!(grown(&counts(1), &baseline(1000)).is_empty());
        let found = grown(&counts(1101), &baseline(1000));
        assert!(found[0].contains("`read a policy` of 20 takes 1101 instructions, 10 % more"), "{found:?}");
        let new = grown(&vec![("read a policy", 1000, 1)], &baseline(1000));
        assert!(new[0].contains("not in the baseline"), "{new:?}");
    }

    #[test]
    fn work_that_grows_faster_than_its_input_is_found() {
        let counts = |many| vec![("read a policy", 1_000, 500), ("read a policy", 10_000, many)];
        assert!(steep(&counts(6_500)).is_empty());
        assert_eq!(steep(&counts(6_501)).len(), 1);
        let others = vec![("read a policy", 1_000, 5), ("verify a token", 10_000, 900)];
        assert!(steep(&others).is_empty());
    }
}
