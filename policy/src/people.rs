//! Which GitLab user an account belongs to: lines `account server user_id`, as the site's file and the host's store have them.

use crate::account::check_name;
use std::collections::HashMap;

/// One account on one server, and the GitLab user that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Person {
    /// Name of the local account.
    pub account: String,
    /// The configured name of the server.
    pub server: String,
    /// GitLab's numeric id of the user on that server.
    pub user_id: u64,
}

impl Person {
    /// The line of a file, with its end.
    pub fn line(&self) -> String {
        format!("{} {} {}\n", self.account, self.server, self.user_id)
    }
}

/// One thing wrong with a file of people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeopleFinding {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// A lower-case phrase.
    pub message: String,
}

/// Whether this can be the name of a configured server: lower-case letters, digits and `-`, at most 64, not beginning with `-`.
pub fn is_server_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !name.is_empty() && name.len() <= 64 && name.bytes().all(allowed) && !name.starts_with('-')
}

/// The name of the file in which a store keeps who an account belongs to; none for a name that no account or server has.
/// Neither name can hold a `:`, so no two pairs share a file.
pub fn person_file(server: &str, account: &str) -> Option<String> {
    (is_server_name(server) && check_name(account).is_ok()).then(|| format!("{server}:{account}"))
}

/// Reads the content of [`person_file`], which is one line. One that was cut short or belongs to another name is an error.
///
/// # Errors
/// What is wrong, in words.
pub fn read_person_file(text: &str, server: &str, account: &str) -> Result<u64, &'static str> {
    let person = read_line(text).map_err(|(_, message)| message)?.ok_or("it is empty")?;
    if person.line() != text {
        return Err("it is not one whole line `account server user_id`");
    }
    if (person.server.as_str(), person.account.as_str()) != (server, account) {
        return Err("it is about another account or server");
    }
    Ok(person.user_id)
}

/// Reads a whole file of people: each with its line, from 1.
///
/// # Errors
/// Every line that cannot be read, and every line that gives another user for an account and server of an earlier line.
pub fn read_people(text: &str) -> Result<Vec<(usize, Person)>, Vec<PeopleFinding>> {
    let (mut people, mut findings) = (Vec::new(), Vec::new());
    let mut first: HashMap<(String, String), (usize, u64)> = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        match read_line(line) {
            Ok(None) => {}
            Err((column, message)) => {
                findings.push(PeopleFinding { line: number, column, message: message.to_owned() });
            }
            Ok(Some(person)) => {
                let key = (person.account.clone(), person.server.clone());
                match first.get(&key) {
                    Some((line, user_id)) if *user_id != person.user_id => {
                        findings.push(PeopleFinding {
                            line: number,
                            column: 1,
                            message: format!("line {line} has another user for this account and server"),
                        });
                    }
                    Some(_) => {}
                    None => {
                        first.insert(key, (number, person.user_id));
                        people.push((number, person));
                    }
                }
            }
        }
    }
    if findings.is_empty() { Ok(people) } else { Err(findings) }
}

/// Looks one account up in a file of people. Every line must be readable: a file that a broken tool wrote says nothing.
///
/// # Errors
/// The first line that cannot be read, or a second user for this account and server.
pub fn find_person(text: &str, server: &str, account: &str) -> Result<Option<u64>, PeopleFinding> {
    let mut found: Option<u64> = None;
    for (index, line) in text.lines().enumerate() {
        let at =
            |column, message: &str| PeopleFinding { line: index + 1, column, message: message.to_owned() };
        let Some(words) = words_of(line).map_err(|(column, message)| at(column, message))? else { continue };
        if (words.account, words.server) != (account, server) {
            continue;
        }
        match found {
            Some(first) if first != words.user_id => {
                return Err(at(1, "a second user for this account and server"));
            }
            _ => found = Some(words.user_id),
        }
    }
    Ok(found)
}

/// The checked words of a line.
struct Words<'a> {
    account: &'a str,
    server: &'a str,
    user_id: u64,
}

