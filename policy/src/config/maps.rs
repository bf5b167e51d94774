//! `[map.NAME]`: tables from facts to accounts.

use super::keys::{Key, Table, Word, form};
use super::reader::Section;
use super::values;
use crate::Location;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A table from a fact to an account: lines `value account`, `#` begins a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapFile {
    /// Its place in the configuration.
    pub place: Location,
    /// The file: owned by root and writable only by root.
    pub file: PathBuf,
    /// Which fact its first column has.
    pub key: MapKey,
}

/// The fact that a map's first column has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapKey {
    /// GitLab login.
    UserLogin,
    /// GitLab's numeric id of the user.
    UserId,
    /// Primary e-mail address in GitLab.
    UserEmail,
    /// Full path of the project.
    Project,
    /// Full path of its namespace.
    Namespace,
}

impl Word for MapKey {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("user_login", MapKey::UserLogin),
        ("user_id", MapKey::UserId),
        ("user_email", MapKey::UserEmail),
        ("project_path", MapKey::Project),
        ("namespace_path", MapKey::Namespace),
    ];
}

/// `[map.NAME]`.
#[rustfmt::skip]
pub static MAP_KEYS: Table<MapFile> = Table {
    path: "map[]",
    defaults: || MapFile {
        place: Location { file: PathBuf::new(), line: 0, column: 0 },
        file: PathBuf::from("/"),
        key: MapKey::UserLogin,
    },
    keys: &[
        Key::<MapFile>::new("file", form!(Path: file), "lines `value account`, where `#` begins a comment, see below").or("required"),
        Key::<MapFile>::new("key", form!(Word: key, MapKey), "what the first column has"),
    ],
};

pub(super) fn read(root: &mut Section<'_>) -> BTreeMap<String, MapFile> {
    let mut maps = BTreeMap::new();
    for (name, mut table) in root.named("map") {
        values::check_label(&name, "map");
        if !table.has("file") {
            name.spot.find("missing key `file`", "add `file = \"/etc/nunbird/users.map\"`");
        }
        let mut map = MapFile { place: name.spot.place(), ..(MAP_KEYS.defaults)() };
        MAP_KEYS.read(&mut table, &mut map);
        table.finish();
        maps.insert(name.value.to_owned(), map);
    }
    maps
}
