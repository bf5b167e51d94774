//! From the order to the report.

use crate::foreign::{self, Heard};
use crate::program::{become_it, become_root};
use aws_lc_rs::digest;
use nunbird_offspring::Adoption;
use nunbird_started::inherited;
use nunbird_surrender as surrender;
use nunbird_sys::capabilities::{self, Capabilities};
use nunbird_sys::fork::{Ended, fork_into};
use nunbird_sys::kernel::{Kernel, Linux};
use nunbird_sys::{answer, exec, process};
use nunbird_validation::{
    Account, End, MAX_ORDER, MAX_OUTPUT, ORDER_FD, Order, PROGRAM_FD, REPORT_FD, Report, Said,
};
use nunbird_wire::Message;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// The largest program, in bytes.
const MAX_PROGRAM: u64 = 16 << 20;
/// How long its processes may take to end once they are killed.
const END: Duration = Duration::from_secs(2);

/// The program's whole life.
///
/// # Errors
/// When it was not started by `nunbird-auth`, or that does not take the report.
pub fn serve() -> io::Result<()> {
    let [order, program, mut report] = [ORDER_FD, PROGRAM_FD, REPORT_FD].map(inherited::take);
    let said = prepare()
        .and_then(|()| read(order?))
        .and_then(|order| run(&order, program?))
        .map_err(|e| e.to_string());
    report.as_mut().map_err(|e| io::Error::from(e.kind()))?.write_all(&Report::new(said).to_bytes())
}

/// Nobody looks into this process, and what it starts has no capability but by this process's own doing.
fn prepare() -> io::Result<()> {
    process::forbid_inspection()?;
    capabilities::clear_ambient()?;
    Capabilities { inheritable: 0, ..Capabilities::current()? }.apply()
}

fn read(order: File) -> io::Result<Order> {
    let mut bytes = Vec::new();
    order.take(u64::try_from(MAX_ORDER).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    Order::from_bytes(&bytes).map_err(io::Error::other)
}

fn run(order: &Order, program: File) -> io::Result<Said> {
    let copy = copy(&program, order.sha256.as_deref())?;
    drop(program);
    let Heard { mut output, errors, ended } =
        supervise(order, &copy).map_err(|e| io::Error::new(e.kind(), format!("could not be run: {e}")))?;
    output.truncate(MAX_OUTPUT);
    let end = match ended {
        Ok(Ended::Exited(code)) => End::Exited(code),
        Ok(Ended::Killed(signal)) => End::Killed(signal),
        Err(e) if e.kind() == io::ErrorKind::TimedOut => End::Late,
        Err(e) if e.kind() == io::ErrorKind::FileTooLarge => End::TooLong,
        Err(e) => End::Failed(e.to_string()),
    };
    Ok(Said { output, errors, end })
}

/// The program in a memory file that nobody can change any more: what is hashed is what runs.
///
/// The program itself need not be readable by the account that runs it.
fn copy(program: &File, sha256: Option<&str>) -> io::Result<File> {
    let mut digest = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 64 << 10];
    let name = c"nunbird-validation";
    let copy = foreign::sealed_program(name, program, MAX_PROGRAM, &mut buffer, |piece| digest.update(piece))
        .map_err(|e| io::Error::new(e.kind(), format!("cannot be read: {e}")))?;
    let found: String = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    match sha256 {
        Some(wanted) if !wanted.eq_ignore_ascii_case(&found) => {
            Err(io::Error::other(format!("its SHA-256 is {found} and validation.sha256 says {wanted}")))
        }
        _ => Ok(copy),
    }
}

/// Runs the program to its end, and the end of everything that it started.
fn supervise(order: &Order, program: &File) -> io::Result<Heard> {
    let (output, output_end) = io::pipe()?;
    let (errors, errors_end) = io::pipe()?;
    // Closed by execve(2): what comes through it was said before the program began.
    let (trouble, trouble_end) = io::pipe()?;
    let trouble_end = exec::out_of_the_way(&File::from(OwnedFd::from(trouble_end)))?;
    let adoption = Adoption::begin()?;
    let parent = process::id();
    let child = fork_into(|| {
        let Err(error) = become_it(order, program, parent, (&output_end, &errors_end));
        i32::from((&trouble_end).write_all(error.to_string().as_bytes()).is_err())
    })?;
    drop((output_end, errors_end, trouble_end));
    let heard = give_up(&order.account)
        .map(|()| foreign::listen(&child, [output, errors], MAX_OUTPUT, Duration::from_secs(order.seconds)));
    adoption
        .end_all(order.account.uid, END)
        .map_err(|e| io::Error::new(e.kind(), format!("its processes could not be ended: {e}")))?;
    let trouble = answer::read_to_end(trouble, MAX_OUTPUT, END)?;
    match String::from_utf8_lossy(&trouble) {
        nothing if nothing.is_empty() => heard,
        why => Err(io::Error::other(why.into_owned())),
    }
}

/// Leaves this process what it takes to end the program's processes, before it reads what they say: their uid as its effective one, while a uid
/// that no account has stays the real and the saved one, by which the kernel judges who may signal it (kill(2)) or change its limits.
fn give_up(account: &Account) -> io::Result<()> {
    let given_up = match account.uid {
        _ if !account.change => Ok(()),
        // A program of root's can do anything to anybody.
        0 => become_root(),
        user => {
            let ([own, ..], [group, ..]) = (Linux.uids()?, Linux.gids()?);
            if own == 0 || own == user {
                return Err(io::Error::other(format!("it was not to be started as uid {own}")));
            }
            surrender::become_shepherd(&mut Linux, own, group, user).map_err(io::Error::other)
        }
    };
    // A change of ids makes the process as dumpable as fs.suid_dumpable says (proc(5)).
    given_up.and_then(|()| process::forbid_inspection())
}
