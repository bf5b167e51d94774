use super::{Kind, SourceFile, every_key, key_info};
use crate::{Diagnostic, Policy};
use std::collections::BTreeSet;
use std::path::Path;

const GOOD: &str = r#"
[[gitlab]]
name = "main"
url = "https://gitlab.example.org"
audience = "https://gitlab.example.org"

[[rule]]
name = "all"
run_as = "$user_login"
"#;

fn parse(text: &str) -> Result<Policy, Vec<Diagnostic>> {
    Policy::parse(Path::new("/etc/nunbird/config.toml"), text)
}

/// The findings of the good text with one line put before it or one fragment replaced.
fn findings(from: &str, to: &str) -> Vec<Diagnostic> {
    let text = if from.is_empty() { format!("{to}\n{GOOD}") } else { GOOD.replace(from, to) };
    assert_ne!(text, GOOD, "{from} is not in the text");
    parse(&text).expect_err(&text)
}

#[test]
fn a_small_configuration_gets_every_default() {
    let policy = parse(GOOD).unwrap();
    assert_eq!(policy.accounts.min_uid, 1000);
    assert_eq!(policy.gitlab[0].issuer, "https://gitlab.example.org");
    assert_eq!(policy.identity.token_variables, ["SITE_ID_TOKEN", "NUNBIRD_ID_TOKEN", "CI_JOB_JWT"]);
    assert_eq!(policy.directories.data_dir, "$HOME/.nunbird");
    assert_eq!(policy.audit.file.as_deref(), Some("/var/log/nunbird/audit.jsonl".as_ref()));
    assert!(policy.job.login_shell);
    assert_eq!(policy.job.environment["PATH"], "/usr/local/bin:/usr/bin:/bin");
}

#[test]
fn an_unknown_key_is_an_error_that_names_its_neighbour() {
    let found = findings("audience", "isuer = \"https://x\"\naudience");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].place.to_string(), "/etc/nunbird/config.toml:5:1");
    assert_eq!(found[0].message, "unknown key `isuer`");
    assert_eq!(found[0].help.as_deref(), Some("write `issuer`"));
    let found = findings("", "[acounts]");
    assert_eq!(found[0].help.as_deref(), Some("write `accounts`"));
    let found = findings("", "[accuonts]");
    assert_eq!(found[0].help.as_deref(), Some("write `accounts`"));
    let found = findings("url", "ulr");
    assert!(found.iter().any(|one| one.help.as_deref() == Some("write `url`")), "{found:?}");
    let found = findings("", "downscope = \"sudoo\"");
    assert!(found[0].message.contains("unknown value"), "{}", found[0]);
}

#[test]
fn a_proxy_belongs_to_a_server_and_its_password_is_never_shown() {
    let server = |keys: &str| findings("audience", &format!("{keys}\naudience"));
    let found = server("proxy = \"http://me:hunter2@proxy:3128\"");
    assert_eq!(found[0].message, "invalid address of a proxy");
    let shown = format!("{found:?} {}", found[0]);
    assert!(shown.contains("`proxy_auth_file`") && !shown.contains("hunter2"), "{shown}");
    // Also where something else is wrong on the line.
    for wrong in ["prox = \"http://me:hunter2@proxy:3128\"", "proxy = [\"http://me:hunter2@proxy:3128\"]"] {
        let shown = format!("{:?}", server(wrong));
        assert!(shown.contains("***@proxy:3128") && !shown.contains("hunter2"), "{shown}");
    }
    let found = server("proxy_auth_file = \"/etc/nunbird/proxy-auth\"");
    assert_eq!(found[0].message, "a password for a proxy, and no `proxy`");
    let plain = "url = \"http://localhost\"\nproxy = \"http://proxy.example.org:3128\"";
    let found = findings("url = \"https://gitlab.example.org\"", plain);
    assert_eq!(found[0].message, "a server that is reached by plain HTTP has no proxy");
    assert_eq!(found[0].place.line, 5);
    let text = GOOD.replace("audience", "proxy = \"http://proxy.example.org:3128/\"\naudience");
    assert_eq!(parse(&text).unwrap().gitlab[0].proxy.as_deref(), Some("http://proxy.example.org:3128"));
}

#[test]
fn a_finding_shows_the_line_and_points_at_the_place() {
    let shown = findings("run_as = \"$user_login\"", "run_as = \"root\"")[0].to_string();
    let expected = "\
error: no job can run as this account: `root` belongs to the system
 --> /etc/nunbird/config.toml:9:10
  |
9 | run_as = \"root\"
  |          ^
  = help: write the name of a local account, or `$user_login` for the GitLab login";
    assert_eq!(shown, expected);
}

