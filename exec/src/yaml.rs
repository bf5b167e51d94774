//! A YAML file as a tree of nodes, each with its place.
//!
//! Composed from the parser's events, so that places, custom tags and duplicate keys are not lost, and so that aliases are counted
//! before they are copied: a file of some lines whose aliases stand for millions of nodes, or for gigabytes of text, is an error, not
//! a full memory. All bounds are GitLab's or above them. Anchors, aliases and merge keys (`<<`) are done here; nothing later knows of
//! them.

use crate::budget::{Budget, Size};
use crate::failure::{Failure, Place};
use crate::plain::{otherwise, plain};
use nunbird_handover::Untrusted;
use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// The longest file, in bytes: GitLab's own bound.
pub const LONGEST_FILE: usize = 2 << 20;
/// Lists and maps within each other: GitLab's own bound.
pub const DEEPEST: usize = 100;
/// Keys that a remark names.
const SHOWN_KEYS: usize = 5;

/// A value and its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it begins.
    pub place: Place,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Debug, Clone)]
pub enum Value {
    /// A text, and whether it was written without quotes, so that it may be a number, a boolean or null.
    Scalar(String, bool),
    /// A list.
    List(Vec<Node>),
    /// A map.
    Map(Map),
    /// `!reference [a, b]`.
    Reference(Vec<String>),
}

/// A map in the order of the file.
#[derive(Debug, Clone, Default)]
pub struct Map {
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
}

/// A key with its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key is.
    pub place: Place,
    /// Its value.
    pub node: Node,
}

impl Map {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// A key with its value.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.index.get(key).map(|at| &self.entries[*at])
    }

    /// All, in their order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Sets a key; an existing one keeps its position.
    pub fn set(&mut self, entry: Entry) {
        match self.index.get(&entry.key) {
            Some(at) => self.entries[*at] = entry,
            None => {
                self.index.insert(entry.key.clone(), self.entries.len());
                self.entries.push(entry);
            }
        }
    }

    /// The same without a key.
    #[must_use]
    pub fn without(&self, key: &str) -> Map {
        let mut map = Map::default();
        self.entries.iter().filter(|entry| entry.key != key).for_each(|entry| map.set(entry.clone()));
        map
    }

    /// Lays another map over this one: maps are merged key by key, all else is replaced, as GitLab merges `extends` and `include`.
    /// Only what is laid over is copied.
    pub fn overlay(&mut self, over: &Map) {
        for entry in &over.entries {
            let below = self.index.get(&entry.key).map(|at| &mut self.entries[*at]);
            match (below, &entry.node.value) {
                (
                    Some(Entry { place, node: Node { place: of_node, value: Value::Map(below) }, .. }),
                    Value::Map(above),
                ) => {
                    below.overlay(above);
                    place.clone_from(&entry.place);
                    of_node.clone_from(&entry.node.place);
                }
                _ => self.set(entry.clone()),
            }
        }
    }

    /// How large it is, without itself.
    pub fn size(&self) -> Size {
        let mut size = Size::default();
        for entry in &self.entries {
            size.add(Size::of_text(&entry.key));
            size.add(entry.node.size());
        }
        size
    }
}

impl Node {
    /// How large it is, with all that is in it.
    pub fn size(&self) -> Size {
        let mut size = Size { values: 1, bytes: 0 };
        match &self.value {
            Value::Scalar(text, _) => size.bytes = text.len(),
            Value::List(items) => items.iter().for_each(|item| size.add(item.size())),
            Value::Map(map) => size.add(map.size()),
            Value::Reference(words) => words.iter().for_each(|word| size.add(Size::of_text(word))),
        }
        size
    }

