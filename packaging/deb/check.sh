#!/bin/bash
# Builds both Debian packages from programs that are already built, and installs, upgrades, exchanges and removes them in a
# copy of this system: packaging/deb/check.sh [DIR], DIR being where the programs are (target/staging). root, on Debian.
set -u
tree=$(cd "$(dirname "$0")/../.." && pwd)
programs=${1:-${NUNBIRD_BIN_DIR:-$tree/target/staging}}
passed=0 failed=0
ok() { passed=$((passed + 1)); echo "ok      $1"; }
nok() { failed=$((failed + 1)); echo "FAILED  $1"; [ -z "${2-}" ] || printf '        %s\n' "$2"; }
# same WHAT EXPECTED ACTUAL
same() { if [ "$2" = "$3" ]; then ok "$1"; else nok "$1" "expected '$2', found '$3'"; fi; }
if [ "$(id -u)" != 0 ]; then echo "packaging/deb/check.sh: run it as root" >&2; exit 1; fi
# The copy of this system is an overlay on a file system in memory, in a mount namespace of its own: both go with the namespace.
# Nothing is removed by name, so that no mistake here can reach the system's own files.
if [ -z "${IN_NAMESPACE-}" ]; then
  work=$(mktemp -d) || exit 1
  IN_NAMESPACE=$work unshare --mount --propagation private "$0" "$programs"
  status=$?
  rmdir "$work"
  exit "$status"
fi
work=$IN_NAMESPACE
mount -t tmpfs none "$work" || exit 1

build() { # OUT
  # Fast to pack: what is in the packages is what counts here.
  DEB_COMPRESSION=none "$tree/packaging/deb/build.sh" --prebuilt "$programs" --out "$work/$1" >"$work/log" 2>&1
}
if build 1 && build 2; then ok "both packages are built, twice"; else nok "both packages are built, twice" "$(tail -5 "$work/log")"; fi
same "two builds are the same bytes" "$(cd "$work/1" && sha256sum ./*)" "$(cd "$work/2" && sha256sum ./*)"
setuid=$(ls "$work/1"/nunbird_*) caps=$(ls "$work/1"/nunbird-caps_*)
same "no file of a package has privilege before its group is known" "" \
  "$(for one in "$setuid" "$caps"; do dpkg-deb -c "$one" | awk '$1 ~ /[sStT]/ || $1 ~ /^.....w|^........w/ && $1 !~ /^l/ {print $NF}'; done)"
same "both packages have the same programs" \
  "$(dpkg-deb --ctrl-tarfile "$setuid" | tar -xO ./md5sums | grep ' opt/')" "$(dpkg-deb --ctrl-tarfile "$caps" | tar -xO ./md5sums | grep ' opt/')"

same "the packages depend on GCC's unwinder where a program needs it" \
  "$(cd "$programs" && ls | grep -x "nunbird[a-z-]*" | xargs readelf --wide --dynamic | sed -n 's/.*NEEDED.*\[libgcc_s\.so\.1\].*/libgcc-s1/p' | sort -u)" \
  "$(dpkg-deb --field "$setuid" Depends | tr -d ' ' | tr , '\n' | grep libgcc)"

# ---- another prefix, as by `make install PREFIX= DESTDIR=` ---------------------------------------------------
PREFIX=/srv/nbt "$tree/packaging/install.sh" "$programs" "$work/prefix"
same "another prefix: no unit and no configuration names the usual one" "" "$(grep -rl /opt/nunbird "$work/prefix/etc" "$work/prefix/usr/lib" "$work/prefix/srv/nbt/share/privilege.sh")"
same "another prefix: the launcher of the configuration" 'launcher = "/srv/nbt/bin/nunbird"' "$(grep '^launcher' "$work/prefix/etc/nunbird/config.toml")"
same "another prefix: links in PATH lead there" /srv/nbt/bin/nunbirdctl "$(readlink "$work/prefix/usr/bin/nunbirdctl")"
same "no link between the installed pages is dead" "" "$(cd "$work/prefix/srv/nbt/share" &&
  grep -roE '\]\([^)#: ]*\.md' --include='*.md' . | while IFS=: read -r page link; do [ -e "${page%/*}/${link#*(}" ] || echo "$page: ${link#*(}"; done)"

# ---- the documents as a site, if they were built ------------------------------------------------------------
mkdir -p "$work/book/docs" "$work/book/rustdoc"
touch "$work/book/index.html" "$work/book/docs/user-guide.html" "$work/book/rustdoc/index.html"
BOOK=$work/book "$tree/packaging/install.sh" "$programs" "$work/with-book"
same "the site is installed, without the documentation of the crates" "./docs/user-guide.html ./index.html" \
  "$(cd "$work/with-book/opt/nunbird/share/doc" && find . -type f | LC_ALL=C sort | paste -sd' ')"
"$tree/packaging/install.sh" "$programs" "$work/with-book"
same "no site of another version stays" "" "$(ls -d "$work/with-book/opt/nunbird/share/doc" 2>/dev/null)"

# A directory of others is no prefix: their share/doc is not to be replaced.
mkdir -p "$work/shared/usr/share/doc/other" "$work/shared/usr/local/share/doc/other"
for prefix in / /usr /usr/ //usr//local / /opt /opt/../usr; do
  PREFIX=$prefix "$tree/packaging/install.sh" "$programs" "$work/shared" >/dev/null 2>&1 && status=0 || status=$?
  same "PREFIX=$prefix is refused" 2 "$status"
done
same "directories of others are as before" "other other" \
  "$(ls "$work/shared/usr/share/doc" "$work/shared/usr/local/share/doc" | grep other$ | grep -v : | paste -sd' ')"

