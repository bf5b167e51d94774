//! `systemd` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nunbird_fuzz::systemd(bytes));
