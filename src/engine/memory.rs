//! What a run takes of memory, line by line, and whether there is as much: known before anything is loaded.

use super::{Engine, EngineOptions};
use crate::backends::KvLayout;
use crate::backends::alloc::{StepMemory, memory_available};
use crate::error::Problem;
use crate::loader::Gguf;
use crate::plan::Plan;
use crate::plan::report::human_bytes as human;
use crate::quant::DType;
use schemars::JsonSchema;
use serde::Serialize;

/// Bytes of everything an engine and one session of it hold. The peak of a run is the total, when the context is
/// full, give or take [`Memory::SLACK`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Memory {
    /// The model's files, mapped or read: pages that the system can take back if they are mapped.
    pub file: u64,
    /// Tables of the tokenizer.
    pub tokenizer: u64,
    /// Activations of the larger plan.
    pub arena: u64,
    /// Scratch of all threads.
    pub scratch: u64,
    /// Rows of logits.
    pub logits: u64,
    /// Keys and values of one session with a full context; pages come as tokens do.
    pub cache: u64,
    /// The program, stacks of its threads, tables of the header: [`Memory::PROGRAM`].
    pub program: u64,
}

impl Memory {
    /// What a process takes beside the model, as measured with small ones.
    pub const PROGRAM: u64 = 8 << 20;

    /// How far the peak of a run may be from the total.
    pub const SLACK: u64 = 16 << 20;

    /// The sum of all lines.
    pub fn total(&self) -> u64 {
        let lines =
            [self.file, self.tokenizer, self.arena, self.scratch, self.logits, self.cache, self.program];
        lines.into_iter().fold(0, u64::saturating_add)
    }

    /// All but the cache: what does not grow with the context.
    pub fn without_cache(&self) -> u64 {
        Memory { cache: 0, ..*self }.total()
    }

    /// What the plans of an engine take, beside what `self` holds already.
    pub(super) fn with_plans(self, plans: &[Plan], n_outputs: u32, threads: u32) -> Memory {
        let all: Vec<&Plan> = plans.iter().collect();
        let parts = StepMemory::parts(&all, n_outputs, threads);
        let (arena, scratch, logits) = parts.unwrap_or((u64::MAX, u64::MAX, u64::MAX));
        let cache = plans.first().map_or(0, |p| p.kv.total_bytes().unwrap_or(u64::MAX));
        Memory { arena, scratch, logits, cache, ..self }
    }
}

/// Bytes of a model's files, also of one that was cut after its header.
pub(super) fn whole_file_bytes(gguf: &Gguf) -> u64 {
    if !gguf.is_cut() {
        return gguf.file_bytes();
    }
    let mut ends: Vec<u64> = gguf.files().map(|f| f.len() as u64).collect();
    for t in gguf.tensors() {
        if let Some(end) = ends.get_mut(usize::from(t.file)) {
            let padded = t.offset.saturating_add(t.bytes).checked_next_multiple_of(gguf.alignment());
            *end = padded.unwrap_or(u64::MAX).max(*end);
        }
    }
    ends.into_iter().fold(0, u64::saturating_add)
}

/// How much memory there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// Bytes.
    pub bytes: u64,
    /// Whether the options state it; otherwise it is what the system and the control groups of the process leave.
    pub stated: bool,
}

impl Budget {
    /// What the options state, or what this machine has with `held` bytes of the model in memory already; `None` where
    /// the system does not say.
    pub(super) fn find(options: &EngineOptions, held: u64) -> Option<Budget> {
        match options.memory {
            Some(bytes) => Some(Budget { bytes, stated: true }),
            None => memory_available().map(|b| Budget { bytes: b.saturating_add(held), stated: false }),
        }
    }

    /// What a context that nobody asked for may use. A tenth of a machine stays free: other processes live too.
    pub(super) fn cautious(self) -> u64 {
        if self.stated { self.bytes } else { self.bytes - self.bytes / 10 }
    }
}

/// The longest context whose cache takes at most `room` bytes; `None` if not one token fits.
pub(super) fn cells_that_fit(kv: &KvLayout, room: u64) -> Option<u32> {
    let fits = |n_ctx: u32| KvLayout { n_ctx, ..*kv }.total_bytes().is_some_and(|b| b <= room);
    let (mut low, mut high) = (0, i32::MAX as u32);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fits(middle) { low = middle } else { high = middle - 1 }
    }
    (low > 0).then_some(low)
}

/// The problem of a model that needs more than there is: need, have, and what would make it fit. `smaller_passes` is
/// what it needs with passes of as many tokens.
pub(super) fn shortfall(
    need: &Memory,
    have: Budget,
    kv: &KvLayout,
    smaller_passes: Option<(u32, u64)>,
) -> Problem {
    let parts = [
        ("file", need.file),
        ("tokenizer", need.tokenizer),
        ("work space", need.arena.saturating_add(need.scratch).saturating_add(need.logits)),
        ("cache", need.cache),
        ("program", need.program),
    ];
    let parts: Vec<String> = parts.iter().map(|(name, n)| format!("{name} {}", human(*n))).collect();
    let (total, bytes) = (need.total(), have.bytes);
    let source = if have.stated { "stated" } else { "available" };
    Problem::new("InsufficientMemory", format!("the model with a context of {} tokens", kv.n_ctx))
        .found(format!("{bytes} bytes ({}) {source}", human(bytes)))
        .expected(format!("{total} bytes ({}: {})", human(total), parts.join(", ")))
        .hint(remedy(need, have, kv, smaller_passes))
}

