//! Keys files, and the program that fetches them: here a shell.

use crate::Test;
use crate::machine::{ALICE, KEYS, PRIVILEGED, ROOT, RUNNER, UNPRIVILEGED, as_account, directory, write};
use nunbird_files::identity::Caller;
use nunbird_host::{Fetch, Here, Rights, System, Unfetched};
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) const ALL: &[Test] = &[
    ("a_keys_file_is_roots_or_the_directorys_owners", a_keys_file_is_roots_or_the_directorys_owners),
    ("a_keys_directory_of_the_runners_is_refused", a_keys_directory_of_the_runners_is_refused),
    (
        "the_program_runs_as_the_directorys_owner_and_with_nothing_else",
        the_program_runs_as_the_directorys_owner_and_with_nothing_else,
    ),
    (
        "the_output_of_a_program_that_fails_is_kept_within_bounds",
        the_output_of_a_program_that_fails_is_kept_within_bounds,
    ),
    (
        "a_program_that_is_late_or_prints_too_much_is_ended",
        a_program_that_is_late_or_prints_too_much_is_ended,
    ),
    ("nothing_is_fetched_as_root", nothing_is_fetched_as_root),
    (
        "an_admin_without_privilege_asks_as_itself_where_nothing_is_written",
        an_admin_without_privilege_asks_as_itself_where_nothing_is_written,
    ),
    (
        "without_privilege_nothing_runs_as_another_account_even_for_root",
        without_privilege_nothing_runs_as_another_account_even_for_root,
    ),
];

const DIRECTORY: &str = "/var/lib/nunbird/keys";
const FILE: &str = "/var/lib/nunbird/keys/main.json";

fn read() -> Result<Vec<u8>, String> {
    PRIVILEGED.keys_file(Path::new(DIRECTORY), "main.json")
}

fn a_keys_file_is_roots_or_the_directorys_owners() {
    assert!(read().expect_err("no directory above").starts_with("/var/lib/nunbird: cannot be opened"));
    directory("/var/lib/nunbird", ROOT, 0o755);
    assert!(read().expect_err("no directory").starts_with(&format!("{DIRECTORY}: ")));
    directory(DIRECTORY, KEYS, 0o755);
    assert!(read().expect_err("no file").contains("/var/lib/nunbird/keys/main.json: "));
    for owner in [KEYS, ROOT] {
        write(FILE, "{}", owner, 0o644);
        assert_eq!(read(), Ok(b"{}".to_vec()), "uid {}", owner.uid);
    }
    write(FILE, vec![b'x'; 1 << 20], KEYS, 0o644);
    assert_eq!(read().map(|bytes| bytes.len()), Ok(1 << 20));
    write(FILE, vec![b'x'; (1 << 20) + 1], KEYS, 0o644);
    let long = read().expect_err("too long");
    assert!(long.contains("run `nunbird-keys refresh`"), "{long}");
    write(FILE, "{}", ALICE, 0o644);
    assert_eq!(read(), Err(format!("{FILE}: owned by uid 4101; it must be root's or uid 990's")));
    for mode in [0o664, 0o646] {
        write(FILE, "{}", KEYS, mode);
        assert_eq!(read(), Err(format!("{FILE}: writable by others (mode {mode:04o})")));
    }
    as_account(RUNNER, || {
        assert!(read().expect_err("a keeper that this process cannot be").starts_with(FILE));
    });
}

