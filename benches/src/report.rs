//! The report: a table on standard output, `target/bench/report.json`, and `target/bench/report.html` with plots, which needs no other file.

use crate::measure::Row;
use serde::Serialize;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Rows that were measured in turns.
#[derive(Serialize)]
pub(crate) struct Group {
    pub(crate) title: String,
    /// What ratios are to.
    pub(crate) peer: String,
    pub(crate) rows: Vec<Row>,
}

/// Time by size.
#[derive(Serialize)]
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) unit: String,
    /// Size and ms.
    pub(crate) points: Vec<(usize, f64)>,
}

/// One number.
#[derive(Serialize)]
pub(crate) struct Fact {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
    pub(crate) target: String,
}

impl Fact {
    /// As a row of a table.
    pub(crate) fn row(&self) -> String {
        format!("| {} | {:.2} {} | {} |", self.name, self.value, self.unit, self.target)
    }
}

/// All that was measured in one run.
#[derive(Serialize)]
pub(crate) struct Report {
    /// Kernel and processors.
    pub(crate) machine: String,
    /// Running processes for each processor at the end; above 1 the machine was busy with something else.
    pub(crate) load: f64,
    pub(crate) rounds: usize,
    pub(crate) groups: Vec<Group>,
    pub(crate) curves: Vec<Curve>,
    pub(crate) facts: Vec<Fact>,
}

/// Kernel and processors of this host.
pub(crate) fn machine() -> String {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let model = read("/proc/cpuinfo");
    let model = model
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("")
        .trim_start_matches(['\t', ':', ' ']);
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{count} × {model}, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}

/// The load of the last minute, for each processor.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    load / std::thread::available_parallelism().map_or(1, usize::from) as f64
}

impl Report {
    /// The tables, in Markdown.
    pub(crate) fn tables(&self) -> String {
        let mut text =
            format!("{}; {} turns; load {:.1} for each processor\n", self.machine, self.rounds, self.load);
        for group in &self.groups {
            // Writing into a String does not fail.
            let _ = writeln!(
                text,
                "\n| {} | p10, ms | median, ms | p90, ms | against {} (p10 to p90) |\n|---|--:|--:|--:|--:|",
                group.title, group.peer
            );
            for row in &group.rows {
                let _ = match (&row.missing, row.ratio) {
                    (Some(why), _) => {
                        writeln!(text, "| {} | missing: {} | | | |", row.name, why.replace('|', "/"))
                    }
                    (None, ratio) => {
                        let [low, ratio, high] = ratio.unwrap_or([f64::NAN; 3]);
                        writeln!(
                            text,
                            "| {} | {:.2} | {:.2} | {:.2} | {ratio:.2} ({low:.2} to {high:.2}) |",
                            row.name, row.p10, row.median, row.p90
                        )
                    }
                };
            }
        }
        let _ = writeln!(text, "\n| work | sizes and medians, ms |\n|---|---|");
        for curve in &self.curves {
            let points: Vec<String> =
                curve.points.iter().map(|(size, ms)| format!("{size}: {ms:.3}")).collect();
            let _ = writeln!(text, "| {} ({}) | {} |", curve.name, curve.unit, points.join("; "));
        }
        let _ = writeln!(text, "\n| | value | target |\n|---|--:|---|");
        for fact in &self.facts {
            let _ = writeln!(text, "{}", fact.row());
        }
        text
    }

    /// Writes both files.
    ///
    /// # Panics
    /// When they cannot be written.
    pub(crate) fn write(&self, directory: &Path) {
        fs::create_dir_all(directory).expect("a directory");
        let json = serde_json::to_vec_pretty(self).expect("JSON");
        fs::write(directory.join("report.json"), json).expect("the report");
        fs::write(directory.join("report.html"), self.html()).expect("the report");
        println!("\n{}", directory.join("report.html").display());
    }

