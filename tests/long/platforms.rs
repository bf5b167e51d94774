//! The programs that `make cross` builds, for other architectures and for the C library of RHEL 8, and their packages: what they need
//! of a host; that each program starts and says what this host's says, by user-mode emulation; and that the packages install and run
//! whole jobs, in emulated machines with a kernel of the architecture. By `make test-platforms`.

#![forbid(unsafe_code)]

use nunbird_tests::host::emulated::{AARCH64, Architecture, Emulated, PPC64LE, as_words};
use nunbird_tests::needs;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const PROGRAMS: [&str; 11] = [
    "nunbird-auth",
    "nunbird-compliance",
    "nunbird-decide",
    "nunbird",
    "nunbird-exec",
    "nunbird-keys",
    "nunbird-limits",
    "nunbird-machine",
    "nunbird-session",
    "nunbird-validate",
    "nunbirdctl",
];
/// What RHEL 8 has.
const GLIBC: (u32, u32) = (2, 28);

struct Platform {
    name: &'static str,
    /// Debian's name.
    debian: &'static str,
    /// As readelf(1) names it.
    machine: &'static str,
    /// As file(1) names it, and so rpm.
    class: &'static str,
    /// Runs its programs, and where the libraries of its C library are.
    emulator: Option<(&'static str, &'static str)>,
}

const PLATFORMS: [Platform; 3] = [
    Platform { name: "x86_64", debian: "amd64", machine: "X86-64", class: "x86-64", emulator: None },
    Platform {
        name: "aarch64",
        debian: "arm64",
        machine: "AArch64",
        class: "ARM aarch64",
        emulator: Some(("qemu-aarch64-static", "/usr/aarch64-linux-gnu")),
    },
    Platform {
        name: "ppc64le",
        debian: "ppc64el",
        machine: "PowerPC64",
        class: "64-bit PowerPC",
        emulator: Some(("qemu-ppc64le-static", "/usr/powerpc64le-linux-gnu")),
    },
];

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tree").to_owned()
}

impl Platform {
    fn program(&self, name: &str) -> PathBuf {
        let path = tree().join("target/platforms").join(self.name).join(name);
        assert!(path.exists(), "{} is missing: `make test-platforms` builds it", path.display());
        path
    }

    /// The words that start a program of this platform's.
    fn start(&self, name: &str) -> Vec<String> {
        let program = self.program(name).display().to_string();
        let Some((emulator, libraries)) = self.emulator else { return vec![program] };
        let link = tree().join("target/platforms").join(self.name).join("link");
        // The library that is there to be linked against is enough to load the program.
        let library = link.join("libpam.so.0");
        if !library.exists() {
            fs::hard_link(link.join("libpam.so"), &library).expect("a link");
        }
        let path = format!("LD_LIBRARY_PATH={}", link.display());
        vec![emulator.into(), "-L".into(), libraries.into(), "-E".into(), path, program]
    }

    fn output(&self, name: &str, arguments: &[&str]) -> Output {
        output(&self.start(name), arguments)
    }
}

fn output(words: &[String], arguments: &[&str]) -> Output {
    let (program, first) = words.split_first().expect("a program");
    let mut command = Command::new(program);
    command.args(first).args(arguments).env_clear().env("PATH", "/usr/bin:/bin").current_dir(tree());
    command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{words:?}: {e}"))
}

/// What this host's program does, from the programs that the other tests install.
fn of_host(name: &str, arguments: &[&str]) -> Output {
    let programs = std::env::var("NUNBIRD_BIN_DIR").expect("NUNBIRD_BIN_DIR, which make sets");
    output(&[Path::new(&programs).join(name).display().to_string()], arguments)
}

