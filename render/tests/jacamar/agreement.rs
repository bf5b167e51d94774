//! Random configurations and jobs: Nunbird decides as Jacamar's documentation says, and a migrated configuration as its
//! original.

use super::{findings, migrated, read, substance};
use nunbird_policy::{
    AccountFacts, Host, HostError, IdentitySource, MapFile, Policy, RuleOutcome, ServerUser, Subject,
    Verdict, Violation, decide,
};
use proptest::prelude::*;
use std::borrow::Cow;
use std::path::Path;

/// Four people with groups, shells and uids of every kind.
struct Site;

impl Site {
    /// uid, groups and shell.
    fn person(name: &str) -> Option<(u32, &'static [&'static str], &'static str)> {
        match name {
            "ada" => Some((5001, &["physics"], "/bin/bash")),
            "bob" => Some((5002, &["guests"], "/bin/zsh")),
            "eve" => Some((5003, &["physics", "guests"], "/bin/bash")),
            "old" => Some((500, &[], "/bin/bash")),
            _ => None,
        }
    }
}

fn gid(group: &str) -> Option<u32> {
    [("physics", 70), ("guests", 71), ("ghosts", 72)]
        .into_iter()
        .find(|(name, _)| *name == group)
        .map(|(_, gid)| gid)
}

impl Host for Site {
    fn account(&self, name: &str) -> Result<Option<AccountFacts>, HostError> {
        Ok(Site::person(name).map(|(uid, groups, shell)| AccountFacts {
            name: name.to_owned(),
            uid,
            gid: uid,
            groups: groups.iter().filter_map(|group| gid(group)).chain([uid]).collect(),
            home: "/home/x".into(),
            shell: shell.into(),
            name_of_uid: Some(name.to_owned()),
        }))
    }

    fn group(&self, name: &str) -> Result<Option<u32>, HostError> {
        Ok(gid(name))
    }

    fn is_member(&self, account: &AccountFacts, group: &str) -> Result<Option<bool>, HostError> {
        Ok(self.group(group)?.map(|gid| account.is_in(gid)))
    }

    fn map(&self, _: &MapFile) -> Result<Cow<'_, str>, HostError> {
        Ok(Cow::Borrowed(""))
    }

    fn pinned(&self, _: Option<&std::path::Path>, _: &str, _: &str) -> Result<Option<u64>, HostError> {
        Ok(None)
    }

    fn server_user(&self, job: &Subject) -> Result<ServerUser, HostError> {
        Ok(ServerUser::person(job))
    }
}

/// What a configuration says of who may run.
#[derive(Debug, Clone)]
struct Lists {
    user_allow: Vec<&'static str>,
    user_block: Vec<&'static str>,
    group_allow: Vec<&'static str>,
    group_block: Vec<&'static str>,
    sources: Vec<&'static str>,
    shells: Vec<&'static str>,
    bots: bool,
    runas: bool,
}

impl Lists {
    /// As the site writes it, with everything else at random.
    fn text(&self, rest: &Rest) -> String {
        let Lists { user_allow, user_block, group_allow, group_block, sources, shells, bots, runas } = self;
        let Rest { nologin, first, downscope, logging, seccomp } = rest;
        let runas = if *runas {
            "[auth.runas]\nvalidation_script = \"/etc/v\"\nvalidation_env = [\"K=a\\\"b\"]\n"
        } else {
            ""
        };
        format!(
            "[general]\nexecutor = \"shell\"\ndata_dir = \"/ecp\"\ngitlab_server = \"https://g.example.org\"\n\
             [auth]\ndownscope = \"{downscope}\"\nuser_allowlist = {user_allow:?}\nuser_blocklist = {user_block:?}\n\
             groups_allowlist = {group_allow:?}\ngroups_blocklist = {group_block:?}\n\
             pipeline_source_allowlist = {sources:?}\nshell_allowlist = {shells:?}\nallow_bot_accounts = {bots}\n\
             enforce_nologin = {nologin}\nlists_pre_validation = {first}\n\
             {runas}[auth.logging]\nenabled = true\n{logging}\n[auth.seccomp]\n{seccomp}\n"
        )
    }

