//! Filters of system calls: rules, and their translation into the kernel's programs of classic BPF.
//!
//! `nunbird-auth`, `nunbird-decide` and `nunbird-session` build the filters here that they put in force for
//! themselves or for a job. A program knows one architecture: calls of any other end the process, and so nothing gets past a
//! rule by another number for the same call. What an argument is compared with has 32 bits, because the kernel reads no more of
//! the arguments that rules ask about: a rule that read all 64 could be avoided by a bit that the kernel ignores
//! (CVE-2019-10063 in flatpak, CVE-2019-7303 in snapd). Pure but for [`Filter::enforce`]; the crate `filter/proof` runs programs of
//! every architecture in an interpreter. docs/adr/0023 has the reasons.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod architecture;

pub use architecture::Architecture;
use nunbird_sys::seccomp::{self, Instruction};
use std::{io, num::TryFromIntError};

/// The end of the process, by SIGSYS (`SECCOMP_RET_KILL_PROCESS`).
pub const KILL: u32 = 0x8000_0000;
/// A failure with `EPERM` (`SECCOMP_RET_ERRNO`).
pub const REFUSE: u32 = 0x0005_0001;
/// The call itself (`SECCOMP_RET_ALLOW`).
pub const ALLOW: u32 = 0x7fff_0000;

/// Instructions of <linux/filter.h> and <linux/bpf_common.h>: load a word of the call's description, compare it, return.
const LOAD: u16 = 0x20;
const IF_EQUAL: u16 = 0x15;
const IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;
/// Where `struct seccomp_data` has the call's number, its architecture and the first of six arguments of 64 bits.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
/// Marks a call of the x32 interface, which has other numbers for the same things (<asm/unistd_x32.h>).
const X32: u32 = 0x4000_0000;

/// What the low half of an argument must be for a rule to hold.
#[derive(Debug, Clone)]
pub enum Is {
    /// One of these values.
    OneOf(Vec<u32>),
    /// None of these values.
    NoneOf(Vec<u32>),
    /// A value that has none of these bits.
    Without(u32),
}

/// One system call of this architecture, by its number.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The number.
    pub call: i64,
    /// Arguments, counted from 0. The rule holds if one of them is as described; without any it holds always.
    pub arguments: Vec<(u32, Is)>,
}

/// Rules, at most one for each call, and the answer to calls for which one holds. All others get the other answer.
#[derive(Debug, Clone)]
pub struct Filter {
    /// The rules.
    pub rules: Vec<Rule>,
    /// [`ALLOW`] or [`REFUSE`].
    pub answer: u32,
}

impl Filter {
    /// Puts it in force for this thread and everything that it starts, and sets `no_new_privs`.
    ///
    /// # Errors
    /// When the kernel does not take it; what it was to stop must then not start.
    pub fn enforce(&self) -> io::Result<()> {
        seccomp::enforce(&self.program(&Architecture::OWN).map_err(io::Error::other)?)
    }

    /// The program for one architecture, whose numbers the rules must have.
    ///
    /// # Errors
    /// For a number that no call has, or a rule of more instructions than one can be jumped over.
    pub fn program(&self, architecture: &Architecture) -> Result<Vec<Instruction>, TryFromIntError> {
        let other = if self.answer == ALLOW { REFUSE } else { ALLOW };
        let mut program = vec![
            step(LOAD, ARCHITECTURE, 0, 0),
            step(IF_EQUAL, architecture.audit, 1, 0),
            step(RETURN, KILL, 0, 0),
            step(LOAD, NUMBER, 0, 0),
        ];
        if architecture.has_x32 {
            program.extend([step(IF_ANY_BIT, X32, 0, 1), step(RETURN, REFUSE, 0, 0)]);
        }
        for rule in &self.rules {
            let call = u32::try_from(rule.call)?;
            let block = self.block(rule, other, architecture)?;
            let parts = architecture.parts.iter().filter(|part| part.0 == call).map(|part| part.1);
            for number in std::iter::once(call).chain(parts) {
                program.push(step(IF_EQUAL, number, 0, u8::try_from(block.len())?));
                program.extend(&block);
            }
        }
        program.push(step(RETURN, other, 0, 0));
        Ok(program)
    }

    /// What is done about a call that a rule is about. It always returns, so that the number stays loaded until then.
    fn block(&self, rule: &Rule, other: u32, on: &Architecture) -> Result<Vec<Instruction>, TryFromIntError> {
        let holds = step(RETURN, self.answer, 0, 0);
        if rule.arguments.is_empty() {
            return Ok(vec![holds]);
        }
        let mut block = Vec::new();
        for (argument, is) in &rule.arguments {
            block.push(step(LOAD, ARGUMENTS + argument * 8 + on.low_half, 0, 0));
            match is {
                Is::OneOf(values) => {
                    block.extend(values.iter().flat_map(|value| [step(IF_EQUAL, *value, 0, 1), holds]));
                }
                Is::NoneOf(values) => {
                    for (behind, value) in (1..=u8::try_from(values.len())?).rev().zip(values) {
                        block.push(step(IF_EQUAL, *value, behind, 0));
                    }
                    block.push(holds);
                }
                Is::Without(bits) => block.extend([step(IF_ANY_BIT, *bits, 1, 0), holds]),
            }
        }
        block.push(step(RETURN, other, 0, 0));
        Ok(block)
    }
}

/// One instruction; `then` and `otherwise` are how many instructions a comparison skips.
const fn step(code: u16, k: u32, then: u8, otherwise: u8) -> Instruction {
    Instruction { code, jt: then, jf: otherwise, k }
}
