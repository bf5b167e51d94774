//! The user's arguments for the submit command, checked against what Nunbird needs and the site
//! allows.
//!
//! The text is split as a shell splits words and never evaluated. Options that Nunbird sets itself
//! are refused with the reason. Values that the site limits are checked, also inside a value that
//! holds several resources, and refused if they cannot be checked.

use super::amounts;
use super::words::lines;
use nunbird_handover::{Account, Batch, Rules, Untrusted};
use serde::Deserialize;
use std::collections::BTreeMap;

mod parsing;
#[cfg(test)]
mod tests;

use parsing::{ParsedOption, shown, split};

/// The options of a submit command, as far as Nunbird must understand them. A resource inside an
/// option's value is named by both: `-l walltime`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Options {
    style: Style,
    /// Options without an argument.
    flags: Vec<String>,
    /// Options with one argument. With the style `getopt` these are all others, too.
    values: Vec<String>,
    /// Options with two arguments.
    pairs: Vec<String>,
    /// Options whose value is a comma-separated list of `name=value`.
    resources: Vec<String>,
    time: Vec<String>,
    nodes: Vec<String>,
    /// Options besides `nodes` that set the size of the job.
    size: Vec<String>,
    memory: Vec<String>,
    partition: Vec<String>,
    account: Vec<String>,
    qos: Vec<String>,
    /// Options whose value cannot be checked, by the limit that they may exceed: refused if the
    /// site sets that limit.
    opaque: Opaque,
    /// The notation of times; see [`amounts::seconds`].
    time_shapes: Option<Vec<String>>,
    /// The notation of a time that is reduced to the limit: a placeholder of [`amounts::forms`].
    time_form: Option<String>,
    /// The unit of memory without one; see [`amounts::mebibytes`]. MiB if not given.
    memory_unit: Option<String>,
    /// Options that Nunbird sets, with the reason; a trailing `*` matches any rest.
    owned: BTreeMap<String, Vec<String>>,
}

/// The syntax of options.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Style {
    /// getopt_long(3): `-N2`, `-N 2`, `--nodes=2`, `--nodes 2`.
    #[default]
    Getopt,
    /// Python's argparse: the same, and `-N=2` for `-N 2`.
    Argparse,
    /// A word for the name, with any number of dashes, and one for the value: `-pe mpi 4`. Only
    /// known options are accepted.
    Words,
    /// `name=value`, case-insensitive.
    Assignments,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Opaque {
    time: Vec<String>,
    nodes: Vec<String>,
    memory: Vec<String>,
    partition: Vec<String>,
}

/// The arguments of the submit command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) words: Vec<String>,
    /// What was changed, for the user.
    pub(crate) remarks: Vec<String>,
    /// Whether a time limit is set.
    pub(crate) has_time: bool,
    /// Whether a size of the job is set.
    pub(crate) has_size: bool,
    /// Whether a number of nodes is set.
    pub(crate) has_nodes: bool,
    /// The requested partitions, if any are named.
    pub(crate) partition: Option<String>,
}

