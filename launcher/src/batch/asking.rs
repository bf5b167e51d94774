//! From an order to a command's words, and from a command's output to an answer.

use super::amounts;
use super::command::Said;
use super::description::{Description, Pattern, Query, fill, fill_word};
use super::machine::{Answer, Order, Row};
use regex_lite::Captures;
use std::collections::BTreeMap;
use std::time::Duration;

/// What the commands of one stage are made of.
#[derive(Debug)]
pub(crate) struct Asking<'d> {
    pub(crate) description: &'d Description,
    /// Placeholders that do not change.
    pub(crate) values: BTreeMap<&'static str, String>,
    /// Of the submit command.
    pub(crate) arguments: Vec<String>,
    pub(crate) uid: u32,
    pub(crate) tag: String,
}

impl Asking<'_> {
    /// The words of a command; none where the description has no such command.
    pub(crate) fn words(&self, order: Order, id: Option<&str>) -> Option<Vec<String>> {
        let description = self.description;
        let command = match order {
            Order::Limits => &description.limits.as_ref()?.command,
            Order::Submit => &description.submit.command,
            Order::Query => &description.query.command,
            Order::Find => &description.find.command,
            Order::Accounting => &description.accounting.as_ref()?.command,
            Order::Detail => &description.detail.as_ref()?.command,
            Order::Signal => &description.signal.as_ref()?.command,
            Order::Cancel => &description.cancel.command,
            Order::Kill => &description.kill.as_ref()?.command,
        };
        let mut values = self.values.clone();
        values.insert("id", id.unwrap_or_default().to_owned());
        Some(fill(command, &values, &self.arguments))
    }

    /// The words of the command about all jobs of the account; none where the description has none.
    pub(crate) fn words_about_all(&self) -> Option<Vec<String>> {
        Some(fill(&self.description.many.as_ref()?.command, &self.values, &[]))
    }

    /// How long a command may take.
    pub(crate) fn time(order: Order) -> Duration {
        Duration::from_secs(if order == Order::Submit { 60 } else { 30 })
    }

    /// What a command's end means.
    pub(crate) fn answer(&self, order: Order, said: &Said) -> Answer {
        let description = self.description;
        let everything = format!("{}\n{}", said.err, said.out);
        let Some(status) = said.status else {
            return Answer::Unclear("its command did not end in time".to_owned());
        };
        let query = match order {
            Order::Submit => return self.submitted(status.success(), said, &everything),
            Order::Signal | Order::Cancel | Order::Kill => {
                return if status.success() { Answer::Done } else { Answer::Unclear(everything) };
            }
            Order::Limits => {
                return if status.success() { Answer::Done } else { Answer::Unclear(everything) };
            }
            Order::Query => Some(&description.query),
            Order::Find => Some(&description.find),
            Order::Accounting => description.accounting.as_ref(),
            Order::Detail => description.detail.as_ref(),
        };
        let Some(query) = query else { return Answer::Disabled };
        if !status.success() {
            return match () {
                () if says(&query.absent, &everything) => Answer::Absent,
                () if says(&query.disabled, &everything) => Answer::Disabled,
                () => Answer::Unclear(everything),
            };
        }
        self.row(query, &said.out)
    }

    /// What the end of the command about all jobs means for ours.
    pub(crate) fn answer_about_all(&self, said: &Said) -> Answer {
        let everything = format!("{}\n{}", said.err, said.out);
        match (&self.description.many, said.status) {
            (Some(many), Some(status)) if status.success() => self.row(many, &said.out),
            (Some(many), Some(_)) if says(&many.absent, &everything) => Answer::Absent,
            (_, None) => Answer::Unclear("its command did not end in time".to_owned()),
            _ => Answer::Unclear(everything),
        }
    }

    fn submitted(&self, success: bool, said: &Said, everything: &str) -> Answer {
        let submit = &self.description.submit;
        if success {
            let id = said
                .out
                .lines()
                .find_map(|line| Some(submit.id.0.captures(line.trim())?.name("id")?.as_str().to_owned()));
            // Accepted, it seems, but as what? It will be looked for by its tag.
            return id.map_or_else(|| Answer::Unclear(everything.to_owned()), Answer::Id);
        }
        if says(&submit.unclear, everything) {
            return Answer::Unclear(everything.to_owned());
        }
        Answer::Rejected(everything.to_owned())
    }

    /// The line about our job: of our account, with our tag, whatever its id.
    fn row(&self, query: &Query, out: &str) -> Answer {
        let lines: Vec<&str> = out.lines().filter(|line| !line.trim().is_empty()).collect();
        let rows: Vec<Captures<'_>> = lines.iter().filter_map(|line| query.row.0.captures(line)).collect();
        let ours = |row: &&Captures<'_>| {
            let is = |name: &str, value: &str| row.name(name).is_none_or(|found| found.as_str() == value);
            is("uid", &self.uid.to_string()) && is("name", &self.tag)
        };
        let get = |row: &Captures<'_>, name: &str| {
            row.name(name).map(|found| found.as_str().trim().to_owned()).unwrap_or_default()
        };
        // The last: a requeued job has several lines in the accounting.
        let Some(row) = rows.iter().rfind(ours) else {
            // A line that cannot be read may be ours.
            let unread = lines.iter().find(|line| !query.row.0.is_match(line));
            return unread.map_or(Answer::Absent, |line| {
                Answer::Unclear(format!("an answer that cannot be read: {line}"))
            });
        };
        Answer::Row(Row {
            id: get(row, "id"),
            state: get(row, "state"),
            reason: get(row, "reason"),
            start: get(row, "start"),
            nodes: get(row, "nodes"),
            limit: get(row, "limit"),
            by: get(row, "by"),
            exit: get(row, "exit"),
        })
    }

    /// The longest time in seconds that all of these partitions allow, or the default one; none without limit.
    pub(crate) fn longest(&self, partitions: Option<&str>, out: &str) -> Option<u64> {
        let query = self.description.limits.as_ref()?;
        let rows = out.lines().filter_map(|line| query.row.0.captures(line.trim()));
        let limits = rows.filter_map(|row| {
            let name = row.name("partition")?.as_str();
            let is_default = row.name("default").is_some_and(|mark| !mark.as_str().is_empty());
            let wanted =
                partitions.map_or(is_default, |wanted| wanted.split(',').any(|wanted| wanted == name));
            if wanted { amounts::seconds(row.name("limit")?.as_str())? } else { None }
        });
        limits.min()
    }

    /// The argument that sets a time limit.
    pub(crate) fn time_limit(&self, seconds: u64) -> Option<String> {
        let (minutes, hours) = (seconds / 60, seconds / 3600);
        let values = BTreeMap::from([
            ("time", amounts::time(seconds)),
            ("hms", format!("{hours}:{:02}:{:02}", minutes % 60, seconds % 60)),
            ("minutes", minutes.to_string()),
            ("seconds", seconds.to_string()),
        ]);
        Some(fill_word(self.description.submit.time.as_ref()?, &values))
    }
}

