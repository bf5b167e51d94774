//! `nunbirdctl people`: which GitLab user each account is bound to.

mod store;

use crate::arguments::{People, PeopleAction};
use crate::files;
use crate::output::{CtlError, DENIED, FAILURE, Format, INVALID, OK, print, print_json};
use crate::time;
use nunbird_handover::Untrusted;
use nunbird_policy::{PeopleFinding, Person, read_people};
use serde_json::{Value, json};
use std::path::Path;
use store::{PeopleEntry, own_directory};
pub(crate) use store::{PeopleStore, directory, of_site};

pub(crate) fn run(options: &People, format: Format) -> Result<u8, CtlError> {
    let path = own_directory().map_err(CtlError::new)?;
    let store = PeopleStore::open(&path).map_err(CtlError::new)?;
    let store = store.ok_or_else(|| {
        CtlError::new(format!("{}: no such directory; this host has no bindings", path.display()))
    })?;
    match &options.action {
        PeopleAction::List => list(&store, |_| true, format),
        PeopleAction::Show { account } => list(&store, |entry| account_of(entry) == account, format),
        PeopleAction::Forget { account, server } => forget(&store, account, server.as_deref(), format),
        PeopleAction::Import { file, replace } => import(&store, file, *replace, format),
        PeopleAction::Export => export(&store, format),
    }
}

fn account_of(entry: &PeopleEntry) -> &str {
    entry.name.split_once(':').map_or("", |(_, account)| account)
}

fn read(store: &PeopleStore) -> Result<Vec<PeopleEntry>, CtlError> {
    store.entries().map_err(CtlError::new)
}

fn list(store: &PeopleStore, wanted: impl Fn(&PeopleEntry) -> bool, format: Format) -> Result<u8, CtlError> {
    let entries: Vec<PeopleEntry> = read(store)?.into_iter().filter(wanted).collect();
    match format {
        Format::Json => print_json(&machine(store, &entries))?,
        Format::Text => {
            let mut text = String::new();
            for entry in &entries {
                if let Ok(Person { account, server, user_id }) = &entry.person {
                    let since = store.since(&entry.name).map(|at| format!("  since {}", time::moment(at)));
                    text.push_str(&format!(
                        "{account:<16} {server:<16} {user_id:>8}{}\n",
                        since.unwrap_or_default()
                    ));
                }
            }
            print(&text)?;
        }
    }
    if entries.is_empty() && format == Format::Text {
        return Err(CtlError::new("no account has this name"));
    }
    Ok(if damaged(&entries) { FAILURE } else { OK })
}

fn machine(store: &PeopleStore, entries: &[PeopleEntry]) -> Value {
    let good = entries.iter().filter_map(|entry| {
        let person = entry.person.as_ref().ok()?;
        Some(json!({
            "account": person.account, "server": person.server, "user_id": person.user_id,
            "since": store.since(&entry.name).map(time::moment),
        }))
    });
    let bad: Vec<Value> =
        entries.iter().filter_map(|entry| entry.person.as_ref().err().map(|why| json!(why))).collect();
    json!({ "people": good.collect::<Vec<Value>>(), "damaged": bad })
}

/// Reports files that cannot be used, each of which denies its account's jobs.
fn damaged(entries: &[PeopleEntry]) -> bool {
    let mut any = false;
    for (entry, why) in entries.iter().filter_map(|entry| Some((entry, entry.person.as_ref().err()?))) {
        any = true;
        eprintln!("nunbirdctl: error: {}", Untrusted(why));
        eprintln!(
            "  = help: jobs of this account are denied; nunbirdctl people forget {}",
            Untrusted(account_of(entry))
        );
    }
    any
}

