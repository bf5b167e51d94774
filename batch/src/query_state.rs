//! Builds the command line for an order, and turns a command's output into a query result.

use super::amounts;
use super::command::{CommandLine, CommandOutput};
use super::description::Description;
use super::messages::{CommandResult, Order, Row};
use super::query::{Fields, Query};
use super::template::{Pattern, fill, fill_word};
use std::collections::BTreeMap;
use std::io;
use std::process::ExitStatus;

/// What the commands of one stage are built from.
#[derive(Debug)]
pub(crate) struct QueryState<'d> {
    pub(crate) description: &'d Description,
    /// Placeholders with fixed values.
    pub(crate) values: BTreeMap<&'static str, String>,
    /// Arguments of the submit command.
    pub(crate) arguments: Vec<String>,
    pub(crate) uid: u32,
    pub(crate) tag: String,
    /// How many commands have been run for the current query.
    step: usize,
    /// Whether one of them reported that the job does not exist.
    absent: bool,
}

impl<'d> QueryState<'d> {
    pub(crate) fn new(
        description: &'d Description,
        values: BTreeMap<&'static str, String>,
        arguments: Vec<String>,
        uid: u32,
        tag: String,
    ) -> Self {
        QueryState { description, values, arguments, uid, tag, step: 0, absent: false }
    }

    /// The command line and its standard input. `None` if the description has no such command, or
    /// if the command needs an id that is not known.
    pub(crate) fn command(&self, order: Order, id: Option<&str>) -> Option<CommandLine> {
        let description = self.description;
        let command = match order {
            Order::Submit => description.submit.form(self.step),
            Order::Signal => description.signal.as_ref()?.command.as_slice(),
            Order::Cancel => &description.cancel.command,
            Order::Kill => &description.kill.as_ref()?.command,
            Order::Limits | Order::Query | Order::Find | Order::Accounting | Order::Detail => {
                &self.query(order)?.command
            }
        };
        if id.is_none() && command.iter().any(|word| word.contains("{id}")) {
            return None;
        }
        let mut values = self.values.clone();
        values.insert("id", id.unwrap_or_default().to_owned());
        let input = description.submit.input.as_ref().filter(|_| order == Order::Submit);
        let input = input.map(|input| fill_word(input, &values));
        Some(CommandLine { words: fill(command, &values, &self.arguments), input })
    }

    /// The position within this query: some descriptions run several commands, one after the other.
    fn query(&self, order: Order) -> Option<&Query> {
        let description = self.description;
        let mut query = match order {
            Order::Query => &description.query,
            Order::Find => description.find(),
            Order::Accounting => description.accounting.as_ref()?,
            Order::Detail => description.detail.as_ref()?,
            Order::Limits => description.limits.as_ref()?,
            Order::Submit | Order::Signal | Order::Cancel | Order::Kill => return None,
        };
        for _ in 0..self.step {
            query = query.then.as_ref()?;
        }
        Some(query)
    }

    /// The result of a query as a whole; `None` if another command must be run first.
    pub(crate) fn finish_query(&mut self, order: Order, result: CommandResult) -> Option<CommandResult> {
        let other_form = order == Order::Submit && result == CommandResult::Disabled;
        if other_form
            || matches!(result, CommandResult::Absent | CommandResult::Disabled)
                && self.query(order).is_some_and(|query| query.then.is_some())
        {
            self.absent |= result == CommandResult::Absent;
            self.step += 1;
            return None;
        }
        let absent = std::mem::take(&mut self.absent);
        self.step = 0;
        // A missing service does not contradict another command's report that the job does not
        // exist.
        Some(if result == CommandResult::Disabled && absent { CommandResult::Absent } else { result })
    }

    /// What it means that a command cannot be started.
    pub(crate) fn not_started(&self, order: Order, words: &[String], error: &io::Error) -> CommandResult {
        let text = format!("cannot run {}: {error}", words[0]);
        match (order, error.kind()) {
            // Nothing was started, so nothing was submitted.
            (Order::Submit, io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
                CommandResult::Impossible(text)
            }
            // execve(2) does not accept a longer command line next time either.
            (Order::Submit, io::ErrorKind::ArgumentListTooLong | io::ErrorKind::InvalidInput) => {
                CommandResult::Rejected(text)
            }
            (Order::Accounting | Order::Detail, io::ErrorKind::NotFound) => CommandResult::Disabled,
            (_, io::ErrorKind::NotFound) if self.step > 0 => CommandResult::Disabled,
            _ => CommandResult::Unclear(text),
        }
    }

    /// The command that lists all jobs of the account; `None` if the description has none.
    pub(crate) fn command_for_all_jobs(&self) -> Option<CommandLine> {
        let words = fill(&self.description.many.as_ref()?.command, &self.values, &[]);
        Some(CommandLine { words, input: None })
    }

