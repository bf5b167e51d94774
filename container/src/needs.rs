//! What a host lacks for an engine: looked at by the outer script before the engine says it in words of its own, and once more after the
//! engine has failed.

/// Where the kernel's settings are.
pub(crate) const SETTINGS: &str = "/proc/sys";

/// Lines that end the script on a host without user namespaces, which a setuid program does not need. `program` is quoted for the shell.
///
/// unshare(1) stands for the engine, but not where AppArmor gives user namespaces to some programs alone: what it forbids that one says
/// nothing about the other, so that the engine itself must try.
pub(crate) fn user_namespaces(program: &str, settings: &str) -> String {
    format!(
        "    if [ ! -u \"$(command -v {program})\" ] && command -v unshare >/dev/null 2>&1 &&\n      \
         {{ [ \"$(cat {settings}/kernel/apparmor_restrict_unprivileged_userns 2>/dev/null)\" != 1 ] ||\n        \
         [ \"$(cat {settings}/user/max_user_namespaces 2>/dev/null)\" = 0 ]; }} && ! why_not=$(unshare --user true 2>&1); then\n      \
         fail \"$title needs user namespaces, and the host $(uname -n) gives none ($why_not)$(lacks); nunbirdctl check says what forbids them\"\n    fi"
    )
}

/// Lines of the function `lacks`, which prints why user namespaces are of no use here, with the way out; nothing where they are. It is for
/// messages, so it looks only where something has failed. `state` is status(5) of a process of the job.
pub(crate) fn lacks(settings: &str, state: &str) -> String {
    const TEMPLATE: &str = r#"  command -v unshare >/dev/null 2>&1 || return 0
  limit=$(cat @S@/user/max_user_namespaces 2>/dev/null)
  cause= way=
  # unshare(1) is not the engine: a profile may allow the one what it forbids the other, from the namespace itself to a mount in it.
  if [ "$(cat @S@/kernel/apparmor_restrict_unprivileged_userns 2>/dev/null)" = 1 ]; then
    cause='AppArmor may give user namespaces only to programs with a profile that says so'
    way="load one for $title and for unshare(1), or sysctl kernel.apparmor_restrict_unprivileged_userns=0"
  fi
  if said=$(unshare --user true 2>&1); then
    # A namespace alone is not enough: what stands before the whole of /proc, or forbids mounts, is of a container around this host.
    if ! unshare --user --map-root-user --mount true >/dev/null 2>&1; then
      if [ -z "$cause" ]; then
        cause='mounts in user namespaces may be forbidden, as by the security module or the filter of system calls of a container or unit around the runner'
        way='allow mount(2) there (podman --security-opt seccomp=unconfined or a profile of the site, --security-opt label=disable)'
      fi
    elif ! unshare --user --map-root-user --pid --fork --mount-proc true >/dev/null 2>&1; then
      cause='no /proc can be mounted in a user namespace, because parts of /proc are hidden here, as in a container around the runner'
      way='start that container with the whole of /proc (podman --security-opt unmask=ALL, docker --security-opt systempaths=unconfined)'
    else
      return 0
    fi
  elif [ "$limit" = 0 ]; then
    cause='user.max_user_namespaces is 0' way='sysctl user.max_user_namespaces=15000'
  elif [ "$(cat @S@/kernel/unprivileged_userns_clone 2>/dev/null)" = 0 ]; then
    cause='kernel.unprivileged_userns_clone is 0' way='sysctl kernel.unprivileged_userns_clone=1'
  elif [ -z "$cause" ]; then
    case $said in
      *"No space left"*)
        cause="as many user namespaces as a limit allows are in use (user.max_user_namespaces is $limit here, and may be lower around a container)"
        way='raise that limit, or end what holds them (lsns --type user)'
        ;;
      *)
        if grep -q '^Seccomp:[[:space:]]*2$' @P@ 2>/dev/null; then
          cause='a filter of system calls (seccomp) may forbid them, as of a container or unit around the runner'
          way='allow unshare(2) and clone(2) there (podman or docker --security-opt seccomp=FILE, RestrictNamespaces= of a unit)'
        else
          cause='the kernel may refuse them, as in a chroot, or by a security module or a container around the runner'
          way='start the runner outside of it, or allow them there'
        fi
        ;;
    esac
  fi
  printf '; on this host %s: ask the administrators to change that (%s)' "$cause" "$way""#;
    TEMPLATE.replace("@S@", settings).replace("@P@", state)
}

/// A condition that is true where the program `name` surely has no privilege: neither a setuid bit nor file capabilities. Where getcap(8) is
/// missing, the latter are not known. It is looked at before each of the engine's commands, so it starts a program only where it must.
pub(crate) fn is_powerless(name: &str) -> String {
    format!(
        "{{ at=$(command -v {name}) && [ ! -u \"$at\" ] && command -v getcap >/dev/null 2>&1 && [ -z \"$(getcap \"$at\" 2>/dev/null)\" ]; }}"
    )
}

#[cfg(test)]
mod tests {
    use super::{is_powerless, lacks, user_namespaces};
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;
    use tempfile::TempDir;

