//! Variables that GitLab predefines, as far as the work tree and this host have them. docs/exec.md has the table.

use crate::failure::Failure;
use crate::tree::Tree;
use crate::variables::Variables;

/// Those of the commit, the project and the pipeline. `account` is the user's login name on this host.
///
/// # Errors
/// For a repository without a commit.
pub(crate) fn of_project(tree: &Tree, file: &str, account: &str) -> Result<Variables, Failure> {
    let mut all = Variables::default();
    let head = tree.ask(["rev-parse", "HEAD"]).ok_or_else(|| {
        Failure::new("the repository has no commit").help("commit something: a job works on a commit")
    })?;
    for (name, value) in [
        ("CI", "true"),
        ("GITLAB_CI", "true"),
        ("CI_SERVER", "yes"),
        ("CI_DISPOSABLE_ENVIRONMENT", "false"),
        ("CI_PIPELINE_SOURCE", "push"),
        ("CI_PIPELINE_ID", "0"),
        ("CI_PIPELINE_IID", "0"),
        ("CI_JOB_ID", "0"),
        ("CI_CONCURRENT_ID", "0"),
        ("CI_CONCURRENT_PROJECT_ID", "0"),
        ("CI_COMMIT_BEFORE_SHA", "0000000000000000000000000000000000000000"),
        ("CI_CONFIG_PATH", file),
        ("GITLAB_USER_LOGIN", account),
        // What tells a script that no pipeline is around it.
        ("NUNBIRD_EXEC", "true"),
    ] {
        all.set(name, value);
    }
    all.set("CI_COMMIT_SHORT_SHA", head.get(..8).unwrap_or(&head));
    all.set("CI_COMMIT_SHA", &*head);
    let branch = tree.ask(["symbolic-ref", "--quiet", "--short", "HEAD"]);
    let tag = || tree.ask(["describe", "--tags", "--exact-match", "HEAD"]);
    let (kind, name) = match (branch, tag) {
        (Some(branch), _) => ("CI_COMMIT_BRANCH", branch),
        (None, tag) => match tag() {
            Some(tag) => ("CI_COMMIT_TAG", tag),
            // A detached commit is of some branch; GitLab would name it.
            None => ("CI_COMMIT_BRANCH", head.get(..8).unwrap_or(&head).to_owned()),
        },
    };
    all.set("CI_COMMIT_REF_SLUG", slug(&name));
    all.set("CI_COMMIT_REF_NAME", &*name);
    all.set(kind, name);
    for (name, format) in [
        ("CI_COMMIT_MESSAGE", "%B"),
        ("CI_COMMIT_TITLE", "%s"),
        ("CI_COMMIT_DESCRIPTION", "%b"),
        ("CI_COMMIT_AUTHOR", "%an <%ae>"),
        ("CI_COMMIT_TIMESTAMP", "%cI"),
    ] {
        let value = tree.ask(["log", "-1", &format!("--format={format}")]).unwrap_or_default();
        all.set(name, value.replace('\0', ""));
    }
    let default = tree.ask(["symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD"]);
    if let Some(default) = default {
        all.set("CI_DEFAULT_BRANCH", default.strip_prefix("origin/").unwrap_or(&default));
    }
    for (name, key) in [("GITLAB_USER_NAME", "user.name"), ("GITLAB_USER_EMAIL", "user.email")] {
        if let Some(value) = tree.ask(["config", key]) {
            all.set(name, value);
        }
    }
    project(tree, &mut all);
    Ok(all)
}

fn project(tree: &Tree, all: &mut Variables) {
    let url = tree.ask(["config", "remote.origin.url"]);
    let place = url.as_deref().and_then(remote);
    let directory = tree
        .root()
        .file_name()
        .map_or_else(|| "project".to_owned(), |name| name.to_string_lossy().into_owned());
    let path = match &place {
        Some((host, path)) => {
            all.set("CI_SERVER_HOST", host.clone());
            all.set("CI_SERVER_FQDN", host.clone());
            all.set("CI_SERVER_URL", format!("https://{host}"));
            all.set("CI_SERVER_PROTOCOL", "https");
            all.set("CI_API_V4_URL", format!("https://{host}/api/v4"));
            all.set("CI_PROJECT_URL", format!("https://{host}/{path}"));
            // Without the user and the password that a remote may have in it.
            all.set("CI_REPOSITORY_URL", format!("https://{host}/{path}.git"));
            path.clone()
        }
        None => directory,
    };
    let (namespace, name) = path.rsplit_once('/').unwrap_or(("", &path));
    all.set("CI_PROJECT_NAME", name);
    all.set("CI_PROJECT_TITLE", name);
    all.set("CI_PROJECT_NAMESPACE", namespace);
    all.set("CI_PROJECT_ROOT_NAMESPACE", namespace.split('/').next().unwrap_or_default());
    all.set("CI_PROJECT_PATH_SLUG", slug(&path));
    all.set("CI_PROJECT_PATH", path.clone());
}

/// Host and path of a remote: `https://host/group/project.git`, `git@host:group/project.git`, `ssh://git@host:22/group/project`.
fn remote(url: &str) -> Option<(String, String)> {
    let (authority, path) = match url.split_once("://") {
        Some(("file", _)) => return None,
        Some((_, rest)) => rest.split_once('/')?,
        None => url.split_once(':').filter(|(host, _)| !host.contains('/'))?,
    };
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = if url.starts_with("http") { host } else { host.split(':').next().unwrap_or_default() };
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let plain =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "-._/:~+".contains(c));
    let inside = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    (plain(host) && plain(path) && inside).then(|| (host.to_owned(), path.to_owned()))
}

/// GitLab's slug: lower case, at most 63 characters, `-` for all but letters and digits, and none at the ends.
pub(crate) fn slug(text: &str) -> String {
    let dashed: String = text
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(63)
        .collect();
    dashed.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::{remote, slug};

    #[test]
    fn a_remote_has_a_host_and_a_path() {
        let of = |host: &str, path: &str| Some((host.to_owned(), path.to_owned()));
        for (url, expected) in [
            ("https://user:secret@git.example.org/a/b/c.git", of("git.example.org", "a/b/c")),
            ("https://git.example.org:8443/a/b", of("git.example.org:8443", "a/b")),
            ("git@git.example.org:a/b.git", of("git.example.org", "a/b")),
            ("ssh://git@git.example.org:22/a/b.git", of("git.example.org", "a/b")),
            ("/srv/git/a.git", None),
            ("file:///srv/git/a.git", None),
            ("../a", None),
            ("https://git.example.org/a/../../b", None),
        ] {
            assert_eq!(remote(url), expected, "{url}");
        }
    }

    #[test]
    fn slugs_are_gitlabs() {
        assert_eq!(slug("Feature/Über_1-"), "feature--ber-1");
        assert_eq!(slug(&"x".repeat(70)).len(), 63);
    }
}