    /// Interprets how a command ended.
    pub(crate) fn result(&self, order: Order, output: &CommandOutput) -> CommandResult {
        let text_of_both = format!("{}\n{}", output.err, output.out);
        let Some(status) = output.status else {
            return CommandResult::Unclear(timed_out(output));
        };
        let description = self.description;
        let action = match order {
            Order::Submit => return self.submitted(status.success(), output, &text_of_both),
            Order::Limits => {
                return if status.success() {
                    CommandResult::Done
                } else {
                    CommandResult::Unclear(text_of_both)
                };
            }
            Order::Signal => description.signal.as_ref(),
            Order::Cancel => Some(&description.cancel),
            Order::Kill => description.kill.as_ref(),
            Order::Query | Order::Find | Order::Accounting | Order::Detail => None,
        };
        if let Some(action) = action {
            let done = status.success() || matches_any(&action.absent, &with_code(status, &text_of_both));
            return if done { CommandResult::Done } else { CommandResult::Unclear(text_of_both) };
        }
        self.query(order).map_or(CommandResult::Disabled, |query| self.read(query, output))
    }

    /// What the result of the command that lists all jobs means for our job.
    pub(crate) fn result_for_all_jobs(&self, output: &CommandOutput) -> CommandResult {
        self.description.many.as_ref().map_or(CommandResult::Disabled, |query| self.read(query, output))
    }

    fn read(&self, query: &Query, output: &CommandOutput) -> CommandResult {
        let text_of_both = format!("{}\n{}", output.err, output.out);
        let Some(status) = output.status else {
            return CommandResult::Unclear(timed_out(output));
        };
        let words = with_code(status, &text_of_both);
        let read = if status.success() { query.read(&output.out) } else { Err(String::new()) };
        match read {
            Ok(jobs) if !jobs.is_empty() => match (self.own_job(query, &jobs), query.unread(&output.out)) {
                // A line that cannot be parsed may be our job's, truncated.
                (CommandResult::Absent, Some(line)) => {
                    CommandResult::Unclear(format!("cannot parse the scheduler's output: {line}"))
                }
                (result, _) => result,
            },
            _ if matches_any(&query.disabled, &words) => CommandResult::Disabled,
            _ if matches_any(&query.absent, &words) => CommandResult::Absent,
            Ok(_) => CommandResult::Absent,
            Err(_) if !status.success() => CommandResult::Unclear(text_of_both),
            Err(part) => CommandResult::Unclear(format!("cannot parse the scheduler's output: {part}")),
        }
    }

    fn submitted(&self, success: bool, output: &CommandOutput, text_of_both: &str) -> CommandResult {
        let submit = &self.description.submit;
        if success {
            let id = output
                .out
                .lines()
                .find_map(|line| Some(submit.id.0.captures(line.trim())?.name("id")?.as_str().to_owned()));
            // Apparently accepted, but the id is unknown: the job is looked up by its tag.
            return id.map_or_else(|| CommandResult::Unclear(text_of_both.to_owned()), CommandResult::Id);
        }
        if self.step == 0 && submit.has_other_form(text_of_both) {
            return CommandResult::Disabled;
        }
        let text = text_of_both.to_owned();
        if matches_any(&submit.unclear, text_of_both) {
            return CommandResult::Unclear(text);
        }
        if matches_any(&submit.later, text_of_both) {
            return CommandResult::Later(text);
        }
        if matches_any(&submit.faulty, text_of_both) {
            return CommandResult::Faulty(text);
        }
        CommandResult::Rejected(text)
    }

    /// The entry of our job: of our account and with our tag, whatever its id.
    fn own_job(&self, query: &Query, jobs: &[Fields]) -> CommandResult {
        let (uid, user) = (self.uid.to_string(), self.values.get("user").map_or("", String::as_str));
        let own_job = |job: &&Fields| {
            let is = |name: &str, value: &str| match job.get(name) {
                Some(found) => found == value,
                None => !query.always_has(name),
            };
            is("uid", &uid) && is("user", user) && is("name", &self.tag)
        };
        let get = |job: &Fields, name: &str| job.get(name).cloned().unwrap_or_default();
        // The last entry: a requeued job has several lines in the accounting.
        jobs.iter().rfind(own_job).map_or(CommandResult::Absent, |job| {
            CommandResult::Row(Row {
                id: get(job, "id"),
                state: get(job, "state"),
                reason: get(job, "reason"),
                start: get(job, "start"),
                nodes: get(job, "nodes"),
                limit: limit(job),
                by: get(job, "by"),
                exit: get(job, "exit"),
            })
        })
    }

