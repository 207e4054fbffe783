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
    let (code, peak_bytes) = wait(&mut child);
    let wall = start.elapsed();
    let read = |from: Option<&mut dyn std::io::Read>| {
        let mut bytes = Vec::new();
        from.unwrap().read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let stdout = read(child.stdout.as_mut().map(|s| s as _));
    let stderr = read(child.stderr.as_mut().map(|s| s as _));
    Outcome { code, stdout, stderr, wall, peak_bytes }
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn wait(child: &mut std::process::Child) -> (Option<i32>, Option<u64>) {
    use std::os::unix::process::ExitStatusExt;
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid C struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pid is that of a child nobody has waited for; both pointers are to live locals.
    let pid = unsafe { libc::wait4(child.id() as i32, &mut status, 0, &mut usage) };
    assert_eq!(pid, child.id() as i32, "wait4 failed");
    let code = std::process::ExitStatus::from_raw(status).code();
    (code, u64::try_from(usage.ru_maxrss).ok().map(|kib| kib * 1024))
}

#[cfg(not(target_os = "linux"))]
fn wait(child: &mut std::process::Child) -> (Option<i32>, Option<u64>) {
    (child.wait().unwrap().code(), None)
}
