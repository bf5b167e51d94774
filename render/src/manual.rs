//! `nunbird.toml(5)`: every key of the configuration, from the tables that the configuration is read with.

use crate::writer::{heading, setting};
use nunbird_policy::{KeyInfo, key_info};

const HEAD: &str = r#".ie \n(.g .ds Aq \(aq
.el .ds Aq '
.TH nunbird.toml 5 "" Nunbird Nunbird
.SH NAME
nunbird.toml \- the configuration of Nunbird: whose CI jobs run here, as whom, and how
.SH SYNOPSIS
\fI/etc/nunbird/config.toml\fR, \fI/etc/nunbird/conf.d/*.toml\fR
.SH DESCRIPTION
TOML 1.0. The files belong to root, and nobody else may write them or a directory above them. An unknown key, a duplicate or a value out of range is an
error with file, line and column, and a configuration with an error denies every job: \fBnunbirdctl check\fR \fIFILE\fR shows it before the file is installed.
.PP
The files of \fIconf.d\fR are read in the order of their names: tables are merged, arrays of tables are concatenated, and a key that two files set is an error.
A file with the tables \fB[general]\fR and \fB[auth]\fR is read as one of Jacamar CI.
.PP
This page has every key but the conditions of \fBwhen\fR and \fBunless\fR and the facts in \fBclaims\fR. policy\-reference.md, in the documents of the package, has
these, explanations and examples;
\fBnunbirdctl schema\fR prints a JSON schema, and \fBnunbirdctl show\fR the values in effect.
"#;

const TAIL: &str = r#".SH SEE ALSO
\fBnunbirdctl\fR(1), \fBnunbirdctl\-check\fR(1), \fBauthorized_projects\fR(5), \fBnunbird\-auth\fR(8)
"#;

/// The page, in roff for man(7).
pub fn configuration_manual() -> String {
    let mut text = HEAD.to_owned();
    for (table, keys) in key_info().into_iter().filter(|(table, _)| *table != "profile[]") {
        text.push_str(&format!(".SH \"{}\"\n", title(table)));
        text.extend(keys.iter().map(entry));
    }
    text + TAIL
}

/// The title of a table's section.
fn title(path: &str) -> String {
    match heading(path) {
        _ if path.is_empty() => "TOP LEVEL".to_owned(),
        (table, None) => table,
        (table, Some(below)) => format!("{below} of {table}"),
    }
}

fn entry(key: &KeyInfo) -> String {
    let value = key.default_value.as_ref().map(|value| format!("`{}`", setting(value)));
    let default = key.default.map(str::to_owned).or(value).unwrap_or_else(|| "none".to_owned());
    let (name, takes) = (key.name, roff(&key.takes));
    format!(
        ".TP\n\\fB{name}\\fR\n{takes}. Default: {}.\n.br\n{}.\n",
        roff(&default),
        roff(key.doc.trim_end_matches(", below"))
    )
}

/// Markdown of one paragraph: code becomes bold, a link its text.
fn roff(markdown: &str) -> String {
    let mut text = String::new();
    let mut code = false;
    let mut rest = markdown;
    while let Some(c) = rest.chars().next() {
        if let Some((label, behind)) = link(rest).filter(|_| !code) {
            text.push_str(&roff(label));
            rest = behind;
            continue;
        }
        match c {
            '`' => {
                code = !code;
                text.push_str(if code { "\\fB" } else { "\\fR" });
            }
            '\\' => text.push_str("\\e"),
            '-' => text.push_str("\\-"),
            '\'' => text.push_str("\\*(Aq"),
            c => text.push(c),
        }
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    // A line that begins with a dot is a request.
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

/// The text of a link at the beginning, and what follows the link.
fn link(markdown: &str) -> Option<(&str, &str)> {
    let (label, rest) = markdown.strip_prefix('[')?.split_once("](")?;
    let (_, behind) = rest.split_once(')')?;
    (!label.contains(['[', ']'])).then_some((label, behind))
}

#[cfg(test)]
mod tests {
    use super::{configuration_manual, roff, title};

    #[test]
    fn markdown_becomes_what_man_shows() {
        assert_eq!(roff("as `a-b`, see [the \\ page](x.md#y)"), "as \\fBa\\-b\\fR, see the \\e page");
        assert_eq!(roff(".d/*.toml"), "\\&.d/*.toml");
        let titles = ["", "gitlab[]", "map[]", "job", "limits[].io_max[]", "rule[].run_as"].map(title);
        let wanted = [
            "TOP LEVEL",
            "[[gitlab]]",
            "[map.NAME]",
            "[job]",
            "io_max of [limits.NAME]",
            "run_as of [[rule]]",
        ];
        assert_eq!(titles, wanted);
    }

    #[test]
    fn every_table_has_a_section_and_every_key_an_entry() {
        let page = configuration_manual();
        for (table, keys) in nunbird_policy::key_info() {
            assert!(table == "profile[]" || page.contains(&format!(".SH \"{}\"", title(table))), "{table}");
            for key in keys {
                assert!(page.contains(&format!(".TP\n\\fB{}\\fR\n", key.name)), "{table}: {}", key.name);
            }
        }
    }
}
