//! Contenders that are measured in turns, A B C A B C: what else the machine does slows all of them alike. The first turns are not counted.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use serde::Serialize;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// What has passed: with `NUNBIRD_BENCH_CLOCK=processor` what all children have used of the processors, for a machine that does other things as
/// well. What runs at once then counts twice, and waiting does not count.
pub(crate) fn now() -> Duration {
    if std::env::var_os("NUNBIRD_BENCH_CLOCK").is_some_and(|clock| clock == "processor") {
        let used = getrusage(UsageWho::RUSAGE_CHILDREN).expect("getrusage");
        let time = |of: TimeVal| Duration::from_micros(u64::try_from(of.num_microseconds()).unwrap_or(0));
        return time(used.user_time()) + time(used.system_time());
    }
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    BEGUN.get_or_init(Instant::now).elapsed()
}

/// Turns that warm up caches and are forgotten.
const WARM_UP: usize = 10;

/// One of those that are compared. An error is why it cannot take part.
pub(crate) struct Contender<'a> {
    pub(crate) name: String,
    pub(crate) turn: Box<dyn FnMut() -> Result<Duration, String> + 'a>,
}

impl<'a> Contender<'a> {
    pub(crate) fn new(name: impl Into<String>, turn: impl FnMut() -> Result<Duration, String> + 'a) -> Self {
        Contender { name: name.into(), turn: Box::new(turn) }
    }
}

/// What was measured of one: all values in the order of the turns, none left out.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// In ms, less what starting a program that does nothing takes in the same way.
    pub(crate) values: Vec<f64>,
    pub(crate) p10: f64,
    pub(crate) median: f64,
    pub(crate) p90: f64,
    /// Against the one that is named as the peer: median of the ratios of all turns, and their spread.
    pub(crate) ratio: Option<[f64; 3]>,
    /// Why there are no values.
    pub(crate) missing: Option<String>,
}

/// The value below which this part of all lies.
pub(crate) fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1) as f64;
    sorted.get((last * part).round() as usize).copied().unwrap_or(f64::NAN)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Measures all in turns. The first contender is the program that does nothing, the second the peer.
pub(crate) fn in_turns(rounds: usize, mut all: Vec<Contender<'_>>) -> Vec<Row> {
    let mut values: Vec<Result<Vec<f64>, String>> = all.iter().map(|_| Ok(Vec::new())).collect();
    for round in 0..WARM_UP + rounds {
        for (contender, values) in all.iter_mut().zip(&mut values) {
            let Ok(times) = values else { continue };
            match (contender.turn)() {
                Ok(time) if round >= WARM_UP => times.push(ms(time)),
                Ok(_) => {}
                Err(why) => *values = Err(why),
            }
        }
    }
    let nothing = values.first().and_then(|first| first.as_ref().ok()).map_or(0.0, |all| quantile(all, 0.5));
    let less = |all: &[f64]| all.iter().map(|value| (value - nothing).max(0.0)).collect::<Vec<f64>>();
    let peer = values.get(1).and_then(|peer| peer.as_ref().ok()).map(|all| less(all)).unwrap_or_default();
    let row = |(contender, values): (&Contender<'_>, &Result<Vec<f64>, String>)| {
        let (values, missing) = match values {
            Ok(values) => (less(values), None),
            Err(why) => (Vec::new(), Some(why.clone())),
        };
        let ratios: Vec<f64> =
            values.iter().zip(&peer).filter(|(_, peer)| **peer > 0.0).map(|(own, peer)| own / peer).collect();
        let ratio = (!ratios.is_empty()).then(|| [0.1, 0.5, 0.9].map(|part| quantile(&ratios, part)));
        let [p10, median, p90] = [0.1, 0.5, 0.9].map(|part| quantile(&values, part));
        Row { name: contender.name.clone(), values, p10, median, p90, ratio, missing }
    };
    all.iter().zip(&values).skip(1).map(row).collect()
}

/// The median time of some work, in ms.
pub(crate) fn median(rounds: usize, mut work: impl FnMut()) -> f64 {
    let values: Vec<f64> = (0..rounds)
        .map(|_| {
            let begun = Instant::now();
            work();
            ms(begun.elapsed())
        })
        .collect();
    quantile(&values, 0.5)
}
