//! What a job may use, and what its user may ask for.
//!
//! The site's `[limits.NAME]` gives each amount and how far users may go. What users ask for comes from the CI variables
//! `NUNBIRD_MEMORY`, `NUNBIRD_CPUS` and `NUNBIRD_PIDS`: strangers' text, parsed strictly. `nunbird-auth` calls [`Limits::asked`]
//! with privilege, before the job is admitted.

use crate::amount::{amount_text, bytes, cpus, cpus_text, whole};
use nunbird_handover::{Amounts, DiskLimit, Rlimits, Standing};

/// A site's limits for some jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The NAME of `[limits.NAME]`.
    pub name: String,
    /// What a job gets that asks for nothing.
    pub amounts: Amounts,
    /// The most that users may ask for; what has no maximum is not theirs to ask for.
    pub maximum: Maximum,
    /// What happens to a job that asks for more.
    pub on_excess: OnExcess,
    /// Whether a job is refused when its limits cannot be set.
    pub require: bool,
    /// How control groups are made.
    pub cgroup_driver: CgroupDriver,
    /// Limits of each process, by setrlimit(2).
    pub rlimits: Rlimits,
    /// Priority against other processes.
    pub standing: Standing,
    /// Bandwidth and operations of disks; users have no say in them.
    pub disks: Vec<DiskLimit>,
}

/// The most that users may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Maximum {
    /// Bytes.
    pub memory: Option<u64>,
    /// Thousandths of a processor.
    pub cpu: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// What happens to a job that asks for more than the maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnExcess {
    /// It is refused.
    #[default]
    Refuse,
    /// It gets the maximum, and its log says so.
    Clamp,
}

/// How control groups are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupDriver {
    /// Version 2 where it has the controllers, else version 1.
    #[default]
    Auto,
    /// Directories of version 2, below the runner's service, whose unit has `Delegate=yes`.
    CgroupfsV2,
    /// Directories of version 1.
    CgroupfsV1,
    /// Transient units of systemd, in `nunbird.slice`.
    Systemd,
}

impl CgroupDriver {
    /// Its name in messages to `nunbird-auth` and in job records.
    pub fn in_record(self) -> &'static str {
        match self {
            CgroupDriver::Auto => "auto",
            CgroupDriver::CgroupfsV2 => "delegated",
            CgroupDriver::CgroupfsV1 => "v1",
            CgroupDriver::Systemd => "scope",
        }
    }
}

impl Limits {
    /// A set of limits that limits nothing.
    pub(crate) fn unlimited(name: &str) -> Self {
        Limits {
            name: name.to_owned(),
            amounts: Amounts::default(),
            maximum: Maximum::default(),
            on_excess: OnExcess::default(),
            require: true,
            cgroup_driver: CgroupDriver::default(),
            rlimits: Rlimits::default(),
            standing: Standing::default(),
            disks: Vec::new(),
        }
    }
}

/// One of the three variables, and the amount it is about.
struct UserRequest {
    variable: &'static str,
    what: &'static str,
    parse: fn(&str) -> Option<u64>,
    text: fn(u64) -> String,
    form: &'static str,
}

const MEMORY: UserRequest = UserRequest {
    variable: "NUNBIRD_MEMORY",
    what: "memory",
    parse: |text| bytes(text).filter(|bytes| *bytes >= LEAST_MEMORY),
    text: amount_text,
    form: "write a whole number with K, M, G or T, from 4MiB, such as 4G",
};
const CPUS: UserRequest = UserRequest {
    variable: "NUNBIRD_CPUS",
    what: "processors",
    parse: cpus,
    text: cpus_text,
    form: "write a number from 0.01 to 100000 with at most three decimals, such as 1.5",
};
const PIDS: UserRequest = UserRequest {
    variable: "NUNBIRD_PIDS",
    what: "processes",
    parse: pids,
    text: |n| n.to_string(),
    form: "write a whole number from 10 to 4194304",
};

/// With less the launcher itself would not start.
pub(crate) const LEAST_MEMORY: u64 = 4 << 20;
/// `PID_MAX_LIMIT` of the kernel.
pub(crate) const MOST_PIDS: u64 = 4 << 20;

/// Why a user's request is refused. The user reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRefused(pub String);

impl Limits {
    /// The job's amounts, with a line for the user on each request.
    ///
    /// # Errors
    /// A request that is not an amount, that the site does not allow, or that exceeds the maximum where the site refuses that. `variable`
    /// gives the value of a CI variable, or what is wrong with it.
    pub fn asked(
        &self,
        mut variable: impl FnMut(&str) -> Result<Option<String>, RequestRefused>,
    ) -> Result<(Amounts, Vec<String>), RequestRefused> {
        let mut amounts = self.amounts;
        let mut notes = Vec::new();
        let Maximum { memory, cpu, pids } = self.maximum;
        let requests = [
            (MEMORY, &mut amounts.memory, memory),
            (CPUS, &mut amounts.cpu, cpu),
            (PIDS, &mut amounts.pids, pids),
        ];
        for (request, amount, maximum) in requests {
            if let Some(text) = variable(request.variable)? {
                *amount = Some(self.grant(&request, &text, maximum, &mut notes)?);
            }
        }
        Ok((amounts, notes))
    }

