//! Against bytes of systemd 252, recorded between `systemctl stop` and process 1.

use super::message::{self, Value};
use super::{Amounts, Reply, Way, read_reply, scope_properties, slice_properties};
use std::io::ErrorKind;

/// `systemctl stop nosuch-unit.slice`.
const STOP: &[u8] = b"l\x01\x04\x01$\0\0\0\x01\0\0\0\xa0\0\0\0\
    \x01\x01o\0\x19\0\0\0/org/freedesktop/systemd1\0\0\0\0\0\0\0\
    \x03\x01s\0\x08\0\0\0StopUnit\0\0\0\0\0\0\0\0\
    \x02\x01s\0\x20\0\0\0org.freedesktop.systemd1.Manager\0\0\0\0\0\0\0\0\
    \x06\x01s\0\x18\0\0\0org.freedesktop.systemd1\0\0\0\0\0\0\0\0\
    \x08\x01g\0\x02ss\0\
    \x11\0\0\0nosuch-unit.slice\0\0\0\x07\0\0\0replace\0";
/// A signal and the answer to [`STOP`].
const RETURN: &[u8] = include_bytes!("../../../fuzz/corpus/systemd/return");
/// The answer to a second call.
const REFUSED: &[u8] = include_bytes!("../../../fuzz/corpus/systemd/refused");

#[test]
fn a_call_is_what_systemds_own_program_sends_byte_for_byte() {
    let mut ours = message::stop(1, "nosuch-unit.slice");
    assert_eq!(ours[2], 0, "nobody is there to be asked for a password");
    ours[2] = 4;
    assert_eq!(ours, STOP);
}

#[test]
fn properties_of_each_type_lie_where_their_alignment_says() {
    let properties = [
        ("A", Value::Text("x".to_owned())),
        ("B", Value::Flag(true)),
        ("C", Value::Number(7)),
        ("D", Value::Processes(vec![5, 6])),
    ];
    let call = message::start(9, "u", &properties);
    let begins = |part: &[u8]| call.windows(part.len()).position(|window| window == part);
    let body = begins(b"\x01\0\0\0u\0").expect("the name");
    assert_eq!(body % 8, 0);
    let expected = b"\x01\0\0\0u\0\0\0\x04\0\0\0fail\0\0\0\0\x58\0\0\0\
        \x01\0\0\0A\0\x01s\0\0\0\0\x01\0\0\0x\0\0\0\0\0\0\0\
        \x01\0\0\0B\0\x01b\0\0\0\0\x01\0\0\0\
        \x01\0\0\0C\0\x01t\0\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\
        \x01\0\0\0D\0\x02au\0\0\0\x08\0\0\0\x05\0\0\0\x06\0\0\0\
        \0\0\0\0\0\0\0\0";
    assert_eq!(&call[body..], expected);
    assert_eq!(call[4..8], u32::to_le_bytes(u32::try_from(expected.len()).expect("small")));
}

#[test]
fn every_limit_has_its_property_and_what_is_not_limited_has_none() {
    let amounts = Amounts {
        memory: Some(1),
        swap: Some(2),
        cpu: Some(1500),
        pids: Some(4),
        io_weight: Some(5),
        ..Amounts::default()
    };
    let limits = |amounts: &Amounts, way| {
        let properties = slice_properties("d", amounts, way).into_iter().skip(5);
        properties.map(|(name, value)| format!("{name} {value:?}")).collect::<Vec<_>>()
    };
    assert_eq!(
        limits(&amounts, Way::Unified),
        [
            "MemoryMax Number(1)",
            "MemorySwapMax Number(2)",
            "CPUQuotaPerSecUSec Number(1500000)",
            "TasksMax Number(4)",
            "IOWeight Number(5)"
        ]
    );
    let weight = limits(&amounts, Way::Separate).pop();
    assert_eq!(weight.as_deref(), Some("BlockIOWeight Number(5)"));
    assert!(limits(&Amounts::default(), Way::Unified).is_empty());
    let scope = scope_properties("d", "s.slice", 42);
    assert!(scope.contains(&("PIDs", Value::Processes(vec![42]))));
}

#[test]
fn a_reply_is_found_among_signals() {
    assert_eq!(read_reply(RETURN, 1).expect("a reply"), Reply::Return);
    let both = [RETURN, REFUSED].concat();
    let refused = Reply::Error(
        "org.freedesktop.systemd1.NoSuchUnit".to_owned(),
        "Unit nosuch-unit.slice not loaded.".to_owned(),
    );
    assert_eq!(read_reply(&both[..], 2).expect("a reply"), refused, "the other call's is passed over");
    let ended = read_reply(RETURN, 2).expect_err("no reply to the second call");
    assert_eq!(ended.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn what_is_no_message_or_lies_about_its_lengths_is_an_error() {
    let broken = |at: usize, value: u8| {
        let mut bytes = REFUSED.to_vec();
        bytes[at] = value;
        read_reply(&bytes[..], 2).expect_err("not believed").kind()
    };
    for (at, value) in
        [(0, b'B'), (1, 0), (1, 5), (3, 2), (6, 0x20), (12, 0x60), (14, 0x20), (18, b'x'), (20, 9)]
    {
        let kind = broken(at, value);
        assert!(matches!(kind, ErrorKind::InvalidData | ErrorKind::UnexpectedEof), "{at}: {kind:?}");
    }
    for cut in 0..REFUSED.len() {
        assert!(read_reply(&REFUSED[..cut], 2).is_err(), "{cut}");
    }
}
