# Nunbird's three commands are `make demo`, `make check` and `make test`. Demo and test install what they need (Debian 12,
# root) and leave nothing behind on the host but packages and what cargo builds; check needs a compiler and libpam alone.

CARGO ?= cargo
TOOLS ?= /var/cache/nunbird-tools
DENY_VERSION = 0.20.2
MUTANTS_VERSION = 27.1.0
MDBOOK_VERSION = 0.5.4
ZIG_VERSION = 0.17.1
ZIGBUILD_VERSION = 0.24.1
CYCLONEDX_VERSION = 0.5.9
PROGRAMS = -p nunbird-auth -p nunbird-decide -p nunbird -p nunbird-exec -p nunbird-keys -p nunbird-limits -p nunbird-machine -p nunbird-session -p nunbird-validate -p nunbirdctl
export NUNBIRD_BIN_DIR = $(CURDIR)/target/staging
# The list of skipped checks and tests, one per line: skip/src/lib.rs.
export NUNBIRD_SKIPS ?= $(CURDIR)/target/skipped

PREFIX ?= /opt/nunbird

.PHONY: help build install deb demo check test test-containers test-host test-scheduler test-schedulers test-platforms test-packages first-hour test-ansible cross dist srpm sbom rpm-container setup programs suite installable lint deny no-skips unit rooted fuzz mutants transcripts manual docs bench bench-check bench-baseline rpm privileged-code unsafe-code clean

help:
	@echo "make demo     run one CI job through the installed privileged program and show what happened"
	@echo "make check    format, lints and the tests that need no root, in less than two minutes after the first build"
	@echo "make test     install what the tests need, then run every check and every test (root)"
	@echo "make test-host  the long suite on booted hosts: a thousand jobs, a virtual machine with cgroup 2 (root)"
	@echo "make test-scheduler SCHEDULER=fake-pbs  run the compliance suite with one scheduler; without SCHEDULER, with those of make test (root)"
	@echo "make test-schedulers  the same with all of them, including the Slurm and HTCondor of newer Debian releases (root)"
	@echo "make test-containers  container engines of Debian's unstable release: Podman 5, Charliecloud, Apptainer (root)"
	@echo "make first-hour  follow the admin guide's first hour on a fresh host, with the time of each step (root)"
	@echo "make test-ansible  the role of packaging/ansible on a booted host, twice, and a playbook for a machine's tree (root)"
	@echo "make cross TARGET=aarch64  build the programs for x86_64, aarch64 or ppc64le and every glibc from 2.28 on"
	@echo "make test-platforms  build them for all three, and see what they need of a host and that they run (root, for the packages)"
	@echo "make test-packages  that, all checks of packages, lintian and rpmlint, and packages from the source archive (root)"
	@echo "make fuzz     run libFuzzer on all parsers of untrusted bytes (FUZZ_SECONDS=60 each)"
	@echo "make mutants  change the code in one place at a time and see which tests notice (hours; MUTANTS=\"drop token\")"
	@echo "make bench    measure start-up time and memory against named peers"
	@echo "make bench-check  compare instruction counts with the baseline; make bench-baseline writes a new one"
	@echo "make transcripts  write the system calls of the privileged program into docs/transcripts.md (root)"
	@echo "make manual   write man pages and completions of nunbirdctl into packaging/"
	@echo "make docs     the documents as a site with search, and the crates' documentation, in target/docs"
	@echo "make build    build the programs for an installation"
	@echo "make install  install them: PREFIX=/opt/nunbird, DESTDIR=; as root without DESTDIR also with privilege"
	@echo "make rpm      build both RPMs; ARCH=aarch64 of the programs of make cross"
	@echo "make deb      build both Debian packages, likewise"
	@echo "make rpm-container  both RPMs and both Debian packages of ARCH, built by podman in a container"
	@echo "make dist     source archive and bills of materials; make srpm: source RPM that builds without a network"

