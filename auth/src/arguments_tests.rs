use super::{Call, Request, Stage, parse};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

fn of(words: &[&str]) -> Result<Request, String> {
    parse(words.iter().map(OsString::from))
}

fn call(words: &[&str]) -> Call {
    match of(words) {
        Ok(Request::Stage(call)) => call,
        other => panic!("{words:?}: {other:?}"),
    }
}

#[test]
fn flags_stand_in_any_position_that_sites_use() {
    for words in [
        &["-u", "config", "--configuration", "/c"][..],
        &["config", "--configuration", "/c", "-u"],
        &["--configuration=/c", "--unobfuscated", "config"],
    ] {
        let call = call(words);
        assert_eq!(call.stage, Stage::Config, "{words:?}");
        assert_eq!(call.configuration.as_deref(), Some("/c".as_ref()), "{words:?}");
        assert!(call.unobfuscated, "{words:?}");
    }
    assert_eq!(call(&["prepare"]).configuration, None);
    let odd = call(&["--configuration=--configuration=/c", "config"]);
    assert_eq!(odd.configuration.as_deref(), Some("--configuration=/c".as_ref()));
    for words in [&["--version"][..], &["config", "--version"], &["-u", "--version", "run"]] {
        assert_eq!(of(words), Ok(Request::Version), "{words:?}");
    }
}

#[test]
fn the_runner_appends_script_and_stage_to_run() {
    let expected = Stage::Run { script: "/t/script".into(), stage: "build_script".to_owned() };
    assert_eq!(call(&["run", "/t/script", "build_script"]).stage, expected);
    assert_eq!(call(&["run", "--configuration", "/c", "/t/script", "build_script"]).stage, expected);
}

#[test]
fn anything_else_is_an_error_that_names_it() {
    for (words, part) in [
        (&[][..], "no stage"),
        (&["frobnicate"], "frobnicate"),
        (&["config", "extra"], "extra"),
        (&["--root", "config"], "--root"),
        (&["config", "--configuration"], "needs a file"),
        (&["config", "--configuration", "/a", "--configuration", "/b"], "twice"),
        (&["run"], "script"),
        (&["run", "/t/script"], "stage"),
        (&["run", "/t/script", "a b"], "no name"),
        (&["run", "/t/script", "../x"], "no name"),
        (&["run", "/t/script", "x", "y"], "unexpected"),
        (&["conf\u{1b}[31mig"], "\\u{1b}"),
    ] {
        let error = of(words).expect_err("an error");
        assert!(error.contains(part), "{words:?}: {error}");
    }
}

#[test]
fn arguments_that_are_not_text_do_not_panic() {
    let bytes = OsString::from_vec(vec![b'c', 0xff]);
    assert!(parse([bytes.clone()].into_iter()).is_err());
    let script = parse(["run".into(), bytes, "build_script".into()].into_iter());
    assert!(script.is_ok(), "a script's path may hold any bytes");
}

#[test]
fn a_record_is_named_as_the_store_names_them_and_no_other_file_is() {
    for name in ["4001-fd00-1a2b.record", "orphan-0123456789abcdef0123456789abcdef.record"] {
        assert_eq!(call(&["reap", name]).stage, Stage::Reap(name.to_owned()));
        assert_eq!(call(&["end", name]).stage, Stage::End(name.to_owned()));
    }
    for name in
        ["", ".record", "../x.record", "a/b.record", ".lock", "4001-1-2", "4001-1-2.json\n", "x.json.record"]
    {
        assert!(of(&["reap", name]).is_err() && of(&["end", name]).is_err(), "{name}");
    }
    assert!(of(&["reap"]).is_err() && of(&["reap", "1-2-3.record", "4-5-6.record"]).is_err());
}

#[test]
fn an_account_to_tidy_has_a_portable_name() {
    assert_eq!(call(&["tidy", "ada", "--configuration", "/c"]).stage, Stage::Tidy("ada".to_owned()));
    for name in ["", "-x", "root:x", "../ada", "0", "a b"] {
        assert!(of(&["tidy", name]).is_err(), "{name}");
    }
    assert!(of(&["tidy"]).is_err());
}
