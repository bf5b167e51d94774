//! A compromised `nunbird-decide`: sends the requests in `/etc/nunbird/attack`, and prints the
//! replies.
//!
//! One request a line, as words; `admit KEY VALUE` sends the record of `/etc/nunbird/record`, made this call's own but for that key.

use nunbird_host::{Destination, Fetch, Validate};
use nunbird_messages::{Group, Isolation, Pam, ProcessLimits, Record, SessionSpan};
use nunbird_order::{Machine, MachineBind};
use nunbird_requests::{Confine, Launch, MAX_REPLY, MONITOR_FD, Reply, Request, Slot, Start, Task, Tidying};
use nunbird_wire::{Message, read_frame, write_frame};
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

fn main() {
    if std::env::args_os().nth(1).is_some() {
        // In place of the verifier: nothing is asked of it.
        return;
    }
    let socket =
        UnixStream::from(OwnedFd::from(nunbird_started::inherited::take(MONITOR_FD).expect("the socket")));
    let start = read_frame(&socket, MAX_REPLY).expect("a message").expect("a start");
    let start = Start::from_bytes(&start).expect("a start");
    let script = matches!(&start.task, Task::Stage(stage) if stage.script);
    for _ in 0..start.files.len() + usize::from(script) {
        nunbird_sys::passing::receive(socket.as_fd()).expect("a file");
    }
    let mut slot = 0;
    for line in fs::read_to_string("/etc/nunbird/attack").expect("an attack").lines() {
        let request = request(line, &start, slot);
        let Ok(()) = write_frame(&socket, &request.to_bytes()) else { break };
        let Ok(Some(reply)) = read_frame(&socket, MAX_REPLY) else { break };
        let reply = Reply::from_bytes(&reply).expect("a reply");
        if let Reply::Number(number) = &reply {
            slot = *number;
        }
        eprintln!("attack: {line}: {reply:?}");
        if matches!((&request, &reply), (Request::File(_), Reply::Done)) {
            let (_, files) = nunbird_sys::passing::receive(socket.as_fd()).expect("a file");
            eprintln!("attack: {line}: {} open file", files.len());
        }
    }
}

fn request(line: &str, start: &Start, slot: u64) -> Request {
    let words: Vec<&str> = line.split(' ').collect();
    let text = |word: &&str| (*word).to_owned();
    match words.as_slice() {
        ["slot", account] => {
            Request::Slot(Slot { server: "main".to_owned(), job_id: 7, account: text(account) })
        }
        ["file", path] => Request::File(path.into()),
        ["keys", directory, name] => Request::KeysFile(directory.into(), text(name)),
        ["fetch", program, directory] => Request::Fetch(Fetch {
            directory: directory.into(),
            writes: true,
            program: program.into(),
            argv: shell("id; touch /var/tmp/nbt_hostile"),
            input: None,
            limit: 4096,
            patience: Duration::from_secs(5),
        }),
        ["validate", user, seconds] => Request::Validate(Validate {
            script: "/bin/sh".into(),
            sha256: None,
            user: text(user),
            argv: shell("id"),
            environment: Vec::new(),
            seconds: seconds.parse().expect("seconds"),
        }),
        ["own", account, path] => Request::OwnFile(text(account), path.into(), 65536),
        ["place", path] => Request::Places(vec![Destination::File(path.into())]),
        ["event", rest @ ..] => Request::Event(0, true, rest.join(" ").replace("\\n", "\n").into_bytes()),
        ["trace", rest @ ..] => Request::Trace(rest.join(" ").replace("\\n", "\n").into_bytes()),
        ["person", file] => Request::Person(text(file)),
        ["remember", file] => Request::RememberPerson(text(file), b"x y 1\n".to_vec()),
        ["launch", rest @ ..] => Request::Launch(launch(&rest.join(" "))),
        ["finish"] => Request::Finish,
        ["tidied"] => Request::Tidied,
        ["tidy", account, launcher] => Request::Tidy(Tidying {
            account: text(account),
            launcher: launcher.into(),
            isolation: Isolation::default(),
            launch: launch("{}"),
        }),
        ["confine"] => Request::Confine(Confine {
            name: "l".to_owned(),
            processes: ProcessLimits::default(),
            order: Vec::new(),
            job_id: 7,
            runner_id: 0,
            account: "root".to_owned(),
        }),
        ["admit", key, value] => Request::Admit(record(start, slot, key, value)),
        other => panic!("{other:?}"),
    }
}

