//! The places that a site has set, each in the form that it takes.

use crate::encode;
use crate::event::Event;
use nunbird_handover::{Audit, Syslog};
use nunbird_host::Destination;
use std::io;

/// Where the events of a job go: remote places first and the file last, so that what fails is written down where it still can be.
pub fn destinations(audit: &Audit) -> Vec<Destination> {
    let syslog = audit.syslog.map(|syslog| match syslog {
        Syslog::Local => Destination::Syslog,
        Syslog::Udp(address) => Destination::Udp(address),
        Syslog::Tcp(address) => Destination::Tcp(address),
    });
    let journal = audit.journald.then_some(Destination::Journal);
    let file = audit.file.clone().map(Destination::File);
    syslog.into_iter().chain(journal).chain(file).collect()
}

/// The places of a job's events.
#[derive(Debug, Default)]
pub struct Sinks {
    destinations: Vec<Destination>,
    /// Why those that could not be opened were not, in the same order.
    closed: Vec<Option<String>>,
    /// Whether a job does not run where one of them does not have its event.
    pub required: bool,
}

impl Sinks {
    /// The site's places, with the reason for each that could not be opened.
    pub fn new(audit: &Audit, closed: Vec<Option<String>>) -> Self {
        Sinks { destinations: destinations(audit), closed, required: audit.required }
    }

    /// Whether the site has set no place at all.
    pub fn is_empty(&self) -> bool {
        self.destinations.is_empty()
    }

    /// Writes an event to every place by `send`, which takes the place's number, the bytes, and whether they are to be on the disk when
    /// it returns.
    ///
    /// # Errors
    /// The places that do not have it, and why, one a line; the others have it.
    pub fn write(
        &self,
        event: &Event<'_>,
        durably: bool,
        send: impl Fn(usize, &[u8], bool) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut troubles: Vec<String> = self.closed.iter().flatten().cloned().collect();
        for (index, destination) in self.destinations.iter().enumerate() {
            if self.closed.get(index).is_some_and(Option::is_some) {
                continue;
            }
            let known = event.not_written.iter().chain(&troubles).map(String::as_str);
            let not_written = Some(known.collect::<Vec<_>>().join("; ")).filter(|all| !all.is_empty());
            let encoded = bytes(&Event { not_written, ..event.clone() }, destination);
            let sent = encoded.map_err(|e| format!("{destination}: {e}"));
            if let Err(trouble) = sent.and_then(|bytes| send(index, &bytes, durably)) {
                troubles.push(trouble);
            }
        }
        if troubles.is_empty() { Ok(()) } else { Err(troubles.join("\n")) }
    }
}

fn bytes(event: &Event<'_>, destination: &Destination) -> io::Result<Vec<u8>> {
    match destination {
        Destination::File(_) => encode::json_line(event),
        Destination::Journal => encode::journal(event),
        Destination::Syslog => encode::syslog_local(event),
        Destination::Udp(_) | Destination::Tcp(_) => encode::syslog_5424(event),
    }
}
