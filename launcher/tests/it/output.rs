//! Output on its way from the job to the runner.

use crate::world::{BUILD_FAILURE, World, assert_code, err, out};
use std::time::{Duration, Instant};

#[test]
fn twenty_megabytes_arrive_whole_and_in_order_on_both_streams() {
    let mut world = World::new();
    let output = world.run("seq 1 2700000 & seq 1 2700000 >&2; wait; echo end; exit 0\n");
    assert_code(&output, 0);
    let numbers: String = (1..=2_700_000).map(|n| format!("{n}\n")).collect();
    assert!(numbers.len() > 20_000_000);
    assert!(out(&output) == numbers.clone() + "end\n", "standard output differs");
    assert!(err(&output) == numbers, "standard error differs");
}

#[test]
fn bytes_that_are_no_text_arrive_as_they_are() {
    let mut world = World::new();
    let output = world.run(r"printf '\000\377\376\r\033[31m'; exit 0");
    assert_eq!(output.stdout, b"\0\xff\xfe\r\x1b[31m");
}

#[test]
fn a_background_process_that_holds_the_pipe_does_not_hang_the_stage() {
    for script in ["sleep 20 & echo last; exit 0", "setsid sleep 20 & echo last; exit 0"] {
        let mut world = World::new();
        let begin = Instant::now();
        let output = world.run(script);
        assert!(begin.elapsed() < Duration::from_secs(10), "{script}: {:?}", begin.elapsed());
        assert_code(&output, 0);
        assert_eq!(out(&output), "last\n");
    }
}

#[test]
fn a_background_process_that_never_stops_writing_does_not_hang_the_stage() {
    let mut world = World::new();
    let begin = Instant::now();
    let output = world.run("yes >&2 & seq 1 9000; exit 6\n");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert_code(&output, BUILD_FAILURE);
    assert!(out(&output).ends_with("\n9000\n"));
}

#[test]
fn what_a_script_pipes_through_its_own_tee_still_arrives() {
    let mut world = World::new();
    let output = world.run("exec > >(sleep 0.05; tee \"$HOME/log\") 2>&1; echo through tee; exit 0\n");
    assert_code(&output, 0);
    assert_eq!(out(&output), "through tee\n");
}

#[test]
fn a_script_that_closes_its_output_runs_to_its_end() {
    let mut world = World::new();
    let output = world.run("exec >&- 2>&-; sleep 0.3; exit 5\n");
    assert_code(&output, BUILD_FAILURE);
    assert_eq!(world.exit_code(), "5\n");
}

#[test]
fn a_reader_that_goes_away_does_not_end_the_job() {
    let mut world = World::new();
    let mut running = world.start_stage("build_script", "seq 1 400000; touch \"$HOME/end\"; exit 3\n");
    drop(running.0.stdout.take());
    let output = running.finish();
    assert_code(&output, BUILD_FAILURE);
    assert_eq!(world.exit_code(), "3\n");
    assert!(world.home().join("end").exists());
    assert!(err(&output).contains("standard output are lost: EPIPE"), "{}", err(&output));
}

#[test]
fn a_slow_reader_gets_everything() {
    let mut world = World::new();
    let running = world.start_stage("build_script", "seq 1 200000; exit 0\n");
    std::thread::sleep(Duration::from_secs(1));
    let output = running.finish();
    assert_code(&output, 0);
    assert!(out(&output) == (1..=200_000).map(|n| format!("{n}\n")).collect::<String>());
}
