//! Signals from the runner.

use crate::world::{BUILD_FAILURE, World, assert_code, err, out, runs};
use nix::sys::signal::Signal;
use std::fs;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_millis(1200);
const GRACE: Duration = Duration::from_millis(1500);

#[test]
fn each_request_to_cancel_reaches_the_script_as_term() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        let mut world = World::impatient();
        let running = world
            .start_stage("build_script", "trap 'echo got term; exit 9' TERM; echo ready; sleep 30 & wait");
        let running = running.ready();
        running.signal(signal);
        let output = running.finish();
        assert_code(&output, BUILD_FAILURE);
        assert_eq!((out(&output).as_str(), world.exit_code().as_str()), ("got term\n", "9\n"), "{signal}");
        assert!(err(&output).contains(&format!("cancelled by {signal}")), "{}", err(&output));
    }
}

#[test]
fn success_after_a_cancel_is_never_success() {
    let mut world = World::impatient();
    let running =
        world.start_stage("build_script", "trap 'exit 0' TERM; echo ready; sleep 30 & wait").ready();
    running.signal(Signal::SIGTERM);
    assert_code(&running.finish(), BUILD_FAILURE);
    assert_eq!(world.exit_code(), "1\n");
}

#[test]
fn a_job_that_ignores_term_is_killed_after_the_grace() {
    let mut world = World::impatient();
    let running = world.start_stage("build_script", "trap '' TERM; echo ready; sleep 30; sleep 30").ready();
    let begin = Instant::now();
    running.signal(Signal::SIGTERM);
    let output = running.finish();
    let took = begin.elapsed();
    assert!((GRACE..GRACE * 4).contains(&took), "{took:?}");
    assert_code(&output, BUILD_FAILURE);
    assert_eq!(world.exit_code(), "137\n");
    assert!(err(&output).contains("did not end within"), "{}", err(&output));
}

#[test]
fn a_second_request_kills_at_once_but_the_same_one_twice_is_one() {
    let mut world = World::impatient();
    let running = world.start_stage("build_script", "trap '' TERM; echo ready; sleep 30; sleep 30").ready();
    let begin = Instant::now();
    running.signal(Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(100));
    running.signal(Signal::SIGINT);
    std::thread::sleep(Duration::from_millis(100));
    assert!(running.runs(), "killed by what may be the same request");
    std::thread::sleep(Duration::from_millis(300));
    running.signal(Signal::SIGTERM);
    let output = running.finish();
    let took = begin.elapsed();
    assert!((Duration::from_millis(500)..SOON).contains(&took), "{took:?}");
    assert_code(&output, BUILD_FAILURE);
    assert!(err(&output).contains("cancelled again by SIGTERM"), "{}", err(&output));
}

#[test]
fn processes_in_groups_of_their_own_end_with_the_job() {
    let mut world = World::impatient();
    let script = "set -m; sleep 31 & echo $! >\"$HOME/own-group\"
        timeout 32 sleep 33 & echo $! >\"$HOME/timeout\"; set +m
        (trap '' TERM; sleep 34) & echo $! >\"$HOME/deaf\"; echo ready; wait";
    let running = world.start_stage("build_script", script).ready();
    running.signal(Signal::SIGTERM);
    assert_code(&running.finish(), BUILD_FAILURE);
    for name in ["own-group", "timeout", "deaf"] {
        let pid = fs::read_to_string(world.home().join(name)).expect("pid");
        let deadline = Instant::now() + Duration::from_secs(5);
        while runs(&pid) {
            assert!(Instant::now() < deadline, "{name} still runs");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_stopped_job_ends_before_the_grace_is_over() {
    let mut world = World::impatient();
    let script = "trap 'exit 9' TERM; (sleep 0.2; kill -STOP $$) & echo ready; while :; do sleep 0.1; done";
    let running = world.start_stage("build_script", script).ready();
    std::thread::sleep(Duration::from_millis(500));
    let begin = Instant::now();
    running.signal(Signal::SIGTERM);
    assert_code(&running.finish(), BUILD_FAILURE);
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}

#[test]
fn a_job_whose_output_nobody_reads_can_be_cancelled() {
    let mut world = World::impatient();
    let mut running = world.start_stage("build_script", "yes & yes >&2 & wait");
    std::thread::sleep(Duration::from_millis(700));
    let begin = Instant::now();
    running.signal(Signal::SIGTERM);
    let status = running.0.wait().expect("status");
    assert_eq!(status.code(), Some(BUILD_FAILURE));
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
}

#[test]
fn a_job_dies_with_its_launcher() {
    let mut world = World::new();
    let running =
        world.start_stage("build_script", "echo $$ >\"$HOME/pid\"; echo ready; sleep 5; sleep 5").ready();
    let pid = fs::read_to_string(world.home().join("pid")).expect("pid");
    assert!(runs(&pid));
    running.signal(Signal::SIGKILL);
    let deadline = Instant::now() + Duration::from_secs(3);
    while runs(&pid) {
        assert!(Instant::now() < deadline, "the shell still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_real_launcher_gives_a_job_time_to_end() {
    let mut world = World::new();
    let script = "trap 'sleep 2; echo tidy; exit 1' TERM; echo ready; sleep 30 & wait";
    let running = world.start_stage("build_script", script).ready();
    running.signal(Signal::SIGTERM);
    let output = running.finish();
    assert_eq!(out(&output), "tidy\n");
    assert!(err(&output).contains("have 25 s to end"), "{}", err(&output));
}
