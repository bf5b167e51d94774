//! What `nunbird-auth` and `nunbird-validate` have to say to each other about the site's validation program.
//!
//! The order lies in a sealed memory file, the program is open, and the report comes through a pipe, up to its end. Both programs come from one
//! build, and both messages begin with the [`Version`].

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use nunbird_wire::{Malformed, Message, Version, choice, layout};
use std::ffi::CString;

/// The number of the order in `nunbird-validate`.
pub const ORDER_FD: i32 = 3;
/// The number of the validation program, open for reading.
pub const PROGRAM_FD: i32 = 4;
/// The number of the pipe for the report.
pub const REPORT_FD: i32 = 5;
/// The most that the program may print on each of its outputs, in bytes.
pub const MAX_OUTPUT: usize = 64 << 10;
/// The longest report, in bytes: both outputs, and a sentence.
pub const MAX_REPORT: usize = 2 * MAX_OUTPUT + (16 << 10);
/// The longest order, in bytes: words as long as the decider's request, and every group that an account can have.
pub const MAX_ORDER: usize = 1 << 20;

/// The account that the program runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Whether the process has to become it. Without privilege it is this account already.
    pub change: bool,
}

/// A call of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Of this layout.
    pub version: Version,
    /// SHA-256 of its bytes, in hexadecimal, where the site names it.
    pub sha256: Option<String>,
    /// As whom it runs.
    pub account: Account,
    /// Its arguments, its name among them.
    pub argv: Vec<CString>,
    /// Its whole environment.
    pub environment: Vec<CString>,
    /// How long it may run.
    pub seconds: u64,
}

/// What became of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Of this layout.
    pub version: Version,
    /// What it said, or why it could not be run, for the admin.
    pub outcome: Result<Said, String>,
}

/// What it printed, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Standard output.
    pub output: Vec<u8>,
    /// Standard error, up to the limit.
    pub errors: Vec<u8>,
    /// How it ended.
    pub end: End,
}

/// The end of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// By itself, with this exit code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// It did not end in time.
    Late,
    /// It printed more than [`MAX_OUTPUT`].
    TooLong,
    /// Its pipes or its process could not be read.
    Failed(String),
}

layout!(Account { uid, gid, groups, change });
layout!(Order { version, sha256, account, argv, environment, seconds });
choice!(End { 0 => Exited(code), 1 => Killed(signal), 2 => Late, 3 => TooLong, 4 => Failed(why) });
layout!(Said { output, errors, end });
layout!(Report { version, outcome });

impl Report {
    /// A report of this version.
    pub fn new(outcome: Result<Said, String>) -> Self {
        Report { version: Version, outcome }
    }

    /// Reads a report.
    ///
    /// # Errors
    /// [`Malformed`] for anything else, and for an output longer than [`MAX_OUTPUT`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let report = Self::from_bytes(bytes)?;
        match &report.outcome {
            Ok(said) if said.output.len().max(said.errors.len()) > MAX_OUTPUT => Err(Malformed),
            _ => Ok(report),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Account, End, MAX_ORDER, MAX_OUTPUT, MAX_REPORT, Order, Report, Said};
    use nunbird_wire::{FORMAT_VERSION, Malformed, Message, Version};

    /// The most groups of an account (`NGROUPS_MAX`).
    const MAX_GROUPS: usize = 65_536;

    fn said(end: End) -> Report {
        Report::new(Ok(Said { output: b"{}".to_vec(), errors: vec![0xff], end }))
    }

    #[test]
    fn orders_and_reports_are_read_as_they_were_written_and_no_byte_may_be_missing_or_too_many() {
        let account = Account { uid: 990, gid: 991, groups: vec![991, 992], change: true };
        let order = Order {
            version: Version,
            sha256: Some("0a".to_owned()),
            account,
            argv: vec![c"/etc/validate".to_owned(), c"alice".to_owned()],
            environment: vec![c"A=1".to_owned()],
            seconds: 60,
        };
        let bytes = order.to_bytes();
        assert_eq!(Order::from_bytes(&bytes), Ok(order));
        for end in 0..bytes.len() {
            assert_eq!(Order::from_bytes(&bytes[..end]), Err(Malformed), "{end}");
        }
        let ends = [End::Exited(-3), End::Killed(9), End::Late, End::TooLong, End::Failed("why".to_owned())];
        for report in ends.map(said).into_iter().chain([Report::new(Err("no".to_owned()))]) {
            let bytes = report.to_bytes();
            assert_eq!(Report::parse(&[&bytes[..], b"!"].concat()), Err(Malformed));
            for end in 0..bytes.len() {
                assert_eq!(Report::parse(&bytes[..end]), Err(Malformed), "{end}");
            }
            assert_eq!(Report::parse(&bytes), Ok(report));
        }
    }

    #[test]
    fn another_format_a_kind_that_there_is_not_and_too_long_an_output_are_malformed() {
        let mut bytes = said(End::Late).to_bytes();
        assert_eq!(bytes[..4], FORMAT_VERSION.to_le_bytes());
        for (at, byte) in [(0, 2), (4, 2), (bytes.len() - 1, 5)] {
            let kept = std::mem::replace(&mut bytes[at], byte);
            assert_eq!(Report::parse(&bytes), Err(Malformed), "{at}");
            bytes[at] = kept;
        }
        for (output, errors) in [(MAX_OUTPUT, 0), (0, MAX_OUTPUT), (MAX_OUTPUT + 1, 0), (0, MAX_OUTPUT + 1)] {
            let long =
                Report::new(Ok(Said { output: vec![0; output], errors: vec![0; errors], end: End::Late }));
            let read = Report::parse(&long.to_bytes());
            assert_eq!(read.is_ok(), output.max(errors) <= MAX_OUTPUT, "{output} {errors}");
        }
    }

    #[test]
    fn the_longest_order_and_the_longest_report_fit_and_nothing_that_is_much_longer() {
        let account = Account { uid: 990, gid: 991, groups: vec![7; MAX_GROUPS], change: true };
        // As long as a request of the decider's may be.
        let words = vec![std::ffi::CString::new(vec![b'x'; 127 << 10]).expect("a word")];
        let order = Order {
            version: Version,
            sha256: None,
            account,
            argv: words.clone(),
            environment: words,
            seconds: 60,
        };
        let length = order.to_bytes().len();
        assert!(length <= MAX_ORDER && MAX_ORDER < 3 * length, "{length} of {MAX_ORDER}");
        let said = Said {
            output: vec![0; MAX_OUTPUT],
            errors: vec![0; MAX_OUTPUT],
            end: End::Failed("why".repeat(4000)),
        };
        let length = Report::new(Ok(said)).to_bytes().len();
        assert!(length <= MAX_REPORT && MAX_REPORT < length + (8 << 10), "{length} of {MAX_REPORT}");
    }
}
