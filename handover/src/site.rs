//! What a site says about its jobs beside where they work and by which shell they run.

use crate::Unserved;
use serde::{Deserialize, Serialize};

/// The site's say in how the stages of a job go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteRules {
    /// What the user reads when the job is prepared; lines, without control characters.
    pub message: Option<String>,
    /// Names of the stages that run; a name that ends in `*` stands for all that begin so. The others are passed over
    /// with a word to the user. All run when it is empty.
    pub stages: Vec<String>,
    /// The job's soft limit of the stack, in bytes, at most its hard one; none leaves it as it is.
    pub stack: Option<u64>,
    /// How the account's directories are made and kept.
    pub upkeep: Upkeep,
    /// What the job asked for beside its script and its user is to read that it does not get.
    #[serde(default)]
    pub unserved: Option<Unserved>,
    /// Seconds for which the job's build directory, which is its own then, stays after a script that failed. Left out of the record where it is
    /// none, so that 0.3.0 reads it after a downgrade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u64>,
}

/// How the directories of an account's jobs are made and kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upkeep {
    /// Whether the account's own directory is made with privilege where it is missing.
    pub create: bool,
    /// Whether the account's group may look into the directories: mode 0750 instead of 0700.
    pub group_access: bool,
    /// Seconds after a build directory's last use from which on it may go.
    pub max_age: Option<u64>,
    /// How many build directories may stay on this host; those unused for longest go first.
    pub max_dirs: Option<u64>,
    /// Bytes that shall be free on their file system; while fewer are, those unused for longest go.
    pub min_free: Option<u64>,
    /// How many directories one clean-up removes at most; none for all.
    pub at_once: Option<u64>,
    /// The most seconds for which jobs may have their directory kept; none where they may not. Left out likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u64>,
}

impl Upkeep {
    /// The most seconds that a site can name in `keep`.
    pub const LONGEST_KEEP: u64 = 7 * 24 * 3600;

    /// Whether directories are ever removed, but those that go with their job or were kept for a time.
    pub fn is_in_force(&self) -> bool {
        self.max_age.is_some() || self.max_dirs.is_some() || self.min_free.is_some() || self.keep.is_some()
    }
}

impl SiteRules {
    /// Whether a stage runs. The user's script is one stage by two names: gitlab-runner says `build_script` to custom
    /// executors where its documentation says `step_script`.
    pub fn runs(&self, stage: &str) -> bool {
        let names = match stage {
            "build_script" | "step_script" => ["build_script", "step_script"],
            other => [other; 2],
        };
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => names.iter().any(|name| name.starts_with(beginning)),
            None => names.contains(&pattern.as_str()),
        };
        self.stages.is_empty() || self.stages.iter().any(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::SiteRules;

    #[test]
    fn stages_that_the_site_does_not_name_are_passed_over() {
        let mut site = SiteRules::default();
        assert!(site.runs("get_sources"));
        site.stages = vec!["step_*".to_owned(), "get_sources".to_owned()];
        for (stage, runs) in [
            ("get_sources", true),
            ("step_script", true),
            ("build_script", true),
            ("step_", true),
            ("steps", false),
            ("get_sources_2", false),
            ("after_script", false),
        ] {
            assert_eq!(site.runs(stage), runs, "{stage}");
        }
    }
}
