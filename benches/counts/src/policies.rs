//! Work with policies and the files beside them.

use crate::Work;
use nunbird_policy::{
    AccountFacts, Host, HostError, MapFile, Policy, ServerUser, Subject, Verdict, decide, find_person as find,
};
use std::borrow::Cow;
use std::hint::black_box;
use std::path::Path;

/// A site whose accounts all exist.
#[derive(Default)]
struct Site {
    map: String,
}

impl Host for Site {
    fn account(&self, name: &str) -> Result<Option<AccountFacts>, HostError> {
        Ok(Some(AccountFacts {
            name: name.to_owned(),
            uid: 5001,
            gid: 5001,
            groups: vec![5001],
            home: "/home/u".into(),
            shell: "/bin/bash".into(),
            name_of_uid: Some(name.to_owned()),
        }))
    }

    fn group(&self, _: &str) -> Result<Option<u32>, HostError> {
        Ok(None)
    }

    fn is_member(&self, account: &AccountFacts, group: &str) -> Result<Option<bool>, HostError> {
        Ok(self.group(group)?.map(|gid| account.is_in(gid)))
    }

    fn map(&self, _: &MapFile) -> Result<Cow<'_, str>, HostError> {
        Ok(Cow::Borrowed(&self.map))
    }

    fn pinned(&self, _: Option<&Path>, _: &str, _: &str) -> Result<Option<u64>, HostError> {
        Ok(None)
    }

    fn server_user(&self, job: &Subject) -> Result<ServerUser, HostError> {
        Ok(ServerUser::person(job))
    }
}

const SERVER: &str = "[[gitlab]]\nname = \"site\"\nurl = \"https://gitlab.example.org\"\naudience = \"https://gitlab.example.org\"\n";
const FILE: &str = "/etc/nunbird/config.toml";

/// Rules for projects that the job is not of, and a last one by a map.
fn rules(count: usize) -> String {
    let mut text = format!("{SERVER}[map.users]\nfile = \"/etc/nunbird/users.map\"\n");
    for n in 1..count {
        text.push_str(&format!(
            "[[rule]]\nname = \"rule {n}\"\nwhen = {{ project = \"group{n}/**\", ref_protected = true }}\nrun_as = \"svc{n}\"\n"
        ));
    }
    text + "[[rule]]\nname = \"last\"\nrun_as = { map = \"users\" }\n"
}

fn parsed(text: &str) -> Policy {
    Policy::parse(Path::new(FILE), text).unwrap_or_else(|findings| panic!("{findings:?}"))
}

fn subject(login: String) -> Subject {
    Subject {
        server: "site".to_owned(),
        user_login: login,
        project_path: "physics/lattice".to_owned(),
        ref_protected: Some(true),
        ..Subject::default()
    }
}

fn deciding(policy: Policy, subject: Subject, site: Site) -> Work {
    Box::new(move || {
        let decision = decide(&policy, black_box(&subject), &site, 990);
        assert!(matches!(decision.verdict, Verdict::Admitted { .. }));
        black_box(&decision);
    })
}

/// Reads a policy.
pub(crate) fn read(count: usize) -> Work {
    let text = rules(count);
    Box::new(move || {
        assert_eq!(
            black_box(Policy::parse(Path::new(FILE), black_box(&text))).map(|p| p.rules.len()),
            Ok(count)
        );
    })
}

/// Decides by a policy whose last rule fits.
pub(crate) fn decide_by_rules(count: usize) -> Work {
    deciding(parsed(&rules(count)), subject("ada".to_owned()), Site { map: "ada u1\n".to_owned() })
}

/// Decides by a map whose last line is the job's.
pub(crate) fn look_up(lines: usize) -> Work {
    let map = (0..lines).map(|n| format!("user{n} u{n}\n")).collect();
    deciding(parsed(&rules(1)), subject(format!("user{}", lines - 1)), Site { map })
}

/// Decides by a policy with many maps, of which the last rule has one.
pub(crate) fn choose_map(count: usize) -> Work {
    let mut text = SERVER.to_owned();
    for n in 0..count {
        text.push_str(&format!("[map.m{n}]\nfile = \"/etc/nunbird/m{n}\"\n"));
    }
    for n in 0..count {
        let when =
            if n + 1 < count { format!("when = {{ project = \"p{n}/**\" }}\n") } else { String::new() };
        text.push_str(&format!("[[rule]]\nname = \"r{n}\"\n{when}run_as = {{ map = \"m{n}\" }}\n"));
    }
    deciding(parsed(&text), subject("ada".to_owned()), Site { map: "ada u1\n".to_owned() })
}

/// Decides by the last of a user's groups.
pub(crate) fn decide_by_groups(count: usize) -> Work {
    let text = format!(
        "{SERVER}[[rule]]\nname = \"r\"\nwhen = {{ group = \"hpc/team{}\" }}\nrun_as = \"$user_login\"\n",
        count - 1
    );
    let groups = Some((0..count).map(|n| format!("hpc/team{n}")).collect());
    deciding(parsed(&text), Subject { groups, ..subject("ada".to_owned()) }, Site::default())
}

/// Finds the user of the last line of a site's file of people.
pub(crate) fn find_person(lines: usize) -> Work {
    let people: String = (1..=lines).map(|n| format!("u{n} site {n}\n")).collect();
    let last = format!("u{lines}");
    Box::new(move || {
        let person = find(black_box(&people), "site", &last);
        assert!(matches!(black_box(person), Ok(Some(_))));
    })
}
