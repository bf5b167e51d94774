//! Variables of the user's: `--variables FILE` and `--variable NAME=value`.
//!
//! A value is taken as it is, without expansion: a password may have a `$` in it. Errors never show one.

use crate::failure::{Failure, Place};
use crate::variables::Variables;
use nix::fcntl::OFlag;
use nix::unistd::getuid;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// The longest file, in bytes.
const LONGEST: u64 = 1 << 20;

/// Reads a file of lines `NAME=value`. Empty lines and those that begin with `#` are passed over, and quotes around a whole value.
///
/// # Errors
/// For a file that others than its owner may read or write, and for a line that is no variable.
pub(crate) fn file(path: &Path) -> Result<Variables, Failure> {
    let shown = nunbird_stage::error::shown(path);
    let failed = |e: std::io::Error| {
        Failure::new(format!("cannot read {shown}: {e}")).help("check the path of --variables")
    };
    // Judged after it is open, so that it is the same file. The open of a named pipe would wait for a writer.
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(Failure::new(format!("{shown} is no regular file")).help(
            "name a file with lines NAME=value; the output of a command, `<(COMMAND)`, must be written to a file of mode 0600 first",
        ));
    }
    if meta.uid() != getuid().as_raw() {
        return Err(
            Failure::new(format!("{shown} belongs to another account")).help("copy it to a file of your own")
        );
    }
    if meta.mode() & 0o077 != 0 {
        let what =
            format!("{shown} has mode {:04o}: others than you may read or change it", meta.mode() & 0o7777);
        return Err(Failure::new(what).help(format!("chmod 600 {shown}")));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LONGEST {
        return Err(Failure::new(format!("{shown} is longer than {LONGEST} bytes")).help("split it"));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::new(format!("{shown} is not UTF-8")).help("save it as UTF-8"))?;
    let mut all = Variables::default();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = Place { file: path.to_string_lossy().into(), line: number + 1, column: 1 };
        let (name, value) = pair(line).map_err(|failure| failure.at(&place))?;
        let inner = |quote| value.strip_prefix(quote).and_then(|rest: &str| rest.strip_suffix(quote));
        all.set(name, inner('"').or_else(|| inner('\'')).unwrap_or(value));
    }
    Ok(all)
}

/// The name and the value of `NAME=value`.
///
/// # Errors
/// When it is something else.
pub(crate) fn pair(text: &str) -> Result<(&str, &str), Failure> {
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    text.split_once('=')
        .map(|(name, value)| (name.trim_end(), value))
        .filter(|(name, value)| is_name(name) && !value.contains('\0'))
        .ok_or_else(|| {
            Failure::new("this is no variable")
                .help("write NAME=value, with letters, digits and `_` in the name")
        })
}

#[cfg(test)]
mod tests {
    use super::{file, pair};
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_read_only_if_nobody_else_may_read_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("secrets");
        fs::write(&path, "# mine\n\nTOKEN=a$b=c\nQUOTED=\"two words\"\nEMPTY=\n").expect("a file");
        for (mode, readable) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false)]
        {
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("a mode");
            assert_eq!(file(&path).is_ok(), readable, "{mode:o}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a mode");
        let values = file(&path).expect("variables").expanded().expect("values");
        assert_eq!(
            [values.get("TOKEN"), values.get("QUOTED"), values.get("EMPTY")],
            [Some("a$b=c"), Some("two words"), Some("")]
        );
    }

    #[test]
    fn a_named_pipe_is_refused_at_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(file(&path).map(drop).map_err(|failure| failure.to_string())));
        let answer = receiver.recv_timeout(std::time::Duration::from_secs(10)).expect("an answer at once");
        let failure = answer.expect_err("a pipe is refused");
        assert!(failure.contains("is no regular file") && failure.contains("mode 0600"), "{failure}");
        let directory = file(directory.path()).expect_err("a directory is refused").to_string();
        assert!(directory.contains("is no regular file"), "{directory}");
    }

    #[test]
    fn an_error_has_the_line_and_no_value() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("secrets");
        fs::write(&path, "A=1\nhidden-password\n").expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a mode");
        let failure = file(&path).expect_err("no variable").to_string();
        assert!(failure.contains("secrets:2:1") && !failure.contains("hidden"), "{failure}");
        assert!(pair("1A=x").is_err() && pair("A-B=x").is_err() && pair("A=").is_ok());
    }
}
