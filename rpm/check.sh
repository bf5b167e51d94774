#!/bin/bash
# Builds both packages from programs that are already built, looks into them and installs them into scratch
# roots: rpm/check.sh [DIR], DIR being where the programs are (target/staging). root, because rpm changes its root.
set -u
tree=$(cd "$(dirname "$0")/.." && pwd)
programs=${1:-${NUNBIRD_BIN_DIR:-$tree/target/staging}}
spec=$tree/rpm/nunbird.spec
passed=0 failed=0
ok() { passed=$((passed + 1)); echo "ok      $1"; }
nok() { failed=$((failed + 1)); echo "FAILED  $1"; [ -z "${2-}" ] || printf '        %s\n' "$2"; }
# same WHAT EXPECTED ACTUAL
same() { if [ "$2" = "$3" ]; then ok "$1"; else nok "$1" "expected '$2', found '$3'"; fi; }

if [ "$(id -u)" != 0 ]; then echo "rpm/check.sh: run it as root" >&2; exit 1; fi
for program in nunbird nunbird-auth nunbird-compliance nunbird-decide nunbird-exec nunbird-keys nunbird-limits nunbird-machine nunbird-session nunbird-validate nunbirdctl; do
  [ -x "$programs/$program" ] || { echo "rpm/check.sh: $programs/$program is missing: run \`make suite\`" >&2; exit 1; }
done
work=$(mktemp -d) || exit 1
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 1' INT TERM

# ---- build -----------------------------------------------------------------------------------------------
quick='_binary_payload w1.gzdio'
if built=$("$tree/rpm/build.sh" --prebuilt "$programs" --out "$work/1" -- --define "$quick" 2>"$work/log"); then
  ok "both packages are built"
else
  nok "both packages are built" "$(tail -5 "$work/log")"
  echo "$passed passed, $failed failed"
  exit 1
fi
"$tree/rpm/build.sh" --prebuilt "$programs" --out "$work/2" -- --define "$quick" --define 'nunbird_release 2' >/dev/null 2>&1
setuid=$(echo "$built" | grep '/nunbird-[0-9]') caps=$(echo "$built" | grep '/nunbird-caps-')
same "there are two packages" 2 "$(echo "$built" | wc -l)"

# ---- what they hold --------------------------------------------------------------------------------------
listing() { rpm -qp --queryformat '[%{FILEMODES:perms} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILECAPS} %{FILENAMES}\n]' "$1" | sed 's/ (none) / /'; }
entry() { listing "$1" | awk -v name="$2" '$NF == name {$NF = ""; sub(/ +$/, ""); gsub(/ +/, " "); print}'; }
auth=/opt/nunbird/bin/nunbird-auth
same "nunbird-auth is setuid-root for the runner's group" "-rwsr-x--- root:gitlab-runner" "$(entry "$setuid" $auth)"
case $(entry "$caps" $auth) in
  "-rwxr-x--- root:gitlab-runner "*cap_setgid,cap_setuid=p | "-rwxr-x--- root:gitlab-runner "*cap_setuid,cap_setgid=p)
    ok "nunbird-auth of nunbird-caps has two permitted capabilities and no setuid bit" ;;
  *) nok "nunbird-auth of nunbird-caps has two permitted capabilities and no setuid bit" "$(entry "$caps" $auth)" ;;
esac
for package in "$setuid" "$caps"; do
  name=$(rpm -qp --queryformat '%{NAME}' "$package")
  same "$name: nothing else has privilege" 1 \
    "$(listing "$package" | awk '$1 ~ /[sStT]/ || $3 ~ /=/' | wc -l)"
  same "$name: nothing but the keys directory is writable or owned by others than root" \
    "/var/lib/nunbird/keys" "$(listing "$package" | awk '$1 !~ /^l/ && ($2 !~ /^root:/ || substr($1, 6, 1) == "w" || substr($1, 9, 1) == "w") {print $NF}')"
  while read -r mode owner path; do
    same "$name: $path" "$mode $owner" "$(entry "$package" "$path")"
  done <<'EOF'
