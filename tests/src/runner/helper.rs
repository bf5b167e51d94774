//! The `gitlab-runner` that scripts find on a job's PATH: `artifacts-uploader` alone, over plain HTTP, with
//! a gzipped tar archive in place of a zip archive.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, ExitCode};

/// The whole of `nbt-gitlab-runner`.
pub fn main() -> ExitCode {
    let words: Vec<String> =
        std::env::args_os().skip(1).map(OsString::into_string).filter_map(Result::ok).collect();
    let done = match words.split_first() {
        Some((command, _)) if command == "--version" => {
            println!("Version: the test bed's");
            Ok(())
        }
        Some((command, flags)) if command == "artifacts-uploader" => upload(flags),
        _ => Err("unknown command".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("FATAL: {error}");
            ExitCode::FAILURE
        }
    }
}

fn upload(flags: &[String]) -> Result<(), String> {
    let values = |name: &str| -> Vec<&String> {
        flags.chunks_exact(2).filter(|pair| pair[0] == name).map(|pair| &pair[1]).collect()
    };
    let one = |name: &str| values(name).first().copied().ok_or_else(|| format!("{name} is missing"));
    let (url, token, id) = (one("--url")?, one("--token")?, one("--id")?);
    let authority = url.strip_prefix("http://").ok_or("the URL is not plain HTTP")?;
    let archive = Command::new("tar").args(["-czf", "-"]).args(values("--path")).output();
    let archive = archive.map_err(|e| format!("tar: {e}"))?;
    if !archive.status.success() {
        return Err(format!("tar: {}", String::from_utf8_lossy(&archive.stderr)));
    }
    let mut stream = TcpStream::connect(authority).map_err(|e| format!("{authority}: {e}"))?;
    let head = format!(
        "POST /api/v4/jobs/{id}/artifacts HTTP/1.1\r\nHost: {authority}\r\nJOB-TOKEN: {token}\r\nContent-Length: {}\r\n\r\n",
        archive.stdout.len()
    );
    let mut reply = String::new();
    stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(&archive.stdout))
        .and_then(|()| stream.read_to_string(&mut reply))
        .map_err(|e| format!("{authority}: {e}"))?;
    if !reply.starts_with("HTTP/1.1 201 ") {
        return Err(format!("{authority}: {}", reply.lines().next().unwrap_or_default()));
    }
    println!("Uploading artifacts as \"archive\" to coordinator... 201 Created  id={id}");
    Ok(())
}
