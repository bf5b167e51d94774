//! Where an account's jobs work.

use crate::AccountFacts;
use std::path::{Path, PathBuf};

/// `directories.data_dir` with `$HOME` and `$USER` filled in. None where the home directory has characters that a shell would
/// interpret: gitlab-runner writes paths below it into scripts inside double quotes, where a `$` or a backquote would run.
pub fn data_dir(template: &str, user: &str, home: &Path) -> Option<PathBuf> {
    let home = home.to_str()?;
    let path = template.replace("$HOME", home.trim_end_matches('/')).replace("$USER", user);
    is_plain(&path).then(|| PathBuf::from(path))
}

/// The first directory on the way to [`data_dir`] whose name is the account's own, because `$USER` is in it; none where
/// the way leads through the home directory.
pub fn own_directory(template: &str, user: &str, home: &Path) -> Option<PathBuf> {
    if template.contains("$HOME") {
        return None;
    }
    let begin = template.find("$USER")?;
    let end = template.get(begin..)?.find('/').map_or(template.len(), |length| begin + length);
    data_dir(template.get(..end)?, user, home)
}

/// The directory for builds that a user names, `text`, and below it the account's own. `$HOME`, `$USER` and `~/` stand for the
/// account's, also in braces, and `$$` is one `$`: gitlab-runner expands `$HOME` in a variable's value to what the runner knows by that
/// name, so pipelines write `$$HOME` (docs.gitlab.com, "Use variables in other variables"). None for what is no absolute path then, has `.` or `..` in it, or anything that a shell would
/// interpret.
pub fn builds_root(text: &str, user: &str, home: &Path) -> Option<PathBuf> {
    let home = home.to_str()?.trim_end_matches('/');
    let mut path = String::new();
    let mut rest = text;
    if let Some(tail) = text.strip_prefix("~/") {
        path = format!("{home}/");
        rest = tail;
    }
    while let Some((before, after)) = rest.split_once('$') {
        let after = after.strip_prefix('$').unwrap_or(after);
        let (name, tail) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}')?,
            None => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                after.split_at(end.unwrap_or(after.len()))
            }
        };
        path.push_str(before);
        path.push_str(match name {
            "HOME" => home,
            "USER" => user,
            _ => return None,
        });
        rest = tail;
    }
    path.push_str(rest);
    let dots = path.split('/').any(|part| part == "." || part == "..");
    (is_plain(&path) && !dots).then(|| Path::new(&path).join(user))
}

/// A path of the site's for an account, with `$HOME`, `$USER` and `$UID` filled in. None where the home directory has characters
/// that a shell would interpret.
pub fn account_path(template: &str, account: &AccountFacts) -> Option<PathBuf> {
    let home = account.home.to_str()?.trim_end_matches('/');
    let uid = account.uid.to_string();
    let path = filled(template, |name| match name {
        "HOME" => Some(home),
        "USER" => Some(&account.name),
        "UID" => Some(&uid),
        _ => None,
    })?;
    let dots = path.split('/').any(|part| part == "." || part == "..");
    (is_plain(&path) && !dots).then(|| PathBuf::from(path))
}

/// Whether [`account_path`] makes a path of it for an account with a sound home directory.
pub(crate) fn is_account_path(template: &str) -> bool {
    let known = |name: &str| match name {
        "HOME" => Some("/h"),
        "USER" | "UID" => Some("u"),
        _ => None,
    };
    filled(template, known).is_some_and(|path| {
        is_plain(&path)
            && !path.split('/').any(|part| part == "." || part == "..")
            && !template.contains("/$HOME")
    })
}

fn filled<'a>(template: &str, value: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    let mut path = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
        let (name, tail) = after.split_at(end);
        path.push_str(before);
        path.push_str(value(name)?);
        rest = tail;
    }
    path.push_str(rest);
    Some(path)
}

/// Whether gitlab-runner can write the path into a script.
fn is_plain(path: &str) -> bool {
    let plain =
        |c: char| c.is_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '+' | '@' | ',' | '=' | ':');
    path.starts_with('/') && path.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::{builds_root, data_dir, own_directory};
    use std::path::Path;

    #[test]
    fn a_home_that_a_shell_would_interpret_has_no_data_directory() {
        let filled = |template, home: &str| data_dir(template, "ada", Path::new(home));
        assert_eq!(filled("$HOME/.nunbird", "/home/ada/").as_deref(), Some(Path::new("/home/ada/.nunbird")));
        assert_eq!(filled("/scratch/$USER", "/home/$(id)").as_deref(), Some(Path::new("/scratch/ada")));
        for home in ["/home/$(id)", "/home/a b", "/home/`id`", "/home/a\nb", "/home/\"", "ada"] {
            assert_eq!(filled("$HOME/.nunbird", home), None, "{home}");
        }
    }

    #[test]
    fn a_user_names_a_directory_by_what_is_known_of_the_account_and_nothing_else() {
        let root = |text| builds_root(text, "ada", Path::new("/home/ada/"));
        for (text, expected) in [
            ("/scratch/ci", "/scratch/ci/ada"),
            ("$HOME/ci", "/home/ada/ci/ada"),
            ("${HOME}/ci/", "/home/ada/ci/ada"),
            ("~/ci", "/home/ada/ci/ada"),
            ("$$HOME/.ci/77", "/home/ada/.ci/77/ada"),
            ("$${HOME}/ci", "/home/ada/ci/ada"),
            ("/usr/workspace/$$USER/x-$$USER", "/usr/workspace/ada/x-ada/ada"),
            ("/p/$USER/x-${USER}", "/p/ada/x-ada/ada"),
        ] {
            assert_eq!(root(text).as_deref(), Some(Path::new(expected)), "{text}");
        }
        for text in [
            "",
            "ci",
            "?",
            "$SCRATCH/ci",
            "$$SCRATCH/ci",
            "$$$HOME/ci",
            "/p/$$",
            "/p/$USERNAME",
            "/p/${USER",
            "/p/../etc",
            "/p/./x",
            "/p/$(id)",
            "/p/`id`",
            "/p/a b",
            "/p/\"",
            "/p/$",
            "~bob/ci",
            "/p\n/x",
        ] {
            assert_eq!(root(text), None, "{text}");
        }
    }

    #[test]
    fn an_accounts_own_directory_is_the_first_that_bears_its_name_in_the_template() {
        let own = |template| own_directory(template, "a", Path::new("/home/a"));
        for (template, expected) in [
            ("/ecp/$USER", Some("/ecp/a")),
            ("/scratch/data/$USER/ci", Some("/scratch/data/a")),
            ("/p/ci-$USER.d/$USER", Some("/p/ci-a.d")),
            ("$HOME/.nunbird", None),
            ("$HOME/$USER", None),
            ("/scratch/shared", None),
        ] {
            assert_eq!(own(template).as_deref(), expected.map(Path::new), "{template}");
        }
    }
}
