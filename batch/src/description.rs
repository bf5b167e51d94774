//! A scheduler, described as data: its commands, how to parse their output, its names for states,
//! its options.
//!
//! The built-in schedulers and those of a site have the same form: a TOML text
//! (docs/schedulers.md). A command is a list of words with placeholders and never passes through a
//! shell, so a user's value cannot become syntax.

use super::agent::AgentVariables;
use super::options::Options;
use super::query::Query;
use super::state::{End, State};
use super::template::{Pattern, Whole};
use nunbird_handover::{SCHEDULERS, Scheduler};
use nunbird_stage::site_text::site_text;
use serde::Deserialize;
use std::collections::BTreeMap;

/// In the order of [`SCHEDULERS`].
const DESCRIPTIONS: [&str; SCHEDULERS.len()] = [
    include_str!("schedulers/slurm.toml"),
    include_str!("schedulers/pbs.toml"),
    include_str!("schedulers/lsf.toml"),
    include_str!("schedulers/flux.toml"),
    include_str!("schedulers/cobalt.toml"),
    include_str!("schedulers/gridengine.toml"),
    include_str!("schedulers/htcondor.toml"),
];

/// How to use one scheduler.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    /// Its name in messages.
    pub(crate) title: String,
    /// Whether its query of the queue leaves out ended jobs. Then the end of a job takes two
    /// witnesses: the job's own record, and its absence from the queue.
    #[serde(default)]
    pub(crate) forgets: bool,
    /// Environment variables set for its commands.
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) submit: Submit,
    /// Query by id.
    pub(crate) query: Query,
    /// Query by tag; unset if `query` already goes by the tag.
    find: Option<Query>,
    /// Query of all jobs of the account. If set, it replaces the two above, and the account's
    /// launchers on a host share its result.
    pub(crate) many: Option<Query>,
    /// Query of jobs that have left the queue.
    pub(crate) accounting: Option<Query>,
    /// Further details on a job that ended without a reported state.
    pub(crate) detail: Option<Query>,
    /// Query of the longest time limits.
    pub(crate) limits: Option<Query>,
    /// Sends a signal to all processes of a running job.
    pub(crate) signal: Option<Action>,
    /// Removes a job from the queue or ends it.
    pub(crate) cancel: Action,
    /// Kills a job that has not ended.
    pub(crate) kill: Option<Action>,
    states: States,
    #[serde(default)]
    pub(crate) reasons: Reasons,
    #[serde(default)]
    pub(crate) log: LogLines,
    #[serde(default)]
    pub(crate) agent: AgentVariables,
    #[serde(default)]
    pub(crate) options: Options,
}

/// The command that submits.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Submit {
    pub(crate) command: Vec<String>,
    /// Standard input of the command; empty if `None`.
    pub(crate) input: Option<String>,
    /// The longest job name, in bytes.
    pub(crate) longest_name: Option<usize>,
    /// Whether a job name must begin with a letter.
    #[serde(default)]
    pub(crate) letter_first: bool,
    /// Arguments that set the time limit, from `{time}` (`d-hh:mm:ss`), `{hms}`, `{minutes}` or
    /// `{seconds}`.
    #[serde(default)]
    pub(crate) time: Vec<String>,
    /// Arguments that keep a job within `{nodes}` nodes, used if the site limits them and no
    /// argument sets a number of nodes: a number of tasks or a node list can ask for more than one
    /// as well.
    #[serde(default)]
    pub(crate) nodes: Vec<String>,
    /// Arguments for a job's size, used if none was given and the scheduler has no default.
    #[serde(default)]
    pub(crate) size: Vec<String>,
    /// Matches the id in a line of standard output: group `id`.
    pub(crate) id: Pattern,
    /// Matches the output of a failed command whose job may have been accepted, or may be accepted
    /// later.
    #[serde(default)]
    pub(crate) unclear: Vec<Pattern>,
    /// Matches the output of a command refused because the account has reached its limit of jobs.
    #[serde(default)]
    pub(crate) later: Vec<Pattern>,
    /// Matches the output of a command that failed because of a fault of the scheduler.
    #[serde(default)]
    pub(crate) faulty: Vec<Pattern>,
    /// Matches the output of a failed command if this release lacks one of the command's own
    /// options, and accepted no job.
    #[serde(default)]
    disabled: Vec<Pattern>,
    /// The command without these options.
    then: Option<OtherSubmit>,
}

/// A second form of the submit command.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OtherSubmit {
    command: Vec<String>,
}

impl Submit {
    /// The command after `step` refusals of its form.
    pub(crate) fn form(&self, step: usize) -> &[String] {
        match &self.then {
            Some(then) if step > 0 => &then.command,
            _ => &self.command,
        }
    }

    /// Whether a failed command of the first form is repeated in the second form.
    pub(crate) fn has_other_form(&self, output: &str) -> bool {
        self.then.is_some() && self.disabled.iter().any(|pattern| pattern.0.is_match(output))
    }
}

/// A command that acts on a job.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Action {
    pub(crate) command: Vec<String>,
    /// Matches the output of a failed command if there is nothing left to act on.
    #[serde(default)]
    pub(crate) absent: Vec<Pattern>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct States {
    pending: Vec<String>,
    held: Vec<String>,
    running: Vec<String>,
    suspended: Vec<String>,
    ending: Vec<String>,
    elsewhere: Vec<String>,
    completed: Vec<String>,
    failed: Vec<String>,
    cancelled: Vec<String>,
    timed_out: Vec<String>,
    out_of_memory: Vec<String>,
    node_fail: Vec<String>,
    preempted: Vec<String>,
    infeasible: Vec<String>,
}

