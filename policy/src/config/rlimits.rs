//! The keys of `[limits.NAME]` that are of each process: setrlimit(2), the nice value, the out-of-memory killer's score.
//!
//! Of limits.conf(5), `data` is left to `as` and `memory`; `rss`, `locks` and `maxlogins` say nothing to a kernel of today or
//! to a job; `sigpending` and `msgqueue` are of the account, whose other jobs and logins they would hit; `rtprio` and `nice`
//! (as a limit) let a user go before others, which needs a capability that the privileged program does not keep.

use super::reader::Section;
use super::values::{Values, number, size};
use nunbird_handover::{Rlimits, Standing, UNLIMITED};

const DAY: u64 = 86_400;

/// nunbird-session is started under the job's limits and refuses to begin with less, as nunbird-auth does
/// (`nunbird_sys::rlimits`).
const LEAST_FILES: u64 = 256;
/// With less, a program does not start, or a lookup of nunbird-session's fails in part.
const LEAST_ADDRESSES: u64 = 512 << 20;
const LEAST_STACK: u64 = 1 << 20;

/// What is set for each process.
pub(super) fn read(t: &mut Section<'_>) -> (Rlimits, Standing) {
    let timed = t.has("cpu_time");
    let rlimits = Rlimits {
        nofile: number(t, "nofile", LEAST_FILES, 1 << 30),
        nproc: number(t, "nproc", 10, 4 << 20),
        fsize: size_or_none(t, "fsize", 1 << 20),
        core: size_or_none(t, "core", 0),
        stack: size_or_none(t, "stack", LEAST_STACK),
        stack_hard: size_or_none(t, "stack_hard", LEAST_STACK),
        memlock: size_or_none(t, "memlock", 0),
        address_space: size_or_none(t, "as", LEAST_ADDRESSES),
        cpu_time: Some(t.seconds("cpu_time", DAY, 10..=36_500 * DAY)).filter(|_| timed),
    };
    let soft_above_hard = rlimits.stack.zip(rlimits.stack_hard);
    if soft_above_hard.is_some_and(|(soft, hard)| soft > hard && soft != UNLIMITED) {
        t.find(
            "`stack` is more than `stack_hard`, above which nobody gets",
            "raise `stack_hard`, or lower `stack`",
        );
    }
    let small = |n: Option<u64>| n.and_then(|n| u16::try_from(n).ok());
    let standing = Standing {
        nice: small(number(t, "nice", 0, 19)).and_then(|n| u8::try_from(n).ok()),
        oom_score_adj: small(number(t, "oom_score_adj", 0, 1000)),
    };
    (rlimits, standing)
}

/// An amount, or `unlimited`.
fn size_or_none(t: &mut Section<'_>, key: &'static str, least: u64) -> Option<u64> {
    let unlimited = t.peek_text(key) == Some("unlimited");
    if unlimited {
        return t.text(key).map(|_| UNLIMITED);
    }
    size(t, key, least)
}
