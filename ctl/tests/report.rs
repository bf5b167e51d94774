//! `report` and `metrics`, on audit files of their own.

use crate::scene::Scene;
use serde_json::json;
use std::fs;

/// Midnight of 2026-11-20.
const DAY: u64 = 1_795_132_800;

/// The events of one job from admission to clean-up.
fn job(number: u64, at: u64, group: &str, executor: &str, exit_code: u64) -> String {
    let decision = format!("{number:032x}");
    let project = format!("{group}/app");
    let base = |outcome: &str, stage: &str, time: u64| {
        json!({ "schema": 1, "time": time, "outcome": outcome, "stage": stage, "decision_id": decision, "job_id": number,
                "project_path": project, "user_login": "ada", "account": "ada", "uid": 4101, "executor": executor })
    };
    let mut admitted = base("admitted", "config", at);
    admitted["namespace_path"] = json!(group);
    admitted["rule"] = json!({ "name": "hpc", "file": "/etc/nunbird/config.toml", "line": 9 });
    admitted["queued_s"] = json!(number);
    let mut run = base("stage-ended", "run", at + 100);
    run["script"] = json!("build_script");
    run["exit_code"] = json!(exit_code);
    run["duration_ms"] = json!(90_000);
    if executor != "shell" {
        run["batch"] = json!({ "end": "success", "queued_s": 40, "ran_s": 50, "used_cpu_ms": 3_600_000 });
    }
    let mut cleanup = base("stage-ended", "cleanup", at + 110);
    cleanup["exit_code"] = json!(0);
    cleanup["duration_ms"] = json!(1000 * number);
    cleanup["job_s"] = json!(110);
    cleanup["used_cpu_us"] = json!(1_800_000_000_u64);
    cleanup["used_memory_peak"] = json!(1_u64 << 30);
    cleanup["limit_memory"] = json!(4_u64 << 30);
    [admitted, run, cleanup].iter().map(|event| format!("{event}\n")).collect()
}

fn denied(at: u64, code: &str, rule: Option<&str>, left_out: u64) -> String {
    let mut event = json!({ "schema": 1, "time": at, "outcome": "denied", "stage": "config", "decision_id": "d", "code": code });
    if let Some(rule) = rule {
        event["rule"] = json!({ "name": rule, "file": "f", "line": 1 });
    }
    if left_out > 0 {
        event["left_out"] = json!(left_out);
    }
    format!("{event}\n")
}

fn events() -> String {
    [
        job(1, DAY + 10, "hpc", "slurm", 0),
        job(2, DAY + 20, "hpc", "slurm", 1),
        job(3, DAY + 86_400 + 5, "chem", "shell", 0),
        denied(DAY + 30, "rule-deny", Some("no schedules"), 0),
        denied(DAY + 40, "no-token", None, 4),
        "half a li\n".to_owned(),
        // Before the span, and its end in it.
        job(9, DAY - 50, "old", "shell", 0),
    ]
    .concat()
}

#[test]
fn a_report_counts_jobs_waits_core_hours_memory_and_refusals() {
    let scene = Scene::new();
    let log = scene.file("audit.jsonl", &events());
    let arguments = ["report", "--file", &log, "--since", "2026-11-20", "--until", "2026-11-22"];
    let machine = scene.run_bare(&[&arguments[..], &["--format", "json"]].concat()).json();
    assert_eq!(
        (&machine["jobs"]["jobs"], &machine["jobs"]["failed"], &machine["denied"]),
        (&json!(3), &json!(1), &json!(6))
    );
    assert_eq!(
        machine["days"],
        json!([{ "day": "2026-11-20", "admitted": 2, "denied": 6 }, { "day": "2026-11-21", "admitted": 1, "denied": 0 }])
    );
    let slurm = &machine["executors"][0];
    assert_eq!((&slurm["name"], &slurm["jobs"], &slurm["failed"]), (&json!("slurm"), &json!(2), &json!(1)));
    // An hour each in the scheduler, and half an hour on this host.
    assert_eq!(slurm["core_hours"], json!(3.0));
    assert_eq!(slurm["scheduler_queue_s"], json!({ "p50": 40, "p90": 40, "max": 40 }));
    assert_eq!(slurm["gitlab_queue_s"], json!({ "p50": 1, "p90": 2, "max": 2 }));
    assert_eq!(machine["executors"][1]["scheduler_queue_s"], json!(null));
    assert_eq!(machine["groups"][1]["name"], "chem");
    assert_eq!(machine["groups"][1]["memory_peak"]["max"], json!(1_u64 << 30));
    assert_eq!(machine["denials"][0], json!({ "code": "no-token", "rule": "", "count": 5 }));
    assert_eq!(machine["denials"][1], json!({ "code": "rule-deny", "rule": "no schedules", "count": 1 }));
    assert_eq!(machine["slowest_cleanups"][0]["ms"], 3000);
    let text = scene.run_bare(&arguments);
    assert_eq!(text.code, 0, "{text:?}");
    for part in [
        "2026-11-20T00:00:00Z to 2026-11-22T00:00:00Z: 3 jobs, of which 1 failed; 6 refusals",
        "1.0/4.0 GiB",
        "3.000",
        "5  no-token",
        "1  rule-deny, no schedules",
        "3000 ms  job 3 of chem/app",
        "1 lines are not events",
    ] {
        assert!(text.out.contains(part), "{part}\n{}", text.out);
    }
    assert_eq!(
        scene.run_bare(&["report", "--file", &log, "--since", "2027-01-01"]).code,
        1,
        "nothing was found"
    );
}