/// Reasons of a waiting job that will not go away by waiting.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Reasons {
    /// The job can never start as requested.
    pub(crate) never: Vec<Whole>,
    /// Those of `never` that a shorter time limit would resolve; `None` if there are none.
    pub(crate) time_limit: Vec<Whole>,
    /// The scheduler failed to start the job and will not try again.
    pub(crate) broken: Vec<Whole>,
    /// The job is held.
    pub(crate) held: Vec<Whole>,
}

/// Patterns for lines that the scheduler writes into the job's log, used if they alone contain the
/// cause of an end.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogLines {
    out_of_memory: Vec<Pattern>,
}

impl LogLines {
    /// Whether the scheduler reports that it ended the job for its memory use.
    pub(crate) fn reports_out_of_memory(&self, log: &str) -> bool {
        self.out_of_memory.iter().any(|pattern| pattern.0.is_match(log))
    }
}

impl Description {
    /// The description that the site names or supplies. The error describes what is wrong with it.
    pub(crate) fn of(scheduler: &Scheduler) -> Result<Self, String> {
        match scheduler {
            Scheduler::Named(name) => {
                let mut known = SCHEDULERS.iter().zip(DESCRIPTIONS);
                let found = known.find(|((first, _), _)| first == name);
                Self::parse(found.ok_or_else(|| format!("there is no built-in scheduler `{name}`"))?.1)
            }
            Scheduler::Described(file) => {
                Self::parse(&site_text(file).map_err(|e| format!("{}: {e}", file.display()))?)
            }
        }
    }

    /// Parses a description. The error describes what is wrong and where.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|e| e.to_string())
    }

    /// Whether a job can be cancelled by its tag, before its id is known.
    pub(crate) fn cancels_by_tag(&self) -> bool {
        !self.cancel.command.iter().any(|word| word.contains("{id}"))
    }

    pub(crate) fn find(&self) -> &Query {
        self.find.as_ref().unwrap_or(&self.query)
    }

    /// The state that one of the scheduler's names stands for.
    pub(crate) fn state(&self, word: &str) -> State {
        let states = &self.states;
        let table = [
            (&states.pending, State::Pending),
            (&states.held, State::Held),
            (&states.running, State::Running),
            (&states.suspended, State::Suspended),
            (&states.ending, State::Ending),
            (&states.elsewhere, State::Elsewhere),
            (&states.completed, State::Ended(End::Completed)),
            (&states.failed, State::Ended(End::Failed)),
            (&states.cancelled, State::Ended(End::Cancelled)),
            (&states.timed_out, State::Ended(End::TimedOut)),
            (&states.out_of_memory, State::Ended(End::OutOfMemory)),
            (&states.node_fail, State::Ended(End::NodeFail)),
            (&states.preempted, State::Ended(End::Preempted)),
            (&states.infeasible, State::Ended(End::Infeasible)),
        ];
        let known = table.into_iter().find(|(words, _)| words.iter().any(|known| known == word));
        known.map_or(State::Unknown, |(_, state)| state)
    }
}

#[cfg(test)]
pub(crate) fn named(name: &str) -> Description {
    Description::of(&Scheduler::Named(name.to_owned())).expect("a built-in description")
}

#[cfg(test)]
pub(crate) fn slurm() -> Description {
    named("slurm")
}

#[cfg(test)]
mod tests {
    use super::{DESCRIPTIONS, Description, slurm};
    use crate::state::{End, State};
    use nunbird_handover::{SCHEDULERS, Scheduler};
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    const SLURM: &str = DESCRIPTIONS[0];

    #[test]
    fn every_name_has_its_description() {
        for (name, _) in SCHEDULERS {
            let description = Description::of(&Scheduler::Named(name.to_owned()));
            assert!(description.is_ok(), "{name}: {description:?}");
        }
        let titles = SCHEDULERS.map(|(name, _)| super::named(name).title);
        assert_eq!(titles, ["Slurm", "PBS", "LSF", "Flux", "Cobalt", "Grid Engine", "HTCondor"]);
    }

    #[test]
    fn a_word_that_no_table_has_is_unknown_and_never_an_end() {
        let slurm = slurm();
        assert_eq!(slurm.state("PENDING"), State::Pending);
        assert_eq!(slurm.state("COMPLETED"), State::Ended(End::Completed));
        for word in ["", "completed", "COMPLETED+", "POWERED_UP"] {
            assert_eq!(slurm.state(word), State::Unknown, "{word}");
        }
    }

    #[test]
    fn a_description_with_an_unknown_key_or_a_bad_pattern_is_refused() {
        for (old, new) in [("title =", "titel ="), ("(?<id>", "(?<id"), ("[reasons]", "[raesons]")] {
            let text = SLURM.replacen(old, new, 1);
            assert_ne!(text, SLURM);
            assert!(Description::parse(&text).is_err(), "{new}");
        }
        assert!(Description::of(&Scheduler::Named("slrum".to_owned())).is_err());
    }

    #[test]
    fn a_sites_description_that_others_may_write_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), SLURM).expect("its text");
        let of = || Description::of(&Scheduler::Described(file.path().to_owned()));
        for (mode, good) in [(0o644, true), (0o664, false), (0o646, false), (0o600, true)] {
            std::fs::set_permissions(file.path(), Permissions::from_mode(mode)).expect("its mode");
            assert_eq!(of().is_ok(), good, "{mode:o}");
        }
        assert!(Description::of(&Scheduler::Described("/nowhere/x.toml".into())).is_err());
    }
}
