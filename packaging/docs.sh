#!/bin/sh
# Makes the documents a site with search: packaging/docs.sh MDBOOK OUT
#   MDBOOK  the program
#   OUT     directory for the site. One that an earlier run has made is replaced; any other that is not empty is an error
# mdbook takes the sources in the tree's own layout, with SUMMARY.md at its top, so relative links need no change. Links to source code,
# which the site does not have, become their text.
set -eu
[ $# = 2 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
mdbook=$1 out=$2
tree=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$(dirname "$out")"
out=$(cd "$(dirname "$out")" && pwd)/$(basename "$out")
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 1' INT TERM

mkdir "$work/src"
cp "$tree/docs/book.toml" "$tree/docs/book.css" "$work"
(cd "$tree" && find README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md docs -name '*.md') | while read -r page; do
  mkdir -p "$work/src/$(dirname "$page")"
  sed -E 's/\[([^]]*)\]\((\.\.\/)+[^)]*\.(rs|toml|sh)\)/\1/g' "$tree/$page" >"$work/src/$page"
done
sed -e 's|](\([^)]*\))|](docs/\1)|' -e 's|](docs/\.\./|](|' "$work/src/docs/SUMMARY.md" >"$work/src/SUMMARY.md"
rm "$work/src/docs/SUMMARY.md"
# A page of decisions points to the list of all pages, which in the site stands at its side.
sed -i 's|\[SUMMARY.md\](../SUMMARY.md) lists them all|The contents at the side list them all|' "$work/src/docs/adr/README.md"
"$mdbook" build --dest-dir "$work/site" "$work" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
if grep -E 'WARN|ERROR' "$work/log" >&2; then exit 1; fi
chmod -R u=rwX,go=rX "$work/site"
if [ -d "$out" ] && [ ! -L "$out" ] && grep -qs 'Book generated using mdBook' "$out/index.html" && grep -q '<title>.*Nunbird.*</title>' "$out/index.html"; then
  rm -rf --one-file-system "$out"
elif { [ -e "$out" ] || [ -L "$out" ]; } && ! rmdir "$out" 2>/dev/null; then
  echo "$0: $out exists and is not a site that this script has made, so it is not replaced: name another directory, or remove this one" >&2
  exit 1
fi
mv -T "$work/site" "$out"
