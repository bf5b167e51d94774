//! Dates in UTC, for what people and programs read: events, and lines of the job log.
//!
//! The calendar is the proleptic Gregorian one, whose 400 years have 146,097 days. Here for the decider and the launcher, which share no
//! other crate that is not linked into privileged programs.

/// A moment in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    date: (u64, u64, u64),
    time: (u64, u64, u64),
}

impl Moment {
    /// That of so many seconds since the epoch.
    #[must_use]
    pub fn of(seconds: u64) -> Self {
        // Years that begin in March put the leap day at their end.
        let days = seconds / 86_400 + 719_468;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let from_march = (5 * day + 2) / 153;
        let day = day - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = year + era * 400 + u64::from(month <= 2);
        let second = seconds % 86_400;
        Moment { date: (year, month, day), time: (second / 3600, second / 60 % 60, second % 60) }
    }

    /// As RFC 3339 has it.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let Moment { date: (year, month, day), time: (hour, minute, second) } = self;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }

    /// Date and time of day, to the minute.
    #[must_use]
    pub fn to_the_minute(self) -> String {
        let Moment { date: (year, month, day), time: (hour, minute, _) } = self;
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::Moment;

    #[test]
    fn seconds_become_the_calendars_date() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Moment::of(seconds).rfc3339(), text);
        }
        assert_eq!(Moment::of(1_700_000_000).to_the_minute(), "2023-11-14 22:13");
    }
}
