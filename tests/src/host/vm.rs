//! A virtual machine in software (QEMU's TCG) for what a container on this kernel cannot show: cgroup version 2 with delegated
//! controllers, a boot id that changes, all capabilities. The guest is the same tree as a [`Host`](super::Host)'s, under
//! Debian's cloud kernel. It has no network: keys are written before, and sources are not fetched.
//!
//! QEMU, the kernel and busybox are in a separate tree in the cache: their packages are not
//! installed on the machine.

use super::tree;
use crate::tree::{cached, must, own_suite};
use crate::world::World;
use crate::world::process::sibling;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

const PACKAGES: &str = "qemu-system-x86,busybox-static,kmod,cpio,linux-image-cloud-amd64";

/// How long a boot with its script may take, in seconds. Ten are usual for a short one; one with a job's machine in it has taken more than
/// fifteen minutes on a machine that did other things.
const PATIENCE: &str = "1800";

/// Two machines at once would each take twice as long, and come near [`PATIENCE`].
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The guest's service: runs the script on the second disk, writes to the serial port, powers off.
const PAYLOAD: &str = "#!/bin/bash\nexec >/dev/vport0p1 2>&1\nmkdir -p /payload && cd /payload && tar xf /dev/vdb && bash ./run.sh\n\
    echo \"NBT-EXIT $?\"\nsync\nsystemctl poweroff --force --force\n";
const PAYLOAD_UNIT: &str = "[Unit]\nDescription=The test's script\nAfter=multi-user.target dbus.service nbt-runner.service\n\n\
    [Service]\nExecStart=/usr/local/sbin/nbt-payload\n\n[Install]\nWantedBy=multi-user.target\n";

/// Makes the initramfs inside the tree of tools: busybox, the modules up to the root file system, and that of what machines of jobs are on: the
/// guest has no modules.
const INITRAMFS: &str = r#"set -e
kernel=$(ls /lib/modules); cp /boot/vmlinuz-$kernel /vmlinuz.nbt
mkdir -p /ir/bin /ir/m /ir/proc /ir/dev /ir/root; cp /bin/busybox /ir/bin/; loads=
for module in virtio_pci virtio_blk virtio_console ext4 overlay; do
  for file in $(modprobe -S $kernel -D $module | sed -n 's/^insmod //p'); do
    name=${file##*/}
    [ -e /ir/m/$name ] || { cp $file /ir/m/; loads="$loads $name"; }
  done
done
cat >/ir/init <<END
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in $loads; do /bin/busybox insmod /m/\$module; done
until [ -b /dev/vda ]; do /bin/busybox sleep 0.05; done
/bin/busybox mount -t ext4 /dev/vda /root
/bin/busybox mount -o move /dev /root/dev
exec /bin/busybox switch_root /root /lib/systemd/systemd
END
chmod 755 /ir/init
cd /ir && find . | cpio -o -H newc --quiet | gzip -1 >/initrd.nbt
"#;

/// A machine that boots once for each script; its disk stays in between.
#[derive(Debug)]
pub struct Vm {
    world: World,
    tools: PathBuf,
}

/// The result of a boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// The script's exit code; none when the guest did not come so far.
    pub exit: Option<i32>,
    /// What it wrote, and the console where it has no end.
    pub output: String,
}

