//! `nunbirdctl diff` finds or names every change of a configuration.

use crate::scene::Scene;
use nunbird_policy::{Kind, Policy, every_key};
use nunbird_render::to_toml;
use std::collections::BTreeMap;
use std::path::Path;

/// Tables by their headers, and their keys.
type Text = Vec<(String, BTreeMap<String, String>)>;

/// A configuration with the table that a key is in.
fn base(key: &str) -> Text {
    let table = |header: &str, pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        (header.to_owned(), pairs.collect())
    };
    let url = "\"https://gitlab.example.org\"";
    let of_machines = ["layer_size", "ready_timeout", "nested", "suppress_sync"]
        .iter()
        .any(|name| key == format!("container[].{name}"));
    let mut text: Text = vec![
        table("", &[]),
        table("[[gitlab]]", &[("name", "\"main\""), ("url", url), ("audience", url)]),
        table("[limits.one]", &[("memory", "\"1GiB\""), ("cpus", "\"1\""), ("pids", "10")]),
        table("[scheduler.one]", &[("description", "\"/etc/one\"")]),
        table("[container.one]", &[("engine", if of_machines { "\"nspawn\"" } else { "\"podman\"" })]),
        table("[map.one]", &[("file", "\"/etc/map\"")]),
        table("[profile.one]", &[]),
        table("[[rule]]", &[("name", "\"all\""), ("run_as", "\"$user_login\"")]),
        table(
            "[[test]]",
            &[
                ("name", "\"t\""),
                ("claims.user_login", "\"ada\""),
                ("claims.project_path", "\"hpc/app\""),
                ("expect", "\"ada\""),
            ],
        ),
    ];
    if key.starts_with("validation") {
        text.push(table("[validation]", &[("script", "\"/etc/v\""), ("user", "\"nunbird\"")]));
    }
    if key.starts_with("credential") {
        let keys = [
            ("helper", "\"/opt/helper\""),
            ("repositories", "[\"r.example.org/**\"]"),
            ("projects", "[\"hpc/app\"]"),
        ];
        text.push(table("[credential.one]", &keys));
    }
    if key.ends_with(".limit_setuid") || key.ends_with(".block_tty_injection") {
        text.push(table("[job]", &[("no_new_privileges", "true")]));
    }
    if key == "rule[].bots" {
        for (_, rule) in text.iter_mut().filter(|(header, _)| header == "[[rule]]") {
            rule.insert("when.project_id".to_owned(), "3".to_owned());
        }
    }
    if key == "directories.create" {
        text.push(table("[directories]", &[("data_dir", "\"/scratch/$USER\"")]));
    }
    text
}

/// The place of a key: the header of its table, its name there, and the text around its value.
fn place(key: &str) -> (String, String, &'static str, &'static str) {
    if let Some(name) = key.strip_prefix("limits[].io_max[].") {
        let around = match name {
            "device" => ("[{ read = \"1MiB\", device = ", " }]"),
            "read" => ("[{ device = \"/\", read = ", " }]"),
            "read_ops" => ("[{ device = \"/\", read_ops = ", " }]"),
            "write" => ("[{ device = \"/\", write = ", " }]"),
            _ => ("[{ device = \"/\", write_ops = ", " }]"),
        };
        return ("[limits.one]".to_owned(), "io_max".to_owned(), around.0, around.1);
    }
    let around = match key {
        "rule[].run_as.map" => ("{ map = ", " }"),
        "rule[].run_as.identity" => ("{ identity = ", " }"),
        "rule[].run_as.attribute" => ("{ identity = \"ldap\", attribute = ", " }"),
        "rule[].when.project.regex" => ("{ regex = ", " }"),
        _ => ("", ""),
    };
    let (header, name) = if let Some((table, name)) = key.split_once("[].") {
        let array = ["gitlab", "rule", "test"].contains(&table);
        match name.strip_prefix("batch.") {
            Some(name) if table == "profile" => ("[profile.one.batch]".to_owned(), name),
            _ if array => (format!("[[{table}]]"), name),
            _ => (format!("[{table}.one]"), name),
        }
    } else {
        match key.split_once('.') {
            Some((table, name)) => (format!("[{table}]"), name),
            None => (String::new(), key),
        }
    };
    let name = if around.0.is_empty() { name } else { name.rsplit_once('.').map_or(name, |(name, _)| name) };
    (header, name.to_owned(), around.0, around.1)
}

