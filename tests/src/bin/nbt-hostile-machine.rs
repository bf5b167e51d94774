//! A `nunbird-machine` that was taken over: at the request that `/etc/nunbird/attack` names first it does what stands there behind it, and all
//! others it answers as if all were well. No machine is ever started, but for `slowly the-genuine-one`: then it becomes the genuine program, whose
//! calls of prctl(2) take a third of a second.

use nunbird_messages::{MAX_MACHINE_REQUEST, MachineAnswer, MachineRequest, Version};
use nunbird_order::Machine;
use nunbird_wire::{Message, read_frame, write_frame};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

const SOCKET_FD: i32 = 3;
/// Waits for the client of a stage in the place of the machine's agent, and writes down who it is. It says when it has the FIFO: before, a
/// client finds no agent.
const WATCH: &str = "exec 3<>\"$1/calls\"; echo; exec >/dev/null; read -r verb name <&3; for p in $(pgrep -f \"client run $2\"); do \
    grep -E '^(Uid|Gid|Groups|CapPrm|CapEff|CapAmb):' /proc/$p/status; done >/tmp/seen";

fn main() {
    let attack = fs::read_to_string("/etc/nunbird/attack").expect("an attack");
    let (at, what) = attack.trim().split_once(' ').expect("two words");
    if at == "slowly" {
        let mut strace = Command::new("/root/strace/strace");
        strace.args(["-f", "-b", "execve", "-o", "/root/strace/calls", "-e", "trace=prctl,execve"]);
        strace.args(["-e", "inject=prctl:delay_enter=300000", "/opt/nunbird/bin/nunbird-machine.genuine"]);
        panic!("{}", strace.env("LD_LIBRARY_PATH", "/root/strace").exec());
    }
    let socket =
        UnixStream::from(OwnedFd::from(nunbird_started::inherited::take(SOCKET_FD).expect("the socket")));
    let request = read_frame(&socket, MAX_MACHINE_REQUEST).expect("a message").expect("a request");
    let (Version, request) = Message::from_bytes(&request).expect("a request");
    let (kind, usual) = match &request {
        MachineRequest::Start(..) => ("start", MachineAnswer::Started("it runs".to_owned())),
        MachineRequest::End(_) => ("end", MachineAnswer::Done),
    };
    let _gone = if at == kind { act(&socket, &request, what, &usual) } else { say(&socket, &usual) };
}

fn say(socket: &UnixStream, answer: &MachineAnswer) -> io::Result<()> {
    write_frame(socket, &(Version, answer.clone()).to_bytes())
}

fn act(
    mut socket: &UnixStream,
    request: &MachineRequest,
    what: &str,
    usual: &MachineAnswer,
) -> io::Result<()> {
    let forged = || "\u{1b}[31m\nnunbird: error: forged\n".repeat(100);
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
        "lines" => say(socket, &MachineAnswer::Trouble(forged(), forged())),
        "lies" => say(socket, usual),
        "more" => {
            say(socket, usual)?;
            say(socket, &MachineAnswer::Trouble(forged(), forged()))
        }
        "note" => say(socket, &MachineAnswer::Started(forged())),
        "done" => say(socket, &MachineAnswer::Done),
        "prints" => {
            let _nobody_reads =
                writeln!(io::stdout(), "forged").and_then(|()| writeln!(io::stderr(), "forged"));
            say(socket, usual)
        }
        "watches" => {
            let MachineRequest::Start(_, order, _) = request else { return Ok(()) };
            let machine = Machine::from_bytes(&order.bytes).expect("a machine");
            let calls = machine.directory.with_file_name("machine");
            let mut watch = Command::new("setsid");
            watch.args(["sh", "-c", WATCH, "sh"]).arg(calls).arg(&machine.directory);
            watch
                .env("PATH", "/usr/bin:/bin")
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null());
            let mut started = watch.spawn()?;
            started.stdout.take().expect("a pipe").read_exact(&mut [0])?;
            say(socket, usual)
        }
        other => panic!("{other}"),
    }
}
