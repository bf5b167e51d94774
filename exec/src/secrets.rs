//! Variables of the user's: `--variables FILE`, `--variable NAME=value` and `--file-variable NAME=PATH`.
//!
//! A value is taken as it is, without expansion: a password may have a `$` in it. Errors never show one.
//!
//! A file variable has a path as its value, as GitLab's variables of type *File*: that of a private copy in the job's build directory, beside
//! the project's, where gitlab-runner has them as well. There the launcher's clean-up removes them, and a container and the nodes of a
//! scheduler see them.

use crate::failure::{Failure, Place};
use crate::variables::{Variable, Variables};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::getuid;
use nunbird_stage::StageError;
use nunbird_stage::directory::{Directory, make};
use nunbird_stage::error::shown;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The longest file, in bytes.
const LONGEST: u64 = 1 << 20;
/// The longest file of a file variable, in bytes.
const LONGEST_FILE: u64 = 16 << 20;

/// All that the user gives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Given {
    /// The variables. The value of a file variable is the path of the copy.
    pub(crate) variables: Variables,
    /// What is copied for file variables, by their names.
    pub(crate) files: BTreeMap<String, PathBuf>,
}

impl Given {
    fn set(&mut self, name: &str, value: &str) {
        self.files.remove(name);
        self.variables.set(name, value);
    }

    fn set_file(&mut self, name: &str, path: PathBuf) {
        let value = format!("${{CI_PROJECT_DIR}}{COPIES}/{name}");
        self.variables.insert(name, Variable { value, expand: true, place: None });
        self.files.insert(name.to_owned(), path);
    }

    /// Those of the command line.
    ///
    /// # Errors
    /// For a word that is no variable.
    pub(crate) fn of_command_line(variables: &[String], files: &[String]) -> Result<Given, Failure> {
        let mut given = Given::default();
        for text in variables {
            let (name, value) = pair(text).map_err(|failure| failure.help("--variable NAME=value"))?;
            given.set(name, value);
        }
        for text in files {
            let (name, path) = pair(text).map_err(|failure| failure.help("--file-variable NAME=PATH"))?;
            let path = std::path::absolute(path).map_err(|e| {
                Failure::new(format!("cannot use the file of `{name}`: {e}")).help("name a file")
            })?;
            given.set_file(name, path);
        }
        Ok(given)
    }

    /// All of another, which wins.
    pub(crate) fn add(&mut self, over: &Given) {
        for name in over.variables.names() {
            self.files.remove(name);
        }
        self.variables.add(&over.variables);
        self.files.extend(over.files.clone());
    }

    /// Looks for what would stop the job later.
    ///
    /// # Errors
    /// For a file that cannot be read.
    pub(crate) fn check_files(&self) -> Result<(), Failure> {
        self.files.iter().try_for_each(|(name, path)| content(name, path).map(drop))
    }

    /// Copies the files into the job's build directory, `builds` at `builds_dir`. No code of the job's has run in it yet, or the job has ended.
    ///
    /// # Errors
    /// For a file that cannot be read, and as mkdir(2), open(2) and write(2).
    pub(crate) fn copy_files(
        &self,
        builds: &Directory,
        builds_dir: &Path,
        project_dir: &Path,
    ) -> Result<(), Failure> {
        if self.files.is_empty() {
            return Ok(());
        }
        let unusable = |e: StageError| Failure::new(e.to_string());
        let way = project_dir.strip_prefix(builds_dir).unwrap_or(Path::new("project"));
        let mut name = OsString::from(way.file_name().unwrap_or_default());
        name.push(COPIES);
        let mut parents = way.parent().into_iter().flat_map(Path::components);
        let parent = parents.try_fold(None, |above: Option<Directory>, part| {
            let above = above.as_ref().unwrap_or(builds);
            let (name, path) = (part.as_os_str(), above.path().join(part));
            make(above.as_fd(), name, &path)?;
            above.child(name)?.map(Some).ok_or_else(|| {
                StageError::at(
                    "cannot keep",
                    &path,
                    "something removes it at the same time",
                    "run the job again",
                )
            })
        });
        let parent = parent.map_err(unusable)?;
        let copies = parent.as_ref().unwrap_or(builds).make_child(&name).map_err(unusable)?;
        for (name, path) in &self.files {
            let content = content(name, path)?;
            let flags =
                OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let written = copies
                .unlink(name.as_ref())
                .and_then(|()| openat(&copies, name.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR))
                .map_err(io::Error::from)
                .and_then(|fd| File::from(fd).write_all(&content));
            written.map_err(|e| {
                Failure::new(format!("cannot write {}: {e}", shown(&copies.path().join(name))))
                    .help("free some space there")
            })?;
        }
        Ok(())
    }
}

/// Ends the name of the directory of the copies; the beginning is the project's.
const COPIES: &str = ".tmp";