-rwx--x--x root:root /opt/nunbird/bin/nunbird
-rwxr-xr-x root:root /opt/nunbird/bin/nunbird-compliance
-rwxr-xr-x root:root /opt/nunbird/bin/nunbird-decide
-rwxr-xr-x root:root /opt/nunbird/bin/nunbird-exec
-rwxr-xr-x root:root /opt/nunbird/bin/nunbird-keys
-rwx--x--x root:root /opt/nunbird/bin/nunbird-limits
-rwx------ root:root /opt/nunbird/bin/nunbird-machine
-rwx------ root:root /opt/nunbird/bin/nunbird-session
-rwxr-xr-x root:root /opt/nunbird/bin/nunbird-validate
-rw-r--r-- root:root /etc/pam.d/nunbird
-rwxr-xr-x root:root /opt/nunbird/bin/nunbirdctl
lrwxrwxrwx root:root /usr/bin/nunbirdctl
lrwxrwxrwx root:root /usr/bin/nunbird-keys
-rw-r--r-- root:root /usr/share/man/man1/nunbirdctl-check.1.gz
-rw-r--r-- root:root /usr/share/man/man5/nunbird.toml.5.gz
-rw-r--r-- root:root /usr/share/man/man8/nunbird-auth.8.gz
-rw-r--r-- root:root /usr/share/bash-completion/completions/nunbirdctl
-rwxr-xr-x root:root /opt/nunbird/share/privilege.sh
-rw-r--r-- root:root /opt/nunbird/share/gitlab-runner.service.d/10-nunbird.conf
-rw-r--r-- root:root /etc/nunbird/config.toml
-rw-r--r-- root:root /etc/nunbird/floor
-rw-r--r-- root:root /usr/lib/systemd/system/nunbird-keys.service
drwxr-xr-x root:root /var/lib/nunbird
drwxr-xr-x nunbird:nunbird /var/lib/nunbird/keys
drwx------ root:root /var/lib/nunbird/jobs
drwxr-xr-x root:root /var/lib/nunbird/machines
drwx------ root:root /var/lib/nunbird/people
drwxr-x--- root:root /var/log/nunbird
EOF
  same "$name: the configuration is the site's" cn \
    "$(rpm -qp --queryformat '[%{FILEFLAGS:fflags} %{FILENAMES}\n]' "$package" | awk '$2 == "/etc/nunbird/config.toml" {print $1}')"
  same "$name: files outside /opt/nunbird are the few that must be" \
    "/etc/logrotate.d/nunbird /etc/nunbird /etc/nunbird/config.toml /etc/nunbird/floor /etc/pam.d/nunbird /usr/bin/nunbird /usr/bin/nunbird-compliance /usr/bin/nunbird-exec /usr/bin/nunbird-keys /usr/bin/nunbirdctl /usr/lib/systemd/system/nunbird-credentials.service /usr/lib/systemd/system/nunbird-credentials.timer /usr/lib/systemd/system/nunbird-keys.service /usr/lib/systemd/system/nunbird-keys.timer /usr/lib/systemd/system/nunbird-machines.service /usr/lib/systemd/system/nunbird-machines.timer /usr/lib/systemd/system/nunbird-metrics.service /usr/lib/systemd/system/nunbird-metrics.timer /usr/lib/systemd/system/nunbird-sweep.service /usr/lib/systemd/system/nunbird-sweep.timer /usr/lib/sysusers.d/nunbird.conf /usr/lib/tmpfiles.d/nunbird.conf /usr/share/bash-completion/completions/nunbird /usr/share/bash-completion/completions/nunbirdctl /usr/share/fish/vendor_completions.d/nunbird.fish /usr/share/fish/vendor_completions.d/nunbirdctl.fish /usr/share/zsh/site-functions/_nunbird /usr/share/zsh/site-functions/_nunbirdctl /var/lib/nunbird /var/lib/nunbird/jobs /var/lib/nunbird/keys /var/lib/nunbird/machines /var/lib/nunbird/people /var/log/nunbird" \
    "$(rpm -qpl "$package" | grep -v '^/opt/nunbird\|^/usr/share/man/man[158]/' | LC_ALL=C sort | tr '\n' ' ' | sed 's/ $//')"
  for script in PREIN POSTIN PREUN POSTUN; do
    rpm -qp --queryformat "%{$script}" "$package" >"$work/script"
    if sh -n "$work/script" 2>"$work/log"; then ok "$name: $script is a script"; else nok "$name: $script is a script" "$(cat "$work/log")"; fi
  done
