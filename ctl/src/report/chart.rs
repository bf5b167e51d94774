//! Plots as SVG (SVG 1.1), without a script. Colours are classes of the page.

use super::html::escaped;

const WIDTH: u64 = 720;

/// A horizontal bar of each row: label, value, and the value as text. Nothing without rows.
pub(super) fn bars(title: &str, rows: &[(String, u64, String)]) -> String {
    const ROW: u64 = 22;
    const LABEL: u64 = 220;
    const VALUE: u64 = 100;
    let Some(largest) = rows.iter().map(|row| row.1).max().filter(|largest| *largest > 0) else {
        return String::new();
    };
    let height = ROW * rows.len() as u64 + 4;
    let mut svg = open(title, height);
    for (index, (label, value, text)) in rows.iter().enumerate() {
        let y = ROW * index as u64 + 2;
        let length = scaled(*value, largest, WIDTH - LABEL - VALUE).max(u64::from(*value > 0));
        svg.push_str(&format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect class=\"good\" x=\"{LABEL}\" y=\"{y}\" width=\"{length}\" height=\"{}\"><title>{}: {}</title></rect>\
             <text x=\"{}\" y=\"{}\">{}</text>\n",
            LABEL - 6,
            y + 14,
            escaped(&short(label)),
            ROW - 6,
            escaped(label),
            escaped(text),
            LABEL + length + 6,
            y + 14,
            escaped(text),
        ));
    }
    svg + "</svg>\n"
}

/// A column of each day: admissions, and refusals above them.
pub(super) fn columns(title: &str, days: &[(String, usize, usize)]) -> String {
    const HEIGHT: u64 = 180;
    const BELOW: u64 = 20;
    let sums = days.iter().map(|(_, admitted, denied)| (admitted + denied) as u64);
    let Some(largest) = sums.max().filter(|largest| *largest > 0) else { return String::new() };
    let count = days.len() as u64;
    let mut svg = open(title, HEIGHT + BELOW);
    let width = (WIDTH / count).clamp(1, 48);
    for (index, (day, admitted, denied)) in days.iter().enumerate() {
        let x = WIDTH * index as u64 / count;
        let good = scaled(*admitted as u64, largest, HEIGHT - 16);
        let bad = scaled(*denied as u64, largest, HEIGHT - 16);
        let gap = u64::from(width > 3);
        for (class, height, y, what) in [
            ("good", good, HEIGHT - good, format!("{day}: {admitted} jobs")),
            ("bad", bad, HEIGHT - good - bad, format!("{day}: {denied} refusals")),
        ] {
            if height > 0 {
                svg.push_str(&format!(
                    "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{height}\"><title>{}</title></rect>\n",
                    width - gap,
                    escaped(&what)
                ));
            }
        }
    }
    svg.push_str(&format!("<text x=\"0\" y=\"12\">{largest} a day</text>\n"));
    for (day, x, anchor) in [(days.first(), 0, "start"), (days.last().filter(|_| count > 1), WIDTH, "end")] {
        if let Some((day, ..)) = day {
            let y = HEIGHT + 15;
            svg.push_str(&format!(
                "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>\n",
                escaped(day)
            ));
        }
    }
    svg + "</svg>\n"
}

fn open(title: &str, height: u64) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\" xmlns=\"http://www.w3.org/2000/svg\">\n",
        title = escaped(title)
    )
}

/// `value` of `largest`, as a part of `length`; both may be of any size.
fn scaled(value: u64, largest: u64, length: u64) -> u64 {
    let length = u128::from(value) * u128::from(length) / u128::from(largest.max(1));
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The end of a long label, which distinguishes paths.
fn short(label: &str) -> String {
    const MOST: usize = 30;
    let count = label.chars().count();
    if count <= MOST {
        return label.to_owned();
    }
    let end: String = label.chars().skip(count + 1 - MOST).collect();
    format!("…{end}")
}

#[cfg(test)]
mod tests {
    use super::{bars, columns, scaled, short};

    #[test]
    fn bars_are_as_long_as_their_share_of_the_largest() {
        let svg = bars(
            "t",
            &[("a".into(), 400, "400".into()), ("b<".into(), 100, "100".into()), ("c".into(), 0, "0".into())],
        );
        for part in ["width=\"400\"", "width=\"100\"", "width=\"0\"", "b&lt;", "aria-label=\"t\""] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert_eq!(bars("t", &[]), "");
        assert_eq!(bars("t", &[("a".into(), 0, String::new())]), "");
        assert_eq!(scaled(u64::MAX, u64::MAX, 400), 400);
    }

    #[test]
    fn a_day_has_its_admissions_and_refusals_in_one_column() {
        let svg = columns(
            "t",
            &[("2026-11-01".into(), 3, 1), ("2026-11-02".into(), 0, 0), ("2026-11-03".into(), 0, 4)],
        );
        assert_eq!(svg.matches("class=\"good\"").count(), 1);
        assert_eq!(svg.matches("class=\"bad\"").count(), 2);
        for part in ["2026-11-01: 3 jobs", "2026-11-03: 4 refusals", ">4 a day<", "height=\"164\""] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert_eq!(columns("t", &[]), "");
    }

    #[test]
    fn a_long_label_is_cut_at_its_beginning() {
        assert_eq!(short("hpc/app"), "hpc/app");
        let cut = short(&format!("{}/end", "x".repeat(50)));
        assert!(cut.starts_with('…') && cut.ends_with("/end") && cut.chars().count() == 30, "{cut}");
    }
}
