//! `quipu chat` from outside: pipes, JSON, commands, files, Ctrl-C, and a terminal.
#![allow(clippy::unwrap_used)]

mod common;

use common::engines::{file, nano};
use quipu::quant::DType;
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder with a model.
fn model() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nano.gguf");
    std::fs::write(&path, file(&nano(), DType::Q8_0).as_ref()).unwrap();
    (dir, path)
}

fn command(model: &Path, more: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_quipu"));
    for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_str().is_some_and(|n| n.starts_with("QUIPU_")))
    {
        c.env_remove(name);
    }
    // Flags beat these.
    c.envs([
        ("QUIPU_THREADS", "1"),
        ("QUIPU_CHAT_TEMPLATE", "plain"),
        ("QUIPU_SEED", "5"),
        ("QUIPU_PREDICT", "8"),
    ]);
    c.args(["chat", "-m"]).arg(model).args(more);
    c.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    c
}

/// Writes lines to a chat.
fn chat(model: &Path, more: &[&str], input: &str) -> Output {
    let mut child = command(model, more).spawn().unwrap();
    // Who ends early does not read all of it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn stderr(o: &Output) -> String {
    let text = String::from_utf8_lossy(&o.stderr).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    text
}

fn lines(o: &Output) -> Vec<Value> {
    assert!(o.status.success(), "{}", stderr(o));
    let text = std::str::from_utf8(&o.stdout).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn content(v: &Value) -> &str {
    v["content"].as_str().unwrap()
}

#[test]
fn every_line_of_a_pipe_is_answered_and_earlier_ones_are_in_the_cache() {
    let (_dir, model) = model();
    let input = "Once upon a time\n\nthere was \\\na girl\n\"\"\"one\ntwo\"\"\"";
    let json = lines(&chat(&model, &["--json", "-sys", "Be brief."], input));
    assert_eq!(json.len(), 3, "{json:?}");
    let count = |v: &Value, key: &str| v[key].as_u64().unwrap();
    assert_eq!(count(&json[0], "reused_tokens"), 0);
    for pair in json.windows(2) {
        let before = count(&pair[0], "reused_tokens") + count(&pair[0], "prompt_tokens");
        assert!(count(&pair[1], "reused_tokens") >= before, "{pair:?}");
    }
    for v in &json {
        assert!(count(v, "generated_tokens") == 8 || v["stop_reason"] == "eos", "{v}");
        assert!(v["role"] == "assistant" && v["context"] == 1024 && v["seed"] == 5);
    }
    // The same as text: the answers alone, with a newline between them.
    let text = chat(&model, &["-sys", "Be brief."], input);
    let answers: Vec<&str> = json.iter().map(content).collect();
    assert_eq!(String::from_utf8(text.stdout.clone()).unwrap(), answers.join("\n"));
    assert!(stderr(&text).contains("context 1024"), "{}", stderr(&text));
    // The first message from a flag, and only that one.
    let single =
        lines(&chat(&model, &["--json", "-sys", "Be brief.", "-p", "Once upon a time", "-st"], input));
    assert_eq!(single.len(), 1);
    assert_eq!(content(&single[0]), answers[0]);
}

#[test]
fn commands_do_what_they_say() {
    let (_dir, model) = model();
    let input = "a\n/reset\na\n/regen\n/undo\n/set temp 0\nb\n/regen\n/set n_predict 3\n/regen\n/system Shout.\n/regen\n/exit\nnever";
    let o = chat(&model, &["--json"], input);
    let json = lines(&o);
    let a: Vec<&str> = json.iter().map(content).collect();
    assert_eq!(a.len(), 7, "{a:?}");
    assert_eq!(a[0], a[1], "a new conversation begins the seed's stream again");
    assert_ne!(a[1], a[2], "another draw");
    assert_eq!(a[3], a[4], "no draws at temperature 0");
    assert!(a[3].starts_with(a[5].trim_end_matches('\u{fffd}')) && json[5]["generated_tokens"] == 3);
    assert!(json[6]["prompt_tokens"].as_u64() > json[5]["prompt_tokens"].as_u64(), "another beginning");

    let told = stderr(&chat(&model, &[], "/help\n/set\n/stats\nhi\n/stats\n"));
    for part in ["/save FILE", "temp 0.8", "top_k 40", "seed 5", "context: 0 of 1024", "answer: 8 tokens in"]
    {
        assert!(told.contains(part), "{part} in {told}");
    }
}

#[test]
fn mistakes_end_a_script_with_their_code() {
    let (dir, model) = model();
    let missing = dir.path().join("none").display().to_string();
    let not_saved = model.display().to_string();
    let long = "word ".repeat(2000);
    for (input, code, part) in [
        ("/frobnicate\nhi", 2, "[UnknownCommand] /frobnicate"),
        ("/save\nhi", 2, "[MissingArgument] /save"),
        ("/set top_p 2\nhi", 2, "[OutOfRange] top_p"),
        ("/set colour red\nhi", 2, "[UnknownSetting] colour"),
        ("/regen\nhi", 2, "[NothingToRepeat]"),
        (&format!("/load {missing}\nhi"), 4, "[InputNotReadable]"),
        (&format!("/load {not_saved}\nhi"), 4, "[BadSession]"),
        (&format!("/save {missing}/x\nhi"), 1, "[OutputNotWritable]"),
        (&long, 4, "[PromptTooLong] the conversation"),
    ] {
        let o = chat(&model, &[], input);
        let told = stderr(&o);
        assert!(o.status.code() == Some(code) && told.contains(part), "{input:.30}: {:?} {told}", o.status);
        assert!(o.stdout.is_empty(), "{input:.30}");
    }
    let full = chat(&model, &["-n", "-1", "-c", "64", "--ignore-eos"], "hi\n");
    assert!(full.status.success() && stderr(&full).contains("/reset"), "{}", stderr(&full));
    let stop = lines(&chat(&model, &["--json", "-n", "-1", "-r", "\u{fffd}"], "hi\n"));
    assert_eq!(stop[0]["stop_reason"], "stop_string");
}

#[test]
fn a_saved_conversation_goes_on_in_another_process() {
    let (dir, model) = model();
    let path = dir.path().join("saved session").display().to_string();
    let o = chat(&model, &["--json"], &format!("one\n/save {path}\ntwo\n"));
    let unbroken = lines(&o);
    assert!(stderr(&o).contains("saved") && !Path::new(&format!("{path}.part")).exists());
    for more in [&["--json"][..], &["--json", "--seed", "-1"], &["--json", "--isa", "scalar", "-t", "2"]] {
        let json = lines(&chat(&model, more, &format!("/load {path}\ntwo\n")));
        let same = ["content", "reused_tokens", "prompt_tokens", "context_used"];
        assert!(same.iter().all(|k| json[0][k] == unbroken[1][k]), "{more:?}: {} {}", json[0], unbroken[1]);
    }
    let o = chat(&model, &["--json", "-c", "512"], &format!("/load {path}\ntwo\n"));
    assert_eq!(content(&lines(&o)[0]), content(&unbroken[1]));
    assert!(stderr(&o).contains("computed again"), "{}", stderr(&o));

    let bytes = std::fs::read(&path).unwrap();
    for (what, damaged) in [
        ("cut", bytes[..bytes.len() / 2].to_vec()),
        ("empty", Vec::new()),
        (
            "flipped",
            bytes.iter().enumerate().map(|(i, b)| if i == bytes.len() / 2 { b ^ 1 } else { *b }).collect(),
        ),
    ] {
        std::fs::write(&path, damaged).unwrap();
        let o = chat(&model, &[], &format!("/load {path}\ntwo\n"));
        assert!(o.status.code() == Some(4) && stderr(&o).contains("[BadSession]"), "{what}: {}", stderr(&o));
    }
    std::fs::write(&path, &bytes).unwrap();
    std::fs::write(&model, file(&nano(), DType::F16).as_ref()).unwrap();
    let o = chat(&model, &[], &format!("/load {path}\ntwo\n"));
    assert!(o.status.code() == Some(4) && stderr(&o).contains("[OtherModel]"), "{}", stderr(&o));
}

/// Ctrl-C for a process of ours.
#[cfg(unix)]
#[allow(unsafe_code)]
fn interrupt(child: &std::process::Child) {
    // SAFETY: a signal to a child that nobody has waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_script_and_keeps_what_was_said() {
    use std::io::Read;
    let (_dir, model) = model();
    let mut child =
        command(&model, &["-n", "-1", "-c", "100000", "--ignore-eos"]).stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"hi\nmore\n").unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut first = [0; 64];
    stdout.read_exact(&mut first).unwrap();
    interrupt(&child);
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

/// A terminal: what is written to one end is typed at the other.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn terminal() -> (std::fs::File, std::fs::File) {
    use std::os::fd::FromRawFd;
    let (mut ours, mut theirs) = (0, 0);
    let size = libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: pointers to live locals or null, as openpty(3) allows.
    let done =
        unsafe { libc::openpty(&mut ours, &mut theirs, std::ptr::null_mut(), std::ptr::null(), &size) };
    assert_eq!(done, 0, "openpty");
    // SAFETY: descriptors that were just made and that nothing else owns.
    unsafe { (std::fs::File::from_raw_fd(ours), std::fs::File::from_raw_fd(theirs)) }
}

