//! Trees of machines, which root keeps on this host: `NAME/VERSION`, and `NAME/current` for the version of jobs that name none.
//!
//! What is here is looked up for the user. `nunbird-machine` finds the tree by itself.

use crate::resolved::Resolved;
use crate::trouble::Failure;
use nunbird_handover::{Image, MachineTree, Untrusted};
use nunbird_stage::{StageError, small_files};
use std::fs;
use std::path::Path;

const TREES: &str = "/var/lib/nunbird/machines";
const CURRENT: &str = "current";
/// The longest manifest, in bytes.
const LONGEST: u64 = 64 << 10;
/// The most names that a user reads.
const LISTED: usize = 20;

/// The tree that an image's name means.
pub(crate) fn find(image: &Image) -> Result<Resolved, Failure> {
    find_in(Path::new(TREES), image)
}

fn find_in(trees: &Path, image: &Image) -> Result<Resolved, Failure> {
    let MachineTree { tree, version } = MachineTree::of(&image.name);
    let of_tree = trees.join(&tree);
    let present = match &version {
        Some(version) => Some(version.clone()),
        None => fs::read_link(of_tree.join(CURRENT)).ok().and_then(|link| Some(link.to_str()?.to_owned())),
    };
    let found = present.filter(|version| of_tree.join(version).join("tree").is_dir());
    let Some(version) = found else {
        let known = known(trees);
        let known = match known.is_empty() {
            true => "there is none yet; ask the administrators".to_owned(),
            false => format!("name one of these in .gitlab-ci.yml: {}", known.join(", ")),
        };
        let asked = match version {
            Some(version) => format!("{tree}:{version}"),
            None => tree,
        };
        let text = format!("there is no machine `{}` on this host; {known}", Untrusted(&asked));
        return Err(Failure::Job(StageError::sentence(&text)));
    };
    let about = manifest(&of_tree.join(&version).join("manifest.json")).unwrap_or_default();
    Ok(Resolved::new(format!("{tree}, version {version}{about}"), format!("{tree}:{version}")))
}

/// The names of all trees, with their versions beside the present one.
fn known(trees: &Path) -> Vec<String> {
    let names = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| !name.starts_with('.') && path.join(name).is_dir());
        names.sort();
        names
    };
    let mut all = Vec::new();
    for name in names(trees) {
        let current = fs::read_link(trees.join(&name).join(CURRENT)).ok();
        if current.is_some() {
            all.push(name.clone());
        }
        for version in names(&trees.join(&name)).into_iter().filter(|version| version != CURRENT) {
            if current.as_deref() != Some(Path::new(&version)) {
                all.push(format!("{name}:{version}"));
            }
        }
    }
    all.truncate(LISTED);
    all.iter().map(|name| format!("`{}`", Untrusted(name))).collect()
}

/// What the manifest says of a version, for people.
fn manifest(path: &Path) -> Option<String> {
    let bytes = small_files::beginning(path, LONGEST).ok()?;
    let json: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    let text = |key: &str| match json.get(key)? {
        serde_json::Value::String(text) => Some(Untrusted(text).to_string()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let mut about = String::new();
    let mut add = |intro: &str, key: &str, end: &str| {
        if let Some(value) = text(key) {
            about.push_str(&format!(", {intro}{value}{end}"));
        }
    };
    add("", "os", "");
    add("made ", "made", "");
    add("", "packages", " packages");
    add("digest ", "digest", "");
    Some(about)
}

#[cfg(test)]
mod tests {
    use super::find_in;
    use crate::trouble::Failure;
    use nunbird_handover::{Image, PullPolicy};
    use std::fs;
    use std::os::unix::fs::symlink;

    fn image(name: &str) -> Image {
        Image {
            name: name.to_owned(),
            entrypoint: None,
            user: None,
            platform: None,
            pull: vec![PullPolicy::Never],
            digest_required: false,
        }
    }

    #[test]
    fn a_name_means_the_present_version_and_an_unknown_one_lists_those_that_there_are() {
        let root = tempfile::tempdir().expect("a directory");
        for path in ["debian/1/tree", "debian/2/tree", "rocky/9/tree", "broken/1"] {
            fs::create_dir_all(root.path().join(path)).expect("directories");
        }
        symlink("2", root.path().join("debian/current")).expect("a link");
        let text = "{\"made\":\"2026-11-30T10:00:00Z\",\"packages\":120,\"os\":\"Debian 12\"}";
        fs::write(root.path().join("debian/2/manifest.json"), text).expect("a manifest");
        let found = |name: &str| find_in(root.path(), &image(name)).map(|found| found.name);
        assert_eq!(
            found("docker.io/library/debian:latest").expect("found"),
            "debian, version 2, Debian 12, made 2026-11-30T10:00:00Z, 120 packages"
        );
        assert_eq!(found("docker.io/library/debian:1").expect("found"), "debian, version 1");
        for name in ["docker.io/library/debain:latest", "docker.io/library/rocky:latest", "x/y/debian:3"] {
            let Err(Failure::Job(error)) = found(name) else { panic!("{name}") };
            let text = error.to_string();
            assert!(text.contains("`debian`, `debian:1`, `rocky:9`"), "{text}");
        }
    }
}
