//! The configuration of the private machine.

use std::path::{Path, PathBuf};

/// Where Nunbird's files are, as its programs see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Directory of `nunbird-auth`, `nunbird` and `nunbird-keys`.
    pub bin: PathBuf,
    /// The configuration file.
    pub configuration: PathBuf,
    /// The authority's certificate.
    pub ca_file: PathBuf,
    /// Where keys are kept.
    pub keys: PathBuf,
    /// The audit file.
    pub audit: PathBuf,
}

impl Paths {
    /// Those of a packaged installation.
    pub(super) fn packaged() -> Self {
        Paths {
            bin: "/opt/nunbird/bin".into(),
            configuration: "/etc/nunbird/config.toml".into(),
            ca_file: "/etc/nunbird/ca.pem".into(),
            keys: "/var/lib/nunbird/keys".into(),
            audit: "/var/log/nunbird/audit.jsonl".into(),
        }
    }

    /// All below one directory.
    pub(super) fn below(root: &Path) -> Self {
        Paths {
            bin: root.join("bin"),
            configuration: root.join("config.toml"),
            ca_file: root.join("ca.pem"),
            keys: root.join("keys"),
            audit: root.join("audit.jsonl"),
        }
    }
}

/// What the default configuration says.
#[derive(Debug, Clone)]
pub(super) struct Settings<'a> {
    pub(super) paths: &'a Paths,
    /// `setuid` or `none`.
    pub(super) downscope: &'a str,
    pub(super) server_url: &'a str,
    /// `directories.data_dir`, when it is not the default.
    pub(super) data_dir: Option<String>,
    /// `PATH` of jobs, when it is not the default; a login shell would replace it.
    pub(super) job_path: Option<String>,
}

/// The audience of the test bed's tokens.
pub const AUDIENCE: &str = "https://hpc.example.org";

/// The text: one server, and two rules that send service accounts home and run everybody else as themselves.
pub(super) fn text(settings: &Settings<'_>) -> String {
    let Paths { bin, ca_file, keys, audit, .. } = settings.paths;
    let (bin, ca_file) = (bin.display(), ca_file.display());
    let (keys, audit) = (keys.display(), audit.display());
    let Settings { downscope, server_url, .. } = settings;
    let directories = settings
        .data_dir
        .as_ref()
        .map(|path| format!("\n[directories]\ndata_dir = \"{path}\"\n"))
        .unwrap_or_default();
    let login = settings.job_path.is_none();
    let job_path = settings
        .job_path
        .as_ref()
        .map(|path| format!("\n[job.environment]\nPATH = \"{path}\"\n"))
        .unwrap_or_default();
    format!(
        "downscope = \"{downscope}\"\n\
         keys_dir = \"{keys}\"\n\
         \n\
         [[gitlab]]\n\
         name = \"site\"\n\
         url = \"{server_url}\"\n\
         audience = \"{AUDIENCE}\"\n\
         ca_file = \"{ca_file}\"\n\
         \n\
         [job]\n\
         launcher = \"{bin}/nunbird\"\n\
         login_shell = {login}\n\
         {job_path}{directories}\n\
         [audit]\n\
         file = \"{audit}\"\n\
         \n\
         [[rule]]\n\
         name = \"nobody from outside\"\n\
         when.namespace = [\"outside\", \"outside/**\"]\n\
         deny = \"projects of `outside` do not run here\"\n\
         \n\
         [[rule]]\n\
         name = \"users as themselves\"\n\
         run_as = \"$user_login\"\n"
    )
}
