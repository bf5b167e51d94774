//! A `nunbird-validate` that was taken over: it reports what `/etc/nunbird/attack` says, instead of running the site's program.

use nunbird_validation::{End, MAX_OUTPUT, ORDER_FD, Order, PROGRAM_FD, REPORT_FD, Report, Said};
use nunbird_wire::Message;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::time::Duration;

fn main() {
    let [order, program, mut report] =
        [ORDER_FD, PROGRAM_FD, REPORT_FD].map(|fd| nunbird_started::inherited::take(fd).expect("a file"));
    let order = read(order);
    assert!(Order::from_bytes(&order).is_ok() && read(program).starts_with(b"#!"), "an order and a program");
    let said = |output: Vec<u8>, end| Report::new(Ok(Said { output, errors: Vec::new(), end })).to_bytes();
    let yes = said(br#"{"username":"ada"}"#.to_vec(), End::Exited(0));
    let attack = fs::read_to_string("/etc/nunbird/attack").expect("an attack");
    let (bytes, status) = match attack.as_str() {
        "nothing" => (Vec::new(), 0),
        "garbage" => (vec![0xaa; 3000], 0),
        "cut short" => (yes.get(..yes.len() - 1).expect("bytes").to_vec(), 0),
        "and more" => ([yes, b"!".to_vec()].concat(), 0),
        "its own order" => (order, 0),
        "too long an output" => (said(vec![b' '; MAX_OUTPUT + 1], End::Exited(0)), 0),
        "without end" => {
            // Until nobody reads any more.
            while report.write_all(&[b' '; 4096]).is_ok() {}
            return;
        }
        "late" => sleep(),
        "a report and no end" => {
            report.write_all(&yes).expect("a reader");
            drop(report);
            sleep()
        }
        "a report and a failure" => (yes, 1),
        "yes" => (yes, 0),
        other => panic!("{other}"),
    };
    report.write_all(&bytes).expect("a reader");
    drop(report);
    std::process::exit(status);
}

fn read(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("bytes");
    bytes
}

/// Longer than anybody waits; a test that fails leaves nothing behind for ever.
fn sleep() -> ! {
    std::thread::sleep(Duration::from_secs(120));
    std::process::exit(1)
}
