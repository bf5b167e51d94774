#!/bin/bash
# What `make test-packages` checks beyond the packages' own checks: packaging/check.sh [DIR], DIR being where the programs are
# (target/staging). Same bytes from the same sources, the source archive, the source RPM without a network, bills of materials,
# lintian and rpmlint.
# root, for the network namespace. Minutes.
set -u
tree=$(cd "$(dirname "$0")/.." && pwd)
programs=${1:-$tree/target/staging}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$tree/Cargo.toml" | head -1)
passed=0 failed=0
ok() { passed=$((passed + 1)); echo "ok      $1"; }
nok() { failed=$((failed + 1)); echo "FAILED  $1"; [ -z "${2-}" ] || printf '        %s\n' "$2"; }
# same WHAT EXPECTED ACTUAL
same() { if [ "$2" = "$3" ]; then ok "$1"; else nok "$1" "expected '$2', found '$3'"; fi; }
if [ "$(id -u)" != 0 ]; then echo "packaging/check.sh: run it as root" >&2; exit 1; fi
for tool in cargo-cyclonedx lintian rpmlint rpmbuild unshare; do
  command -v "$tool" >/dev/null || { echo "packaging/check.sh: $tool is missing: run \`make test-packages\`" >&2; exit 1; }
done
work=$(mktemp -d) || exit 1
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 1' INT TERM
digests() { (cd "$1" && sha256sum -- *."$2"); }

# ---- the source archive, and packages from it --------------------------------------------------------------
"$tree/packaging/source.sh" "$work/1/nunbird.tar.gz" && "$tree/packaging/source.sh" "$work/2/nunbird.tar.gz"
same "two source archives of one tree are the same bytes" "$(digests "$work/1" tar.gz)" "$(digests "$work/2" tar.gz)"
build() { # TREE OUT
  DEB_COMPRESSION=gzip "$1/packaging/deb/build.sh" --prebuilt "$programs" --out "$2" >"$work/log" 2>&1 &&
    "$1/rpm/build.sh" --prebuilt "$programs" --out "$2" -- --define '_binary_payload w1.gzdio' >>"$work/log" 2>&1
}
tar -C "$work/1" -xf "$work/1/nunbird.tar.gz"
build "$tree" "$work/of-tree" && sleep 1 && build "$work/1/nunbird-$version" "$work/of-archive" \
  && ok "packages are built in this tree and in the unpacked archive" \
  || nok "packages are built in this tree and in the unpacked archive" "$(tail -5 "$work/log")"
same "RPMs of the two are the same bytes" "$(digests "$work/of-tree" rpm)" "$(digests "$work/of-archive" rpm)"
same "Debian packages of the two are the same bytes" "$(digests "$work/of-tree" deb)" "$(digests "$work/of-archive" deb)"

# Where it is compiled does not show: both in directories of their own, one after the other.
compiled() { # NAME
  mkdir "$work/$1" && tar -C "$work/$1" -xf "$work/1/nunbird.tar.gz" &&
    (cd "$work/$1/nunbird-$version" && CARGO_TARGET_DIR=$work/$1/target cargo build --locked --quiet --profile staging -p nunbird-auth) >"$work/log" 2>&1 &&
    sha256sum <"$work/$1/target/staging/nunbird-auth"
  rm -rf --one-file-system "${work:?}/$1"
}
first=$(compiled here)
if [ -z "$first" ]; then nok "nunbird-auth is compiled from the archive" "$(tail -5 "$work/log")"; else
  same "nunbird-auth, compiled in two directories, is the same bytes" "$first" "$(compiled elsewhere)"
fi

# ---- the source RPM, without a network -----------------------------------------------------------------------
source_rpm=$("$tree/rpm/build.sh" --source --out "$work/source" 2>"$work/log")
case $source_rpm in *.src.rpm) ok "there is a source RPM" ;; *) nok "there is a source RPM" "$(tail -5 "$work/log")" ;; esac
# As few optimisations as the tests' programs have; an empty directory of cargo's, so that nothing of this host's is used.
mkdir "$work/cargo"
if CARGO_HOME=$work/cargo PATH="$(rustc --print sysroot)/bin:$PATH" unshare --net rpmbuild --rebuild --nodeps \
    --define "_topdir $work/rebuilt" --define 'profile staging' --define '_binary_payload w1.gzdio' "$source_rpm" >"$work/log" 2>&1; then
  ok "the source RPM builds both packages without a network"
else
  nok "the source RPM builds both packages without a network" "$(tail -5 "$work/log")"
fi
same "it builds both packages" 2 "$(find "$work/rebuilt/RPMS" -name '*.rpm' 2>/dev/null | wc -l)"

# ---- bills of materials ---------------------------------------------------------------------------------------
"$tree/packaging/sbom.sh" "$work/sbom" >"$work/log" 2>&1 || nok "bills of materials are written" "$(tail -5 "$work/log")"
same "each program of the package has a bill of materials" \
  "$(rpm -qlp "$work"/of-tree/nunbird-[0-9]*.rpm | sed -n 's|^/opt/nunbird/bin/||p' | LC_ALL=C sort)" \
  "$(find "$work/sbom" -name '*.cdx.json' -printf '%f\n' | sed 's/\.cdx\.json$//' | LC_ALL=C sort)"
listed() { sed -n 's/.*"purl": "pkg:cargo\/\([^@"]*\)@.*/\1/p' "$1" | grep -v '^nunbird' | LC_ALL=C sort -u; }
same "that of nunbird-auth lists all crates of others that it links and that its build runs" \
  "$(cd "$tree" && cargo tree --locked -p nunbird-auth -e normal,build --target all --prefix none | awk '{print $1}' | grep -v '^nunbird' | LC_ALL=C sort -u)" \
  "$(listed "$work/sbom/nunbird-auth.cdx.json")"
"$tree/packaging/sbom.sh" "$work/sbom2" >"$work/log" 2>&1
same "two of them are the same bytes" "$(digests "$work/sbom" json)" "$(digests "$work/sbom2" json)"

# ---- what the distributions' own checks find -------------------------------------------------------------------
same "lintian finds no error" "" "$(lintian --allow-root --fail-on error --tag-display-limit 0 "$work"/of-tree/*.deb 2>&1 | grep '^E:')"
same "rpmlint finds no error but those that rpm/rpmlint.toml names" "" \
  "$(rpmlint --config "$tree/rpm/rpmlint.toml" "$work"/of-tree/*.rpm 2>&1 | grep ': E:')"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