    /// The kernel's settings, a process's status, and programs.
    struct Host(TempDir);

    impl Host {
        fn new() -> Self {
            let root = tempfile::tempdir().expect("a directory");
            for directory in ["bin", "kernel", "user"] {
                fs::create_dir(root.path().join(directory)).expect("a directory");
            }
            Host(root)
        }

        fn path(&self, name: &str) -> String {
            self.0.path().join(name).display().to_string()
        }

        fn has(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).expect("a file");
        }

        fn program(&self, name: &str, text: &str) {
            let path = self.path(&format!("bin/{name}"));
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a program");
            fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("a mode");
        }

        fn run(&self, lines: &str) -> (bool, String) {
            let script = format!(
                "PATH={}:$PATH; title=Podman; fail() {{ echo \"$*\"; exit 75; }}\nlacks() {{\n{}\n}}\n{lines}\n",
                self.path("bin"),
                lacks(&self.path(""), &self.path("status"))
            );
            let ended = Command::new("/bin/sh").args(["-c", &script]).output().expect("a shell");
            (ended.status.success(), String::from_utf8_lossy(&ended.stdout).into_owned())
        }
    }

    #[test]
    fn a_host_that_forbids_unshare_alone_lets_the_engine_try() {
        let host = Host::new();
        let refuses = |unshare: &str| {
            host.program("unshare", &format!("echo said\nexit {unshare}"));
            let (succeeded, said) = host.run(&user_namespaces("'true'", &host.path("")));
            assert_eq!(said.contains("Podman needs user namespaces") && said.contains("(said)"), !succeeded);
            !succeeded
        };
        host.has("user/max_user_namespaces", "15000\n");
        assert!(refuses("1") && !refuses("0"));
        host.has("kernel/apparmor_restrict_unprivileged_userns", "0\n");
        assert!(refuses("1"));
        host.has("kernel/apparmor_restrict_unprivileged_userns", "1\n");
        assert!(!refuses("1"), "a profile may allow the engine what it forbids unshare");
        host.has("user/max_user_namespaces", "0\n");
        assert!(refuses("1"));
    }

    #[test]
    fn each_cause_of_a_missing_user_namespace_is_said_with_its_way_out() {
        let host = Host::new();
        let lacks = |unshare: &str, words: [&str; 2]| {
            host.program("unshare", unshare);
            let (_, said) = host.run("lacks");
            assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
            said
        };
        host.has("status", "Name:\tsh\nSeccomp:\t0\n");
        host.has("user/max_user_namespaces", "15000\n");
        let no_space = "echo 'unshare: unshare failed: No space left on device'; exit 1";
        let refused = "echo 'unshare: unshare failed: Operation not permitted'; exit 1";
        assert_eq!(lacks("exit 0", ["", ""]), "", "nothing is said of a host that has what is needed");
        lacks("case $* in *--mount*) exit 1 ;; esac", ["mounts in user namespaces", "mount(2)"]);
        lacks("case $* in *--mount-proc*) exit 1 ;; esac", ["no /proc can be mounted", "unmask=ALL"]);
        lacks(no_space, ["user.max_user_namespaces is 15000", "lsns"]);
        lacks(refused, ["chroot", "outside of it"]);
        host.has("status", "Name:\tsh\nSeccomp:\t2\n");
        lacks(refused, ["seccomp", "RestrictNamespaces="]);
        host.has("kernel/apparmor_restrict_unprivileged_userns", "1\n");
        lacks(refused, ["AppArmor may", "kernel.apparmor_restrict_unprivileged_userns=0"]);
        // As on Ubuntu from 24.04 on: there is a namespace, in which nothing can be mapped.
        lacks("case $* in *--map-root-user*) exit 1 ;; esac", ["AppArmor may", "a profile that says so"]);
        lacks("case $* in *--mount-proc*) exit 1 ;; esac", ["no /proc can be mounted", "unmask=ALL"]);
        assert_eq!(lacks("exit 0", ["", ""]), "", "unshare(1) has a profile as well");
        host.has("kernel/unprivileged_userns_clone", "0\n");
        lacks(refused, ["clone is 0", "sysctl kernel.unprivileged_userns_clone=1"]);
        host.has("user/max_user_namespaces", "0\n");
        lacks(no_space, ["namespaces is 0", "sysctl user.max_user_namespaces=15000"]);
    }

    #[test]
    fn a_program_without_setuid_bit_and_capabilities_is_powerless() {
        let host = Host::new();
        host.program("newuidmap", "exit 0");
        host.program("getcap", "exit 0");
        let is = |name: &str| host.run(&format!("{} && echo yes || echo no", is_powerless(name))).1;
        assert_eq!(is("newuidmap"), "yes\n");
        host.program("getcap", "echo \"$1 cap_setuid=ep\"");
        assert_eq!(is("newuidmap"), "no\n");
        host.program("getcap", "exit 0");
        fs::set_permissions(host.path("bin/newuidmap"), Permissions::from_mode(0o4755)).expect("a mode");
        assert_eq!(is("newuidmap"), "no\n");
        assert_eq!(is("nbt-no-such-program"), "no\n");
    }
}