fn shell(command: &str) -> Vec<CString> {
    ["sh", "-c", command].map(|word| CString::new(word).expect("a word")).to_vec()
}

fn launch(message: &str) -> Launch {
    let environment = vec![CString::new("LD_PRELOAD=/tmp/nbt_hostile.so").expect("a word")];
    Launch { message: message.as_bytes().to_vec(), environment, submits: false }
}

fn machine(record: &mut Record, change: impl FnOnce(&mut Machine)) {
    let order = record.machine.as_mut().expect("a job with a machine");
    let mut machine = Machine::from_bytes(&order.bytes).expect("a machine");
    // Those of the record are another job's.
    machine.binds.clear();
    change(&mut machine);
    order.bytes = machine.to_bytes();
}

/// The record with everything that the monitor compares made right, and then `key` made `value`.
fn record(start: &Start, slot: u64, key: &str, value: &str) -> Vec<u8> {
    let bytes = fs::read("/etc/nunbird/record").expect("a record");
    let mut record = Record::parse(&bytes).expect("a record");
    record.decision_id.clone_from(&start.decision_id);
    record.job_directory = start.job_directory.clone().expect("a directory");
    record.boot_id.clone_from(&start.boot_id);
    record.runner_uid = start.caller;
    record.slot = u16::try_from(slot).expect("a slot");
    let number = || value.parse::<u64>().expect("a number");
    let id = || value.parse::<u32>().expect("an id");
    match key {
        "nothing" => {}
        "account.name" => record.account.name = value.to_owned(),
        "account.uid" => record.account.uid = id(),
        "account.gid" => record.account.gid = id(),
        "runner_uid" => record.runner_uid = id(),
        "slot" => record.slot = u16::try_from(number()).expect("a slot"),
        "decision_id" => record.decision_id = value.to_owned(),
        "job_directory.inode" => record.job_directory.inode = number(),
        "job_directory.device" => record.job_directory.device = number(),
        "job_directory.path" => record.job_directory.path = value.into(),
        "boot_id" => record.boot_id = value.to_owned(),
        "closed" => record.closed = true,
        "expires_at" => record.expires_at = number(),
        "expires_at_boottime" => record.expires_at_boottime = number(),
        "machine.tree" => machine(&mut record, |machine| machine.tree = value.to_owned()),
        "machine.version" => machine(&mut record, |machine| machine.version = Some(value.to_owned())),
        "machine.directory" => machine(&mut record, |machine| machine.directory = value.into()),
        "machine.bind" => machine(&mut record, |machine| {
            machine.binds.push(MachineBind {
                source: value.into(),
                target: "/nbt".into(),
                writable: true,
                optional: false,
            });
        }),
        "machine.ready" => {
            machine(&mut record, |_| {});
            record.machine.as_mut().expect("a job with a machine").ready = number();
        }
        "machine.root" => machine(&mut record, |machine| machine.root = true),
        "machine.order" => {
            record.machine.as_mut().expect("a job with a machine").bytes = value.as_bytes().to_vec();
        }
        "policy_path" => record.policy_path = value.into(),
        "own_directory" => record.own_directory = Some(value.into()),
        "group" => {
            let bytes = value.as_bytes().to_vec();
            record.group = Some(Group {
                limits: "l".to_owned(),
                is_runners: false,
                owner: 0,
                job_id: 1,
                decision: 2,
                bytes,
            });
        }
        "pam" => {
            let (service, timeout) = value.split_once(',').expect("service and timeout");
            record.pam = Some(Pam {
                service: service.to_owned(),
                timeout: timeout.parse().expect("seconds"),
                environment: Vec::new(),
                session: SessionSpan::Job,
            });
        }
        other => panic!("{other}"),
    }
    record.to_bytes()
}
