//! What a refusal advises the CI user to write works when it is written.

use nunbird_tests::needs;
use nunbird_tests::runner::StageOutcome;
use nunbird_tests::world::{AUDIENCE, Exit, Privilege, World};

/// A second server, for jobs of the first.
const SECOND: &str = "[[gitlab]]\nname = \"second\"\nurl = \"https://second.example.org\"\naudience = [\"hpc\", \"hpc-old\"]\n\n";

fn world() -> World {
    let world = World::new(Privilege::Setuid);
    let fetched = world.refresh_keys();
    assert!(fetched.succeeded(), "{fetched:?}");
    world
}

/// The lines after `help:`, without the indentation of the job log.
fn help(outcome: &StageOutcome) -> String {
    let text = outcome.stderr.split_once("  = help: ").expect("a help").1;
    let text = text.split_once("  = decision:").expect("a decision").0;
    text.lines().map(|line| line.strip_prefix("          ").unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn assert_code(outcome: &StageOutcome, code: &str) {
    assert_eq!(outcome.exit, Exit::Code(1), "{}", outcome.log);
    assert!(outcome.stderr.contains(&format!("[{code}]\n")), "{}", outcome.stderr);
}

#[needs(root)]
fn the_help_for_a_missing_token_is_yaml_with_the_sites_own_variable_and_audience() {
    let world = world();
    world.reconfigure("[audit]", "[identity]\ntoken_variables = [\"OLCF_ID_TOKEN\", \"OTHER\"]\n\n[audit]");
    let expected = format!(
        "add these lines to the job, or to `default:`, in .gitlab-ci.yml:\nid_tokens:\n  OLCF_ID_TOKEN:\n    aud: \"{AUDIENCE}\""
    );
    let job = world.job().without_token();
    let outcome = job.config();
    assert_code(&outcome, "no-token");
    assert_eq!(help(&outcome), expected);
    for (text, code) in [("", "token-empty"), ("rubbish", "token-malformed")] {
        let outcome = world.job().token_variable("OLCF_ID_TOKEN").token(text).config();
        assert_code(&outcome, code);
        assert_eq!(help(&outcome), expected, "{code}");
    }
    // The job with these lines runs.
    assert!(world.job().token_variable("OLCF_ID_TOKEN").config().succeeded());
}

#[needs(root)]
fn the_help_is_for_the_server_that_the_job_names_and_for_all_where_it_names_none_of_them() {
    let world = world();
    world.reconfigure("[[gitlab]]", &format!("{SECOND}[[gitlab]]"));
    let url = world.issuer().url().to_owned();
    let shown = |url: &str| help(&world.job().without_token().variable("CI_SERVER_URL", url).config());
    let first = shown(&url);
    assert!(first.contains(&format!("aud: \"{AUDIENCE}\"")) && !first.contains("hpc\""), "{first}");
    let second = shown("https://second.example.org");
    assert!(second.contains("aud: \"hpc\"") && !second.contains(AUDIENCE), "{second}");
    for other in ["https://evil.example", "x", ""] {
        let both = shown(other);
        assert!(
            both.contains(&format!("# for projects on {url}\n")) && both.contains("aud: \"hpc\""),
            "{both}"
        );
        assert!(!both.contains("evil"), "{both}");
    }
}

#[needs(root)]
fn the_help_for_a_wrong_audience_names_every_right_one() {
    let world = world();
    world.reconfigure(
        &format!("audience = \"{AUDIENCE}\""),
        "audience = [\"https://other.example.org\", \"hpc\"]",
    );
    let outcome = world.job().config();
    assert_code(&outcome, "token-audience");
    let expected = "set `aud:` of the id token in .gitlab-ci.yml to a value that this site accepts:\n\
                    aud: \"https://other.example.org\"\naud: \"hpc\"";
    assert_eq!(help(&outcome), expected);
}

#[needs(root)]
fn a_user_without_an_account_reads_so_behind_a_rule_about_the_account_and_learns_no_other_names() {
    let world = world();
    let own = "run_as = \"$user_login\"";
    world.reconfigure(own, &format!("when.local_group = \"lattice\"\n{own}"));
    let refused = world.job().user("stranger").config();
    assert_code(&refused, "account");
    assert!(refused.stderr.contains("you have no account on this host"), "{}", refused.stderr);
    let audit = world.audit();
    let detail = audit.last().expect("a line")["detail"].as_str().expect("a detail");
    assert!(detail.contains("account `stranger`: not in the user database"), "{detail}");
    // An account that is not in the group, and accounts of other names.
    for (condition, run_as) in [
        ("local_group = \"wheel\"", own),
        ("uid = \"1-2\"", "run_as = \"bob\""),
        ("uid = \"1-2\"", "run_as = \"nobody-here\""),
    ] {
        let old = world.configuration();
        world.reconfigure(
            &format!("when.local_group = \"lattice\"\n{own}"),
            &format!("when.{condition}\n{run_as}"),
        );
        assert_code(
            &world.job().user("stranger2").config(),
            if run_as == own { "account" } else { "no-rule" },
        );
        assert_code(&world.job().config(), "no-rule");
        world.configure(&old);
    }
}