    /// Whether it is null: nothing, `~` or `null` without quotes.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(text, true) if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// Its boolean, if it is one without quotes.
    pub fn boolean(&self) -> Option<bool> {
        let Value::Scalar(text, true) = &self.value else { return None };
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Some(true),
            "false" | "no" | "off" => Some(false),
            _ => None,
        }
    }

    /// Its text, as GitLab's reader of YAML 1.1 makes one of it: `yes` is `true`, `010` is 8, `1.10` is 1.1.
    pub fn text(&self) -> Option<String> {
        match &self.value {
            Value::Scalar(_, true) if self.is_null() => Some(String::new()),
            Value::Scalar(text, true) => {
                Some(self.boolean().map_or_else(|| plain(text), |yes| yes.to_string()))
            }
            Value::Scalar(text, false) => Some(text.clone()),
            _ => None,
        }
    }

    /// As the file has it, without a conversion.
    pub fn raw(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text, _) => Some(text),
            _ => None,
        }
    }

    /// Its map.
    pub fn map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Its list.
    pub fn list(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    /// Its elements, or itself alone.
    pub fn one_or_more(&self) -> &[Node] {
        self.list().unwrap_or(std::slice::from_ref(self))
    }

    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar(..) if self.is_null() => "nothing",
            Value::Scalar(..) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
            Value::Reference(_) => "a `!reference`",
        }
    }
}

/// A part of the tree that is not complete.
enum Open {
    List {
        place: Place,
        anchor: usize,
        items: Vec<Node>,
        reference: bool,
        size: Size,
    },
    Map {
        place: Place,
        anchor: usize,
        map: Map,
        /// Keys that the map itself has had so far, apart from those of `<<`.
        own: HashSet<String>,
        key: Option<(String, Place)>,
        size: Size,
    },
}

struct Composer<'f> {
    file: Rc<str>,
    open: Vec<Open>,
    /// By the parser's number.
    anchors: HashMap<usize, (Node, Size)>,
    budget: &'f mut Budget,
    root: Option<Node>,
    remarks: &'f mut Vec<String>,
}

/// Reads a file that is a pipeline alone.
///
/// # Errors
/// As [`read_within`].
pub fn read(file: &str, bytes: &[u8], remarks: &mut Vec<String>) -> Result<Node, Failure> {
    read_within(file, bytes, &mut Budget::default(), remarks)
}

/// Reads a file with one document. What GitLab passes over and a person may not mean goes to `remarks`.
///
/// # Errors
/// For what is not YAML, not UTF-8, larger or deeper than the bounds above, and for tags and documents that GitLab does not have.
pub fn read_within(
    file: &str,
    bytes: &[u8],
    budget: &mut Budget,
    remarks: &mut Vec<String>,
) -> Result<Node, Failure> {
    let file: Rc<str> = file.into();
    let start = Place { file: file.clone(), line: 1, column: 1 };
    if bytes.len() > LONGEST_FILE {
        let what = format!("the file has {} bytes, and GitLab reads at most {LONGEST_FILE}", bytes.len());
        return Err(Failure::new(what).at(&start).help("move parts of it into files of `include:`"));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let before = &bytes[..e.valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let last = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let column = String::from_utf8_lossy(last).chars().count() + 1;
        Failure::new("the file is not UTF-8")
            .at(&Place { line, column, ..start.clone() })
            .help("save it as UTF-8")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut composer =
        Composer { file, open: Vec::new(), anchors: HashMap::new(), budget, root: None, remarks };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| {
            let marker = e.marker();
            let place = composer.place(marker.line(), marker.col());
            Failure::new(format!("not YAML: {}", Untrusted(e.info())))
                .at(&place)
                .help("look at the indentation and at quotes on this line and on the one before")
        })?;
        composer.take(event, &span)?;
    }
    let empty = Node { place: start, value: Value::Scalar(String::new(), true) };
    Ok(composer.root.unwrap_or(empty))
}

