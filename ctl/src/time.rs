//! Times, as admins write them and as output shows them.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use nunbird_policy::read_duration;

/// In seconds.
const DAY: u64 = 86_400;

/// A time that an admin writes: a time ago, `today` or `yesterday` in UTC, a date, an RFC 3339
/// time, or seconds since the epoch.
///
/// # Errors
/// The accepted forms.
pub(crate) fn time(text: &str) -> Result<u64, String> {
    let wrong = || {
        "write 1h30m, 2d, today, yesterday, 2026-11-21, 2026-11-21T10:00:00Z or seconds since the epoch"
            .to_owned()
    };
    let now = u64::try_from(Timestamp::now().as_second()).map_err(|_| wrong())?;
    if let Some(ago) = read_duration(text) {
        return Ok(now.saturating_sub(ago));
    }
    match text {
        "today" => return Ok(now / DAY * DAY),
        "yesterday" => return Ok((now / DAY).saturating_sub(1) * DAY),
        _ => {}
    }
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(seconds);
    }
    let stamp = match text.parse::<Timestamp>() {
        Ok(stamp) => stamp,
        Err(_) => {
            let date: Date = text.parse().map_err(|_| wrong())?;
            date.to_zoned(TimeZone::UTC).map_err(|_| wrong())?.timestamp()
        }
    };
    u64::try_from(stamp.as_second()).map_err(|_| wrong())
}

/// A time in seconds since the epoch, as events have it.
pub(crate) fn moment(at: u64) -> String {
    let time = i64::try_from(at).ok().and_then(|at| Timestamp::from_second(at).ok());
    time.map_or_else(|| at.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(time("1970-01-02"), Ok(86_400));
        assert_eq!(time("2026-11-21T10:00:00Z"), Ok(1_795_255_200));
        assert_eq!(time("77"), Ok(77));
        let (today, yesterday) = (time("today").expect("today"), time("yesterday").expect("yesterday"));
        assert!(today % 86_400 == 0 && today - yesterday == 86_400);
        let ago = |text: &str| super::Timestamp::now().as_second().unsigned_abs() - time(text).expect(text);
        assert!((3600..3602).contains(&ago("1h")) && (172_800..172_802).contains(&ago("2d")));
        assert!((5400..5402).contains(&ago("1h30m")) && (1_209_600..1_209_602).contains(&ago("2w")));
        for bad in ["tomorrow", "1y", "h", "2026-13-01", "", "-5"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
