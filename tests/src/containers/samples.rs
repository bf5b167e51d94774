//! Images that tests use.

use super::image::Image;
use super::layer::Layer;
use super::trees;
use serde_json::json;
use std::fs;

/// Debian's static busybox: `/bin/busybox`.
const BUSYBOX: &str = "/bin/busybox";

/// What scripts and tests call, each a link to busybox.
const APPLETS: [&str; 48] = [
    "awk", "basename", "cat", "chmod", "chown", "cp", "cut", "date", "dd", "df", "dirname", "echo", "env",
    "expr", "false", "find", "grep", "head", "hostname", "httpd", "id", "kill", "ln", "ls", "mkdir",
    "mktemp", "mv", "nc", "ps", "pwd", "readlink", "rm", "rmdir", "sed", "sh", "sleep", "sort", "stat",
    "tail", "test", "touch", "tr", "true", "uname", "uniq", "wc", "wget", "xargs",
];

fn base() -> Layer {
    let busybox = fs::read(BUSYBOX).expect("busybox-static is installed");
    ["bin", "etc", "root", "proc", "sys", "dev", "home", "usr", "usr/bin", "var"]
        .iter()
        .fold(Layer::new(), |layer, name| layer.directory(&format!("{name}/"), 0o755))
        .directory("tmp/", 0o1777)
        .file("bin/busybox", 0o755, &busybox)
        .file("etc/passwd", 0o644, b"root:x:0:0::/root:/bin/sh\nguest:x:1000:1000::/:/bin/sh\n")
        .file("etc/group", 0o644, b"root:x:0:\nguest:x:1000:\n")
        .file("etc/image", 0o644, b"busybox\n")
        .link("usr/bin/env", "../../bin/busybox")
}

/// busybox, with `sh` and without bash. `/etc/image` contains `busybox`. Milliseconds.
pub fn busybox() -> Image {
    let layer = APPLETS.iter().fold(base(), |layer, name| layer.link(&format!("bin/{name}"), "busybox"));
    Image::new([layer]).set("Cmd", json!(["/bin/sh"])).set("Env", json!(["PATH=/bin:/usr/bin"]))
}

/// The same under another content of `/etc/image`: a tag that moves has a second image to move to.
pub fn other(text: &str) -> Image {
    busybox().layer(Layer::new().file("etc/image", 0o644, format!("{text}\n").as_bytes()))
}

/// One whose configuration wants to be more than a file tree: an entrypoint that ends with 97 and leaves
/// `/tmp/entrypoint-ran`, a user without rights, volumes over `/home` and `/tmp`, and variables that change which
/// programs and libraries are used.
pub fn hostile() -> Image {
    let trap =
        b"#!/bin/busybox sh\n/bin/busybox touch /tmp/entrypoint-ran\necho the entrypoint ran\nexit 97\n";
    let false_cat = b"#!/bin/busybox sh\necho the image chose this program\nexit 98\n";
    let layer = Layer::new()
        .directory("hostile/", 0o755)
        .file("hostile/entrypoint", 0o755, trap)
        .file("hostile/cat", 0o755, false_cat)
        .file("hostile/id", 0o755, false_cat)
        .file("hostile/preload.so", 0o755, b"not a library\n");
    busybox()
        .layer(layer)
        .set("Entrypoint", json!(["/hostile/entrypoint"]))
        .set("Cmd", json!(["--help"]))
        .set("User", json!("12345:12345"))
        .set("WorkingDir", json!("/no/such/directory"))
        .set("Volumes", json!({ "/home": {}, "/tmp": {}, "/builds": {} }))
        .set(
            "Env",
            json!([
                "PATH=/hostile:/bin",
                "LD_PRELOAD=/hostile/preload.so",
                "LD_LIBRARY_PATH=/hostile",
                "BASH_ENV=/hostile/entrypoint",
                "ENV=/hostile/entrypoint",
                "HOME=/hostile",
                "IFS=/",
                "CI=image",
                "CI_JOB_ID=image",
                "TMPDIR=/hostile",
            ]),
        )
}

/// One whose entrypoint does what GitLab expects of one: it prepares something, and runs its arguments.
pub fn with_entrypoint() -> Image {
    let script = b"#!/bin/sh\necho entrypoint: \"$#\"\nexport FROM_ENTRYPOINT=yes\nexec \"$@\"\n";
    busybox().layer(Layer::new().file("entrypoint", 0o755, script)).set("Entrypoint", json!(["/entrypoint"]))
}

/// One with a program (`/bin/busybox`, which does nothing useful under that name alone) and no shell.
pub fn without_shell() -> Image {
    Image::new([base()]).set("Entrypoint", json!(["/bin/busybox", "echo", "no shell here"]))
}

/// busybox that says it is for an architecture that this machine does not run. Its programs do not
/// start: they are no programs.
pub fn foreign() -> Image {
    let name = if std::env::consts::ARCH == "s390x" { "arm64" } else { "s390x" };
    busybox()
        .layer(Layer::new().file("bin/busybox", 0o755, b"\x7fELF\x02\x02\x01 not of this machine"))
        .architecture(name)
}