impl Composer<'_> {
    fn place(&self, line: usize, column: usize) -> Place {
        Place { file: self.file.clone(), line, column: column + 1 }
    }

    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Failure> {
        let place = self.place(span.start.line(), span.start.col());
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                return Err(Failure::new("the file has more than one document")
                    .at(&place)
                    .help("a header with `spec:inputs` cannot be had offline; remove the line `---` and one of the documents"));
            }
            Event::Alias(anchor) => {
                let (node, size) = self.anchors.get(&anchor).ok_or_else(|| {
                    Failure::new("this alias is within the node that it stands for").at(&place)
                })?;
                self.budget.spend(*size, &place)?;
                // Of the anchor's place: that is what there is to correct.
                let (node, size) = (node.clone(), *size);
                self.add(node, size, 0)?;
            }
            Event::Scalar(text, style, anchor, tag) => {
                let tagged = self.tag(tag.as_deref(), &place)?;
                if tagged == Tagged::Reference {
                    return Err(reference_of_texts(&place));
                }
                let size = Size::of_text(&text);
                self.budget.spend(size, &place)?;
                let plain = style == ScalarStyle::Plain && tagged != Tagged::Text;
                if let Some(kind) = otherwise(&text).filter(|_| plain) {
                    self.remarks.push(format!(
                        "{place}: `{}` without quotes is for GitLab {kind}; it stays as written here: put quotes around it",
                        Untrusted(&text)
                    ));
                }
                self.add(Node { place, value: Value::Scalar(Cow::into_owned(text), plain) }, size, anchor)?;
            }
            Event::SequenceStart(anchor, tag) => {
                let reference = self.tag(tag.as_deref(), &place)? == Tagged::Reference;
                self.enter(&place)?;
                self.open.push(Open::List { place, anchor, items: Vec::new(), reference, size: ONE });
            }
            Event::MappingStart(anchor, tag) => {
                if self.tag(tag.as_deref(), &place)? == Tagged::Reference {
                    return Err(reference_of_texts(&place));
                }
                self.enter(&place)?;
                let (map, own) = (Map::default(), HashSet::new());
                self.open.push(Open::Map { place, anchor, map, own, key: None, size: ONE });
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            _ => {}
        }
        Ok(())
    }

    fn enter(&mut self, place: &Place) -> Result<(), Failure> {
        if self.open.len() >= DEEPEST {
            let what = format!("lists and maps are more than {DEEPEST} deep within each other");
            return Err(Failure::new(what).at(place).help("GitLab refuses this file, too: make it flatter"));
        }
        self.budget.spend(ONE, place)
    }

    fn tag(&self, tag: Option<&Tag>, place: &Place) -> Result<Tagged, Failure> {
        let Some(tag) = tag else { return Ok(Tagged::Not) };
        match (tag.handle.as_str(), tag.suffix.as_str()) {
            ("!", "reference") => Ok(Tagged::Reference),
            ("!", "") => Ok(Tagged::Text),
            ("tag:yaml.org,2002:", "str") => Ok(Tagged::Text),
            ("tag:yaml.org,2002:", _) => Ok(Tagged::Not),
            (handle, suffix) => {
                let shown = format!("{handle}{suffix}");
                Err(Failure::new(format!("GitLab has no tag `{}`", Untrusted(&shown)))
                    .at(place)
                    .help("`!reference [job, keyword]` is the only one; quote a text that begins with `!`"))
            }
        }
    }

    fn close(&mut self) -> Result<(), Failure> {
        let (node, size, anchor) = match self.open.pop() {
            Some(Open::List { place, anchor, items, reference: false, size }) => {
                (Node { place, value: Value::List(items) }, size, anchor)
            }
            Some(Open::List { place, anchor, items, reference: true, size }) => {
                let words: Option<Vec<String>> =
                    items.iter().map(|item| item.raw().map(str::to_owned)).collect();
                let words =
                    words.filter(|words| !words.is_empty()).ok_or_else(|| reference_of_texts(&place))?;
                (Node { place, value: Value::Reference(words) }, size, anchor)
            }
            Some(Open::Map { place, anchor, map, size, .. }) => {
                (Node { place, value: Value::Map(map) }, size, anchor)
            }
            None => return Ok(()),
        };
        self.add(node, size, anchor)
    }

    /// Puts a complete node where it belongs.
    fn add(&mut self, node: Node, size: Size, anchor: usize) -> Result<(), Failure> {
        if anchor > 0 {
            // A copy, too: anchors may be within each other.
            self.budget.spend(size, &node.place)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, size: sum, .. }) => {
                sum.add(size);
                items.push(node);
            }
            Some(Open::Map { map, own, key, size: sum, .. }) => {
                sum.add(size);
                match key.take() {
                    None => {
                        let text = node.raw().ok_or_else(|| {
                            let what = format!("{} is no key", node.kind());
                            Failure::new(what).at(&node.place).help("write a text before the colon")
                        })?;
                        *key = Some((text.to_owned(), node.place));
                    }
                    Some((text, place)) if text == "<<" => {
                        let replaced = merge(map, own, &node)?;
                        if !replaced.is_empty() {
                            self.remarks.push(format!(
                                "{place}: `<<` replaces {}, which is above it in the same map, as in GitLab: put `<<` first",
                                replaced.join(", ")
                            ));
                        }
                    }
                    Some((text, place)) => {
                        let again = !own.insert(text.clone());
                        if let Some(first) = map.entry(&text).filter(|_| again) {
                            self.remarks.push(format!(
                                "{place}: `{}` is here for a second time and replaces the one at line {}, as in GitLab",
                                Untrusted(&text),
                                first.place.line
                            ));
                        }
                        map.set(Entry { key: text, place, node });
                    }
                }
            }
        }
        Ok(())
    }
}