    /// Who runs as whom, or what stops the job: the order of Jacamar's documentation, and then what Nunbird forbids.
    fn expect(&self, job: &Subject, downscope: &str) -> String {
        let denied = |why: &str| format!("no: {why}");
        let source = job.pipeline_source.as_deref().unwrap_or("");
        if !self.sources.is_empty() && !self.sources.contains(&source) {
            return denied("pipeline_source_allowlist");
        }
        let name = job.validated.as_deref().filter(|_| self.runas).unwrap_or(&job.user_login);
        let groups = Site::person(name).map_or(&[][..], |(_, groups, _)| groups);
        let in_one = |list: &[&str]| groups.iter().any(|group| list.contains(group));
        let listed = self.user_allow.contains(&name) || {
            if self.user_block.contains(&name) {
                return denied("user_blocklist");
            }
            if in_one(&self.group_block) {
                return denied("groups_blocklist");
            }
            in_one(&self.group_allow)
        };
        let anybody = self.user_allow.is_empty() && self.group_allow.is_empty();
        if !listed && !anybody {
            return denied("on no list");
        }
        // Jacamar refuses bots before its lists: Nunbird with the rule that would admit one.
        if job.user_login.starts_with("project_1_bot") && !self.bots {
            return denied("bot");
        }
        match Site::person(name) {
            Some((uid, _, shell))
                if uid >= 1000 && (self.shells.is_empty() || self.shells.contains(&shell)) =>
            {
                if downscope == "none" { denied("not the runner") } else { format!("runs as {name}") }
            }
            _ => denied("account"),
        }
    }
}

/// What has no say in who may run.
#[derive(Debug, Clone)]
struct Rest {
    nologin: bool,
    first: bool,
    downscope: &'static str,
    logging: &'static str,
    seccomp: &'static str,
}

fn some_of(names: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(names, 0..=names.len().min(3))
}

const PEOPLE: &[&str] = &["ada", "bob", "eve", "old", "*", "nobody", "a.b", "[a]"];
const GROUPS: &[&str] = &["physics", "guests", "ghosts"];

prop_compose! {
    fn lists()(
        user_allow in some_of(PEOPLE), user_block in some_of(PEOPLE),
        group_allow in some_of(GROUPS), group_block in some_of(GROUPS),
        sources in some_of(&["push", "web"]), shells in some_of(&["/bin/bash", "/bin/zsh"]),
        bots: bool, runas: bool,
    ) -> Lists {
        Lists { user_allow, user_block, group_allow, group_block, sources, shells, bots, runas }
    }
}

prop_compose! {
    fn rest()(
        nologin: bool, first: bool,
        downscope in prop_oneof![3 => Just("setuid"), 1 => Just("none")],
        logging in prop_oneof![
            Just(""), Just("location = \"/var/log/j.log\""), Just("network = \"udp\"\naddress = \"127.0.0.1:514\"")
        ],
        seccomp in prop_oneof![Just(""), Just("disabled = true"), Just("limit_setuid = true\ntty_rules = true")],
    ) -> Rest {
        Rest { nologin, first, downscope, logging, seccomp }
    }
}

prop_compose! {
    fn job()(
        user_login in "(ada|bob|eve|old|root|project_1_bot_x|.{0,5})",
        source in "(push|web|schedule)",
        validated in "(ada|bob|eve|.{0,3})",
    ) -> Subject {
        Subject {
            server: "g-example-org".to_owned(),
            source: IdentitySource::IdToken,
            user_login,
            pipeline_source: Some(source),
            validated: Some(validated),
            ..Subject::default()
        }
    }
}

