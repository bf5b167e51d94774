//! What a host lacks for an engine, looked at by the outer script before the engine says it in words of its own.

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
         fail \"$title needs user namespaces, and the host $(uname -n) gives none ($why_not): ask the administrators to allow them there \
         (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone); nunbirdctl check says what forbids them\"\n    fi"
    )
}

#[cfg(test)]
mod tests {
    use super::user_namespaces;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    #[test]
    fn a_host_that_forbids_unshare_alone_lets_the_engine_try() {
        let root = tempfile::tempdir().expect("a directory");
        let at = |name: &str| root.path().join(name);
        for directory in ["bin", "kernel", "user"] {
            fs::create_dir(at(directory)).expect("a directory");
        }
        let setting = |name: &str, text: &str| fs::write(at(name), text).expect("a setting");
        let refuses = |unshare: &str| {
            fs::write(at("bin/unshare"), format!("#!/bin/sh\necho said\nexit {unshare}\n"))
                .expect("a program");
            fs::set_permissions(at("bin/unshare"), Permissions::from_mode(0o755)).expect("a mode");
            let lines = user_namespaces("'true'", &root.path().display().to_string());
            let script = format!(
                "PATH={}:$PATH; title=Podman; fail() {{ echo \"$*\"; exit 75; }}\n{lines}\n",
                at("bin").display()
            );
            let ended = Command::new("/bin/sh").args(["-c", &script]).output().expect("a shell");
            let said = String::from_utf8_lossy(&ended.stdout).into_owned();
            assert_eq!(
                said.contains("Podman needs user namespaces") && said.contains("(said)"),
                !ended.status.success()
            );
            !ended.status.success()
        };
        setting("user/max_user_namespaces", "15000\n");
        assert!(refuses("1") && !refuses("0"));
        setting("kernel/apparmor_restrict_unprivileged_userns", "0\n");
        assert!(refuses("1"));
        setting("kernel/apparmor_restrict_unprivileged_userns", "1\n");
        assert!(!refuses("1"), "a profile may allow the engine what it forbids unshare");
        setting("user/max_user_namespaces", "0\n");
        assert!(refuses("1"));
    }
}