type FaultAt = (usize, &'static str);

fn read_line(line: &str) -> Result<Option<Person>, FaultAt> {
    Ok(words_of(line)?.map(|words| Person {
        account: words.account.to_owned(),
        server: words.server.to_owned(),
        user_id: words.user_id,
    }))
}

/// None for an empty line or a comment.
fn words_of(line: &str) -> Result<Option<Words<'_>>, FaultAt> {
    let mut words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
    let Some(account) = words.next() else { return Ok(None) };
    let column = |word: &str| {
        let offset = word.as_ptr() as usize - line.as_ptr() as usize;
        line.get(..offset).map_or(1, |before| before.chars().count() + 1)
    };
    let end = || line.trim_end().chars().count() + 1;
    if check_name(account).is_err() {
        return Err((column(account), "no job can run as this account"));
    }
    let server = words.next().ok_or_else(|| (end(), "expected the name of a server"))?;
    if !is_server_name(server) {
        return Err((column(server), "no server can have this name"));
    }
    let id = words.next().ok_or_else(|| (end(), "expected the id of a GitLab user"))?;
    let canonical = !id.starts_with('0') && id.bytes().all(|b| b.is_ascii_digit());
    let user_id = id.parse().ok().filter(|_| canonical);
    let user_id = user_id.ok_or_else(|| (column(id), "expected the number of a GitLab user"))?;
    match words.next() {
        Some(more) => Err((column(more), "expected the end of the line")),
        None => Ok(Some(Words { account, server, user_id })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_an_account_a_server_and_a_user_and_nothing_else() {
        let good = "# site\n\n ada\tmain 42 # staff\nbob main 7\r\nada other 9\nbob main 7\n";
        let people = read_people(good).expect("good");
        let short: Vec<_> = people.iter().map(|(line, p)| (*line, p.line())).collect();
        let expected = [(3, "ada main 42\n"), (4, "bob main 7\n"), (5, "ada other 9\n")];
        assert_eq!(short, expected.map(|(line, text)| (line, text.to_owned())));
        for (bad, column) in [
            ("ada", 4),
            ("ada main", 9),
            ("Ada main 1", 1),
            ("root main 1", 1),
            ("ada Main 1", 5),
            ("ada main 0", 10),
            ("ada main 07", 10),
            ("ada main +7", 10),
            ("ada main x", 10),
            ("ada main 18446744073709551616", 10),
            ("ada main 1 2", 12),
            ("é main 1", 1),
        ] {
            let found = read_people(&format!("bob main 7\n{bad}\n")).expect_err(bad);
            assert_eq!((found[0].line, found[0].column), (2, column), "{bad}: {found:?}");
            let found = find_person(&format!("bob main 7\n{bad}\n"), "main", "bob").expect_err(bad);
            assert_eq!((found.line, found.column), (2, column), "{bad}: {found:?}");
        }
    }

    #[test]
    fn two_users_for_one_account_on_one_server_are_an_error() {
        let text = "ada main 1\nada other 2\nada main 3\n";
        assert_eq!(read_people(text).expect_err("two")[0].line, 3);
        assert_eq!(find_person(text, "main", "ada").expect_err("two").line, 3);
        assert_eq!(find_person(text, "other", "ada"), Ok(Some(2)));
        assert_eq!(find_person(text, "main", "bob"), Ok(None));
    }

    #[test]
    fn a_file_of_the_store_is_one_whole_line_about_its_own_name() {
        assert_eq!(read_person_file("ada main 42\n", "main", "ada"), Ok(42));
        for torn in [
            "",
            "\n",
            "ada main 4",
            "ada main",
            "a",
            "ada main 42\n\n",
            " ada main 42\n",
            "bob main 42\n",
            "ada other 42\n",
        ] {
            assert!(read_person_file(torn, "main", "ada").is_err(), "{torn:?}");
        }
        assert_eq!(person_file("main", "ada").as_deref(), Some("main:ada"));
        for (server, account) in
            [("", "ada"), ("main", ""), ("../x", "ada"), ("main", "../ada"), ("main", "a/b"), ("a:b", "ada")]
        {
            assert_eq!(person_file(server, account), None, "{server} {account}");
        }
    }
}