#[test]
fn every_finding_is_reported_at_once_in_the_order_of_the_file() {
    let text = GOOD
        .replace("https://gitlab.example.org\"\n\n", "\"\n\n")
        .replace("\"all\"", "\"\"")
        .replace("\"main\"", "\"Main\"");
    let lines: Vec<u32> = parse(&text).unwrap_err().iter().map(|f| f.place.line).collect();
    assert_eq!(lines, [3, 5, 8]);
}

#[test]
fn values_that_would_open_a_hole_are_refused() {
    for (from, to, part) in [
        ("https://gitlab.example.org\"\naud", "http://gitlab.example.org\"\naud", "URL"),
        ("https://gitlab.example.org\"\naud", "https://u:p@gitlab.example.org\"\naud", "URL"),
        ("https://gitlab.example.org\"\naud", "gitlab.example.org\"\naud", "URL"),
        ("audience = \"https://gitlab.example.org\"", "audience = []", "audience"),
        ("", "[accounts]\nmin_uid = 0", "min_uid"),
        ("", "[directories]\ndata_dir = \"/scratch\"", "share"),
        ("", "[directories]\ndata_dir = \"$HOME/../x\"", "data directory"),
        ("", "[directories]\ndata_dir = \"$HOME/`id`\"", "data directory"),
        ("", "[directories]\ndata_dir = \"$HOME/$CI_X\"", "data directory"),
        ("", "[job]\nlauncher = \"nunbird\"", "absolute"),
        ("", "[job.environment]\nLD_PRELOAD = \"/x\"", "loaded"),
        ("", "[job.environment]\nHOME = \"/x\"", "account"),
        ("", "[job.environment]\n\"A-B\" = \"/x\"", "name of a variable"),
        ("", "[job]\nlimit_setuid = true", "no_new_privileges"),
        ("", "[identity]\nlate_stages = \"2h\"", "duration"),
        ("", "[identity]\nclock_skew = \"1x\"", "duration"),
        ("", "[identity]\ntoken_variables = []", "id tokens"),
        ("run_as = \"$user_login\"", "when = { project = \"[ab]\" }\nrun_as = \"$user_login\"", "pattern"),
        ("run_as = \"$user_login\"", "when = { project = [] }\nrun_as = \"$user_login\"", "nothing"),
        ("run_as = \"$user_login\"", "", "no outcome"),
        ("run_as = \"$user_login\"", "run_as = \"$user_login\"\ndeny = \"x\"", "both"),
    ] {
        let found = findings(from, to);
        assert!(found.iter().any(|f| f.message.contains(part)), "{to}: {found:?}");
        assert!(found.iter().all(|f| f.help.is_some()), "{to}: {found:?}");
    }
}

#[test]
fn typographic_quotes_are_named() {
    for value in ["“ada”", "„ada“", "‘ada’"] {
        let text = format!("[[rule]]\nname = {value}\n");
        let findings = Policy::parse(Path::new("c.toml"), &text).expect_err("no TOML");
        let help = findings[0].help.as_deref().unwrap_or("");
        assert!(help.contains("typographic quotes"), "{value}: {findings:?}");
    }
}

#[test]
fn duplicates_are_refused() {
    assert!(findings("", "downscope = \"none\"\ndownscope = \"none\"")[0].message.contains("duplicate"));
    let twice = format!("{GOOD}{GOOD}");
    let messages: Vec<String> = parse(&twice).unwrap_err().into_iter().map(|f| f.message).collect();
    assert_eq!(messages, ["two servers have this name", "two rules have this name"]);
}

