//! Requests to cancel, and what a cleanup finds.

use super::support::{Case, begun, case, is_over, job, pending, users_failure, waiting};
use crate::scheduler::{Cluster, Fault, Possible, Want};
use nix::sys::signal::Signal;

pub(super) const CASES: &[Case] = &[
    case("a waiting job that is cancelled leaves the queue", cancel_pending),
    case("a running job that is cancelled is gone", cancel_running),
    case("a cancelled script has its grace and its trap's exit code", cancel_with_grace),
    case("a script that ignores signals is gone all the same", cancel_deaf),
    case("a second request does not wait for the grace", second_request),
    case("a job that somebody else cancelled says so", cancelled_by_another),
    case("a cleanup cancels a waiting job of a killed launcher", clean_pending),
    case("a cleanup cancels a running job of a killed launcher", clean_running),
    case("a cleanup finds a job whose id nobody wrote down", clean_unknown),
];

fn cancel_pending(cluster: &dyn Cluster) -> Possible<()> {
    let job = job(cluster, "nbt_ann").arguments(&cluster.want(Want::Hold)?);
    let stage = job.start("true");
    let id = pending(cluster, &job);
    stage.signal(Signal::SIGTERM);
    stage.finish().failed(1, "cancelled");
    is_over(cluster, &id);
    Ok(())
}

fn cancel_running(cluster: &dyn Cluster) -> Possible<()> {
    let job = job(cluster, "nbt_ann");
    let stage = job.start(&waiting("echo never"));
    let id = begun(&job);
    stage.signal(Signal::SIGTERM);
    let ended = stage.finish();
    users_failure(&ended, "cancelled");
    assert_eq!(ended.text(), "");
    is_over(cluster, &id);
    Ok(())
}

fn cancel_with_grace(cluster: &dyn Cluster) -> Possible<()> {
    cluster.reports("grace")?;
    let mut job = job(cluster, "nbt_ann");
    job.batch().grace = 30;
    let trap = "trap 'trap \"\" HUP INT TERM; echo got it; sleep 0.3; echo tidy; exit 9' HUP INT TERM";
    let stage = job.start(&format!("{trap}; {}", waiting("echo never")));
    let id = begun(&job);
    stage.signal(Signal::SIGTERM);
    let ended = stage.finish();
    ended.failed(9, "cancelled");
    assert_eq!(ended.text(), "got it\ntidy\n");
    is_over(cluster, &id);
    Ok(())
}

fn cancel_deaf(cluster: &dyn Cluster) -> Possible<()> {
    let job = job(cluster, "nbt_bea");
    let script = waiting("echo never");
    let stage =
        job.start(&format!("trap '' HUP INT TERM USR1 USR2; echo $(uname -n) $$ >\"$HOME/deaf\"; {script}"));
    let id = begun(&job);
    stage.signal(Signal::SIGTERM);
    users_failure(&stage.finish(), "cancelled");
    is_over(cluster, &id);
    let deaf = std::fs::read_to_string(job.home().join("deaf")).expect("a host and a pid");
    let (host, pid) = deaf.trim().split_once(' ').expect("both");
    // On another host only the queue can show it.
    if nix::unistd::gethostname().is_ok_and(|own| own == host) {
        cluster.bed().wait_for("the script's end", || !std::path::Path::new("/proc").join(pid).exists());
    }
    Ok(())
}

fn second_request(cluster: &dyn Cluster) -> Possible<()> {
    let mut job = job(cluster, "nbt_cyn");
    // Longer than any wait of the suite: a case that waits for it fails.
    job.batch().grace = 3000;
    let stage = job.start(&format!("trap '' HUP INT TERM; {}", waiting("echo never")));
    let id = begun(&job);
    stage.signal(Signal::SIGTERM);
    stage.wait_for_word("cancelled: ");
    // Simultaneous requests count as one; a later one is the second.
    cluster.bed().wait_for("a second request", || {
        stage.signal(Signal::SIGTERM);
        stage.err().contains("cancelled again")
    });
    users_failure(&stage.finish(), "cancelled");
    is_over(cluster, &id);
    Ok(())
}

fn cancelled_by_another(cluster: &dyn Cluster) -> Possible<()> {
    cluster.can(Fault::CancelByAdmin(""))?;
    let job = job(cluster, "nbt_ann");
    let stage = job.start(&waiting("echo never"));
    let id = begun(&job);
    cluster.inflict(Fault::CancelByAdmin(&id))?;
    let ended = stage.finish();
    let word = if cluster.reports("cancelled").is_ok() { "cancelled " } else { "" };
    users_failure(&ended, word);
    Ok(())
}

fn clean_pending(cluster: &dyn Cluster) -> Possible<()> {
    let job = job(cluster, "nbt_ann").arguments(&cluster.want(Want::Hold)?);
    let stage = job.start("true");
    let id = pending(cluster, &job);
    drop(stage.kill());
    job.cleanup().succeeded();
    is_over(cluster, &id);
    assert!(!job.stage_directory().exists());
    job.cleanup().succeeded();
    Ok(())
}

fn clean_running(cluster: &dyn Cluster) -> Possible<()> {
    let job = job(cluster, "nbt_ann");
    let stage = job.start(&waiting("echo never"));
    let id = begun(&job);
    drop(stage.kill());
    job.cleanup().succeeded();
    is_over(cluster, &id);
    assert!(!job.stage_directory().exists());
    Ok(())
}

fn clean_unknown(cluster: &dyn Cluster) -> Possible<()> {
    let job = job(cluster, "nbt_bea");
    let stage = job.start(&waiting("echo never"));
    let id = begun(&job);
    drop(stage.kill());
    std::fs::remove_file(job.stage_directory().join("job")).expect("forgotten");
    job.cleanup().succeeded();
    is_over(cluster, &id);
    Ok(())
}