/// A list or a map, without what is in it.
const ONE: Size = Size { values: 1, bytes: 0 };

#[derive(PartialEq, Eq)]
enum Tagged {
    Not,
    Text,
    Reference,
}

fn reference_of_texts(place: &Place) -> Failure {
    Failure::new("`!reference` is followed by something other than a list of names")
        .at(place)
        .help("write `!reference [job, keyword]`")
}

/// `<<: *a` and `<<: [*a, *b]` into what the map has so far: as in GitLab's reader, what comes later in the file wins, and in a list
/// what comes first. Gives, for a remark, own keys of the map that it replaces.
fn merge(map: &mut Map, own: &HashSet<String>, node: &Node) -> Result<Vec<String>, Failure> {
    let mut all = Map::default();
    for one in node.one_or_more().iter().rev() {
        let map = one.map().ok_or_else(|| {
            Failure::new(format!("`<<` takes a map, and this is {}", one.kind()))
                .at(&one.place)
                .help("write `<<: *anchor`, where the anchor is at a map")
        })?;
        map.entries.iter().for_each(|entry| all.set(entry.clone()));
    }
    let replaced = all.entries.iter().filter(|entry| own.contains(&entry.key)).take(SHOWN_KEYS);
    let replaced = replaced.map(|entry| format!("`{}`", Untrusted(&entry.key))).collect();
    all.entries.into_iter().for_each(|entry| map.set(entry));
    Ok(replaced)
}

#[cfg(test)]
mod tests {
    use super::{Node, read};

    fn tree(text: &str) -> Node {
        read("ci.yml", text.as_bytes(), &mut Vec::new()).unwrap_or_else(|failure| panic!("{failure}"))
    }

    fn value(node: &Node, path: &[&str]) -> String {
        let node = path.iter().fold(node, |node, key| node.map().expect("a map").get(key).expect("a key"));
        node.text().expect("a text")
    }

    #[test]
    fn scalars_are_what_gitlabs_reader_makes_of_them() {
        for (written, expected) in [
            ("yes", "true"),
            ("Off", "false"),
            ("\"yes\"", "yes"),
            ("010", "8"),
            ("08", "08"),
            ("0x1F", "31"),
            ("1_000", "1000"),
            ("1.10", "1.1"),
            ("3.0", "3.0"),
            ("-2", "-2"),
            ("1.2.3", "1.2.3"),
            ("'1.10'", "1.10"),
            ("~", ""),
            ("\"~\"", "~"),
            ("!!str 010", "010"),
            ("v1", "v1"),
            ("0o17", "0o17"),
        ] {
            assert_eq!(value(&tree(&format!("a: {written}\n")), &["a"]), expected, "{written}");
        }
    }

