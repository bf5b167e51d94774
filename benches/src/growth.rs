//! How work grows with its input: the scenarios that `make bench-check` counts, in time.

use crate::measure::median;
use crate::report::Curve;
use nunbird_counts::SCENARIOS;

/// A curve for each scenario of more than one size.
pub(crate) fn curves() -> Vec<Curve> {
    let measured = SCENARIOS.iter().filter(|scenario| scenario.sizes.len() > 1);
    measured
        .map(|scenario| {
            let point = |size: &usize| {
                let mut work = (scenario.prepare)(*size);
                work();
                (*size, median(if *size > 1_000 { 20 } else { 200 }, work))
            };
            let points = scenario.sizes.iter().map(point).collect();
            Curve { name: scenario.name.to_owned(), unit: scenario.unit.to_owned(), points }
        })
        .collect()
}
