//! The stage's script in a memory file that this process owns.
//!
//! The shell opens its script by name, `/dev/fd/3`, and may not open the runner's file that way. A
//! pipe or standard input would not work either, because a login profile that reads standard input
//! would consume the script. The memory file is sealed: nothing changes it while a shell reads it. A
//! container has none of our descriptors but standard input, where the inner script reads it.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nunbird_stage::StageError;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::fs::FileExt;

/// Runs before the script, on its first line so that line numbers do not change: reports on
/// descriptor 4 that the script has begun, and closes both descriptors, so that the job's processes
/// do not inherit them.
pub(crate) const BEGIN: &[u8] = b"printf s >&4; exec 3<&- 4>&-; ";
const CHUNK: usize = 1 << 20;

/// Copies the script from its beginning, whatever the descriptor's offset, behind these bytes. The
/// copy is read from its beginning.
pub(crate) fn in_memory(before: &[u8], script: &File) -> Result<File, StageError> {
    copy(before, script).map_err(|e| {
        let help = "the host may be short of memory; run the job again, or report it to the administrators";
        StageError::new("cannot copy the stage's script into memory", e, help)
    })
}

fn copy(before: &[u8], script: &File) -> io::Result<File> {
    let mut memory = create()?;
    memory.write_all(before)?;
    let mut chunk = vec![0; CHUNK];
    let mut offset = 0;
    loop {
        match script.read_at(&mut chunk, offset) {
            Ok(0) => break,
            Ok(n) => {
                memory.write_all(&chunk[..n])?;
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let all =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&memory, FcntlArg::F_ADD_SEALS(all))?;
    memory.rewind()?;
    Ok(memory)
}

fn create() -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Hosts with vm.memfd_noexec = 2 allow no others; kernels before 6.3 do not know the flag.
    let no_exec = flags | MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    let fd = match memfd_create(c"nunbird-script", no_exec) {
        Err(Errno::EINVAL) => memfd_create(c"nunbird-script", flags)?,
        other => other?,
    };
    Ok(File::from(fd))
}

#[cfg(test)]
mod tests {
    use super::in_memory;
    use std::io::{Read, Seek, SeekFrom, Write};

    #[test]
    fn the_copy_is_whole_begins_at_the_beginning_and_cannot_be_changed() {
        let mut script = tempfile::tempfile().expect("file");
        let text = vec![b'x'; super::CHUNK * 2 + 7];
        script.write_all(&text).expect("write");
        let mut copy = in_memory(super::BEGIN, &script).expect("copy");
        copy.seek(SeekFrom::Start(super::BEGIN.len() as u64)).expect("seek");
        let mut read = Vec::new();
        copy.read_to_end(&mut read).expect("read");
        assert!(read == text);
        assert!(copy.write_all(b"y").is_err());
        assert!(copy.set_len(0).is_err());
    }
}