pub(crate) fn with(key: &str, value: Option<&str>) -> String {
    let mut text = base(key);
    let (header, name, before, after) = place(key);
    if !text.iter().any(|(found, _)| *found == header) {
        text.push((header.clone(), BTreeMap::new()));
    }
    let (_, table) = text.iter_mut().find(|(found, _)| *found == header).expect("the table");
    if let Some(value) = value {
        table.insert(name.clone(), format!("{before}{value}{after}"));
    }
    if name == "proxy_auth_file" {
        table.insert("proxy".to_owned(), "\"http://a.example.org:1\"".to_owned());
    }
    if name == "deny" && header == "[[rule]]" {
        let other = if value.is_some() { "run_as" } else { "deny" };
        table.remove(other);
    }
    text.iter()
        .map(|(header, keys)| {
            let keys: String = keys.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
            format!("{header}\n{keys}")
        })
        .collect()
}

/// Values of every type, of which each key accepts at least two.
const VALUES: [&str; 73] = [
    "[\"r.example.org/a/**\"]",
    "[\"r.example.org/b/**\"]",
    "[\"main\"]",
    "\"main\"",
    "true",
    "false",
    "1",
    "7",
    "1200",
    "70000",
    "\"5s\"",
    "\"2m\"",
    "\"11m\"",
    "\"2h\"",
    "\"3d\"",
    "\"8MiB\"",
    "\"2GiB\"",
    "\"3GiB\"",
    "\"2G\"",
    "\"3G\"",
    "\"2\"",
    "\"3\"",
    "\"a\"",
    "\"b\"",
    "\"\"",
    "\"one\"",
    "\"slurm\"",
    "\"podman\"",
    "\"apptainer\"",
    "[\"always\"]",
    "[\"never\"]",
    "[\"/a:rw\"]",
    "\"/a/b\"",
    "\"/c/d\"",
    "\"$HOME/a\"",
    "\"$HOME/b\"",
    "\"https://a.example.org\"",
    "\"https://b.example.org\"",
    "\"http://a.example.org:1\"",
    "\"http://b.example.org:2\"",
    "\"local\"",
    "\"udp://127.0.0.1:514\"",
    "\"developer\"",
    "\"maintainer\"",
    "[\"a\"]",
    "[\"b\"]",
    "[\"/a\"]",
    "[\"/b\"]",
    "[\"step_script\"]",
    "[\"get_sources\"]",
    "[\"1-2\"]",
    "[\"3-4\"]",
    "[\"RS256\"]",
    "[\"ES256\"]",
    "[\"id_token\"]",
    "[\"id_token\", \"job_token\"]",
    "[\"SITE_TOKEN\"]",
    "[\"OTHER_TOKEN\"]",
    "[1]",
    "[2]",
    "{ A = \"x\" }",
    "{ A = \"y\" }",
    "\"SITE_USER\"",
    "\"OTHER_USER\"",
    "[\"branch\"]",
    "[\"tag\"]",
    "[\"A_*\"]",
    "[\"push\"]",
    "[\"web\"]",
    "\"-A x\"",
    "[\"-A\", \"x\"]",
    "\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"",
    "\"1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"",
];

