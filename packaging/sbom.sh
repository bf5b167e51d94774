#!/bin/sh
# Writes a bill of materials of each program, in CycloneDX's JSON, by cargo-cyclonedx: packaging/sbom.sh DIR
# The same sources give the same bytes: times as in packaging/source.sh.
set -eu
tree=$(cd "$(dirname "$0")/.." && pwd)
[ $# = 1 ] || { sed -n '2,3s/^# //p' "$0" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 1' INT TERM
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(date -u -d "$(sed -n 's/^ -- .*>  //p' "$tree/packaging/deb/changelog" | head -1)" +%s)}
export SOURCE_DATE_EPOCH
# It writes beside each manifest, so in a copy, at a path that does not differ between two calls: paths are in what it writes.
"$tree/packaging/source.sh" "$work/nunbird.tar.gz"
tar -C "$work" -xf "$work/nunbird.tar.gz"
cd "$work"/nunbird-*/
cargo cyclonedx --quiet --format json --describe binaries --target all
for program in nunbird nunbird-auth nunbird-compliance nunbird-decide nunbird-exec nunbird-keys nunbird-limits nunbird-machine nunbird-session nunbird-validate nunbirdctl; do
  found=$(find . -name "${program}_bin.cdx.json" -o -name "$program.cdx.json")
  [ -n "$found" ] || { echo "$0: cargo-cyclonedx wrote nothing for $program" >&2; exit 1; }
  sed "s|$work/|/|g" "$found" >"$out/$program.cdx.json"
done