fn judged(policy: &Policy, lists: &Lists, job: &Subject) -> String {
    // Without a script nobody validates.
    let validated = job.validated.clone().filter(|_| lists.runas);
    match decide(policy, &Subject { validated, ..job.clone() }, &Site, 990).verdict {
        Verdict::Admitted { account, .. } => format!("runs as {}", account.name),
        Verdict::DeniedByRule { rule, .. } => format!("no: {}", rule.name),
        Verdict::DeniedAccount { violation: Violation::NotTheRunner(_), .. } => {
            "no: not the runner".to_owned()
        }
        Verdict::DeniedAccount { .. } => "no: account".to_owned(),
        Verdict::DeniedUser { violation, .. } => format!("no: {}", violation.code()),
        other => format!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn every_job_is_decided_as_jacamars_documentation_has_it(
        lists in lists(), rest in rest(), jobs in proptest::collection::vec(job(), 1..8),
    ) {
        let lists = Lists { runas: lists.runas && rest.downscope == "setuid", ..lists };
        let policy = read(&lists.text(&rest));
        for job in jobs {
            prop_assert_eq!(judged(&policy, &lists, &job), lists.expect(&job, rest.downscope), "{:?}", job);
        }
    }

    #[test]
    fn a_migrated_configuration_is_its_original_and_decides_as_it_does(
        lists in lists(), rest in rest(), jobs in proptest::collection::vec(job(), 1..8),
    ) {
        let lists = Lists { runas: lists.runas && rest.downscope == "setuid", ..lists };
        let original = read(&lists.text(&rest));
        let (text, findings) = migrated(&lists.text(&rest));
        prop_assert!(findings.is_empty());
        let migrated = read(&text);
        prop_assert_eq!(substance(&original), substance(&migrated));
        for job in jobs {
            prop_assert_eq!(judged(&original, &lists, &job), judged(&migrated, &lists, &job));
        }
    }
}

/// Values of every type, and texts that are hard to write down.
const ODD: &[&str] = &[
    "true",
    "false",
    "0",
    "7",
    "-1",
    "1.5",
    "1979-05-27",
    "{}",
    "{ a = 1 }",
    "\"\"",
    "\"x\"",
    "\"$HOME\"",
    "\"~\"",
    "\"/\"",
    "\"/x y\"",
    "\"1h\"",
    "\"none\"",
    "\"tcp\"",
    "\"A=b\"",
    "\"a\\nb\"",
    "\"\\u0000\"",
    "\"\\u202e#\\\"\"",
    "\"*\"",
    "[]",
    "[\"\"]",
    "[\"a\\n[[rule]]\"]",
    "[\"*\", \"a[b\"]",
    "[\"A=\\\\ \\\"q\\\"\"]",
    "[\"/bin/sh\"]",
    "[[\"x\"]]",
    "[7]",
];

proptest! {
    #[test]
    fn a_migrated_text_is_its_original_or_admits_nobody(changes in proptest::collection::vec((0..60_usize, 0..ODD.len()), 1..3)) {
        let mut lines: Vec<String> = include_str!("every_key.toml").lines().map(str::to_owned).collect();
        let refused: Vec<u32> = findings(&lines.join("\n")).iter().map(|(line, _)| *line).collect();
        let mut number = 0;
        lines.retain(|_| {
            number += 1;
            !refused.contains(&number)
        });
        for (line, value) in changes {
            let keys: Vec<usize> = (0..lines.len()).filter(|index| lines[*index].contains(" = ")).collect();
            let line = &mut lines[keys[line % keys.len()]];
            let key = line.split(" = ").next().unwrap_or("").to_owned();
            *line = format!("{key} = {}", ODD[value]);
        }
        let text = lines.join("\n");
        let (native, findings) = migrated(&text);
        match Policy::parse(Path::new("j"), &text) {
            Ok(original) => {
                prop_assert!(findings.is_empty());
                prop_assert_eq!(substance(&original), substance(&read(&native)), "{}", native);
            }
            Err(found) => {
                prop_assert_eq!(found.len(), findings.len());
                let ways = ["executor", "run_mechanism"];
                let way = |line: &str| ways.contains(&line.split(" = ").next().unwrap_or(""));
                if findings.iter().any(|finding| way(&finding.source_line)) {
                    prop_assert!(Policy::parse(Path::new("n"), &native).is_err(), "{}", native);
                }
                // It may be no policy at all, which admits nobody either.
                if let Ok(policy) = Policy::parse(Path::new("n"), &native) {
                    let first = &policy.rules[0];
                    prop_assert!(first.conditions.is_empty() && matches!(first.outcome, RuleOutcome::Deny(_)), "{}", native);
                }
            }
        }
    }
}
