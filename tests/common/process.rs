//! Runs the `quipu` binary and measures it.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a process did.
pub struct Outcome {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub wall: Duration,
    /// Time of processors that it took, where the system tells: what others run beside it does not count.
    pub cpu: Option<Duration>,
    /// Largest resident size in bytes, where the system tells.
    pub peak_bytes: Option<u64>,
}

/// Runs `quipu` with these arguments, nothing on stdin, and without any `QUIPU_` variable or kept limits of the caller.
pub fn quipu(args: &[&str]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quipu"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("QUIPU_") {
            command.env_remove(name);
        }
    }
    command.env("XDG_CACHE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/no-cache"));
    run(command.args(args))
}

/// Runs a command to its end, reading what it writes meanwhile.
pub fn run(command: &mut Command) -> Outcome {
    // The largest size that this process has had counts as the other's: forget it. Elsewhere than on Linux nothing is
    // measured.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let start = Instant::now();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (stdout, stderr) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let Used { code, peak_bytes, cpu } = wait(&mut child);
    let wall = start.elapsed();
    Outcome { code, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap(), wall, cpu, peak_bytes }
}

/// Reads a pipe to its end.
fn reader(from: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    let mut from = from.unwrap();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// What the system says of a process that has ended.
struct Used {
    code: Option<i32>,
    peak_bytes: Option<u64>,
    cpu: Option<Duration>,
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn wait(child: &mut std::process::Child) -> Used {
    use std::os::unix::process::ExitStatusExt;
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid C struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pid is that of a child nobody has waited for; both pointers are to live locals.
    let pid = unsafe { libc::wait4(child.id() as i32, &mut status, 0, &mut usage) };
    assert_eq!(pid, child.id() as i32, "wait4 failed");
    let code = std::process::ExitStatus::from_raw(status).code();
    let time = |t: libc::timeval| Duration::from_micros(t.tv_sec as u64 * 1_000_000 + t.tv_usec as u64);
    // The memory of the parent at the time of the fork counts too: keep that small where it is looked at.
    let peak_bytes = u64::try_from(usage.ru_maxrss).ok().map(|kib| kib * 1024);
    Used { code, peak_bytes, cpu: Some(time(usage.ru_utime) + time(usage.ru_stime)) }
}

#[cfg(not(target_os = "linux"))]
fn wait(child: &mut std::process::Child) -> Used {
    Used { code: child.wait().unwrap().code(), peak_bytes: None, cpu: None }
}
