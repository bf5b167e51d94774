//! Launchers that are killed and restarted, and a scheduler that is unreachable.

use super::support::{
    Case, alone, begun, both, case, go, job, more_calls, pending, submissions, times_begun, waiting,
};
use crate::scheduler::{Cluster, Fault, JobState, Possible, Want};

pub(super) const CASES: &[Case] = &[
    case("a second run follows a waiting job of a killed launcher", follow_pending),
    case("a second run follows a running job of a killed launcher", follow_running),
    case("a job that ended while no launcher lived is reported", ended_alone),
    alone("a scheduler that is away at the submission costs time", away_at_submission),
    alone("a scheduler that is away costs no waiting or running job", away),
];

fn follow_pending(cluster: &dyn Cluster) -> Possible<()> {
    cluster.can(Fault::Release(""))?;
    let job = job(cluster, "nbt_ann").arguments(&cluster.want(Want::Hold)?);
    let stage = job.start("echo ran");
    let id = pending(cluster, &job);
    drop(stage.kill());
    std::fs::remove_file(job.stage_directory().join("job")).expect("as if killed before it wrote it");
    let stage = job.start("echo another");
    pending(cluster, &job);
    cluster.inflict(Fault::Release(&id))?;
    assert_eq!(stage.finish().succeeded().text(), "ran\n");
    assert!(submissions(&job) <= 1, "{:?}", job.calls());
    Ok(())
}

fn follow_running(cluster: &dyn Cluster) -> Possible<()> {
    let job = job(cluster, "nbt_ann");
    let script = format!("echo early; {}", waiting("echo late; exit 5"));
    let stage = job.start(&script);
    begun(&job);
    cluster.bed().wait_for("the first line", || stage.out() == b"early\n");
    drop(stage.kill());
    let stage = job.start(&script);
    stage.wait_for_word("following the job");
    go(&job);
    let ended = stage.finish();
    ended.failed(5, "exit code 5");
    // Each byte comes once; the position of the killed launcher's last output may not have been
    // recorded.
    assert!(["late\n", "early\nlate\n"].contains(&ended.text().as_str()), "{}", ended.text());
    assert_eq!(times_begun(&job), 1);
    assert!(submissions(&job) <= 1, "{:?}", job.calls());
    Ok(())
}

fn ended_alone(cluster: &dyn Cluster) -> Possible<()> {
    cluster.asks()?;
    let job = job(cluster, "nbt_bea");
    let script = waiting("echo late; exit 6");
    let stage = job.start(&script);
    let id = begun(&job);
    drop(stage.kill());
    go(&job);
    cluster.bed().wait_for("its end", || matches!(cluster.standing(&id), JobState::Ended | JobState::Gone));
    let ended = job.run(&script);
    ended.failed(6, "exit code 6");
    assert_eq!((ended.text().as_str(), times_begun(&job)), ("late\n", 1));
    Ok(())
}

fn away_at_submission(cluster: &dyn Cluster) -> Possible<()> {
    cluster.can(Fault::Down)?;
    let job = job(cluster, "nbt_ann");
    cluster.inflict(Fault::Down)?;
    let stage = job.start(&waiting("echo ran"));
    // A failed submission, and failed queries whether it was accepted.
    cluster.bed().wait_for("questions in vain", || job.calls().len() >= 2);
    cluster.inflict(Fault::Up)?;
    begun(&job);
    go(&job);
    assert_eq!(stage.finish().succeeded().text(), "ran\n");
    assert_eq!(times_begun(&job), 1);
    Ok(())
}

fn away(cluster: &dyn Cluster) -> Possible<()> {
    cluster.can(Fault::Down)?;
    let held = cluster.want(Want::Hold).ok().map(|hold| job(cluster, "nbt_ann").arguments(&hold));
    let running = job(cluster, "nbt_bea");
    let stages =
        (held.as_ref().map(|held| held.start("echo ran")), running.start(&waiting("echo went; exit 4")));
    let id = held.as_ref().map(|held| pending(cluster, held));
    begun(&running);
    cluster.inflict(Fault::Down)?;
    // The script ends while the scheduler is unreachable.
    go(&running);
    cluster.bed().wait_for("the record", || running.stage_directory().join("record").exists());
    more_calls(cluster, &running, 1);
    if let Some(held) = &held {
        more_calls(cluster, held, 1);
    }
    cluster.inflict(Fault::Up)?;
    if let Some(id) = &id {
        cluster.inflict(Fault::Release(id))?;
    }
    let went = match stages {
        (Some(ran), went) => {
            let [ran, went] = both([ran, went]);
            assert_eq!(ran.succeeded().text(), "ran\n");
            went
        }
        (None, went) => went.finish(),
    };
    went.failed(4, "exit code 4");
    assert_eq!(went.text(), "went\n");
    Ok(())
}