    fn html(&self) -> String {
        let mut text = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Nunbird: measurements</title><style>\
            body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}\
            svg{width:100%;height:auto}text{font:12px system-ui,sans-serif;fill:#333}table{border-collapse:collapse}\
            td,th{padding:.15rem .8rem .15rem 0;text-align:left;border-bottom:1px solid #ddd}.n{text-align:right}</style>\
            <h1>Nunbird: measurements</h1>"
            .to_owned();
        let _ = writeln!(
            text,
            "<p>{}; {} turns of each; load {:.1} for each processor at the end. Bars are medians, lines p10 to p90, dots all single values; \
             above each row what is measured, behind it the ratio to the peer.</p>",
            escaped(&self.machine),
            self.rounds,
            self.load
        );
        for group in &self.groups {
            let _ = writeln!(text, "<h2>{}</h2>{}", escaped(&group.title), bars(group));
        }
        let _ = writeln!(
            text,
            "<h2>Growth</h2><p>Both axes are logarithmic. The dashed line is work in proportion to its input.</p>{}",
            growth(&self.curves)
        );
        text.push_str("<h2>Numbers</h2><table><tr><th><th class=\"n\">value<th>target");
        for fact in &self.facts {
            let _ = write!(
                text,
                "<tr><td>{}<td class=\"n\">{:.2} {}<td>{}",
                escaped(&fact.name),
                fact.value,
                escaped(&fact.unit),
                escaped(&fact.target)
            );
        }
        text + "</table></html>\n"
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Bars from 0 to twice the largest p90; what is beyond is a dot at the edge.
fn bars(group: &Group) -> String {
    let shown: Vec<&Row> = group.rows.iter().collect();
    let most = shown.iter().map(|row| row.p90).filter(|p90| p90.is_finite()).fold(0.1, f64::max) * 1.25;
    let x = |ms: f64| 10.0 + (ms / most).min(1.0) * 760.0;
    let height = shown.len() * 44 + 30;
    let mut svg =
        format!("<svg viewBox=\"0 0 960 {height}\" role=\"img\" aria-label=\"{}\">", escaped(&group.title));
    for (n, row) in shown.iter().enumerate() {
        let top = n as f64 * 44.0;
        let _ = write!(svg, "<text x=\"10\" y=\"{:.0}\">{}</text>", top + 14.0, escaped(&row.name));
        if let Some(why) = &row.missing {
            let _ = write!(svg, "<text x=\"10\" y=\"{:.0}\">missing: {}</text>", top + 32.0, escaped(why));
            continue;
        }
        let color = if row.name.starts_with("nunbird") { "#2b6cb0" } else { "#a0aec0" };
        let _ = write!(
            svg,
            "<rect x=\"10\" y=\"{:.0}\" width=\"{:.1}\" height=\"14\" fill=\"{color}\"/>",
            top + 20.0,
            x(row.median) - 10.0
        );
        for value in &row.values {
            let _ = write!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.0}\" r=\"1.5\" fill=\"#1a202c\" fill-opacity=\".25\"/>",
                x(*value),
                top + 27.0
            );
        }
        let _ = write!(
            svg,
            "<path d=\"M{:.1} {y:.0}H{:.1}\" stroke=\"#1a202c\" stroke-width=\"1.5\"/><text x=\"{:.1}\" y=\"{:.0}\">{:.2} ms{}</text>",
            x(row.p10),
            x(row.p90),
            x(row.p90) + 12.0,
            top + 31.0,
            row.median,
            row.ratio.map_or_else(String::new, |[_, ratio, _]| format!(", {ratio:.2}×")),
            y = top + 27.0
        );
    }
    let _ = write!(
        svg,
        "<text x=\"10\" y=\"{}\">0</text><text x=\"740\" y=\"{}\">{most:.1} ms</text>",
        height - 6,
        height - 6
    );
    svg + "</svg>"
}

const COLORS: [&str; 10] = [
    "#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280", "#975a16", "#2c7a7b", "#4a5568", "#c53030",
    "#1a202c",
];

fn growth(curves: &[Curve]) -> String {
    let points = || curves.iter().flat_map(|curve| curve.points.iter());
    let (left, right) = (1.0, points().map(|(size, _)| *size as f64).fold(10.0, f64::max).log10().ceil());
    let low = points().map(|(_, ms)| *ms).filter(|ms| *ms > 0.0).fold(1.0, f64::min).log10().floor();
    let high = points().map(|(_, ms)| *ms).fold(0.1, f64::max).log10().ceil();
    let x = |size: f64| 60.0 + (size.log10() - left) / (right - left) * 540.0;
    let y = |ms: f64| 20.0 + (high - ms.max(1e-9).log10()) / (high - low) * 360.0;
    let mut svg = "<svg viewBox=\"0 0 960 430\" role=\"img\" aria-label=\"Growth\">".to_owned();
    for power in left as i32..=right as i32 {
        let at = x(10f64.powi(power));
        let _ = write!(
            svg,
            "<path d=\"M{at:.1} 20V380\" stroke=\"#e2e8f0\"/><text x=\"{:.1}\" y=\"398\">{}</text>",
            at - 12.0,
            10u64.pow(power.unsigned_abs())
        );
    }
    for power in low as i32..=high as i32 {
        let at = y(10f64.powi(power));
        let _ = write!(
            svg,
            "<path d=\"M60 {at:.1}H600\" stroke=\"#e2e8f0\"/><text x=\"4\" y=\"{:.1}\">{} ms</text>",
            at + 4.0,
            10f64.powi(power)
        );
    }
    let far = 10f64.powf((low + right - left).min(high));
    let _ = write!(
        svg,
        "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" stroke=\"#718096\" stroke-dasharray=\"5 4\"/>",
        x(10.0),
        y(10f64.powf(low)),
        x(10f64.powf(far.log10() - low + left)),
        y(far)
    );
    for (n, curve) in curves.iter().enumerate() {
        let color = COLORS[n % COLORS.len()];
        let line: Vec<String> =
            curve.points.iter().map(|(size, ms)| format!("{:.1},{:.1}", x(*size as f64), y(*ms))).collect();
        let _ = write!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
            line.join(" ")
        );
        for (size, ms) in &curve.points {
            let _ = write!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{color}\"/>",
                x(*size as f64),
                y(*ms)
            );
        }
        let at = 40 + n * 24;
        let _ = write!(
            svg,
            "<rect x=\"620\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{color}\"/><text x=\"640\" y=\"{}\">{} ({})</text>",
            at - 10,
            at,
            escaped(&curve.name),
            escaped(&curve.unit)
        );
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::{Curve, Fact, Group, Report};
    use crate::measure::{Contender, in_turns};
    use std::time::Duration;

