//! Slurms with more than the plain one has: accounting in a MariaDB of their own, or control groups that enforce memory.

use super::Slurm;
use super::release::Release;
use nix::unistd::{User, chown};
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where this kind of host keeps the control groups of version 1.
const MEMORY: &str = "/sys/fs/cgroup/memory";

/// What a Slurm has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    /// Timeouts for an overloaded host, where Slurm would otherwise give up jobs whose start it
    /// does not notice.
    Patient,
    /// slurmdbd and MariaDB. All accounts of the bed may use the account `science`.
    Accounting,
    /// `proctrack/cgroup` and `task/cgroup`.
    Groups,
    /// Memory is limited without cgroups, by Slurm's own sampling each second (`OverMemoryKill`).
    OverMemoryKill,
}

impl Slurm {
    /// Starts one for more jobs at once than the host has room for.
    ///
    /// # Panics
    /// As [`Slurm::start`].
    pub fn patient() -> Slurm {
        Self::start_kind(Kind::Patient)
    }

    /// Starts one with accounting.
    ///
    /// # Panics
    /// As [`Slurm::start`].
    pub fn with_accounting() -> Slurm {
        Self::start_kind(Kind::Accounting)
    }

    /// Starts one that enforces memory limits; none, and the test is on the list of skipped
    /// tests, where the host has no control groups of version 1 to do it with.
    ///
    /// # Panics
    /// As [`Slurm::start`].
    #[track_caller]
    pub fn with_groups() -> Option<Slurm> {
        if !Path::new(MEMORY).join("memory.limit_in_bytes").exists() {
            nunbird_skip::skip!("no {MEMORY}, so that nothing here enforces memory limits");
        }
        Some(Self::start_kind(Kind::Groups))
    }

    /// Starts one that ends jobs with too much memory by itself, without control groups.
    ///
    /// # Panics
    /// As [`Slurm::start`].
    pub fn over_memory_kill() -> Slurm {
        Self::start_kind(Kind::OverMemoryKill)
    }

    /// Names of the nodes. Control groups are the host's, so their names are of this process and bed.
    pub(super) fn nodes(&self) -> [String; 2] {
        match self.kind {
            Kind::Plain | Kind::Patient | Kind::Accounting | Kind::OverMemoryKill => {
                ["n1".to_owned(), "n2".to_owned()]
            }
            Kind::Groups => [1, 2].map(|n| format!("nbt{}p{n}", self.ports[0])),
        }
    }

    /// Lines of `slurm.conf`.
    pub(super) fn lines_of_kind(&self) -> String {
        let at = self.path("");
        let at = at.display();
        let mut text = match self.kind {
            Kind::Groups => "ProctrackType=proctrack/cgroup\nTaskPlugin=task/cgroup\n".to_owned(),
            _ => "ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n".to_owned(),
        };
        text.push_str(match self.kind {
            Kind::Patient => "MessageTimeout=60\nBatchStartTimeout=120\n",
            _ => "MessageTimeout=5\n",
        });
        if self.kind == Kind::OverMemoryKill {
            text.push_str("JobAcctGatherParams=OverMemoryKill\nJobAcctGatherFrequency=1\n");
        }
        match self.kind {
            Kind::Accounting => write!(
                text,
                "AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=localhost\n\
                 AccountingStoragePort={}\nAccountingStoragePass={at}munge/sock\nAccountingStorageEnforce=associations,limits\n",
                self.ports[3]
            )
            .expect("text"),
            _ => text.push_str("AccountingStorageType=accounting_storage/none\n"),
        }
        text
    }

    /// What `cgroup.conf` says.
    pub(super) fn groups_of_kind(&self) -> &'static str {
        match (self.kind, self.release) {
            (Kind::Groups, _) => {
                "CgroupMountpoint=/sys/fs/cgroup\nCgroupPlugin=cgroup/v1\nCgroupAutomount=no\nConstrainRAMSpace=yes\n\
                 ConstrainSwapSpace=no\n"
            }
            (_, Release::Host) => "CgroupMountpoint=/sys/fs/cgroup\n",
            // Later ones look for control groups of version 2 even where nothing is to use them.
            (_, Release::Trixie | Release::Sid) => "CgroupPlugin=disabled\n",
        }
    }

    /// Starts MariaDB, which listens on a socket alone, and slurmdbd, and makes the accounts known.
    pub(super) fn start_accounting(&self) {
        let data = self.path("mysql");
        fs::create_dir(&data).expect("a directory");
        let mysql = User::from_name("mysql").expect("the user database").expect("the account mysql");
        chown(&data, Some(mysql.uid), Some(mysql.gid)).expect("an owner");
        let at = data.display();
        let made = self.admin(&format!(
            "mariadb-install-db --no-defaults --user=mysql --datadir={at}/data --skip-test-db \
             --auth-root-authentication-method=socket >{at}.log 2>&1 && echo made"
        ));
        assert_eq!(made, "made\n", "{}", fs::read_to_string(self.path("mysql.log")).unwrap_or_default());
        self.daemon(
            "mariadbd",
            &format!(
                "mariadbd --no-defaults --user=mysql --datadir={at}/data --socket={at}/sock --pid-file={at}/pid --skip-networking \
                 --innodb-buffer-pool-size=64M --innodb-flush-log-at-trx-commit=0 --innodb-lock-wait-timeout=900"
            ),
        );
        let sql = |text: &str| self.admin(&format!("mariadb -S {at}/sock -e \"{text}\" && echo done"));
        self.wait_for("MariaDB", || sql("select 1").contains("done"));
        let made = sql("create database slurm_acct; create user slurm@localhost identified by 'x'; \
             grant all on slurm_acct.* to slurm@localhost");
        assert!(made.contains("done"), "{made}");
        self.write_slurmdbd();
        self.daemon("slurmdbd", &format!("env MYSQL_UNIX_PORT={at}/sock slurmdbd -D"));
        self.wait_for("slurmdbd", || {
            self.admin("timeout 5 sacctmgr -n list cluster && echo done").contains("done")
        });
        let users = Self::users().join(",");
        let made = self.admin(&format!(
            "sacctmgr -iQ add cluster nbt; sacctmgr -iQ add account science cluster=nbt && \
             sacctmgr -iQ add user {users} account=science cluster=nbt && echo done"
        ));
        assert!(made.contains("done"), "{made}");
    }

    fn write_slurmdbd(&self) {
        let at = self.path("");
        let at = at.display();
        let text = format!(
            "AuthType=auth/munge\nAuthInfo=socket={at}munge/sock\nDbdHost=localhost\nDbdPort={}\nSlurmUser=root\n\
             PidFile={at}spool/slurmdbd.pid\nStorageType=accounting_storage/mysql\nStorageHost=localhost\nStorageUser=slurm\n\
             StoragePass=x\nStorageLoc=slurm_acct\n",
            self.ports[3]
        );
        // Beside slurm.conf, private to its user, or slurmdbd does not start.
        let path = self.path("etc/slurmdbd.conf");
        fs::write(&path, text).expect("a configuration");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    }

    /// Removes what control groups the nodes left; all processes are gone.
    pub(super) fn remove_groups(&self) {
        if self.kind != Kind::Groups {
            return;
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            for node in self.nodes() {
                remove_group(&hierarchy.path().join(format!("slurm_{node}")));
            }
        }
    }
}

/// Control groups are removed from the leaves on; their files go with them.
fn remove_group(path: &PathBuf) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path());
        }
    }
    // ENOENT: this hierarchy has none.
    drop(fs::remove_dir(path));
}
