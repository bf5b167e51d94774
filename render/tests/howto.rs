//! The guides in docs/howto name files and tests that exist.

use std::path::{Path, PathBuf};

/// Each guide with its text. More guides are checked by being there.
fn guides() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/howto");
    let entries = std::fs::read_dir(&folder).expect("docs/howto");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let guides = paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    guides.map(|path| (path.clone(), std::fs::read_to_string(path).expect("a guide"))).collect()
}

#[test]
fn every_file_that_a_guide_names_exists() {
    let mut links = 0;
    for (path, text) in guides() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            links += 1;
            let target = path.parent().expect("a folder").join(link.split('#').next().unwrap_or(""));
            assert!(target.is_file(), "{}: there is no {link}", path.display());
        }
    }
    assert!(links >= 20, "{links}");
}

#[test]
fn every_test_that_a_guide_names_is_in_the_file_beside_it() {
    let mut tests = 0;
    for (path, text) in guides() {
        for row in text.lines().filter(|line| line.starts_with('|') && line.contains("` in [")) {
            let (before, after) = row.split_once("` in [").expect("a row");
            let name = before.rsplit('`').next().expect("a name");
            let link = after.split("](").nth(1).and_then(|rest| rest.split(')').next()).expect("a link");
            let target = path.parent().expect("a folder").join(link);
            let source = std::fs::read_to_string(&target).unwrap_or_else(|e| panic!("{link}: {e}"));
            assert!(
                source.contains(&format!("fn {name}(")),
                "{}: {link} has no test `{name}`",
                path.display()
            );
            tests += 1;
        }
    }
    assert!(tests >= 6, "{tests}");
}
