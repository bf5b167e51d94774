//! How a stage ends if only the script can fail.

use super::support::{Case, begun, case, go, job, no_success, submissions, users_failure, waiting};
use crate::scheduler::{Cluster, Possible, Stage, Want};
use nunbird_messages::SessionAdditions;

pub(super) const CASES: &[Case] = &[
    case("a script runs as its user and succeeds", success),
    case("nothing of the runner's environment gets in", environment),
    case("what names places of the runner's host stays there", session_variables),
    case("exit codes 1, 2, 99, 100, 127 and 255 arrive unchanged", exit_codes),
    case("a script that a signal ended has failed with its number", signals),
    case("a script that kills the agent is no success", killed_agent),
    case("output appears while the script runs", live_output),
    case("five megabytes of both streams arrive whole", much_output),
    case("a time limit is reported as such", time_limit),
    case("what has ended is not run a second time", ended_before),
];

fn success(cluster: &dyn Cluster) -> Possible<()> {
    let job = job(cluster, "nbt_ann");
    let ended = job.run("id -u; pwd; echo error >&2; umask; printf 'no newline'");
    ended.succeeded();
    let (uid, builds) = (job.handover.account.uid, job.handover.workspace.builds_dir.display());
    assert_eq!(ended.text(), format!("{uid}\n{builds}\n0022\nno newline"));
    assert!(ended.err.contains("error\n"), "{}", ended.err);
    assert!(ended.err.contains(&format!("job {}: waited ", job.wait_for_id())), "{}", ended.err);
    Ok(())
}

fn environment(cluster: &dyn Cluster) -> Possible<()> {
    let job = job(cluster, "nbt_bea");
    std::fs::write(job.home().join(".bash_profile"), "export FROM_PROFILE=yes\n").expect("a profile");
    let ended = job.run("echo \"$LEAKED|$SBATCH_PARTITION|$FROM_PROFILE|$NUNBIRD_STAGE|$HOME\"");
    let home = job.home().display();
    assert_eq!(ended.succeeded().text(), format!("||yes|build_script|{home}\n"));
    Ok(())
}

fn session_variables(cluster: &dyn Cluster) -> Possible<()> {
    let mut job = job(cluster, "nbt_ann");
    let variables = [
        ("XDG_RUNTIME_DIR", "/run/user/4101"),
        ("KRB5CCNAME", "FILE:/tmp/krb5cc_4101"),
        ("TMPDIR", "/tmp/session-4711"),
        ("NBT_SITE", "kept"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    job.session = Some(SessionAdditions { umask: 0o022, variables: variables.to_vec() });
    // Set by the site itself, for jobs.
    job.handover.environment.insert("XDG_SESSION_ID".to_owned(), "site".to_owned());
    let ended =
        job.run("case ${TMPDIR-} in *4711) echo \"$TMPDIR\" ;; esac; echo \"${XDG_RUNTIME_DIR-}|${KRB5CCNAME-}|$NBT_SITE|$XDG_SESSION_ID\"");
    assert_eq!(ended.succeeded().text(), "||kept|site\n");
    Ok(())
}

fn exit_codes(cluster: &dyn Cluster) -> Possible<()> {
    let jobs = [1, 2, 99, 100, 127, 255].map(|code| (code, job(cluster, "nbt_ann")));
    let stages = jobs.each_ref().map(|(code, job)| job.start(&format!("exit {code}")));
    for (stage, (code, _)) in stages.into_iter().zip(&jobs) {
        stage.finish().failed(*code, &format!("exit code {code}"));
    }
    Ok(())
}

fn signals(cluster: &dyn Cluster) -> Possible<()> {
    let jobs = [9, 11, 15].map(|signal| (signal, job(cluster, "nbt_ann")));
    let stages = jobs.each_ref().map(|(signal, job)| job.start(&format!("kill -{signal} $$")));
    for (stage, (signal, _)) in stages.into_iter().zip(&jobs) {
        stage.finish().failed(128 + signal, &format!("exit code {}", 128 + signal));
    }
    Ok(())
}

fn killed_agent(cluster: &dyn Cluster) -> Possible<()> {
    let job = job(cluster, "nbt_bea");
    let ended = job.run("echo before; kill -9 $PPID; kill -9 $$");
    no_success(&ended);
    assert_eq!(ended.text(), "before\n");
    Ok(())
}

fn live_output(cluster: &dyn Cluster) -> Possible<()> {
    let job = job(cluster, "nbt_ann");
    let stage = job.start(&format!("echo first; {}", waiting("printf last")));
    cluster.bed().wait_for("the first line", || stage.out() == b"first\n");
    go(&job);
    assert_eq!(stage.finish().succeeded().text(), "first\nlast");
    Ok(())
}

fn much_output(cluster: &dyn Cluster) -> Possible<()> {
    let job = job(cluster, "nbt_cyn");
    let ended = job.run("seq 1 700000; seq 1 20000 | sed -u 's/$/ of the errors/' >&2; printf end");
    ended.succeeded();
    let expected: String = (1..=700_000).map(|n| format!("{n}\n")).collect::<String>() + "end";
    assert!(ended.out == expected.as_bytes(), "{} bytes of {}", ended.out.len(), expected.len());
    let errors: Vec<&str> = ended.err.lines().filter(|line| line.ends_with(" of the errors")).collect();
    assert_eq!(errors.len(), 20_000);
    assert!(errors.iter().zip(1..).all(|(line, n)| *line == format!("{n} of the errors")));
    Ok(())
}

fn time_limit(cluster: &dyn Cluster) -> Possible<()> {
    let job = job(cluster, "nbt_ann").arguments(&cluster.want(Want::ShortTime)?);
    let ended = job.run("echo begun; sleep 300; sleep 300");
    assert_eq!(ended.text(), "begun\n");
    match cluster.reports("time limit") {
        Ok(()) => users_failure(&ended, "time limit "),
        Err(_) => no_success(&ended),
    }
    Ok(())
}

fn ended_before(cluster: &dyn Cluster) -> Possible<()> {
    let job = job(cluster, "nbt_bea");
    let stage: Stage = job.start(&waiting("exit 5"));
    begun(&job);
    go(&job);
    stage.finish().failed(5, "exit code 5");
    job.run("exit 0").failed(5, "has already ended");
    assert!(submissions(&job) <= 1);
    Ok(())
}
