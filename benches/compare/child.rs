//! One run of a program in a process of its own, with its time and its largest resident size.
//!
//! The system tells the size of the largest of all children that a process had, so every program gets a parent of its
//! own: this executable again, started with [`FLAG`].

use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The first argument of a process that measures one program.
const FLAG: &str = "--measure-one-child";

/// What a program did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// From its start to its end.
    pub seconds: f64,
    /// Why it is no success, such as `exit status: 1` or `timed out after 600 s`.
    pub failure: Option<String>,
    /// Largest resident size, where the system tells.
    pub peak_bytes: Option<u64>,
    /// Bytes that came from a disk, where the system tells.
    pub disk_bytes: Option<u64>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command line with variables set, for at most `timeout` seconds, in a folder, where some leave logs.
pub fn run(words: &[String], env: &[(String, String)], timeout: u64, folder: &Path) -> Outcome {
    let failed = |why: String| Outcome { failure: Some(why), ..Outcome::default() };
    let me = match std::env::current_exe() {
        Ok(me) => me,
        Err(e) => return failed(e.to_string()),
    };
    let mut c = Command::new(me);
    c.arg(FLAG).arg(timeout.to_string()).args(words).envs(env.iter().map(|(k, v)| (k, v)));
    match c.current_dir(folder).stdin(Stdio::null()).stderr(Stdio::inherit()).output() {
        Err(e) => failed(e.to_string()),
        Ok(o) => serde_json::from_slice(&o.stdout)
            .unwrap_or_else(|_| failed(format!("the measuring process: {}", o.status))),
    }
}

/// If this process was started by [`run`]: runs the program, prints its outcome as JSON, and is done.
pub fn is_child() -> bool {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() != Some(FLAG) {
        return false;
    }
    let timeout = args.next().and_then(|t| t.parse().ok()).unwrap_or(60);
    let words: Vec<String> = args.collect();
    let outcome = measure(&words, Duration::from_secs(timeout));
    println!("{}", serde_json::to_string(&outcome).expect("text and numbers are JSON"));
    true
}

fn measure(words: &[String], timeout: Duration) -> Outcome {
    let Some((program, args)) = words.split_first() else {
        return Outcome { failure: Some("no program".into()), ..Outcome::default() };
    };
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => {
            let failure = Some(format!("cannot be started: {e}"));
            return Outcome { failure, ..Outcome::default() };
        }
    };
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let child = Mutex::new(child);
    let locked = || child.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|s| {
        let out = s.spawn(move || text(out));
        let err = s.spawn(move || text(err));
        let mut timed_out = false;
        // A blocking wait could not be ended. Half a millisecond is little beside the least time that is measured.
        let status = loop {
            match locked().try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => break Ok(status),
                Err(e) => break Err(e.to_string()),
            }
            if !timed_out && start.elapsed() > timeout {
                timed_out = true;
                let _ = locked().kill();
            }
            std::thread::sleep(Duration::from_micros(500));
        };
        let seconds = start.elapsed().as_secs_f64();
        let failure = match status {
            _ if timed_out => Some(format!("timed out after {} s", timeout.as_secs())),
            Err(e) => Some(e),
            Ok(status) => (!status.success()).then(|| how(status)),
        };
        let [stdout, stderr] = [out, err].map(|t| t.join().unwrap_or_default());
        let (peak_bytes, disk_bytes) = used();
        Outcome { seconds, failure, peak_bytes, disk_bytes, stdout, stderr }
    })
}

fn how(status: ExitStatus) -> String {
    status.to_string()
}

fn text(from: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    // What came before an error counts.
    let _ = from.map(|mut f| f.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The largest resident size and the bytes from disks of the one child of this process.
#[cfg(target_os = "linux")]
fn used() -> (Option<u64>, Option<u64>) {
    use nix::sys::resource::{UsageWho, getrusage};
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return (None, None) };
    let times = |n: i64, unit: u64| u64::try_from(n).ok().map(|n| n * unit);
    (times(usage.max_rss(), 1024), times(usage.block_reads(), 512))
}

#[cfg(not(target_os = "linux"))]
fn used() -> (Option<u64>, Option<u64>) {
    (None, None)
}
