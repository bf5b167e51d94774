//! Files of lines with many writers at once: real processes, each with the file opened for itself.

use nunbird_files::directory::Directory;
use nunbird_files::lines::Lines;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Names the directory to a process that is to write, and its own number.
const PLACE: &str = "NBT_LINES_PLACE";
const NUMBER: &str = "NBT_LINES_NUMBER";
const WRITERS: usize = 8;
const EACH: usize = 5000;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = Path::new("/var/tmp").join(format!("nbt_lines_{}_{name}", std::process::id()));
        fs::create_dir(&path).expect("made");
        Scratch(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("file")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn lines(place: &Path) -> Lines {
    let fd = OwnedFd::from(File::open(place).expect("opened"));
    Directory::new(fd).lines("file", place.metadata().expect("stat").uid()).expect("lines")
}

/// As long as an audit event: a line now and then crosses the end of a page, where the kernel reports a size in between.
fn line(writer: &str, number: usize) -> String {
    format!("{writer} {number} {}\n", "x".repeat(900 + number % 700))
}

/// This test binary again, as a writer. It begins when its standard input ends.
fn writer(place: &Path, number: usize) -> Child {
    Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", "processes_that_append_at_once_neither_mix_their_lines_nor_part_them"])
        .env(PLACE, place)
        .env(NUMBER, number.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("started")
}

fn write_all(place: &Path) {
    let number = std::env::var_os(NUMBER).and_then(|number| number.into_string().ok()).expect("number");
    let lines = lines(place);
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).expect("the signal to begin");
    for n in 0..EACH {
        lines.append(line(&number, n).as_bytes()).expect("appended");
    }
}

#[test]
fn processes_that_append_at_once_neither_mix_their_lines_nor_part_them() {
    if let Some(place) = std::env::var_os(PLACE) {
        return write_all(Path::new(&place));
    }
    let scratch = Scratch::new("many");
    let mut writers: Vec<Child> = (0..WRITERS).map(|n| writer(&scratch.0, n)).collect();
    writers.iter_mut().for_each(|writer| drop(writer.stdin.take()));
    for mut writer in writers {
        assert!(writer.wait().expect("ended").success());
    }
    let content = fs::read_to_string(scratch.file()).expect("content");
    let mut next = [0; WRITERS];
    for found in content.split_inclusive('\n') {
        let writer = found.split(' ').next().expect("a word");
        let index: usize = writer.parse().unwrap_or_else(|_| panic!("no line of a writer's: {found:?}"));
        assert_eq!(found, line(writer, next[index]));
        next[index] += 1;
    }
    assert_eq!(next, [EACH; WRITERS]);
}

#[test]
fn a_line_after_a_torn_one_stands_by_itself() {
    let scratch = Scratch::new("torn");
    let lines = lines(&scratch.0);
    lines.append(b"first\n").expect("appended");
    File::options()
        .append(true)
        .open(scratch.file())
        .and_then(|mut file| file.write_all(b"to"))
        .expect("torn");
    lines.append(b"second\n").expect("appended");
    lines.append(b"third\n").expect("appended");
    assert_eq!(fs::read_to_string(scratch.file()).expect("content"), "first\nto\nsecond\nthird\n");
}

#[test]
fn a_lock_on_the_file_keeps_no_line_out_of_it() {
    let scratch = Scratch::new("locked");
    let lines = lines(&scratch.0);
    let reader = File::open(scratch.file()).expect("opened");
    reader.lock().expect("locked");
    lines.append(b"line\n").expect("appended");
    assert_eq!(fs::read_to_string(scratch.file()).expect("content"), "line\n");
}

/// A line of which the disk takes a part is none: a job whose event is cut short does not run.
#[test]
fn a_line_of_which_a_part_was_written_is_an_error() {
    match std::env::var_os(PLACE) {
        Some(place) => append_where_a_part_fits(Path::new(&place)),
        None => append_in_a_process_of_small_files(),
    }
}

fn append_where_a_part_fits(place: &Path) {
    let cut = lines(place).append(&[b"x".repeat(3000), b"\n".to_vec()].concat());
    assert_eq!(cut.expect_err("cut short").kind(), std::io::ErrorKind::WriteZero);
}

fn append_in_a_process_of_small_files() {
    let scratch = Scratch::new("part");
    fs::write(scratch.file(), "y".repeat(399) + "\n").expect("written");
    // One block, of 512 or 1024 bytes.
    let through = "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\"";
    let child = Command::new("/bin/sh")
        .args(["-c", through])
        .arg(std::env::current_exe().expect("own path"))
        .args(["--exact", "a_line_of_which_a_part_was_written_is_an_error"])
        .env(PLACE, &scratch.0)
        .output()
        .expect("started");
    assert!(child.status.success(), "{child:?}");
    assert!(fs::metadata(scratch.file()).expect("metadata").len() > 400, "nothing was written");
}