fn a_keys_directory_of_the_runners_is_refused() {
    directory(DIRECTORY, RUNNER, 0o755);
    write(FILE, "{}", RUNNER, 0o644);
    assert_eq!(read(), Err(format!("{DIRECTORY}: belongs to the runner's account")));
    // A root runner's keys are root's.
    directory(DIRECTORY, ROOT, 0o755);
    write(FILE, "{}", ROOT, 0o644);
    let of_root = Here(Rights { caller: ROOT, ..PRIVILEGED.0 });
    assert_eq!(of_root.keys_file(Path::new(DIRECTORY), "main.json"), Ok(b"{}".to_vec()));
    // Without privilege they are the user's own.
    directory("/home/alice/keys", ALICE, 0o700);
    write("/home/alice/keys/main.json", "{}", ALICE, 0o600);
    as_account(ALICE, || {
        let own = UNPRIVILEGED.keys_file(Path::new("/home/alice/keys"), "main.json");
        assert_eq!(own, Ok(b"{}".to_vec()));
    });
    let others = PRIVILEGED.keys_file(Path::new("/home/alice/keys"), "main.json");
    assert!(others.expect_err("a directory above that is alice's").contains("owned by uid 4101"));
}

fn shell(script: &str) -> Fetch {
    Fetch {
        directory: DIRECTORY.into(),
        writes: true,
        program: PathBuf::from("/usr/bin/dash"),
        argv: vec![c"nunbird-keys".to_owned(), c"-c".to_owned(), CString::new(script).expect("a script")],
        input: None,
        limit: 6000,
        patience: Duration::from_secs(4),
    }
}

fn fetched(fetch: &Fetch, here: Here) -> String {
    String::from_utf8(here.fetch(fetch).expect("an answer")).expect("text")
}

const LOOK: &str = "grep -E '^(Uid|Gid|Groups|CapEff|NoNewPrivs|Cap.*):' /proc/self/status; \
    export -p | grep -v -E 'PWD'; cat; for fd in 0 1 2 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$fd ] && printf '%s ' $fd; done; cat /proc/self/oom_score_adj";

fn the_program_runs_as_the_directorys_owner_and_with_nothing_else() {
    directory(DIRECTORY, KEYS, 0o755);
    // Left open by mistake.
    let open = nix::fcntl::open("/etc/passwd", nix::fcntl::OFlag::O_RDONLY, nix::sys::stat::Mode::empty())
        .expect("a descriptor without close-on-exec");
    let said = fetched(&shell(LOOK), PRIVILEGED);
    let expected = [
        "Uid:\t990\t990\t990\t990",
        "Gid:\t991\t991\t991\t991",
        "CapEff:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "NoNewPrivs:\t1",
    ];
    for line in expected {
        assert!(said.lines().any(|one| one == line), "{line}: {said}");
    }
    assert!(said.lines().any(|line| line.trim_end() == "Groups:"), "{said}");
    assert!(
        said.ends_with("0 1 2 1000\n"),
        "standard descriptors, first for the out-of-memory killer: {said}"
    );
    drop(open);
    let input = Fetch { input: Some(b"the token".to_vec()), ..shell("cat") };
    assert_eq!(fetched(&input, PRIVILEGED), "the token");
    assert_eq!(fetched(&shell("ulimit -v"), PRIVILEGED), "262144\n");
}

fn the_output_of_a_program_that_fails_is_kept_within_bounds() {
    directory(DIRECTORY, KEYS, 0o755);
    let why = |script: &str| {
        let Unfetched { possible, why } = PRIVILEGED.fetch(&shell(script)).expect_err(script);
        assert!(possible, "{script}");
        why
    };
    assert_eq!(why("echo out; echo err >&2; exit 1"), "out\nerr");
    assert_eq!(why("kill -KILL $$"), "");
    assert_eq!(why("n=0; while [ $((n += 1)) -le 5000 ]; do printf x; done; exit 1").len(), 4096);
    let missing = Fetch { program: PathBuf::from("/usr/bin/nbt-gone"), ..shell("") };
    let missing = PRIVILEGED.fetch(&missing).expect_err("no program");
    assert!(missing.possible && missing.why.contains("/usr/bin/nbt-gone"), "{}", missing.why);
    as_account(RUNNER, || {
        let refused = PRIVILEGED.fetch(&shell("true")).expect_err("no privilege");
        assert!(refused.possible, "{}", refused.why);
    });
}

