//! Times as schedulers print and read them, in UTC.

use nix::libc;

/// Year, month, day, hour, minute, second, and the weekday from Sunday on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Date {
    year: u64,
    month: usize,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    weekday: usize,
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

impl Date {
    /// Of seconds since the epoch, by the civil calendar.
    pub(super) fn of(epoch: u64) -> Date {
        let (days, rest) = (epoch / 86_400, epoch % 86_400);
        let leap =
            |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let (mut year, mut left) = (1970, days);
        while left >= 365 + u64::from(leap(year)) {
            left -= 365 + u64::from(leap(year));
            year += 1;
        }
        let mut month = 0;
        let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        while left >= lengths[month] {
            left -= lengths[month];
            month += 1;
        }
        Date {
            year,
            month,
            day: left + 1,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
            // The epoch was a Thursday.
            weekday: usize::try_from((days + 4) % 7).unwrap_or(0),
        }
    }

    /// `Sat Nov 21 03:04:59 2026`, as ctime(3).
    pub(super) fn long(self) -> String {
        format!("{} {}", self.without_year(), self.year)
    }

    /// `Sat Nov 21 03:04:59`.
    pub(super) fn without_year(self) -> String {
        let Date { day, hour, minute, second, .. } = self;
        format!("{} {} {day:2} {hour:02}:{minute:02}:{second:02}", DAYS[self.weekday], MONTHS[self.month])
    }

    /// `Sat Nov 21 at 03:04`.
    pub(super) fn at(self) -> String {
        let Date { day, hour, minute, .. } = self;
        format!("{} {} {day:02} at {hour:02}:{minute:02}", DAYS[self.weekday], MONTHS[self.month])
    }

    /// `Nov 21 03:23`.
    pub(super) fn short(self) -> String {
        let Date { day, hour, minute, .. } = self;
        format!("{} {day:2} {hour:02}:{minute:02}", MONTHS[self.month])
    }

    /// `11/21/2026 02:55:18`.
    pub(super) fn american(self) -> String {
        let Date { year, day, hour, minute, second, .. } = self;
        format!("{:02}/{day:02}/{year} {hour:02}:{minute:02}:{second:02}", self.month + 1)
    }

    /// `2026-11-21T02:55:18`.
    pub(super) fn iso(self) -> String {
        let Date { year, day, hour, minute, second, .. } = self;
        format!("{year}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}", self.month + 1)
    }
}

/// `hh:mm:ss`.
pub(super) fn hms(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Reads `ss`, `mm:ss` or `hh:mm:ss`.
pub(super) fn seconds(text: &str) -> Option<u64> {
    text.split(':').try_fold(0_u64, |sum, part| Some(sum.checked_mul(60)? + part.parse::<u64>().ok()?))
}

/// A signal by its name, with or without `SIG`, or its number.
pub(super) fn signal(text: &str) -> Option<i32> {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let table = [
        ("HUP", libc::SIGHUP),
        ("INT", libc::SIGINT),
        ("QUIT", libc::SIGQUIT),
        ("KILL", libc::SIGKILL),
        ("USR1", libc::SIGUSR1),
        ("USR2", libc::SIGUSR2),
        ("ALRM", libc::SIGALRM),
        ("TERM", libc::SIGTERM),
        ("CONT", libc::SIGCONT),
        ("XCPU", libc::SIGXCPU),
    ];
    let named = table.into_iter().find(|(known, _)| *known == name).map(|(_, number)| number);
    named.or_else(|| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::{Date, seconds};

    #[test]
    fn dates_are_those_of_the_transcripts() {
        let date = Date::of(1_795_230_299);
        assert_eq!(date.long(), "Sat Nov 21 03:04:59 2026");
        assert_eq!(date.iso(), "2026-11-21T03:04:59");
        assert_eq!(date.american(), "11/21/2026 03:04:59");
        assert_eq!(Date::of(951_782_400).iso(), "2000-02-29T00:00:00");
    }

    #[test]
    fn times_have_one_to_three_parts() {
        assert_eq!((seconds("90"), seconds("2:00"), seconds("1:00:01")), (Some(90), Some(120), Some(3601)));
        assert_eq!((seconds("abc"), seconds("1:")), (None, None));
    }
}