# Packages for the build (a C compiler for the signature code, libpam for nunbird-session), the demo and the tests.
PACKAGES = gcc binutils libc6-dev make git apache2-utils btrfs-progs bubblewrap busybox-static ca-certificates charliecloud crun docker-registry e2fsprogs fuse-overlayfs \
  gridengine-client gridengine-exec gridengine-master iproute2 keyutils libcap2-bin libpam0g-dev mariadb-server \
  mmdebstrap munge netavark passwd podman procps rpm skopeo slirp4netns slurm-client slurm-wlm-basic-plugins slurm-wlm-mysql-plugin \
  slurmctld slurmd slurmdbd squashfs-tools squashfuse strace sudo systemd systemd-container tcsh tinyproxy-bin uidmap umoci util-linux valgrind
setup:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  missing=""; for p in $(PACKAGES); do \
	    dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'install ok installed' || missing="$$missing $$p"; done; \
	  if [ -n "$$missing" ]; then echo "installing$$missing"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi; \
	fi

# Tools from the registry, built once into a cache outside the tree, without optimisation: cargo-deny takes five minutes to build with
# it, and runs three seconds less.
INSTALL_TOOL = CARGO_PROFILE_DEV_DEBUG=false $(CARGO) install --quiet --locked --debug --root $(TOOLS)
$(TOOLS)/bin/cargo-deny:
	$(INSTALL_TOOL) cargo-deny@$(DENY_VERSION)

$(TOOLS)/bin/cargo-mutants:
	$(CARGO) install --quiet --locked --root $(TOOLS) cargo-mutants@$(MUTANTS_VERSION)

# nunbird-counts with them, because what two builds want of a crate makes it be built twice.
programs: setup
	$(CARGO) build --locked --quiet --profile staging $(PROGRAMS) -p nunbird-counts

# All programs, for a manual installation. `make test` uses the nunbird-compliance that cargo builds for the
# tests, and before they run: the tests on booted hosts install the package.
SUITE = suite
suite: programs
	$(CARGO) build --locked --quiet --profile $(SUITE) -p nunbird-tests --bin nunbird-compliance
	install -s $${CARGO_TARGET_DIR:-target}/$(SUITE:dev=debug)/nunbird-compliance target/staging/nunbird-compliance

# Everything that a package has, and the tests' doubles, for suites that install it.
installable: programs
	$(CARGO) build --locked --quiet -p nunbird-tests --bins
	@$(MAKE) --no-print-directory suite SUITE=dev

demo: programs
	$(CARGO) run --locked --quiet --profile staging -p nunbird-tests --bin nunbird-demo

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --quiet --workspace --all-targets -- -D warnings

# Advisories need the public advisory database; if it is unreachable the other three checks still run,
# and the list of skipped checks contains it.
deny: $(TOOLS)/bin/cargo-deny
	$(TOOLS)/bin/cargo-deny --locked check --hide-inclusion-graph bans licenses sources
	@mkdir -p target
	@$(TOOLS)/bin/cargo-deny --locked check advisories 2>target/advisories.log \
	  || { grep -qE 'failed to (fetch|open|clone)|advisory database|unable to' target/advisories.log \
	       && printf 'advisories\tMakefile\tthe advisory database is out of reach\n' | tee -a $(NUNBIRD_SKIPS) \
	       || { cat target/advisories.log; exit 1; }; }

# The crates that run with privilege, by name: a new one is a decision (docs/adr/), not an accident.
	@$(CARGO) tree --locked -p nunbird-auth -e normal --prefix none | awk '{print $$1}' | LC_ALL=C sort -u \
	  | diff auth/dependencies.txt - || { echo "nunbird-auth links other crates than auth/dependencies.txt lists"; exit 1; }

# Tests of one program at once. Most of them wait, for a limit of time, a scheduler or a boot, and two programs run at once.
TEST_THREADS ?= $(shell echo $$((2 * $$(nproc))))