#[test]
fn no_key_of_the_configuration_changes_in_silence() {
    let scene = Scene::new();
    let log = scene.file("audit.jsonl", "");
    let mut silent = Vec::new();
    for (key, kind) in every_key() {
        if matches!(kind, Kind::Table | Kind::Tables | Kind::Named)
            && !key.ends_with("environment")
            && !key.ends_with("user_identities")
        {
            continue;
        }
        let choices: Vec<String> = match &kind {
            Kind::Choice(names) => names.iter().map(|name| format!("\"{name}\"")).collect(),
            _ => VALUES.map(str::to_owned).to_vec(),
        };
        let read = |value: Option<&str>| {
            let text = with(&key, value);
            Policy::parse(Path::new("c.toml"), &text).ok().map(|policy| (to_toml(&policy, &|_| None), text))
        };
        let mut known: Vec<(String, String)> = Vec::new();
        for value in choices.iter().map(|value| Some(value.as_str())).chain([None]) {
            if known.len() == 2 {
                break;
            }
            if let Some(found) = read(value).filter(|found| known.iter().all(|one| one.0 != found.0)) {
                known.push(found);
            }
        }
        let [first, second, ..] = known.as_slice() else {
            silent.push(format!("{key}: no two values"));
            continue;
        };
        let (old, new) = (scene.file("old.toml", &first.1), scene.file("new.toml", &second.1));
        let done = scene.run_bare(&["diff", &old, &new, "--log", &log]);
        let name = key.rsplit('.').next().expect("a name");
        let named = done.out.contains(name) || key.contains(".run_as.") || name == "regex";
        if done.code != 4 || !named {
            silent.push(format!("{key}: {done:?}"));
        }
    }
    let same = scene.file("same.toml", &with("job.shell", None));
    assert_eq!(scene.run_bare(&["diff", &same, &same, "--log", &log]).code, 0);
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

/// A past job of ada's, as the audit file has it.
const EVENT: &str = "{\"time\":1795000001,\"outcome\":\"admitted\",\"stage\":\"config\",\"job_id\":1,\"server\":\"main\",\
    \"project_path\":\"hpc/app\",\"user_login\":\"ada\",\"user_id\":7,\"runner_id\":12,\"identity_source\":\"id_token\"}\n";

#[test]
fn servers_runners_and_sources_are_judged_and_what_is_not_is_listed_with_its_jobs() {
    let scene = Scene::new();
    let log = scene.file("audit.jsonl", EVENT);
    let plain = scene.policy();
    let old = scene.file("old.toml", &plain);
    let diff = |from: &str, to: &str| {
        let new = scene.file("new.toml", &plain.replace(from, to));
        let done = scene.run_bare(&["diff", &old, &new, "--log", &log]);
        assert_eq!(done.code, 4, "{from} {to}: {done:?}");
        done.out
    };
    let audience = "audience = \"https://gitlab.example.org\"";
    let found = diff(audience, &format!("{audience}\nrunner_ids = [13]"));
    assert!(found.contains("now: denied: runner 12 is not among the runner_ids of `main`"), "{found}");
    let found = diff(audience, &format!("{audience}\nrunner_ids = [12]"));
    assert!(
        found.contains(
            "0 of 1 decisions change\nchanged, with their decisions above:\n  gitlab.main.runner_ids (1 past jobs)"
        ),
        "{found}"
    );
    let found = diff("name = \"main\"", "name = \"other\"");
    assert!(found.contains("gitlab order (1 past jobs)\n    old: \"main\"\n    new: \"other\""), "{found}");
    let found = diff("url = \"https://gitlab.example.org\"", "url = \"https://git.example.org\"");
    assert!(found.contains("now: denied: no server has the issuer of `main`"), "{found}");
    let found = diff("[[gitlab]]", "[identity]\nsources = [\"job_token\"]\n[[gitlab]]");
    assert!(found.contains("now: denied: `id_token` is not a source of identity"), "{found}");
    let found = diff(audience, "audience = \"https://other.example.org\"");
    let listed = "not replayed, but changed:\n  gitlab.main.audience (1 past jobs)\n    old: [\"https://gitlab.example.org\"]\n    new: [\"https://other.example.org\"]";
    assert!(found.contains(listed), "{found}");
}
