//! The options of schedulers other than Slurm, each in its own syntax.

use super::{Arguments, arguments};
use crate::description::named;
use nunbird_handover::{Account, Batch, Scheduler, UserText};

/// A site that limits everything: one hour, 4 nodes, 8 GiB, the queue `ci`, the account `phys`.
fn bounded(scheduler: &str) -> Batch {
    let mut batch = Batch::new(Scheduler::Named(scheduler.to_owned()), "/d".into());
    batch.rules.most_time = Some(3600);
    batch.rules.most_nodes = Some(4);
    batch.rules.most_memory = Some(8192);
    batch.rules.partitions = Some(vec!["ci".to_owned()]);
    batch.rules.accounts = Some(vec!["phys".to_owned()]);
    batch
}

fn judged(mut batch: Batch, scheduler: &str, text: &str) -> Result<Arguments, String> {
    batch.arguments = Some(UserText { variable: "SCHEDULER_PARAMETERS".to_owned(), text: text.to_owned() });
    let account =
        Account { name: "ann".to_owned(), uid: 1, gid: 1, home: "/home/ann".into(), shell: "/bin/sh".into() };
    arguments(&batch, &account, &named(scheduler).options)
}

fn under_bounds(scheduler: &str, text: &str) -> Result<Arguments, String> {
    judged(bounded(scheduler), scheduler, text)
}

fn free(scheduler: &str, text: &str) -> Result<Arguments, String> {
    judged(Batch::new(Scheduler::Named(scheduler.to_owned()), "/d".into()), scheduler, text)
}

#[test]
fn what_a_site_bounds_is_refused_in_every_dialect() {
    for (scheduler, text) in [
        ("pbs", "-l select=5:ncpus=1"),
        ("pbs", "-lselect=2:ncpus=1+3"),
        ("pbs", "-l nodes=n1+n2+n3+n4+n5:ppn=2"),
        ("pbs", "-l walltime=0:10:00,select=1:ncpus=4:mem=9gb"),
        ("pbs", "-l select=1:mem=1gb+1:MEM=9gb"),
        ("pbs", "-l mem=9000000000"),
        ("pbs", "-l walltime=soon"),
        ("pbs", "-l 'select=\"64:ncpus=1\"'"),
        ("pbs", "-q fast"),
        ("pbs", "-q ci@elsewhere"),
        ("pbs", "-P chem"),
        ("lsf", "-n 5"),
        ("lsf", "-n 1,5"),
        ("lsf", "-M 9GB"),
        ("lsf", "-M 100"),
        ("lsf", "-R rusage[mem=9000]"),
        ("lsf", "-W 1:30/host"),
        ("lsf", "-q 'ci fast'"),
        ("lsf", "-G chem"),
        ("flux", "-N=5"),
        ("flux", "-q=other"),
        ("flux", "-B=chem"),
        ("lsf", "-hostfile /home/ann/hosts"),
        ("flux", "-N5"),
        ("flux", "--nodes=1-5"),
        ("flux", "-n 5"),
        ("flux", "-q fast"),
        ("flux", "--bank=chem"),
        ("cobalt", "-n 5"),
        ("cobalt", "-q fast"),
        ("gridengine", "-pe mpi 5"),
        ("gridengine", "-pe mpi 1-5"),
        ("gridengine", "-l h_vmem=9G"),
        ("gridengine", "-l h_rt=600,mf=9G"),
        ("gridengine", "-q fast.q"),
        ("gridengine", "-l q=fast.q"),
        ("gridengine", "-P chem"),
        ("htcondor", "request_memory=9GB"),
        ("htcondor", "Request_Memory=9GB"),
        ("htcondor", "request_memory='1024 * 9'"),
        ("htcondor", "requirements='Memory > 9000'"),
        ("htcondor", "accounting_group=chem"),
        ("htcondor", "RequestMemory=9GB"),
        ("htcondor", "MachineCount=5"),
        ("htcondor", "node_count=5"),
        ("htcondor", "AcctGroup=chem"),
    ] {
        let result = under_bounds(scheduler, text);
        assert!(result.is_err(), "{scheduler} {text}: {result:?}");
        // The limit refuses it, but the option is one that no site allows.
        assert!(free(scheduler, text).is_ok(), "{scheduler} {text}");
    }
}

