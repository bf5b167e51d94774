//! What schedulers and clusters do to jobs: lose nodes, preempt, forget, respond slowly, wrongly or
//! with unknown states.

use super::support::{
    Case, alone, begun, case, go, job, more_calls, no_success, times_begun, users_failure, waiting,
};
use crate::scheduler::{Cluster, Fault, Possible, Want};
use nix::sys::signal::Signal;

pub(super) const CASES: &[Case] = &[
    alone("a node that is lost is reported as such", node_down),
    alone("a job whose place was taken is reported as such", preempted),
    case("a job that is put back does not run twice", requeued),
    case("too much memory is reported as such", out_of_memory),
    case("a state in an unknown word is never an end", strange_word),
    case("answers that make no sense say nothing", nonsense),
    case("slow answers cost only time", slow),
    case("a command that hangs is ended and asked again", hangs),
    case("a job that the queue forgot is reported by its record", forgotten_with_record),
    case("a job that left nothing at all is no success", forgotten),
    case("an id that was given away belongs to its new owner", given_away),
    case("a cancel does not touch the new owner of an id", given_away_and_cancelled),
];

fn node_down(cluster: &dyn Cluster) -> Possible<()> {
    cluster.can(Fault::NodeDown(""))?;
    let job = job(cluster, "nbt_ann").arguments(&cluster.want(Want::DoomedNode)?);
    let stage = job.start(&waiting("echo never"));
    let id = begun(&job);
    cluster.inflict(Fault::NodeDown(&id))?;
    let ended = stage.finish();
    match cluster.reports("node failure") {
        Ok(()) => drop(ended.system_failed("node failure")),
        Err(_) => no_success(&ended),
    }
    assert_eq!(times_begun(&job), 1);
    Ok(())
}

fn preempted(cluster: &dyn Cluster) -> Possible<()> {
    cluster.can(Fault::Preempt(""))?;
    let job = job(cluster, "nbt_ann").arguments(&cluster.want(Want::Preemptible)?);
    let stage = job.start(&waiting("echo never"));
    let id = begun(&job);
    cluster.inflict(Fault::Preempt(&id))?;
    let ended = stage.finish();
    match cluster.reports("preempted") {
        Ok(()) => drop(ended.system_failed("preempted")),
        Err(_) => no_success(&ended),
    }
    assert_eq!(times_begun(&job), 1);
    Ok(())
}

fn requeued(cluster: &dyn Cluster) -> Possible<()> {
    cluster.can(Fault::Requeue(""))?;
    let job = job(cluster, "nbt_cyn");
    let stage = job.start(&waiting("echo never"));
    let id = begun(&job);
    cluster.inflict(Fault::Requeue(&id))?;
    let ended = stage.finish();
    ended.system_failed(if cluster.reports("put back").is_ok() { "not run a second time" } else { "" });
    assert_eq!(times_begun(&job), 1);
    Ok(())
}

fn out_of_memory(cluster: &dyn Cluster) -> Possible<()> {
    cluster.can(Fault::OutOfMemory(""))?;
    let job = job(cluster, "nbt_bea").arguments(&cluster.want(Want::LittleMemory)?);
    let stage = job.start(&waiting("echo never"));
    let id = begun(&job);
    if let Err(why) = cluster.inflict(Fault::OutOfMemory(&id)) {
        drop(stage.kill());
        job.cleanup().succeeded();
        return Err(why);
    }
    let ended = stage.finish();
    match cluster.reports("out of memory") {
        Ok(()) => users_failure(&ended, "out of memory"),
        Err(_) => no_success(&ended),
    }
    Ok(())
}

/// Injects the fault, or ends what was started for it.
fn inflicted(cluster: &dyn Cluster, fault: Fault<'_>) -> Possible<()> {
    cluster.inflict(fault)
}

fn strange_word(cluster: &dyn Cluster) -> Possible<()> {
    inflicted(cluster, Fault::Sane)?;
    let job = job(cluster, "nbt_ann");
    let mut stage = job.start(&waiting("echo done"));
    let id = begun(&job);
    inflicted(cluster, Fault::StrangeWord(&id))?;
    if !cluster.shows_ended() {
        // A job that has ended has no state there; one that runs has.
        more_calls(cluster, &job, 3);
        assert!(!stage.has_ended(), "{}", stage.err());
        inflicted(cluster, Fault::PlainWord(&id))?;
        go(&job);
        assert_eq!(stage.finish().succeeded().text(), "done\n");
        return Ok(());
    }
    go(&job);
    cluster.bed().wait_for("the record", || job.stage_directory().join("record").exists());
    more_calls(cluster, &job, 3);
    assert!(!stage.has_ended(), "{}", stage.err());
    inflicted(cluster, Fault::PlainWord(&id))?;
    assert_eq!(stage.finish().succeeded().text(), "done\n");
    Ok(())
}

