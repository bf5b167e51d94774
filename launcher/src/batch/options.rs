//! The user's arguments for the submit command, in the light of what Nunbird needs and the site allows.
//!
//! The text is split as a shell splits words and never evaluated. What Nunbird sets itself is refused with the
//! reason. getopt_long(3) accepts any unambiguous beginning of an option's name, so a beginning of an option that
//! matters here is refused, too: otherwise `--outp=x` would pass for something unknown.

use super::amounts;
use super::outcome::lines;
use nunbird_handover::{Account, Batch, Rules, Untrusted};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The options of a submit command, as far as Nunbird must understand them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Options {
    /// Options that take no word after them. All others take one.
    flags: Vec<String>,
    time: Vec<String>,
    nodes: Vec<String>,
    memory: Vec<String>,
    partition: Vec<String>,
    account: Vec<String>,
    qos: Vec<String>,
    /// Options that Nunbird sets, by the reason.
    owned: BTreeMap<String, Vec<String>>,
}

/// One option of an argument list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Given {
    /// `-t` or `--time`.
    name: String,
    value: Option<String>,
    /// As it was written.
    words: Vec<String>,
}

/// What goes onto the submit command's line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) words: Vec<String>,
    /// What was changed, for the user.
    pub(crate) remarks: Vec<String>,
    /// Whether somebody set a time limit.
    pub(crate) has_time: bool,
    /// The partitions asked for, where they are named.
    pub(crate) partition: Option<String>,
}

/// Puts the site's defaults, the user's arguments and the site's forced ones together. The error is for the user.
pub(crate) fn arguments(batch: &Batch, account: &Account, options: &Options) -> Result<Arguments, String> {
    let mut result = Arguments::default();
    let user = match &batch.arguments {
        Some(user) => {
            let variable = Untrusted(&user.variable).to_string();
            let words = split(&user.text, account).map_err(|e| format!("cannot split {variable}: {e}"))?;
            let given = options.parse(&words).map_err(|e| format!("{variable}: {e}"))?;
            options.judge(given, batch, &variable, &mut result.remarks)?
        }
        None => Vec::new(),
    };
    let site = |list: &[String], which: &str| {
        options.parse(list).map_err(|e| format!("the site's {which} arguments: {e}; tell the administrators"))
    };
    let rules = &batch.rules;
    let forced = site(&rules.forced, "forced")?;
    for given in &user {
        if let Some(other) = forced.iter().find(|other| options.same(&other.name, &given.name)) {
            result.remarks.push(format!(
                "this site sets {} instead of your {}",
                shown(&other.words),
                shown(&given.words)
            ));
        }
    }
    let mut all = site(&rules.default, "default")?;
    all.extend(user);
    all.extend(forced);
    options.bound(&mut all, rules, &mut result.remarks)?;
    result.has_time = all.iter().any(|given| options.time.contains(&given.name));
    result.partition = all
        .iter()
        .rev()
        .find(|given| options.partition.contains(&given.name))
        .and_then(|given| given.value.clone());
    result.words = all.into_iter().flat_map(|given| given.words).collect();
    Ok(result)
}

/// Whether the site's own arguments can be read.
pub(crate) fn check(rules: &Rules, options: &Options) -> Result<(), String> {
    for (which, list) in [("default", &rules.default), ("forced", &rules.forced)] {
        options.parse(list).map_err(|e| format!("{which}_arguments: {e}"))?;
    }
    Ok(())
}

/// Splits as a shell would. GitLab expands its own variables; `$HOME` and `$USER` are not GitLab's, and users are
/// used to writing them, so these two are replaced, as text.
fn split(text: &str, account: &Account) -> Result<Vec<String>, String> {
    let words = shell_words::split(text).map_err(|_| "a quote is not closed".to_owned())?;
    let home = account.home.to_string_lossy();
    let replace = |word: String| {
        let word = word.replace("${HOME}", &home).replace("$HOME/", &format!("{home}/"));
        let word = if word.ends_with("$HOME") { word.replace("$HOME", &home) } else { word };
        word.replace("${USER}", &account.name).replace("$USER", &account.name)
    };
    Ok(words.into_iter().map(replace).collect())
}

