//! Stages that wait, and submissions that are refused.

use super::support::{Case, case, is_over, job, pending, runs_nothing, users_failure};
use crate::scheduler::{Cluster, Fault, Possible, Want};

pub(super) const CASES: &[Case] = &[
    case("a held job waits, says so, and runs when it is released", held),
    case("a refused submission is reported in the scheduler's words", refused),
    case("a job that can never start is cancelled with the reason", too_much),
    case("an argument that Nunbird sets itself is refused", owned),
    case("a request beyond the site's bounds is refused", bounds),
    case("a longer time than the site allows is reduced and reported", cut),
];

fn held(cluster: &dyn Cluster) -> Possible<()> {
    let job = job(cluster, "nbt_ann").arguments(&cluster.want(Want::Hold)?);
    let stage = job.start("echo ran");
    stage.wait_for_word("section_start:");
    let id = pending(cluster, &job);
    cluster.inflict(Fault::Release(&id))?;
    let ended = stage.finish();
    assert_eq!(ended.succeeded().text(), "ran\n");
    let (start, end) = (ended.err.find("section_start:"), ended.err.find("section_end:"));
    assert!(start.is_some() && start < end, "{:?}", ended.err);
    Ok(())
}

fn refused(cluster: &dyn Cluster) -> Possible<()> {
    let job = job(cluster, "nbt_ann").arguments(&cluster.want(Want::NoSuchQueue)?);
    let ended = job.run("true");
    ended.failed(1, "refused the job: ");
    job.cleanup().succeeded();
    Ok(())
}

fn too_much(cluster: &dyn Cluster) -> Possible<()> {
    let job = job(cluster, "nbt_bea").arguments(&cluster.want(Want::TooMuch)?);
    let ended = job.run("true");
    ended.failed(1, "can never start the job (");
    is_over(cluster, &job.wait_for_id());
    Ok(())
}

fn owned(cluster: &dyn Cluster) -> Possible<()> {
    let job = job(cluster, "nbt_ann").arguments(&cluster.want(Want::Owned)?);
    job.run("true").failed(1, "must not have ");
    runs_nothing(cluster, &job);
    Ok(())
}

fn bounds(cluster: &dyn Cluster) -> Possible<()> {
    let mut few = job(cluster, "nbt_ann").arguments(&cluster.want(Want::OneNode)?);
    few.batch().rules.most_nodes = Some(2);
    few.run("true").succeeded();
    let mut many = job(cluster, "nbt_ann").arguments(&cluster.want(Want::ThreeNodes)?);
    many.batch().rules.most_nodes = Some(2);
    many.run("true").failed(1, "2");
    runs_nothing(cluster, &many);
    Ok(())
}

fn cut(cluster: &dyn Cluster) -> Possible<()> {
    let mut job = job(cluster, "nbt_ann").arguments(&cluster.want(Want::TwoHours)?);
    job.batch().rules.most_time = Some(60);
    let ended = job.run("sleep 300");
    users_failure(&ended, "1");
    assert!(ended.err.contains("2:00") || ended.err.contains("reduced"), "{}", ended.err);
    Ok(())
}
