//! The report as one page: no script, nothing loaded from elsewhere, readable on paper and on dark screens.

use super::chart::{bars, columns};
use super::figures::{Figures, Share, half, hours, memory, milliseconds, seconds};
use nunbird_handover::Untrusted;

/// Nothing is loaded or run, whatever a name in the audit file contains.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

const STYLE: &str = ":root{color-scheme:light dark;--good:#2a6f97;--bad:#c1542d;--line:#8886}\
@media(prefers-color-scheme:dark){:root{--good:#61a5c2;--bad:#e5825a}}\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.5rem;border-bottom:1px solid var(--line)}\
svg{width:100%;height:auto;display:block;margin:1rem 0}svg text{font-size:12px;fill:currentColor}\
.good{fill:var(--good)}.bad{fill:var(--bad)}\
.table{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}\
th:first-child,td:first-child{text-align:left;white-space:normal;overflow-wrap:anywhere;min-width:9rem}\
.numbers{display:flex;flex-wrap:wrap;gap:1rem 2.5rem;margin:1.5rem 0;padding:0;list-style:none}\
.numbers b{display:block;font-size:1.8rem;line-height:1.2}\
@media print{body{max-width:none;margin:0}h2{break-after:avoid}svg,tr{break-inside:avoid}}";

/// Text of others for a page: what deceives a terminal is escaped first, then what is special in HTML.
pub(super) fn escaped(text: &str) -> String {
    let mut page = String::new();
    for character in Untrusted(text).to_string().chars() {
        match character {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '"' => page.push_str("&quot;"),
            '\'' => page.push_str("&#39;"),
            other => page.push(other),
        }
    }
    page
}

pub(super) fn page(figures: &Figures, notes: &str) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>CI jobs</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>CI jobs, {}</h1>\n<ul class=\"numbers\">\n",
        escaped(&figures.span())
    );
    let all = &figures.all;
    for (number, what) in [
        (all.jobs.to_string(), "jobs"),
        (all.failed.to_string(), "failed"),
        (figures.denied().to_string(), "refusals"),
        (all.core_hours.map_or_else(|| "-".to_owned(), hours), "core hours"),
        (half(all.queued, seconds), "median wait in GitLab"),
        (half(all.waited, seconds), "median wait in the scheduler"),
    ] {
        page.push_str(&format!("<li><b>{number}</b>{what}</li>\n"));
    }
    page.push_str("</ul>\n");
    let days = columns("jobs and refusals by day", &figures.days);
    section(&mut page, "Jobs, and refusals above them, by day", &days);
    section(&mut page, "By scheduler", &shares("executor", &figures.executors));
    let rows: Vec<(String, u64, String)> = figures
        .groups
        .iter()
        .filter_map(|share| {
            share.core_hours.map(|value| (share.name.clone(), value, format!("{} h", hours(value))))
        })
        .collect();
    let groups = bars("core hours by group", &rows) + &shares("group", &figures.groups);
    section(&mut page, "By group", &groups);
    section(&mut page, "Refusals by code and rule", &denials(figures));
    section(&mut page, "Slowest clean-ups", &cleanups(figures));
    page.push_str(
        "<p>Times are the median, and behind it the time that nine of ten jobs stay below. Memory is the median of what jobs used, of the median limit, where \
         both are known. Core hours are CPU time that was measured: of jobs with limits on this host, and of stages in a scheduler that reports it, from values that the \
         job's account could have changed.</p>\n",
    );
    if !notes.is_empty() {
        page.push_str(&format!("<p>{}</p>\n", escaped(notes.trim_end())));
    }
    page + "</body>\n</html>\n"
}

fn section(page: &mut String, title: &str, content: &str) {
    let content = if content.is_empty() { "<p>None.</p>\n" } else { content };
    page.push_str(&format!("<h2>{title}</h2>\n{content}"));
}

fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let row = |tag: &str, cells: &mut dyn Iterator<Item = String>| {
        let cells: String = cells.map(|cell| format!("<{tag}>{}</{tag}>", escaped(&cell))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let head = row("th", &mut heads.iter().map(ToString::to_string));
    let body: String = rows.iter().map(|cells| row("td", &mut cells.iter().cloned())).collect();
    format!("<div class=\"table\"><table>\n{head}{body}</table></div>\n")
}

fn shares(what: &str, shares: &[Share]) -> String {
    let both = |spread: Option<super::figures::Spread>| {
        spread.map_or_else(|| "-".to_owned(), |s| format!("{}, {}", seconds(s.half), seconds(s.most)))
    };
    let rows = shares.iter().map(|share| {
        vec![
            share.name.clone(),
            share.jobs.to_string(),
            share.failed.to_string(),
            both(share.queued),
            both(share.waited),
            both(share.lasted),
            share.core_hours.map_or_else(|| "-".to_owned(), hours),
            memory(share),
        ]
    });
    let heads =
        [what, "jobs", "failed", "wait in GitLab", "wait in the scheduler", "job", "core hours", "memory"];
    table(&heads, &rows.collect::<Vec<_>>())
}

fn denials(figures: &Figures) -> String {
    let rows: Vec<(String, u64, String)> = figures
        .denials
        .iter()
        .take(20)
        .map(|(code, rule, count)| {
            let label = if rule.is_empty() { code.clone() } else { format!("{code}, {rule}") };
            (label, *count as u64, count.to_string())
        })
        .collect();
    let cells =
        figures.denials.iter().map(|(code, rule, count)| vec![code.clone(), rule.clone(), count.to_string()]);
    bars("refusals by code and rule", &rows)
        + &table(&["code", "rule", "refusals"], &cells.collect::<Vec<_>>())
}

fn cleanups(figures: &Figures) -> String {
    let rows = figures
        .cleanups
        .iter()
        .map(|one| vec![one.project.clone(), one.job.clone(), milliseconds(one.ms), one.decision.clone()]);
    table(&["project", "job", "clean-up", "decision"], &rows.collect::<Vec<_>>())
}
