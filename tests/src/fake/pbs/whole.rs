//! A job in whole, as `qstat -f` prints it.

use super::{HOST, state};
use crate::fake::queue::{Cause, Job, JobState};
use crate::fake::times::{Date, hms};

/// `Exit_status`; none for a job that never ran. Below 0 PBS's own codes (job.h), from 256 on the signal that it sent.
fn exit_status(job: &Job) -> Option<i32> {
    job.started?;
    match job.cause()? {
        Cause::Itself | Cause::Cancelled | Cause::Infeasible => job.status(256),
        Cause::Time => Some(-29),
        Cause::Memory => Some(-27),
        Cause::Node => Some(-20),
        Cause::Preempted => Some(271),
    }
}

fn substate(job: &Job) -> u32 {
    match (job.standing, job.cause(), job.code()) {
        (JobState::Waiting, ..) => {
            if state(job) == "H" {
                20
            } else {
                10
            }
        }
        (JobState::Running | JobState::Leaving, ..) => 42,
        (_, Some(Cause::Cancelled | Cause::Preempted), _) => 91,
        (_, Some(Cause::Itself), Some(0)) => 92,
        _ => 93,
    }
}

fn comment(job: &Job) -> String {
    let Some(started) = job.started else { return job.reason.clone() };
    let how = match (job.standing, job.cause(), job.code()) {
        (JobState::Ended, Some(Cause::Itself), Some(0)) => " and finished",
        (JobState::Ended, Some(Cause::Cancelled | Cause::Preempted), _) => " and terminated",
        (JobState::Ended, Some(Cause::Time), _) => " and exceeded resource walltime",
        (JobState::Ended, Some(Cause::Memory), _) => " and exceeded resource mem",
        (JobState::Ended, ..) => " and failed",
        _ => "",
    };
    format!("Job run at {} on ({HOST}:ncpus=1){how}", Date::of(started).at())
}

/// `qstat -f`, in the order of the real one.
pub(super) fn whole(job: &Job, state: &str) -> String {
    let date = |time: Option<u64>| time.map(|time| Date::of(time).long()).unwrap_or_default();
    let submitted = date(Some(job.submitted));
    let ran = job.started.is_some();
    let used = if ran && !job.is_live() { "00:00:00" } else { "" };
    let never_ran = |text: &str| if ran { text.to_owned() } else { String::new() };
    let select = if job.more("select").is_empty() { "1:ncpus=1" } else { job.more("select") };
    let number = |value: Option<i32>| value.map(|value| value.to_string()).unwrap_or_default();
    let held = if state == "H" { "u" } else { "n" };
    let home = job.environment.get("HOME").cloned().unwrap_or_default();
    let variables = format!(
        "PBS_O_HOME={home},PBS_O_LOGNAME={},PBS_O_PATH=/usr/local/bin:/usr/bin:/bin,PBS_O_SHELL=/bin/bash,\
         PBS_O_WORKDIR={},PBS_O_SYSTEM=Linux,PBS_O_QUEUE={},PBS_O_HOST={HOST}",
        job.owner,
        job.environment.get("PBS_O_WORKDIR").cloned().unwrap_or_default(),
        job.queue
    );
    let over = !job.is_live();
    let fields = [
        ("Job_Name", job.name.clone()),
        ("Job_Owner", format!("{}@{HOST}", job.owner)),
        ("resources_used.cput", used.to_owned()),
        ("resources_used.mem", if used.is_empty() { String::new() } else { "5568kb".to_owned() }),
        ("resources_used.walltime", used.to_owned()),
        ("job_state", state.to_owned()),
        ("queue", job.queue.clone()),
        ("server", HOST.to_owned()),
        ("Checkpoint", "u".to_owned()),
        ("ctime", submitted.clone()),
        ("Error_Path", job.more("Error_Path").to_owned()),
        ("exec_host", never_ran(&format!("{HOST}/0"))),
        ("exec_vnode", never_ran(&format!("({HOST}:ncpus=1)"))),
        ("Hold_Types", held.to_owned()),
        ("Join_Path", if job.error.is_none() { "oe" } else { "n" }.to_owned()),
        ("Keep_Files", "n".to_owned()),
        ("Mail_Points", "a".to_owned()),
        ("mtime", submitted.clone()),
        ("Output_Path", job.more("Output_Path").to_owned()),
        ("Priority", "0".to_owned()),
        ("qtime", submitted.clone()),
        ("Rerunable", "False".to_owned()),
        ("Resource_List.ncpus", "1".to_owned()),
        ("Resource_List.nodect", "1".to_owned()),
        ("Resource_List.place", "pack".to_owned()),
        ("Resource_List.select", select.to_owned()),
        ("Resource_List.walltime", job.limit.map(hms).unwrap_or_default()),
        ("stime", date(job.started)),
        ("obittime", if ran && over { date(job.ended) } else { String::new() }),
        ("substate", substate(job).to_string()),
        ("Variable_List", variables),
        ("comment", comment(job)),
        ("etime", submitted),
        ("run_count", if ran { job.runs.to_string() } else { String::new() }),
        ("Stageout_status", if ran && over { "1".to_owned() } else { String::new() }),
        ("Exit_status", number(exit_status(job))),
        ("Submit_arguments", job.more("Submit_arguments").to_owned()),
        ("history_timestamp", job.ended.map(|time| time.to_string()).unwrap_or_default()),
        ("project", "_pbs_project_default".to_owned()),
        ("Submit_Host", HOST.to_owned()),
    ];
    let mut text = format!("Job Id: {}.{HOST}\n", job.number);
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&folded(name, value));
    }
    text + "\n"
}

