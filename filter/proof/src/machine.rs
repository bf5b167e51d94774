//! The kernel's side of a filter: which programs it takes, and what it does with them.
//!
//! Written after net/core/filter.c (`bpf_check_classic`) and kernel/seccomp.c (`seccomp_check_filter`), for the instructions that
//! programs of the crate `filter` have. Any other is an error here, although the kernel may know it.

use nunbird_sys::seccomp::Instruction;

/// A call as the kernel describes it to a filter: `struct seccomp_data`.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// The number of the call.
    pub number: u32,
    /// `AUDIT_ARCH_*` of the interface by which it comes.
    pub audit: u32,
    /// Its arguments.
    pub arguments: [u64; 6],
}

impl Description {
    /// The bytes in the memory of a machine of this byte order.
    fn bytes(&self, big_endian: bool) -> [u8; 64] {
        let mut bytes = [0; 64];
        let word = |value: u32| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
        let long = |value: u64| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
        bytes[..4].copy_from_slice(&word(self.number));
        bytes[4..8].copy_from_slice(&word(self.audit));
        bytes[8..16].copy_from_slice(&long(0x0123_4567_89ab_cdef));
        for (at, argument) in self.arguments.iter().enumerate() {
            bytes[16 + 8 * at..][..8].copy_from_slice(&long(*argument));
        }
        bytes
    }
}

/// Whether the kernel takes the program.
///
/// # Errors
/// A sentence on the first instruction that it does not take.
pub fn check(program: &[Instruction]) -> Result<(), String> {
    if program.is_empty() || program.len() > 4096 {
        return Err(format!("{} instructions", program.len()));
    }
    for (at, one) in program.iter().enumerate() {
        let last = program.len() - 1;
        let lands = |skipped: u8| at + 1 + usize::from(skipped) <= last;
        match one.code {
            0x20 if one.k >= 64 || one.k % 4 != 0 => return Err(format!("{at}: loads from {}", one.k)),
            0x15 | 0x45 if !lands(one.jt) || !lands(one.jf) => {
                return Err(format!("{at}: jumps out of the program"));
            }
            0x20 | 0x15 | 0x45 | 0x06 => {}
            other => return Err(format!("{at}: instruction {other:#x}")),
        }
    }
    match program.last() {
        Some(last) if last.code == 0x06 => Ok(()),
        _ => Err("no return at the end".to_owned()),
    }
}

/// What the program answers, on a machine of this byte order. It must have passed [`check`].
#[must_use]
pub fn run(program: &[Instruction], call: &Description, big_endian: bool) -> u32 {
    let bytes = call.bytes(big_endian);
    let (mut at, mut loaded) = (0, 0_u32);
    loop {
        let one = program[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { one.jt } else { one.jf });
        match one.code {
            0x20 => {
                let from = one.k as usize;
                let word = [bytes[from], bytes[from + 1], bytes[from + 2], bytes[from + 3]];
                loaded = if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) };
            }
            0x15 => at += jump(loaded == one.k),
            0x45 => at += jump(loaded & one.k != 0),
            _ => return one.k,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Description, check, run};
    use nunbird_sys::seccomp::Instruction;

    const fn one(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
        Instruction { code, jt, jf, k }
    }

    /// The example of seccomp(2)'s manual page, cut down: one call of one architecture fails, others are made.
    #[test]
    fn a_program_is_run_as_the_kernel_does() {
        let program = [
            one(0x20, 0, 0, 4),
            one(0x15, 0, 3, 0xc000_003e),
            one(0x20, 0, 0, 0),
            one(0x15, 0, 1, 39),
            one(0x06, 0, 0, 0x0005_0001),
            one(0x06, 0, 0, 0x7fff_0000),
        ];
        assert_eq!(check(&program), Ok(()));
        let answer = |number, audit| {
            let call = Description { number, audit, arguments: [0; 6] };
            run(&program, &call, false)
        };
        assert_eq!(answer(39, 0xc000_003e), 0x0005_0001);
        assert_eq!(answer(40, 0xc000_003e), 0x7fff_0000);
        assert_eq!(answer(39, 0xc000_00b7), 0x7fff_0000);
    }

    #[test]
    fn the_low_half_of_an_argument_lies_where_the_byte_order_has_it() {
        let call = Description { number: 0, audit: 0, arguments: [0, 0x1111_1111_2222_2222, 0, 0, 0, 0] };
        for (offset, big_endian, expected) in
            [(24, false, true), (28, false, false), (24, true, false), (28, true, true)]
        {
            let program = [
                one(0x20, 0, 0, offset),
                one(0x15, 0, 1, 0x2222_2222),
                one(0x06, 0, 0, 1),
                one(0x06, 0, 0, 0),
            ];
            assert_eq!(run(&program, &call, big_endian), u32::from(expected), "{offset} {big_endian}");
        }
    }

    #[test]
    fn what_the_kernel_does_not_take_is_an_error() {
        let end = one(0x06, 0, 0, 0);
        for wrong in [
            vec![],
            vec![one(0x20, 0, 0, 64), end],
            vec![one(0x20, 0, 0, 2), end],
            vec![one(0x15, 1, 0, 0), end],
            vec![one(0x45, 0, 1, 0), end],
            vec![one(0x28, 0, 0, 0), end],
            vec![one(0x20, 0, 0, 0)],
            vec![end; 4097],
        ] {
            assert!(check(&wrong).is_err(), "{} instructions", wrong.len());
        }
    }
}
