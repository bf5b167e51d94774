//! The long suite on a booted systemd host: `make test-host`.

use nunbird_tests::{Host, needs};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Jobs in total, four at once, of three users.
const JOBS: u64 = 1000;
const LANES: u64 = 4;

/// The present files, records and mounts, except what jobs keep by design (build trees, the audit
/// file, the journal).
fn inventory(host: &Host) -> BTreeSet<String> {
    let inside = format!("/proc/{}/root", host.pid1());
    let mut found = BTreeSet::new();
    for place in ["tmp", "var/tmp", "dev/shm", "run", "var/lib/nunbird", "var/spool", "home"] {
        walk(&Path::new(&inside).join(place), &mut found);
    }
    walk(&host.world().host_path("/").with_file_name("runner"), &mut found);
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", host.pid1())).expect("mounts");
    found.extend(
        mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(|place| format!("mount {place}")),
    );
    found
}

fn walk(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        found.insert(path.display().to_string());
        // systemd's own directories come and go by its timers.
        let own = path.ends_with("run/systemd")
            || path.ends_with(".nunbird/builds")
            || path.ends_with(".nunbird/cache");
        if !own && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, found);
        }
    }
}

/// One job with the fewest stages.
fn job(host: &Host, number: u64) {
    let user = ["alice", "bob", "ada"][usize::try_from(number % 3).expect("a small number")];
    let job = host.world().job().id(100_000 + number).user(user).file_variable("KEY", "the key\n");
    let mut session = job.begin();
    for call in [session.config(), session.prepare()] {
        assert!(call.succeeded(), "job {number}: {}", call.log);
    }
    let run = session.run_text("build_script", "id -un");
    assert!(run.succeeded() && run.stdout.contains(user), "job {number}: {}", run.log);
    let cleanup = session.cleanup();
    assert!(cleanup.succeeded(), "job {number}: {}", cleanup.log);
}

#[needs(host)]
fn a_thousand_jobs_leave_no_process_record_file_or_mount() {
    let host = Host::boot();
    // Each user's first jobs create directories that stay: one per slot.
    for number in 0..3 {
        job(&host, number);
    }
    let before = inventory(&host);
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let host = &host;
            scope.spawn(move || (lane..JOBS).step_by(4).for_each(|number| job(host, 1000 + number)));
        }
    });
    for user in ["alice", "bob", "ada"] {
        assert!(host.wait_until(|host| host.processes_of(user).is_empty()), "{:?}", host.processes_of(user));
    }
    assert!(host.world().records().is_empty(), "{:?}", host.world().records());
    let after = inventory(&host);
    let left: Vec<&String> = after.difference(&before).collect();
    assert!(left.is_empty(), "{left:?}");
    // A line that begins while another is being written may have an empty one before it: `sys::Lines::append`.
    let audit =
        fs::read_to_string(host.world().host_path(&host.world().paths().audit)).expect("the audit file");
    let (empty, lines): (Vec<&str>, Vec<&str>) = audit.lines().partition(|line| line.is_empty());
    let events = lines.iter().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let admitted = events.filter(|event| event["outcome"] == "admitted").count();
    println!("{admitted} jobs, {} events, {} empty lines between them", lines.len(), empty.len());
    assert_eq!(admitted as u64, JOBS + 3);
}