#[test]
fn where_two_places_clash_both_are_shown() {
    for (more, line, other) in [
        ("[accounts]\nmin_uid = 2000\nmax_uid = 1500\n", "12:11", "11:11"),
        ("[[rule]]\nname = \"all\"\ndeny = \"x\"\n", "11:8", "8:8"),
        ("[[rule]]\nname = \"b\"\nrun_as = \"$user_login\"\ndeny = \"x\"\n", "13:8", "12:10"),
        ("[[gitlab]]\nname = \"main\"\nurl = \"https://b\"\naudience = \"x\"\n", "11:8", "3:8"),
        ("[identity]\nsources = [\"id_token\", \"id_token\"]\n", "11:24", "11:12"),
        ("[container.a]\nengine = \"podman\"\npull_policies = [\"never\", \"never\"]\n", "12:27", "12:18"),
        ("[container.a]\nengine = \"podman\"\nbinds = [\"/a:/x\", \"/b:/x\"]\n", "12:19", "12:10"),
        (
            "[limits.a]\nio_max = [\n{ device = \"/\", read = \"1M\" },\n{ device = \"/\", write = \"1M\" }]\n",
            "13:12",
            "12:12",
        ),
        // By the parser of TOML.
        ("[accounts]\nmin_uid = 2000\n  min_uid = 1500\n", "12:3", "11:1"),
        ("[accounts]\n[job]\n[accounts]\n", "12:2", "10:1"),
    ] {
        let text = format!("{GOOD}{more}");
        let found = parse(&text).expect_err(more);
        let places =
            found.iter().map(|one| (one.place.to_string(), one.other.as_ref().map(ToString::to_string)));
        let wanted = |at: &str| format!("/etc/nunbird/config.toml:{at}");
        let shown: Vec<_> = places.collect();
        assert!(shown.contains(&(wanted(line), Some(wanted(other)))), "{more}{shown:?} {found:?}");
    }
    // The same key in another table, and a clash inside a line, have no line to show.
    let more = "[job]\nshell = \"/bin/sh\"\n[accounts]\nshell = 1\nallow_bots = {a=1,a=2}\n";
    assert!(parse(&format!("{GOOD}{more}")).expect_err(more).iter().all(|one| one.other.is_none()));
}

#[test]
fn an_empty_file_and_one_without_rules_are_no_policy() {
    assert!(parse("").is_err());
    assert!(parse(&GOOD.replace("[[rule]]\nname = \"all\"\nrun_as = \"$user_login\"\n", "")).is_err());
}

#[test]
fn plain_http_is_for_loopback_alone() {
    for url in ["http://localhost:8080", "http://127.0.0.1:1", "http://[::1]:1"] {
        let text = GOOD.replace("url = \"https://gitlab.example.org\"", &format!("url = \"{url}\""));
        assert_eq!(parse(&text).unwrap().gitlab[0].url, url);
    }
    assert!(
        !findings("url = \"https://gitlab.example.org\"", "url = \"http://localhost.evil.org\"").is_empty()
    );
    assert!(
        !findings("url = \"https://gitlab.example.org\"", "url = \"http://127.0.0.1.evil.org\"").is_empty()
    );
}

#[test]
fn a_lone_user_needs_no_audit_file_but_may_have_one() {
    let text = format!("downscope = \"none\"\n{GOOD}");
    assert_eq!(parse(&text).unwrap().audit.file, None);
}

#[test]
fn unknown_keys_wrong_types_and_bad_values_are_all_reported_at_once() {
    let text = GOOD
        .replace("audience =", "audiance =")
        .replace("name = \"all\"", "name = 7\nwhen = { projekt = \"x\" }")
        + "[acounts]\nmin_uid = \"x\"\n[job]\nlogin_shell = 1\n";
    let found = parse(&text).unwrap_err();
    let messages: Vec<(u32, &str)> = found.iter().map(|f| (f.place.line, f.message.as_str())).collect();
    assert_eq!(
        messages,
        [
            (2, "missing key `audience`"),
            (5, "unknown key `audiance`"),
            (8, "expected string, found integer"),
            (9, "unknown key `projekt`"),
            (11, "unknown key `acounts`"),
            (14, "expected boolean, found integer"),
        ]
    );
}

#[test]
fn files_of_conf_d_are_read_as_one_with_the_configuration() {
    let file = |path: &str, text: &str| SourceFile { path: path.into(), text: text.to_owned() };
    let files = [
        file("config.toml", &format!("{GOOD}[accounts]\nmin_uid = 2000\n")),
        file(
            "conf.d/10-more.toml",
            "[accounts]\ndeny = [\"eve\"]\n[[rule]]\nname = \"more\"\ndeny = \"no\"\n",
        ),
    ];
    let reading = Policy::read(&files).unwrap();
    assert_eq!((reading.policy.accounts.min_uid, reading.policy.accounts.deny.len()), (2000, 1));
    assert_eq!(reading.policy.rules[1].place.to_string(), "conf.d/10-more.toml:3:1");
    assert_eq!(reading.origins["accounts.deny"].to_string(), "conf.d/10-more.toml:2:8");

    let twice = [files[0].clone(), file("conf.d/20.toml", "[accounts]\nmin_uid = 3000\n")];
    let found = Policy::read(&twice).unwrap_err();
    assert_eq!(found[0].message, "duplicate key `accounts.min_uid`");
    assert_eq!(found[0].other.as_ref().unwrap().to_string(), "config.toml:11:11");
    assert!(found[0].to_string().contains("\n  = note: the other is at config.toml:11:11\n"), "{}", found[0]);
}

