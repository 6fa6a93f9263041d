//! Log lines go to standard error from a thread of their own: who logs never waits, whatever becomes
//! of the one who reads. What comes too fast, or cannot be written, is lost, and counted in a line of its own.

#![forbid(unsafe_code)]

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write},
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tracing_subscriber::EnvFilter;

/// Lines that may wait to be written.
const LINES: usize = 8_192;
/// How long the end of the program waits for them.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Writes lines: each `write` is one, and never waits or fails.
#[derive(Clone, Debug)]
pub struct Log {
    lines: SyncSender<Line>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Line {
    Text(Vec<u8>),
    /// Answered when all before it is written.
    Mark(SyncSender<()>),
}

/// When it drops, what was logged is written, or a second has passed.
#[derive(Debug)]
pub struct Flush(SyncSender<Line>);

/// Writes the events of `tracing` that the filter lets pass to standard error, with the module that
/// each comes from where `with_target` says so. Call it once, first of all that logs.
///
/// # Errors
///
/// If there is no standard error, or no thread.
pub fn start(filter: EnvFilter, with_target: bool) -> io::Result<Flush> {
    // Not `Stderr`: its lock would be held by who waits for the reader.
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let lost = |count| {
        format!("{count} log lines were lost: they came faster than they could be written\n")
    };
    let (log, flush) = to(stderr, lost)?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(with_target)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(move || log.clone())
        .init();
    Ok(flush)
}

/// Has lines written by a thread of their own; `lost` makes a line of how many were lost.
///
/// # Errors
///
/// If there is no thread.
pub fn to(
    out: impl Write + Send + 'static,
    lost: impl Fn(u64) -> String + Send + 'static,
) -> io::Result<(Log, Flush)> {
    let (lines, waiting) = sync_channel(LINES);
    let count = Arc::new(AtomicU64::new(0));
    let log = Log {
        lines: lines.clone(),
        lost: count.clone(),
    };
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write(out, &waiting, &count, lost))?;
    Ok((log, Flush(lines)))
}

fn write(
    mut out: impl Write,
    lines: &Receiver<Line>,
    lost: &AtomicU64,
    say: impl Fn(u64) -> String,
) {
    while let Ok(line) = lines.recv() {
        match line {
            // What cannot be written, as on a full disk, is told of when something can be again.
            Line::Text(text) => {
                if out.write_all(&text).and_then(|()| out.flush()).is_err() {
                    lost.fetch_add(1, Ordering::Relaxed);
                }
            }
            Line::Mark(done) => drop(done.send(())),
        }
        let count = lost.swap(0, Ordering::Relaxed);
        if count > 0 && out.write_all(say(count).as_bytes()).is_err() {
            lost.fetch_add(count, Ordering::Relaxed);
        }
    }
}

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lines.try_send(Line::Text(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let deadline = Instant::now() + LAST_WORDS;
        let (done, written) = sync_channel(1);
        let mut mark = Line::Mark(done);
        loop {
            match self.0.try_send(mark) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => {
                    mark = back;
                    thread::sleep(Duration::from_millis(10));
                }
                Err(_) => return,
            }
        }
        // Too late is as good as done: nobody reads.
        let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex, PoisonError};

    use super::*;

    /// A pipe that is read when it is opened.
    #[derive(Clone, Default)]
    struct Pipe(Arc<(Mutex<State>, Condvar)>);

    #[derive(Default)]
    struct State {
        open: bool,
        read: Vec<u8>,
    }

    impl Pipe {
        fn open(&self) {
            let (state, opened) = &*self.0;
            state.lock().unwrap_or_else(PoisonError::into_inner).open = true;
            opened.notify_all();
        }

        fn text(&self) -> String {
            let state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
            String::from_utf8_lossy(&state.read).into_owned()
        }
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (state, opened) = &*self.0;
            let state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let mut state = opened
                .wait_while(state, |state| !state.open)
                .unwrap_or_else(PoisonError::into_inner);
            state.read.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_logs_never_waits_and_what_is_lost_is_counted() -> io::Result<()> {
        let pipe = Pipe::default();
        let (mut log, flush) = to(pipe.clone(), |count| {
            format!("{count} log lines were lost\n")
        })?;
        for index in 0..LINES + 100 {
            log.write_all(format!("line {index}\n").as_bytes())?;
        }
        pipe.open();
        drop(flush);
        let text = pipe.text();
        let lines = text
            .lines()
            .filter(|line| line.starts_with("line "))
            .count();
        let lost: usize = text
            .lines()
            .filter_map(|line| {
                line.split_once(" log lines were lost")?
                    .0
                    .parse::<usize>()
                    .ok()
            })
            .sum();
        assert!(lost > 0, "{lost}");
        assert_eq!(lines + lost, LINES + 100);
        Ok(())
    }

    /// A disk that is full for the first writes.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(u32, Vec<u8>)>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            disk.0 += 1;
            if disk.0 <= 5 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            disk.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_cannot_be_written_is_counted() -> io::Result<()> {
        let disk = Disk::default();
        let (mut log, flush) = to(disk.clone(), |count| format!("{count} lost\n"))?;
        for index in 0..5 {
            log.write_all(format!("line {index}\n").as_bytes())?;
        }
        drop(flush);
        let disk = disk.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Each line, and that it was lost, failed until the third's.
        let text = String::from_utf8_lossy(&disk.1);
        assert_eq!(text, "3 lost\nline 3\nline 4\n");
        Ok(())
    }

    #[test]
    fn the_end_does_not_wait_for_one_who_does_not_read() -> io::Result<()> {
        let (mut log, flush) = to(Pipe::default(), |count| count.to_string())?;
        log.write_all(b"unread\n")?;
        let began = Instant::now();
        drop(flush);
        assert!(began.elapsed() < Duration::from_secs(30));
        Ok(())
    }
}
