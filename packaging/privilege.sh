#!/bin/sh
# Gives nunbird-auth its privilege, for the group that runs gitlab-runner alone: privilege.sh setuid|capabilities
# The group is gitlab-runner, or what root has written into /etc/nunbird/runner-group. As root, after installation, and again
# after that file has changed.
set -eu
auth=/opt/nunbird/bin/nunbird-auth
group=gitlab-runner
if [ -e /etc/nunbird/runner-group ]; then
  group=$(cat /etc/nunbird/runner-group)
fi
gid=$(getent group "$group" | cut -d: -f3)
if [ -z "$gid" ]; then
  echo "nunbird: there is no group $group: install gitlab-runner first, or write the group of the account that runs it into /etc/nunbird/runner-group" >&2
  exit 1
fi
if [ "$gid" = 0 ]; then
  echo "nunbird: the runner's group must not be root's" >&2
  exit 1
fi
# chown(2) clears both kinds of privilege, so that nobody else has it in between.
chown "root:$group" "$auth"
case ${1-} in
  setuid)
    # What dpkg would give the next version.
    if command -v dpkg-statoverride >/dev/null && dpkg-statoverride --list "$auth" | grep -q ' 4750 '; then
      dpkg-statoverride --remove "$auth"
      dpkg-statoverride --add root "$group" 4750 "$auth"
    fi
    chmod 4750 "$auth" ;;
  capabilities) chmod 0750 "$auth" && setcap cap_setuid,cap_setgid=p "$auth" ;;
  *) sed -n '2,4s/^# //p' "$0" >&2; exit 2 ;;
esac
