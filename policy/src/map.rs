//! From a fact about a job to the name of an account: by a table of the site, or by an identity provider's name.

use crate::host::{Host, HostError};
use crate::{MapFile, MapKey, Subject};
use nunbird_handover::Code;

/// One thing wrong with a map file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapFinding {
    /// From 1.
    pub line: usize,
    /// A lower-case phrase.
    pub message: &'static str,
}

/// The account that the map has for the job.
///
/// # Errors
/// When the file cannot be read, or has two different accounts for one key: neither can be meant.
pub(crate) fn look_up(
    map: &MapFile,
    subject: &Subject,
    host: &dyn Host,
) -> Result<Option<String>, HostError> {
    let key = match map.key {
        MapKey::UserLogin => subject.user_login.clone(),
        MapKey::UserId => subject.user_id.to_string(),
        MapKey::UserEmail => match &subject.user_email {
            Some(email) => email.clone(),
            None => return Ok(None),
        },
        MapKey::Project => subject.project_path.clone(),
        MapKey::Namespace => subject.namespace_path.clone(),
    };
    // A key with a space in it would be read as a key and its account.
    if key.is_empty() || key.contains(char::is_whitespace) || key.starts_with('#') {
        return Ok(None);
    }
    let text = host.map(map)?;
    let mut found: Option<&str> = None;
    for (at, _) in text.match_indices(key.as_str()) {
        let Some(account) = entry(&text, at, key.len()) else { continue };
        match found {
            Some(first) if first != account => {
                let detail = format!("{}: two accounts for one key", map.file.display());
                return Err(HostError { code: Code::MapAmbiguous, detail });
            }
            _ => found = Some(account),
        }
    }
    Ok(found.map(str::to_owned))
}

/// The account of the line in which `length` bytes from `at` are the key.
fn entry(text: &str, at: usize, length: usize) -> Option<&str> {
    let before = text.get(..at)?;
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    if !text.get(line_start..at)?.trim_start_matches([' ', '\t']).is_empty() {
        return None;
    }
    let rest = text.get(at + length..)?;
    let rest = rest.split('\n').next()?;
    if !rest.starts_with([' ', '\t']) {
        return None;
    }
    let mut words = rest.split_whitespace();
    let account = words.next()?;
    match words.next() {
        None => Some(account),
        Some(word) if word.starts_with('#') => Some(account),
        Some(_) => None,
    }
}

/// Reads a whole map, as `nunbirdctl check` does: lines that no decision would ever take, and duplicate keys.
pub fn check_map(text: &str) -> Vec<MapFinding> {
    let mut findings = Vec::new();
    let mut seen = std::collections::BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let mut find = |message| findings.push(MapFinding { line: index + 1, message });
        let words: Vec<&str> = line.split_whitespace().take_while(|word| !word.starts_with('#')).collect();
        match words.as_slice() {
            [] => {}
            [key, account] => {
                if crate::check_name(account).is_err() {
                    find("no job can run as this account");
                }
                match seen.insert(*key, *account) {
                    Some(first) if first != *account => {
                        find("duplicate key with another account");
                    }
                    Some(_) => find("duplicate line"),
                    None => {}
                }
            }
            [_] => find("no account after the key"),
            _ => find("expected a key and an account"),
        }
    }
    findings
}

/// The user's name with an identity provider.
///
/// With an attribute the name must be a distinguished name (RFC 4514) whose first part is that attribute:
/// `uid=alice,ou=people,dc=example,dc=org` gives `alice`. Escapes are refused: no portable login name needs one.
pub(crate) fn identity(subject: &Subject, provider: &str, attribute: Option<&str>) -> Option<String> {
    let mut all = subject.identities.iter().filter(|(name, _)| name == provider).map(|(_, uid)| uid);
    let (uid, second) = (all.next()?, all.next());
    if second.is_some_and(|second| second != uid) {
        return None;
    }
    let Some(attribute) = attribute else { return Some(uid.clone()) };
    if uid.contains(['\\', '"', '+', '\0']) {
        return None;
    }
    let (kind, value) = uid.split(',').next()?.split_once('=')?;
    kind.trim().eq_ignore_ascii_case(attribute).then(|| value.trim().to_owned())
}

#[cfg(test)]
#[path = "map_tests.rs"]
mod tests;
