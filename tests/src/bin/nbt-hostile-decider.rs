//! A compromised `nunbird-decide`: sends the requests in `/etc/nunbird/attack`, and prints the
//! replies.
//!
//! One request per line, as words; `admit KEY JSON` sends the record in `/etc/nunbird/record.json`,
//! adapted to this call except for that key.

use nunbird_host::{Destination, Fetch, Validate};
use nunbird_requests::{Confine, MAX_REPLY, MONITOR_FD, Reply, Request, Slot, Start};
use nunbird_wire::{Message, read_frame, write_frame};
use serde_json::Value;
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
        UnixStream::from(OwnedFd::from(nunbird_sys::inherited::take(MONITOR_FD).expect("the socket")));
    let start = read_frame(&socket, MAX_REPLY).expect("a message").expect("a start");
    let start = Start::from_bytes(&start).expect("a start");
    for _ in &start.files {
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
        ["permit"] => Request::Permit,
        ["tidy"] => Request::Tidy(record(start, slot, "nothing", "")),
        ["confine"] => Request::Confine(Confine {
            limits: b"{}".to_vec(),
            disks: b"[]".to_vec(),
            way: "auto".to_owned(),
            require: false,
            asked: false,
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

/// The record with everything that the monitor compares made correct, and then `key`, with dots for
/// objects, set to `value`.
fn record(start: &Start, slot: u64, key: &str, value: &str) -> Vec<u8> {
    let text = fs::read_to_string("/etc/nunbird/record.json").expect("a record");
    let mut record: Value = serde_json::from_str(&text).expect("JSON");
    let (path, device, inode) = start.job_directory.clone().expect("a directory");
    record["decision_id"] = start.decision_id.clone().into();
    record["job_directory"] = serde_json::json!({"path": path, "device": device, "inode": inode});
    record["boot_id"] = start.boot_id.clone().into();
    record["runner_uid"] = start.caller.into();
    record["slot"] = slot.into();
    let pointer = format!("/{}", key.replace('.', "/"));
    if key != "nothing" {
        *record.pointer_mut(&pointer).expect("a field") = serde_json::from_str(value).expect("JSON");
    }
    record.to_string().into_bytes()
}