/// Combines the site's default arguments, the user's arguments and the site's forced arguments. The
/// error is for the user.
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
        options
            .sites(list)
            .map_err(|e| format!("the site's {which} arguments: {e}; report it to the administrators"))
    };
    let rules = &batch.rules;
    let forced = site(&rules.forced, "forced")?;
    for given in &user {
        if let Some(other) = forced.iter().find(|other| options.same(other, given)) {
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
    let amounts = || all.iter().flat_map(ParsedOption::amounts);
    result.has_time = amounts().any(|(name, _)| options.time.contains(name));
    result.has_size = amounts().any(|(name, _)| options.nodes.contains(name) || options.size.contains(name));
    result.has_nodes = amounts().any(|(name, _)| options.nodes.contains(name));
    let named = amounts().filter(|(name, _)| options.partition.contains(name));
    result.partition = named.last().and_then(|(_, value)| value.cloned());
    result.words = all.into_iter().flat_map(|given| given.words).collect();
    Ok(result)
}

/// Checks that the site's own arguments can be parsed and are within its own limits.
pub(crate) fn check(rules: &Rules, options: &Options) -> Result<(), String> {
    for (which, list) in [("default", &rules.default), ("forced", &rules.forced)] {
        let mut given = options.sites(list).map_err(|e| format!("{which}_arguments: {e}"))?;
        options.bound(&mut given, rules, &mut Vec::new()).map_err(|e| format!("{which}_arguments: {e}"))?;
    }
    Ok(())
}

impl Options {
    /// Removes or refuses the options that Nunbird sets.
    fn judge(
        &self,
        given: Vec<ParsedOption>,
        batch: &Batch,
        variable: &str,
        remarks: &mut Vec<String>,
    ) -> Result<Vec<ParsedOption>, String> {
        let mut kept = Vec::new();
        for one in given {
            match self.reason_against(&one) {
                None => kept.push(one),
                Some(reason) if batch.allow_illegal_args => {
                    remarks.push(format!("leaving {} out: {reason}", shown(&one.words)));
                }
                Some(reason) => {
                    return Err(format!("{variable} must not have {}: {reason}", shown(&one.words)));
                }
            }
        }
        Ok(kept)
    }

    /// Why only Nunbird may set an option; `None` if the user may.
    fn reason_against(&self, given: &ParsedOption) -> Option<&str> {
        let is = |owned: &String, name: &str| match owned.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => owned == name,
        };
        let is_owned =
            |names: &Vec<String>| given.amounts().any(|(name, _)| names.iter().any(|owned| is(owned, name)));
        self.owned.iter().find(|(_, names)| is_owned(names)).map(|(reason, _)| reason.as_str())
    }

    /// Checks the site's arguments, which must not contain what Nunbird sets either.
    fn sites(&self, list: &[String]) -> Result<Vec<ParsedOption>, String> {
        let all = self.parse(list)?;
        let owned = all.iter().find_map(|one| Some((one, self.reason_against(one)?)));
        owned.map_or(Ok(()), |(one, reason)| {
            Err(format!("{} is not allowed here: {reason}", shown(&one.words)))
        })?;
        Ok(all)
    }

    /// Whether two options set the same thing.
    fn same(&self, one: &ParsedOption, other: &ParsedOption) -> bool {
        let lists = [&self.time, &self.nodes, &self.memory, &self.partition, &self.account, &self.qos];
        let same = |one: &String, other: &String| {
            one == other && !self.resources.contains(one)
                || lists.into_iter().any(|list| list.contains(one) && list.contains(other))
        };
        one.amounts().any(|(one, _)| other.amounts().any(|(other, _)| same(one, other)))
    }

    /// A time limit in seconds, in the notation of this scheduler; see [`amounts::seconds`].
    pub(crate) fn seconds(&self, text: &str) -> Option<Option<u64>> {
        match &self.time_shapes {
            Some(shapes) => amounts::seconds(text, shapes),
            None => amounts::seconds(text, &["m", "m:s", "h:m:s", "d-h", "d-h:m", "d-h:m:s"]),
        }
    }

    fn bound(
        &self,
        all: &mut [ParsedOption],
        rules: &Rules,
        remarks: &mut Vec<String>,
    ) -> Result<(), String> {
        let says_nodes =
            all.iter().flat_map(ParsedOption::amounts).any(|(name, _)| self.nodes.contains(name));
        for given in all {
            if let Some(most) = rules.most_time {
                self.cut(given, most, remarks)?;
            }
            let words = shown(&given.words);
            let too_much = |most: String| format!("{words} is more than this site allows ({most})");
            let unreadable = |what: &str| format!("cannot read the {what} in {words}");
            for (name, value) in given.amounts() {
                let value = value.map_or("", String::as_str);
                // Each slot may be placed on a node of its own.
                if (self.nodes.contains(name) || !says_nodes && self.size.contains(name))
                    && let Some(most) = rules.most_nodes
                    && amounts::nodes(value).ok_or_else(|| unreadable("number of nodes"))? > most
                {
                    return Err(too_much(format!("{most} nodes")));
                }
                if self.memory.contains(name)
                    && let Some(most) = rules.most_memory
                {
                    let unit = self.memory_unit.as_deref().unwrap_or("M");
                    let asked = amounts::mebibytes(value, unit).ok_or_else(|| unreadable("memory"))?;
                    // 0 means all memory of a node.
                    if asked > most || asked == 0 {
                        return Err(too_much(format!("{most} MiB")));
                    }
                }
                self.named(name, value, rules)?;
            }
            self.refuse_opaque(given, rules)?;
        }
        Ok(())
    }

    /// Reduces a time to the limit of the site.
    fn cut(&self, given: &mut ParsedOption, most: u64, remarks: &mut Vec<String>) -> Result<(), String> {
        let before = shown(&given.words);
        let form = self.time_form.as_deref().unwrap_or("time");
        let limit = amounts::forms(most).remove(form).unwrap_or_else(|| amounts::time(most));
        let mut is_cut = false;
        given.change(&mut |name, value| {
            if !self.time.contains(name) {
                return Ok(None);
            }
            let asked = self.seconds(value).ok_or_else(|| format!("cannot read the time in {before}"))?;
            let is_over = asked.is_none_or(|asked| asked > most);
            is_cut |= is_over;
            Ok(is_over.then(|| limit.clone()))
        })?;
        if is_cut {
            remarks.push(format!("{before} is reduced to {limit}, the most that this site allows"));
        }
        Ok(())
    }

    fn named(&self, name: &String, value: &str, rules: &Rules) -> Result<(), String> {
        for (options, allowed, what) in [
            (&self.partition, &rules.partitions, "partition"),
            (&self.account, &rules.accounts, "account"),
            (&self.qos, &rules.qos, "quality of service"),
        ] {
            if options.contains(name)
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

    /// Refuses an option that could hold a limited amount that cannot be parsed.
    fn refuse_opaque(&self, given: &ParsedOption, rules: &Rules) -> Result<(), String> {
        for (options, bounded, what) in [
            (&self.opaque.time, rules.most_time.is_some(), "the time of jobs"),
            (&self.opaque.nodes, rules.most_nodes.is_some(), "the number of nodes"),
            (&self.opaque.memory, rules.most_memory.is_some(), "the memory of jobs"),
            (&self.opaque.partition, rules.partitions.is_some(), "the queues"),
        ] {
            if bounded && given.amounts().any(|(name, _)| options.contains(name)) {
                return Err(format!(
                    "{} cannot be used here: this site limits {what}, and Nunbird cannot \
                     determine what the option asks for",
                    shown(&given.words)
                ));
            }
        }
        Ok(())
    }
}