fn forget(store: &PeopleStore, account: &str, server: Option<&str>, format: Format) -> Result<u8, CtlError> {
    let of_server = |entry: &PeopleEntry| {
        server.is_none_or(|server| entry.name.split_once(':').is_some_and(|(found, _)| found == server))
    };
    let entries: Vec<PeopleEntry> =
        read(store)?.into_iter().filter(|entry| account_of(entry) == account && of_server(entry)).collect();
    if entries.is_empty() {
        let on = server.map(|server| format!(" on {server}")).unwrap_or_default();
        return Err(CtlError::new(format!("account {account} has no binding{on}")));
    }
    for entry in &entries {
        store.forget(&entry.name).map_err(CtlError::new)?;
    }
    store.tidy();
    match format {
        Format::Json => print_json(&json!({ "forgotten": machine(store, &entries) }))?,
        Format::Text => {
            let text = entries.iter().map(|entry| {
                let server = entry.name.split_once(':').map_or("", |(server, _)| server);
                let whose = match &entry.person {
                    Ok(person) => format!("GitLab user {}", person.user_id),
                    Err(_) => "a damaged file".to_owned(),
                };
                format!("forgot {} on {}: {whose}\n", Untrusted(account), Untrusted(server))
            });
            print(&text.collect::<String>())?;
        }
    }
    Ok(OK)
}

fn import(store: &PeopleStore, file: &Path, replace: bool, format: Format) -> Result<u8, CtlError> {
    let people = match read_people(&files::text(file)?) {
        Ok(people) => people,
        Err(findings) => return refuse(file, &findings, INVALID, format),
    };
    let (mut wanted, mut conflicts, mut replaced) = (Vec::new(), Vec::new(), 0_usize);
    for (line, person) in people {
        match store.find(&person.server, &person.account) {
            Ok(Some(known)) if known == person.user_id => continue,
            Ok(None) => {}
            Ok(Some(_)) | Err(_) if replace => replaced += 1,
            Ok(Some(known)) => {
                let Person { account, server, user_id } = &person;
                let message = format!(
                    "{account} on {server} is bound to user {known} here, not to {user_id}; --replace changes it"
                );
                conflicts.push(PeopleFinding { line, column: 1, message });
            }
            Err(why) => conflicts.push(PeopleFinding {
                line,
                column: 1,
                message: format!("{why}; --replace corrects it"),
            }),
        }
        wanted.push(person);
    }
    if !conflicts.is_empty() {
        return refuse(file, &conflicts, DENIED, format);
    }
    store.write(&wanted, replace).map_err(CtlError::new)?;
    store.tidy();
    let added = wanted.len() - replaced;
    match format {
        Format::Json => print_json(&json!({ "valid": true, "added": added, "replaced": replaced }))?,
        Format::Text => print(&format!("{added} added, {replaced} replaced\n"))?,
    }
    Ok(OK)
}

/// Reports why nothing of a file was imported.
fn refuse(file: &Path, findings: &[PeopleFinding], code: u8, format: Format) -> Result<u8, CtlError> {
    match format {
        Format::Json => {
            let all: Vec<Value> = findings
                .iter()
                .map(|f| json!({ "message": f.message, "file": file, "line": f.line, "column": f.column }))
                .collect();
            print_json(&json!({ "valid": false, "findings": all }))?;
        }
        Format::Text => {
            let shown = file.to_string_lossy();
            for finding in findings {
                eprintln!(
                    "error: {}\n --> {}:{}:{}",
                    Untrusted(&finding.message),
                    Untrusted(&shown),
                    finding.line,
                    finding.column
                );
            }
            eprintln!("nothing was imported");
        }
    }
    Ok(code)
}

fn export(store: &PeopleStore, format: Format) -> Result<u8, CtlError> {
    let entries = read(store)?;
    // A list that lacks a binding would admit another user where it is imported.
    if damaged(&entries) {
        return Ok(FAILURE);
    }
    match format {
        Format::Json => print_json(&machine(store, &entries))?,
        Format::Text => {
            let lines = entries.iter().filter_map(|entry| entry.person.as_ref().ok()).map(Person::line);
            print(&format!("# account server user_id\n{}", lines.collect::<String>()))?;
        }
    }
    Ok(OK)
}
