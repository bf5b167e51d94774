//! `nunbird-auth config` and `nunbirdctl explain --job` give the same verdict, code and account, whatever the job, the policy, the keys
//! and the host are.
//!
//! Each case is the sound job of a sound policy with some quirks applied at random.
//! `NUNBIRD_AGREEMENT_SECONDS` sets how long cases are generated (50 s), `NUNBIRD_AGREEMENT_SEED`
//! the seed. A case that differs is reduced before it is printed.

use crate::quirks::{self, Plan, QUIRKS};
use nunbird_tests::needs;
use nunbird_tests::world::{Exit, Privilege, World};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

/// Quirks by their index, each with a number of its own.
type Case = Vec<(usize, u64)>;

/// A program's result for a job: verdict, code, account.
type Said = (String, Option<String>, Option<String>);

#[needs(root)]
fn explain_and_config_agree_on_any_job_policy_keys_and_host() {
    let number = |name: &str| std::env::var_os(name)?.to_str()?.parse::<u64>().ok();
    let seconds = number("NUNBIRD_AGREEMENT_SECONDS").unwrap_or(50);
    let seed = number("NUNBIRD_AGREEMENT_SEED").unwrap_or_else(quirks::now);
    println!("NUNBIRD_AGREEMENT_SEED={seed} NUNBIRD_AGREEMENT_SECONDS={seconds}");
    let worlds = Privilege::ALL.map(World::new);
    let mut random = quirks::Random(seed);
    let mut tally: BTreeMap<String, usize> = BTreeMap::new();
    let (mut cases, begun) = (0_u64, Instant::now());
    while begun.elapsed() < Duration::from_secs(seconds) {
        let which = if random.below(2) == 0 { 1 } else { random.below(4) };
        let world = &worlds[usize::try_from(which).expect("a small number")];
        let case = draw(&mut random);
        cases += 1;
        let (explained, decided) = both(world, &case, cases);
        if explained != decided {
            println!("explain says {explained:?}, config says {decided:?}, for\n{}", shown(&case));
            let (small, explained, decided) = shrink(world, case, cases);
            panic!(
                "seed {seed}, case {cases}, {:?}: explain says {explained:?}, config says {decided:?}, for\n{}",
                world.privilege(),
                shown(&small)
            );
        }
        let (verdict, code, _) = decided;
        *tally.entry(code.unwrap_or(verdict)).or_default() += 1;
    }
    println!("{cases} cases agree: {tally:?}");
    let missing: Vec<&&str> = EXPECTED.iter().filter(|code| !tally.contains_key(**code)).collect();
    assert!(
        cases < 4000 || missing.is_empty(),
        "the cases are too much alike: none of {cases} ended with {missing:?}: {tally:?}"
    );
}

/// Results that some thousands of cases must include; the rarest occur once in some hundreds.
const EXPECTED: [&str; 18] = [
    "admitted",
    "account",
    "authorized-projects",
    "group",
    "home",
    "map",
    "no-keys",
    "no-rule",
    "no-token",
    "nologin",
    "response-malformed",
    "rule",
    "token-audience",
    "token-claims",
    "token-expired",
    "token-of-another-job",
    "token-unknown-key",
    "validation",
];

/// Mostly a few quirks: a job with many is refused by the first.
fn draw(random: &mut quirks::Random) -> Case {
    let count = [0, 1, 1, 2, 2, 2, 3, 3, 4, 6][usize::try_from(random.below(10)).expect("a small number")];
    let most = u64::try_from(QUIRKS.len()).expect("a small number");
    (0..count)
        .map(|_| (usize::try_from(random.below(most)).expect("a small number"), random.next()))
        .collect()
}

/// Leaves out what does not matter for the difference.
fn shrink(world: &World, mut case: Case, id: u64) -> (Case, Said, Said) {
    let mut at = 0;
    while at < case.len() {
        let mut smaller = case.clone();
        smaller.remove(at);
        let (explained, decided) = both(world, &smaller, id);
        if explained == decided {
            at += 1;
        } else {
            case = smaller;
        }
    }
    let (explained, decided) = both(world, &case, id);
    (case, explained, decided)
}

fn shown(case: &Case) -> String {
    case.iter().map(|(index, number)| format!("  {} with {number}\n", QUIRKS[*index].0)).collect()
}

/// The result of explain for a case, and then that of the program.
fn both(world: &World, case: &Case, id: u64) -> (Said, Said) {
    let mut plan = Plan::new(10_000 + id);
    for (index, number) in case {
        (QUIRKS[*index].1)(&mut plan, *number);
    }
    plan.lay_out(world);
    let job = plan.job(world);
    job.tell_server();
    let mut session = job.begin();
    if let Some(bytes) = plan.response_bytes() {
        session.write(&session.response_file(), bytes, 0o600);
    }
    let program = world.paths().bin.join("nunbirdctl");
    let file = session.response_file().display().to_string();
    let runner = world.privilege().runner();
    let words = ["explain", "--job", &file, "--format", "json", "--runner-user", runner, "--run-validation"];
    let done = world.run(&world.program("root", program, &words));
    let answer: Value =
        serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}\n{}", shown(case)));
    let text = |name: &str| answer[name].as_str().map(str::to_owned);
    let explained = match done.exit {
        Exit::Code(3) => ("failed".to_owned(), Some("configuration-invalid".to_owned()), None),
        _ => (text("verdict").unwrap_or_default(), text("code"), text("account")),
    };
    let status = match explained.0.as_str() {
        "admitted" => [0, 0],
        "denied" => [4, 4],
        "failed" => [7, 3],
        _ => [6, 6],
    };
    assert!(status.map(Exit::Code).contains(&done.exit), "{done:?}");

    let _none_yet = fs::remove_file(world.host_path(&world.paths().audit));
    let outcome = session.config();
    let event = world.audit().pop().unwrap_or_default();
    let decided = match outcome.exit {
        Exit::Code(0) => ("admitted".to_owned(), None, event["account"].as_str().map(str::to_owned)),
        Exit::Code(code) => {
            let verdict = if code == 1 { "denied" } else { "failed" };
            let first = outcome.stderr.lines().find(|line| line.starts_with("nunbird: error: "));
            let code = first.and_then(|line| line.rsplit_once('[')?.1.strip_suffix(']'));
            (verdict.to_owned(), code.map(str::to_owned), None)
        }
        other => panic!("{other:?}: {}", outcome.log),
    };
    for record in world.records() {
        fs::remove_file(record).expect("a record");
    }
    plan.clear_away(world);
    (explained, decided)
}
