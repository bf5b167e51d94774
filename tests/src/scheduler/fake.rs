//! A fake scheduler in the compliance suite: a queue in a directory of its own for each bed.

use super::bed::Bed;
use super::cluster::{Cluster, Fault, JobState, Possible, Want};
use crate::fake::{Cause, Dialect, MomRequest, Queue, standing_of};
use crate::world::process;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// Seconds of a minute of a job's time limit.
const MINUTE: &str = "3";

/// A bed with the commands of one scheduler.
#[derive(Debug)]
pub struct Fake {
    dialect: Dialect,
    name: String,
    is_openlava: bool,
    bed: Bed,
}

impl Fake {
    /// Lays one out.
    ///
    /// # Panics
    /// Without root.
    pub fn start(dialect: Dialect) -> Fake {
        Self::start_as(dialect, dialect.name())
    }

    /// LSF with the commands of OpenLava 2.2.
    ///
    /// # Panics
    /// Without root.
    pub fn start_openlava() -> Fake {
        Self::start_as(Dialect::Lsf, "openlava")
    }

    fn start_as(dialect: Dialect, name: &str) -> Fake {
        let bed = Bed::new(&format!("nbt_{name}_"));
        let is_openlava = name == "openlava";
        let fake = Fake { dialect, name: format!("fake-{name}"), is_openlava, bed };
        Queue::create(&fake.queue()).expect("a queue");
        if is_openlava {
            fs::write(fake.queue().join("openlava"), "").expect("a file");
        }
        fs::write(fake.queue().join("minute"), MINUTE).expect("a file");
        let program = process::sibling("nbt-fake-scheduler");
        for command in dialect.commands() {
            let text = format!(
                "#!/bin/sh\n[ -z \"$NBT_CALLS\" ] || echo \"{command} $*\" >>\"$NBT_CALLS/$NUNBIRD_JOB_ID\"\n\
                 exec {} {} {} {command} \"$@\"\n",
                program.display(),
                dialect.name(),
                fake.queue().display()
            );
            let path = fake.bed.path("bin").join(command);
            fs::write(&path, text).expect("a command");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
        }
        fake
    }

    fn queue(&self) -> PathBuf {
        self.bed.path("queue")
    }

    /// The number in a scheduler's id.
    fn number(&self, id: &str) -> u64 {
        self.dialect.number(id).unwrap_or_else(|| panic!("`{id}` is no id of {}", self.name))
    }

    fn with_queue(&self, act: impl FnOnce(&Queue) -> io::Result<()>) {
        Queue::open(&self.queue()).and_then(|queue| act(&queue)).expect("the queue");
    }

    fn request(&self, id: &str, request: MomRequest) {
        self.with_queue(|queue| queue.request(self.number(id), request));
    }

    fn mark(&self, id: &str, marks: &[&str]) {
        let number = self.number(id);
        self.with_queue(|queue| marks.iter().try_for_each(|mark| queue.mark(number, mark, Some(""))));
    }

    fn fault(&self, name: &str, text: Option<&str>) {
        let path = self.queue().join("faults").join(name);
        match text {
            Some(text) => fs::write(path, text).expect("a file"),
            // ENOENT: it is not there.
            None => drop(fs::remove_file(path)),
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.bed.end(|| ());
    }
}

impl Cluster for Fake {
    fn name(&self) -> &str {
        &self.name
    }

    fn scheduler(&self) -> &str {
        self.dialect.name()
    }

    fn bed(&self) -> &Bed {
        &self.bed
    }

    fn environment(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn want(&self, want: Want) -> Possible<String> {
        super::wants::want(self.dialect, want)
    }

    fn reports(&self, cause: &str) -> Possible<()> {
        let in_table = ["time limit", "out of memory", "node failure", "preempted", "cancelled"];
        if self.is_openlava && in_table.contains(&cause) {
            return Err("OpenLava's table says EXIT, and no cause".to_owned());
        }
        super::wants::reports(self.dialect, cause)
    }

    fn can(&self, fault: Fault<'_>) -> Possible<()> {
        super::wants::can(self.dialect, fault)
    }

    fn shows_ended(&self) -> bool {
        !matches!(self.dialect, Dialect::Cobalt | Dialect::GridEngine)
    }

    fn standing(&self, id: &str) -> JobState {
        let queue = Queue::open(&self.queue()).expect("the queue");
        standing_of(&queue, self.number(id))
    }

    fn inflict(&self, fault: Fault<'_>) -> Possible<()> {
        super::wants::can(self.dialect, fault)?;
        match fault {
            Fault::Release(id) => self.request(id, MomRequest::Release),
            Fault::Down => self.fault("down", Some("")),
            Fault::Up => self.fault("down", None),
            Fault::NodeDown(id) => self.request(id, MomRequest::End(Cause::Node)),
            Fault::Preempt(id) => self.request(id, MomRequest::End(Cause::Preempted)),
            Fault::Requeue(id) => self.request(id, MomRequest::Requeue),
            Fault::CancelByAdmin(id) => self.request(id, MomRequest::Cancel(0)),
            Fault::OutOfMemory(id) => self.request(id, MomRequest::End(Cause::Memory)),
            Fault::Forget(id) => self.mark(id, &["forgotten"]),
            Fault::ForgetAll(id) => self.mark(id, &["forgotten", "unrecorded"]),
            Fault::GiveAway(id) => self.with_queue(|queue| queue.lose(self.number(id))),
            Fault::StrangeWord(id) => {
                let number = self.number(id);
                self.with_queue(|queue| queue.mark(number, "word", Some("XQ")));
            }
            Fault::PlainWord(id) => {
                let number = self.number(id);
                self.with_queue(|queue| queue.mark(number, "word", None));
            }
            Fault::Nonsense => self.fault("nonsense", Some("")),
            Fault::Slow(seconds) => self.fault("slow", Some(&seconds.to_string())),
            Fault::Sane => {
                self.fault("nonsense", None);
                self.fault("slow", None);
            }
        }
        Ok(())
    }
}