/// The flags that would make it fit.
fn remedy(need: &Memory, have: Budget, kv: &KvLayout, smaller_passes: Option<(u32, u64)>) -> String {
    let room = have.bytes.saturating_sub(need.without_cache());
    let mut ways = Vec::new();
    // A handful of tokens is no context.
    if let Some(n) = cells_that_fit(kv, room).filter(|n| *n >= 32 && *n < kv.n_ctx) {
        ways.push(format!("-c {n} fits"));
    }
    // The first that fits loses least; a type whose blocks do not divide the heads has no size.
    for (dtype, name) in [(DType::F16, "f16"), (DType::Q8_0, "q8_0"), (DType::Q4_0, "q4_0")] {
        let other = KvLayout { type_k: dtype, type_v: dtype, ..*kv };
        if other != *kv && other.total_bytes().is_some_and(|b| b <= room) {
            ways.push(format!("-ctk {name} -ctv {name} fits"));
            break;
        }
    }
    if let Some((rows, total)) = smaller_passes.filter(|(_, total)| *total <= have.bytes) {
        ways.push(format!("-ub {rows} fits ({})", human(total)));
    }
    if ways.is_empty() {
        let others = need.total() - need.file.min(need.total());
        ways.push(match have.bytes.checked_sub(others).filter(|n| *n > 0) {
            Some(most) => format!("a model with smaller weights would fit, in a file of {}", human(most)),
            None => "a model with smaller weights and a smaller -c and -ub are needed".into(),
        });
    }
    if !have.stated {
        ways.push("--memory SIZE counts on more".into());
    }
    ways.join("; ")
}

impl Engine {
    /// What this engine and one session of it hold.
    pub fn memory(&self) -> Memory {
        let [arena, scratch, logits] = self.runner.memory_bytes();
        Memory {
            file: self.gguf.file_bytes(),
            tokenizer: self.tokenizer.table_bytes(),
            arena,
            scratch,
            logits,
            cache: self.session_bytes(),
            program: Memory::PROGRAM,
        }
    }

    /// What there is for a session's cache: what the options leave of the memory they state, or what the machine
    /// has.
    pub(super) fn room_for_sessions(&self) -> Option<u64> {
        match self.options.memory {
            Some(bytes) => Some(bytes.saturating_sub(self.memory().without_cache())),
            None => memory_available(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn kv(n_ctx: u32, dtype: DType) -> KvLayout {
        KvLayout {
            n_layer: 2,
            n_ctx,
            n_head_kv: 4,
            head_dim_k: 64,
            head_dim_v: 64,
            type_k: dtype,
            type_v: dtype,
        }
    }

    fn need(kv: &KvLayout) -> Memory {
        Memory { file: 100 * MIB, arena: 10 * MIB, cache: kv.total_bytes().unwrap(), ..Memory::default() }
    }

    fn stated(bytes: u64) -> Budget {
        Budget { bytes, stated: true }
    }

    #[test]
    fn the_longest_context_is_exact() {
        for (dtype, room) in [(DType::F16, MIB), (DType::F32, 7 * MIB + 12345), (DType::F32, 4097)] {
            let n = cells_that_fit(&kv(1, dtype), room).unwrap();
            assert!(kv(n, dtype).total_bytes().unwrap() <= room, "{n}");
            assert!(kv(n + 1, dtype).total_bytes().unwrap() > room, "{n}");
        }
        assert_eq!(cells_that_fit(&kv(1, DType::F16), 100), None);
        assert_eq!(cells_that_fit(&kv(1, DType::F16), u64::MAX), Some(i32::MAX as u32));
    }

    #[test]
    fn the_hint_is_what_fits() {
        let kv = kv(8192, DType::F32); // 4 KiB a token: 32 MiB
        let hint = |have, smaller| shortfall(&need(&kv), stated(have), &kv, smaller).hint;
        assert_eq!(hint(114 * MIB, None), "-c 1024 fits");
        assert_eq!(hint(115 * MIB, None), "-c 1280 fits; -ctk q4_0 -ctv q4_0 fits");
        assert_eq!(hint(120 * MIB, None), "-c 2560 fits; -ctk q8_0 -ctv q8_0 fits");
        assert_eq!(hint(130 * MIB, None), "-c 5120 fits; -ctk f16 -ctv f16 fits");
        assert_eq!(hint(110 * MIB, Some((32, 105 * MIB))), "-ub 32 fits (105.0 MiB)");
        assert!(hint(100 * MIB, None).contains("smaller weights would fit, in a file of 58.0 MiB"));
        assert!(hint(MIB, None).contains("smaller weights and"));
        let p = shortfall(&need(&kv), Budget { bytes: 120 * MIB, stated: false }, &kv, None);
        assert!(p.hint.ends_with("--memory SIZE counts on more"), "{p}");
        assert!(p.found.contains("120.0 MiB) available") && p.expected.contains("142.0 MiB"), "{p}");
    }
}