fn says(patterns: &[Pattern], text: &str) -> bool {
    patterns.iter().any(|pattern| pattern.0.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::Asking;
    use crate::batch::command::Said;
    use crate::batch::description::{Description, slurm};
    use crate::batch::machine::{Answer, Order, Row};
    use std::collections::BTreeMap;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    #[test]
    fn the_answer_about_all_jobs_is_read_for_ours_and_says_nothing_in_part() {
        let slurm = slurm();
        let asking = asking(&slurm);
        let words = asking.words_about_all().expect("words");
        assert!(words.contains(&"--user=41".to_owned()) && !words.iter().any(|word| word.contains("nb7-x")));
        let row = |uid: u32, name: &str| format!("{uid}|8|RUNNING|None|N/A|n1|1:00:00|{name}\n");
        let all = |out: &str| asking.answer_about_all(&said(0, out, ""));
        let others = format!("{}{}", row(41, "mine"), row(41, "nb8-x"));
        assert_eq!(all(""), Answer::Absent);
        assert_eq!(all(&others), Answer::Absent);
        assert!(matches!(all(&format!("{others}{}", row(41, "nb7-x"))), Answer::Row(_)));
        assert_eq!(all(&row(42, "nb7-x")), Answer::Absent);
        assert!(matches!(all(&format!("{others}41|9|RUNN")), Answer::Unclear(_)));
        let failed = said(1, &row(41, "nb8-x"), "slurm_load_jobs error: Socket timed out");
        assert!(matches!(asking.answer_about_all(&failed), Answer::Unclear(_)));
    }

    fn asking(description: &Description) -> Asking<'_> {
        let values = BTreeMap::from([("tag", "nb7-x".to_owned()), ("uid", "41".to_owned())]);
        Asking {
            description,
            values,
            arguments: vec!["-N".to_owned(), "2".to_owned()],
            uid: 41,
            tag: "nb7-x".to_owned(),
        }
    }

    fn said(code: i32, out: &str, err: &str) -> Said {
        Said { status: Some(ExitStatus::from_raw(code << 8)), out: out.to_owned(), err: err.to_owned() }
    }

    #[test]
    fn an_id_is_believed_only_with_our_owner_and_our_tag() {
        let slurm = slurm();
        let asking = asking(&slurm);
        let line = "41|8|RUNNING|None|2026-11-21T03:31:42|n1|1:00:00|nb7-x\n";
        let Answer::Row(Row { id, state, nodes, .. }) = asking.answer(Order::Query, &said(0, line, ""))
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
            assert_eq!(asking.answer(Order::Query, &said(0, other, "")), Answer::Absent, "{other}");
        }
    }

    #[test]
    fn a_failed_command_and_an_unreadable_answer_say_nothing() {
        let slurm = slurm();
        let asking = asking(&slurm);
        let unclear = |said: Said| matches!(asking.answer(Order::Query, &said), Answer::Unclear(_));
        assert!(unclear(said(
            1,
            "",
            "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
        )));
        assert!(unclear(said(0, "Dear user, maintenance on Monday\n", "")));
        assert!(unclear(Said { status: None, out: String::new(), err: String::new() }));
        let absent = said(1, "", "slurm_load_jobs error: Invalid job id specified");
        assert_eq!(asking.answer(Order::Query, &absent), Answer::Absent);
        let disabled = said(1, "", "Slurm accounting storage is disabled");
        assert_eq!(asking.answer(Order::Accounting, &disabled), Answer::Disabled);
    }

    #[test]
    fn a_submission_is_accepted_rejected_or_unclear() {
        let slurm = slurm();
        let asking = asking(&slurm);
        let submit = |said: Said| asking.answer(Order::Submit, &said);
        assert_eq!(submit(said(0, "Welcome\n17;ci\n", "")), Answer::Id("17".to_owned()));
        assert!(matches!(submit(said(0, "job 17\n", "")), Answer::Unclear(_)));
        let invalid = "sbatch: error: Batch job submission failed: Invalid partition name specified";
        assert!(matches!(submit(said(1, "", invalid)), Answer::Rejected(_)));
        for text in [
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
            "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
            "sbatch: error: Batch job submission failed: Protocol authentication error",
        ] {
            assert!(matches!(submit(said(1, "", text)), Answer::Unclear(_)), "{text}");
        }
    }

    #[test]
    fn the_accounting_tells_who_cancelled_and_the_detail_why_a_job_failed() {
        let slurm = slurm();
        let asking = asking(&slurm);
        let line = "41|8|CANCELLED by 1000|None|n1|01:00:00|0:0|nb7-x\n";
        let Answer::Row(row) = asking.answer(Order::Accounting, &said(0, line, "")) else { panic!("a row") };
        assert_eq!((row.state.as_str(), row.by.as_str()), ("CANCELLED", "1000"));
        let line = "JobId=8 JobName=nb7-x UserId=ann(41) GroupId=ann(41) Account=(null) QOS=(null) JobState=FAILED \
            Reason=RaisedSignal:53(Real-time_signal_19) Dependency=(null) Requeue=0 Restarts=0 ExitCode=0:53 \
            RunTime=00:00:00 TimeLimit=UNLIMITED TimeMin=N/A ReqNodeList=(null) ExcNodeList=(null) NodeList=n1 BatchHost=n1\n";
        let Answer::Row(row) = asking.answer(Order::Detail, &said(0, line, "")) else { panic!("a row") };
        assert_eq!((row.exit.as_str(), row.nodes.as_str(), row.state.as_str()), ("0:53", "n1", "FAILED"));
    }

    #[test]
    fn the_shortest_limit_of_the_partitions_counts() {
        let slurm = slurm();
        let asking = asking(&slurm);
        let out = "debug*|1:00:00\nlong|7-00:00:00\nfree|infinite\n";
        assert_eq!(asking.longest(None, out), Some(3600));
        assert_eq!(asking.longest(Some("long,free"), out), Some(7 * 86_400));
        assert_eq!(asking.longest(Some("free"), out), None);
        assert_eq!(asking.time_limit(3600).as_deref(), Some("--time=0-01:00:00"));
        assert_eq!(asking.words(Order::Submit, None).expect("words")[..3], ["sbatch", "-N", "2"]);
    }
}
