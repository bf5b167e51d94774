//! `nunbird-counts check`: whether the programs do as much work as the baseline says; a part of `make test`.
//!
//! Times differ between two runs, and instructions hardly do. Each piece of work runs in a process of its own below valgrind(1), which counts
//! the instructions outside of the kernel: once with the work, once with its input alone; the difference is the work's. What the kernel does
//! is counted elsewhere: docs/transcripts.md has the system calls of each privileged process, and a test holds them.

#![forbid(unsafe_code)]

use nunbird_counts::{SCENARIOS, count, table};
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<_> =
        std::env::args_os().skip(1).map(|word| word.into_string().unwrap_or_default()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["work", name, size, times] => work(name, size, times),
        ["check", file] => table::check(file),
        ["baseline", file] => table::write(file),
        ["list"] => {
            count::all().for_each(|(name, size)| println!("{size:>7} {name}"));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: nunbird-counts check FILE | baseline FILE | list | work NAME SIZE TIMES");
            ExitCode::from(2)
        }
    }
}

/// What is counted: the input, and the work so many times.
fn work(name: &str, size: &str, times: &str) -> ExitCode {
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name);
    let (Some(scenario), Ok(size), Ok(times)) = (scenario, size.parse(), times.parse::<u32>()) else {
        eprintln!("nunbird-counts: no such work; `nunbird-counts list` prints all there is");
        return ExitCode::from(2);
    };
    let mut work = (scenario.prepare)(size);
    for _ in 0..times {
        work();
    }
    ExitCode::SUCCESS
}
