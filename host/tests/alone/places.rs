//! Places for audit events.

use crate::Test;
use crate::machine::{PRIVILEGED, ROOT, RUNNER, as_account, directory, write};
use nunbird_host::{Destination, Places, Sockets, Turn, to_syslog, turn};
use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

pub(crate) const ALL: &[Test] = &[
    ("a_file_of_events_is_roots_in_a_directory_of_roots", a_file_of_events_is_roots_in_a_directory_of_roots),
    (
        "daemons_get_events_by_their_sockets_and_again_after_a_restart",
        daemons_get_events_by_their_sockets_and_again_after_a_restart,
    ),
    ("the_sockets_are_those_of_journald_and_syslog", the_sockets_are_those_of_journald_and_syslog),
    (
        "remote_daemons_get_datagrams_or_frames_and_a_closed_port_is_trouble",
        remote_daemons_get_datagrams_or_frames_and_a_closed_port_is_trouble,
    ),
    ("a_daemon_that_does_not_read_holds_nothing_up", a_daemon_that_does_not_read_holds_nothing_up),
    (
        "refusals_are_counted_for_each_runner_beside_the_file",
        refusals_are_counted_for_each_runner_beside_the_file,
    ),
    ("a_line_for_syslog_is_sent_as_the_caller", a_line_for_syslog_is_sent_as_the_caller),
];

const FILE: &str = "/var/log/nunbird/audit.jsonl";

fn open(destinations: &[Destination]) -> Places {
    Places::open(destinations, PRIVILEGED.0)
}

fn a_file_of_events_is_roots_in_a_directory_of_roots() {
    let file = [Destination::File(FILE.into())];
    let why = open(&file).closed()[0].clone().expect("no directory");
    assert!(why.starts_with(&format!("{FILE}: ")), "{why}");
    assert_eq!(open(&file).send(0, b"x\n", true), Err(why));
    directory("/var/log/nunbird", ROOT, 0o755);
    let places = open(&file);
    assert_eq!(places.closed(), [None]);
    places.send(0, b"one\n", true).expect("written");
    places.send(0, b"two\n", false).expect("written");
    assert_eq!(std::fs::read_to_string(FILE).expect("a file"), "one\ntwo\n");
    assert_eq!(places.send(1, b"x\n", true), Err("no such place".to_owned()));
    let found = Path::new(FILE).metadata().expect("a file");
    assert_eq!((found.uid(), found.mode() & 0o777), (0, 0o640));
    write(FILE, "", RUNNER, 0o600);
    assert!(open(&file).closed()[0].is_some(), "a file of the runner's");
    directory("/var/log/nunbird", RUNNER, 0o755);
    assert!(open(&file).closed()[0].as_ref().is_some_and(|why| why.contains("owned by uid 4001")));
    assert!(open(&[Destination::File("/".into())]).closed()[0].is_some());
    // The disk is full.
    std::fs::remove_file(FILE).expect("removed");
    directory("/var/log/nunbird", ROOT, 0o755);
    let none = None::<&str>;
    nix::mount::mount(
        Some("nbt"),
        "/var/log/nunbird",
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        Some("size=4k,mode=0755"),
    )
    .expect("a mount");
    let places = open(&file);
    places.send(0, b"first\n", true).expect("written");
    let why = places.send(0, &[vec![b'x'; 9000], vec![b'\n']].concat(), true).expect_err("no room");
    assert!(why.starts_with(&format!("{FILE}: ")), "{why}");
    assert_eq!(none, None);
}

fn receive(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 100];
    socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).expect("a timeout");
    let length = socket.recv(&mut bytes).expect("an event");
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

fn daemons_get_events_by_their_sockets_and_again_after_a_restart() {
    let (journal, log) = (PathBuf::from("/var/log/journal.socket"), PathBuf::from("/var/log/log.socket"));
    let sockets = Sockets { journal: &journal, log: &log };
    let both = [Destination::Journal, Destination::Syslog];
    let none = Places::open_at(&both, PRIVILEGED.0, sockets);
    for (closed, path) in none.closed().iter().zip([&journal, &log]) {
        assert!(
            closed.as_ref().is_some_and(|why| why.starts_with(&format!("{}: ", path.display()))),
            "{closed:?}"
        );
    }
    let (daemon, syslog) =
        (UnixDatagram::bind(&journal).expect("a daemon"), UnixDatagram::bind(&log).expect("a daemon"));
    let places = Places::open_at(&both, PRIVILEGED.0, sockets);
    assert_eq!(places.closed(), [None, None]);
    places.send(0, b"to journald", true).expect("sent");
    places.send(1, b"to syslog", false).expect("sent");
    assert_eq!((receive(&daemon), receive(&syslog)), ("to journald".to_owned(), "to syslog".to_owned()));
    drop(daemon);
    std::fs::remove_file(&journal).expect("removed");
    let why = places.send(0, b"lost", true).expect_err("nobody listens");
    assert!(why.starts_with("/var/log/journal.socket: "), "{why}");
    let daemon = UnixDatagram::bind(&journal).expect("a daemon");
    places.send(0, b"after a restart", true).expect("sent");
    assert_eq!(receive(&daemon), "after a restart");
    // Another error is reported as it is: there is no socket to connect to again.
    std::fs::remove_file(&journal).expect("removed");
    let why = places.send(0, &vec![b'x'; 8 << 20], true).expect_err("longer than a datagram");
    assert!(why.contains("Message too long"), "{why}");
}

