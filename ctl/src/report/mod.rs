//! What a site's jobs were in a span of time, from the audit file: as text, as JSON, and as a page with plots.

mod chart;
mod facts;
mod figures;
mod html;

use crate::arguments::Report;
use crate::output::{CtlError, FAILURE, Format, OK, print, print_json};
use crate::replace::put;
use crate::replay;
use facts::Facts;
use figures::Figures;
use serde_json::Value;

pub(crate) fn run(options: &Report, format: Format) -> Result<u8, CtlError> {
    let mut facts = Facts::default();
    let mut notes = String::new();
    for file in replay::with_rotated(&options.file, Some(options.since))? {
        let unread = replay::events(&file, |_, event| {
            let time = event.get("time").and_then(Value::as_u64).unwrap_or(0);
            if time >= options.since && options.until.is_none_or(|until| time < until) {
                facts.add(&event, time);
            }
            Ok(())
        })?;
        notes.push_str(&replay::unread_note(&file, &unread));
    }
    let figures = Figures::of(&facts, options.since, options.until);
    if let Some(page) = &options.html {
        // As private as the audit file.
        let text = html::page(&figures, &notes);
        put(page, text.as_bytes(), 0o600).map_err(|e| CtlError::new(format!("{}: {e}", page.display())))?;
    }
    match format {
        Format::Json => print_json(&figures.machine())?,
        Format::Text if options.html.is_some() => print(&notes)?,
        Format::Text => print(&(figures.text() + &notes))?,
    }
    // As `audit`: nothing found is not success.
    Ok(if facts.is_empty() { FAILURE } else { OK })
}
