//! A program that sleeps for a minute, whatever its arguments.

#![forbid(unsafe_code)]

fn main() {
    std::thread::sleep(std::time::Duration::from_secs(60));
}
