use super::{
    Failure, Ids, become_shepherd, become_user, become_user_with_keyring, stay_user,
    stay_user_with_new_keyring,
};
use nunbird_sys::capabilities::Capabilities;
use nunbird_sys::kernel::Kernel;
use std::io;

/// A kernel that remembers what was asked, and can be set to lie or to refuse.
struct Recorder {
    calls: Vec<String>,
    uids: [u32; 3],
    gids: [u32; 3],
    groups: Vec<u32>,
    capabilities: Capabilities,
    ambient: u32,
    /// A call that fails.
    broken: Option<&'static str>,
    /// A call that succeeds and does nothing.
    idle: Option<&'static str>,
    /// How the call that fails does.
    error: io::ErrorKind,
}

const CAP_SETUID: u64 = 1 << 7;

impl Recorder {
    /// As in a program with file capabilities: neither id is root's, which is the harder case.
    fn with_file_capabilities() -> Self {
        let held = Capabilities { effective: CAP_SETUID, permitted: CAP_SETUID, inheritable: 0 };
        Recorder {
            calls: Vec::new(),
            uids: [4001; 3],
            gids: [4001; 3],
            groups: vec![4001, 27],
            capabilities: held,
            ambient: 1,
            broken: None,
            idle: None,
            error: io::ErrorKind::PermissionDenied,
        }
    }

    fn call(&mut self, name: &'static str, arguments: String) -> io::Result<bool> {
        self.calls.push(format!("{name}{arguments}"));
        if self.broken == Some(name) {
            return Err(self.error.into());
        }
        Ok(self.idle != Some(name))
    }

    fn may_become(&self, current: [u32; 3], wanted: [u32; 3]) -> bool {
        let able = self.capabilities.effective & CAP_SETUID != 0;
        able || wanted.iter().all(|id| *id == u32::MAX || current.contains(id))
    }
}

fn merge(current: [u32; 3], wanted: [u32; 3]) -> [u32; 3] {
    let pick = |i: usize| if wanted[i] == u32::MAX { current[i] } else { wanted[i] };
    [pick(0), pick(1), pick(2)]
}

impl Kernel for Recorder {
    fn set_groups(&mut self, groups: &[u32]) -> io::Result<()> {
        if self.call("setgroups", format!("{groups:?}"))? {
            self.groups = groups.to_vec();
        }
        Ok(())
    }

    fn set_gids(&mut self, r: u32, e: u32, s: u32) -> io::Result<()> {
        let does = self.call("setresgid", format!("({r}, {e}, {s})"))?;
        if !self.may_become(self.gids, [r, e, s]) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if does {
            self.gids = merge(self.gids, [r, e, s]);
        }
        Ok(())
    }

    fn set_uids(&mut self, r: u32, e: u32, s: u32) -> io::Result<()> {
        let does = self.call("setresuid", format!("({r}, {e}, {s})"))?;
        if !self.may_become(self.uids, [r, e, s]) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if does {
            self.uids = merge(self.uids, [r, e, s]);
        }
        Ok(())
    }

    fn clear_capabilities(&mut self) -> io::Result<()> {
        if self.call("capset", String::new())? {
            self.capabilities = Capabilities::EMPTY;
        }
        Ok(())
    }

    fn clear_ambient(&mut self) -> io::Result<()> {
        if self.call("ambient", String::new())? {
            self.ambient = 0;
        }
        Ok(())
    }

    fn new_session_keyring(&mut self) -> io::Result<()> {
        self.call("keyring", String::new()).map(|_| ())
    }

    fn uids(&mut self) -> io::Result<[u32; 3]> {
        Ok(self.uids)
    }

    fn gids(&mut self) -> io::Result<[u32; 3]> {
        Ok(self.gids)
    }

    fn groups(&mut self) -> io::Result<Vec<u32>> {
        Ok(self.groups.clone())
    }

    fn capabilities(&mut self) -> io::Result<Capabilities> {
        Ok(self.capabilities)
    }

    fn ambient_count(&mut self) -> io::Result<u32> {
        Ok(self.ambient)
    }
}

fn alice() -> Ids {
    Ids { uid: 5001, gid: 5002, groups: vec![5002, 6000, 6001] }
}

fn surrender(kernel: &mut Recorder) -> Result<(), Failure> {
    become_user(kernel, &alice())
}

#[test]
fn groups_go_before_gid_before_uid_before_capabilities_and_then_all_is_proven() {
    let mut kernel = Recorder::with_file_capabilities();
    surrender(&mut kernel).unwrap();
    assert_eq!(
        kernel.calls,
        [
            "setgroups[5002, 6000, 6001]",
            "setresgid(5002, 5002, 5002)",
            "setresuid(5001, 5001, 5001)",
            "capset",
            "ambient",
            "keyring",
            "setresuid(4294967295, 0, 4294967295)",
            "setresgid(4294967295, 0, 4294967295)",
            "setresuid(4294967295, 4001, 4294967295)",
        ]
    );
}

