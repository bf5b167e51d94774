//! docs/policy-reference.md has the tables that the source makes. `make manual` writes them.

use nunbird_render::reference_tables;
use std::path::Path;

/// The tables stand between these comments, the first with the table's name.
const END: &str = "<!-- end of the table -->";

fn begin(name: &str) -> String {
    format!("<!-- generated: {name} -->\n")
}

#[test]
fn every_table_of_the_reference_is_what_the_source_makes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policy-reference.md");
    let text = std::fs::read_to_string(&path).expect("the reference");
    let mut wanted = text.clone();
    for (name, table) in reference_tables() {
        let (before, rest) =
            wanted.split_once(&begin(name)).unwrap_or_else(|| panic!("the reference has no table `{name}`"));
        let (_, after) = rest.split_once(END).unwrap_or_else(|| panic!("the table `{name}` has no end"));
        wanted = format!("{before}{}{table}{END}{after}", begin(name));
    }
    if std::env::var_os("NUNBIRD_WRITE_DOCS").is_some() {
        std::fs::write(&path, &wanted).expect("the reference can be written");
    } else {
        assert!(text == wanted, "docs/policy-reference.md is not what the source makes: run `make manual`");
    }
    assert_eq!(wanted.matches("<!-- generated: ").count(), reference_tables().len(), "a table of no section");
}

#[test]
fn a_row_of_the_reference_is_short() {
    for (name, table) in reference_tables().iter().filter(|(name, _)| *name != "conditions") {
        for row in table.lines() {
            assert!(row.len() <= 260, "{name}: {} bytes, say more below the table: {row}", row.len());
        }
    }
}