fn readelf(option: &str, program: &Path) -> String {
    let output = Command::new("readelf").args(["--wide", option]).arg(program).output().expect("readelf");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Versions of the C library among `Name: GLIBC_2.17  Flags: none  Version: 5`.
fn versions(text: &str) -> Vec<(u32, u32)> {
    let names = text.lines().filter_map(|line| line.split_once("Name: GLIBC_")?.1.split_whitespace().next());
    let version = |name: &str| {
        let mut numbers = name.split('.').map(|number| number.parse::<u32>().expect("a number"));
        (numbers.next().expect("a number"), numbers.next().expect("a number"))
    };
    names.map(version).collect()
}

#[test]
fn no_program_needs_a_newer_c_library_than_rhel_8_has_and_no_library_but_it_and_libpam() {
    for platform in &PLATFORMS {
        for name in PROGRAMS {
            let program = platform.program(name);
            let what = format!("{name} of {}", platform.name);
            let header = readelf("--file-header", &program);
            let machine = header.lines().find(|line| line.contains("Machine:")).expect("a machine");
            assert!(machine.ends_with(platform.machine), "{what}: {machine}");
            let needed = versions(&readelf("--version-info", &program));
            assert!(!needed.is_empty(), "{what}");
            assert!(needed.iter().all(|version| *version <= GLIBC), "{what}: {needed:?}");
            let dynamic = readelf("--dynamic", &program);
            let libraries = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
            let libraries = libraries.filter_map(|line| line.split_once('[')?.1.strip_suffix(']'));
            for library in libraries {
                let is_libc = ["libc", "libdl", "libm", "libpthread", "librt", "libutil", "ld-linux", "ld64"]
                    .iter()
                    .any(|known| library.split('.').next().is_some_and(|own| own.starts_with(known)));
                let is_pam = name == "nunbird-session" && library == "libpam.so.0";
                assert!(is_libc || is_pam, "{what}: {library}");
            }
        }
    }
}

#[test]
fn a_version_is_read_and_compared_as_numbers() {
    let text = "  0x0010:   Name: GLIBC_2.4  Flags: none  Version: 3\n  0x0020:   Name: GLIBC_2.17  Flags: none  Version: 2\n";
    assert_eq!(versions(text), [(2, 4), (2, 17)]);
    assert!((2, 4) < GLIBC && (2, 28) <= GLIBC && (2, 34) > GLIBC && (3, 0) > GLIBC);
}

#[test]
fn every_program_starts_and_says_what_the_hosts_says() {
    let policy = "packaging/config.toml";
    let claims =
        ["explain", "--config", policy, "--claims", "user_login=ada", "--claims", "project_path=lab/code"];
    for platform in &PLATFORMS {
        let mut calls: Vec<(&str, Vec<&str>)> = vec![
            ("nunbird-auth", vec!["--version"]),
            ("nunbird-auth", vec!["--help"]),
            ("nunbird-auth", vec!["config", "surplus"]),
            ("nunbird-compliance", vec!["--version"]),
            ("nunbird", vec!["--version"]),
            ("nunbird", vec![]),
            ("nunbird-keys", vec!["--version"]),
            ("nunbird-keys", vec!["refresh", "--config", "/nonexistent"]),
            ("nunbirdctl", vec!["--version"]),
            ("nunbirdctl", vec!["schema"]),
            ("nunbirdctl", vec!["show", "--config", policy]),
            ("nunbirdctl", claims.to_vec()),
        ];
        calls.extend(
            ["nunbird-decide", "nunbird-limits", "nunbird-session", "nunbird-validate"]
                .map(|name| (name, vec![])),
        );
        for (name, arguments) in calls {
            let (own, host) = (platform.output(name, &arguments), of_host(name, &arguments));
            assert_eq!(own, host, "{name} {arguments:?} of {}", platform.name);
            assert!(own.status.code().is_some(), "{name} {arguments:?}");
            if arguments == ["--version"] {
                assert!(own.status.success() && !own.stdout.is_empty(), "{own:?}");
            }
        }
    }
}

/// How nunbird-auth gets its privilege in a package, and how stat(1) and getcap(8) show that.
const PRIVILEGES: [(&str, &str, &str); 2] = [
    ("nunbird", "setuid bit", "4750 root:gitlab-runner "),
    ("nunbird-caps", "file capabilities", "750 root:gitlab-runner cap_setgid,cap_setuid=p"),
];

/// Both packages of both kinds, of the programs of a platform, below `to`.
fn packages(platform: &Platform, to: &Path) {
    let programs = platform.program("nunbird").parent().expect("a directory").to_owned();
    // Fast to pack: what is in the packages is what counts here.
    let calls: [(&str, &[&str]); 2] =
        [("rpm/build.sh", &["--", "--define", "_binary_payload w1.gzdio"]), ("packaging/deb/build.sh", &[])];
    for (script, last) in calls {
        let mut build = Command::new(tree().join(script));
        build.args(["--arch", platform.name, "--prebuilt"]).arg(&programs).arg("--out").arg(to).args(last);
        let output = build.env("DEB_COMPRESSION", "gzip").output().expect("a shell");
        assert!(output.status.success(), "{script}: {output:?}");
    }
}

fn said(program: &str, arguments: &[&str], file: &Path) -> String {
    let output = Command::new(program).args(arguments).arg(file).output().expect("a program of packages");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn file_of(directory: &Path, name: &str, separator: char, suffix: &str) -> PathBuf {
    let files = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    let is_it = |path: &PathBuf| {
        let file = path.file_name().and_then(|name| name.to_str()).expect("text");
        let version = file.strip_prefix(name).and_then(|rest| rest.strip_prefix(separator));
        version.is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()))
            && file.ends_with(suffix)
    };
    files.into_iter().find(is_it).unwrap_or_else(|| panic!("no package {name} {suffix}"))
}