#[test]
fn a_step_that_fails_ends_the_surrender() {
    for step in ["setgroups", "setresgid", "setresuid", "capset", "ambient", "keyring"] {
        let mut kernel = Recorder { broken: Some(step), ..Recorder::with_file_capabilities() };
        let before = kernel.calls.len();
        assert!(surrender(&mut kernel).is_err(), "{step}");
        assert!(kernel.calls.last().unwrap().starts_with(step), "{step}: {:?}", &kernel.calls[before..]);
    }
}

#[test]
fn a_step_that_only_pretends_is_found_out() {
    for (step, word) in [
        ("setgroups", "groups"),
        ("setresgid", "gid"),
        ("setresuid", "uid"),
        ("capset", "capability"),
        ("ambient", "ambient"),
    ] {
        let mut kernel = Recorder { idle: Some(step), ..Recorder::with_file_capabilities() };
        let failure = surrender(&mut kernel).unwrap_err();
        assert!(failure.step.contains(word), "{step}: {failure}");
    }
}

#[test]
fn root_is_refused_even_where_everything_says_yes() {
    for ids in [Ids { uid: 0, ..alice() }, Ids { gid: 0, ..alice() }] {
        let mut kernel = Recorder::with_file_capabilities();
        let failure = become_user(&mut kernel, &ids).unwrap_err();
        assert_eq!(failure.step, "a job is never root's", "{ids:?}");
    }
}

#[test]
fn the_shepherd_keeps_the_runners_ids_but_the_users_effective_one() {
    let mut kernel = Recorder::with_file_capabilities();
    become_shepherd(&mut kernel, 4001, 4001, 5001).unwrap();
    assert_eq!(kernel.uids, [4001, 5001, 4001]);
    assert_eq!(kernel.groups, Vec::<u32>::new());
    assert_eq!(kernel.capabilities, Capabilities::EMPTY);
    for step in ["setgroups", "setresuid", "capset"] {
        let mut kernel = Recorder { broken: Some(step), ..Recorder::with_file_capabilities() };
        assert!(become_shepherd(&mut kernel, 4001, 4001, 5001).is_err(), "{step}");
    }
}

#[test]
fn a_keyring_that_pam_made_stays_and_everything_else_goes() {
    let mut kernel = Recorder::with_file_capabilities();
    become_user_with_keyring(&mut kernel, &alice()).unwrap();
    assert!(!kernel.calls.iter().any(|call| call == "keyring"), "{:?}", kernel.calls);
    assert_eq!((kernel.uids, kernel.capabilities), ([alice().uid; 3], Capabilities::EMPTY));
    for step in ["setgroups", "setresuid", "capset"] {
        let mut kernel = Recorder { idle: Some(step), ..Recorder::with_file_capabilities() };
        assert!(become_user_with_keyring(&mut kernel, &alice()).is_err(), "{step}");
    }
}

#[test]
fn a_kernel_without_keyrings_has_none_to_inherit_and_any_other_trouble_with_them_is_trouble() {
    for (error, surrendered) in [(io::ErrorKind::Unsupported, true), (io::ErrorKind::PermissionDenied, false)]
    {
        let mut kernel = Recorder { broken: Some("keyring"), error, ..Recorder::with_file_capabilities() };
        assert_eq!(become_user(&mut kernel, &alice()).is_ok(), surrendered, "{error}");
    }
}

/// As a user who may do nothing, but whose process has got a capability from somewhere.
fn as_alice() -> Recorder {
    Recorder {
        uids: [alice().uid; 3],
        gids: [alice().gid; 3],
        groups: alice().groups,
        ..Recorder::with_file_capabilities()
    }
}

#[test]
fn who_stays_the_user_gives_up_every_capability_and_proves_it() {
    let Ids { uid, gid, .. } = alice();
    let stays = [(stay_user as fn(&mut Recorder, u32, u32) -> _, false), (stay_user_with_new_keyring, true)];
    for (stay, keyring) in stays {
        let mut kernel = as_alice();
        stay(&mut kernel, uid, gid).unwrap();
        assert_eq!((kernel.capabilities, kernel.ambient), (Capabilities::EMPTY, 0));
        assert_eq!(kernel.calls.iter().any(|call| call == "keyring"), keyring, "{:?}", kernel.calls);
        for step in ["capset", "ambient"] {
            let mut kernel = Recorder { broken: Some(step), ..as_alice() };
            assert!(stay(&mut kernel, uid, gid).is_err(), "{step}");
            let mut kernel = Recorder { idle: Some(step), ..as_alice() };
            assert!(stay(&mut kernel, uid, gid).is_err(), "{step}");
        }
        for (uid, gid) in [(uid + 1, gid), (uid, gid + 1), (0, gid)] {
            assert!(stay(&mut as_alice(), uid, gid).is_err(), "{uid} {gid}");
        }
    }
    let mut kernel = Recorder { broken: Some("keyring"), ..as_alice() };
    assert!(stay_user_with_new_keyring(&mut kernel, uid, gid).is_err());
}
