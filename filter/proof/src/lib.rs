//! Proves filters of the crate `filter`: runs their programs for every architecture, over every call, and compares what they answer
//! with a statement of the rule.
//!
//! For tests alone. The statement is a function of a call's name and arguments and knows nothing of numbers, instructions and byte
//! orders; the numbers are in a table of their own.

#![forbid(unsafe_code)]

mod machine;
mod numbers;

pub use machine::{Description, check, run};
use numbers::{CALLS, NONE, PARTS, REQUESTS};
use nunbird_filter::{ALLOW, Architecture, Filter, Is, KILL, REFUSE, Rule};
use std::collections::BTreeSet;

/// An architecture and its column in the tables.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// Its name, as Rust has it.
    pub name: &'static str,
    /// What the generator knows of it.
    pub architecture: Architecture,
    column: usize,
}

/// Every architecture that the generator knows.
pub const MACHINES: [Machine; 5] = [
    Machine { name: "x86_64", architecture: Architecture::X86_64, column: 0 },
    Machine { name: "aarch64", architecture: Architecture::AARCH64, column: 1 },
    Machine { name: "powerpc64le", architecture: Architecture::POWERPC64LE, column: 2 },
    Machine { name: "riscv64", architecture: Architecture::RISCV64, column: 3 },
    Machine { name: "s390x", architecture: Architecture::S390X, column: 4 },
];

/// Interfaces of older programs on the same machines, and none: i386, arm, powerpc, powerpc64, riscv32, s390.
const OTHERS: [u32; 7] = [0x4000_0003, 0x4000_0028, 0x14, 0x8000_0015, 0x4000_00f3, 0x16, 0];
/// The bit of the x32 interface.
const X32: u32 = 0x4000_0000;
/// Numbers that are tried: the last call of Linux 6 has one below 480.
const TRIED: u32 = 1000;

/// A call that a program is asked about.
#[derive(Debug)]
pub struct Call<'a> {
    /// Its name where a filter may be about it, and empty for all other calls.
    pub name: &'static str,
    /// Its number.
    pub number: u32,
    /// Its arguments.
    pub arguments: [u64; 6],
    machine: &'a Machine,
}

impl Call<'_> {
    /// Whether it is the named call, or a part of it that this architecture's C library makes in place of it.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name == name || (!self.name.is_empty() && PARTS.contains(&(name, self.name)))
    }

    /// What the kernel reads of an argument of 32 bits.
    #[must_use]
    pub fn low(&self, argument: usize) -> u32 {
        (self.arguments[argument] & u64::from(u32::MAX)) as u32
    }

    /// The number of a request of ioctl(2) on this architecture.
    ///
    /// # Panics
    /// For a request that the table does not have.
    #[must_use]
    pub fn request(&self, name: &str) -> u32 {
        let row = REQUESTS.iter().find(|row| row.0 == name).expect("a request of the table");
        row.1[self.machine.column]
    }
}

impl Machine {
    /// The one that this program runs on.
    ///
    /// # Panics
    /// On another than the generator knows; it does not build there.
    #[must_use]
    pub fn own() -> Self {
        let own = |one: &Self| one.architecture.audit == Architecture::OWN.audit;
        MACHINES.into_iter().find(own).expect("this architecture")
    }

    /// The number of a call here, if it has one.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u32> {
        let row = CALLS.iter().find(|row| row.0 == name)?;
        Some(row.1[self.column]).filter(|number| *number != NONE)
    }

    fn name_of(&self, number: u32) -> &'static str {
        let row = CALLS.iter().find(|row| row.1[self.column] == number && number != NONE);
        row.map_or("", |row| row.0)
    }

    /// Rules with this architecture's numbers, from rules with those of the machine that the program runs on.
    fn translated(&self, filter: &Filter) -> Filter {
        let own = Self::own();
        let request = |value: &u32| {
            let row = REQUESTS.iter().find(|row| row.1[own.column] == *value);
            row.map_or(*value, |row| row.1[self.column])
        };
        let rules = filter.rules.iter().map(|rule| {
            let name = own.name_of(u32::try_from(rule.call).expect("a number"));
            assert!(!name.is_empty(), "filter/proof/src/numbers.rs has no row for call {}", rule.call);
            let call = i64::from(self.number(name).expect("a call of every architecture"));
            let mut rule = Rule { call, arguments: rule.arguments.clone() };
            for (_, is) in &mut rule.arguments {
                if let ("ioctl", Is::OneOf(values)) = (name, is) {
                    *values = values.iter().map(request).collect();
                }
            }
            rule
        });
        Filter { rules: rules.collect(), answer: filter.answer }
    }
}

