//! A `nunbird-limits` that was taken over: at the request that `/etc/nunbird/attack` names first it does what stands there behind it, and all
//! others it answers as if all were well.

use nunbird_cgroup::{Amounts, Kept, Way, name_of};
use nunbird_gauges::{Count, Reading};
use nunbird_groups::{Answer, MAX_REQUEST, Request, SOCKET_FD};
use nunbird_messages::Version;
use nunbird_sys::passing;
use nunbird_wire::{Message, read_frame, write_frame};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

fn main() {
    let socket =
        UnixStream::from(OwnedFd::from(nunbird_started::inherited::take(SOCKET_FD).expect("the socket")));
    let request = read_frame(&socket, MAX_REQUEST).expect("a message").expect("a request");
    let (Version, request) = Message::from_bytes(&request).expect("a request");
    let (kind, usual) = match &request {
        Request::Make(_) => ("make", Answer::Made(b"a group".to_vec())),
        Request::Enter(..) => ("enter", counters(Vec::new())),
        Request::End(..) => ("end", Answer::Ended(Vec::new(), Vec::new())),
        Request::Remove(_) => ("remove", Answer::Done),
    };
    let attack = fs::read_to_string("/etc/nunbird/attack").expect("an attack");
    let (at, what) = attack.trim().split_once(' ').expect("two words");
    let _gone = if at == kind { act(&socket, &request, what, &usual) } else { say(&socket, &usual) };
}

fn say(socket: &UnixStream, answer: &Answer) -> io::Result<()> {
    write_frame(socket, &(Version, answer.clone()).to_bytes())
}

fn act(mut socket: &UnixStream, request: &Request, what: &str, usual: &Answer) -> io::Result<()> {
    let gauge = |reading| counters(vec![(Count::OomKills, reading)]);
    let text = || Reading::Text(String::new(), 0);
    match what {
        "closes" => Ok(()),
        "garbage" => write_frame(socket, &[0xff; 4000]),
        "half" => socket.write_all(&[40, 0, 0, 0, 1]),
        "much" => {
            socket.write_all(&u32::MAX.to_le_bytes())?;
            loop {
                socket.write_all(&[0; 4096])?;
            }
        }
        "late" => loop {
            // Each byte in time, and never all of them.
            socket.write_all(&[0])?;
            std::thread::sleep(Duration::from_millis(if matches!(request, Request::Enter(..)) {
                3000
            } else {
                100
            }));
        },
        "more" => {
            say(socket, usual)?;
            say(socket, usual)
        }
        "another" => say(socket, &Answer::Made(b"x".to_vec())),
        "keeper" => say(socket, &Answer::Keeper),
        "lies" => say(socket, usual),
        "lines" => {
            let why = "\u{1b}[31m\nnunbird: error: forged\n".repeat(100);
            say(socket, &Answer::Trouble(why))
        }
        // How far the process is that waits to be brought into the group.
        "looks" => {
            let Request::Enter(_, Some(process)) = request else { return Ok(()) };
            let name = fs::read_to_string(format!("/proc/{process}/comm"))?;
            say(socket, &Answer::Trouble(format!("the process is {}", name.trim())))
        }
        "file" => {
            say(socket, &gauge(text()))?;
            passing::send(socket, b'f', &[&File::open("/etc/passwd")?])
        }
        "pipe" => {
            let (reader, writer) = io::pipe()?;
            say(socket, &gauge(Reading::Event))?;
            passing::send(socket, b'f', &[&File::from(OwnedFd::from(reader))])?;
            // It keeps the other end open, and lives on without having a place to be waited for.
            std::mem::forget(writer);
            Ok(())
        }
        "none" => say(socket, &gauge(text())),
        "prints" => {
            let _nobody_reads =
                writeln!(io::stdout(), "forged").and_then(|()| writeln!(io::stderr(), "forged"));
            say(socket, usual)
        }
        // The group of the runner's own service, of another job, and of this job's name with another owner.
        "place" => group(socket, "system.slice/gitlab-runner.service", 0),
        "job" => group(socket, "nunbird-1-0000000000000001", 0),
        "owner" => {
            let Request::Make(make) = request else { return Ok(()) };
            group(socket, &name_of(make.job_id, make.decision), 4_711)
        }
        other => panic!("{other}"),
    }
}

fn counters(files: Vec<(Count, Reading)>) -> Answer {
    let contents = vec![Vec::new(); files.len()];
    Answer::Entered(files.to_bytes(), contents)
}

fn group(socket: &UnixStream, place: &str, owner: u32) -> io::Result<()> {
    let directories = [(String::new(), Path::new("/sys/fs/cgroup").join(place))].into();
    let kept = Kept { owner, way: Way::Unified, directories, units: None, amounts: Amounts::default() };
    say(socket, &Answer::Made(kept.to_bytes()))
}
