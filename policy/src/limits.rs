//! What a job may use, and what its user may ask for.
//!
//! The site's `[limits.NAME]` gives each amount and how far users may go. What users ask for comes from the CI variables
//! `NUNBIRD_MEMORY`, `NUNBIRD_CPUS` and `NUNBIRD_PIDS`: strangers' text, parsed strictly. `nunbird-auth` calls [`Limits::asked`]
//! with privilege, before the job is admitted.

use crate::amount;
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
    /// What happens to those who ask for more.
    pub above: Above,
    /// Whether a job whose limits cannot be put in force is refused.
    pub require: bool,
    /// By which control groups.
    pub way: LimitsWay,
    /// Limits of each process, by setrlimit(2).
    pub rlimits: Rlimits,
    /// How processes stand against others.
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

/// What happens to those who ask for more than the maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Above {
    /// The job is refused.
    #[default]
    Refuse,
    /// It gets the maximum and is told so.
    Clamp,
}

/// By which control groups limits are put in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LimitsWay {
    /// Version 2 where it has the controllers, else version 1.
    #[default]
    Auto,
    /// Version 2, below the runner's service, whose unit has `Delegate=yes`.
    Delegated,
    /// Version 1.
    Separate,
    /// By transient units of systemd, in `nunbird.slice`.
    Scope,
}

impl LimitsWay {
    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            LimitsWay::Auto => "auto",
            LimitsWay::Delegated => "delegated",
            LimitsWay::Separate => "v1",
            LimitsWay::Scope => "scope",
        }
    }
}

/// One of the three variables, and the amount it is about.
struct Wish {
    variable: &'static str,
    what: &'static str,
    parse: fn(&str) -> Option<u64>,
    text: fn(u64) -> String,
    form: &'static str,
}

const MEMORY: Wish = Wish {
    variable: "NUNBIRD_MEMORY",
    what: "memory",
    parse: |text| amount::bytes(text).filter(|bytes| *bytes >= LEAST_MEMORY),
    text: amount::text,
    form: "write a whole number from 4MiB with KiB, MiB, GiB or TiB, such as 4GiB",
};
const CPUS: Wish = Wish {
    variable: "NUNBIRD_CPUS",
    what: "processors",
    parse: cpus,
    text: cpus_text,
    form: "write a number from 0.01 to 100000 with at most three decimals, such as 1.5",
};
const PIDS: Wish = Wish {
    variable: "NUNBIRD_PIDS",
    what: "processes",
    parse: pids,
    text: |n| n.to_string(),
    form: "write a whole number from 10 to 4194304",
};

/// With less the launcher itself would not start.
pub(crate) const LEAST_MEMORY: u64 = 4 << 20;
/// `PID_MAX_LIMIT` of the kernel.
const MOST_PIDS: u64 = 4 << 20;

/// Why a user's wish is not granted, in words for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotGranted(pub String);

impl Limits {
    /// The job's amounts, with a line for the user on each wish.
    ///
    /// # Errors
    /// A wish that is no amount, is not the user's to have, or is above the maximum where the site refuses that. `variable`
    /// gives the value of a CI variable, or what is wrong with it.
    pub fn asked(
        &self,
        mut variable: impl FnMut(&str) -> Result<Option<String>, NotGranted>,
    ) -> Result<(Amounts, Vec<String>), NotGranted> {
        let mut amounts = self.amounts;
        let mut told = Vec::new();
        let Maximum { memory, cpu, pids } = self.maximum;
        let wishes = [
            (MEMORY, &mut amounts.memory, memory),
            (CPUS, &mut amounts.cpu, cpu),
            (PIDS, &mut amounts.pids, pids),
        ];
        for (wish, amount, maximum) in wishes {
            if let Some(text) = variable(wish.variable)? {
                *amount = Some(self.grant(&wish, &text, maximum, &mut told)?);
            }
        }
        Ok((amounts, told))
    }

