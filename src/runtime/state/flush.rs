//! Brings the dialog files to the disk every so often, so that calls outlive the host too.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// A thread that flushes until this value is dropped, and once more then.
pub struct Flushing {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Flushing {
    /// Starts to flush these files.
    pub fn start(paths: &[PathBuf], every: Duration) -> io::Result<Flushing> {
        let files: Vec<File> = paths.iter().map(File::open).collect::<io::Result<_>>()?;
        let (stop, stopped) = channel::<()>();
        let thread = std::thread::Builder::new()
            .name("state-flush".to_owned())
            .spawn(move || {
                let mut is_good = true;
                while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
                    flush(&files, &mut is_good);
                }
                flush(&files, &mut is_good);
            })?;
        Ok(Flushing {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Flushing {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _it_only_flushes = thread.join();
        }
    }
}

/// Says once that the disk does not take it, and once that it does again.
fn flush(files: &[File], is_good: &mut bool) {
    let fault = files.iter().find_map(|file| file.sync_data().err());
    match (&fault, *is_good) {
        (Some(fault), true) => {
            tracing::error!(%fault, "dialog files not flushed: calls do not outlive the host");
        }
        (None, false) => tracing::info!("dialog files are flushed again"),
        (Some(_), false) | (None, true) => {}
    }
    *is_good = fault.is_none();
}