#[test]
fn a_variable_that_two_files_set_is_a_finding_as_any_key_is() {
    let file = |path: &str, text: String| SourceFile { path: path.into(), text };
    let first = file("config.toml", format!("{GOOD}[job.environment]\nSITE = \"one\"\n"));
    let other = file("conf.d/10.toml", "[job.environment]\nOTHER = \"two\"\n".to_owned());
    let again = file("conf.d/20.toml", "[job.environment]\nSITE = \"two\"\n".to_owned());
    assert!(Policy::read(&[first.clone(), other]).is_ok());
    let found = Policy::read(&[first, again]).unwrap_err();
    assert_eq!(found[0].message, "duplicate key `job.environment.SITE`");
    assert_eq!(found[0].place.to_string(), "conf.d/20.toml:2:1");
}

#[test]
fn an_empty_list_of_shells_is_a_finding_because_a_denial_by_it_would_never_come() {
    let found = findings("run_as = ", "when = { shell = [] }\nrun_as = ");
    assert_eq!(found[0].message, "an empty list matches nothing");
}

#[test]
fn line_ends_of_windows_are_read_and_a_byte_order_mark_is_no_key() {
    assert!(parse(&GOOD.replace('\n', "\r\n")).is_ok());
    assert!(parse(&format!("\u{feff}{GOOD}")).is_ok());
}

#[test]
fn the_sample_has_every_table_so_that_every_key_is_known() {
    let keys = every_key();
    for key in
        ["gitlab[].url", "rule[].when.user_email", "test[].claims.user_login", "profile[].shell", "map[].key"]
    {
        assert!(keys.contains_key(key), "{key}: {keys:?}");
    }
    assert!(keys.len() > 90, "{}", keys.len());
}

/// A key that its table lists and no code reads would be an unknown key in every file.
#[test]
fn every_key_of_a_table_is_read_and_every_key_that_is_read_is_one_of_a_table() {
    let tables = key_info();
    let path =
        |table: &str, name: &str| if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") };
    let listed: BTreeSet<String> = tables
        .iter()
        .flat_map(|(table, keys)| keys.iter().map(move |key| path(table, key.name)))
        .filter(|key| !key.starts_with("profile[]"))
        .collect();
    let is_table = |kind: &Kind| matches!(kind, Kind::Table | Kind::Tables | Kind::Named);
    let read: BTreeSet<String> = every_key()
        .into_iter()
        .filter(|(key, kind)| listed.contains(key) || !is_table(kind))
        .map(|(key, _)| key)
        .filter(|key| {
            !["profile[]", "rule[].when.", "rule[].unless.", "test[].claims."]
                .iter()
                .any(|table| key.starts_with(table))
        })
        .collect();
    assert_eq!(listed, read);
}

#[test]
fn outcomes_that_name_what_is_not_there_are_refused() {
    for (to, part) in [
        ("run_as = \"$validated\"", "no validation program"),
        ("run_as = { map = \"users\" }", "unknown map"),
        ("run_as = { mapp = \"users\" }", "unknown key"),
        ("run_as = { map = \"a\", identity = \"b\" }", "`map` or `identity`"),
        ("run_as = \"$user_login\"\nprofile = \"big\"", "unknown profile"),
        ("run_as = \"$user_login\"\nwhen = { server = \"mian\" }", "no configured server"),
        ("run_as = \"$user_login\"\nwhen = { uid = \"9-1\" }", "invalid range of uids"),
        ("run_as = \"$user_login\"\nwhen = { local_group = \"hpc*\" }", "exact name"),
        ("run_as = \"$user_login\"\nwhen = { project = { regex = \"(\" } }", "invalid pattern"),
        ("run_as = \"$user_login\"\nwhen = { ref_protected = \"true\" }", "expected boolean, found string"),
    ] {
        let found = findings("run_as = \"$user_login\"", to);
        assert!(found.iter().any(|f| f.message.contains(part)), "{to}: {found:?}");
    }
}