    fn grant(
        &self,
        request: &UserRequest,
        text: &str,
        maximum: Option<u64>,
        notes: &mut Vec<String>,
    ) -> Result<u64, RequestRefused> {
        let UserRequest { variable, what, parse, text: show, form } = request;
        let Some(asked) = parse(text) else {
            let text = nunbird_handover::Untrusted(text);
            return Err(RequestRefused(format!(
                "{variable} is `{text}`, which is not an amount of {what}; {form}"
            )));
        };
        let Some(most) = maximum else {
            return Err(RequestRefused(format!(
                "{variable} is set, and this site lets jobs ask for no {what}"
            )));
        };
        if asked <= most {
            notes.push(format!("{variable}: {} as asked for", show(asked)));
            return Ok(asked);
        }
        match self.on_excess {
            OnExcess::Refuse => Err(RequestRefused(format!(
                "{variable} asks for {}, and {} is the most that this site gives",
                show(asked),
                show(most)
            ))),
            OnExcess::Clamp => {
                notes.push(format!(
                    "{variable}: {} instead of {}, the most that this site gives",
                    show(most),
                    show(asked)
                ));
                Ok(most)
            }
        }
    }
}

/// Processes and threads: what the launcher and a shell need, at least.
pub(crate) fn pids(text: &str) -> Option<u64> {
    whole(text).filter(|n| (10..=MOST_PIDS).contains(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(on_excess: OnExcess) -> Limits {
        Limits {
            amounts: Amounts { memory: Some(1 << 30), cpu: Some(1000), ..Amounts::default() },
            maximum: Maximum { memory: Some(4 << 30), cpu: Some(2000), pids: None },
            on_excess,
            ..Limits::unlimited("small")
        }
    }

    fn ask(above: OnExcess, name: &str, value: &str) -> Result<(Amounts, Vec<String>), RequestRefused> {
        limits(above).asked(|asked| Ok((asked == name).then(|| value.to_owned())))
    }

    #[test]
    fn a_request_within_the_maximum_is_granted_and_shown() {
        let (amounts, notes) = ask(OnExcess::Refuse, "NUNBIRD_MEMORY", "4GiB").expect("granted");
        assert_eq!((amounts.memory, amounts.cpu, amounts.pids), (Some(4 << 30), Some(1000), None));
        assert_eq!(notes, ["NUNBIRD_MEMORY: 4GiB as asked for"]);
        let (amounts, _) = ask(OnExcess::Refuse, "NUNBIRD_CPUS", "0.25").expect("granted");
        assert_eq!(amounts.cpu, Some(250));
    }

    #[test]
    fn a_request_above_the_maximum_is_refused_or_clamped_as_the_site_configures() {
        let refused = ask(OnExcess::Refuse, "NUNBIRD_CPUS", "2.001").expect_err("refused");
        assert_eq!(refused.0, "NUNBIRD_CPUS asks for 2.001, and 2 is the most that this site gives");
        let (amounts, notes) = ask(OnExcess::Clamp, "NUNBIRD_MEMORY", "5GiB").expect("clamped");
        assert_eq!(amounts.memory, Some(4 << 30));
        assert_eq!(notes, ["NUNBIRD_MEMORY: 4GiB instead of 5GiB, the most that this site gives"]);
    }

    #[test]
    fn what_is_no_amount_or_not_the_users_is_refused_in_both_ways() {
        for above in [OnExcess::Refuse, OnExcess::Clamp] {
            for (name, value) in [
                ("NUNBIRD_MEMORY", "-1"),
                ("NUNBIRD_MEMORY", "1e99"),
                ("NUNBIRD_MEMORY", "∞"),
                ("NUNBIRD_MEMORY", "99999999999TiB"),
                ("NUNBIRD_MEMORY", "4"),
                ("NUNBIRD_MEMORY", "0GiB"),
                ("NUNBIRD_CPUS", "0"),
                ("NUNBIRD_CPUS", "+1"),
                ("NUNBIRD_CPUS", "1."),
                ("NUNBIRD_CPUS", ".5"),
                ("NUNBIRD_CPUS", "1e3"),
                ("NUNBIRD_CPUS", "1.2345"),
                ("NUNBIRD_PIDS", "50"),
                ("NUNBIRD_PIDS", "x"),
            ] {
                assert!(ask(above, name, value).is_err(), "{name}={value}");
            }
        }
    }

    #[test]
    fn processes_have_bounds() {
        assert_eq!(
            (pids("9"), pids("10"), pids("4194304"), pids("4194305")),
            (None, Some(10), Some(4 << 20), None)
        );
    }
}
