//! Repositories of the double, cloned over HTTP with a job token, served by git's own CGI program.

use super::http::{Reply, Request};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Makes a bare repository `<root>/<project>.git` with one commit on `main`. Returns the commit.
pub(super) fn create(root: &Path, project: &str, files: &[(&str, &str)]) -> String {
    let bare = root.join(format!("{project}.git"));
    std::fs::create_dir_all(&bare).expect("a directory for the repository");
    let work = tempfile::tempdir_in(root).expect("a work tree");
    for (name, text) in files {
        let path = work.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, text).expect("a file");
    }
    git(&bare, &["init", "--quiet", "--bare", "--initial-branch=main"]);
    git(work.path(), &["init", "--quiet", "--initial-branch=main"]);
    git(work.path(), &["add", "--all"]);
    git(work.path(), &["commit", "--quiet", "--allow-empty", "--message=a commit of the test bed"]);
    git(work.path(), &["push", "--quiet", &bare.display().to_string(), "main"]);
    git(work.path(), &["rev-parse", "HEAD"])
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "-c", "user.name=nbt", "-c", "user.email=nbt@example.org"])
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .stdin(Stdio::null())
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The password of basic authentication, where the user is `gitlab-ci-token`.
pub(super) fn job_token(request: &Request) -> Option<String> {
    let encoded = request.headers.get("authorization")?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    text.strip_prefix("gitlab-ci-token:").map(str::to_owned)
}

/// Passes the request to `git http-backend` (RFC 3875).
pub(super) fn serve(root: &Path, request: &Request) -> Reply {
    let header = |name: &str| request.headers.get(name).map_or("", String::as_str);
    let mut child = Command::new("git")
        .arg("http-backend")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", &request.path)
        .env("QUERY_STRING", &request.query)
        .env("REQUEST_METHOD", &request.method)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .env("REMOTE_USER", "gitlab-ci-token")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git http-backend runs");
    let mut input = child.stdin.take().expect("a pipe");
    let body = request.body.clone();
    let writer = std::thread::spawn(move || input.write_all(&body));
    let output = child.wait_with_output().expect("git http-backend ends");
    // It reads no further than it needs.
    let _unread = writer.join();
    from_cgi(&output.stdout)
}

fn from_cgi(output: &[u8]) -> Reply {
    let end = output.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(output.len());
    let head = String::from_utf8_lossy(&output[..end]);
    let mut reply = Reply::new(200, "text/plain", output.get(end + 4..).unwrap_or(&[]));
    reply.headers.clear();
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
        match name {
            "Status" => {
                reply.status = value.split(' ').next().and_then(|code| code.parse().ok()).unwrap_or(500);
            }
            _ => reply.headers.push((name.to_owned(), value.to_owned())),
        }
    }
    reply
}
