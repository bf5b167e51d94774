//! The built-in descriptions, held against what schedulers really said (`tests/fixtures/schedulers`).

use super::asking::Asking;
use super::command::Said;
use super::description::{Description, End, State, named};
use super::machine::{Answer, Order, Row};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

mod cobalt;
mod flux;
mod gridengine;
mod htcondor;
mod lsf;
mod pbs;

/// The commands of a job of ann's with this tag.
fn asking<'d>(description: &'d Description, tag: &str) -> Asking<'d> {
    let values = [
        ("tag", tag),
        ("user", "ann"),
        ("uid", "1002"),
        ("stage", "/s"),
        ("agent", "/s/a b"),
        ("log", "/s/log"),
    ];
    let values = BTreeMap::from(values.map(|(name, value)| (name, value.to_owned())));
    Asking::new(description, values, vec!["-q".to_owned(), "x".to_owned()], 1002, tag.to_owned())
}

/// The record of that title.
fn record(file: &str, title: &str) -> Said {
    let mut records = file.split("### ").filter_map(|record| record.split_once('\n'));
    let (_, text) = records.find(|(found, _)| *found == title).expect(title);
    let between = |from: &str, to: &str| {
        let after = text.split_once(from).expect(from).1;
        after.split_once(to).expect(to).0.to_owned()
    };
    let code: i32 = text.rsplit_once("--- exit ").expect("exit").1.trim().parse().expect("a number");
    said(code, &between("--- stdout\n", "--- stderr\n"), &between("--- stderr\n", "--- exit "))
}

fn said(code: i32, out: &str, err: &str) -> Said {
    Said { status: Some(ExitStatus::from_raw(code << 8)), out: out.to_owned(), err: err.to_owned() }
}

/// The answer to a question that is asked in as many steps as there are.
fn told(asking: &mut Asking<'_>, order: Order, steps: &[Said]) -> Answer {
    for said in steps {
        let answer = asking.answer(order, said);
        if let Some(answer) = asking.settle(order, answer) {
            return answer;
        }
    }
    panic!("{order:?} asks for more than {} commands", steps.len());
}

fn row(answer: Answer) -> Row {
    match answer {
        Answer::Row(row) => row,
        other => panic!("no row: {other:?}"),
    }
}

fn is_unclear(answer: &Answer) -> bool {
    matches!(answer, Answer::Unclear(_))
}

fn words(asking: &Asking<'_>, order: Order, id: Option<&str>) -> String {
    asking.call(order, id).map_or_else(|| "none".to_owned(), |call| call.words.join(" "))
}

#[test]
fn no_command_goes_by_an_id_that_nobody_knows() {
    for name in ["pbs", "flux", "cobalt"] {
        let description = named(name);
        let asking = asking(&description, "nb7-x");
        assert!(asking.call(Order::Cancel, None).is_none(), "{name}");
        assert!(asking.call(Order::Cancel, Some("9")).is_some(), "{name}");
    }
    for name in ["slurm", "lsf", "gridengine", "htcondor"] {
        let description = named(name);
        let asking = asking(&description, "nb7-x");
        assert!(words(&asking, Order::Cancel, None).contains("nb7-x"), "{name} cancels by name");
    }
}

#[test]
fn the_users_arguments_stand_before_those_of_nunbird() {
    for name in ["slurm", "pbs", "lsf", "flux", "cobalt", "gridengine", "htcondor"] {
        let description = named(name);
        let command = words(&asking(&description, "nb7-x"), Order::Submit, None);
        let (user, tag) = (command.find(" -q x").expect("user"), command.find("nb7-x"));
        assert!(tag.is_none_or(|tag| user < tag), "{command}");
        if name == "htcondor" {
            assert!(command.ends_with(" -q x -"), "{command}");
        }
    }
}

#[test]
fn every_word_that_a_description_makes_of_a_state_has_a_meaning() {
    for name in ["pbs", "lsf", "flux", "cobalt", "gridengine", "htcondor"] {
        let description = named(name);
        let queries = [Some(&description.query), Some(description.find()), description.accounting.as_ref()];
        for query in queries.into_iter().flatten() {
            let mut query = Some(query);
            while let Some(one) = query {
                for word in one.state_words() {
                    assert_ne!(description.state(word), State::Unknown, "{name}: {word}");
                }
                query = one.then.as_deref();
            }
        }
    }
}
