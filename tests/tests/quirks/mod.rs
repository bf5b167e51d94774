//! A sound job of a sound policy, and what can be wrong with them.
//!
//! More than 600 lines, because it is one list: every quirk beside the state that it changes.

use nunbird_tests::issuer::{JWKS, Reply, SigningKey, forge};
use nunbird_tests::runner::{Job, RunnerVersion};
use nunbird_tests::world::{AUDIENCE, Privilege, World};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

pub(crate) use nunbird_tests::issuer::now;

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }
}

/// How the token's text is made.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Signed,
    ByLoginKey,
    ByStranger,
    ByEllipticKey,
    Unsigned,
    Hmac,
    Text(String),
    /// The payload's bytes are these.
    Payload(Vec<u8>),
}

/// Everything that a case is made of.
pub(crate) struct Plan {
    id: u64,
    /// `[table]`, key, value.
    keys: BTreeMap<(&'static str, &'static str), String>,
    rules: Vec<String>,
    tables: Vec<String>,
    user: String,
    facts: Vec<(&'static str, String)>,
    token: Token,
    claims: Vec<(&'static str, Option<Value>)>,
    header: Option<(&'static str, Value)>,
    token_variable: Option<&'static str>,
    extra_tokens: Vec<(&'static str, String)>,
    no_token: bool,
    variables: Vec<(&'static str, String)>,
    version: RunnerVersion,
    edits: Vec<(&'static str, Value)>,
    bytes: Option<Vec<u8>>,
    files: Vec<(String, String, &'static str, u32)>,
    keys_file: KeysFile,
    server_down: bool,
    attempted: bool,
    known_job: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum KeysFile {
    Sound,
    Missing,
    Rubbish,
    Empty,
    Writable,
    Foreign,
    Closed,
    Strangers,
    Old,
}

fn pick<T: Clone>(number: u64, all: &[T]) -> T {
    let count = u64::try_from(all.len()).expect("a small number");
    all[usize::try_from(number % count).expect("a small number")].clone()
}

type Quirk = (&'static str, fn(&mut Plan, u64));

/// All of them.
pub(crate) const QUIRKS: &[Quirk] = &[
    ("audience", |p, n| {
        let all = [
            "\"https://other.example.org\"",
            "[\"x\", \"https://hpc.example.org\"]",
            "\"https://hpc.example.org/\"",
        ];
        p.set("gitlab", "audience", pick(n, &all));
    }),
    ("runner_ids", |p, n| p.set("gitlab", "runner_ids", pick(n, &["[5]", "[99]", "[4, 5, 6]", "[]"]))),
    ("issuer", |p, n| {
        p.set("gitlab", "issuer", pick(n, &["\"https://other.example.org\"", "\"https://127.0.0.1\""]));
    }),
    ("algorithms", |p, n| {
        p.set("gitlab", "algorithms", pick(n, &["[\"ES256\"]", "[\"RS256\"]", "[\"ES256\", \"RS256\"]"]));
    }),
    ("keys_max_age", |p, n| p.set("gitlab", "keys_max_age", pick(n, &["\"1h\"", "\"7d\""]))),
    ("token_variables", |p, n| {
        p.set(
            "identity",
            "token_variables",
            pick(n, &["[\"OTHER_TOKEN\", \"SITE_ID_TOKEN\"]", "[\"OTHER_TOKEN\"]"]),
        );
    }),
    ("clock_skew", |p, n| p.set("identity", "clock_skew", pick(n, &["\"0s\"", "\"120s\""]))),
    ("sources", |p, n| {
        let all = ["[\"id_token\", \"job_token\"]", "[\"job_token\"]"];
        p.set("identity", "sources", pick(n, &all));
    }),
    ("sources and a job without a token", |p, n| {
        p.set("identity", "sources", pick(n, &["[\"id_token\", \"job_token\"]", "[\"job_token\"]"]));
        p.no_token = true;
        p.known_job = Some(n);
    }),
    ("min_uid", |p, n| p.set("accounts", "min_uid", pick(n, &["4102", "900", "5000"]))),
    ("max_uid", |p, n| p.set("accounts", "max_uid", pick(n, &["4102", "60000"]))),
    ("deny", |p, n| p.set("accounts", "deny", pick(n, &["[\"alice\"]", "[\"bob\", \"ada\"]"]))),
    ("deny_groups", |p, n| {
        p.set("accounts", "deny_groups", pick(n, &["[\"lattice\"]", "[\"nosuchgroup\"]", "[\"bob\"]"]));
    }),
    ("allow_bots", |p, _| p.set("accounts", "allow_bots", "true")),
    ("a bot", |p, n| {
        p.user = pick(n, &["project_31_bot_0a", "group_12_bot", "service_account_x", "ghost"]).to_owned();
    }),
    ("shells", |p, n| p.set("accounts", "shells", pick(n, &["[\"/bin/zsh\"]", "[\"/bin/bash\"]"]))),
    ("nologin", |p, n| {
        p.set("accounts", "nologin", "true");
        if n % 3 > 0 {
            p.files.push(("/etc/nologin".into(), "down\n".into(), "root", 0o644));
        }
    }),
    ("authorized_projects", |p, n| {
        p.set("accounts", "authorized_projects", pick(n, &["\"required\"", "\"optional\""]));
        let text = pick(
            n / 2,
            &["", "physics/lattice\n", "physics/* topic\n", "** protected source=push\n", "[\n", "other/x\n"],
        );
        let owner = pick(n / 16, &["alice", "alice", "bob", "root"]);
        if n / 64 % 4 > 0 {
            let file = "/home/alice/.config/nunbird/authorized_projects";
            p.files.push((file.into(), text.into(), owner, pick(n / 256, &[0o644, 0o600, 0o666])));
        }
    }),
    ("validation", |p, n| {
        let script = pick(
            n,
            &[
                "exit 0",
                "exit 3",
                "echo '{\"username\": \"ada\"}'",
                "echo '{\"username\": \"root\"}'",
                "echo '{\"username\": \"nobody2\"}'",
                "echo '{\"data_dir\": \"/scratch/$USER\"}'",
                "echo '{\"data_dir\": \"relative\"}'",
                "echo rubbish",
                "kill -9 $$",
            ],
        );
        let mode = pick(n / 16, &[0o755, 0o755, 0o755, 0o777]);
        p.files.push(("/etc/nunbird/validate".into(), format!("#!/bin/sh\n{script}\n"), "root", mode));
        p.set("validation", "script", "\"/etc/nunbird/validate\"");
        p.set("validation", "user", "\"VALIDATOR\"");
        p.set("validation", "user_variable", "\"SERVICE_USER\"");
        p.set("validation", "rules_first", pick(n / 64, &["true", "false"]));
        if n / 128 % 2 == 0 {
            p.rules = vec!["run_as = \"$validated\"".to_owned()];
        }
    }),
    ("an asked account", |p, n| {
        p.variables.push(("SERVICE_USER", pick(n, &["ada", "-x", "root", ""]).to_owned()));
    }),
    ("a builds directory of the user's", |p, n| {
        p.set("directories", "user_builds_dir", "true");
        p.variables.push((
            "CUSTOM_CI_BUILDS_DIR",
            pick(n, &["/scratch/ci", "../x", "$HOME/ci", "/p/$(id)", ""]).to_owned(),
        ));
    }),
    ("rules", |p, n| {
        let mut random = Random(n);
        let count = 1 + random.below(4);
        p.rules = (0..count).map(|_| rule(&mut random)).collect();
    }),
    ("a map", |p, n| {
        p.tables.push("[map.people]\nfile = \"/etc/nunbird/people.map\"\n".to_owned());
        p.rules = vec![
            "run_as = { map = \"people\" }".to_owned(),
            pick(n / 8, &["run_as = \"$user_login\"", "deny = \"no\""]).to_owned(),
        ];
        let text = pick(n / 16, &["alice bob\n", "alice wheely\n", "# none\n", "alice\n", "other ada\n"]);
        if n / 128 % 4 > 0 {
            p.files.push((
                "/etc/nunbird/people.map".into(),
                text.into(),
                pick(n / 512, &["root", "root", "bob"]),
                0o644,
            ));
        }
    }),
    ("an account", |p, n| {
        let all = [
            "alice",
            "bob",
            "ada",
            "daisy",
            "queue",
            "homeless",
            "twin",
            "wheely",
            "gidzero",
            "dollar",
            "nobody",
            "root",
            "rootalias",
            "nbt_runner",
            "nunbird",
            "stranger",
            "Alice",
            "-x",
            "a b",
            "alice\u{202e}",
            "",
        ];
        p.user = pick(n, &all).to_owned();
    }),
    ("a home that a shell would interpret", |p, _| p.user = "dollar".to_owned()),
    ("facts", |p, n| {
        let fact = pick(
            n,
            &[
                ("project", "outside/x"),
                ("project", "physics/lattice/deep"),
                ("ref", "topic"),
                ("ref_type", "tag"),
                ("protected", "false"),
                ("source", "schedule"),
                ("source", "merge_request_event"),
                ("runner", "99"),
                ("user_id", "7"),
            ],
        );
        p.facts.push((fact.0, fact.1.to_owned()));
    }),
    ("wrong audience of the token", |p, n| {
        p.claim("aud", pick(n, &[json!("x"), json!(["x", AUDIENCE]), json!([]), json!(7), json!(null)]));
    }),
    ("issuer of the token", |p, n| {
        p.claim("iss", pick(n, &[json!("https://other.example.org"), json!(7), json!("")]));
    }),
    ("expiry", |p, n| {
        p.claim(
            "exp",
            pick(n, &[json!(now() - 3600), json!(now() - 60), json!(now() + 60), json!("x"), json!(0)]),
        );
    }),
    ("not before", |p, n| {
        p.claim("nbf", pick(n, &[json!(now() + 3600), json!(now() + 80), json!(now() - 60), json!(-1)]));
    }),
    ("issued at", |p, n| {
        p.claim("iat", pick(n, &[json!(now() + 3600), json!(now() + 80), json!(now() - 60)]));
    }),
    ("another id in the token", |p, n| {
        let name =
            pick(n, &["job_id", "project_id", "job_project_id", "pipeline_id", "user_id", "runner_id"]);
        p.claim(name, pick(n / 8, &[json!("4"), json!(4), json!("x"), json!(null)]));
    }),
    ("a claim less", |p, n| {
        let name = pick(
            n,
            &[
                "iss",
                "aud",
                "exp",
                "nbf",
                "iat",
                "job_id",
                "project_id",
                "job_project_id",
                "job_project_path",
                "project_path",
                "user_login",
                "user_id",
                "user_email",
                "ref",
                "ref_type",
                "ref_protected",
                "pipeline_source",
                "runner_id",
                "user_access_level",
                "namespace_path",
            ],
        );
        p.claims.push((name, None));
    }),
    ("a strange claim", |p, n| {
        let name = pick(
            n,
            &[
                "user_login",
                "project_path",
                "ref",
                "user_email",
                "groups_direct",
                "user_identities",
                "environment",
            ],
        );
        p.claim(
            name,
            pick(
                n / 8,
                &[json!("a\u{1b}[31m"), json!(""), json!(["hpc"]), json!({}), json!("x/y"), json!("é")],
            ),
        );
    }),
    ("header", |p, n| {
        p.header = Some(pick(
            n,
            &[
                ("alg", json!("none")),
                ("alg", json!("HS256")),
                ("jwk", json!({})),
                ("typ", json!("x")),
                ("kid", json!("x")),
            ],
        ));
    }),
    ("forged token", |p, n| {
        p.token = pick(
            n,
            &[Token::ByLoginKey, Token::ByStranger, Token::ByEllipticKey, Token::Unsigned, Token::Hmac],
        );
    }),
    ("no token's text", |p, n| {
        let text = pick(n, &["", "x", "a.b.c", "...", "$SITE_ID_TOKEN", "a.b", "ä.ö.ü"]);
        p.token = Token::Text(text.to_owned());
    }),
    ("a signed payload that is none", |p, n| {
        p.token = Token::Payload(
            pick(n, &[&b"[]"[..], b"", b"{}", b"\xff", b"{\"iss\":1,\"iss\":2}", b"null"]).to_vec(),
        );
    }),
    ("no token", |p, _| p.no_token = true),
    ("another name of the variable", |p, n| {
        p.token_variable = Some(pick(n, &["OTHER_TOKEN", "CI_JOB_JWT", "site_id_token"]));
    }),
    ("one more token", |p, n| {
        p.extra_tokens
            .push((pick(n, &["SITE_ID_TOKEN", "OTHER_TOKEN"]), pick(n / 2, &["", "x", "a.b.c"]).to_owned()));
    }),
    ("a variable over the token", |p, n| {
        p.variables.push(("SITE_ID_TOKEN", pick(n, &["", "x", "a.b.c"]).to_owned()));
    }),
    ("an older runner", |p, n| p.version = pick(n, &[RunnerVersion::V16_11, RunnerVersion::V17_11])),
    ("another id in the response", |p, n| {
        let path = pick(n, &["/id", "/job_info/project_id", "/job_info/user_id", "/job_info/pipeline_id"]);
        p.edits.push((path, pick(n / 4, &[json!(4), json!(0), json!("x"), json!(null)])));
    }),
    ("a response of another form", |p, n| {
        let path =
            pick(n, &["/job_info", "/variables", "/token", "/git_info", "/runner_info", "/variables/0"]);
        p.edits.push((path, pick(n / 8, &[json!(null), json!([]), json!({}), json!("x")])));
    }),
    ("a response that is none", |p, n| {
        p.bytes = Some(
            pick(
                n,
                &[
                    &b""[..],
                    b"[]",
                    b"{",
                    b"null",
                    b"{}",
                    b"\xff",
                    b"{\"id\":1,\"job_info\":{\"project_id\":1}}",
                ],
            )
            .to_vec(),
        );
    }),
    ("what the server says about the job", |p, n| p.known_job = Some(n)),
    ("a server that is not asked", |p, n| {
        p.set("gitlab", "user_check", pick(n, &["\"off\"", "\"required\""]));
    }),
    ("pinning", |p, n| p.set("accounts", "pinning", pick(n, &["\"off\"", "\"known\"", "\"remember\""]))),
    ("people of the site", |p, n| {
        p.set("accounts", "people_file", "\"/etc/nunbird/people\"");
        let text = pick(
            n,
            &["alice site 210\n", "alice site 7\n", "# none\n", "alice\n", "bob site 210\nalice other 7\n"],
        );
        if n / 8 % 4 > 0 {
            p.files.push((
                "/etc/nunbird/people".into(),
                text.into(),
                pick(n / 64, &["root", "root", "bob"]),
                0o644,
            ));
        }
    }),
    ("a bot's rule", |p, n| {
        p.rules = vec![
            pick(
                n,
                &[
                    "when.user_id = 210\nbots = true\nrun_as = \"bob\"",
                    "user_check = \"off\"\nrun_as = \"$user_login\"",
                    "user_check = \"required\"\nrun_as = \"bob\"",
                    "pinning = \"off\"\nrun_as = \"$user_login\"",
                ],
            )
            .to_owned(),
        ];
    }),
    ("keys file", |p, n| {
        p.keys_file = pick(
            n,
            &[
                KeysFile::Missing,
                KeysFile::Rubbish,
                KeysFile::Empty,
                KeysFile::Writable,
                KeysFile::Foreign,
                KeysFile::Closed,
                KeysFile::Strangers,
                KeysFile::Old,
            ],
        );
    }),
    ("keys file that cannot be fetched", |p, n| {
        p.keys_file = pick(n, &[KeysFile::Missing, KeysFile::Rubbish, KeysFile::Strangers, KeysFile::Old]);
        p.server_down = true;
    }),
    ("keys fetched a moment ago", |p, _| p.attempted = true),
    ("another name of the server", |p, _| p.set("gitlab", "name", "\"elsewhere\"")),
];

/// A rule with one to three conditions.
fn rule(random: &mut Random) -> String {
    let conditions = [
        "server = \"site\"",
        "identity_source = \"id_token\"",
        "project = \"physics/*\"",
        "project = \"outside/**\"",
        "project_id = 31",
        "namespace = \"physics\"",
        "user = [\"alice\", \"bob\"]",
        "user_id = 210",
        "user_id = 7",
        "user_email = \"*@example.org\"",
        "group = \"hpc\"",
        "access_level = \"developer\"",
        "ref = \"main\"",
        "ref = \"topic\"",
        "ref_type = \"tag\"",
        "ref_protected = true",
        "ref_protected = false",
        "pipeline_source = [\"push\", \"web\"]",
        "environment = \"prod\"",
        "runner_id = 5",
        "account = \"alice\"",
        "local_group = \"lattice\"",
        "local_group = \"nosuchgroup\"",
        "uid = \"4100-4102\"",
        "shell = \"/bin/bash\"",
    ];
    let mut chosen: BTreeMap<&str, &str> = BTreeMap::new();
    for _ in 0..random.below(3) {
        let condition = pick(random.next(), &conditions);
        let key = condition.split(' ').next().expect("a key");
        chosen.insert(key, condition);
    }
    let when: Vec<&str> = chosen.into_values().collect();
    let when = if when.is_empty() { String::new() } else { format!("when = {{ {} }}\n", when.join(", ")) };
    let outcome = pick(
        random.next(),
        &[
            "run_as = \"$user_login\"",
            "run_as = \"$user_login\"",
            "run_as = \"bob\"",
            "run_as = \"daisy\"",
            "deny = \"not here\"",
            "run_as = { identity = \"ldap\" }",
        ],
    );
    format!("{when}{outcome}")
}

/// Keys that no server has.
fn stranger() -> Arc<SigningKey> {
    static KEY: OnceLock<Arc<SigningKey>> = OnceLock::new();
    Arc::clone(KEY.get_or_init(|| Arc::new(SigningKey::rsa())))
}

fn elliptic() -> Arc<SigningKey> {
    static KEY: OnceLock<Arc<SigningKey>> = OnceLock::new();
    Arc::clone(KEY.get_or_init(|| Arc::new(SigningKey::p256())))
}

impl Plan {
    /// The sound case, with a job of this id.
    pub(crate) fn new(id: u64) -> Self {
        Plan {
            id,
            keys: BTreeMap::new(),
            rules: vec!["run_as = \"$user_login\"".to_owned()],
            tables: Vec::new(),
            user: "alice".to_owned(),
            facts: Vec::new(),
            token: Token::Signed,
            claims: Vec::new(),
            header: None,
            token_variable: None,
            extra_tokens: Vec::new(),
            no_token: false,
            variables: Vec::new(),
            version: RunnerVersion::V19_3,
            edits: Vec::new(),
            bytes: None,
            files: Vec::new(),
            keys_file: KeysFile::Sound,
            server_down: false,
            attempted: false,
            known_job: None,
        }
    }

    fn set(&mut self, table: &'static str, key: &'static str, value: &str) {
        self.keys.insert((table, key), value.to_owned());
    }

    fn claim(&mut self, name: &'static str, value: Value) {
        self.claims.push((name, Some(value)));
    }

    fn table(&self, name: &str) -> String {
        let lines = self.keys.iter().filter(|((table, _), _)| *table == name);
        lines.map(|((_, key), value)| format!("{key} = {value}\n")).collect()
    }

    fn configuration(&self, world: &World) -> String {
        let paths = world.paths();
        let none = world.privilege() == Privilege::None;
        let mut text = format!(
            "downscope = \"{}\"\nkeys_dir = \"{}\"\n[[gitlab]]\nurl = \"{}\"\nca_file = \"{}\"\n",
            if none { "none" } else { "setuid" },
            paths.keys.display(),
            world.issuer().url(),
            paths.ca_file.display()
        );
        for (key, value) in [("name", "\"site\"".to_owned()), ("audience", format!("\"{AUDIENCE}\""))] {
            if !self.keys.contains_key(&("gitlab", key)) {
                text.push_str(&format!("{key} = {value}\n"));
            }
        }
        text.push_str(&self.table("gitlab"));
        for name in ["identity", "accounts", "directories", "validation"] {
            let lines = self.table(name);
            if !lines.is_empty() {
                text.push_str(&format!("[{name}]\n{lines}"));
            }
        }
        let validator = if none { "alice" } else { "nunbird" };
        text = text.replace("VALIDATOR", validator);
        let bin = paths.bin.display();
        text.push_str(&format!(
            "[job]\nlauncher = \"{bin}/nunbird\"\n[audit]\nfile = \"{}\"\n",
            paths.audit.display()
        ));
        text.push_str(&self.tables.concat());
        for (number, rule) in self.rules.iter().enumerate() {
            text.push_str(&format!("[[rule]]\nname = \"rule {number}\"\n{rule}\n"));
        }
        text
    }

    /// Puts configuration, keys and files into the machine.
    pub(crate) fn lay_out(&self, world: &World) {
        world.configure(&self.configuration(world));
        for (path, text, owner, mode) in &self.files {
            world.write_file(path, text, owner, *mode);
            if path.starts_with("/home/alice/") {
                for folder in ["/home/alice/.config", "/home/alice/.config/nunbird"] {
                    chown(world.host_path(folder), Some(4101), Some(4101)).expect("an owner");
                }
            }
        }
        self.write_keys(world);
        if self.server_down {
            world.issuer().replace(JWKS, Reply::new(503, "text/plain", "down"));
        }
        if self.attempted {
            let path = keys_path(world, "site.attempt");
            fs::write(&path, "").expect("a file");
            give_to_keeper(world, &path);
        }
    }

    fn write_keys(&self, world: &World) {
        let file = keys_path(world, "site.json");
        for name in ["site.json", "site.attempt", "elsewhere.json", "elsewhere.attempt"] {
            let _absent = fs::remove_file(keys_path(world, name));
        }
        match self.keys_file {
            KeysFile::Missing => return,
            KeysFile::Strangers => world.write_keys_file(&[&stranger()]),
            _ => world.write_keys(),
        }
        let mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("a mode");
        match self.keys_file {
            KeysFile::Rubbish => fs::write(&file, "rubbish").expect("a file"),
            KeysFile::Empty => fs::write(&file, "").expect("a file"),
            KeysFile::Writable => mode(0o666),
            KeysFile::Closed => mode(0o000),
            KeysFile::Foreign => chown(&file, Some(4102), Some(4102)).expect("an owner"),
            KeysFile::Old => {
                let text = fs::read_to_string(&file).expect("a file");
                let mut value: Value = serde_json::from_str(&text).expect("JSON");
                for key in value["keys"].as_array_mut().expect("keys") {
                    key["last_seen"] = json!(1);
                }
                fs::write(&file, value.to_string()).expect("a file");
            }
            _ => {}
        }
    }

    /// Removes what another case must not see.
    pub(crate) fn clear_away(&self, world: &World) {
        for (path, ..) in &self.files {
            let _twice = fs::remove_file(world.host_path(path));
        }
        world.issuer().restore(JWKS);
    }

    /// The job.
    pub(crate) fn job<'w>(&self, world: &'w World) -> Job<'w> {
        let mut job = world.job().id(self.id).version(self.version).user(&self.user);
        for (name, value) in self.facts.clone() {
            job = job.facts(|facts| match name {
                "project" => facts.project_path = value,
                "ref" => facts.git_ref = value,
                "ref_type" => facts.ref_type = value,
                "protected" => facts.ref_protected = value == "true",
                "source" => facts.pipeline_source = value,
                "runner" => facts.runner_id = value.parse().expect("a number"),
                _ => facts.user_id = value.parse().expect("a number"),
            });
        }
        for (name, value) in self.claims.clone() {
            job = match value {
                Some(value) => job.claim(name, value),
                None => job.without_claim(name),
            };
        }
        if let Some((name, value)) = self.header.clone() {
            job = job.header(name, value);
        }
        let kind = self.token.clone();
        job = job.forge(move |token, issuer| match &kind {
            Token::Signed => token.sign(&issuer.key()),
            Token::ByLoginKey => token.sign(&issuer.login_key()),
            Token::ByStranger => token.sign(&stranger()),
            Token::ByEllipticKey => token.sign(&elliptic()),
            Token::Unsigned => token.unsigned(),
            Token::Hmac => token.hs256(&issuer.key(), issuer.key().public_pem().as_bytes()),
            Token::Text(text) => text.clone(),
            Token::Payload(bytes) => {
                forge(&token.header_for(&issuer.key()), bytes, |input| issuer.key().sign(input))
            }
        });
        if let Some(name) = self.token_variable {
            job = job.token_variable(name);
        }
        if self.no_token {
            job = job.without_token();
        }
        for (name, text) in &self.extra_tokens {
            job = job.extra_token(name, text);
        }
        for (name, text) in &self.variables {
            job = job.variable(name, text);
        }
        for (path, value) in self.edits.clone() {
            job = job.response(move |response| {
                if let Some(at) = response.pointer_mut(path) {
                    *at = value.clone();
                }
            });
        }
        if let Some(number) = self.known_job {
            let edit = pick(
                number,
                &[
                    ("/user/username", json!("bob")),
                    ("/user/id", json!(4)),
                    ("/id", json!(4)),
                    ("/user/bot", json!(true)),
                    ("/user/bot", json!(null)),
                    ("/user/state", json!("blocked")),
                    ("/status", json!("success")),
                    ("/user", json!({})),
                    ("/pipeline/id", json!(4)),
                    ("/runner/id", json!(99)),
                    ("/web_url", json!("https://other.example.org/a/-/jobs/1")),
                    ("/name", json!("build")),
                ],
            );
            job = job.edit_server_answer(move |answer| {
                if let Some(at) = answer.pointer_mut(edit.0) {
                    *at = edit.1.clone();
                }
            });
        }
        job
    }

    /// What replaces the job response.
    pub(crate) fn response_bytes(&self) -> Option<&[u8]> {
        self.bytes.as_deref()
    }
}

fn keys_path(world: &World, name: &str) -> PathBuf {
    world.host_path(&world.paths().keys).join(name)
}

fn give_to_keeper(world: &World, path: &std::path::Path) {
    use std::os::unix::fs::MetadataExt;
    let owner = fs::metadata(keys_path(world, "")).expect("a directory");
    chown(path, Some(owner.uid()), Some(owner.gid())).expect("an owner");
}
