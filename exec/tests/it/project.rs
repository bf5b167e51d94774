//! A project in a directory of its own.

use nunbird_exec::failure::Failure;
use nunbird_exec::instances::{choose, instances};
use nunbird_exec::job::{Around, Job, listed};
use nunbird_exec::pipeline::{Pipeline, Sources, load};
use nunbird_exec::tree::Tree;
use nunbird_exec::variables::Variables;
use std::fs;
use std::process::Command;
use tempfile::TempDir;

pub(crate) struct Project {
    directory: TempDir,
    pub(crate) predefined: Variables,
    pub(crate) given: Variables,
    pub(crate) ignore_remote: bool,
}

impl Project {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut predefined = Variables::default();
        for (name, value) in [
            ("CI", "true"),
            ("CI_COMMIT_BRANCH", "main"),
            ("CI_COMMIT_REF_NAME", "main"),
            ("CI_PIPELINE_SOURCE", "push"),
        ] {
            predefined.set(name, value);
        }
        let project = Project { directory, predefined, given: Variables::default(), ignore_remote: false };
        project.git("init -q -b main .");
        for (name, text) in files {
            project.write(name, text.as_bytes());
        }
        project
    }

    pub(crate) fn git(&self, words: &str) {
        let mut command = Command::new("git");
        command
            .args(["-c", "user.name=a", "-c", "user.email=a@example.org", "-C"])
            .arg(self.directory.path());
        assert!(command.args(words.split(' ')).status().expect("git runs").success(), "git {words}");
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, bytes).expect("a file");
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        self.directory.path()
    }

    pub(crate) fn tree(&self) -> Tree {
        Tree::around(self.directory.path()).unwrap_or_else(|failure| panic!("{failure}"))
    }

    pub(crate) fn pipeline(&self) -> Result<Pipeline, Failure> {
        let mut outer = self.predefined.clone();
        outer.add(&self.given);
        load(
            Sources { tree: &self.tree(), outer: &outer, ignore_remote: self.ignore_remote },
            ".gitlab-ci.yml",
        )
    }

    pub(crate) fn job(&self, name: &str) -> Result<(Job, Vec<String>), Failure> {
        let pipeline = self.pipeline()?;
        let all = instances(&pipeline)?;
        let instance = choose(&all, &pipeline, name)?;
        let mut remarks = Vec::new();
        let tree = self.tree();
        let around = Around { predefined: &self.predefined, given: &self.given, tree: &tree };
        Job::read(&pipeline, instance, around, &mut remarks).map(|job| (job, remarks))
    }

    #[track_caller]
    pub(crate) fn good(&self, name: &str) -> Job {
        self.job(name).unwrap_or_else(|failure| panic!("{failure}")).0
    }

    #[track_caller]
    pub(crate) fn bad(&self, name: &str) -> String {
        self.job(name).map(|(job, _)| panic!("{job:?}")).expect_err("a failure").to_string()
    }

    /// Each job with what a list says of it.
    pub(crate) fn list(&self) -> Vec<(String, String)> {
        let pipeline = self.pipeline().unwrap_or_else(|failure| panic!("{failure}"));
        let tree = self.tree();
        let around = Around { predefined: &self.predefined, given: &self.given, tree: &tree };
        let all = instances(&pipeline).unwrap_or_else(|failure| panic!("{failure}"));
        let one = |instance| {
            let one = listed(&pipeline, instance, around, &mut Vec::new())
                .unwrap_or_else(|failure| panic!("{failure}"));
            (one.name, one.stage)
        };
        all.iter().map(one).collect()
    }
}

/// A project with one file.
pub(crate) fn of(text: &str) -> Project {
    Project::new(&[(".gitlab-ci.yml", text)])
}