#[test]
fn what_stays_within_the_bounds_passes_as_it_was_written() {
    for (scheduler, text) in [
        ("pbs", "-l select=2:ncpus=4:mem=4gb+2:mem=8gb,walltime=1:00:00,place=scatter -q ci -A phys -m a"),
        ("pbs", "-l walltime=3600 -W depend=afterok:12,group_list=phys"),
        ("lsf", "-W 1:00 -n 4 -M 8GB -q ci -P phys -x -app mpi"),
        ("flux", "-t 1h -N 4 -n 8 -q ci -B phys -g 1"),
        // As argparse parses it, which would refuse `-N` and `=4`.
        ("flux", "-N=4 -n=8 -t=1h -q=ci -B=phys"),
        (
            "flux",
            "-N4 --time-limit=1h --setattr=gpumode=TPX --setattr=user.note=1 --conf=resource.rediscover=true",
        ),
        ("lsf", "-W 60 -core_isolation 2 -csm y -jsm n -step_cgroup y -nnodes 2"),
        ("cobalt", "-t 60 -n 4 -q ci -A phys --attrs=a=b"),
        ("gridengine", "-l h_rt=1:00:00,h_vmem=8G -pe mpi 4 -q ci -P phys -m e"),
        (
            "htcondor",
            "request_memory=8GB request_cpus=64 accounting_group=phys allowed_execute_duration=3600",
        ),
    ] {
        let result = under_bounds(scheduler, text).expect(text);
        assert_eq!(result.words.join(" "), text, "{scheduler}");
        assert!(result.remarks.is_empty(), "{scheduler} {:?}", result.remarks);
        assert!(result.has_time || scheduler == "pbs", "{scheduler}");
    }
}

#[test]
fn a_time_is_cut_where_it_stands_and_in_the_form_of_its_scheduler() {
    for (scheduler, text, expected) in [
        ("pbs", "-l select=2,walltime=99:00:00,place=pack", "-l select=2,walltime=1:00:00,place=pack"),
        ("pbs", "-lWallTime=7200", "-l WallTime=1:00:00"),
        ("pbs", "-l walltime=0", "-l walltime=1:00:00"),
        ("lsf", "-W 90", "-W 60"),
        ("lsf", "-W 1:30", "-W 60"),
        ("flux", "--time-limit=1.5h", "--time-limit 3600s"),
        ("flux", "-t 0", "-t 3600s"),
        ("cobalt", "-t 1:30:00", "-t 60"),
        ("gridengine", "-l h_rt=7200,s_rt=3000,mf=1G", "-l h_rt=3600,s_rt=3000,mf=1G"),
        ("htcondor", "allowed_execute_duration=7200", "allowed_execute_duration=3600"),
        ("slurm", "-t 0", "-t 0-01:00:00"),
    ] {
        let result = under_bounds(scheduler, text).expect(text);
        assert_eq!(result.words.join(" "), expected, "{scheduler}");
        assert!(
            result.has_time && result.remarks.iter().any(|remark| remark.contains("reduced to")),
            "{scheduler} {text}"
        );
    }
}

