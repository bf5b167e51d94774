//! A Jacamar configuration as Nunbird's own.

use crate::arguments::Migrate;
use crate::files;
use crate::output::{Format, OK, Trouble, print};
use nunbird_policy::{Migration, SourceFile, migrate};

pub(crate) fn run(options: &Migrate) -> Result<u8, Trouble> {
    let file = &options.file;
    let source = SourceFile { path: file.clone(), text: files::text(file)? };
    match migrate(&source) {
        Migration::Native => {
            let shown = file.display();
            Err(Trouble::new(format!("{shown}: this is Nunbird's own configuration already")))
        }
        Migration::Unreadable(findings) => Err(Trouble::Invalid(findings, Format::Text)),
        Migration::Migrated { text, findings } => {
            print(&text)?;
            if findings.is_empty() { Ok(OK) } else { Err(Trouble::Invalid(findings, Format::Text)) }
        }
    }
}
