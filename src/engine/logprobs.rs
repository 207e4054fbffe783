//! Log-probabilities of tokens: the logarithm of the softmax of a row of logits, as the model gave them, before any
//! bias, penalty, filter or temperature. Generation and scoring report what this one function computes.

use crate::backends::Isa;
use crate::backends::cpu::sum_exp::sum_exp;
use crate::ops::math::ln64;

/// How likely a token was.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct TokenScore {
    /// The token.
    pub id: u32,
    /// Natural logarithm of its probability.
    pub logprob: f64,
    /// 1 if no token was more likely; of equally likely tokens the lower id comes first.
    pub rank: u32,
    /// The most likely tokens, most likely first; as many as were asked for.
    pub top: Vec<TopToken>,
}

/// A token that could have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct TopToken {
    /// The token.
    pub id: u32,
    /// Natural logarithm of its probability.
    pub logprob: f64,
}

impl TokenScore {
    /// Room for `top` alternatives, so that nothing is allocated later.
    pub(super) fn with_capacity(top: usize) -> TokenScore {
        TokenScore { top: Vec::with_capacity(top + 1), ..TokenScore::default() }
    }

    /// Scores `id` in a row of finite logits, with the `top` most likely tokens.
    ///
    /// Order: `m` the largest logit; `S` as [`sum_exp`] has it; `(l - m) - ln S` in f64.
    pub(super) fn compute(&mut self, isa: Isa, logits: &[f32], id: u32, top: usize) {
        let max = logits.iter().fold(f32::NEG_INFINITY, |m, l| if *l > m { *l } else { m });
        let ln_sum = ln64(sum_exp(isa, logits, max));
        let logprob = |l: f32| (f64::from(l) - f64::from(max)) - ln_sum;
        let Some(&own) = logits.get(id as usize) else { return };
        let above = logits.iter().filter(|l| **l > own).count();
        let equal = logits[..id as usize].iter().filter(|l| **l == own).count();
        self.id = id;
        self.logprob = logprob(own);
        self.rank = 1 + (above + equal) as u32;
        self.top.clear();
        if top == 0 {
            return;
        }
        // The worst of those kept; logits stand in for probabilities until all are found.
        let mut worst = f64::NEG_INFINITY;
        for (i, l) in logits.iter().enumerate() {
            let l = f64::from(*l);
            if self.top.len() < top || l > worst {
                let at = self.top.partition_point(|t| t.logprob >= l);
                if self.top.len() == top {
                    self.top.pop();
                }
                self.top.insert(at, TopToken { id: i as u32, logprob: l });
                worst = self.top.last().map_or(worst, |t| t.logprob);
            }
        }
        for t in &mut self.top {
            t.logprob = logprob(t.logprob as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(logits: &[f32], id: u32, top: usize) -> TokenScore {
        let mut s = TokenScore::default();
        s.compute(Isa::best(), logits, id, top);
        s
    }

    #[test]
    fn four_equal_tokens_have_a_quarter_each() {
        let s = score(&[5.0; 4], 2, 2);
        assert!((s.logprob - 0.25f64.log2() * std::f64::consts::LN_2).abs() < 1e-15);
        assert_eq!((s.id, s.rank), (2, 3), "of equals the lower id comes first");
        assert_eq!(s.top.iter().map(|t| t.id).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(s.top[0].logprob.to_bits(), s.logprob.to_bits());
    }

    #[test]
    fn by_hand() {
        // e^1 + e^0 + e^-1 = 4.086161269630488, whose logarithm is 1.4076059644443804.
        let logits = [0.0, 1.0, -1.0];
        for (id, rank, want) in
            [(0, 2, -1.4076059644443804), (1, 1, -0.4076059644443804), (2, 3, -2.4076059644443804)]
        {
            let s = score(&logits, id, 9);
            assert!((s.logprob - want).abs() < 1e-7, "{} and {want}", s.logprob);
            assert_eq!((s.rank, s.top.len()), (rank, 3), "no more alternatives than tokens");
            assert_eq!(s.top.iter().map(|t| t.id).collect::<Vec<_>>(), [1, 0, 2]);
            assert_eq!(s.top[rank as usize - 1].logprob.to_bits(), s.logprob.to_bits());
        }
    }

    #[test]
    fn the_best_of_many_are_found_in_order() {
        let logits: Vec<f32> = (0..500).map(|i| ((i * 37) % 101) as f32).collect();
        let s = score(&logits, 0, 20);
        let mut want: Vec<u32> = (0..500).collect();
        want.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
        assert_eq!(s.top.iter().map(|t| t.id).collect::<Vec<_>>(), want[..20]);
        assert_eq!(s.rank as usize, 1 + want.iter().position(|i| *i == 0).unwrap());
    }
}