#[test]
fn packages_are_of_the_programs_architecture_and_require_the_c_library_of_rhel_8() {
    for platform in &PLATFORMS {
        let directory = tempfile::Builder::new().prefix("nbt_packages_").tempdir().expect("a directory");
        packages(platform, directory.path());
        for (name, _, _) in PRIVILEGES {
            let rpm = file_of(directory.path(), name, '-', &format!(".{}.rpm", platform.name));
            assert_eq!(said("rpm", &["-qp", "--queryformat", "%{ARCH}"], &rpm), platform.name);
            let classes = said("rpm", &["-qp", "--queryformat", "[%{FILECLASS} %{FILENAMES}\n]"], &rpm);
            let programs: Vec<&str> = classes.lines().filter(|line| line.starts_with("ELF ")).collect();
            assert_eq!(programs.len(), PROGRAMS.len(), "{classes}");
            assert!(programs.iter().all(|line| line.contains(platform.class)), "{programs:?}");
            let required = said("rpm", &["-qp", "--requires"], &rpm);
            assert!(required.contains("libc.so.6(GLIBC_2.28)(64bit)"), "{required}");
            let newest = required.lines().filter_map(|line| line.split_once("(GLIBC_")?.1.split_once(')'));
            let newest =
                versions(&newest.map(|(name, _)| format!("Name: GLIBC_{name}\n")).collect::<String>());
            assert!(newest.iter().all(|version| *version <= GLIBC), "{required}");

            let deb = file_of(directory.path(), name, '_', &format!("_{}.deb", platform.debian));
            let control = said("dpkg-deb", &["--field"], &deb);
            assert!(control.contains(&format!("\nArchitecture: {}\n", platform.debian)), "{control}");
            assert!(control.contains("libc6 (>= 2.28)"), "{control}");
            // A library of GCC's that the programs do not need, and that has another name in older releases.
            assert!(!control.contains("libgcc"), "{control}");
        }
    }
}

#[needs(root)]
fn on_aarch64_every_package_installs_and_runs_whole_jobs() {
    whole_jobs(&PLATFORMS[1], AARCH64);
}

#[needs(root)]
fn on_ppc64le_every_package_installs_and_runs_whole_jobs() {
    whole_jobs(&PLATFORMS[2], PPC64LE);
}

/// What a machine's script begins with: `row PACKAGE TEST EXPECTED FOUND` prints a row of the table.
const ROWS: &str = "failed=0\n\
    row() {\n\
      if [ \"$3\" = \"$4\" ]; then echo \"NBT-ROW | $1 | $2 | ok |\"; return; fi\n\
      echo \"NBT-ROW | $1 | $2 | FAILED |\"; echo \"expected: $3\"; echo \"found: $4\"; cat /log; failed=1\n\
    }\n\
    auth=/opt/nunbird/bin/nunbird-auth\n\
    cp -a /etc/nunbird/config.toml /site.toml; cp -a /var/lib/nunbird/keys/site.json /; rpm --initdb; : >/log\n";
/// Rows of each package.
const TESTS: usize = 10;