fn a_program_that_is_late_or_prints_too_much_is_ended() {
    directory(DIRECTORY, KEYS, 0o755);
    let began = Instant::now();
    let late =
        Fetch { patience: Duration::from_millis(300), ..shell("sleep 100 <&- >&- 2>&- & echo $$; wait") };
    let refused = PRIVILEGED.fetch(&late).expect_err("late");
    assert!(
        refused.possible && refused.why.starts_with("nunbird-keys did not end in time: "),
        "{}",
        refused.why
    );
    assert!(began.elapsed() < Duration::from_secs(4), "it was ended, not waited for");
    let much = Fetch { limit: 10, ..shell("printf 0123456789a") };
    assert!(
        PRIVILEGED.fetch(&much).expect_err("too much").why.starts_with("nunbird-keys did not end in time")
    );
    assert_eq!(fetched(&Fetch { limit: 10, ..shell("printf 0123456789") }, PRIVILEGED), "0123456789");
    // It ends by itself, where nobody ends it.
    let ends = Fetch { patience: Duration::from_secs(60), ..shell("exec sleep 50") };
    let began = Instant::now();
    assert_eq!(PRIVILEGED.fetch(&ends).expect_err("its own end").why, "");
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
}

fn nothing_is_fetched_as_root() {
    directory(DIRECTORY, ROOT, 0o755);
    let refused = PRIVILEGED.fetch(&shell("true")).expect_err("root's");
    assert!(!refused.possible && refused.why.contains("nothing is ever fetched as root"), "{}", refused.why);
    let refused = PRIVILEGED.fetch(&Fetch { writes: false, ..shell("true") }).expect_err("root's");
    assert!(!refused.possible, "{}", refused.why);
    directory(DIRECTORY, RUNNER, 0o755);
    let refused = PRIVILEGED.fetch(&shell("true")).expect_err("the runner's");
    assert!(refused.possible && refused.why.contains("belongs to the runner's account"), "{}", refused.why);
}

fn an_admin_without_privilege_asks_as_itself_where_nothing_is_written() {
    directory(DIRECTORY, KEYS, 0o755);
    let asks = Fetch { writes: false, ..shell("id -u") };
    as_account(ALICE, || {
        assert_eq!(fetched(&asks, UNPRIVILEGED), "4101\n");
        let writes = UNPRIVILEGED.fetch(&shell("id -u")).expect_err("another account's directory");
        assert!(writes.possible, "{}", writes.why);
        // An admin who looks what the privileged program would do.
        let admin = Here(Rights { privileged: true, keeper: ALICE, ..UNPRIVILEGED.0 });
        assert_eq!(fetched(&asks, admin), "4101\n");
    });
    let keys = Caller { uid: KEYS.uid, gid: KEYS.gid };
    assert_eq!(fetched(&asks, PRIVILEGED), format!("{}\n", keys.uid));
}

/// Root explains the configuration of a runner without privilege, which names a directory of somebody else's.
fn without_privilege_nothing_runs_as_another_account_even_for_root() {
    let root = Here(Rights { can_change_user: true, ..UNPRIVILEGED.0 });
    directory("/home/alice", ALICE, 0o755);
    directory("/home/alice/keys", ALICE, 0o755);
    let of = |path: &str| Fetch { directory: path.into(), ..shell("id -u; id -g") };
    assert_eq!(fetched(&of("/home/alice/keys"), root), "4101\n4101\n");
    for (path, owner) in [("/home/bob", Caller { uid: 4102, gid: 4102 }), (DIRECTORY, KEYS)] {
        directory(path, owner, 0o755);
        let refused = root.fetch(&of(path)).expect_err(path);
        assert!(
            refused
                .why
                .contains("writes as the runner's account alone: set `keys_dir` to a directory of uid 4101"),
            "{}",
            refused.why
        );
    }
    // A group of somebody else's is not the runner's either.
    directory("/home/alice/keys", Caller { uid: 4101, gid: 6 }, 0o755);
    assert_eq!(fetched(&of("/home/alice/keys"), root), "4101\n4101\n");
}