# ---- installed into a copy of this system ------------------------------------------------------------------
root=$work/root
mkdir "$root" "$work/upper" "$work/work"
mount -t overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" none "$root" || exit 1
[ "$(stat -f -c %T "$root")" = overlayfs ] || exit 1
mount -t proc none "$root/proc" && mount -t tmpfs none "$root/dev" || exit 1
for device in null:3 zero:5 random:8 urandom:9; do mknod -m 666 "$root/dev/${device%:*}" c 1 "${device#*:}"; done
# Where man-db is installed, dpkg would index all pages of this host again and again, which takes longer than everything else here.
rm -f "$root/var/lib/man-db/auto-update"
mkdir "$root/packages"
mount -t tmpfs none "$root/packages" || exit 1
cp -r "$work"/[12] "$root/packages/"
in_root() { chroot "$root" "$@" </dev/null; }
auth=/opt/nunbird/bin/nunbird-auth
in_root sh -c 'rm -rf /opt/nunbird /etc/nunbird /var/lib/nunbird /var/log/nunbird; for name in nunbird gitlab-runner nbt_ci; do userdel $name; groupdel $name; done' >/dev/null 2>&1
install() { in_root dpkg -i "/packages/$1/$(basename "$2")" >"$work/log" 2>&1; }
mode() { in_root stat -c '%a %U:%G' "$auth"; }

if install 1 "$setuid"; then nok "no installation without the runner's group"; else
  grep -q 'there is no group gitlab-runner' "$work/log" && ok "no installation without the runner's group" || nok "no installation without the runner's group" "$(tail -3 "$work/log")"
fi
in_root groupadd -r gitlab-runner
install 1 "$setuid" && ok "installed" || nok "installed" "$(tail -5 "$work/log")"
same "nunbird-auth is setuid-root for the runner's group" "4750 root:gitlab-runner" "$(mode)"
same "nothing else is setuid, setgid or has capabilities" "$auth" \
  "$(in_root sh -c 'find /opt/nunbird -perm /6000; getcap -r /opt/nunbird')"
same "the directories have the owners and modes that nunbird-auth insists on" \
  "755 root, 755 nunbird, 700 root, 755 root, 700 root, 750 root" \
  "$(in_root sh -c 'cd /var && stat -c "%a %U" lib/nunbird lib/nunbird/keys lib/nunbird/jobs lib/nunbird/machines lib/nunbird/people log/nunbird' | paste -sd, | sed 's/,/, /g')"
same "dpkg -V finds nothing" "" "$(in_root dpkg -V nunbird)"
for program in nunbirdctl nunbird nunbird-exec nunbird-keys nunbird-compliance; do
  same "$program is in PATH" "$program $(sed -n 's/^version = "\(.*\)"/\1/p' "$tree/Cargo.toml" | head -1)" "$(in_root $program --version 2>&1)"
done
for page in man1/nunbirdctl.1 man1/nunbird-exec.1 man5/nunbird.toml.5 man5/authorized_projects.5 man8/nunbird-auth.8 man8/nunbird-keys.8 man8/nunbird.8; do
  [ -e "$root/usr/share/man/$page.gz" ] && ok "there is a manual page $page" || nok "there is a manual page $page"
done
same "the timers are enabled" "nunbird-keys.timer nunbird-sweep.timer" "$(cd "$root/etc/systemd/system/timers.target.wants" && echo nunbird-*)"
echo '# the site was here' >>"$root/etc/nunbird/config.toml"

DEB_REVISION=2 build 3
cp -r "$work/3" "$root/packages/"
newer=$(ls "$work/3"/nunbird_*-2_*)
install 3 "$newer" && ok "upgraded" || nok "upgraded" "$(tail -5 "$work/log")"
same "upgraded: the site's configuration stays" "# the site was here" "$(tail -1 "$root/etc/nunbird/config.toml")"
same "upgraded: setuid for the group" "4750 root:gitlab-runner" "$(mode)"
install 1 "$setuid" && ok "downgraded" || nok "downgraded" "$(tail -5 "$work/log")"

in_root groupadd -r nbt_ci
echo nbt_ci >"$root/etc/nunbird/runner-group"
in_root dpkg -i --auto-deconfigure "/packages/1/$(basename "$caps")" >"$work/log" 2>&1
same "exchanged for the package with capabilities" "install ok installed" "$(in_root dpkg-query -W -f '${Status}' nunbird-caps)"
same "exchanged: no setuid bit, for the group that root has named" "750 root:nbt_ci" "$(mode)"
same "exchanged: two capabilities, permitted" "$auth cap_setgid,cap_setuid=p" "$(in_root getcap "$auth")"
same "exchanged: dpkg has no setuid bit for it" "" "$(in_root dpkg-statoverride --list "$auth")"
same "exchanged: dpkg -V finds the site's configuration alone" "??5?????? c /etc/nunbird/config.toml" "$(in_root dpkg -V nunbird-caps)"

in_root dpkg --remove nunbird-caps >"$work/log" 2>&1 && ok "removed" || nok "removed" "$(tail -5 "$work/log")"
[ ! -e "$root$auth" ] && grep -q 'the site was here' "$root/etc/nunbird/config.toml" \
  && ok "removed: programs gone, the configuration there" || nok "removed: programs gone, the configuration there"
in_root dpkg --purge nunbird-caps nunbird >"$work/log" 2>&1 && [ ! -e "$root/etc/nunbird/config.toml" ] && [ -d "$root/var/lib/nunbird/jobs" ] \
  && ok "purged: the configuration gone, records and audit file there" || nok "purged" "$(tail -5 "$work/log")"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
