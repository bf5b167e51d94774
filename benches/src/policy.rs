//! The cost of a very large policy: ten thousand rules, of which the last fits, and a map of fifty
//! thousand lines.

use nunbird_policy::{
    AccountFacts, Host, HostError, MapFile, Policy, ServerUser, Subject, Verdict, decide, find_person,
};
use std::borrow::Cow;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

const RULES: usize = 10_000;
const LINES: usize = 50_000;
const ROUNDS: usize = 50;

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

fn text() -> String {
    let mut text = "[[gitlab]]\nname = \"site\"\nurl = \"https://gitlab.example.org\"\naudience = \"https://gitlab.example.org\"\n\
                    [map.users]\nfile = \"/etc/nunbird/users.map\"\n"
        .to_owned();
    for n in 0..RULES {
        text.push_str(&format!(
            "[[rule]]\nname = \"rule {n}\"\nwhen = {{ project = \"group{n}/**\", ref_protected = true }}\nrun_as = \"svc{n}\"\n"
        ));
    }
    text + "[[rule]]\nname = \"last\"\nrun_as = { map = \"users\" }\n"
}

/// Prints the times for reading the policy and for a decision.
pub(crate) fn rows(bash: Duration) {
    let text = text();
    let site = Site { map: (0..LINES).map(|n| format!("user{n} u{n}\n")).collect() };
    let file = Path::new("/etc/nunbird/config.toml");
    let policy = Policy::parse(file, &text).unwrap_or_else(|findings| panic!("{findings:?}"));
    let subject = Subject {
        server: "site".to_owned(),
        user_login: format!("user{}", LINES - 1),
        project_path: "physics/lattice".to_owned(),
        ref_protected: Some(true),
        ..Subject::default()
    };
    let read = median(|| drop(black_box(Policy::parse(file, black_box(&text)))));
    let decided = median(|| {
        let decision = decide(&policy, black_box(&subject), &site, 990);
        assert!(matches!(decision.verdict, Verdict::Admitted { .. }));
        black_box(&decision);
    });
    super::row(&format!("policy of {RULES} rules: read"), read, bash);
    super::row(&format!("policy of {RULES} rules, map of {LINES}: decide"), decided, bash);
    let people: String = (1..=LINES).map(|n| format!("u{n} site {n}\n")).collect();
    let last = format!("u{LINES}");
    let found = median(|| {
        let person = find_person(black_box(&people), "site", &last);
        assert!(matches!(person, Ok(Some(_))));
    });
    super::row(&format!("the last of {LINES} lines of people_file: find"), found, bash);
}

fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}