#[test]
fn what_nunbird_sets_is_refused_in_every_dialect() {
    for (scheduler, text) in [
        ("pbs", "-N x"),
        ("pbs", "-Nx"),
        ("pbs", "-hV"),
        ("pbs", "-v A=1"),
        ("pbs", "-W block=true"),
        ("pbs", "-Wdepend=afterok:1,Block=true"),
        ("pbs", "-r y"),
        ("pbs", "-W Rerunable=y"),
        ("pbs", "-W Account_Name=chem"),
        ("pbs", "-W project=chem"),
        ("pbs", "-W depend=afterok:1,Job_Name=x"),
        ("pbs", "-W 'Variable_List=\"A=1\"'"),
        ("pbs", "-J 1-3"),
        ("pbs", "-- /bin/id"),
        ("pbs", "script"),
        ("lsf", "-J x"),
        ("lsf", "-Jx"),
        ("lsf", "-oo x"),
        ("lsf", "-o/tmp/x"),
        ("lsf", "-K"),
        ("lsf", "-env all"),
        ("lsf", "-r"),
        ("lsf", "--frob"),
        ("lsf", "id"),
        ("flux", "--job-name=x"),
        ("flux", "--job-nam=x"),
        ("flux", "--env=-*"),
        ("flux", "--wrap"),
        ("flux", "-S system.duration=1d"),
        ("flux", "-Sduration=1d"),
        ("flux", "-S=duration=1d"),
        ("flux", "--setattr=bank=chem"),
        ("flux", "--setattr=queue=big"),
        ("flux", "--setattr=project=x"),
        ("flux", "--setattr=environment.PATH=/x"),
        ("flux", "--setattr=cwd=/"),
        ("flux", "--setattr=job.name=x"),
        ("flux", "--setattr=attributes.system.duration=1d"),
        ("flux", "--setattr=.attributes.system.duration=1d"),
        ("flux", "--setattr=^gpumode=/file.json"),
        ("flux", "--setattr=gpumode=TPX --setattr=shell.options.output.stdout.path=x"),
        ("flux", "--broker-opts=-Sx=y"),
        // What argparse takes as the script.
        ("flux", "-55"),
        ("flux", "-5 x"),
        ("flux", "-x5 x"),
        ("flux", "-.5"),
        ("flux", "'-Z mine.sh'"),
        ("flux", "'--frobnicate=a b'"),
        ("flux", "--frobnicate 'a b'"),
        ("flux", "'--frobnicate a b=c'"),
        ("cobalt", "-o x"),
        ("cobalt", "--mode interactive"),
        ("cobalt", "-I"),
        ("gridengine", "-N x"),
        ("gridengine", "-V"),
        ("gridengine", "-t 1-3"),
        ("gridengine", "-sync y"),
        ("gridengine", "-@ file"),
        ("gridengine", "-b y"),
        ("gridengine", "-soft -l h_rt=99:00:00"),
        ("htcondor", "executable=/bin/id"),
        ("htcondor", "Executable = /bin/id"),
        ("htcondor", "+JobBatchName=x"),
        ("htcondor", "MY.JobBatchName=x"),
        ("htcondor", "-append executable=/bin/id"),
        ("htcondor", "max_retries=3"),
        ("htcondor", "MaxRetries=3"),
        ("htcondor", "\"request_cpus=1\nqueue 5\""),
        ("htcondor", "queue"),
    ] {
        let result = free(scheduler, text);
        assert!(result.is_err(), "{scheduler} {text}: {result:?}");
    }
}

#[test]
fn values_of_flux_that_may_have_spaces_have_them() {
    let text = "--requires='host:a or host:b' --begin-time='tomorrow 8am' -q 'a b' -o cpu-affinity=off -c2";
    let words = free("flux", text).expect("good").words;
    assert_eq!(words[..2], ["--requires=host:a or host:b", "--begin-time=tomorrow 8am"]);
}

#[test]
fn a_forced_resource_is_reported_as_taking_the_place_of_the_users_own() {
    let mut batch = Batch::new(Scheduler::Named("pbs".to_owned()), "/d".into());
    batch.rules.forced = vec!["-l".to_owned(), "walltime=0:10:00".to_owned()];
    let result = judged(batch.clone(), "pbs", "-l select=2,walltime=1:00:00").expect("good");
    assert!(result.remarks[0].contains("instead of your"), "{:?}", result.remarks);
    assert_eq!(result.words.join(" "), "-l select=2,walltime=1:00:00 -l walltime=0:10:00");
    let result = judged(batch, "pbs", "-l select=2").expect("good");
    assert!(result.remarks.is_empty(), "{:?}", result.remarks);
    assert!(result.has_size && result.has_time);
    assert!(free("flux", "-n 8").expect("good").has_size && !free("flux", "-q x").expect("good").has_size);
}