    fn report() -> Report {
        let turns = |ms: u64| move || Ok(Duration::from_millis(ms));
        let rows = in_turns(
            5,
            vec![
                Contender::new("nothing", turns(1)),
                Contender::new("peer", turns(3)),
                Contender::new("nunbird <run>", turns(5)),
                Contender::new("sudo", || Err("it is not there".to_owned())),
            ],
        );
        Report {
            machine: "1 × processor".to_owned(),
            load: 0.1,
            rounds: 5,
            groups: vec![Group { title: "A stage".to_owned(), peer: "peer".to_owned(), rows }],
            curves: vec![Curve {
                name: "read".to_owned(),
                unit: "rules".to_owned(),
                points: vec![(10, 0.1), (1_000, 9.0)],
            }],
            facts: vec![Fact {
                name: "memory".to_owned(),
                value: 2.0,
                unit: "MiB".to_owned(),
                target: "below 3".to_owned(),
            }],
        }
    }

    #[test]
    fn a_row_is_less_what_a_start_costs_and_a_peer_that_is_missing_says_so() {
        let text = report().tables();
        assert!(text.contains("| nunbird <run> | 4.00 | 4.00 | 4.00 | 2.00 (2.00 to 2.00) |"), "{text}");
        assert!(text.contains("| sudo | missing: it is not there |"), "{text}");
    }

    #[test]
    fn the_page_needs_no_other_file_and_shows_every_value() {
        let html = report().html();
        assert!(html.contains("nunbird &lt;run&gt;") && !html.contains("<run>"), "{html}");
        assert!(!html.contains("<script") && !html.contains("http"), "{html}");
        // Ten values in two rows, and two points of a curve.
        assert_eq!(html.matches("<circle").count(), 12, "{html}");
        assert!(html.contains("polyline") && html.contains("missing: it is not there"), "{html}");
    }
}
