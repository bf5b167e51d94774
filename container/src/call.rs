//! One run of the outer script, with a limit of time and an ear for requests to cancel.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nunbird_stage::command::{CommandLine, CommandOutput, RunningCommand};
use nunbird_stage::signals::Signals;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// How it ended.
#[derive(Debug)]
pub(crate) enum Called {
    /// By itself.
    Ended(CommandOutput),
    /// It was killed when its time was over, or earlier because of what it had printed.
    Late,
    /// It was killed because of a request to cancel.
    Cancelled,
}

/// Runs `/bin/sh outer WORDS`. Without `signals`, requests to cancel end this process as usual.
pub(crate) fn call(
    outer: &Path,
    words: &[String],
    environment: &[(OsString, OsString)],
    time: Duration,
    signals: Option<&Signals>,
) -> io::Result<Called> {
    call_unless(outer, words, environment, time, signals, &|_| false)
}

/// The same, which ends it once `stops` is true of what it has printed so far, looked at about each second.
pub(crate) fn call_unless(
    outer: &Path,
    words: &[String],
    environment: &[(OsString, OsString)],
    time: Duration,
    signals: Option<&Signals>,
    stops: &dyn Fn(&RunningCommand) -> bool,
) -> io::Result<Called> {
    let mut line = vec!["/bin/sh".to_owned(), outer.to_string_lossy().into_owned()];
    line.extend_from_slice(words);
    let call = CommandLine { words: line, input: None };
    let deadline = Instant::now() + time;
    let mut running = RunningCommand::start(&call, None, environment, time)?;
    let (mut cancelled, mut stopped) = (false, false);
    loop {
        if let Some(output) = running.ended()? {
            return Ok(match cancelled {
                true => Called::Cancelled,
                false if output.status.is_none() && (stopped || Instant::now() >= deadline) => Called::Late,
                false => Called::Ended(output),
            });
        }
        let left = deadline.saturating_duration_since(Instant::now());
        wait(signals, left)?;
        if let Some(signals) = signals
            && signals.request()?.is_some()
        {
            cancelled = true;
            running.give_up();
        } else if !stopped && stops(&running) {
            stopped = true;
            running.give_up();
        }
    }
}

/// Waits for a signal, or at most this long. A command that does not end when it is killed is looked
/// at again and again.
pub(crate) fn wait(signals: Option<&Signals>, most: Duration) -> io::Result<()> {
    let most = most.clamp(
        Duration::from_millis(20),
        Duration::from_millis(match signals {
            Some(_) => 1000,
            None => 20,
        }),
    );
    let timeout = PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX);
    let mut fds: Vec<PollFd<'_>> =
        signals.iter().map(|signals| PollFd::new(signals.fd(), PollFlags::POLLIN)).collect();
    match poll(&mut fds, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Called, call};
    use std::time::{Duration, Instant};

    #[test]
    fn a_script_that_takes_too_long_is_killed_with_its_children() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(
            file.path(),
            "case $1 in slow) sleep 60 & wait ;; *) echo \"$1 $A\"; exit 3 ;; esac\n",
        )
        .expect("its text");
        let run = |word: &str, time| {
            call(
                file.path(),
                &[word.to_owned()],
                &[("A".into(), "b c".into()), ("PATH".into(), "/bin".into())],
                time,
                None,
            )
            .expect("run")
        };
        match run("$(x)", Duration::from_secs(30)) {
            Called::Ended(output) => {
                assert_eq!(
                    (output.out.as_str(), output.status.and_then(|s| s.code())),
                    ("$(x) b c\n", Some(3))
                );
            }
            other => panic!("{other:?}"),
        }
        let begin = Instant::now();
        assert!(matches!(run("slow", Duration::from_millis(100)), Called::Late));
        assert!(begin.elapsed() < Duration::from_secs(20));
    }
}
