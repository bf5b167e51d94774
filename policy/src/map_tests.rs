use super::{check_map, look_up};
use crate::made_up::{MadeUp, subject};
use crate::{Location, MapFile, MapKey, Subject};

fn found(text: &str, login: &str) -> Option<String> {
    let place = Location { file: "c".into(), line: 1, column: 1 };
    let map = MapFile { place, file: "/m".into(), key: MapKey::UserLogin };
    let host = MadeUp { map: text.to_owned(), ..MadeUp::default() };
    look_up(&map, &Subject { user_login: login.to_owned(), ..subject() }, &host).expect("an unambiguous map")
}

#[test]
fn a_line_is_a_key_and_an_account_and_nothing_else_is_taken() {
    let text = "# users\nada  a.l # since 2020\n\tbob\tb1\r\nmal-formed\nx y z\n eve e1";
    assert_eq!(found(text, "ada").as_deref(), Some("a.l"));
    assert_eq!(found(text, "bob").as_deref(), Some("b1"));
    assert_eq!(found(text, "eve").as_deref(), Some("e1"));
    for nobody in
        ["ad", "da", "mal", "mal-", "a.l", "mal-formed", "x", "y", "users", "#", "", "b", "ada a.l", "ada "]
    {
        assert_eq!(found(text, nobody), None, "{nobody}");
    }
}

#[test]
fn a_check_finds_what_no_decision_would_accept() {
    let findings = check_map("a b\na b\na c\nx\nx y z\nq root\n# fine\n\n");
    let lines: Vec<usize> = findings.iter().map(|f| f.line).collect();
    assert_eq!(lines, [2, 3, 4, 5, 6]);
}

#[test]
fn one_user_is_found_among_fifty_thousand() {
    let text: String = (0..50_000).map(|n| format!("user{n} u{n}\n")).collect();
    assert_eq!(found(&text, "user49999").as_deref(), Some("u49999"));
    assert_eq!(found(&text, "user50000"), None);
}