fn the_sockets_are_those_of_journald_and_syslog() {
    let names = [Destination::Journal, Destination::Syslog].map(|place| place.to_string());
    assert_eq!(names, ["/run/systemd/journal/socket", "/dev/log"]);
    let log = UnixDatagram::bind("/dev/log").expect("a daemon");
    open(&[Destination::Syslog]).send(0, b"a line", true).expect("sent");
    assert_eq!(receive(&log), "a line");
}

fn remote_daemons_get_datagrams_or_frames_and_a_closed_port_is_trouble() {
    for address in [Ipv4Addr::LOCALHOST.into(), std::net::IpAddr::from(Ipv6Addr::LOCALHOST)] {
        let Ok(udp) = UdpSocket::bind((address, 0)) else {
            nunbird_skip::skip_part!("no address {address} on this host");
            continue;
        };
        let tcp = TcpListener::bind((address, 0)).expect("a daemon");
        let to = [
            Destination::Udp(udp.local_addr().expect("an address")),
            Destination::Tcp(tcp.local_addr().expect("an address")),
        ];
        let places = open(&to);
        assert_eq!(places.closed(), [None, None]);
        places.send(0, b"<84>1 x", true).expect("sent");
        places.send(1, b"<84>1 yz", true).expect("sent");
        let mut bytes = [0; 100];
        udp.set_read_timeout(Some(std::time::Duration::from_secs(5))).expect("a timeout");
        let length = udp.recv(&mut bytes).expect("a datagram");
        assert_eq!(&bytes[..length], b"<84>1 x");
        let mut text = String::new();
        tcp.accept().expect("a connection").0.read_to_string(&mut text).expect("a frame");
        assert_eq!(text, "8 <84>1 yz");
        let names = to.each_ref().map(ToString::to_string);
        drop((udp, tcp));
        for (index, name) in names.iter().enumerate() {
            let why = places.send(index, b"x", true).expect_err("nobody listens");
            assert!(why.starts_with(&format!("{name}: ")) && why.contains("refused"), "{why}");
        }
    }
}

fn a_daemon_that_does_not_read_holds_nothing_up() {
    let _log = UnixDatagram::bind("/dev/log").expect("a daemon");
    let places = open(&[Destination::Syslog]);
    let began = std::time::Instant::now();
    let sent = (0..10_000).find_map(|_| places.send(0, b"a line", true).err()).expect("a full socket");
    assert!(sent.starts_with("/dev/log: "), "{sent}");
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
    to_syslog(b"another", None);
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
}

fn refusals_are_counted_for_each_runner_beside_the_file() {
    let count = || turn(Path::new(FILE), PRIVILEGED.0);
    assert!(count().expect_err("no directory").starts_with(&format!("counter beside {FILE}: ")));
    directory("/var/log/nunbird", ROOT, 0o755);
    // The minute may end meanwhile.
    let turns: Vec<Turn> = (0..200).map(|_| count().expect("a turn")).collect();
    let written = turns.iter().filter(|turn| matches!(turn, Turn::Write(_))).count();
    assert!((60..=120).contains(&written), "{written}");
    let names: Vec<String> = std::fs::read_dir("/var/log/nunbird")
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    assert!(names.len() == 1 && names[0].starts_with(".unverified-4001-"), "{names:?}");
    assert!(turn(Path::new("/"), PRIVILEGED.0).is_err());
}

fn a_line_for_syslog_is_sent_as_the_caller() {
    to_syslog(b"nobody listens", None);
    let log = UnixDatagram::bind("/dev/log").expect("a daemon");
    std::fs::set_permissions("/dev/log", std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .expect("a mode");
    to_syslog(b"a line", Some(RUNNER));
    assert_eq!(receive(&log), "a line");
    to_syslog(b"another", None);
    assert_eq!(receive(&log), "another");
    // As the caller it reaches no socket that the caller may not.
    as_account(RUNNER, || to_syslog(b"of the runner's", None));
    assert_eq!(receive(&log), "of the runner's");
}
