//! Converts a Jacamar configuration to a Nunbird configuration.

use crate::arguments::Migrate;
use crate::files;
use crate::output::{CtlError, FAILURE, Format, INVALID, OK, print};
use crate::replace::replace;
use nunbird_handover::Untrusted;
use nunbird_policy::{Diagnostic, SourceFile, check_url};
use nunbird_render::{Migration, ServerOptions, migrate};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub(crate) fn run(options: &Migrate) -> Result<u8, CtlError> {
    let file = &options.file;
    if let Some(target) = options.output.as_deref().filter(|target| is_same(file, target)) {
        let shown = target.display();
        return Err(CtlError::new(format!("{shown}: this is the file to migrate; name another one")));
    }
    let given = given(options)?;
    let source = SourceFile { path: file.clone(), text: files::text(file)? };
    match migrate(&source, &given) {
        Migration::Native => {
            let shown = file.display();
            Err(CtlError::new(format!("{shown}: this is a Nunbird configuration already")))
        }
        Migration::Unreadable(findings) => Err(CtlError::Invalid(findings, Format::Text)),
        Migration::Migrated { text, findings, refused } => {
            let whole = findings.is_empty() && refused.is_empty();
            match &options.output {
                None => print(&text)?,
                Some(target) if whole => {
                    replace(target, text.as_bytes())
                        .map_err(|e| CtlError::new(format!("{}: {e}", target.display())))?;
                }
                Some(_) => {}
            }
            if whole { Ok(OK) } else { Ok(report(findings, &refused, options.output.as_deref())) }
        }
    }
}

fn given(options: &Migrate) -> Result<ServerOptions, CtlError> {
    let gitlab_server = options.gitlab_server.as_ref().map(|url| url.trim_end_matches('/').to_owned());
    if let Some(url) = &gitlab_server {
        check_url(url)
            .map_err(|help| CtlError::new(format!("--gitlab-server {}: {help}", Untrusted(url))))?;
    }
    let audience = options.audience.clone();
    let (proxy, proxy_auth_file) = options.proxy.checked()?;
    Ok(ServerOptions { gitlab_server, audience, proxy, proxy_auth_file })
}

/// Reports what is not migrated, and what `check` would find in the text.
fn report(findings: Vec<Diagnostic>, refused: &[Diagnostic], output: Option<&Path>) -> u8 {
    let code = if findings.is_empty() { FAILURE } else { CtlError::Invalid(findings, Format::Text).report() };
    let mut text = match output {
        Some(target) => format!(
            "{}: not written; without --output the part that could be migrated is printed\n",
            Untrusted(&target.to_string_lossy())
        ),
        None if refused.is_empty() => {
            "the printed configuration denies every job until its first rule is removed\n".to_owned()
        }
        None => {
            "the printed text is not a valid configuration yet; `nunbirdctl check` refuses it:\n".to_owned()
        }
    };
    if output.is_none() {
        for finding in refused {
            let (line, message) = (finding.place.line, Untrusted(&finding.message));
            text.push_str(&format!("  line {line}: {message}\n"));
        }
    }
    let _unheard = io::stderr().write_all(text.as_bytes());
    if refused.is_empty() { code } else { INVALID }
}

fn is_same(a: &Path, b: &Path) -> bool {
    match (a.metadata(), b.metadata()) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}