done
same "nunbird cannot be installed beside nunbird-caps" nunbird-caps "$(rpm -qp --conflicts "$setuid")"
same "nunbird-caps cannot be installed beside nunbird" nunbird "$(rpm -qp --conflicts "$caps")"
digests() { rpm -qp --queryformat '[%{FILEMD5S} %{FILENAMES}\n]' "$1"; }
same "both packages hold the same files" "$(digests "$setuid")" "$(digests "$caps")"

# ---- installed into a root of their own ------------------------------------------------------------------
new_root() {
  mkdir -p "$1/etc" "$1/var/lib"
  printf 'root:x:0:0::/:/bin/sh\nnunbird:x:64990:64990::/:/usr/sbin/nologin\n' >"$1/etc/passwd"
  printf 'root:x:0:\nnunbird:x:64990:\ngitlab-runner:x:64991:\n' >"$1/etc/group"
  rpm --root "$1" --initdb
}
install_into() { rpm --root "$1" "$2" --nodeps --noscripts "$3" >"$work/log" 2>&1 || nok "rpm $2 $(basename "$3")" "$(cat "$work/log")"; }
root=$work/root-setuid
new_root "$root"; install_into "$root" -i "$setuid"
same "installed: setuid-root, root's, the runner's group's" "4750 0 64991" "$(stat -c '%a %u %g' "$root$auth")"
same "installed: the keys directory is nunbird's" "755 64990 64990" "$(stat -c '%a %u %g' "$root/var/lib/nunbird/keys")"
same "installed: rpm -V finds nothing" "" "$(rpm --root "$root" -V --nodeps --noscripts nunbird 2>&1)"
version=$(rpm -qp --queryformat '%{VERSION}' "$setuid")
for program in nunbird nunbird-compliance nunbird-exec nunbird-keys nunbirdctl; do
  same "installed: $program runs and has the package's version" "$program $version" "$("$root/opt/nunbird/bin/$program" --version 2>&1)"
done
chown 0:64991 "$root$auth"
rpm --root "$root" -V --nodeps --noscripts nunbird 2>/dev/null | grep -q "M.* $auth" \
  && ok "rpm -V notices that chown cleared the setuid bit" || nok "rpm -V notices that chown cleared the setuid bit"
echo '# the site was here' >>"$root/etc/nunbird/config.toml"
install_into "$root" -U "$(ls "$work"/2/nunbird-[0-9]*)"
same "upgraded: the site's configuration stays" "# the site was here" "$(tail -1 "$root/etc/nunbird/config.toml")"
same "upgraded: setuid again" 4750 "$(stat -c %a "$root$auth")"
rpm --root "$root" -e --noscripts nunbird >"$work/log" 2>&1
[ ! -e "$root/opt/nunbird" ] && grep -q 'the site was here' "$root/etc/nunbird/config.toml.rpmsave" \
  && ok "removed: programs gone, the site's configuration saved" || nok "removed" "$(cat "$work/log")"

