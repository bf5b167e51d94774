#!/bin/sh
# Builds Nunbird's programs for an architecture and for every glibc from 2.28 on (RHEL 8): packaging/cross/build.sh ARCHITECTURE [PROFILE],
# with x86_64, aarch64 or ppc64le. All are then in target/platforms/ARCHITECTURE. `make cross TARGET=ARCHITECTURE` installs what
# this needs: a target of rustup's, cargo-zigbuild, and zig, by CARGO_ZIGBUILD_ZIG_PATH. docs/building.md has the reasons.
set -eu
cd "$(dirname "$0")/../.."
glibc=2.28
architecture=${1:-} profile=${2:-release}
case $architecture in
  x86_64 | aarch64) rust=$architecture ;;
  ppc64le) rust=powerpc64le ;;
  *) echo "$0: no architecture \`$architecture\`: x86_64, aarch64 or ppc64le" >&2; exit 2 ;;
esac
target=$rust-unknown-linux-gnu
to=target/platforms/$architecture
mkdir -p "$to/link"
# Where the compiler is a distribution's, its target has to be there already.
! command -v rustup >/dev/null || rustup --quiet target add "$target" 2>/dev/null || :
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
  echo "$0: this compiler has no standard library for $target: \`rustup target add $target\`, or your distribution's package of it" >&2
  exit 1
fi

# libpam is the one library beside the C library's; its headers and those of its architecture are not needed for a name.
"$CARGO_ZIGBUILD_ZIG_PATH" cc -target "$rust-linux-gnu.$glibc" -shared -nostdlib -Wl,-soname,libpam.so.0 \
  -Wl,--version-script=packaging/cross/libpam.map -o "$to/link/libpam.so" packaging/cross/libpam.c

link="-L native=$PWD/$to/link"
if [ "$architecture" = ppc64le ]; then
  # zig's C compiler takes the long double that glibc has functions for from 2.32 on; RHEL 8 has IBM's.
  export CFLAGS_powerpc64le_unknown_linux_gnu=-mabi=ibmlongdouble
  "$CARGO_ZIGBUILD_ZIG_PATH" cc -target "$rust-linux-gnu.$glibc" -mabi=ibmlongdouble -c -O2 -ffunction-sections \
    -o "$to/link/ppc64le.o" packaging/cross/ppc64le.c
  link="$link -C link-arg=$PWD/$to/link/ppc64le.o"
fi
flags=CARGO_TARGET_$(echo "$rust" | tr a-z A-Z)_UNKNOWN_LINUX_GNU_RUSTFLAGS
export "$flags=$link"

built=${CARGO_TARGET_DIR:-target}/$target
programs='nunbird-auth nunbird-decide nunbird nunbird-exec nunbird-keys nunbird-limits nunbird-machine nunbird-session nunbird-validate nunbirdctl'
# shellcheck disable=SC2046 # one -p for each
cargo-zigbuild zigbuild --locked --quiet --profile "$profile" --target "$target.$glibc" $(printf -- '-p %s ' $programs)
for program in $programs; do install -m 755 "$built/$profile/$program" "$to/$program"; done
# As `make build`: where a case fails, this one cleans up by unwinding.
cargo-zigbuild zigbuild --locked --quiet --profile suite --target "$target.$glibc" -p nunbird-tests --bin nunbird-compliance
install -m 755 "$built/suite/nunbird-compliance" "$to/nunbird-compliance"
