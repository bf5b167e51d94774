//! Capability sets of this process (capabilities(7)).

use std::io;

/// `_LINUX_CAPABILITY_VERSION_3` (linux/capability.h): two 32-bit words a set.
const VERSION_3: u32 = 0x2008_0522;

/// Change group ids.
pub const CAP_SETGID: u32 = 6;
/// Change user ids. Its holder can become root: it is treated as root everywhere.
pub const CAP_SETUID: u32 = 7;

/// The three sets that capget(2) shows, one bit for each capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// In force.
    pub effective: u64,
    /// May be put in force.
    pub permitted: u64,
    /// May pass to a program with inheritable file capabilities.
    pub inheritable: u64,
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Words {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

impl Capabilities {
    /// No capability at all.
    pub const EMPTY: Capabilities = Capabilities { effective: 0, permitted: 0, inheritable: 0 };

    /// Those of the calling thread.
    ///
    /// # Errors
    /// As capget(2).
    pub fn current() -> io::Result<Self> {
        let mut header = Header { version: VERSION_3, pid: 0 };
        let mut words = [Words::default(); 2];
        // SAFETY: both pointers are to live values of the layout that version 3 demands: one header, two
        // sets of words. The kernel writes at most those.
        let rc = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, words.as_mut_ptr()) };
        if rc != 0 {
            return Err(io::Error::last_os_error());
        }
        let [low, high] = words;
        let join = |low: u32, high: u32| u64::from(low) | (u64::from(high) << 32);
        Ok(Capabilities {
            effective: join(low.effective, high.effective),
            permitted: join(low.permitted, high.permitted),
            inheritable: join(low.inheritable, high.inheritable),
        })
    }

    /// Makes these the calling thread's sets.
    ///
    /// # Errors
    /// As capset(2): `EPERM` for a capability that is not permitted now.
    pub fn apply(self) -> io::Result<()> {
        let header = Header { version: VERSION_3, pid: 0 };
        let low = |set: u64| (set & 0xffff_ffff) as u32;
        let high = |set: u64| (set >> 32) as u32;
        let words = [
            Words {
                effective: low(self.effective),
                permitted: low(self.permitted),
                inheritable: low(self.inheritable),
            },
            Words {
                effective: high(self.effective),
                permitted: high(self.permitted),
                inheritable: high(self.inheritable),
            },
        ];
        // SAFETY: the pointers are to live values of the layout that version 3 demands, read by the kernel only.
        let rc = unsafe { libc::syscall(libc::SYS_capset, &raw const header, words.as_ptr()) };
        if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Whether this capability is permitted.
    pub fn permits(self, capability: u32) -> bool {
        self.permitted & (1 << capability) != 0
    }
}

/// Empties the ambient set, which otherwise survives execve(2) (prctl(2), Linux 4.3).
///
/// # Errors
/// As prctl(2).
pub fn clear_ambient() -> io::Result<()> {
    // SAFETY: no pointer is passed.
    let rc = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Puts a capability, which is permitted and inheritable, into the ambient set: it is in force in the next program (prctl(2), Linux 4.3).
///
/// # Errors
/// As prctl(2).
pub fn raise_ambient(capability: u32) -> io::Result<()> {
    // SAFETY: no pointer is passed.
    let rc = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets permitted capabilities outlive a change from root's uid, up to the next execve(2) (prctl(2), `PR_SET_KEEPCAPS`).
///
/// # Errors
/// As prctl(2).
pub fn keep_at_change_of_uid() -> io::Result<()> {
    Ok(nix::sys::prctl::set_keepcaps(true)?)
}

/// How many capabilities the ambient set holds.
///
/// # Errors
/// As prctl(2).
pub fn ambient_count() -> io::Result<u32> {
    let mut count = 0;
    for capability in 0..64_u32 {
        // SAFETY: no pointer is passed.
        match unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_IS_SET, capability, 0, 0) } {
            0 => {}
            1 => count += 1,
            // The kernel knows fewer capabilities than 64 and returns EINVAL behind its last one.
            _ if io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) => break,
            _ => return Err(io::Error::last_os_error()),
        }
    }
    Ok(count)
}

/// The securebits of the calling thread; anything but 0 changes what setresuid(2) does to capabilities.
///
/// # Errors
/// As prctl(2).
pub fn securebits() -> io::Result<i32> {
    // SAFETY: no pointer is passed.
    let bits = unsafe { libc::prctl(libc::PR_GET_SECUREBITS, 0, 0, 0, 0) };
    if bits >= 0 { Ok(bits) } else { Err(io::Error::last_os_error()) }
}
