//! A program that does nothing for a minute, whatever it is told.

#![forbid(unsafe_code)]

fn main() {
    std::thread::sleep(std::time::Duration::from_secs(60));
}
