//! The accounts of the private system: ordinary ones and every kind that must never run a job.

use super::enter::Ids;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

/// Group of those who may execute the setuid program.
pub const RUNNER_GID: u32 = 4001;

/// One line of passwd and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Home directory, as the machine sees it.
    pub home: String,
    /// Login shell.
    pub shell: String,
    /// Whether the home directory exists (mode 0700).
    pub has_home: bool,
}

impl Account {
    /// An ordinary account: a group of its own, a home in `/home`, bash.
    pub fn new(name: &str, uid: u32) -> Self {
        Account {
            name: name.to_owned(),
            uid,
            gid: uid,
            groups: Vec::new(),
            home: format!("/home/{name}"),
            shell: "/bin/bash".to_owned(),
            has_home: true,
        }
    }

    /// Its ids.
    pub fn ids(&self) -> Ids {
        let mut groups = vec![self.gid];
        groups.extend(&self.groups);
        Ids { uid: self.uid, gid: self.gid, groups }
    }
}

/// The accounts that every machine has.
///
/// | name | what |
/// |---|---|
/// | `alice` 4101, `bob` 4102, `ada` 4103 | ordinary users; alice and ada are in group `lattice` (4200) |
/// | `nbt_runner` 4001 | runs gitlab-runner, where that is not root |
/// | `nunbird` 990 | owns the keys directory |
/// | `daisy` 4110 | login shell `/usr/sbin/nologin` |
/// | `rootalias` 0 | another name of uid 0 |
/// | `queue` 901 | an account of the system, below `min_uid` |
/// | `homeless` 4111 | its home directory does not exist |
/// | `twin` 4101 | shares alice's uid |
/// | `wheely` 4112 | a member of group 0 |
/// | `gidzero` 4113 | its primary group is 0 |
/// | `dollar` 4114 | its home is `/home/$(id)` |
/// | `nobody` 65534, `root` 0 | the system's |
pub(super) fn standard() -> Vec<Account> {
    let lattice = |mut account: Account| {
        account.groups.push(4200);
        account
    };
    let daemon = |name: &str, uid, home: &str| Account {
        home: home.to_owned(),
        shell: "/usr/sbin/nologin".to_owned(),
        has_home: false,
        ..Account::new(name, uid)
    };
    vec![
        Account { home: "/root".to_owned(), has_home: false, ..Account::new("root", 0) },
        daemon("daemon", 1, "/usr/sbin"),
        daemon("nobody", 65534, "/nonexistent"),
        daemon("nunbird", 990, "/var/lib/nunbird"),
        Account { gid: RUNNER_GID, ..Account::new("nbt_runner", 4001) },
        lattice(Account::new("alice", 4101)),
        Account::new("bob", 4102),
        lattice(Account::new("ada", 4103)),
        Account { shell: "/usr/sbin/nologin".to_owned(), ..Account::new("daisy", 4110) },
        Account { has_home: false, ..Account::new("rootalias", 0) },
        Account::new("queue", 901),
        Account { has_home: false, ..Account::new("homeless", 4111) },
        Account { has_home: false, gid: 4101, ..Account::new("twin", 4101) },
        Account { groups: vec![0], ..Account::new("wheely", 4112) },
        Account { gid: 0, ..Account::new("gidzero", 4113) },
        Account { home: "/home/$(id)".to_owned(), ..Account::new("dollar", 4114) },
    ]
}

/// Writes passwd, group, shadow and nsswitch.conf into `etc`, and makes the homes below `home`.
pub(super) fn write(accounts: &[Account], etc: &Path, home: &Path) {
    let (mut passwd, mut shadow) = (String::new(), String::new());
    let mut groups = vec![
        ("root".to_owned(), 0, Vec::new()),
        ("gitlab-runner".to_owned(), RUNNER_GID, vec!["nbt_runner"]),
        ("lattice".to_owned(), 4200, Vec::new()),
    ];
    for account in accounts {
        let Account { name, uid, gid, home, shell, .. } = account;
        writeln!(passwd, "{name}:x:{uid}:{gid}::{home}:{shell}").expect("text");
        writeln!(shadow, "{name}:*:20000:0:99999:7:::").expect("text");
        if groups.iter().all(|(_, known, _)| known != gid) {
            groups.push((name.clone(), *gid, Vec::new()));
        }
        for group in &mut groups {
            if account.groups.contains(&group.1) {
                group.2.push(name);
            }
        }
    }
    let mut group = String::new();
    for (name, gid, members) in groups {
        writeln!(group, "{name}:x:{gid}:{}", members.join(",")).expect("text");
    }
    let nsswitch = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n".to_owned();
    for (file, text, mode) in [
        ("passwd", passwd, 0o644),
        ("group", group, 0o644),
        ("shadow", shadow, 0o600),
        ("nsswitch.conf", nsswitch, 0o644),
    ] {
        let path = etc.join(file);
        fs::write(&path, text).expect("a file of the user database");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
    }
    for account in accounts.iter().filter(|account| account.has_home) {
        let name = account.home.strip_prefix("/home/").expect("homes lie in /home");
        let path = home.join(name);
        if !path.exists() {
            fs::create_dir(&path).expect("a home directory");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("a mode");
            chown(&path, Some(account.uid), Some(account.gid)).expect("an owner");
        }
    }
}