# Each test program is in one of the two rows (tests/tests/ci.rs sees to it), which take the same time. The programs with tests of their
# own by name: --bins would link all others with a test harness once more.
TESTED = $(addprefix --bin ,nunbird-auth nunbird-benches nunbird-decide nunbird-machine nunbird-session nunbirdctl)
define FIRST_ROW
$(CARGO) test --locked --workspace --no-fail-fast --lib $(TESTED) --test it --test alone --test corpora --test gate --test inspection --test lines --test signals --test cgroup --test world --test batch --test hosts
$(CARGO) test --locked --workspace --no-fail-fast --doc
endef
define SECOND_ROW
$(CARGO) test --locked --workspace --no-fail-fast --test containers --test compliance
endef
# With the least claim to a processor: instructions are counted, not timed, and cargo-deny has to be built on a fresh machine.
define THIRD_ROW
nice -n 19 $(MAKE) --no-print-directory bench-check deny
rpm/check.sh target/staging
packaging/deb/check.sh target/staging
endef
export FIRST_ROW SECOND_ROW THIRD_ROW

# For use before each commit. Without root the few tests of these programs that need it are skipped, and listed.
check: export NUNBIRD_TESTS_ALLOW_SKIP = 1
check: no-skips
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --quiet --workspace --all-targets -- -D warnings
	$(CARGO) build --locked --quiet --workspace --examples
	RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test --locked --quiet --workspace --lib --bin nunbird-auth --bin nunbirdctl --test it --test corpora --test gate
	@[ ! -s $(NUNBIRD_SKIPS) ] || { echo "left out:"; sed 's/^/  /' $(NUNBIRD_SKIPS); }

no-skips:
	@mkdir -p $(dir $(NUNBIRD_SKIPS)) && : > $(NUNBIRD_SKIPS)

test: no-skips lint programs
	.ci/privileged-lines
	@[ "$$(id -u)" = 0 ] || echo "make test: not root, so the tests that need root will fail; run it as root"
	$(CARGO) test --locked --quiet --workspace --no-run
	@$(MAKE) --no-print-directory suite SUITE=dev
	RUST_TEST_THREADS=$(TEST_THREADS) .ci/rows "$$FIRST_ROW" "$$SECOND_ROW" "$$THIRD_ROW"
	@[ ! -s $(NUNBIRD_SKIPS) ] || { echo "left out:"; sed 's/^/  /' $(NUNBIRD_SKIPS); }

# Only what takes minutes; the short tests on such a host are a part of `make test`.
test-host: no-skips installable
	$(CARGO) test --locked -p nunbird-tests --test host_long --test host_vm -- --nocapture
	@[ ! -s $(NUNBIRD_SKIPS) ] || { echo "left out:"; sed 's/^/  /' $(NUNBIRD_SKIPS); }

# The compliance suite: one table of schedulers and cases. SCHEDULER is `slurm`, `gridengine` or `fake-NAME`, or one of
# a newer Debian release, from a tree that is made once: `slurm-trixie`, `slurm-sid`, `htcondor-trixie`. Each is a
# separate cluster (root). nunbird-compliance runs the same cases with a site's scheduler.
SCHEDULER ?= usual
test-scheduler: setup
	$(CARGO) build --locked --quiet --profile staging -p nunbird
	SCHEDULER=$(SCHEDULER) $(CARGO) test --locked --quiet -p nunbird-tests --test compliance

# All of them. Debian's unstable release changes by itself, so this is not a part of `make test`.
test-schedulers:
	@$(MAKE) --no-print-directory test-scheduler SCHEDULER=every

# Container engines that the host's release does not have, or has in an older version, from a tree that is made once.
test-containers: no-skips installable
	$(CARGO) test --locked -p nunbird-tests --test containers --test containers_newer
	@[ ! -s $(NUNBIRD_SKIPS) ] || { echo "left out:"; sed 's/^/  /' $(NUNBIRD_SKIPS); }

# The admin guide's "First hour", read out of the guide, on a fresh Debian with systemd.
first-hour: suite
	packaging/first-hour.sh target/staging

test-ansible: suite
	packaging/ansible/check.sh target/staging
	packaging/ansible/machine.sh target/staging

