//! Runs the `quipu` binary and measures it.

use std::process::{Command, Stdio};
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

/// Runs `quipu` with these arguments, nothing on stdin, and without any `QUIPU_` variable of the caller.
pub fn quipu(args: &[&str]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quipu"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("QUIPU_") {
            command.env_remove(name);
        }
    }
    run(command.args(args))
}

/// Runs a command to its end. Output must fit a pipe (64 KiB): nothing reads it meanwhile.
pub fn run(command: &mut Command) -> Outcome {
    let start = Instant::now();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let Used { code, peak_bytes, cpu } = wait(&mut child);
    let wall = start.elapsed();
    let read = |from: Option<&mut dyn std::io::Read>| {
        let mut bytes = Vec::new();
        from.unwrap().read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let stdout = read(child.stdout.as_mut().map(|s| s as _));
    let stderr = read(child.stderr.as_mut().map(|s| s as _));
    Outcome { code, stdout, stderr, wall, cpu, peak_bytes }
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
