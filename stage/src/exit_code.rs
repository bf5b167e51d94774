//! The runner's file for the exact exit code of a script.

use crate::StageError;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Writes the exact code into the runner's file, which holds `1` from `nunbird-auth`. The file is
/// overwritten before it is truncated: the runner takes an empty file as a system failure.
pub fn report_exit_code(file: Option<&File>, code: i32) -> Result<(), StageError> {
    let Some(file) = file else { return Ok(()) };
    let line = format!("{code}\n");
    let written = file.write_all_at(line.as_bytes(), 0).and_then(|()| file.set_len(line.len() as u64));
    written.map_err(|e| {
        let what = format!("cannot report the script's exit code {code} to gitlab-runner in");
        StageError::at(
            &what,
            Path::new("BUILD_EXIT_CODE_FILE"),
            e,
            "report it to the administrators: its file system may be full",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::report_exit_code;
    use std::io::{Read, Seek, Write};

    #[test]
    fn a_shorter_code_leaves_nothing_of_a_longer_one() {
        let mut file = tempfile::tempfile().expect("file");
        file.write_all(b"255\n").expect("write");
        report_exit_code(Some(&file), 7).expect("written");
        file.rewind().expect("rewind");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("read");
        assert_eq!(text, "7\n");
    }
}
