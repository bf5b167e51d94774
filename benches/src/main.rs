//! The cost of a stage, as ratios to named peers in the same run.
//!
//! Absolute times differ between machines; the ratio of a stage to its peer hardly does. Each
//! program is started through the same helper that enters the private system, so the helper's own
//! time, measured with a program that does nothing, is subtracted. `nunbird-benches stages` leaves out
//! what takes minutes, `batch` and `containers` measure that alone, `containers newer` the engines of Debian's unstable release, `containers ENGINE` one, `turns`
//! and `flow` are parts of that, and `account` shows where the time
//! of a stage goes, `calls` the same without its instructions, in seconds. docs/performance.md has the results.

#![forbid(unsafe_code)]

mod account;
mod batch;
mod containers;
mod flow;
mod growth;
mod measure;
mod report;
mod stages;
mod steps;

use std::path::Path;
use std::process::ExitCode;

const ROUNDS: usize = 200;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if words.first().is_some_and(|word| word == "steps") {
        return steps::main(words.get(1..).unwrap_or_default());
    }
    bench();
    ExitCode::SUCCESS
}

fn bench() {
    if !nunbird_tests::require_root() {
        return;
    }
    // Fewer turns for a first look: their spread says what they are worth.
    let rounds = std::env::var_os("NUNBIRD_BENCH_ROUNDS");
    let rounds = rounds.and_then(|text| text.to_str()?.parse().ok()).unwrap_or(ROUNDS);
    let part = std::env::args_os().nth(2);
    match std::env::args_os().nth(1).as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("account") => return account::print(true),
        Some("calls") => return account::print(false),
        Some("turns") => return turns(rounds),
        Some("flow") => {
            return flow::facts(part.as_deref().and_then(std::ffi::OsStr::to_str))
                .iter()
                .for_each(|fact| println!("{}", fact.row()));
        }
        Some("batch") => return batch::rows(),
        Some("containers") if part.as_deref() == Some(std::ffi::OsStr::new("newer")) => {
            return containers::newer();
        }
        Some("containers") => match part.as_deref().and_then(std::ffi::OsStr::to_str) {
            Some(engine) => return containers::of(engine),
            None => return containers::rows(),
        },
        _ => {}
    }
    sizes();
    let (groups, curves, facts) = (stages::groups(rounds), growth::curves(), flow::facts(None));
    let report =
        report::Report { machine: report::machine(), load: report::load(), rounds, groups, curves, facts };
    println!("\n{}", report.tables());
    report.write(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench")));
    if std::env::args_os().nth(1).is_none() {
        batch::rows();
        containers::rows();
    }
}

/// Stages beside their peers and nothing else, under a runner that is root: for a comparison of two builds.
fn turns(rounds: usize) {
    let groups = vec![stages::group(rounds, nunbird_tests::world::Privilege::RootRunner)];
    let (curves, facts) = (Vec::new(), Vec::new());
    let (machine, load) = (report::machine(), report::load());
    println!("{}", report::Report { machine, load, rounds, groups, curves, facts }.tables());
}

fn sizes() {
    let Some(directory) = std::env::var_os("NUNBIRD_BIN_DIR") else { return };
    println!("stripped sizes");
    for program in
        ["nunbird-auth", "nunbird-decide", "nunbird", "nunbird-keys", "nunbird-limits", "nunbirdctl"]
    {
        let path = std::path::Path::new(&directory).join(program);
        if let Ok(meta) = path.metadata() {
            println!("{program:<46} {:>9} KiB", meta.len() / 1024);
        }
    }
    let auth = std::path::Path::new(&directory).join("nunbird-auth").metadata();
    if let Ok(auth) = auth {
        let documented = include_str!("../../docs/operation.md").split(" MiB stripped").next();
        let documented: f64 =
            documented.and_then(|text| text.rsplit(' ').next()).expect("a size").parse().expect("a number");
        let size = auth.len() as f64 / f64::from(1 << 20);
        assert!(
            (size / documented - 1.0).abs() < 0.05,
            "docs/operation.md says {documented} MiB, and it is {size:.2}"
        );
    }
    let crates = include_str!("../../auth/dependencies.txt").lines().count();
    println!("{:<46} {crates:>9}", "crates linked into nunbird-auth, including its own");
}