    fn grant(
        &self,
        wish: &Wish,
        text: &str,
        maximum: Option<u64>,
        told: &mut Vec<String>,
    ) -> Result<u64, NotGranted> {
        let Wish { variable, what, parse, text: show, form } = wish;
        let Some(asked) = parse(text) else {
            let text = nunbird_handover::Untrusted(text);
            return Err(NotGranted(format!("{variable} is `{text}`, which is no amount of {what}; {form}")));
        };
        let Some(most) = maximum else {
            return Err(NotGranted(format!("{variable} is set, and this site lets jobs ask for no {what}")));
        };
        if asked <= most {
            told.push(format!("{variable}: {} as asked for", show(asked)));
            return Ok(asked);
        }
        match self.above {
            Above::Refuse => Err(NotGranted(format!(
                "{variable} asks for {}, and {} is the most that this site gives",
                show(asked),
                show(most)
            ))),
            Above::Clamp => {
                told.push(format!(
                    "{variable}: {} instead of {}, the most that this site gives",
                    show(most),
                    show(asked)
                ));
                Ok(most)
            }
        }
    }
}

/// Thousandths of a processor from `2` or `1.5`.
pub(crate) fn cpus(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 3 || whole.len() > 6 {
        return None;
    }
    let thousandths = format!("{whole}{part:0<3}").parse::<u64>().ok()?;
    (10..=100_000_000).contains(&thousandths).then_some(thousandths)
}

/// As [`cpus`] reads it.
pub fn cpus_text(thousandths: u64) -> String {
    let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Processes and threads: what the launcher and a shell need, at least.
pub(crate) fn pids(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| plain && (10..=MOST_PIDS).contains(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(above: Above) -> Limits {
        Limits {
            name: "small".to_owned(),
            amounts: Amounts { memory: Some(1 << 30), cpu: Some(1000), ..Amounts::default() },
            maximum: Maximum { memory: Some(4 << 30), cpu: Some(2000), pids: None },
            above,
            require: true,
            way: LimitsWay::Auto,
            rlimits: Rlimits::default(),
            standing: Standing::default(),
            disks: Vec::new(),
        }
    }

    fn ask(above: Above, name: &str, value: &str) -> Result<(Amounts, Vec<String>), NotGranted> {
        limits(above).asked(|asked| Ok((asked == name).then(|| value.to_owned())))
    }

    #[test]
    fn a_wish_within_the_maximum_is_granted_and_told() {
        let (amounts, told) = ask(Above::Refuse, "NUNBIRD_MEMORY", "4GiB").expect("granted");
        assert_eq!((amounts.memory, amounts.cpu, amounts.pids), (Some(4 << 30), Some(1000), None));
        assert_eq!(told, ["NUNBIRD_MEMORY: 4GiB as asked for"]);
        let (amounts, _) = ask(Above::Refuse, "NUNBIRD_CPUS", "0.25").expect("granted");
        assert_eq!(amounts.cpu, Some(250));
    }

    #[test]
    fn a_wish_above_the_maximum_is_refused_or_clamped_as_the_site_says() {
        let refused = ask(Above::Refuse, "NUNBIRD_CPUS", "2.001").expect_err("refused");
        assert_eq!(refused.0, "NUNBIRD_CPUS asks for 2.001, and 2 is the most that this site gives");
        let (amounts, told) = ask(Above::Clamp, "NUNBIRD_MEMORY", "5GiB").expect("clamped");
        assert_eq!(amounts.memory, Some(4 << 30));
        assert_eq!(told, ["NUNBIRD_MEMORY: 4GiB instead of 5GiB, the most that this site gives"]);
    }

    #[test]
    fn what_is_no_amount_or_not_the_users_is_refused_in_both_ways() {
        for above in [Above::Refuse, Above::Clamp] {
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
    fn amounts_are_written_as_they_are_read() {
        for (text, value) in [("1.5", 1500), ("2", 2000), ("0.01", 10), ("10", 10_000), ("0.125", 125)] {
            assert_eq!((cpus(text), cpus_text(value).as_str()), (Some(value), text));
        }
        assert_eq!(
            (pids("9"), pids("10"), pids("4194304"), pids("4194305")),
            (None, Some(10), Some(4 << 20), None)
        );
    }
}
