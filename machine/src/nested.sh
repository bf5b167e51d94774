#!/bin/sh
# Runs before the agent in a machine with `nested = true`, as root of the machine: it gives the account what rootless Podman and Buildah need.
# The arguments are the account's uid, the first of the ids for containers, and `private` or `host`, the network. What fails is found by who uses it.
uid=$1 first=$2 network=$3
account=$(getent passwd "$uid") || exit
name=${account%%:*}
for file in /etc/subuid /etc/subgid; do
  echo "$name:$first:65536" >"$file"
done

# Without a home of the host's there is one that was made for the job's directories. Podman writes into it.
home=$(echo "$account" | cut -d: -f6)
mkdir -p "$home"
[ "$home" = / ] || [ "$(stat -c %u "$home")" -ne 0 ] || chown "$name:" "$home"

# A directory on a tmpfs: it is no overlay, as / is, so that layers of containers can lie on it, from Linux 6.6 on, which has the attributes for
# that. Before, each layer is a whole copy.
mkdir /var/lib/nunbird-job/storage
chown "$name:" /var/lib/nunbird-job/storage
IFS=.- read -r major minor _ </proc/sys/kernel/osrelease
driver=vfs
[ "$((major * 1000 + minor))" -lt 6006 ] || driver=overlay
mkdir -p /etc/containers/containers.conf.d
[ -e /etc/containers/storage.conf ] || cat >/etc/containers/storage.conf <<END
[storage]
driver = "$driver"
rootless_storage_path = "/var/lib/nunbird-job/storage"
END

# systemd-nspawn's filter refuses keyrings. The account has no manager of its own that could make scopes: containers stay in the group of the
# agent's unit. No journal is theirs.
cat >/etc/containers/containers.conf.d/nunbird.conf <<END
[containers]
keyring = false

[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
END

# The machine's own node, which has the mode of the host's. To make a network device takes rights over a network namespace, and a device that
# is there could be opened: in a network of the machine's own there is none of the host's.
[ "$network" = host ] || chmod 666 /dev/net/tun