/// Lines end behind a comma where the next part would not fit, and anywhere in a part that is longer than a line: at 79
/// columns, and at 70 behind a tab.
fn folded(name: &str, value: &str) -> String {
    let mut text = format!("    {name} = ");
    let mut room = 79_usize.saturating_sub(text.len());
    for (at, part) in value.split_inclusive(',').enumerate() {
        if at > 0 && part.chars().count() > room {
            text.push_str("\n\t");
            room = 70;
        }
        for letter in part.chars() {
            if room == 0 {
                text.push_str("\n\t");
                room = 70;
            }
            text.push(letter);
            room -= 1;
        }
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::folded;

    #[test]
    fn long_values_are_folded_where_the_transcripts_fold_them() {
        let value = "PBS_O_HOME=/home/tb_pbs,PBS_O_LOGNAME=tb_pbs,PBS_O_PATH=/opt/pbs/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/games:\
            /usr/games:/opt/pbs/bin,PBS_O_MAIL=/var/mail/tb_pbs,PBS_O_SHELL=/bin/bash,PBS_O_INTERACTIVE_AUTH_METHOD=resvport,\
            PBS_O_INTERACTIVE_ENCRYPT_METHOD=,PBS_O_WORKDIR=/home/tb_pbs,PBS_O_SYSTEM=Linux,PBS_O_QUEUE=workq,PBS_O_HOST=pbshost";
        let expected = "    Variable_List = PBS_O_HOME=/home/tb_pbs,PBS_O_LOGNAME=tb_pbs,\n\
            \tPBS_O_PATH=/opt/pbs/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/games:\n\
            \t/usr/games:/opt/pbs/bin,PBS_O_MAIL=/var/mail/tb_pbs,\n\
            \tPBS_O_SHELL=/bin/bash,PBS_O_INTERACTIVE_AUTH_METHOD=resvport,\n\
            \tPBS_O_INTERACTIVE_ENCRYPT_METHOD=,PBS_O_WORKDIR=/home/tb_pbs,\n\
            \tPBS_O_SYSTEM=Linux,PBS_O_QUEUE=workq,PBS_O_HOST=pbshost\n";
        assert_eq!(folded("Variable_List", value), expected);
        let comment = "Job run at Sat Nov 21 at 03:05 on (pbshost:ncpus=1) and exceeded resource walltime";
        let expected = "    comment = Job run at Sat Nov 21 at 03:05 on (pbshost:ncpus=1) and exceeded \n\tresource walltime\n";
        assert_eq!(folded("comment", comment), expected);
    }
}
