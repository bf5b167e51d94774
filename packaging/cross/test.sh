#!/bin/sh
# Runs unit tests of crates whose code depends on the architecture by user-mode emulation: packaging/cross/test.sh aarch64 or ppc64le, after
# packaging/cross/build.sh. They are those of numbers of system calls, filters, and messages of fixed layout.
set -eu
cd "$(dirname "$0")/../.."
case ${1:-} in
  aarch64) rust=aarch64 qemu=aarch64 ;;
  ppc64le) rust=powerpc64le qemu=ppc64le ;;
  *) echo "$0: no architecture \`${1:-}\`: aarch64 or ppc64le" >&2; exit 2 ;;
esac
name=$(echo "$rust" | tr a-z A-Z)
if [ "$rust" = powerpc64le ]; then
  # As packaging/cross/build.sh, which made the file.
  export CFLAGS_powerpc64le_unknown_linux_gnu=-mabi=ibmlongdouble
  export CARGO_TARGET_POWERPC64LE_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C link-arg=$PWD/target/platforms/ppc64le/link/ppc64le.o"
fi
runner=CARGO_TARGET_${name}_UNKNOWN_LINUX_GNU_RUNNER
env "$runner=qemu-$qemu-static -L /usr/$rust-linux-gnu" cargo-zigbuild test --locked --quiet --target "$rust-unknown-linux-gnu.2.28" \
  -p nunbird-filter-proof -p nunbird-wire -p nunbird-messages -p nunbird-requests --lib
