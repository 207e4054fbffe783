//! Ctrl-C. While text is generated the first one asks the generation to stop; otherwise, and the second time, the
//! process ends at once. Always exit 130.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

type Stop = Box<dyn FnOnce() + Send>;

/// What the next Ctrl-C calls instead of ending the process.
static STOP: Mutex<Option<Stop>> = Mutex::new(None);
/// A file that is not finished and is removed when the process is ended.
static UNFINISHED: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Installs the handler (interrupt, terminate, hang-up). Without one the system's own way of ending holds.
pub fn install() {
    let _ = ctrlc::set_handler(|| {
        let stop = STOP.lock().ok().and_then(|mut s| s.take());
        match stop {
            Some(stop) => stop(),
            None => {
                remove_unfinished();
                std::process::exit(130);
            }
        }
    });
}

/// Calls `stop` on the next Ctrl-C, once.
pub fn on_next(stop: impl FnOnce() + Send + 'static) {
    if let Ok(mut s) = STOP.lock() {
        *s = Some(Box::new(stop));
    }
}

/// From here on Ctrl-C ends the process again.
pub fn clear() {
    if let Ok(mut s) = STOP.lock() {
        *s = None;
    }
}

/// Names a file that is being written, or none any more.
pub fn unfinished(path: Option<&Path>) {
    if let Ok(mut u) = UNFINISHED.lock() {
        *u = path.map(Path::to_owned);
    }
}

/// Removes the file that is being written, if one is named.
pub fn remove_unfinished() {
    if let Some(path) = UNFINISHED.lock().ok().and_then(|mut u| u.take()) {
        let _ = std::fs::remove_file(path);
    }
}
