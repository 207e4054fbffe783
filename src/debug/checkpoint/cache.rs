//! Checkpoint 3: the cache after one decoded token; of all layers what this run computed, of the first what the reference
//! has.

use super::Checkpoint;
use super::stages::Stages;
use crate::debug::compare::distance;
use crate::debug::trace_file::Tensor;
use crate::engine::{Logits, Session, StepInput};
use crate::error::Result;

/// Keys and values of every layer: where they lie, how many there are, and what they are.
pub(super) fn checkpoint(s: &mut Stages<'_>) -> Result<Checkpoint> {
    let mut c = Checkpoint::new("3", "keys and values in the cache");
    let (first, second) = (run(s)?, run(s)?);
    let n = s.tokens.len();
    let count = first.len() as usize;
    c.demand(
        "tokens",
        count == n + 1 && first.tokens()[..n] == *s.tokens,
        count.to_string(),
        (n + 1).to_string(),
    );
    let n_layer = first.cached(0).n_layer;
    let mut tail = true;
    let mut again = true;
    for il in 0..n_layer {
        let (a, b) = (first.cached(il), second.cached(il));
        tail &= a.tail_is_zero;
        again &= distance(&a.keys, &b.keys).different == 0 && distance(&a.values, &b.values).different == 0;
        for (name, found) in [("Kcur", &a.keys), ("Vcur", &a.values)] {
            // Of this run: the very bits, each at the position of its token.
            let name = format!("{name}-{il}");
            let len = found.len() / count.max(1) * n;
            let own = s.ours.find(&name).is_some_and(|t| distance(&t.data, &found[..len]).different == 0);
            if !own {
                c.demand(format!("cache of {name}"), false, "not what was computed", "what was computed");
            }
            // Of other layers an error would be inherited: it is looked at where it is made.
            if il > 0 {
                continue;
            }
            let shown =
                Tensor { name: name.clone(), shape: vec![n, len / n.max(1)], data: found[..len].to_vec() };
            match s.reference.trace.find(&name) {
                Some(t) => s.close(&mut c, &format!("cache of {name}"), t, &shown, 1e-5, None),
                None => c.demand(name, false, "not in the reference", "in both"),
            }
        }
    }
    c.demand("behind the last token", tail, if tail { "zeros" } else { "not zeros" }, "zeros");
    c.demand("a second run", again, if again { "the same bits" } else { "other bits" }, "the same bits");
    Ok(c)
}

/// The prompt and one token more.
fn run(s: &mut Stages<'_>) -> Result<Session> {
    let mut session = s.engine.new_session()?;
    s.engine.step(&mut [StepInput { session: &mut session, tokens: s.tokens, logits: Logits::Last }])?;
    let next = s.tokens.last().copied().unwrap_or(0);
    s.engine.step(&mut [StepInput { session: &mut session, tokens: &[next], logits: Logits::Last }])?;
    Ok(session)
}
