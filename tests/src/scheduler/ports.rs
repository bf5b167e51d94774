//! Ports for daemons that are started later.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ports that the kernel gives to connections (`net.ipv4.ip_local_port_range` begins at 32768), one of which could take a port
/// between its choice and the start of its daemon.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// As many different free ports of 127.0.0.1.
///
/// # Panics
/// Where none is free.
pub(super) fn free(count: usize) -> Vec<u16> {
    // Another program's tests begin elsewhere, and this one's never at the same place.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 311).expect("a small number") * 64;
    // All held until all are known, so that no two are the same.
    let mut held = Vec::new();
    for _ in 0..COUNT {
        let port = FIRST + own.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            held.push((port, listener));
        }
        if held.len() == count {
            return held.into_iter().map(|(port, _)| port).collect();
        }
    }
    panic!("no {count} ports are free")
}
