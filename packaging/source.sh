#!/bin/sh
# Makes the source archive of this tree: packaging/source.sh [--vendor] OUT
#   --vendor  with the sources of all dependencies in vendor/, and the setting that has cargo use them
#   OUT       the archive, .tar.gz
# Of a git checkout it has the files that git knows, and without git's answer there is no archive: it would contain everything else that
# lies in the checkout. Without .git it has all files but target and vendor. The same files give the same bytes: times are SOURCE_DATE_EPOCH, or that of the last
# entry of packaging/deb/changelog.
set -eu
tree=$(cd "$(dirname "$0")/.." && pwd -P)
vendor=''
if [ "${1-}" = --vendor ]; then vendor=1; shift; fi
[ $# = 1 ] || { sed -n '2,7s/^# //p' "$0" >&2; exit 2; }
name=nunbird-$(sed -n 's/^version = "\(.*\)"/\1/p' "$tree/Cargo.toml" | head -1)
time=${SOURCE_DATE_EPOCH:-$(date -u -d "$(sed -n 's/^ -- .*>  //p' "$tree/packaging/deb/changelog" | head -1)" +%s)}
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 1' INT TERM
mkdir "$work/$name"
if [ -e "$tree/.git" ]; then
  # git prints what is wrong, such as `detected dubious ownership` and the command that allows it.
  top=$(git -C "$tree" rev-parse --show-toplevel)
  [ "$top" = "$tree" ] || { echo "$0: git takes $tree for a part of $top: is $tree/.git damaged?" >&2; exit 1; }
  git -C "$tree" ls-files -z >"$work/files"
  tar -C "$tree" --null -T "$work/files" -cf - | tar -C "$work/$name" -xf -
else
  tar -C "$tree" --exclude-vcs --exclude=./target --exclude=./vendor -cf - . | tar -C "$work/$name" -xf -
fi
if [ -n "$vendor" ]; then
  mkdir -p "$work/$name/.cargo"
  # Its output is the setting; with --quiet there is none.
  (cd "$work/$name" && cargo vendor --locked --versioned-dirs vendor >>.cargo/config.toml) 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
  grep -q '^directory = "vendor"' "$work/$name/.cargo/config.toml" || { echo "$0: cargo vendor did not print its setting" >&2; exit 1; }
fi
mkdir -p "$(dirname "$1")"
tar -C "$work" --sort=name --mtime="@$time" --owner=0 --group=0 --numeric-owner --mode=u+rwX,go=rX -cf - "$name" | gzip -9n >"$1.new"
mv "$1.new" "$1"
