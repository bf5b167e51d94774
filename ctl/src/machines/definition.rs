//! The definition of a machine: `/etc/nunbird/machines/NAME.toml`.

use crate::output::CtlError;
use aws_lc_rs::digest::{SHA256, digest};
use nunbird_files::trusted::{Distrust, open_trusted};
use nunbird_policy::{Diagnostic, Location, nearest, read_duration};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The longest definition, in bytes.
const MAX_TEXT: u64 = 1 << 20;
/// How much of a hook or a playbook makes a difference, in bytes.
const MAX_HOOK: u64 = 64 << 20;
/// How many versions stay where no definition says it.
pub(super) const KEEP: u64 = 3;
/// A suite has no date that could be compared: its packages are made current once a week.
const WEEK: u64 = 7 * 86_400;

/// What a tree is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Suite { suite: String, mirror: Option<String>, packages: Vec<String>, components: Vec<String> },
    Oci { reference: String, authfile: Option<PathBuf> },
    Tarball { path: PathBuf, sha256: Option<String> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Definition {
    pub(super) source: Source,
    pub(super) keep: u64,
    /// After how many seconds a tree is made again.
    pub(super) max_age: Option<u64>,
    pub(super) hook: Option<PathBuf>,
    /// Whether the hook runs in the tree, and not beside it.
    pub(super) hook_inside: bool,
    pub(super) playbook: Option<PathBuf>,
}

/// Why there is no definition to build from.
#[derive(Debug)]
pub(super) enum Unusable {
    Absent,
    /// Findings in the file.
    Invalid(Vec<Diagnostic>),
    Failure(CtlError),
}

/// A name of a machine, as jobs write it after `image:`.
pub(super) fn is_name(text: &str) -> bool {
    let first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut bytes = text.bytes();
    text.len() <= 64 && bytes.next().is_some_and(first) && bytes.all(|b| first(b) || matches!(b, b'.' | b'-'))
}

pub(super) fn check_name(text: &str) -> Result<(), CtlError> {
    if is_name(text) {
        return Ok(());
    }
    Err(CtlError::new(format!(
        "`{text}` is no name of a machine: it begins with a lower-case letter or a digit, goes on with these, `.` and `-`, and has 64 \
         characters at most"
    )))
}

impl Source {
    /// A source as the command line has it.
    ///
    /// # Errors
    /// Why it is none.
    pub(super) fn of_word(text: &str) -> Result<Self, String> {
        if is_image(text) {
            check_image(text)?;
            return Ok(Source::Oci { reference: text.to_owned(), authfile: None });
        }
        if text.starts_with('/') {
            return Ok(Source::Tarball { path: PathBuf::from(text), sha256: None });
        }
        check_suite(text)?;
        Ok(Source::Suite {
            suite: text.to_owned(),
            mirror: None,
            packages: Vec::new(),
            components: Vec::new(),
        })
    }

    /// For the manifest. A file with passwords is not named.
    pub(super) fn manifest(&self) -> Value {
        match self {
            Source::Suite { suite, mirror, packages, components } => {
                json!({ "suite": suite, "mirror": mirror, "packages": packages, "components": components })
            }
            Source::Oci { reference, .. } => json!({ "oci": reference }),
            Source::Tarball { path, sha256 } => json!({ "tarball": path, "sha256": sha256 }),
        }
    }
}

impl Definition {
    /// What the command line defines alone.
    pub(super) fn of_source(source: Source) -> Self {
        let max_age = default_age(&source);
        Definition { source, keep: KEEP, max_age, hook: None, hook_inside: false, playbook: None }
    }

    /// Reads a definition that only root can have written.
    pub(super) fn read(file: &Path) -> Result<Self, Unusable> {
        let failed = |why: &dyn std::fmt::Display| Unusable::Failure(CtlError::new(why));
        let opened = match open_trusted(file, &[0]) {
            Ok(opened) => opened,
            Err(Distrust::Open(_, e)) if e.kind() == ErrorKind::NotFound => return Err(Unusable::Absent),
            Err(e) => return Err(failed(&e)),
        };
        let mut bytes = Vec::new();
        let named = |e: &dyn std::fmt::Display| failed(&format!("{}: {e}", file.display()));
        opened.take(MAX_TEXT + 1).read_to_end(&mut bytes).map_err(|e| named(&e))?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_TEXT) {
            return Err(named(&format!("longer than {MAX_TEXT} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|e| named(&e))?;
        Definition::parse(file, &text).map_err(Unusable::Invalid)
    }

    /// Reads the text of one.
    ///
    /// # Errors
    /// All findings.
    pub(super) fn parse(file: &Path, text: &str) -> Result<Self, Vec<Diagnostic>> {
        let reader = Reader { file, text, findings: RefCell::new(Vec::new()) };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let offset = error.span().map_or(0, |span| span.start);
            let message = error.message().trim_end_matches('.');
            reader.find(offset, message, "see toml.io for the syntax; strings are in quotes");
        }
        let definition = reader.definition(table.get_ref());
        let mut findings = reader.findings.into_inner();
        findings.sort_by_key(|finding| (finding.place.line, finding.place.column));
        match definition {
            Some(definition) if findings.is_empty() => Ok(definition),
            _ => Err(findings),
        }
    }

    /// Changes with everything that the tree is made of, as far as it is on this host.
    pub(super) fn digest(&self) -> String {
        let mut text = format!("{:?} {:?} {} {:?}", self.source, self.hook, self.hook_inside, self.playbook);
        for file in self.hook.iter().chain(&self.playbook) {
            // A file that is not root's may be a FIFO; the build says what is wrong with it.
            let mut bytes = Vec::new();
            let read =
                open_trusted(file, &[0]).ok().map(|opened| opened.take(MAX_HOOK).read_to_end(&mut bytes));
            text.push_str(&format!(" {:?}", read.and_then(Result::ok).map(|_| hex(&bytes))));
        }
        hex(text.as_bytes())
    }
}

/// The SHA-256 of these bytes.
fn hex(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn default_age(source: &Source) -> Option<u64> {
    matches!(source, Source::Suite { .. }).then_some(WEEK)
}

fn is_image(text: &str) -> bool {
    ["docker://", "oci:", "dir:"].iter().any(|kind| text.starts_with(kind))
}

fn check_image(text: &str) -> Result<(), String> {
    let rest = text.split_once(':').map_or("", |(_, rest)| rest.trim_start_matches('/'));
    if !is_image(text) {
        return Err(
            "write `docker://REGISTRY/NAME:TAG`, `oci:DIRECTORY:TAG` or `dir:DIRECTORY`, as skopeo(1) names images"
                .to_owned(),
        );
    }
    if !text.starts_with("docker:") && !text.split_once(':').is_some_and(|(_, path)| path.starts_with('/')) {
        return Err("write the directory's absolute path: a build does not run in this directory".to_owned());
    }
    match !rest.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(()),
        false => Err("name an image after the colon, without blanks".to_owned()),
    }
}

/// What could be an option of mmdebstrap(1), or several words of its mirror lines, is none of these.
fn check_word(text: &str, more: &str) -> bool {
    text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
}

fn check_suite(text: &str) -> Result<(), String> {
    match check_word(text, "-._/") && !text.contains("..") {
        true => Ok(()),
        false => Err("write the name of a suite, such as `bookworm`".to_owned()),
    }
}

fn check_mirror(text: &str) -> Result<(), String> {
    let known = ["http://", "https://", "file:/", "copy:/"].iter().any(|kind| text.starts_with(kind));
    match known && text.bytes().all(|b| b.is_ascii_graphic() && !b"[]".contains(&b)) {
        true => Ok(()),
        false => Err("write one address that begins with `https://`, `http://` or `file:/`, without options in brackets".to_owned()),
    }
}

const ROOT_KEYS: &[&str] = &["source", "keep", "max_age", "hook", "hook_inside", "playbook"];
const SOURCE_KEYS: &[&str] =
    &["suite", "mirror", "packages", "components", "oci", "authfile", "tarball", "sha256"];

struct Reader<'t> {
    file: &'t Path,
    text: &'t str,
    findings: RefCell<Vec<Diagnostic>>,
}

type Found<'t> = &'t Spanned<DeValue<'t>>;

impl<'t> Reader<'t> {
    fn find(&self, offset: usize, message: impl Into<String>, help: impl Into<String>) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let column = before.get(start..).map_or(0, |rest| rest.chars().count()) + 1;
        self.findings.borrow_mut().push(Diagnostic {
            message: message.into(),
            place: Location { file: self.file.to_path_buf(), line: small(line), column: small(column) },
            source_line: self.text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or("").to_owned(),
            other: None,
            help: Some(help.into()),
        });
    }

    fn known(&self, table: &'t DeTable<'t>, keys: &[&'static str]) {
        for name in table.keys().filter(|name| !keys.contains(&name.get_ref().as_ref())) {
            let help = match nearest(name.get_ref(), keys.iter().copied()) {
                Some(near) => format!("write `{near}`"),
                None => format!("known here: {}", keys.join(", ")),
            };
            self.find(name.span().start, format!("unknown key `{}`", name.get_ref()), help);
        }
    }

    fn wrong(&self, value: Found<'t>, expected: &str, help: &str) {
        let found = value.get_ref().type_str();
        self.find(value.span().start, format!("expected {expected}, found {found}"), help);
    }

    fn string(&self, value: Found<'t>, judge: impl Fn(&str) -> Result<(), String>) -> Option<String> {
        let Some(text) = value.get_ref().as_str() else {
            self.wrong(value, "string", "write a text in quotes");
            return None;
        };
        match judge(text) {
            Ok(()) => Some(text.to_owned()),
            Err(help) => {
                self.find(value.span().start, format!("`{text}` is not possible here"), help);
                None
            }
        }
    }

    fn strings(&self, value: Option<Found<'t>>, judge: impl Fn(&str) -> Result<(), String>) -> Vec<String> {
        let Some(value) = value else { return Vec::new() };
        let DeValue::Array(array) = value.get_ref() else {
            self.wrong(value, "array", "write texts in `[ ]`");
            return Vec::new();
        };
        array.iter().filter_map(|one| self.string(one, &judge)).collect()
    }

    fn path(&self, value: Option<Found<'t>>) -> Option<PathBuf> {
        let absolute = |text: &str| {
            let path = Path::new(text);
            let plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
            // A colon would end the path in an option of systemd-nspawn(1).
            match path.is_absolute() && plain && !text.contains([':', '\0', '\n']) {
                true => Ok(()),
                false => Err("write an absolute path without `..` and `:`".to_owned()),
            }
        };
        self.string(value?, absolute).map(PathBuf::from)
    }

    fn whole(&self, value: Found<'t>) -> Option<u64> {
        let number = match value.get_ref() {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let number = number.filter(|number| (1..=1000).contains(number));
        if number.is_none() {
            self.find(
                value.span().start,
                "expected a number of versions",
                "write a whole number from 1 to 1000",
            );
        }
        number
    }

    fn definition(&self, table: &'t DeTable<'t>) -> Option<Definition> {
        self.known(table, ROOT_KEYS);
        let source = match table.get("source") {
            None => {
                self.find(0, "no [source]", "add `[source]` with `suite`, `oci` or `tarball`");
                None
            }
            Some(value) => match value.get_ref() {
                DeValue::Table(source) => self.source(value.span().start, source),
                _ => {
                    self.wrong(value, "table", "write it under the heading `[source]`");
                    None
                }
            },
        };
        let keep = table.get("keep").map(|value| self.whole(value)).unwrap_or(Some(KEEP));
        let age = |text: &str| match read_duration(text).filter(|seconds| *seconds >= 3600) {
            Some(_) => Ok(()),
            None => Err("write a duration of an hour or more, such as `36h`, `7d` or `2w`".to_owned()),
        };
        let max_age = table.get("max_age").and_then(|value| self.string(value, age));
        let hook = self.path(table.get("hook"));
        let hook_inside = match table.get("hook_inside") {
            None => false,
            Some(value) => match value.get_ref() {
                DeValue::Boolean(inside) => {
                    if *inside && table.get("hook").is_none() {
                        self.find(value.span().start, "there is no hook", "add `hook = \"/path\"`");
                    }
                    *inside
                }
                _ => {
                    self.wrong(value, "boolean", "write `true` or `false`");
                    false
                }
            },
        };
        let playbook = self.path(table.get("playbook"));
        let source = source?;
        let max_age = max_age.and_then(|text| read_duration(&text)).or_else(|| default_age(&source));
        Some(Definition { source, keep: keep?, max_age, hook, hook_inside, playbook })
    }

    fn source(&self, start: usize, table: &'t DeTable<'t>) -> Option<Source> {
        self.known(table, SOURCE_KEYS);
        let kinds: Vec<&str> =
            ["suite", "oci", "tarball"].into_iter().filter(|kind| table.contains_key(*kind)).collect();
        let [kind] = kinds.as_slice() else {
            let message = match kinds.as_slice() {
                [] => "no source of the tree".to_owned(),
                several => format!("several sources of one tree: {}", several.join(", ")),
            };
            self.find(start, message, "write exactly one of `suite`, `oci` and `tarball`");
            return None;
        };
        let belongs: &[(&str, &str)] = &[
            ("mirror", "suite"),
            ("packages", "suite"),
            ("components", "suite"),
            ("authfile", "oci"),
            ("sha256", "tarball"),
        ];
        for (key, of) in belongs.iter().filter(|(key, of)| of != kind && table.contains_key(*key)) {
            let at = table.get_key_value(*key).map_or(start, |(name, _)| name.span().start);
            self.find(
                at,
                format!("`{key}` has no effect with `{kind}`"),
                format!("remove it; it belongs to `{of}`"),
            );
        }
        match *kind {
            "suite" => {
                let word = |more: &'static str| {
                    move |text: &str| match check_word(text, more) {
                        true => Ok(()),
                        false => Err("write one name in each pair of quotes".to_owned()),
                    }
                };
                Some(Source::Suite {
                    suite: self.string(table.get("suite")?, check_suite)?,
                    mirror: table.get("mirror").and_then(|value| self.string(value, check_mirror)),
                    packages: self.strings(table.get("packages"), word("+-.:=~_")),
                    components: self.strings(table.get("components"), word("-._")),
                })
            }
            "oci" => Some(Source::Oci {
                reference: self.string(table.get("oci")?, check_image)?,
                authfile: self.path(table.get("authfile")),
            }),
            _ => {
                let sum = |text: &str| match text.len() == 64
                    && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
                {
                    true => Ok(()),
                    false => Err("write the 64 lower-case digits that sha256sum(1) prints".to_owned()),
                };
                Some(Source::Tarball {
                    path: self.path(table.get("tarball"))?,
                    sha256: table.get("sha256").and_then(|value| self.string(value, sum)),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Definition, Source, is_name};
    use std::path::{Path, PathBuf};

    fn parse(text: &str) -> Result<Definition, Vec<String>> {
        Definition::parse(Path::new("/etc/nunbird/machines/one.toml"), text).map_err(|findings| {
            let shown = |d: &super::Diagnostic| {
                let help = d.help.clone().unwrap_or_default();
                format!("{}:{}: {}; {help}", d.place.line, d.place.column, d.message)
            };
            findings.iter().map(shown).collect()
        })
    }

    #[test]
    fn a_definition_has_one_source_and_says_what_becomes_of_its_tree() {
        let text = "keep = 2\nmax_age = \"2d\"\nhook = \"/etc/nunbird/hook\"\nhook_inside = true\n\
                    [source]\nsuite = \"bookworm\"\npackages = [\"git\", \"g++\"]\nmirror = \"http://deb.example.org/debian\"\n";
        let read = parse(text).expect("valid");
        assert_eq!((read.keep, read.max_age, read.hook_inside), (2, Some(172_800), true));
        assert_eq!(read.hook, Some(PathBuf::from("/etc/nunbird/hook")));
        let Source::Suite { packages, .. } = read.source else { panic!("a suite") };
        assert_eq!(packages, ["git", "g++"]);
        let week = parse("[source]\nsuite = \"sid\"").expect("valid");
        assert_eq!((week.keep, week.max_age), (3, Some(604_800)));
        assert_eq!(parse("[source]\ntarball = \"/a.tar\"").expect("valid").max_age, None);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place_and_the_way_out() {
        for (text, expected) in [
            ("kep = 3\n[source]\nsuite = \"sid\"", "1:1: unknown key `kep`; write `keep`"),
            ("[source]\nsuite = \"sid\"\npakages = []", "3:1: unknown key `pakages`; write `packages`"),
            ("keep = 3", "1:1: no [source]; add"),
            ("[source]\nmirror = \"http://a\"", "1:1: no source of the tree; write exactly one"),
            (
                "[source]\noci = \"dir:layout\"",
                "2:7: `dir:layout` is not possible here; write the directory's absolute path",
            ),
            ("[source]\nsuite = \"sid\"\noci = \"oci:/a\"", "1:1: several sources of one tree: suite, oci"),
            (
                "[source]\nsuite = \"sid\"\nsha256 = \"a\"",
                "3:1: `sha256` has no effect with `suite`; remove it",
            ),
            ("keep = 0\n[source]\nsuite = \"sid\"", "1:8: expected a number of versions"),
            ("keep = \"3\"\n[source]\nsuite = \"sid\"", "1:8: expected a number of versions"),
            ("max_age = \"1m\"\n[source]\nsuite = \"sid\"", "1:11: `1m` is not possible here"),
            ("[source]\nsuite = \"--setup-hook=x\"", "2:9: `--setup-hook=x` is not possible here"),
            (
                "[source]\nsuite = \"sid\"\nmirror = \"deb [trusted=yes] http://a\"",
                "3:10: `deb [trusted=yes] http://a`",
            ),
            ("[source]\nsuite = \"sid\"\npackages = [\"a,b\"]", "3:13: `a,b` is not possible here"),
            ("[source]\noci = \"containers-storage:a\"", "2:7: `containers-storage:a` is not possible here"),
            ("[source]\ntarball = \"a.tar\"", "2:11: `a.tar` is not possible here; write an absolute path"),
            ("hook_inside = true\n[source]\nsuite = \"sid\"", "1:15: there is no hook"),
            ("hook = \"/a:/b\"\n[source]\nsuite = \"sid\"", "1:8: `/a:/b` is not possible here"),
            ("[source]\nsuite = sid", "2:9: "),
        ] {
            let found = parse(text).expect_err(text);
            assert!(found.iter().any(|one| one.starts_with(expected)), "{text}\n{found:?}");
        }
    }

    #[test]
    fn names_are_single_words_that_begin_with_a_letter_or_a_digit() {
        for good in ["debian12", "a", "rocky-9.4", "0"] {
            assert!(is_name(good), "{good}");
        }
        let long = "a".repeat(65);
        for bad in ["", ".", "..", "-a", "A", "a/b", "a b", "a_b", "ä", long.as_str()] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
