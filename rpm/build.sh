#!/bin/sh
# Makes both RPMs from this tree: rpm/build.sh [--prebuilt DIR] [--vendor] [--book DIR] [--out DIR]
#   --prebuilt DIR  take the nine programs from DIR instead of building them
#   --vendor        put the sources of all dependencies into the archive and build offline; also makes the source RPM
#   --book DIR      documents as a site, from `make docs`, for /opt/nunbird/share/doc
#   --out DIR       where the packages go (target/rpm)
# Words behind `--` go to rpmbuild. Needs no privilege.
set -eu
tree=$(cd "$(dirname "$0")/.." && pwd)
out=$tree/target/rpm prebuilt='' vendor='' book='' what=-bb
while [ $# -gt 0 ]; do
  case $1 in
    --prebuilt) prebuilt=$(cd "$2" && pwd); shift 2 ;;
    --vendor) vendor=1 what=-ba; shift ;;
    --book) book=$(cd "$2" && pwd); shift 2 ;;
    --out) out=$2; shift 2 ;;
    --) shift; break ;;
    *) sed -n '2,7s/^# //p' "$0" >&2; exit 2 ;;
  esac
done
mkdir -p "$out"
out=$(cd "$out" && pwd)
top=$(mktemp -d)
trap 'rm -rf "$top"' EXIT
trap 'exit 1' INT TERM

version=$(sed -n 's/^Version: *//p' "$tree/rpm/nunbird.spec")
name=nunbird-$version
mkdir -p "$top/SOURCES" "$top/$name"
tar -C "$tree" --exclude-vcs --exclude=./target --exclude=./vendor -cf - . | tar -C "$top/$name" -xf -
if [ -n "$vendor" ]; then
  mkdir -p "$top/$name/.cargo"
  (cd "$top/$name" && cargo vendor --quiet --locked --versioned-dirs vendor >>.cargo/config.toml)
fi
tar -C "$top" --sort=name --owner=0 --group=0 --numeric-owner -czf "$top/SOURCES/$name.tar.gz" "$name"
rm -rf "${top:?}/$name"

if [ -n "$prebuilt" ]; then
  set -- --define "prebuilt $prebuilt" "$@"
else
  # What was built for the tree serves the package as well, as far as it is the same.
  export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$tree/target}"
fi
[ -z "$book" ] || set -- --define "book $book" "$@"
# --nodeps: the toolchain is rustup's as often as a package.
if ! rpmbuild $what --nodeps --define "_topdir $top" "$@" "$tree/rpm/nunbird.spec" >"$top/log" 2>&1; then
  cat "$top/log" >&2
  exit 1
fi
find "$top/RPMS" "$top/SRPMS" -name '*.rpm' 2>/dev/null | sort | while read -r package; do
  cp "$package" "$out/"
  echo "$out/$(basename "$package")"
done
