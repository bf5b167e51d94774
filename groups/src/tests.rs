use super::{Answer, Group, Make, Request, Systemd};
use nunbird_wire::Message;
use nunbird_wire::Version;
use std::fmt::Debug;

fn is_whole<M: Message + PartialEq + Debug>(message: &M) {
    let bytes = message.to_bytes();
    assert_eq!(M::from_bytes(&bytes).as_ref(), Ok(message));
    for end in 0..bytes.len() {
        assert!(M::from_bytes(&bytes[..end]).is_err(), "{message:?} cut at {end}");
    }
    assert!(M::from_bytes(&[bytes.as_slice(), b"!"].concat()).is_err(), "{message:?} and more");
}

fn group() -> Group {
    let (limits, bytes) = ("l".to_owned(), b"group".to_vec());
    Group { limits, is_runners: true, owner: 990, job_id: 1, decision: u64::MAX, bytes }
}

#[test]
fn messages_are_read_as_they_were_written_and_never_in_part() {
    for systemd in [Systemd::Answers, Systemd::Capabilities, Systemd::NoPrivilege] {
        is_whole(&Request::Make(Make {
            runner: 1,
            keeper: 0,
            systemd,
            runner_id: 2,
            job_id: u64::MAX,
            decision: 3,
            account: "alice".to_owned(),
            order: b"order".to_vec(),
        }));
    }
    for process in [None, Some(4711), Some(-1)] {
        is_whole(&Request::Enter(group(), process));
    }
    is_whole(&Request::End(group(), 4101));
    is_whole(&Request::Remove(group()));
    is_whole(&Answer::Made(b"group".to_vec()));
    is_whole(&Answer::Entered(b"counters".to_vec(), vec![b"1\n".to_vec(), Vec::new()]));
    is_whole(&Answer::Ended(b"counters".to_vec(), vec![b"1\n".to_vec(), Vec::new()]));
    is_whole(&Answer::Done);
    is_whole(&Answer::Keeper);
    is_whole(&Answer::Trouble("why".to_owned()));
}

#[test]
fn another_version_is_no_message() {
    let mut bytes = (Version, Answer::Done).to_bytes();
    assert!(<(Version, Answer)>::from_bytes(&bytes).is_ok());
    bytes[0] += 1;
    assert!(<(Version, Answer)>::from_bytes(&bytes).is_err());
}