fn shown(words: &[String]) -> String {
    format!("`{}`", Untrusted(&words.join(" ")))
}

/// The next word. One that looks like an option is none: the submit command may see it otherwise than we do.
fn value_of<'a>(name: &str, words: &mut impl Iterator<Item = &'a String>) -> Result<&'a String, String> {
    match words.next() {
        Some(value) if !value.starts_with('-') => Ok(value),
        Some(_) => {
            Err(format!("{0} has no value; one that begins with `-` is written {0}=-…", Untrusted(name)))
        }
        None => Err(format!("{} has no value", Untrusted(name))),
    }
}

impl Options {
    fn parse(&self, words: &[String]) -> Result<Vec<Given>, String> {
        let mut given = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if let Some(long) = word.strip_prefix("--").filter(|long| !long.is_empty()) {
                given.push(self.long(word, long, &mut words)?);
            } else if let Some(short) =
                word.strip_prefix('-').filter(|short| !short.is_empty() && *short != "-")
            {
                self.short(short, &mut words, &mut given)?;
            } else {
                return Err(format!(
                    "{} is no option; only options are taken, the script is the stage's",
                    shown(std::slice::from_ref(word))
                ));
            }
        }
        Ok(given)
    }

    fn long<'a>(
        &self,
        word: &str,
        long: &str,
        words: &mut impl Iterator<Item = &'a String>,
    ) -> Result<Given, String> {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (format!("--{name}"), Some(value.to_owned())),
            None => (format!("--{long}"), None),
        };
        let is = |known: &&String| **known == name;
        if !self.known().any(|known| is(&known))
            && let Some(full) = self.known().find(|known| known.starts_with(name.as_str()))
        {
            return Err(format!("{} may mean {full}; write it in full", shown(std::slice::from_ref(&name))));
        }
        let mut given = Given { name, value, words: vec![word.to_owned()] };
        if given.value.is_none() && !self.flags.contains(&given.name) {
            let value = value_of(&given.name, words)?;
            given.value = Some(value.clone());
            given.words.push(value.clone());
        }
        Ok(given)
    }

    /// `-N2`, `-N 2`, and several letters in one word.
    fn short<'a>(
        &self,
        letters: &str,
        words: &mut impl Iterator<Item = &'a String>,
        all: &mut Vec<Given>,
    ) -> Result<(), String> {
        let mut rest = letters.chars();
        while let Some(letter) = rest.next() {
            let name = format!("-{letter}");
            if self.flags.contains(&name) {
                all.push(Given { words: vec![name.clone()], name, value: None });
                continue;
            }
            let value = match rest.as_str() {
                "" => value_of(&name, words)?.clone(),
                glued => glued.to_owned(),
            };
            let words = vec![name.clone(), value.clone()];
            all.push(Given { name, value: Some(value), words });
            return Ok(());
        }
        Ok(())
    }

    /// Every option that has a meaning here.
    fn known(&self) -> impl Iterator<Item = &String> {
        let lists = [&self.time, &self.nodes, &self.memory, &self.partition, &self.account, &self.qos];
        lists.into_iter().chain(self.owned.values()).flatten().chain(&self.flags)
    }

    fn same(&self, one: &String, other: &String) -> bool {
        let lists = [&self.time, &self.nodes, &self.memory, &self.partition, &self.account, &self.qos];
        one == other || lists.into_iter().any(|list| list.contains(one) && list.contains(other))
    }

    /// Takes out what Nunbird owns, or refuses it.
    fn judge(
        &self,
        given: Vec<Given>,
        batch: &Batch,
        variable: &str,
        remarks: &mut Vec<String>,
    ) -> Result<Vec<Given>, String> {
        let mut kept = Vec::new();
        for one in given {
            match self.owned.iter().find(|(_, names)| names.contains(&one.name)) {
                None => kept.push(one),
                Some((reason, _)) if batch.allow_illegal_args => {
                    remarks.push(format!("leaving {} out: {reason}", shown(&one.words)));
                }
                Some((reason, _)) => {
                    return Err(format!("{variable} must not have {}: {reason}", shown(&one.words)));
                }
            }
        }
        Ok(kept)
    }

    fn bound(&self, all: &mut [Given], rules: &Rules, remarks: &mut Vec<String>) -> Result<(), String> {
        for given in all {
            let value = given.value.clone().unwrap_or_default();
            let unreadable = |what: &str| format!("cannot read the {what} in {}", shown(&given.words));
            let too_much =
                |most: String| format!("{} is more than this site allows ({most})", shown(&given.words));
            if self.time.contains(&given.name)
                && let Some(most) = rules.most_time
            {
                let asked = amounts::seconds(&value).ok_or_else(|| unreadable("time"))?;
                if asked.is_none_or(|asked| asked > most) {
                    let limit = amounts::time(most);
                    remarks.push(format!(
                        "{} is cut to {limit}, the most that this site allows",
                        shown(&given.words)
                    ));
                    given.words = vec![given.name.clone(), limit.clone()];
                    given.value = Some(limit);
                }
            } else if self.nodes.contains(&given.name)
                && let Some(most) = rules.most_nodes
            {
                let asked = amounts::nodes(&value).ok_or_else(|| unreadable("number of nodes"))?;
                if asked > most {
                    return Err(too_much(format!("{most} nodes")));
                }
            } else if self.memory.contains(&given.name)
                && let Some(most) = rules.most_memory
            {
                // 0 is all memory of a node.
                let asked = amounts::mebibytes(&value).ok_or_else(|| unreadable("memory"))?;
                if asked > most || asked == 0 {
                    return Err(too_much(format!("{most} MiB")));
                }
            } else {
                self.named(given, &value, rules)?;
            }
        }
        Ok(())
    }

    fn named(&self, given: &Given, value: &str, rules: &Rules) -> Result<(), String> {
        for (options, allowed, what) in [
            (&self.partition, &rules.partitions, "partition"),
            (&self.account, &rules.accounts, "account"),
            (&self.qos, &rules.qos, "quality of service"),
        ] {
            if options.contains(&given.name)
                && let Some(allowed) = allowed
                && let Some(other) = value.split(',').find(|name| !allowed.iter().any(|known| known == name))
            {
                return Err(format!(
                    "the {what} `{}` is not among those for CI jobs here: {}",
                    Untrusted(other),
                    lines(&allowed.join(", "))
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Arguments, arguments};
    use crate::batch::description::slurm;
    use nunbird_handover::{Account, Batch, Scheduler, UserText};

    fn batch(text: &str) -> Batch {
        let mut batch = Batch::new(Scheduler::Named("slurm".to_owned()), "/d".into());
        batch.arguments =
            Some(UserText { variable: "SCHEDULER_PARAMETERS".to_owned(), text: text.to_owned() });
        batch
    }

    fn judged(batch: &Batch) -> Result<Arguments, String> {
        let account = Account {
            name: "ann".to_owned(),
            uid: 1,
            gid: 1,
            home: "/home/ann".into(),
            shell: "/bin/sh".into(),
        };
        arguments(batch, &account, &slurm().options)
    }

    #[test]
    fn words_are_split_as_a_shell_splits_them_and_nothing_is_evaluated() {
        let result =
            judged(&batch("  -Aacct -N2 --constraint='a b'  --gres=\"x;$(id)`id`\" --mail-user $HOME/x "));
        let words = result.expect("good").words;
        assert_eq!(
            words,
            ["-A", "acct", "-N", "2", "--constraint=a b", "--gres=x;$(id)`id`", "--mail-user", "/home/ann/x"]
        );
        assert!(judged(&batch("--a='b")).expect_err("open").contains("not closed"));
    }

    #[test]
    fn what_nunbird_sets_is_refused_in_every_spelling_with_the_reason() {
        for (text, reason) in [
            ("-J x", "finds it again"),
            ("-Jx", "finds it again"),
            ("--job-name x", "finds it again"),
            ("-o x", "job log"),
            ("-HOox", "job log"),
            ("--outp=x", "write it in full"),
            ("--wra=id", "write it in full"),
            ("--output=/x", "job log"),
            ("-W", "itself"),
            ("--array 1-3", "one job"),
            ("--requeue", "never again"),
            ("--export=ALL", "environment"),
            ("script.sh", "no option"),
            ("-- x", "no option"),
            (":", "no option"),
            ("--time", "no value"),
            ("--unknown-flag --output=/x", "no value"),
            ("-X -ox", "no value"),
        ] {
            let error = judged(&batch(text)).expect_err(text);
            assert!(error.contains(reason) && error.contains("SCHEDULER_PARAMETERS"), "{text}: {error}");
        }
    }

    #[test]
    fn with_allow_illegal_args_they_are_left_out_and_the_user_is_told() {
        let mut batch = batch("-J x -p debug --exclusive --wait");
        batch.allow_illegal_args = true;
        let result = judged(&batch).expect("good");
        assert_eq!(result.words, ["-p", "debug", "--exclusive"]);
        assert_eq!((result.remarks.len(), result.partition.as_deref()), (2, Some("debug")));
    }

    #[test]
    fn the_sites_own_arguments_can_be_checked_before_a_job_comes() {
        let mut rules = batch("").rules;
        rules.default = vec!["--partition=ci".to_owned()];
        assert_eq!(super::check(&rules, &slurm().options), Ok(()));
        rules.forced = vec!["ci".to_owned()];
        let error = super::check(&rules, &slurm().options).expect_err("no option");
        assert!(error.contains("forced_arguments") && error.contains("is no option"), "{error}");
    }

    #[test]
    fn the_site_bounds_what_users_ask_for_and_says_so() {
        let mut batch = batch("-t 3-0 -N 4");
        batch.rules.most_time = Some(3600);
        batch.rules.most_nodes = Some(4);
        let result = judged(&batch).expect("good");
        assert_eq!(result.words, ["-t", "0-01:00:00", "-N", "4"]);
        assert!(result.has_time && result.remarks[0].contains("cut to"), "{:?}", result.remarks);
        batch.rules.most_nodes = Some(3);
        assert!(judged(&batch).expect_err("nodes").contains("more than this site allows"));
    }

    #[test]
    fn only_the_partitions_accounts_and_amounts_of_the_site_pass() {
        let with = |text: &str| {
            let mut batch = batch(text);
            batch.rules.partitions = Some(vec!["ci".to_owned(), "debug".to_owned()]);
            batch.rules.accounts = Some(vec!["phys".to_owned()]);
            batch.rules.qos = Some(vec![]);
            batch.rules.most_memory = Some(4096);
            judged(&batch)
        };
        assert!(with("-p ci,debug -A phys --mem 4G").is_ok());
        for text in ["-p ci,gpu", "--partition=gpu", "-Achem", "-q x", "--mem=5G", "--mem=0", "--mem=lots"] {
            assert!(with(text).is_err(), "{text}");
        }
    }

    #[test]
    fn defaults_stand_before_the_users_and_forced_ones_behind() {
        let mut batch = batch("-p mine -t 5");
        batch.rules.default = vec!["-p".to_owned(), "theirs".to_owned(), "-N1".to_owned()];
        batch.rules.forced = vec!["--partition=ours".to_owned()];
        let result = judged(&batch).expect("good");
        assert_eq!(result.words, ["-p", "theirs", "-N", "1", "-p", "mine", "-t", "5", "--partition=ours"]);
        assert!(result.remarks[0].contains("instead of your `-p mine`"), "{:?}", result.remarks);
    }
}