fn nonsense(cluster: &dyn Cluster) -> Possible<()> {
    inflicted(cluster, Fault::Sane)?;
    let job = job(cluster, "nbt_ann");
    let mut stage = job.start(&waiting("echo done"));
    begun(&job);
    inflicted(cluster, Fault::Nonsense)?;
    go(&job);
    cluster.bed().wait_for("the record", || job.stage_directory().join("record").exists());
    more_calls(cluster, &job, 2);
    assert!(!stage.has_ended(), "{}", stage.err());
    inflicted(cluster, Fault::Sane)?;
    assert_eq!(stage.finish().succeeded().text(), "done\n");
    Ok(())
}

fn slow(cluster: &dyn Cluster) -> Possible<()> {
    inflicted(cluster, Fault::Slow(2))?;
    let job = job(cluster, "nbt_ann");
    job.run("echo ran; exit 3").failed(3, "exit code 3");
    Ok(())
}

fn hangs(cluster: &dyn Cluster) -> Possible<()> {
    inflicted(cluster, Fault::Sane)?;
    let job = job(cluster, "nbt_bea");
    let stage = job.start(&waiting("echo done"));
    begun(&job);
    inflicted(cluster, Fault::Slow(3600))?;
    go(&job);
    cluster.bed().wait_for("the record", || job.stage_directory().join("record").exists());
    more_calls(cluster, &job, 2);
    inflicted(cluster, Fault::Sane)?;
    assert_eq!(stage.finish().succeeded().text(), "done\n");
    Ok(())
}

fn forgotten_with_record(cluster: &dyn Cluster) -> Possible<()> {
    inflicted(cluster, Fault::Sane)?;
    let job = job(cluster, "nbt_ann");
    let stage = job.start(&waiting("echo went; exit 3"));
    let id = begun(&job);
    inflicted(cluster, Fault::ForgetAll(&id))?;
    go(&job);
    let ended = stage.finish();
    ended.failed(3, "exit code 3");
    assert_eq!((ended.text().as_str(), times_begun(&job)), ("went\n", 1));
    Ok(())
}

fn forgotten(cluster: &dyn Cluster) -> Possible<()> {
    inflicted(cluster, Fault::Sane)?;
    let job = job(cluster, "nbt_ann");
    let stage = job.start(&waiting("kill -9 $PPID; kill -9 $$"));
    let id = begun(&job);
    inflicted(cluster, Fault::ForgetAll(&id))?;
    go(&job);
    let ended = stage.finish();
    match cluster.reports("vanished") {
        Ok(()) => drop(ended.system_failed("")),
        Err(_) => no_success(&ended),
    }
    assert_eq!(times_begun(&job), 1);
    Ok(())
}

fn given_away(cluster: &dyn Cluster) -> Possible<()> {
    inflicted(cluster, Fault::Sane)?;
    let (first, second) = (job(cluster, "nbt_ann"), job(cluster, "nbt_bea"));
    let stage = first.start(&waiting("echo first; exit 0"));
    let id = begun(&first);
    inflicted(cluster, Fault::GiveAway(&id))?;
    let others = second.start(&waiting("echo second; exit 7"));
    assert_eq!(begun(&second), id);
    more_calls(cluster, &first, 1);
    go(&first);
    let ended = stage.finish();
    // Only its own record is left of it, which is enough if the queue drops ended jobs, and only
    // then.
    assert!(ended.text() == "first\n" || ended.status != Some(0), "{}", ended.err);
    go(&second);
    let ended = others.finish();
    ended.failed(7, "exit code 7");
    assert_eq!(ended.text(), "second\n");
    Ok(())
}

fn given_away_and_cancelled(cluster: &dyn Cluster) -> Possible<()> {
    inflicted(cluster, Fault::Sane)?;
    let (first, second) = (job(cluster, "nbt_ann"), job(cluster, "nbt_bea"));
    let stage = first.start(&waiting("echo first"));
    let id = begun(&first);
    inflicted(cluster, Fault::GiveAway(&id))?;
    let others = second.start(&waiting("echo second; exit 7"));
    assert_eq!(begun(&second), id);
    stage.signal(Signal::SIGTERM);
    no_success(&stage.finish());
    drop(first.cleanup());
    go(&second);
    others.finish().failed(7, "exit code 7");
    Ok(())
}