#[test]
fn an_unknown_condition_is_found_beside_any_number_of_known_ones() {
    for known in ["", "ref_protected = true, ", "server = \"main\", project = \"a/*\", shell = \"/bin/sh\", "]
    {
        let to = format!("run_as = \"$user_login\"\nwhen = {{ {known}projekt = \"a\" }}");
        let found = findings("run_as = \"$user_login\"", &to);
        assert!(found.iter().any(|f| f.message == "unknown key `projekt`"), "{to}: {found:?}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_a_policy_or_a_list_of_findings(text in ".{0,200}") {
        if let Err(found) = parse(&text) {
            proptest::prop_assert!(!found.is_empty());
            for finding in found {
                let _ = finding.to_string();
            }
        }
    }
}

#[test]
fn a_pam_table_is_off_until_it_stands_and_needs_root() {
    assert_eq!(parse(GOOD).unwrap().pam, None);
    let with = |lines: &str| parse(&format!("{lines}{GOOD}"));
    let pam = with("[pam]\n").unwrap().pam.unwrap();
    assert_eq!((pam.service.as_str(), pam.timeout), ("nunbird", 30));
    let passes = |name: &str| pam.environment.iter().any(|known| known == name);
    assert!(passes("XDG_RUNTIME_DIR") && !passes("EDITOR"));
    assert_eq!(pam.session, nunbird_handover::SessionSpan::Stage);
    let pam = with("[pam]\nsession = \"job\"\n").unwrap().pam.unwrap();
    assert_eq!(pam.session, nunbird_handover::SessionSpan::Job);
    for wrong in [
        "session = \"login\"",
        "service = \"../x\"",
        "service = \"\"",
        "timeout = \"0s\"",
        "environment = [\"A-B\"]",
        "servise = \"x\"",
    ] {
        assert_eq!(with(&format!("[pam]\n{wrong}\n")).unwrap_err().len(), 1, "{wrong}");
    }
    let found = with("downscope = \"none\"\n[pam]\n").unwrap_err();
    assert!(found[0].message.contains("needs root"), "{}", found[0]);
}

#[test]
fn sudo_mode_refuses_what_would_need_privilege() {
    let policy = parse(&format!("downscope = \"sudo\"\n{GOOD}")).unwrap();
    assert_eq!((policy.downscope, policy.audit.file), (crate::Downscope::Sudo, None));
    for table in ["[pam]", "[accounts]\nauthorized_projects = \"optional\""] {
        assert_eq!(
            parse(&format!("downscope = \"sudo\"\n{GOOD}\n{table}\n")).unwrap_err().len(),
            1,
            "{table}"
        );
    }
}

/// Each line of the sample left out, and each doubled: thousands of findings, and policies.
#[test]
fn programs_read_the_same_policy_and_the_same_findings_as_people_are_shown() {
    let sample = include_str!("sample.toml");
    let lines: Vec<&str> = sample.lines().collect();
    let (mut sound, mut broken) = (0, 0);
    for at in 0..lines.len() {
        for times in [0, 2] {
            let change = |(n, line): (usize, &&'static str)| vec![*line; if n == at { times } else { 1 }];
            let text = lines.iter().enumerate().flat_map(change).collect::<Vec<_>>().join("\n");
            let files = [SourceFile { path: "/etc/nunbird/config.toml".into(), text }];
            let (shown, read) =
                (Policy::read(&files).map(|reading| reading.policy), Policy::of_files(&files));
            assert_eq!(read, shown, "line {}, {times} times", at + 1);
            *(if read.is_ok() { &mut sound } else { &mut broken }) += 1;
        }
    }
    assert!(sound > 20 && broken > 20, "{sound} {broken}");
}

/// Reading stops where every key of a table has been read: that must not be before an unknown one.
#[test]
fn an_unknown_key_of_a_rule_or_a_test_is_found_beside_any_other_keys() {
    let head = "[[gitlab]]\nname = \"main\"\nurl = \"https://gitlab.example.org\"\naudience = \"x\"\n[limits.small]\n";
    let rule = [
        "when = { user = \"ada\" }",
        "unless = { user = \"bob\" }",
        "limits = \"small\"",
        "pinning = \"off\"",
    ];
    let test = ["local = {}", "server_user = {}", "pinned = 7", "expect = \"deny\""];
    for chosen in 0_u8..16 {
        let lines = |of: [&'static str; 4]| -> Vec<&str> {
            of.into_iter()
                .enumerate()
                .filter(|(at, _)| chosen & (1 << at) != 0)
                .map(|(_, line)| line)
                .collect()
        };
        let text = format!(
            "{head}[[rule]]\nname = \"a\"\nrun_as = \"$user_login\"\n{}\ncolour = 1\n[[test]]\nname = \"a\"\n{}\ncolor = 1\n",
            lines(rule).join("\n"),
            lines(test).join("\n")
        );
        let findings = Policy::parse(Path::new("c.toml"), &text).expect_err("unknown keys");
        for unknown in ["unknown key `colour`", "unknown key `color`"] {
            let count = findings.iter().filter(|finding| finding.message == unknown).count();
            assert_eq!(count, 1, "{unknown}: {text}");
        }
    }
}