/// What a terminal shows, as it comes.
#[cfg(target_os = "linux")]
struct Shown {
    bytes: std::sync::mpsc::Receiver<Vec<u8>>,
    rest: String,
}

#[cfg(target_os = "linux")]
impl Shown {
    fn new(mut terminal: std::fs::File) -> Shown {
        use std::io::Read;
        let (send, bytes) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut some = [0; 4096];
            // An error is how the end of a terminal looks.
            while let Ok(n) = terminal.read(&mut some) {
                if n == 0 || send.send(some[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Shown { bytes, rest: String::new() }
    }

    /// What is shown up to `part`, which has to come within a minute.
    fn until(&mut self, part: &str) -> String {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            if let Some(at) = self.rest.find(part) {
                let rest = self.rest.split_off(at + part.len());
                return std::mem::replace(&mut self.rest, rest);
            }
            let left = end.saturating_duration_since(std::time::Instant::now());
            match self.bytes.recv_timeout(left) {
                Ok(bytes) => self.rest.push_str(&String::from_utf8_lossy(&bytes)),
                Err(e) => panic!("no {part:?} ({e}) in {:?}", self.rest),
            }
        }
    }
}

/// Ends a child if the test ends before it.
#[cfg(target_os = "linux")]
struct Ended(std::process::Child);

#[cfg(target_os = "linux")]
impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_at_a_terminal_stops_the_answer_and_not_the_program() {
    use std::os::unix::process::CommandExt;
    let (dir, model) = model();
    let (mut ours, theirs) = terminal();
    let mut c = command(&model, &["-n", "-1", "-c", "100000", "--ignore-eos", "-v"]);
    c.stdin(theirs.try_clone().unwrap()).stdout(theirs.try_clone().unwrap()).stderr(theirs);
    c.env("TERM", "xterm").env("XDG_STATE_HOME", dir.path()).env_remove("NO_COLOR");
    #[allow(unsafe_code)]
    // SAFETY: only calls that are allowed between fork and exec.
    unsafe {
        c.pre_exec(|| {
            libc::setsid();
            libc::ioctl(0, libc::TIOCSCTTY, 0);
            Ok(())
        });
    }
    let mut child = Ended(c.spawn().unwrap());
    drop(c);
    let mut shown = Shown::new(ours.try_clone().unwrap());
    let mut type_in = |text: &[u8]| ours.write_all(text).unwrap();
    shown.until("Ctrl-D leaves");
    // Typed before the editor listens, it would be shown twice.
    shown.until("> ");
    type_in(b"hello\r");
    let line = shown.until("hello\x1b[0m");
    assert!(line.contains("\x1b[1;32m"), "colour in {line:?}");
    shown.until("\r\n");
    std::thread::sleep(std::time::Duration::from_millis(100));
    // As a terminal sends it to its foreground process.
    type_in(b"\x03");
    shown.until("answer: ");
    shown.until("> ");
    type_in(b"/frobnicate\r");
    shown.until("[UnknownCommand]");
    shown.until("> ");
    type_in(b"\x03");
    shown.until("Ctrl-C again");
    shown.until("> ");
    type_in(b"\x1b[A\x1b[A");
    shown.until("hello\x1b[0m");
    // Takes the line back, and nothing else.
    type_in(b"\x03");
    shown.until("> \x1b[1;32m\x1b[0m");
    type_in(b"\x04");
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
    let history = std::fs::read_to_string(dir.path().join("quipu/history")).unwrap();
    assert!(history.contains("hello") && history.contains("/frobnicate"), "{history}");
}