    #[test]
    fn what_comes_later_wins_over_a_merge_key_and_the_first_of_a_list_wins() {
        let text =
            "one: &one {a: 1, b: 1, c: 1}\ntwo: &two {b: 2, d: 2}\nall:\n  <<: [*one, *two]\n  c: own\n";
        let root = tree(text);
        let of = |key| value(&root, &["all", key]);
        assert_eq!([of("a"), of("b"), of("c"), of("d")], ["1", "1", "own", "2"]);
    }

    #[test]
    fn a_merge_key_below_own_keys_replaces_them_and_is_remarked() {
        let mut remarks = Vec::new();
        let text = b"b: &b {s: base, v: base}\njob:\n  s: own\n  <<: *b\n  v: own\n";
        let root = read("ci.yml", text, &mut remarks).expect("a tree");
        assert_eq!((value(&root, &["job", "s"]), value(&root, &["job", "v"])), ("base".into(), "own".into()));
        let [remark] = &remarks[..] else { panic!("{remarks:?}") };
        assert!(remark.starts_with("ci.yml:4:3: `<<` replaces `s`,"), "{remark}");
    }

    #[test]
    fn texts_that_gitlab_reads_otherwise_stay_and_are_remarked() {
        for (written, kind) in [
            ("01:30:00", "base 60"),
            ("10:30", "base 60"),
            ("0,1", "commas"),
            ("1,000", "commas"),
            ("2024-01-01", "a date"),
            ("2024-01-01 10:00:00", "a date"),
            (":x", "a symbol"),
            ("1.5e+3", "exponent"),
            (".5", "a number"),
            ("-.inf", "a number"),
        ] {
            let mut remarks = Vec::new();
            let root = read("ci.yml", format!("a: {written}\n").as_bytes(), &mut remarks).expect("a tree");
            assert_eq!(value(&root, &["a"]), written);
            let [remark] = &remarks[..] else { panic!("{written} {remarks:?}") };
            assert!(remark.starts_with("ci.yml:1:4: `") && remark.contains(kind), "{written} {remark}");
        }
        for written in [
            "'01:30:00'",
            "\"0,1\"",
            "!!str 2024-01-01",
            "1.10",
            "10:60",
            "1e3",
            "1.2.3",
            "-x",
            "10:30:00:00",
            "8080:80",
        ] {
            let mut remarks = Vec::new();
            read("ci.yml", format!("a: {written}\n").as_bytes(), &mut remarks).expect("a tree");
            assert_eq!(remarks, [""; 0], "{written}");
        }
    }

    #[test]
    fn a_second_key_wins_and_is_remarked() {
        let mut remarks = Vec::new();
        let root = read("ci.yml", b"a: 1\nb: 2\na: 3\n", &mut remarks).expect("a tree");
        assert_eq!(value(&root, &["a"]), "3");
        assert!(remarks[0].starts_with("ci.yml:3:1: `a`") && remarks[0].contains("line 1"), "{remarks:?}");
    }

    #[test]
    fn maps_are_merged_deep_and_lists_replaced() {
        let root = tree("low: {v: {A: 1, B: 1}, s: [x, y]}\nhigh: {v: {B: 2}, s: [z]}\n");
        let root = root.map().expect("a map");
        let (low, high) = (root.get("low").and_then(Node::map), root.get("high").and_then(Node::map));
        let mut merged = low.expect("a map").clone();
        merged.overlay(high.expect("a map"));
        let variables = merged.get("v").and_then(Node::map).expect("a map");
        assert_eq!(variables.get("A").and_then(Node::text).as_deref(), Some("1"));
        assert_eq!(variables.get("B").and_then(Node::text).as_deref(), Some("2"));
        assert_eq!(merged.get("s").and_then(Node::list).map(<[Node]>::len), Some(1));
    }
}