    /// The longest time in seconds that all of these partitions allow; without partitions, the
    /// limit of the default one or, if there is no default, of any. `None` means no limit.
    pub(crate) fn longest(&self, partitions: Option<&str>, out: &str) -> Option<u64> {
        let rows = self.description.limits.as_ref()?.read(out).ok()?;
        let options = &self.description.options;
        let limit = |row: &Fields| options.seconds(row.get("limit")?).flatten();
        let is_default = |row: &&Fields| row.get("default").is_some_and(|mark| !mark.is_empty());
        match partitions {
            Some(wanted) => {
                let is_wanted = |row: &&Fields| {
                    row.get("partition").is_some_and(|name| wanted.split(',').any(|w| w == name))
                };
                rows.iter().filter(is_wanted).filter_map(limit).min()
            }
            None if rows.iter().any(|row| is_default(&row)) => {
                rows.iter().filter(is_default).filter_map(limit).min()
            }
            None => rows.iter().map(limit).collect::<Option<Vec<u64>>>()?.into_iter().max(),
        }
    }

    /// The arguments that set a time limit.
    pub(crate) fn time_limit(&self, seconds: u64) -> Vec<String> {
        let values = amounts::forms(seconds);
        self.description.submit.time.iter().map(|word| fill_word(word, &values)).collect()
    }
}

/// Adds the reason when a command was killed. Some commands print what they wait for.
fn timed_out(output: &CommandOutput) -> String {
    let text = format!("{}\n{}", output.err, output.out);
    format!("the command timed out\n{}", text.trim())
}

/// The time limit of a job in the scheduler's notation, or made from a number of seconds.
fn limit(job: &Fields) -> String {
    let seconds = job.get("limit_seconds").and_then(|text| text.parse::<f64>().ok());
    match seconds {
        Some(seconds) if (1.0..1e12).contains(&seconds) => amounts::time(seconds as u64),
        _ => job.get("limit").cloned().unwrap_or_default(),
    }
}

/// A command's output, preceded by a line with its exit code, because some commands carry their
/// meaning in it.
fn with_code(status: ExitStatus, text_of_both: &str) -> String {
    let code = status.code().map_or_else(|| "signal".to_owned(), |code| code.to_string());
    format!("exit {code}\n{text_of_both}")
}