/// Each package in turn, in one boot of a machine of the architecture: installed by its own rpm or dpkg, started, a job that succeeds,
/// one whose script fails, one that is refused, and removed.
fn whole_jobs(platform: &Platform, architecture: Architecture) {
    let machine = Emulated::new(architecture);
    let world = machine.world();
    let directory = world.host_path("/packages");
    packages(platform, &directory);
    let jobs: Vec<_> = (0..4).map(|_| (world.job(), world.job().user("root"))).collect();
    // Sessions remove their directories at their end.
    let mut sessions = Vec::new();
    let mut script = ROWS.to_owned();
    let kinds = [("RPM", '-', ".rpm"), ("deb", '_', ".deb")];
    let combined = kinds.iter().flat_map(|kind| PRIVILEGES.iter().map(move |privilege| (kind, privilege)));
    for ((job, refused), ((kind, separator, suffix), (name, privilege, shown))) in jobs.iter().zip(combined) {
        let file = file_of(&directory, name, *separator, suffix);
        let file = file.file_name().and_then(|name| name.to_str()).expect("text");
        let (install, remove) = match *kind {
            "RPM" => ("rpm -i --nodeps", format!("rpm -e {name}")),
            _ => ("dpkg --force-depends --force-confold -i", format!("dpkg --force-depends --purge {name}")),
        };
        let (session, refusal) = (job.begin(), refused.begin());
        let run = |name: &str, text: &str| {
            let file = session.directory().join(name);
            session.write(&file, text.as_bytes(), 0o700);
            as_words(&session.spec_of_run(&file, "build_script"))
        };
        let good = run("good", "echo \"$(id -un) $(uname -m)\"\n");
        let bad = run("bad", "exit 7\n");
        let (config, prepare) = (as_words(&session.spec_of_config()), as_words(&session.spec_of_prepare()));
        let cleanup = as_words(&session.spec_of_cleanup());
        let (exit_code, refusal_config) = (session.exit_code_file(), as_words(&refusal.spec_of_config()));
        let exit_code = exit_code.display();
        let version = env!("CARGO_PKG_VERSION");
        script += &format!(
            "p='{kind}, {privilege}'\n\
             {install} /packages/{file} >/log 2>&1; row \"$p\" installed 0 $?\n\
             cp -a /site.toml /etc/nunbird/config.toml; install -o nunbird -g nunbird -m 644 /site.json /var/lib/nunbird/keys/\n\
             row \"$p\" privilege '{shown}' \"$(stat -c '%a %U:%G' $auth) $(getcap $auth | sed 's/.* //')\"\n\
             row \"$p\" start '{version} {version} {version}' \
             \"$(for one in nunbirdctl nunbird-keys nunbird-compliance; do $one --version; done 2>&1 | sed 's/.* //' | paste -sd ' ')\"\n\
             out=$({config} 2>/log); row \"$p\" config '0 yes' \"$? $(case $out in *builds_dir*) echo yes;; esac)\"\n\
             {prepare} >/log 2>&1; row \"$p\" prepare 0 $?\n\
             out=$({good} 2>/log); row \"$p\" run '0 alice {machine}' \"$? $out\"\n\
             {bad} >/log 2>&1; row \"$p\" 'run, exit 7' '1 7' \"$? $(cat {exit_code})\"\n\
             {cleanup} >/log 2>&1; row \"$p\" cleanup '0 ' \"$? $(ls /var/lib/nunbird/jobs)\"\n\
             {refusal_config} >/log 2>&1; row \"$p\" 'a refused job' '1 1' \"$? $(grep -c '[[]account[]]' /log)\"\n\
             {remove} >/log 2>&1; row \"$p\" removed '0 gone' \"$? $([ -e $auth ] || echo gone)\"\n",
            machine = platform.name,
        );
        sessions.push((session, refusal));
    }
    script += "exit $failed\n";
    let console = machine.run(&script);
    // The kernel writes to the same console, and what was on its way may be before a row.
    let rows: Vec<&str> = console.lines().filter_map(|line| Some(line.split_once("NBT-ROW ")?.1)).collect();
    println!("{}", rows.iter().map(|row| format!("| {} {row}\n", platform.name)).collect::<String>());
    assert_eq!(rows.len(), 4 * TESTS, "{console}");
    assert!(rows.iter().all(|row| row.ends_with("| ok |")), "{console}");
}
