//! What Nunbird's programs do in each job, as pieces of work of a chosen size.
//!
//! `nunbird-counts` counts their instructions, `nunbird-benches` their time. Each piece calls the functions that the programs call; only the
//! files and the host around them are made up. A size that grows by ten must not cost more than ten times as much.

#![forbid(unsafe_code)]

pub mod count;
mod jobs;
mod policies;
pub mod table;

/// Work that is ready to be done: its input is made, and nothing of it has been done.
pub type Work = Box<dyn FnMut()>;

/// A kind of work.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name in the baseline.
    pub name: &'static str,
    /// What the size counts.
    pub unit: &'static str,
    /// The sizes that are counted, in rising order.
    pub sizes: &'static [usize],
    /// Whether each size costs in proportion at most, which is then checked.
    pub linear: bool,
    /// Makes the input.
    pub prepare: fn(usize) -> Work,
}

/// Every kind of work.
#[rustfmt::skip]
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "read a policy", unit: "rules", sizes: &[20, 1_000, 10_000], linear: true, prepare: policies::read },
    Scenario { name: "decide by a policy, last rule", unit: "rules", sizes: &[20, 1_000], linear: true, prepare: policies::decide_by_rules },
    Scenario { name: "find the last line of a map", unit: "lines", sizes: &[5_000, 50_000], linear: true, prepare: policies::look_up },
    Scenario { name: "choose the last of several maps", unit: "maps", sizes: &[10, 100], linear: true, prepare: policies::choose_map },
    Scenario { name: "decide by a member of many groups", unit: "groups", sizes: &[10, 1_000, 10_000], linear: true, prepare: policies::decide_by_groups },
    Scenario { name: "find the last line of people_file", unit: "lines", sizes: &[5_000, 50_000], linear: true, prepare: policies::find_person },
    Scenario { name: "verify a token", unit: "variables", sizes: &[100, 1_000, 10_000], linear: true, prepare: jobs::verify },
    Scenario { name: "write and read a record", unit: "variables", sizes: &[20, 1_000], linear: true, prepare: jobs::record },
    Scenario { name: "pass a stage to the launcher", unit: "variables", sizes: &[20, 1_000, 10_000], linear: true, prepare: jobs::handover },
    Scenario { name: "write an audit event", unit: "events", sizes: &[1], linear: false, prepare: jobs::event },
];