# The programs for another architecture, and for RHEL 8 and later, into target/platforms/TARGET: docs/building.md. PROFILE is cargo's.
TARGET ?= x86_64
PROFILE ?= release
# With pip 19 or later, which knows zig's wheel.
PYTHON ?= python3
ZIG = $(TOOLS)/zig-$(ZIG_VERSION)/ziglang/zig
$(ZIG): setup
	@[ -e $@ ] || PIP_ROOT_USER_ACTION=ignore $(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps \
	  --target $(TOOLS)/zig-$(ZIG_VERSION) ziglang==$(ZIG_VERSION)
	@chmod +x $@

$(TOOLS)/bin/cargo-zigbuild:
	$(INSTALL_TOOL) cargo-zigbuild@$(ZIGBUILD_VERSION)

cross test-platforms: export CARGO_ZIGBUILD_ZIG_PATH = $(ZIG)
cross test-platforms: export PATH := $(TOOLS)/bin:$(PATH)
cross: PACKAGES = binutils gcc libc6-dev make python3-pip rpm
cross: setup $(TOOLS)/bin/cargo-zigbuild $(ZIG)
	packaging/cross/build.sh $(TARGET) $(PROFILE)

# Programs and packages for all three. Of aarch64 and ppc64le the programs' start by user-mode emulation, and installation and whole jobs
# in emulated machines, with their kernels.
PLATFORM_PACKAGES = cpio libc6-arm64-cross libc6-ppc64el-cross python3-pip qemu-system-arm qemu-system-ppc qemu-user-static
test-platforms: PACKAGES += $(PLATFORM_PACKAGES)
test-platforms: no-skips installable $(TOOLS)/bin/cargo-zigbuild $(ZIG)
	for one in x86_64 aarch64 ppc64le; do packaging/cross/build.sh $$one staging || exit 1; done
	$(CARGO) test --locked --quiet -p nunbird-tests --test platforms -- --nocapture
	NUNBIRD_BIN_DIR=$(CURDIR)/target/platforms/x86_64 $(CARGO) test --locked --quiet -p nunbird-tests --test world -- whole_job
	for one in aarch64 ppc64le; do packaging/cross/test.sh $$one || exit 1; done
	@[ ! -s $(NUNBIRD_SKIPS) ] || { echo "left out:"; sed 's/^/  /' $(NUNBIRD_SKIPS); }

# Everything about packages. Long: three architectures are built, and a source RPM without a network.
test-packages: PACKAGES += $(PLATFORM_PACKAGES) lintian rpmlint
test-packages: export PATH := $(TOOLS)/bin:$(PATH)
test-packages: test-platforms $(TOOLS)/bin/cargo-cyclonedx
	rpm/check.sh target/platforms/x86_64
	packaging/deb/check.sh target/platforms/x86_64
	packaging/check.sh target/platforms/x86_64

bench: setup
	$(CARGO) build --locked --quiet --release $(PROGRAMS)
	$(CARGO) build --locked --quiet --release -p nunbird-tests --bins
	NUNBIRD_BIN_DIR=$(CURDIR)/target/release $(CARGO) run --locked --quiet --release -p nunbird-benches

# Instructions, which differ between two runs by less than a percent, against benches/counts/baseline.json: docs/performance.md.
bench-check: programs
	target/staging/nunbird-counts check benches/counts/baseline.json

# After growth that is meant, or with another compiler. The commit says which.
bench-baseline: programs
	target/staging/nunbird-counts baseline benches/counts/baseline.json

# System calls by strace, into docs/transcripts.md; a test compares its numbers with the programs.
transcripts: programs
	$(CARGO) build --locked --quiet -p nunbird-tests --bins
	$(CARGO) run --locked --quiet -p nunbird-tests --bin nunbird-transcripts -- docs/transcripts.md

# Coverage-guided, with the flags that cargo-fuzz would give, without a sanitizer: the code under test is safe Rust.
# FUZZ_SECONDS for each of the targets in FUZZ; what they find stays in fuzz/artifacts and belongs into fuzz/corpus.
FUZZ_SECONDS ?= 60
FUZZ ?= $(notdir $(wildcard fuzz/corpus/*))
FUZZ_FLAGS = -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions
fuzz: PACKAGES += g++
fuzz: setup
	RUSTFLAGS="$(FUZZ_FLAGS)" $(CARGO) build --locked --profile fuzz --target-dir target/fuzz --target $(FUZZ_TARGET) \
	  -p nunbird-fuzz --features libfuzzer --bins
	@mkdir -p target/fuzz/corpus fuzz/artifacts; broken=""; \
	for t in $(FUZZ); do mkdir -p target/fuzz/corpus/$$t; log=target/fuzz/$$t.log; echo "== $$t"; \
	  target/fuzz/$(FUZZ_TARGET)/fuzz/fuzz_$$t -max_total_time=$(FUZZ_SECONDS) -max_len=4096 \
	    -artifact_prefix=fuzz/artifacts/$$t- -print_final_stats=1 target/fuzz/corpus/$$t fuzz/corpus/$$t >$$log 2>&1 \
	    || broken="$$broken $$t"; \
	  grep -aE 'ERROR|panicked|stat::number_of_executed|stat::average_exec|DONE' $$log; done; \
	[ -z "$$broken" ] || { echo "broken:$$broken; the inputs are in fuzz/artifacts"; exit 1; }
FUZZ_TARGET = $(shell rustc -vV | sed -n 's/^host: //p')

# Changes the code in one place at a time and looks which tests notice: docs/mutants.md. Hours; MUTANTS narrows it, to crates
# (MUTANTS="drop token") or to files of the monitor (MUTANTS=auth/src/slots.rs), which need root.
MUTANTS ?=
mutants: $(TOOLS)/bin/cargo-mutants
	PATH=$(TOOLS)/bin:$$PATH .ci/mutants $(MUTANTS)

# Man pages and completions of nunbirdctl and `nunbird exec`, from their own command lines, docs/codes.md, and the entries of docs/policy-reference.md; tests
# compare them.
manual:
	$(CARGO) build --locked --quiet -p nunbirdctl -p nunbird-exec
	@rm -f packaging/man/*.[15]; $${CARGO_TARGET_DIR:-target}/debug/nunbirdctl man packaging/man
	@for one in bash:nunbirdctl.bash zsh:_nunbirdctl fish:nunbirdctl.fish; do \
	  $${CARGO_TARGET_DIR:-target}/debug/nunbirdctl completions $${one%%:*} > packaging/completions/$${one#*:}; done
	@$${CARGO_TARGET_DIR:-target}/debug/nunbird-exec --man > packaging/man/exec/nunbird-exec.1
	@for one in bash:nunbird.bash zsh:_nunbird fish:nunbird.fish; do \
	  $${CARGO_TARGET_DIR:-target}/debug/nunbird-exec --completions $${one%%:*} > packaging/completions/$${one#*:}; done
	@$${CARGO_TARGET_DIR:-target}/debug/nunbirdctl schema > packaging/nunbird.schema.json
	@$${CARGO_TARGET_DIR:-target}/debug/nunbirdctl codes-page > docs/codes.md.new && mv docs/codes.md.new docs/codes.md
	@NUNBIRD_WRITE_DOCS=1 $(CARGO) test --locked --quiet -p nunbird-render reference::every_entry >/dev/null

# The documents as a site with search, with the documentation of the crates beside it. RUSTDOC= leaves that out. A package that is
# built afterwards contains the site: `make deb`, `make rpm`.
BOOK = $(CURDIR)/target/docs
RUSTDOC ?= yes
docs: $(TOOLS)/bin/mdbook
	packaging/docs.sh $(TOOLS)/bin/mdbook "$(BOOK)"
	@[ -z "$(RUSTDOC)" ] || { RUSTDOCFLAGS="-A rustdoc::private_intra_doc_links -A rustdoc::redundant_explicit_links" $(CARGO) doc --locked --quiet --no-deps --workspace --document-private-items \
	  && cp -r $${CARGO_TARGET_DIR:-target}/doc "$(BOOK)/rustdoc"; }
	@echo "$(BOOK)/index.html"

$(TOOLS)/bin/mdbook:
	$(CARGO) install --quiet --locked --root $(TOOLS) --no-default-features --features search mdbook@$(MDBOOK_VERSION)

# All programs as the packages have them.
build:
	$(CARGO) build --locked --release $(PROGRAMS)
	$(CARGO) build --locked --profile suite -p nunbird-tests --bin nunbird-compliance
	cp -p $${CARGO_TARGET_DIR:-target}/suite/nunbird-compliance $${CARGO_TARGET_DIR:-target}/release/

# Without DESTDIR also the user, the directories and the privilege, as the packages do; PRIVILEGE=capabilities for no setuid bit.
PRIVILEGE ?= setuid
install: build
	$(if $(wildcard /etc/debian_version),PAM=nunbird.debian ZSHDIR=/usr/share/zsh/vendor-completions) PREFIX="$(PREFIX)" BOOK="$(if $(wildcard $(BOOK)/index.html),$(BOOK))" packaging/install.sh $${CARGO_TARGET_DIR:-target}/release "$(DESTDIR)"
	@[ -n "$(DESTDIR)" ] || { systemd-sysusers nunbird.conf && systemd-tmpfiles --create nunbird.conf && "$(PREFIX)/share/privilege.sh" $(PRIVILEGE); }
	@[ -n "$(DESTDIR)" ] || echo "start the timers: systemctl daemon-reload && systemctl enable --now nunbird-keys.timer nunbird-sweep.timer"

# Packages of this host's programs, or by ARCH=x86_64, aarch64 or ppc64le of those of `make cross`.
rpm deb srpm: PACKAGES = binutils gcc libc6-dev libpam0g-dev make rpm
ifeq ($(origin ARCH),command line)
rpm deb: TARGET = $(ARCH)
rpm deb: PACKAGES += python3-pip
rpm deb: cross
PREBUILT = --arch $(ARCH) --prebuilt target/platforms/$(ARCH)
endif
rpm: setup
	rpm/build.sh $(PREBUILT) $(WITH_BOOK)

deb: setup
	packaging/deb/build.sh $(PREBUILT) $(WITH_BOOK)

# All four packages of ARCH (x86_64), built in a container, so that the host needs podman, git and make alone. RUST_IMAGE: an image with Rust and
# apt. CONTAINER_ENGINE may be docker with BuildKit.
CONTAINER_ENGINE ?= podman
RUST_IMAGE ?= docker.io/library/rust:1.95.0-bookworm
rpm-container:
	@mkdir -p target/container/context target/container/packages
	packaging/source.sh target/container/context/nunbird.tar.gz
	$(CONTAINER_ENGINE) build $(CONTAINER_FLAGS) --file packaging/cross/Containerfile --build-arg RUST_IMAGE="$(RUST_IMAGE)" \
	  --build-arg ARCH="$(or $(ARCH),x86_64)" --build-arg PROFILE="$(PROFILE)" --output type=local,dest=target/container/packages target/container/context
	@ls target/container/packages/*

WITH_BOOK = $(if $(wildcard $(BOOK)/index.html),--book "$(BOOK)")

# What a site builds from, and what is in the programs: docs/building.md.
$(TOOLS)/bin/cargo-cyclonedx:
	$(INSTALL_TOOL) cargo-cyclonedx@$(CYCLONEDX_VERSION)

dist: sbom
	packaging/source.sh target/dist/nunbird-$(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1).tar.gz

sbom: export PATH := $(TOOLS)/bin:$(PATH)
sbom: $(TOOLS)/bin/cargo-cyclonedx
	packaging/sbom.sh target/dist/sbom

srpm: setup
	rpm/build.sh --source --out target/dist

# For reviewers: every unsafe block, and every file that runs with privilege.
unsafe-code:
	@grep -rnE 'unsafe (\{|fn|impl)' --include='*.rs' . | grep -v '^./target/'

# Lines of code, without tests, comments and empty lines, that are linked into each program with privilege.
privileged-code:
	@.ci/privileged-lines --files
