//! gitlab-runner's configuration, with one `[[runners]]` for each `setup`.

use super::person::Person;
use crate::arguments::Setup;
use crate::output::CtlError;
use crate::runner_table;
use crate::runner_timeouts::Timeouts;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use nunbird_handover::Untrusted;
use nunbird_policy::Policy;
use std::io::{BufRead, IsTerminal, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

/// Longer than any token of GitLab's.
const MOST: u64 = 4096;

/// The token, from the file or standard input that the caller names.
pub(super) fn token(options: &Setup) -> Result<Zeroizing<String>, CtlError> {
    let mut text = Zeroizing::new(String::new());
    let place = match &options.token_file {
        None => {
            let input = std::io::stdin();
            let read = if input.is_terminal() {
                typed(&mut text)
            } else {
                input.take(MOST + 1).read_to_string(&mut text)
            };
            read.map_err(|e| CtlError::new(format!("standard input: {e}")))?;
            "standard input".to_owned()
        }
        Some(path) => {
            let shown = path.display();
            let failed = |e: std::io::Error| CtlError::new(format!("{shown}: {e}"));
            let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
            let file = std::fs::File::options().read(true).custom_flags(flags).open(path).map_err(failed)?;
            let meta = file.metadata().map_err(failed)?;
            if !meta.is_file() {
                return Err(CtlError::new(format!(
                    "{shown}: not a regular file; --token-stdin reads a pipe"
                )));
            }
            if meta.mode() & 0o077 != 0 {
                return Err(CtlError::new(format!(
                    "{shown}: others can read the token (mode {:04o}); chmod 600 it, and have GitLab reset a token that others may have read",
                    meta.mode() & 0o7777
                )));
            }
            file.take(MOST + 1).read_to_string(&mut text).map_err(failed)?;
            shown.to_string()
        }
    };
    let token = text.trim();
    if token.starts_with("GR1348941") {
        return Err(CtlError::new(format!(
            "{place}: a registration token, which GitLab has given up; create the runner in GitLab, which then shows a token that begins with `glrt-`"
        )));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if token.len() < 8 || token.len() as u64 > MOST || !token.chars().all(plain) {
        return Err(CtlError::new(format!(
            "{place}: not a runner's token, which has letters, digits, `.`, `_` and `-` on one line"
        )));
    }
    Ok(Zeroizing::new(token.to_owned()))
}

/// One line of the terminal, which does not show it.
fn typed(text: &mut String) -> std::io::Result<usize> {
    let input = std::io::stdin();
    eprint!("The runner's token (glrt-…), which is not shown: ");
    let before = tcgetattr(&input)?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&input, SetArg::TCSANOW, &silent)?;
    let read = input.lock().take(MOST + 1).read_line(text);
    tcsetattr(&input, SetArg::TCSANOW, &before)?;
    eprintln!();
    read
}

/// A runner in the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) name: String,
    token: String,
    url: String,
}

/// Each runner in the text.
pub(super) fn known(text: &str) -> Result<Vec<Known>, String> {
    let table = DeTable::parse(text).map_err(|e| format!("not valid TOML: {}", e.message()))?;
    let Some(DeValue::Array(runners)) = table.get_ref().get("runners").map(|value| value.get_ref()) else {
        return Ok(Vec::new());
    };
    let word = |keys: &DeValue<'_>, key: &str| {
        keys.get(key).and_then(|value| value.get_ref().as_str()).unwrap_or_default().to_owned()
    };
    let of = |one: &DeValue<'_>| Known {
        name: word(one, "name"),
        token: word(one, "token"),
        url: word(one, "url").trim_end_matches('/').to_owned(),
    };
    Ok(runners.iter().map(|one| of(one.get_ref())).collect())
}