fn content(name: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    let file_of = format!("the file of the variable `{name}`, {},", shown(path));
    let failed = |e: io::Error| {
        Failure::new(format!("{file_of} cannot be read: {e}"))
            .help("check its path in --file-variable or --variables")
    };
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(Failure::new(format!("{file_of} is no regular file"))
            .help("write its content to a file of mode 0600"));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LONGEST_FILE {
        let what = format!("{file_of} is longer than {LONGEST_FILE} bytes");
        return Err(Failure::new(what).help("let the script read it from where it is"));
    }
    Ok(bytes)
}

/// Reads a file of lines `NAME=value` and `file NAME=PATH`, the path from the directory of the file. Empty lines and those that begin with `#` are passed over, and quotes around a whole value.
///
/// # Errors
/// For a file that others than its owner may read or write, and for a line that is no variable.
pub(crate) fn file(path: &Path) -> Result<Given, Failure> {
    let shown = shown(path);
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
    let absolute = std::path::absolute(path).map_err(failed)?;
    let directory = absolute.parent().unwrap_or(Path::new("/"));
    let mut all = Given::default();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = Place { file: path.to_string_lossy().into(), line: number + 1, column: 1 };
        let of_file = line.strip_prefix("file").filter(|rest| rest.starts_with([' ', '\t']));
        let (name, value) =
            pair(of_file.unwrap_or(line).trim_start()).map_err(|failure| failure.at(&place))?;
        let inner = |quote| value.strip_prefix(quote).and_then(|rest: &str| rest.strip_suffix(quote));
        let value = inner('"').or_else(|| inner('\'')).unwrap_or(value);
        match of_file {
            Some(_) => all.set_file(name, directory.join(value)),
            None => all.set(name, value),
        }
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
            Failure::new("this is no variable").help(
                "write NAME=value, or `file NAME=PATH` in a file, with letters, digits and `_` in the name",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::{Given, file, pair};
    use crate::variables::Variables;
    use nunbird_stage::directory::Directory;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

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
        let values = file(&path).expect("variables").variables.expanded().expect("values");
        assert_eq!(
            [values.get("TOKEN"), values.get("QUOTED"), values.get("EMPTY")],
            [Some("a$b=c"), Some("two words"), Some("")]
        );
    }

    #[test]
    fn a_file_variable_is_the_path_of_a_private_copy_and_the_last_word_on_a_name_counts() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("secrets");
        fs::write(
            &path,
            "file KUBECONFIG=kube/config\nfile CERT='/etc/a b'\nPLAIN=@here\nfile GONE=x\nGONE=value\n",
        )
        .expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a mode");
        fs::create_dir(directory.path().join("kube")).expect("a directory");
        fs::write(directory.path().join("kube/config"), "the secret").expect("a file");
        let mut given = file(&path).expect("variables");
        assert_eq!(given.files.len(), 2);
        assert_eq!(given.files["CERT"], Path::new("/etc/a b"));
        let over = Given::of_command_line(&["CERT=text".to_owned()], &[]).expect("variables");
        given.add(&over);
        let builds_dir = directory.path().join("builds");
        fs::create_dir(&builds_dir).expect("a directory");
        let uid = nix::unistd::getuid().as_raw();
        let builds = Directory::data_dir(&builds_dir, uid).expect("opens").expect("is there");
        let project_dir = builds_dir.join("group/project");
        let mut all = Variables::default();
        all.set("CI_PROJECT_DIR", project_dir.to_string_lossy());
        all.add(&given.variables);
        let values = all.expanded().expect("values");
        let copy = builds_dir.join("group/project.tmp/KUBECONFIG");
        assert_eq!(
            ["KUBECONFIG", "CERT", "PLAIN", "GONE"].map(|name| values.get(name).unwrap_or_default()),
            [copy.to_str().expect("UTF-8"), "text", "@here", "value"]
        );
        for _ in 0..2 {
            given.copy_files(&builds, &builds_dir, &project_dir).expect("copied");
        }
        assert_eq!(fs::read_to_string(&copy).expect("the copy"), "the secret");
        assert_eq!(fs::metadata(&copy).expect("the copy").permissions().mode() & 0o777, 0o600);
        assert_eq!(
            fs::metadata(copy.with_file_name("")).expect("its directory").permissions().mode() & 0o777,
            0o700
        );
        // What the job has put in its place is not written through.
        fs::write(directory.path().join("own"), "the user's").expect("a file");
        fs::remove_file(&copy).expect("removed");
        std::os::unix::fs::symlink(directory.path().join("own"), &copy).expect("a link");
        given.copy_files(&builds, &builds_dir, &project_dir).expect("copied");
        assert_eq!(fs::read_to_string(directory.path().join("own")).expect("a file"), "the user's");
        for (path, why) in [("/nonexistent/x", "cannot be read"), ("/dev/null", "is no regular file")] {
            let given = Given::of_command_line(&[], &[format!("X={path}")]).expect("a variable");
            let failure =
                given.copy_files(&builds, &builds_dir, &project_dir).expect_err("refused").to_string();
            assert!(failure.contains(why) && failure.contains("variable `X`"), "{failure}");
        }
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