root=$work/root-caps
new_root "$root"; install_into "$root" -i "$caps"
same "installed with capabilities: mode and owners" "750 0 64991" "$(stat -c '%a %u %g' "$root$auth")"
same "installed with capabilities: in the file's own attribute" "cap_setgid,cap_setuid=p" \
  "$(getcap "$root$auth" | awk '{print $NF}')"
setcap -r "$root$auth"
rpm --root "$root" -V --nodeps --noscripts nunbird-caps 2>/dev/null | grep -q "P.* $auth" \
  && ok "rpm -V notices that the capabilities are gone" || nok "rpm -V notices that the capabilities are gone"

# ---- units, users and directories as systemd reads them --------------------------------------------------
# With the host's own units beside them, which they refer to.
cp -n /usr/lib/systemd/system/*.target /usr/lib/systemd/system/*.slice "$root/usr/lib/systemd/system/"
verified=$(systemd-analyze verify --root="$root" nunbird-keys.service nunbird-keys.timer nunbird-sweep.service nunbird-sweep.timer nunbird-metrics.service nunbird-metrics.timer nunbird-machines.service nunbird-machines.timer nunbird-credentials.service nunbird-credentials.timer 2>&1 | grep nunbird)
same "systemd finds no fault with the units" "" "$verified"
root=$work/root-systemd
mkdir -p "$root/etc" "$root/usr/lib/sysusers.d" "$root/usr/lib/tmpfiles.d"
cp "$tree/packaging/sysusers.d/nunbird.conf" "$root/usr/lib/sysusers.d/"
cp "$tree/packaging/tmpfiles.d/nunbird.conf" "$root/usr/lib/tmpfiles.d/"
systemd-sysusers --root="$root" nunbird.conf >"$work/log" 2>&1 && systemd-tmpfiles --root="$root" --create nunbird.conf >>"$work/log" 2>&1 \
  && ok "systemd makes the user and the directories" || nok "systemd makes the user and the directories" "$(cat "$work/log")"
uid=$(awk -F: '$1 == "nunbird" && $7 == "/usr/sbin/nologin" {print $3}' "$root/etc/passwd")
same "the directories have the owners and modes that nunbird-auth insists on" \
  "755 0, 755 $uid, 700 0, 750 0" \
  "$(cd "$root/var" && stat -c '%a %u' lib/nunbird lib/nunbird/keys lib/nunbird/jobs log/nunbird | paste -sd, | sed 's/,/, /g')"

# ---- the scriptlet before installation, with an /etc of its own -------------------------------------------
rpm -qp --queryformat '%{PREIN}' "$setuid" >"$work/prein"
mkdir "$work/over"
# shellcheck disable=SC2016
unshare -m sh -c '
  mount -t tmpfs none "$1/over" && mkdir "$1/over/upper" "$1/over/work" &&
  mount -t overlay -o lowerdir=/etc,upperdir="$1/over/upper",workdir="$1/over/work" none /etc || exit 1
  for name in nunbird gitlab-runner; do userdel $name; groupdel $name; done >/dev/null 2>&1
  sh "$1/prein" 1; echo "without the group: $?"
  groupadd -r gitlab-runner
  sh "$1/prein" 1; echo "with it: $?"
  sh "$1/prein" 2; echo "again: $?"
  mkdir -p /etc/nunbird && echo nbt_ci >/etc/nunbird/runner-group
  sh "$1/prein" 1; echo "another group: $?"
  groupadd -r nbt_ci
  sh "$1/prein" 1; echo "that is there: $?"
  getent passwd nunbird | cut -d: -f1,6,7
' sh "$work" >"$work/said" 2>"$work/log"
same "the user is made, and no package without the runner's group" \
  "without the group: 1, with it: 0, again: 0, another group: 1, that is there: 0, nunbird:/:/usr/sbin/nologin" "$(paste -sd, "$work/said" | sed 's/,/, /g')"
grep -q 'there is no group gitlab-runner' "$work/log" && ok "the missing group is named" || nok "the missing group is named" "$(cat "$work/log")"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
