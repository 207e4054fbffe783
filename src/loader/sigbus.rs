//! What happens when a mapped model file is truncated under us.
//!
//! Reading a page that no longer exists raises SIGBUS. No program can turn that into an error value safely, so a
//! handler writes one line that names the file and ends the process with the exit code of a bad model (3).
//! A SIGBUS from anywhere else goes where it would have gone without us: to the handler that was installed
//! before, or to the default action.
//!
//! The handler only touches atomics of a list that only grows and its own stack, and calls only `write`, `_exit`,
//! `sigaction` and `raise`: all async-signal-safe.

use crate::error::{Class, escape};
use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

/// Longest line that is written.
const LINE_BYTES: usize = 320;

struct Slot {
    start: AtomicUsize,
    /// Length of the map; 0 marks a free slot. Written last, so that a reader who sees it sees the rest.
    len: AtomicUsize,
    line: [AtomicU8; LINE_BYTES],
    line_len: AtomicUsize,
    /// Set once, when another slot is needed.
    next: OnceLock<&'static Slot>,
}

impl Slot {
    fn free() -> Slot {
        Slot {
            start: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            line: [const { AtomicU8::new(0) }; LINE_BYTES],
            line_len: AtomicUsize::new(0),
            next: OnceLock::new(),
        }
    }
}

/// The first slot of the list. A slot is never taken out, only used again, so the handler can walk it at any time.
static FIRST: OnceLock<&'static Slot> = OnceLock::new();

/// Every slot there is.
fn slots() -> impl Iterator<Item = &'static Slot> {
    std::iter::successors(FIRST.get().copied(), |s| s.next.get().copied())
}

/// Serialises registration; the handler never takes it.
static REGISTER: Mutex<()> = Mutex::new(());
/// What was installed before us.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// Keeps a map in the handler's table for as long as it lives.
pub(super) struct Guard {
    slot: &'static Slot,
}

impl Guard {
    /// Registers a map of `path`, and installs the handler on first use.
    pub(super) fn new(map: &[u8], path: &Path) -> Guard {
        install();
        let _lock = REGISTER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let slot = slots().find(|s| s.len.load(Ordering::Acquire) == 0).unwrap_or_else(|| {
            let end = slots().last().map_or(&FIRST, |s| &s.next);
            // As many as there ever are maps at the same time.
            end.get_or_init(|| Box::leak(Box::new(Slot::free())))
        });
        let line = format!(
            "[TruncatedWhileMapped] \"{}\": the file was truncated or its disk failed while it was mapped; \
             do not rewrite a model in place, or use --load-mode read\n",
            escape(&path.to_string_lossy())
        );
        let bytes = line.as_bytes();
        let n = bytes.len().min(LINE_BYTES);
        for (to, from) in slot.line.iter().zip(bytes) {
            to.store(*from, Ordering::Relaxed);
        }
        slot.line_len.store(n, Ordering::Relaxed);
        slot.start.store(map.as_ptr() as usize, Ordering::Relaxed);
        // The kernel maps whole pages, and only pages past the new end fault: round up.
        slot.len.store(map.len().next_multiple_of(4096), Ordering::Release);
        Guard { slot }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.slot.len.store(0, Ordering::Release);
    }
}

#[allow(unsafe_code)]
fn install() {
    PREVIOUS.get_or_init(|| {
        let mut previous = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: `sigaction` with a null new action only writes the current one into `previous`, which is a
        // plain C struct for which zero bytes are valid.
        let previous = unsafe {
            libc::sigaction(libc::SIGBUS, std::ptr::null(), previous.as_mut_ptr());
            previous.assume_init()
        };
        // SAFETY: an all-zero `sigaction` is valid (empty mask, no flags); the fields set make it a handler of
        // the three-argument kind, which `on_sigbus` is. SA_ONSTACK uses the alternate stack that the standard
        // library gives every thread.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_sigbus as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
        }
        previous
    });
}

#[allow(unsafe_code)]
extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid `siginfo_t` to a handler installed with SA_SIGINFO.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    // Codes above zero come from the kernel; others were sent by someone and carry no address.
    if code > 0 {
        for slot in slots() {
            let len = slot.len.load(Ordering::Acquire);
            let start = slot.start.load(Ordering::Relaxed);
            if len != 0 && address >= start && address - start < len {
                let mut line = [0u8; LINE_BYTES];
                let n = slot.line_len.load(Ordering::Relaxed).min(LINE_BYTES);
                for (to, from) in line.iter_mut().zip(&slot.line) {
                    *to = from.load(Ordering::Relaxed);
                }
                // SAFETY: `line` holds at least `n` bytes; both calls are async-signal-safe.
                unsafe {
                    libc::write(2, line.as_ptr().cast(), n);
                    libc::_exit(libc::c_int::from(Class::Model.exit_code()));
                }
            }
        }
    }
    pass_on(signal, info, context, code);
}

/// Not ours: what would have happened without us.
#[allow(unsafe_code)]
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void, code: libc::c_int) {
    let previous = PREVIOUS.get();
    let handler = previous.map_or(libc::SIG_DFL, |p| p.sa_sigaction);
    if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
        // SAFETY: restores a valid earlier action (or the default). On return the faulting instruction runs again
        // and meets that action; a signal that was sent is raised again, pending until the handler returns.
        unsafe {
            let mut default: libc::sigaction = std::mem::zeroed();
            default.sa_sigaction = libc::SIG_DFL;
            libc::sigaction(signal, previous.unwrap_or(&default), std::ptr::null_mut());
            if code <= 0 {
                libc::raise(signal);
            }
        }
        return;
    }
    let with_info = previous.is_some_and(|p| p.sa_flags & libc::SA_SIGINFO != 0);
    // SAFETY: `handler` is neither default nor ignore, so it is a function of the kind its flags say, installed by
    // whoever owned the signal before; it gets what the kernel gave us.
    unsafe {
        if with_info {
            let f: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                std::mem::transmute(handler);
            f(signal, info, context);
        } else {
            let f: extern "C" fn(libc::c_int) = std::mem::transmute(handler);
            f(signal);
        }
    }
}