/// The text with this runner added, or `None` if it is there.
pub(super) fn with(
    person: &Person,
    policy: &Policy,
    text: Option<&str>,
    options: &Setup,
    token: &str,
) -> Result<Option<String>, CtlError> {
    let shown = person.runners();
    let shown = shown.display();
    let name = &options.name;
    let url = options.url.trim_end_matches('/');
    let table = runner_table::runner(policy, url, name, token);
    let Some(text) = text else {
        let head = format!(
            "# The runners of {}, with their tokens. `nunbirdctl user edit-config` changes this file after a check.\n\
             # The most jobs at the same time. `nunbirdctl user setup` raises it to the number of runners.\n\
             concurrent = 1\nshutdown_timeout = {}\n",
            person.name,
            Timeouts::of(policy).shutdown
        );
        return Ok(Some(head + &table));
    };
    let known = known(text).map_err(|why| CtlError::new(format!("{shown}: {why}")))?;
    if is_known(&known, name, token, url).map_err(|why| CtlError::new(format!("{shown}: {why}")))? {
        return Ok(None);
    }
    let text = raised(text, known.len() + 1);
    Ok(Some(format!("{}\n{table}", text.trim_end())))
}

/// Whether this runner is there; an error for another one with the same name or token.
fn is_known(known: &[Known], name: &str, token: &str, url: &str) -> Result<bool, String> {
    let Some(one) = known.iter().find(|one| one.name == name || one.token == token) else { return Ok(false) };
    let other = Untrusted(&one.name);
    match (one.name == name, one.token == token) {
        (true, true) if one.url == url => Ok(true),
        (true, true) => Err(format!(
            "the runner `{other}` is one of {}; if that URL is wrong, take the runner away with `nunbirdctl user remove`, and set it up again",
            Untrusted(&one.url)
        )),
        (true, false) => Err(format!(
            "there is a runner `{other}` with another token; give this one another --name, or replace the token with `nunbirdctl user edit-config`"
        )),
        _ => Err(format!("the runner `{other}` has this token; each runner has one of its own")),
    }
}

/// `concurrent` of at least so many, where the text has the key on a line of its own before all tables.
fn raised(text: &str, least: usize) -> String {
    let (mut out, mut in_head) = (String::new(), true);
    for line in text.lines() {
        in_head &= !line.trim_start().starts_with('[');
        let value = line.trim().strip_prefix("concurrent").and_then(|rest| rest.trim().strip_prefix('='));
        match value.and_then(|value| value.trim().parse::<usize>().ok()) {
            Some(now) if in_head && now < least => out.push_str(&format!("concurrent = {least}\n")),
            _ => out.push_str(&format!("{line}\n")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Known, is_known, known, raised};

    #[test]
    fn concurrent_is_raised_in_the_head_alone_and_never_lowered() {
        let text = "concurrent = 1\n[[runners]]\nconcurrent = 1\n";
        assert_eq!(raised(text, 2), "concurrent = 2\n[[runners]]\nconcurrent = 1\n");
        assert_eq!(raised("concurrent = 7\n", 2), "concurrent = 7\n");
    }

    #[test]
    fn runners_are_known_by_name_token_and_url() {
        let text = "[[runners]]\nname = \"a\"\ntoken = \"glrt-1\"\nurl = \"https://a/\"\n[[runners]]\nname = \"b\"\n";
        let one = |name: &str, token: &str, url: &str| Known {
            name: name.to_owned(),
            token: token.to_owned(),
            url: url.to_owned(),
        };
        let all = known(text).expect("runners");
        assert_eq!(all, [one("a", "glrt-1", "https://a"), one("b", "", "")]);
        assert_eq!(is_known(&all, "a", "glrt-1", "https://a"), Ok(true));
        assert_eq!(is_known(&all, "c", "glrt-3", "https://a"), Ok(false));
        for (name, token, url, words) in [
            ("a", "glrt-1", "https://b", "nunbirdctl user remove"),
            ("a", "glrt-2", "https://a", "with another token"),
            ("c", "glrt-1", "https://a", "has this token"),
        ] {
            let why = is_known(&all, name, token, url).expect_err(words);
            assert!(why.contains(words), "{why}");
        }
        assert!(known("[[runners").is_err());
    }
}
