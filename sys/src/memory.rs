//! Giving memory back before a long wait: a stage waits for hours, beside hundreds of others on the same host.

use nix::sys::statfs::{self, statfs};
use std::ffi::{c_int, c_void};

/// Whether this process can do without the code of its program for a while.
#[derive(Debug, Clone, Copy)]
pub struct OwnProgram {
    is_local: bool,
}

impl OwnProgram {
    /// Asks where its file is: one that another host has replaced cannot be read any more, which may be below an
    /// overlay as well. To be called before a filter of system calls is in
    /// force; the file need not be readable. Where this host does not say, the answer is no.
    pub fn look() -> Self {
        let local = [
            statfs::EXT4_SUPER_MAGIC,
            statfs::XFS_SUPER_MAGIC,
            statfs::BTRFS_SUPER_MAGIC,
            statfs::TMPFS_MAGIC,
        ];
        OwnProgram {
            is_local: statfs("/proc/self/exe").is_ok_and(|found| local.contains(&found.filesystem_type())),
        }
    }

    /// Gives back the free parts of the heap and, of a program on a file system of this host, what is mapped of its own file, code and constants,
    /// which stays in the page cache and comes back page by page as it is used.
    pub fn give_back(self) {
        // SAFETY: malloc_trim takes a number and locks the heap itself.
        unsafe { libc::malloc_trim(0) };
        if self.is_local {
            // SAFETY: the function is called before this returns, with descriptions of loaded files that are valid for that long; it keeps none.
            unsafe { libc::dl_iterate_phdr(Some(unmap), std::ptr::null_mut()) };
        }
    }
}

/// Takes the pages of the program out of this process's memory, where it cannot have written to them. The first loaded file is the program
/// (dl_iterate_phdr(3)); a library may have relocated its code, and most of what it maps is shared with other processes.
extern "C" fn unmap(info: *mut libc::dl_phdr_info, _size: usize, _data: *mut c_void) -> c_int {
    // SAFETY: dl_iterate_phdr(3) calls this with a valid description and the number of its program headers.
    let (base, headers) = unsafe {
        let info = &*info;
        let count = usize::from(info.dlpi_phnum);
        (info.dlpi_addr as usize, std::slice::from_raw_parts(info.dlpi_phdr, count))
    };
    // SAFETY: sysconf takes a number.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(0x1_0000);
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let from = base + header.p_vaddr as usize;
        let end = from + header.p_memsz as usize;
        // Whole pages: none of them has bytes of another segment.
        let (from, end) = (from.next_multiple_of(page), end / page * page);
        if end > from {
            // SAFETY: these pages are of the program's file, mapped without PF_W and unchanged, because Nunbird's programs have no
            // relocations of code: the kernel reads the same bytes from the file at their next use.
            unsafe { libc::madvise(from as *mut c_void, end - from, libc::MADV_DONTNEED) };
        }
    }
    // No further file.
    1
}

#[cfg(test)]
mod tests {
    use super::OwnProgram;
    use std::process::Command;

    /// Kilobytes of this field of `/proc/self/smaps_rollup`.
    fn now(field: &str) -> usize {
        let text = std::fs::read_to_string("/proc/self/smaps_rollup").expect("proc");
        let value =
            text.lines().find_map(|line| line.strip_prefix(field)?.split_whitespace().next()?.parse().ok());
        value.expect("a field")
    }

    #[test]
    fn heap_and_code_are_given_back_and_everything_works_as_before() {
        // Alone, so that no other test's memory is in the numbers.
        let own = std::env::current_exe().expect("this program");
        let words = ["--exact", "memory::tests::gives_back_where_the_test_above_asks", "--nocapture"];
        let out = Command::new(own).args(words).env("NBT_MEMORY", "1").output().expect("this program");
        assert!(
            out.status.success(),
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
    }

    #[test]
    fn gives_back_where_the_test_above_asks() {
        let asked = std::env::var_os("NBT_MEMORY").is_some();
        let mut heap: Vec<Vec<u8>> = (0..5000).map(|n| vec![n as u8 | 1; 1000]).collect();
        let sum: usize = heap.iter().map(|piece| usize::from(piece[500])).sum();
        // The last one stays, so that free(3) alone gives nothing back.
        let last = heap.pop();
        drop(heap);
        let before = (now("Rss:"), now("Private_Dirty:"));
        OwnProgram::look().give_back();
        let after = (now("Rss:"), now("Private_Dirty:"));
        assert!(last.is_some_and(|last| last.len() == 1000));
        assert!(sum > 0 && format!("{sum:?} works").len() > 6);
        if asked {
            assert!(after.1 + 3000 < before.1, "heap: {before:?} {after:?}");
            assert!(before.0 - after.0 > before.1 - after.1 + 150, "code: {before:?} {after:?}");
        }
    }
}
