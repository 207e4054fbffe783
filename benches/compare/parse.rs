//! What the programs print, read.

use super::result::Spread;
use serde_json::Value;

/// One test of a `llama-bench -o json`.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchTest {
    /// Median of its samples, in tokens per second.
    pub speed: f64,
    /// Commit and number of its build.
    pub build: String,
}

/// The test of so many tokens among those of `llama-bench -o json`, whatever is printed around the array.
pub fn llama_bench(text: &str, n_prompt: u32, n_gen: u32) -> Result<BenchTest, String> {
    let tests: Vec<Value> = array(text)?;
    let is = |t: &Value, key: &str, n: u32| t.get(key).and_then(Value::as_u64) == Some(n.into());
    let test = tests.iter().find(|t| is(t, "n_prompt", n_prompt) && is(t, "n_gen", n_gen));
    let test = test.ok_or_else(|| format!("no test of {n_prompt} and {n_gen} tokens in its output"))?;
    let samples = test.get("samples_ts").and_then(Value::as_array);
    let speeds = samples.into_iter().flatten().filter_map(Value::as_f64).filter(|s| *s > 0.0);
    let speed = Spread::of(speeds).ok_or("no samples in its output")?.median;
    let text = |key: &str| test.get(key).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
    let build = match (text("build_commit"), text("build_number")) {
        (Some(commit), Some(number)) => format!("{commit} ({number})"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => String::new(),
    };
    Ok(BenchTest { speed, build })
}

/// The JSON array among other lines: it begins with a line that is `[` and ends with the last `]`.
fn array(text: &str) -> Result<Vec<Value>, String> {
    let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1));
    let start = starts.into_iter().find(|i| text[*i..].trim_start_matches([' ', '\r']).starts_with("[\n"));
    let (Some(start), Some(end)) = (start, text.rfind(']')) else {
        return Err("no JSON in its output".into());
    };
    let json = text.get(start..=end).ok_or("no JSON in its output")?;
    serde_json::from_str(json).map_err(|e| format!("JSON that cannot be read: {e}"))
}

/// Tokens per second of all sequences together, from a `llama-batched-bench` that printed lines of JSON or a table.
pub fn batched_bench(text: &str, sequences: u32) -> Result<f64, String> {
    for line in text.lines().map(str::trim) {
        if let Ok(v) = serde_json::from_str::<Value>(line)
            && v.get("pl").and_then(Value::as_u64) == Some(sequences.into())
            && let Some(speed) = v.get("speed_tg").and_then(Value::as_f64)
        {
            return Ok(speed);
        }
        let fields: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        // PP, TG, B, N_KV, T_PP, S_PP, T_TG, S_TG, T, S
        if fields.len() == 10
            && fields[2].parse() == Ok(sequences)
            && let Ok(speed) = fields[7].parse::<f64>()
        {
            return Ok(speed);
        }
    }
    Err(format!("no row of {sequences} sequences in its output"))
}

/// What of a `quipu bench --json` counts here.
#[derive(Clone, Debug, PartialEq)]
pub struct Ours {
    /// Median speed of the row, in tokens per second.
    pub speed: f64,
    /// Bytes that a token reads and bytes per second that can be read.
    pub read: Option<(f64, f64)>,
    /// Of what memory gave around it, what it used, in percent.
    pub percent: Option<f64>,
    /// The instruction set.
    pub isa: String,
}

/// The row `prompt` or `generation` of a `quipu bench --json`.
pub fn quipu_bench(text: &str, row: &str) -> Result<Ours, String> {
    let v: Value = serde_json::from_str(text).map_err(|e| format!("JSON that cannot be read: {e}"))?;
    let number = |place: &str| v.pointer(place).and_then(Value::as_f64);
    let speed = number(&format!("/{row}/median")).ok_or_else(|| format!("no {row} in its output"))?;
    let bytes = number("/weight_bytes_per_token").zip(number("/cache_bytes_per_token")).map(|(w, c)| w + c);
    let isa = v.pointer("/model/isa").and_then(Value::as_str).unwrap_or_default().to_owned();
    let percent = number("/generation_percent_of_reads_around").filter(|_| row == "generation");
    Ok(Ours { speed, read: bytes.zip(number("/read/bytes_per_second")), percent, isa })
}

/// What a program wrote about its failure, in one line of at most 160 characters: its last line that speaks of an error,
/// or else its last.
pub fn last_words(text: &str) -> String {
    let lines = || text.lines().rev().map(str::trim).filter(|l| !l.is_empty());
    let line = lines().find(|l| l.to_ascii_lowercase().contains("error")).or_else(|| lines().next());
    line.unwrap_or_default().chars().filter(|c| !c.is_control() && *c != '|').take(160).collect()
}
