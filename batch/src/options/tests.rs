//! Which arguments of users are accepted, changed or refused, and the messages.

use super::{Arguments, arguments, check};
use crate::description::slurm;
use nunbird_handover::{Account, Batch, Rules, Scheduler, UserText};

mod dialects;

fn batch(text: &str) -> Batch {
    let mut batch = Batch::new(Scheduler::Named("slurm".to_owned()), "/d".into());
    batch.arguments = Some(UserText { variable: "SCHEDULER_PARAMETERS".to_owned(), text: text.to_owned() });
    batch
}

fn judged(batch: &Batch) -> Result<Arguments, String> {
    let account =
        Account { name: "ann".to_owned(), uid: 1, gid: 1, home: "/home/ann".into(), shell: "/bin/sh".into() };
    arguments(batch, &account, &slurm().options)
}

#[test]
fn words_are_split_as_a_shell_splits_them_and_nothing_is_evaluated() {
    let result =
        judged(&batch("  -Aacct -N2 --constraint='a b'  --gres=\"x;$(id)`id`\" --mail-user $HOME/x "));
    let words = result.expect("good").words;
    assert_eq!(words, ["-Aacct", "-N2", "--constraint=a b", "--gres=x;$(id)`id`", "--mail-user=/home/ann/x"]);
    assert!(judged(&batch("--a='b")).expect_err("open").contains("not closed"));
}

#[test]
fn flags_of_later_releases_and_of_pyxis_take_no_word_that_follows() {
    let text =
        "--no-container-mount-home --consolidate-segments --container-writable -N 2 --container-remap-root";
    assert_eq!(judged(&batch(text)).expect("good").words.join(" "), text);
    let error = judged(&batch("--frobnicate -N 2")).expect_err("no value");
    assert!(error.contains("to `flags` in a copy"), "{error}");
}

/// An unknown option may take no value. With two words, the second would be the script, and what
/// follows it, the site's arguments and ours, would be that script's arguments.
#[test]
fn an_option_that_nobody_knows_here_cannot_make_a_script_of_its_value() {
    let mut batch = batch("--frobnicate /home/ann/mine.sh -p x");
    batch.rules.forced = vec!["--account=ci".to_owned()];
    let words = judged(&batch).expect("good").words;
    assert_eq!(words, ["--frobnicate=/home/ann/mine.sh", "-p", "x", "--account=ci"]);
}

#[test]
fn what_nunbird_sets_is_refused_in_every_spelling_with_the_reason() {
    for (text, reason) in [
        ("-J x", "finds it again"),
        ("-Jx", "finds it again"),
        ("--job-name x", "finds it again"),
        ("-o x", "job log"),
        ("-HOox", "job log"),
        ("--outp=x", "write the whole name"),
        ("--wra=id", "write the whole name"),
        ("--output=/x", "job log"),
        ("-W", "itself"),
        ("--array 1-3", "one job"),
        ("--requeue", "never again"),
        ("--export=ALL", "environment"),
        ("script.sh", "not an option"),
        ("-- x", "not an option"),
        (":", "not an option"),
        ("--time", "no value"),
        ("--unknown-flag --output=/x", "no value"),
        ("-X -ox", "no value"),
    ] {
        let error = judged(&batch(text)).expect_err(text);
        assert!(error.contains(reason) && error.contains("SCHEDULER_PARAMETERS"), "{text}: {error}");
    }
}

#[test]
fn with_allow_illegal_args_they_are_left_out_and_the_user_reads_that() {
    let mut batch = batch("-J x -p debug --exclusive --wait");
    batch.allow_illegal_args = true;
    let result = judged(&batch).expect("good");
    assert_eq!(result.words, ["-p", "debug", "--exclusive"]);
    assert_eq!((result.remarks.len(), result.partition.as_deref()), (2, Some("debug")));
}

#[test]
fn the_site_bounds_what_users_ask_for_and_says_so() {
    let mut batch = batch("-t 3-0 -N 4");
    batch.rules.most_time = Some(3600);
    batch.rules.most_nodes = Some(4);
    let result = judged(&batch).expect("good");
    assert_eq!(result.words, ["-t", "0-01:00:00", "-N", "4"]);
    assert!(result.has_time && result.remarks[0].contains("reduced to"), "{:?}", result.remarks);
    batch.rules.most_nodes = Some(3);
    assert!(judged(&batch).expect_err("nodes").contains("more than this site allows"));
}

#[test]
fn only_the_partitions_accounts_and_amounts_of_the_site_pass() {
    let with = |text: &str| {
        let mut batch = batch(text);
        batch.rules.partitions = Some(vec!["ci".to_owned(), "debug".to_owned()]);
        batch.rules.accounts = Some(vec!["phys".to_owned()]);
        batch.rules.qos = Some(vec![]);
        batch.rules.most_memory = Some(4096);
        judged(&batch)
    };
    assert!(with("-p ci,debug -A phys --mem 4G").is_ok());
    for text in ["-p ci,gpu", "--partition=gpu", "-Achem", "-q x", "--mem=5G", "--mem=0", "--mem=lots"] {
        assert!(with(text).is_err(), "{text}");
    }
}

#[test]
fn defaults_stand_before_the_users_and_forced_ones_behind() {
    let mut batch = batch("-p mine -t 5");
    batch.rules.default = vec!["-p".to_owned(), "theirs".to_owned(), "-N1".to_owned()];
    batch.rules.forced = vec!["--partition=ours".to_owned()];
    let result = judged(&batch).expect("good");
    assert_eq!(result.words, ["-p", "theirs", "-N1", "-p", "mine", "-t", "5", "--partition=ours"]);
    assert!(result.remarks[0].contains("instead of your `-p mine`"), "{:?}", result.remarks);
}

#[test]
fn a_sites_arguments_that_its_own_bounds_refuse_are_found_before_a_job_comes() {
    let mut rules = Rules { partitions: Some(vec!["ci".to_owned()]), ..Rules::default() };
    let options = slurm().options;
    for (arguments, good) in [(["-p", "ci"], true), (["-p", "gpu"], false), (["-t", "5-0"], true)] {
        rules.forced = arguments.map(str::to_owned).to_vec();
        rules.most_time = Some(3600);
        let checked = check(&rules, &options);
        assert_eq!(checked.is_ok(), good, "{arguments:?}: {checked:?}");
    }
    rules.forced.clear();
    rules.default = vec!["--nodes=9".to_owned()];
    rules.most_nodes = Some(4);
    assert!(check(&rules, &options).expect_err("nodes").contains("default_arguments: `--nodes=9`"));
}

#[test]
fn the_sites_own_arguments_cannot_set_what_nunbird_sets() {
    let mut batch = batch("-N 1");
    batch.rules.forced = vec!["--output=/shared/log".to_owned()];
    let error = super::check(&batch.rules, &slurm().options).expect_err("the output is ours");
    assert!(error.contains("forced_arguments: `--output=/shared/log` is not allowed here"), "{error}");
    let error = judged(&batch).expect_err("no job is submitted so");
    assert!(error.contains("the site's forced arguments") && error.contains("administrators"), "{error}");
}
