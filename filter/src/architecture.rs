//! What a filter must know of an architecture besides the numbers of its rules.

/// One architecture, as the kernel describes a call to a filter.
#[derive(Debug, Clone, Copy)]
pub struct Architecture {
    /// `AUDIT_ARCH_*` of <linux/audit.h>.
    pub audit: u32,
    /// Where an argument of eight bytes has its low half: 4 where the byte order is big-endian.
    pub low_half: u32,
    /// Whether calls of the x32 interface come with the same `AUDIT_ARCH_*`. A filter refuses them all.
    pub has_x32: bool,
    /// A call that a rule may be about, and one that does a part of the same. The C library of this architecture makes the
    /// second where others make the first, and so a rule for the first is one for the second.
    pub parts: &'static [(u32, u32)],
}

impl Architecture {
    /// poll is a part of ppoll.
    pub const X86_64: Self = Self { audit: 0xc000_003e, low_half: 0, has_x32: true, parts: &[(271, 7)] };
    /// Nothing special.
    pub const AARCH64: Self = Self { audit: 0xc000_00b7, low_half: 0, has_x32: false, parts: &[] };
    /// poll is a part of ppoll, send of sendto, recv of recvfrom; _llseek is lseek.
    pub const POWERPC64LE: Self = Self {
        audit: 0xc000_0015,
        low_half: 0,
        has_x32: false,
        parts: &[(281, 167), (335, 334), (337, 336), (19, 140)],
    };
    /// Nothing special.
    pub const RISCV64: Self = Self { audit: 0xc000_00f3, low_half: 0, has_x32: false, parts: &[] };
    /// poll is a part of ppoll. No program is built for it: its C library calls socketcall and mmap with arguments in memory, where
    /// no filter sees them. It is here for its byte order.
    pub const S390X: Self = Self { audit: 0x8000_0016, low_half: 4, has_x32: false, parts: &[(302, 168)] };

    /// The one that this program is built for.
    #[cfg(all(target_arch = "x86_64", target_pointer_width = "64"))]
    pub const OWN: Self = Self::X86_64;
    /// The one that this program is built for.
    #[cfg(all(target_arch = "aarch64", target_pointer_width = "64", target_endian = "little"))]
    pub const OWN: Self = Self::AARCH64;
    /// The one that this program is built for.
    #[cfg(all(target_arch = "powerpc64", target_endian = "little"))]
    pub const OWN: Self = Self::POWERPC64LE;
    /// The one that this program is built for.
    #[cfg(target_arch = "riscv64")]
    pub const OWN: Self = Self::RISCV64;
}
