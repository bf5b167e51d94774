# A fresh Debian with systemd in a container, for scripts that try an installation: sourced by packaging/first-hour.sh and
# packaging/ansible/check.sh.
#
#   boot NAME     makes a tree in a new directory nbt_NAME.… of root's and boots it; $tree is its root, $pid1 its systemd as this machine counts
#   in_host CMD   runs a shell command in it as root, in its own network with nothing but loopback
#
# Everything ends and is removed when the script exits. Needs root, mmdebstrap and systemd-nspawn, and hierarchies of cgroup version 1
# that may be written to, as the tests on booted hosts do (docs/testing.md).

booted_hierarchies='cpu cpuacct memory pids blkio freezer devices systemd unified'
base='' tree='' pid1='' nspawn='' booted_name=''

booted_tree() { # prints the cached tree of Debian's own packages, or NUNBIRD_BOOTED_TREE
  if [ -n "${NUNBIRD_BOOTED_TREE:-}" ]; then
    echo "$NUNBIRD_BOOTED_TREE"
    return
  fi
  booted_packages=$(cat "$here/booted/packages" 2>/dev/null || cat "$here/../booted/packages")
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  mirror=$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p; s/^deb \([^ ]*\).*/\1/p' /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null | head -1)
  cache=/var/cache/nunbird-tests/booted-$suite-$(echo "$booted_packages" | sha256sum | cut -c1-12)
  mkdir -p "${cache%/*}"
  (
    flock 9
    if [ ! -d "$cache" ]; then
      rm -rf --one-file-system "$cache.new"
      mmdebstrap --quiet --variant=apt --include="$booted_packages" "$suite" "$cache.new" "${mirror:-http://deb.debian.org/debian}" >&2 || exit 1
      mv "$cache.new" "$cache"
    fi
  ) 9>"$cache.lock" || return 1
  echo "$cache"
}

boot() { # NAME
  [ "$(id -u)" = 0 ] || { echo "boot: only root can boot a container" >&2; exit 2; }
  [ -w /sys/fs/cgroup/systemd ] || { echo "boot: needs cgroup version 1 (/sys/fs/cgroup/systemd), writable" >&2; exit 2; }
  for program in mmdebstrap systemd-nspawn nsenter; do
    command -v $program >/dev/null || { echo "boot: $program is missing: make setup installs it" >&2; exit 2; }
  done
  trap end_host EXIT
  trap 'exit 1' INT TERM
  cached=$(booted_tree) || exit 1
  booted_name=nbt_$1_$$
  # Everybody may write to /var/tmp: a new name, in which nobody has put a directory or a link beforehand.
  base=$(mktemp -d "/var/tmp/nbt_$1.XXXXXX") || exit 1
  tree=$base/root
  # A layer on the cached tree; a copy where the file system below /var/tmp can be no upper layer.
  mkdir "$tree" "$base/upper" "$base/work"
  if ! mount -t overlay -o "lowerdir=$cached,upperdir=$base/upper,workdir=$base/work" nbt "$tree" 2>/dev/null; then
    cp -aT --reflink=auto "$cached" "$tree" || exit 1
  fi
  : >"$tree/etc/machine-id"
  : >"$tree/etc/fstab"
  echo nbt-host >"$tree/etc/hostname"
  echo '127.0.0.1 localhost nbt-host gitlab.example.org' >"$tree/etc/hosts"
  for unit in systemd-journald-audit.socket systemd-networkd.service systemd-networkd.socket systemd-timesyncd.service systemd-resolved.service \
    console-getty.service getty.target e2scrub_reap.service; do
    ln -sf /dev/null "$tree/etc/systemd/system/$unit"
  done
  printf '#!/bin/sh\nfor c in cpu cpuacct memory pids blkio freezer devices; do mount -o remount,rw,bind /sys/fs/cgroup/$c; done\nexec /lib/systemd/systemd\n' >"$tree/sbin/nbt-init"
  chmod 755 "$tree/sbin/nbt-init"
  for one in $booted_hierarchies; do
    [ ! -d "/sys/fs/cgroup/$one" ] || mkdir -p "/sys/fs/cgroup/$one/$booted_name"
  done
  # The shell enters the groups and becomes systemd-nspawn.
  sh -c 'for one in $1; do [ ! -d "/sys/fs/cgroup/$one/$2" ] || echo $$ >"/sys/fs/cgroup/$one/$2/cgroup.procs" || exit 1; done
    exec systemd-nspawn --quiet --register=no --keep-unit --link-journal=no --console=pipe --private-network --system-call-filter=@keyring \
      --machine="$(echo "$2" | tr _ -)" --directory="$3" /sbin/nbt-init' sh "$booted_hierarchies" "$booted_name" "$tree" \
    >"$base/console" 2>&1 </dev/null &
  nspawn=$!
  patience=600
  while [ $patience -gt 0 ]; do
    patience=$((patience - 1))
    for child in $(cat "/proc/$nspawn/task/$nspawn/children" 2>/dev/null); do
      [ "$(cat "/proc/$child/comm" 2>/dev/null)" != systemd ] || pid1=$child
    done
    if [ -n "$pid1" ]; then
      case $(in_host 'systemctl is-system-running --wait' 2>/dev/null) in running | degraded) return ;; esac
    fi
    kill -0 "$nspawn" 2>/dev/null || break
    sleep 0.1
  done
  echo "boot: the container did not boot" >&2
  tail -20 "$base/console" >&2
  exit 1
}

in_host() { # COMMAND
  nsenter --target "$pid1" --mount --uts --ipc --pid --net --cgroup --wdns=/root -- \
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root USER=root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
    sh -c "$1"
}

end_host() {
  status=$?
  trap - EXIT
  if [ -n "$pid1" ] && [ "$(cat "/proc/$pid1/comm" 2>/dev/null)" = systemd ]; then kill -KILL "$pid1" 2>/dev/null; fi
  if [ -n "$nspawn" ]; then
    [ -n "$pid1" ] || kill "$nspawn" 2>/dev/null
    wait "$nspawn" 2>/dev/null
  fi
  if [ -n "$booted_name" ]; then
    for one in $booted_hierarchies; do
      find "/sys/fs/cgroup/$one/$booted_name" -depth -type d -exec rmdir {} + 2>/dev/null
    done
  fi
  if [ -n "$base" ]; then
    ! mountpoint -q "$base/root" || umount "$base/root" || umount --lazy "$base/root"
    rm -rf --one-file-system "$base"
  fi
  ! type at_end >/dev/null 2>&1 || at_end
  exit "$status"
}