fn matches_any(patterns: &[Pattern], text: &str) -> bool {
    patterns.iter().any(|pattern| pattern.0.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::QueryState;
    use crate::command::CommandOutput;
    use crate::description::{Description, slurm};
    use crate::messages::{CommandResult, Order, Row};
    use std::collections::BTreeMap;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    #[test]
    fn the_answer_about_all_jobs_is_read_for_ours_and_says_nothing_in_part() {
        let slurm = slurm();
        let queries = queries(&slurm);
        let words = queries.command_for_all_jobs().expect("a command").words;
        assert!(words.contains(&"--user=41".to_owned()) && !words.iter().any(|word| word.contains("nb7-x")));
        let row = |uid: u32, name: &str| format!("{uid}|8|RUNNING|None|N/A|n1|1:00:00|{name}\n");
        let all = |out: &str| queries.result_for_all_jobs(&output(0, out, ""));
        let others = format!("{}{}", row(41, "mine"), row(41, "nb8-x"));
        assert_eq!(all(""), CommandResult::Absent);
        assert_eq!(all(&others), CommandResult::Absent);
        assert!(matches!(all(&format!("{others}{}", row(41, "nb7-x"))), CommandResult::Row(_)));
        assert_eq!(all(&row(42, "nb7-x")), CommandResult::Absent);
        assert!(matches!(all(&format!("{others}41|9|RUNN")), CommandResult::Unclear(_)));
        let failed = output(1, &row(41, "nb8-x"), "slurm_load_jobs error: Socket timed out");
        assert!(matches!(queries.result_for_all_jobs(&failed), CommandResult::Unclear(_)));
    }

    fn queries(description: &Description) -> QueryState<'_> {
        let values = BTreeMap::from([("tag", "nb7-x".to_owned()), ("uid", "41".to_owned())]);
        QueryState::new(description, values, vec!["-N".to_owned(), "2".to_owned()], 41, "nb7-x".to_owned())
    }

    fn output(code: i32, out: &str, err: &str) -> CommandOutput {
        CommandOutput {
            status: Some(ExitStatus::from_raw(code << 8)),
            out: out.to_owned(),
            err: err.to_owned(),
        }
    }

    #[test]
    fn an_id_is_believed_only_with_our_owner_and_our_tag() {
        let slurm = slurm();
        let queries = queries(&slurm);
        let line = "41|8|RUNNING|None|2026-11-21T03:31:42|n1|1:00:00|nb7-x\n";
        let CommandResult::Row(Row { id, state, nodes, .. }) =
            queries.result(Order::Query, &output(0, line, ""))
        else {
            panic!("a row");
        };
        assert_eq!((id.as_str(), state.as_str(), nodes.as_str()), ("8", "RUNNING", "n1"));
        for other in [
            "42|8|COMPLETED|None|x|n1|1:00:00|nb7-x\n",
            "41|8|COMPLETED|None|x|n1|1:00:00|nb8-x\n",
            "42|8|COMPLETED|None|x|n1|1:00:00|a|41|8|COMPLETED|None|x|n1|1:00:00|nb7-x\n",
            "",
        ] {
            assert_eq!(queries.result(Order::Query, &output(0, other, "")), CommandResult::Absent, "{other}");
        }
    }

    #[test]
    fn a_failed_command_and_an_unreadable_answer_say_nothing() {
        let slurm = slurm();
        let queries = queries(&slurm);
        let unclear = |output: CommandOutput| {
            matches!(queries.result(Order::Query, &output), CommandResult::Unclear(_))
        };
        assert!(unclear(output(
            1,
            "",
            "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
        )));
        assert!(unclear(output(0, "Dear user, maintenance on Monday\n", "")));
        let hangs = "batch system daemon not responding ... still trying";
        let late = CommandOutput { status: None, out: String::new(), err: hangs.to_owned() };
        assert!(
            matches!(queries.result(Order::Query, &late), CommandResult::Unclear(text) if text.ends_with(hangs))
        );
        let absent = output(1, "", "slurm_load_jobs error: Invalid job id specified");
        assert_eq!(queries.result(Order::Query, &absent), CommandResult::Absent);
        let disabled = output(1, "", "Slurm accounting storage is disabled");
        assert_eq!(queries.result(Order::Accounting, &disabled), CommandResult::Disabled);
    }

    #[test]
    fn a_submission_is_accepted_rejected_or_unclear() {
        let slurm = slurm();
        let queries = queries(&slurm);
        let submit = |output: CommandOutput| queries.result(Order::Submit, &output);
        assert_eq!(submit(output(0, "Welcome\n17;ci\n", "")), CommandResult::Id("17".to_owned()));
        assert!(matches!(submit(output(0, "job 17\n", "")), CommandResult::Unclear(_)));
        let invalid = "sbatch: error: Batch job submission failed: Invalid partition name specified";
        assert!(matches!(submit(output(1, "", invalid)), CommandResult::Rejected(_)));
        for text in [
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
            "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
            "sbatch: error: Batch job submission failed: Protocol authentication error",
        ] {
            assert!(matches!(submit(output(1, "", text)), CommandResult::Unclear(_)), "{text}");
        }
    }

    #[test]
    fn the_accounting_shows_who_cancelled_and_the_detail_why_a_job_failed() {
        let slurm = slurm();
        let queries = queries(&slurm);
        let line = "41|8|CANCELLED by 1000|None|n1|01:00:00|0:0|nb7-x\n";
        let CommandResult::Row(row) = queries.result(Order::Accounting, &output(0, line, "")) else {
            panic!("a row")
        };
        assert_eq!((row.state.as_str(), row.by.as_str()), ("CANCELLED", "1000"));
        let line = "JobId=8 JobName=nb7-x UserId=ann(41) GroupId=ann(41) Account=(null) QOS=(null) JobState=FAILED \
            Reason=RaisedSignal:53(Real-time_signal_19) Dependency=(null) Requeue=0 Restarts=0 ExitCode=0:53 \
            RunTime=00:00:00 TimeLimit=UNLIMITED TimeMin=N/A ReqNodeList=(null) ExcNodeList=(null) NodeList=n1 BatchHost=n1\n";
        let CommandResult::Row(row) = queries.result(Order::Detail, &output(0, line, "")) else {
            panic!("a row")
        };
        assert_eq!((row.exit.as_str(), row.nodes.as_str(), row.state.as_str()), ("0:53", "n1", "FAILED"));
    }

    #[test]
    fn the_shortest_limit_of_the_partitions_counts() {
        let slurm = slurm();
        let queries = queries(&slurm);
        let out = "debug*|1:00:00\nlong|7-00:00:00\nfree|infinite\n";
        assert_eq!(queries.longest(None, out), Some(3600));
        assert_eq!(queries.longest(Some("long,free"), out), Some(7 * 86_400));
        assert_eq!(queries.longest(Some("free"), out), None);
        assert_eq!(queries.time_limit(3600), ["--time=0-01:00:00"]);
        assert_eq!(queries.command(Order::Submit, None).expect("words").words[..3], ["sbatch", "-N", "2"]);
    }
}