impl Vm {
    /// Makes a machine. `prepare` writes what the image is to hold: the disk is made after it.
    pub fn new(prepare: impl FnOnce(&World)) -> Self {
        let tools = cached("vm", &own_suite(), PACKAGES, INITRAMFS);
        let world = World::in_tree(tree::make_whole, tree::install_package_whole);
        super::write_runner_unit(&world);
        // Without a network no server can be asked.
        world.reconfigure("audience =", "user_check = \"off\"\naudience =");
        let guest = world.host_path("/");
        fs::copy(sibling("nbt-enter"), guest.join("usr/local/bin/nbt-enter"))
            .expect("a program of the test bed");
        tree::write(&guest.join("usr/local/sbin/nbt-payload"), PAYLOAD, 0o755);
        let units = guest.join("etc/systemd/system");
        tree::write(&units.join("nbt-payload.service"), PAYLOAD_UNIT, 0o644);
        let wants = units.join("multi-user.target.wants/nbt-payload.service");
        std::os::unix::fs::symlink("../nbt-payload.service", wants).expect("an enabled unit");
        prepare(&world);
        // The runner's directories have the same path in the guest.
        let shared = guest.join(world.runner_directory().strip_prefix("/").expect("an absolute path"));
        fs::create_dir_all(shared.parent().expect("a parent")).expect("directories");
        must(Command::new("cp").arg("-a").arg(world.runner_directory()).arg(&shared));
        let image = world.root().join("disk");
        must(Command::new("truncate").arg("--size=2G").arg(&image));
        must(
            Command::new("mke2fs")
                .args(["-q", "-t", "ext4", "-E", "lazy_itable_init=1,lazy_journal_init=1", "-d"])
                .arg(&guest)
                .arg(&image)
                .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin"),
        );
        Vm { world, tools }
    }

    /// The accounts, the configuration and the GitLab server. The disk does not follow what is written here.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Boots, runs a bash script as root when all of systemd has started, and powers off.
    pub fn boot(&self, script: &str) -> Boot {
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let root = self.world.root();
        let payload = root.join("payload");
        fs::create_dir_all(&payload).expect("a directory");
        fs::write(payload.join("run.sh"), script).expect("a script");
        must(Command::new("tar").arg("-C").arg(&payload).arg("-cf").arg(root.join("payload.tar")).arg("."));
        for file in ["output", "console"] {
            fs::write(root.join(file), "").expect("a file");
        }
        // In a mount namespace of its own, the tree of tools sees this machine's directory and devices. Nothing of it stays.
        let enter =
            "mount --rbind /dev \"$1/dev\" && mount --bind \"$2\" \"$1/mnt\" && shift 2 && exec \"$@\"";
        let append =
            "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off systemd.unified_cgroup_hierarchy=1";
        let qemu = "qemu-system-x86_64 -M q35 -accel tcg,thread=multi,tb-size=512 -cpu max -m 1536 -smp 2 -display none \
            -no-reboot -nodefaults -kernel /vmlinuz.nbt -initrd /initrd.nbt \
            -drive file=/mnt/disk,if=virtio,format=raw,cache=unsafe \
            -drive file=/mnt/payload.tar,if=virtio,format=raw,readonly=on -device virtio-serial-pci \
            -chardev file,id=out,path=/mnt/output -device virtserialport,chardev=out,name=nbt \
            -device virtio-rng-pci -serial file:/mnt/console";
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation=private", "sh", "-c", enter, "sh"])
            .arg(&self.tools)
            .arg(root);
        // The end of the test ends QEMU, whatever the reason.
        command.args(["timeout", "--foreground", PATIENCE, "setpriv", "--pdeathsig", "KILL", "chroot"]);
        command.arg(&self.tools).args(qemu.split_whitespace()).args(["-append", append]);
        let ran = command.stdin(std::process::Stdio::null()).output().expect("unshare starts");
        let read = |file: &str| {
            String::from_utf8_lossy(&fs::read(root.join(file)).unwrap_or_default()).replace('\r', "")
        };
        let mut output = read("output");
        let exit = output.lines().find_map(|line| line.strip_prefix("NBT-EXIT ")?.parse().ok());
        if exit.is_none() {
            output += &format!("{}\n{}", String::from_utf8_lossy(&ran.stderr), read("console"));
        }
        Boot { exit, output }
    }
}

impl Boot {
    /// The output of a script that had to succeed.
    ///
    /// # Panics
    /// When it did not, with all there is.
    #[track_caller]
    pub fn success(self) -> String {
        assert_eq!(self.exit, Some(0), "{}", self.output);
        self.output
    }
}
