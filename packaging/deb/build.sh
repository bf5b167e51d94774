#!/bin/sh
# Makes both Debian packages: packaging/deb/build.sh [--prebuilt DIR] [--book DIR] [--arch ARCH] [--out DIR]
#   --prebuilt DIR  take the programs from DIR instead of building them
#   --book DIR      documents as a site, from `make docs`, for /opt/nunbird/share/doc
#   --arch ARCH     the programs' architecture, by Debian's name or the kernel's (arm64, aarch64), by default this host's
#   --out DIR       where the packages go (target/deb)
# The same programs give the same bytes: times are SOURCE_DATE_EPOCH, or those of the changelog. DEB_REVISION (1) and DEB_COMPRESSION
# (xz) may be in the environment. Needs no privilege.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tree=$(cd "$here/../.." && pwd)
out=$tree/target/deb prebuilt='' book='' arch=$(dpkg --print-architecture)
while [ $# -gt 0 ]; do
  case $1 in
    --prebuilt) prebuilt=$(cd "$2" && pwd); shift 2 ;;
    --book) book=$(cd "$2" && pwd); shift 2 ;;
    --arch) arch=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    *) sed -n '2,8s/^# //p' "$0" >&2; exit 2 ;;
  esac
done
if [ -z "$prebuilt" ]; then
  make --no-print-directory -C "$tree" build >&2
  prebuilt=${CARGO_TARGET_DIR:-$tree/target}/release
fi
case $arch in
  x86_64) arch=amd64 ;;
  aarch64) arch=arm64 ;;
  ppc64le) arch=ppc64el ;;
esac
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 1' INT TERM
umask 022
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$tree/Cargo.toml" | head -1)-${DEB_REVISION:-1}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(date -u -d "$(sed -n 's/^ -- .*>  //p' "$here/changelog" | head -1)" +%s)}
export SOURCE_DATE_EPOCH

# The newest version of glibc's symbols that a program needs. readelf reads programs of every architecture.
programs=$(cd "$prebuilt" && ls -d nunbird nunbird-auth nunbird-compliance nunbird-decide nunbird-exec nunbird-keys nunbird-limits nunbird-machine nunbird-session nunbird-validate nunbirdctl)
glibc=$(cd "$prebuilt" && for program in $programs; do readelf --wide --version-info "$program"; done |
  sed -n 's/.*Name: GLIBC_\([0-9.]*\).*/\1/p' | sort -uV | tail -1)
[ -n "$glibc" ] || { echo "$0: no program in $prebuilt names a version of glibc: are they linked for Linux with glibc?" >&2; exit 1; }

# cargo-zigbuild links an unwinder of its own; programs that are built on a host need GCC's.
unwinder=''
for program in $programs; do
  if readelf --wide --dynamic "$prebuilt/$program" | grep 'NEEDED.*\[libgcc_s\.so\.1\]' >/dev/null; then unwinder=', libgcc-s1'; fi
done

# package NAME OTHER SUMMARY PRIVILEGE
package() {
  root=$work/$1
  BOOK=$book PAM=nunbird.debian ZSHDIR=/usr/share/zsh/vendor-completions "$tree/packaging/install.sh" "$prebuilt" "$root"
  # The privilege comes with the installation, when the group is known.
  chmod 0700 "$root/opt/nunbird/bin/nunbird-auth"
  find "$root/usr/share/man" -type f -exec gzip -9n {} +
  doc=$root/usr/share/doc/$1
  install -D -m 0644 "$here/copyright" "$doc/copyright"
  gzip -9nc "$here/changelog" >"$doc/changelog.Debian.gz"
  install -D -m 0644 "$here/lintian-overrides" "$root/usr/share/lintian/overrides/$1"
  sed -i "s/@PACKAGE@/$1/" "$root/usr/share/lintian/overrides/$1"
  mkdir "$root/DEBIAN"
  for script in preinst postinst prerm postrm; do
    sed -e "s/@PRIVILEGE@/$4/" -e "s/@PACKAGE@/$1/g" "$here/$script" >"$root/DEBIAN/$script"
    chmod 0755 "$root/DEBIAN/$script"
  done
  (cd "$root" && find etc -type f | LC_ALL=C sort | sed 's|^|/|') >"$root/DEBIAN/conffiles"
  (cd "$root" && find . -path ./DEBIAN -prune -o -path ./etc -prune -o -type f -print | sed 's|^\./||' | LC_ALL=C sort | xargs md5sum) >"$root/DEBIAN/md5sums"
  capabilities=
  [ "$4" != capabilities ] || capabilities=', libcap2-bin'
  cat >"$root/DEBIAN/control" <<CONTROL
Package: $1
Version: $version
Architecture: $arch
Maintainer: Nunbird maintainers <maintainers@nunbird.invalid>
Section: admin
Priority: optional
Depends: libc6 (>= $glibc)$unwinder, libpam0g, passwd$capabilities
Recommends: logrotate, systemd
Suggests: gitlab-runner
Conflicts: $2
Replaces: $2
Installed-Size: $(du -sk --apparent-size "$root" | cut -f1)
Description: $3
 Nunbird is a driver for gitlab-runner's custom executor. One small privileged
 program proves from the job's id token who the job belongs to, decides by the
 site's rules which account it may use, gives up all privilege and starts an
 unprivileged launcher, which runs the job.
 .
 In this package the privileged program has $5, for the group that runs
 gitlab-runner alone.
CONTROL
  find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  dpkg-deb --root-owner-group -Z"${DEB_COMPRESSION:-xz}" --build "$root" "$out/$1_${version}_$arch.deb" >/dev/null
  echo "$out/$1_${version}_$arch.deb"
}
package nunbird nunbird-caps 'runs GitLab CI jobs on HPC systems as the user who started them' setuid 'a setuid bit'
package nunbird-caps nunbird 'runs GitLab CI jobs on HPC systems as the user who started them (caps)' capabilities 'two file capabilities'