/// busybox on top of so many layers, each with one file `/many/N`.
///
/// Overlay mounts of the kernel take some hundred layers (a page of options in older ones, 500 in newer), and engines
/// flatten or refuse what is above: some hundred are on the far side of every such bound, and pulled in seconds.
pub fn with_layers(number: usize) -> Image {
    (1..number).fold(busybox(), |image, n| {
        image.layer(Layer::new().file(&format!("many/{n}"), 0o644, format!("{n}\n").as_bytes()))
    })
}

/// Files as real images have them: of other accounts, without permissions, setuid, a device, hard links.
pub fn with_odd_files() -> Image {
    let layer = Layer::new()
        .directory("odd/", 0o755)
        .file_of(33, "odd/of-33", 0o600, b"www-data\n")
        .file_of(65_000, "odd/of-65000", 0o640, b"high\n")
        .file("odd/none", 0o000, b"no permissions\n")
        .directory("odd/closed/", 0o000)
        .file("odd/setuid", 0o4755, b"#!/bin/sh\n")
        .same("odd/hard", "odd/setuid")
        .device("odd/null");
    busybox().layer(layer)
}

/// busybox with a web server that answers `GET /` with `served` on this port, and logs each request.
pub fn web_service(port: u16) -> Image {
    busybox()
        .layer(Layer::new().directory("www/", 0o755).file("www/index.html", 0o644, b"served\n"))
        .set("Cmd", json!(["/bin/httpd", "-f", "-v", "-p", port.to_string(), "-h", "/www"]))
        .set("ExposedPorts", json!({ format!("{port}/tcp"): {} }))
}

/// A Debian, with bash. Made by mmdebstrap once.
///
/// # Panics
/// Without root, mmdebstrap or a mirror.
pub fn debian() -> Image {
    of_debian("bash")
}

/// The same with Python.
///
/// # Panics
/// As [`debian`].
pub fn python() -> Image {
    of_debian("bash,python3-minimal")
}

/// The same with a Redis that listens on port 6379.
///
/// # Panics
/// As [`debian`].
pub fn redis() -> Image {
    of_debian("bash,redis-server")
        .set("Cmd", json!(["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""]))
        .set("ExposedPorts", json!({ "6379/tcp": {} }))
        .set("WorkingDir", json!("/tmp"))
}

/// The same with a C compiler and make.
///
/// # Panics
/// As [`debian`].
pub fn compiler() -> Image {
    of_debian("bash,gcc,libc6-dev,make")
}

/// The same with git.
///
/// # Panics
/// As [`debian`].
pub fn git() -> Image {
    of_debian("bash,ca-certificates,git")
}

/// The same with Buildah, which builds images.
///
/// # Panics
/// As [`debian`].
pub fn builder() -> Image {
    of_debian("bash,buildah,ca-certificates")
}

/// The same with what the image of a runner in a container has from Debian (`packaging/container/Containerfile`).
///
/// # Panics
/// As [`debian`].
pub fn nest() -> Image {
    of_debian("bash,ca-certificates,crun,fuse-overlayfs,git,podman,slirp4netns,sudo,uidmap")
}

/// The same with a C compiler and Open MPI.
///
/// # Panics
/// As [`debian`].
pub fn mpi() -> Image {
    of_debian("bash,gcc,libc6-dev,libopenmpi-dev,openmpi-bin")
}

/// The same with a PostgreSQL that listens on port 5432. `POSTGRES_DB` is made at its start; it wants `POSTGRES_PASSWORD`, or else
/// trusts everybody.
///
/// # Panics
/// As [`debian`].
pub fn postgresql() -> Image {
    let script = b"#!/bin/sh\nset -e\nPATH=$(echo /usr/lib/postgresql/*/bin):$PATH\nexport PGDATA=/tmp/data PGUSER=postgres\n\
        initdb --auth=trust --username=postgres >/dev/null\n\
        how=${POSTGRES_PASSWORD:+scram-sha-256}; how=${how:-trust}\n\
        printf 'local all all trust\\nhost all all all %s\\n' $how >$PGDATA/pg_hba.conf\n\
        pg_ctl -w -s -o \"-c listen_addresses='' -k /tmp\" start\n\
        createdb -h /tmp \"${POSTGRES_DB:-nbt}\"\n\
        [ -z \"$POSTGRES_PASSWORD\" ] || echo \"alter role postgres password '$POSTGRES_PASSWORD'\" | psql -q -h /tmp postgres\n\
        pg_ctl -w -s stop\n\
        exec postgres -c listen_addresses='*' -k /tmp\n";
    of_debian("bash,postgresql")
        .layer(Layer::new().file("usr/local/bin/serve", 0o755, script))
        .set("Cmd", json!(["/usr/local/bin/serve"]))
        .set("User", json!("postgres"))
        .set("ExposedPorts", json!({ "5432/tcp": {} }))
}

fn of_debian(packages: &str) -> Image {
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    Image::new([trees::layer(packages)]).set("Env", json!([path])).set("Cmd", json!(["bash"]))
}
