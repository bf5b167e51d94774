#!/bin/sh
# Makes both RPMs from this tree: rpm/build.sh [--prebuilt DIR] [--book DIR] [--arch ARCH] [--vendor | --source] [--out DIR]
#   --prebuilt DIR  take the programs from DIR instead of building them
#   --arch ARCH     rpm's name of the programs' architecture, by default this host's
#   --vendor        put the sources of all dependencies into the archive and build offline; also makes the source RPM
#   --book DIR      documents as a site, from `make docs`, for /opt/nunbird/share/doc
#   --source        make the source RPM alone, with the sources of all dependencies
#   --out DIR       where the packages go (target/rpm)
# Words behind `--` go to rpmbuild. The same programs give the same bytes: times are SOURCE_DATE_EPOCH, or that of the last entry of
# packaging/deb/changelog. Needs no privilege.
set -eu
tree=$(cd "$(dirname "$0")/.." && pwd)
out=$tree/target/rpm prebuilt='' arch='' vendor='' book='' what=-bb
while [ $# -gt 0 ]; do
  case $1 in
    --prebuilt) prebuilt=$(cd "$2" && pwd); shift 2 ;;
    --arch) arch=$2; shift 2 ;;
    --vendor) vendor=--vendor what=-ba; shift ;;
    --source) vendor=--vendor what=-bs; shift ;;
    --book) book=$(cd "$2" && pwd); shift 2 ;;
    --out) out=$2; shift 2 ;;
    --) shift; break ;;
    *) sed -n '2,9s/^# //p' "$0" >&2; exit 2 ;;
  esac
done
mkdir -p "$out"
out=$(cd "$out" && pwd)
top=$(mktemp -d)
trap 'rm -rf --one-file-system "$top"' EXIT
trap 'exit 1' INT TERM

version=$(sed -n 's/^Version: *//p' "$tree/rpm/nunbird.spec")
mkdir -p "$top/SOURCES"
"$tree/packaging/source.sh" $vendor "$top/SOURCES/nunbird-$version.tar.gz"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(date -u -d "$(sed -n 's/^ -- .*>  //p' "$tree/packaging/deb/changelog" | head -1)" +%s)}
export SOURCE_DATE_EPOCH

[ -z "$arch" ] || set -- --target "$arch" "$@"
if [ -n "$prebuilt" ]; then
  set -- --define "prebuilt $prebuilt" "$@"
else
  # What was built for the tree serves the package as well, as far as it is the same.
  export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$tree/target}"
fi
[ -z "$book" ] || set -- --define "book $book" "$@"
# --nodeps: the toolchain is rustup's as often as a package.
if ! rpmbuild $what --nodeps --define "_topdir $top" --define '_buildhost localhost' \
  --define 'use_source_date_epoch_as_buildtime 1' --define 'clamp_mtime_to_source_date_epoch 1' "$@" "$tree/rpm/nunbird.spec" >"$top/log" 2>&1; then
  cat "$top/log" >&2
  exit 1
fi
find "$top/RPMS" "$top/SRPMS" -name '*.rpm' 2>/dev/null | sort | while read -r package; do
  cp "$package" "$out/"
  echo "$out/$(basename "$package")"
done
