//! A directory with a configuration in it, and nunbirdctl.

use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const POLICY: &str = r#"
[[gitlab]]
name = "main"
url = "https://gitlab.example.org"
audience = "https://gitlab.example.org"

[[rule]]
name = "no schedules"
when = { pipeline_source = "schedule" }
deny = "schedules do not run here"
[[rule]]
name = "hpc-only"
when = { project = "hpc/**" }
run_as = "$user_login"
"#;

pub(crate) struct Scene(TempDir);

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Output {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

impl Scene {
    pub(crate) fn new() -> Self {
        let scene = Scene(tempfile::tempdir().unwrap());
        scene.configure(POLICY);
        scene
    }

    pub(crate) fn policy(&self) -> String {
        POLICY.to_owned()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn configure(&self, text: &str) {
        self.file("config.toml", text);
    }

    /// Writes a file and gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn claims(&self, json: &str) -> String {
        self.file("claims.json", json)
    }

    /// Runs a command on the scene's configuration.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let configuration = self.path("config.toml");
        self.run_bare(&[arguments, &["--configuration", configuration.to_str().unwrap()]].concat())
    }

    pub(crate) fn run_bare<S: AsRef<str>>(&self, arguments: &[S]) -> Output {
        let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        let output = Command::new(Path::new(env!("CARGO_BIN_EXE_nunbirdctl")))
            .args(arguments)
            .output()
            .expect("nunbirdctl");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Output {
            code: output.status.code().expect("a code"),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

/// Facts of a push to main, as an admin writes them.
pub(crate) fn claims(login: &str, project: &str) -> String {
    format!(
        r#"{{"user_login":"{login}","user_id":7,"project_path":"{project}","ref":"main","ref_protected":true,"pipeline_source":"push"}}"#
    )
}