#[test]
fn a_page_has_plots_loads_nothing_and_shows_names_as_text() {
    let scene = Scene::new();
    let hostile = "a<script>alert(1)</script>\u{202e}&\"'";
    let log = scene.file("audit.jsonl", &(events() + &job(4, DAY + 60, hostile, "slurm", 0)));
    let page = scene.path("report.html");
    let shown = page.display().to_string();
    let done = scene.run_bare(&[
        "report",
        "--file",
        &log,
        "--since",
        "2026-11-20",
        "--until",
        "2026-11-22",
        "--html",
        &shown,
    ]);
    assert_eq!((done.code, done.out.lines().count()), (0, 1), "{done:?}");
    let page = fs::read_to_string(page).expect("a page");
    assert_eq!(page.matches("<svg ").count(), 3, "days, groups, refusals");
    assert!(page.contains("a&lt;script&gt;alert(1)&lt;/script&gt;") && !page.contains('\u{202e}'), "{page}");
    for never in ["<script", "http://", "https://", "url(", "@import", " on", "<img", "<link", "<iframe"] {
        let found =
            page.replace("http://www.w3.org/2000/svg", "").replace(" on this", "").replace(" on paper", "");
        assert!(!found.contains(never), "{never}");
    }
    assert!(page.contains("default-src 'none'"));
    let refused = scene.run_bare(&[
        "report",
        "--file",
        &log,
        "--since",
        "2026-11-20",
        "--html",
        "/nowhere/report.html",
    ]);
    assert!(refused.code == 1 && refused.err.contains("/nowhere/report.html"), "{refused:?}");
}

#[test]
fn counters_only_grow_while_the_audit_file_is_rotated() {
    let scene = Scene::new();
    let log = scene.file("audit.jsonl", &events());
    let (state, output) =
        (scene.path("state").display().to_string(), scene.path("nunbird.prom").display().to_string());
    let metrics = |log: &str| {
        let done = scene.run(&["metrics", "--file", log, "--state", &state, "--output", &output]);
        assert_eq!((done.code, done.out.as_str()), (0, ""), "{done:?}");
        fs::read_to_string(&output).expect("a file")
    };
    let has = |text: &str, line: &str| assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    let admitted = |count| format!("nunbird_jobs_admitted_total{{rule=\"hpc\",executor=\"slurm\"}} {count}");
    let first = metrics(&log);
    has(&first, &admitted(2));
    has(&first, "nunbird_refusals_total{code=\"no-token\",stage=\"config\",class=\"denial\"} 5");
    has(&first, "nunbird_cpu_seconds_total{executor=\"slurm\"} 10800.000");
    has(&first, "nunbird_audit_lines_unread_total 1");
    let valid = |state| {
        format!(
            "nunbird_configuration_valid{{configuration=\"{}\"}} {state}",
            scene.path("config.toml").display()
        )
    };
    has(&first, &valid(1));
    assert_eq!(metrics(&log), first, "nothing new");
    // Written after the last run, and rotated before the next one.
    fs::write(&log, events() + &job(5, DAY + 70, "hpc", "slurm", 0)).expect("written");
    fs::rename(&log, format!("{log}.1")).expect("rotated");
    scene.file("audit.jsonl", &job(6, DAY + 80, "hpc", "slurm", 0));
    let then = metrics(&log);
    has(&then, &admitted(4));
    has(&then, "nunbird_audit_gaps_total 0");
    fs::remove_file(format!("{log}.1")).expect("removed");
    has(&metrics(&log), &admitted(4));
    scene.configure("nonsense = 1\n");
    has(&metrics(&log), &valid(0));
    fs::write(&state, "{}").expect("a file");
    let refused = scene.run(&["metrics", "--file", &log, "--state", &state]);
    assert!(refused.code == 1 && refused.err.contains("remove it to begin at 0"), "{refused:?}");
}

#[test]
fn an_invalid_configuration_does_not_change_the_file_that_is_counted() {
    let scene = Scene::new();
    let log = scene.file("audit.jsonl", &events());
    let state = scene.path("state").display().to_string();
    let metrics = || {
        let done = scene.run(&["metrics", "--state", &state]);
        assert_eq!(done.code, 0, "{done:?}");
        done.out
    };
    let admitted =
        |count| format!("\nnunbird_jobs_admitted_total{{rule=\"hpc\",executor=\"slurm\"}} {count}\n");
    scene.configure(&format!("[audit]\nfile = {log:?}\n{}", scene.policy()));
    assert!(metrics().contains(&admitted(2)));
    scene.configure("nonsense = 1\n");
    fs::write(&log, events() + &job(5, DAY + 70, "hpc", "slurm", 0)).expect("written");
    let then = metrics();
    assert!(then.contains(&admitted(3)) && then.contains("\nnunbird_audit_gaps_total 0\n"), "{then}");
    assert!(then.contains("nunbird_configuration_valid{"), "{then}");
}
