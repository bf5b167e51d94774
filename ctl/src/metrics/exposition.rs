//! Prometheus's text format, version 0.0.4 (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use nunbird_handover::Untrusted;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How many values are at most each bound, and all of them.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Histogram {
    /// By bound, not cumulative.
    within: Vec<u64>,
    count: u64,
    sum: u64,
}

impl Histogram {
    pub(super) fn observe(&mut self, bounds: &[u64], value: u64) {
        self.within.resize(bounds.len(), 0);
        if let Some(count) =
            bounds.iter().position(|bound| value <= *bound).and_then(|at| self.within.get_mut(at))
        {
            *count = count.saturating_add(1);
        }
        self.count = self.count.saturating_add(1);
        self.sum = self.sum.saturating_add(value);
    }
}

/// One sample: the end of its name, labels and value.
struct Sample {
    suffix: &'static str,
    labels: Vec<(String, String)>,
    value: String,
}

struct Family {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    samples: Vec<Sample>,
}

/// Families of samples, in the order in which they were added.
#[derive(Default)]
pub(super) struct Families(Vec<Family>);

impl Families {
    pub(super) fn counters(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[&str],
        series: &[(Vec<String>, u64)],
    ) {
        let samples =
            series.iter().map(|(values, count)| sample("", labels, values, None, count.to_string()));
        self.0.push(Family { name, help, kind: "counter", samples: samples.collect() });
    }

    /// Counters in thousandths of the unit.
    pub(super) fn thousandths(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[&str],
        series: &[(Vec<String>, u64)],
    ) {
        let shown = |value: u64| format!("{}.{:03}", value / 1000, value % 1000);
        let samples = series.iter().map(|(values, count)| sample("", labels, values, None, shown(*count)));
        self.0.push(Family { name, help, kind: "counter", samples: samples.collect() });
    }

    pub(super) fn histograms(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[&str],
        bounds: &[u64],
        series: &[(Vec<String>, Histogram)],
    ) {
        let mut samples = Vec::new();
        for (values, histogram) in series {
            let mut so_far = 0_u64;
            for (bound, count) in bounds.iter().zip(&histogram.within) {
                so_far = so_far.saturating_add(*count);
                samples.push(sample("_bucket", labels, values, Some(bound.to_string()), so_far.to_string()));
            }
            let count = histogram.count.to_string();
            samples.push(sample("_bucket", labels, values, Some("+Inf".to_owned()), count.clone()));
            samples.push(sample("_sum", labels, values, None, histogram.sum.to_string()));
            samples.push(sample("_count", labels, values, None, count));
        }
        self.0.push(Family { name, help, kind: "histogram", samples });
    }

    /// A gauge; one more sample where the family is there already.
    pub(super) fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, String)],
        value: u64,
    ) {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let sample = Sample { suffix: "", labels, value: value.to_string() };
        match self.0.iter_mut().find(|family| family.name == name) {
            Some(family) => family.samples.push(sample),
            None => self.0.push(Family { name, help, kind: "gauge", samples: vec![sample] }),
        }
    }

    /// The format itself. A family without samples is left out.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for family in self.0.iter().filter(|family| !family.samples.is_empty()) {
            let Family { name, help, kind, samples } = family;
            text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
            for Sample { suffix, labels, value } in samples {
                let labels: Vec<String> =
                    labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
                let labels =
                    if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
                text.push_str(&format!("{name}{suffix}{labels} {value}\n"));
            }
        }
        text
    }

    pub(super) fn machine(&self) -> Value {
        let samples = self.0.iter().flat_map(|family| {
            family.samples.iter().map(move |sample| {
                let labels: serde_json::Map<String, Value> =
                    sample.labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
                json!({ "name": format!("{}{}", family.name, sample.suffix), "labels": labels, "value": sample.value })
            })
        });
        json!({ "samples": samples.collect::<Vec<_>>() })
    }
}

fn sample(
    suffix: &'static str,
    names: &[&str],
    values: &[String],
    bound: Option<String>,
    value: String,
) -> Sample {
    let pairs = names.iter().zip(values).map(|(name, value)| ((*name).to_owned(), value.clone()));
    let labels = pairs.chain(bound.map(|bound| ("le".to_owned(), bound))).collect();
    Sample { suffix, labels, value }
}

/// A label's value: backslash, quote and line feed are special in the format, and others' text may deceive a terminal.
fn escaped(value: &str) -> String {
    Untrusted(value).to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::{Families, Histogram};

    #[test]
    fn a_histogram_is_cumulative_and_ends_with_all_values() {
        let mut histogram = Histogram::default();
        for value in [0, 1, 2, 11, 12] {
            histogram.observe(&[1, 10, 11], value);
        }
        let mut families = Families::default();
        families.histograms("h", "Help.", &["a"], &[1, 10, 11], &[(vec!["x".to_owned()], histogram)]);
        let expected = "# HELP h Help.\n# TYPE h histogram\n\
            h_bucket{a=\"x\",le=\"1\"} 2\nh_bucket{a=\"x\",le=\"10\"} 3\nh_bucket{a=\"x\",le=\"11\"} 4\nh_bucket{a=\"x\",le=\"+Inf\"} 5\n\
            h_sum{a=\"x\"} 26\nh_count{a=\"x\"} 5\n";
        assert_eq!(families.text(), expected);
    }

    #[test]
    fn labels_cannot_end_their_line_or_their_quotes() {
        let mut families = Families::default();
        let hostile = "a\"} 1\nevil 2 \\ \u{202e}\u{1b}[31m";
        families.counters("c", "Help.", &["a"], &[(vec![hostile.to_owned()], 1)]);
        families.counters("none", "Help.", &[], &[]);
        let text = families.text();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(
            !text.contains('\u{202e}') && !text.contains('\u{1b}') && text.contains("a\\\"} 1"),
            "{text}"
        );
    }
}
