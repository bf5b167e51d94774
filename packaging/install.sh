#!/bin/sh
# Lays an installation out, as `make install` and every package have it: packaging/install.sh PROGRAMS [DESTDIR]
#   PROGRAMS  directory with the programs
#   DESTDIR   directory to write below, / by default
# In the environment: PREFIX (/opt/nunbird), and where the system looks: BINDIR, MANDIR, UNITDIR, SYSUSERSDIR, TMPFILESDIR, BASHDIR,
# ZSHDIR, FISHDIR. BOOK is the documents as a site, from `make docs`, if they are to be installed. A configuration that exists stays. Nothing gets privilege: packaging/privilege.sh does that.
set -eu
tree=$(cd "$(dirname "$0")/.." && pwd)
[ $# -ge 1 ] || { sed -n '2,6s/^# //p' "$0" >&2; exit 2; }
programs=$1 root=${2-}
prefix=${PREFIX:-/opt/nunbird}
share=$root$prefix/share
case $prefix in /*) ;; *) echo "PREFIX must be an absolute path, not $prefix" >&2; exit 2 ;; esac
# What is below the prefix is Nunbird's alone: files of other packages have the same names, and `share/doc` is replaced as a whole.
case $(printf '%s/' "$prefix" | tr -s /) in
  / | /usr/ | /usr/local/ | /opt/ | /etc/ | /var/ | /home/ | /srv/ | /root/)
    echo "PREFIX must be a directory of Nunbird's own, such as /opt/nunbird or /usr/local/nunbird, not $prefix" >&2
    exit 2
    ;;
  */../* | */./*) echo "PREFIX must not contain . or .., unlike $prefix" >&2; exit 2 ;;
esac

# With the prefix in place of the usual one, in files that name programs.
put() { # MODE FROM TO
  install -d "$(dirname "$3")"
  sed "s|/opt/nunbird|$prefix|g" "$2" >"$3.new"
  chmod "$1" "$3.new"
  mv -f "$3.new" "$3"
}
# Only where there is none.
put_configuration() {
  [ -e "$2" ] && return
  put 0644 "$1" "$2"
  # The launcher of another prefix, which the shipped file has as a comment.
  [ "$prefix" = /opt/nunbird ] || sed -i 's|^#launcher = |launcher = |' "$2"
}

install -d -m 0755 "$root$prefix" "$root$prefix/bin" "$share"
while read -r mode program; do
  install -p -m "$mode" "$programs/$program" "$root$prefix/bin/$program"
done <<'MODES'
0750 nunbird-auth
0711 nunbird
0755 nunbird-compliance
0755 nunbird-decide
0755 nunbird-exec
0755 nunbird-keys
0711 nunbird-limits
0700 nunbird-machine
0700 nunbird-session
0755 nunbird-validate
0755 nunbirdctl
MODES

# What people call is in PATH.
bin=${BINDIR:-/usr/bin}
install -d "$root$bin"
for program in nunbirdctl nunbird nunbird-exec nunbird-keys nunbird-compliance; do
  ln -sf "$prefix/bin/$program" "$root$bin/$program"
done

man=$root${MANDIR:-/usr/share/man}
for page in "$tree"/packaging/man/*.[158] "$tree"/packaging/man/written/*.[158] "$tree"/packaging/man/exec/*.[158]; do
  install -D -p -m 0644 "$page" "$man/man${page##*.}/${page##*/}"
done
for program in nunbird nunbirdctl; do
  install -D -p -m 0644 "$tree/packaging/completions/$program.bash" "$root${BASHDIR:-/usr/share/bash-completion/completions}/$program"
  install -D -p -m 0644 "$tree/packaging/completions/_$program" "$root${ZSHDIR:-/usr/share/zsh/site-functions}/_$program"
  install -D -p -m 0644 "$tree/packaging/completions/$program.fish" "$root${FISHDIR:-/usr/share/fish/vendor_completions.d}/$program.fish"
done

# The pages of docs/ are beside those of the tree's top here, and links between them lead accordingly.
(cd "$tree" && find README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md docs -name '*.md') | while read -r page; do
  to=$share/${page#docs/}
  case $page in docs/*/*) from='\.\./\.\./' there='../' ;; docs/*) from='\.\./' there= ;; *) from='docs/' there= ;; esac
  install -d "$(dirname "$to")"
  sed "s#](${from}#](${there}#g" "$tree/$page" >"$to.new"
  chmod 0644 "$to.new"
  mv -f "$to.new" "$to"
done
install -p -m 0644 "$tree/LICENSE-APACHE" "$tree/LICENSE-MIT" "$share"
for file in config.toml nunbird.schema.json gitlab-runner.toml pam.d/nunbird pam.d/nunbird.debian sudoers.d/nunbird gitlab-runner.service.d/10-nunbird.conf \
  monitoring/alerts.yml monitoring/dashboard.json; do
  put 0644 "$tree/packaging/$file" "$share/$file"
done
# Without the documentation of the crates, which is for people who have the sources.
rm -rf --one-file-system "$share/doc"
if [ -n "${BOOK-}" ]; then
  (cd "$BOOK" && find . -path ./rustdoc -prune -o -type f -print) | while read -r file; do
    install -D -p -m 0644 "$BOOK/$file" "$share/doc/$file"
  done
fi
put 0755 "$tree/packaging/privilege.sh" "$share/privilege.sh"

put_configuration "$tree/packaging/config.toml" "$root/etc/nunbird/config.toml"
put_configuration "$tree/packaging/floor" "$root/etc/nunbird/floor"
put_configuration "$tree/packaging/pam.d/${PAM:-nunbird}" "$root/etc/pam.d/nunbird"
put_configuration "$tree/packaging/logrotate.d/nunbird" "$root/etc/logrotate.d/nunbird"

units=$root${UNITDIR:-/usr/lib/systemd/system}
for unit in nunbird-keys.service nunbird-keys.timer nunbird-sweep.service nunbird-sweep.timer nunbird-metrics.service nunbird-metrics.timer \
  nunbird-machines.service nunbird-machines.timer nunbird-credentials.service nunbird-credentials.timer; do
  put 0644 "$tree/packaging/$unit" "$units/$unit"
done
put 0644 "$tree/packaging/sysusers.d/nunbird.conf" "$root${SYSUSERSDIR:-/usr/lib/sysusers.d}/nunbird.conf"
put 0644 "$tree/packaging/tmpfiles.d/nunbird.conf" "$root${TMPFILESDIR:-/usr/lib/tmpfiles.d}/nunbird.conf"
