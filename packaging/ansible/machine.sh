#!/bin/bash
# Tests `playbook` of `nunbirdctl machines`: packaging/ansible/machine.sh PROGRAMS [ANSIBLE]
#   PROGRAMS  directory with nunbirdctl, as `make suite` leaves it in target/staging
#   ANSIBLE   directory with ansible-playbook, with community.general; without it ansible is installed from PyPI into a virtual environment that is removed
# The definition and the playbook of docs/machines.md make a tree in a private directory, and an error in a playbook makes none. Nothing stays.
set -u
[ $# -ge 1 ] || { sed -n '2,6s/^# //p' "$0" >&2; exit 2; }
programs=$(cd "$1" && pwd) || exit 2
here=$(cd "$(dirname "$0")" && pwd)
page=$here/../../docs/machines.md
work=$(mktemp -d /var/tmp/nbt_playbook_XXXXXX) || exit 1
trap 'rm -rf --one-file-system "$work"' EXIT
passed=0 failed=0
ok() { passed=$((passed + 1)); echo "ok      $1"; }
nok() { failed=$((failed + 1)); echo "FAILED  $1"; [ -z "${2-}" ] || echo "$2" | sed 's/^/        /'; }
same() { if [ "$2" = "$3" ]; then ok "$1"; else nok "$1" "expected: $2
found:    $3"; fi; }

ansible=${2-}
if [ -z "$ansible" ]; then
  # The one that the page names.
  python3 -m venv "$work/venv" && "$work/venv/bin/pip" install --quiet 'ansible>=11,<12' >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
  ansible=$work/venv/bin
fi
# The examples, each a block below the words that name it.
block() { # KIND WORDS
  awk -v kind="$1" -v words="$2" 'index($0, words) {found = 1} found && $0 == "```" kind {inside = 1; next} inside && $0 == "```" {exit} inside' "$page"
}
site=$work/etc/nunbird/machines
mkdir -p "$site" "$work/var/lib/nunbird" "$work/bin"
block toml 'With a playbook.' | sed "s,/etc/nunbird/machines,$site," >"$site/debian12.toml"
block yaml 'With a playbook.' >"$site/debian12.yml"
grep -q '^playbook = ' "$site/debian12.toml" && grep -q '^- hosts: all' "$site/debian12.yml" || { echo "$0: no example in $page" >&2; exit 2; }
ln -s "$ansible/ansible-playbook" "$work/bin/"
# nunbirdctl looks for programs in the system's directories alone, and a playbook's own files are in root's home.
machines() { unshare --mount sh -c 'mount --bind "$1/bin" /usr/local/bin && shift && exec "$@"' sh "$work" "$programs/nunbirdctl" machines --root "$work" "$@" 2>&1; }
had_home=$([ -e /root/.ansible ] && echo yes)

if machines build debian12 >"$work/log"; then ok "the example's tree is made"; else nok "the example's tree is made" "$(tail -40 "$work/log")"; exit 1; fi
tree=$work/var/lib/nunbird/machines/debian12/current/tree
same "a file of the playbook is in it" "A machine for one job." "$(cat "$tree/etc/motd")"
same "packages of the playbook are installed" "install ok installed install ok installed" "$(chroot "$tree" dpkg-query -W -f '${Status} ' git cmake | sed 's/ $//')"
same "no device of the build is in it" "" "$(find "$tree" -type b -o -type c)"
grep -q 'ok=[1-9].*changed=2.*failed=0' "$work/var/lib/nunbird/machines/debian12/current/log" && ok "the log has the playbook's recap" || nok "the log has the playbook's recap" "$(tail "$work/var/lib/nunbird/machines/debian12/current/log")"
if machines verify debian12 >"$work/log"; then ok "the tree is as its list says"; else nok "the tree is as its list says" "$(cat "$work/log")"; fi
if machines update debian12 >"$work/log" && [ "$(ls -d "$work/var/lib/nunbird/machines/debian12"/2* | wc -l)" = 1 ]; then ok "nothing is made again without a change"; else nok "nothing is made again without a change" "$(cat "$work/log")"; fi

before=$(readlink "$work/var/lib/nunbird/machines/debian12/current")
printf -- '- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.command: /bin/false\n' >"$site/debian12.yml"
if machines update debian12 >"$work/log"; then nok "a changed playbook is played, and one that fails makes no tree" "$(cat "$work/log")"; else ok "a changed playbook is played, and one that fails makes no tree"; fi
same "the old tree stays" "$before" "$(readlink "$work/var/lib/nunbird/machines/debian12/current")"
same "nothing of the failed one is left" "" "$(ls -A "$work/var/lib/nunbird/machines/debian12" | grep partial)"
same "nothing is mounted" "" "$(grep " $work" /proc/mounts)"
# In brackets, because the arguments of this grep(1) have the pattern as well.
left() { grep -lz "[${work%"${work#?}"}]${work#?}" /proc/[0-9]*/cmdline 2>/dev/null; }
same "no process is left" "" "$(left)"
# What Ansible keeps below the home of root is the host's own; a test leaves none.
[ -n "$had_home" ] || rm -rf --one-file-system /root/.ansible
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