/// Halves of arguments that a rule could distinguish: what it names, one more and one less, each of its bits, and what is everywhere.
fn halves(rule: Option<&Rule>) -> BTreeSet<u32> {
    let mut halves: BTreeSet<u32> = [0, 1, 4321, 0x5412, i32::MAX as u32, u32::MAX].into();
    for (_, is) in rule.iter().flat_map(|rule| &rule.arguments) {
        match is {
            Is::OneOf(values) | Is::NoneOf(values) => {
                halves.extend(values.iter().flat_map(|v| [*v, v.wrapping_add(1), v.wrapping_sub(1)]));
            }
            // Every bit where the rule is about one argument: combinations of more would be too many.
            Is::Without(bits) => {
                let single = if rule.is_some_and(|rule| rule.arguments.len() == 1) { 0..32 } else { 30..32 };
                halves.extend(
                    [*bits, !bits, 1 << bits.trailing_zeros()].into_iter().chain(single.map(|bit| 1 << bit)),
                );
            }
        }
    }
    halves
}

/// Arguments to try: every three halves in the first three, with upper halves that the kernel ignores or does not.
fn arguments(rule: Option<&Rule>) -> Vec<[u64; 6]> {
    let halves: Vec<u64> = halves(rule).into_iter().map(u64::from).collect();
    // A rule about one argument needs no combinations.
    let several = rule.is_some_and(|rule| rule.arguments.len() > 1);
    let mut all = Vec::new();
    for first in &halves {
        let others: Vec<[u64; 2]> = match several {
            true => halves.iter().flat_map(|b| halves.iter().map(|c| [*b, *c])).collect(),
            false => vec![[*first; 2]],
        };
        for [second, third] in others {
            for upper in [0, 1, 7, u64::from(u32::MAX)] {
                let upper = upper << 32;
                let fourth = *first ^ upper;
                all.push([first | upper, second | upper, third | upper, fourth, 0, u64::MAX]);
            }
        }
    }
    all
}

/// Runs a filter's program for every architecture, over every call, and compares its answers with the statement: whether the call
/// is allowed. The rules have the numbers of the machine that the test runs on.
///
/// # Panics
/// With the architecture, call and arguments where they differ, and for a program that the kernel would not take.
pub fn prove(filter: &Filter, allowed: impl Fn(&Call) -> bool) {
    let mut calls: Vec<i64> = filter.rules.iter().map(|rule| rule.call).collect();
    calls.sort_unstable();
    calls.dedup();
    assert_eq!(calls.len(), filter.rules.len(), "two rules for one call: the second never holds");
    for machine in &MACHINES {
        let filter = machine.translated(filter);
        let program = filter.program(&machine.architecture).expect("a program");
        check(&program).unwrap_or_else(|e| panic!("{}: {e}", machine.name));
        let big_endian = machine.architecture.low_half == 4;
        let answer =
            |audit, number, arguments| run(&program, &Description { number, audit, arguments }, big_endian);
        let beyond = [X32 - 1, X32, X32 | 16, X32 | 514, 1 << 31, u32::MAX];
        for number in (0..=TRIED).chain(beyond).chain((0..=TRIED).map(|number| number | X32)) {
            let is_x32 = machine.name == "x86_64" && number & X32 != 0;
            let name = machine.name_of(number);
            let rule = filter.rules.iter().find(|rule| rule.call == i64::from(number));
            for arguments in arguments(rule) {
                let call = Call { name, number, arguments, machine };
                let expected = if !is_x32 && allowed(&call) { ALLOW } else { REFUSE };
                let found = answer(machine.architecture.audit, number, arguments);
                assert_eq!(found, expected, "{}: {name} {number:#x} {arguments:x?}", machine.name);
            }
            let foreign = MACHINES.iter().map(|other| other.architecture.audit).chain(OTHERS);
            for audit in foreign.filter(|audit| *audit != machine.architecture.audit) {
                assert_eq!(
                    answer(audit, number, [0; 6]),
                    KILL,
                    "{}: {number:#x} of {audit:#x}",
                    machine.name
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
