//! Offsets in one arena: values whose lives do not meet share bytes.
//!
//! Placing intervals optimally is NP-hard (dynamic storage allocation); the plan states the lower bound, the
//! largest sum of bytes alive at once, and a few greedy orders land on it or near it; where they do not, what ends up on
//! top is placed first, and all again. Source: Pisarchyk and Lee,
//! Efficient Memory Management for Deep Neural Net Inference, 2020 (greedy by size, greedy by breadth).

/// Every offset and size is a multiple of this many bytes: a cache line, and one AVX-512 register.
pub const ALIGN: u64 = 64;

/// A value to place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Bytes.
    pub bytes: u64,
    /// First command that touches it.
    pub first: u32,
    /// Last command that touches it.
    pub last: u32,
}

impl Request {
    fn meets(&self, other: &Request) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Where everything lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// One offset per request.
    pub offsets: Vec<u64>,
    /// Bytes of the arena.
    pub total: u64,
    /// The largest sum alive at once.
    pub bound: u64,
    /// The sum of all requests.
    pub naive: u64,
}

/// Places all requests; `None` if a size overflows.
pub fn place(requests: &[Request]) -> Option<Layout> {
    let mut r: Vec<Request> = Vec::with_capacity(requests.len());
    for q in requests {
        r.push(Request { bytes: q.bytes.checked_next_multiple_of(ALIGN)?, ..*q });
    }
    let naive = r.iter().try_fold(0u64, |s, q| s.checked_add(q.bytes))?;
    let live = live(&r);
    let bound = live.iter().copied().max().unwrap_or(0);
    // The most bytes alive at any command that touches it: the crowded commands are placed first.
    let breadth = |q: &Request| live[q.first as usize..=q.last as usize].iter().copied().max();
    let mut orders: [Vec<usize>; 4] = std::array::from_fn(|_| (0..r.len()).collect());
    orders[0].sort_by_key(|&i| (std::cmp::Reverse(r[i].bytes), r[i].first, i));
    orders[1].sort_by_key(|&i| (r[i].first, std::cmp::Reverse(r[i].bytes), i));
    orders[2].sort_by_key(|&i| {
        (std::cmp::Reverse(u64::from(r[i].last - r[i].first)), std::cmp::Reverse(r[i].bytes), i)
    });
    orders[3].sort_by_key(|&i| (std::cmp::Reverse(breadth(&r[i])), std::cmp::Reverse(r[i].bytes), i));
    let mut best: Option<Layout> = None;
    for _ in 0..ROUNDS {
        for order in &mut orders {
            let (offsets, total) = greedy(&r, order);
            // A stable sort: the rest stay as they are.
            order.sort_by_key(|&i| offsets[i] + r[i].bytes < total);
            if best.as_ref().is_none_or(|best| total < best.total) {
                best = Some(Layout { offsets, total, bound, naive });
            }
            if total == bound {
                return best;
            }
        }
    }
    best
}

/// How often each order is tried, what came out on top first each time but the first.
const ROUNDS: usize = 7;

/// Bytes alive at each command.
fn live(r: &[Request]) -> Vec<u64> {
    let n = r.iter().map(|q| q.last as usize + 1).max().unwrap_or(0);
    let mut starts_less_ends = vec![(0u64, 0u64); n + 1];
    for q in r {
        starts_less_ends[q.first as usize].0 += q.bytes;
        starts_less_ends[q.last as usize + 1].1 += q.bytes;
    }
    let mut now = 0;
    let sum = |(starts, ends): &(u64, u64)| {
        now = now + starts - ends;
        now
    };
    starts_less_ends.iter().map(sum).collect()
}

/// Puts each request into the lowest gap that fits it among those already placed whose lives it meets.
fn greedy(r: &[Request], order: &[usize]) -> (Vec<u64>, u64) {
    let mut offsets = vec![0u64; r.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(r.len()); // by offset
    let mut total = 0;
    for &i in order {
        let mut at = 0u64;
        for &p in &placed {
            if !r[p].meets(&r[i]) {
                continue;
            }
            if offsets[p] >= at + r[i].bytes {
                break;
            }
            at = at.max(offsets[p] + r[p].bytes);
        }
        offsets[i] = at;
        total = total.max(at + r[i].bytes);
        let slot = placed.partition_point(|&p| offsets[p] <= at);
        placed.insert(slot, i);
    }
    (offsets, total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_that_never_meet_share_bytes() {
        let r = |first, last| Request { bytes: 100, first, last };
        let l = place(&[r(0, 1), r(1, 2), r(2, 3)]).unwrap();
        assert_eq!((l.total, l.bound, l.naive), (256, 256, 384));
        assert_eq!(l.offsets, [0, 128, 0]);
    }

    #[test]
    fn sizes_that_overflow_are_refused() {
        assert_eq!(place(&[Request { bytes: u64::MAX, first: 0, last: 0 }]), None);
        let half = Request { bytes: 1 << 63, first: 0, last: 0 };
        assert_eq!(place(&[half, half]), None);
    }

    proptest! {
        #[test]
        fn no_two_live_buffers_overlap(raw in prop::collection::vec((0u64..5000, 0u32..40, 0u32..12), 0..60)) {
            let r: Vec<_> = raw.iter().map(|&(bytes, first, len)| Request { bytes, first, last: first + len }).collect();
            let l = place(&r).unwrap();
            prop_assert!(l.bound <= l.total && l.total <= l.naive);
            for i in 0..r.len() {
                prop_assert_eq!(l.offsets[i] % ALIGN, 0);
                prop_assert!(l.offsets[i] + r[i].bytes <= l.total);
                for j in 0..i {
                    let apart = l.offsets[i] + r[i].bytes <= l.offsets[j] || l.offsets[j] + r[j].bytes <= l.offsets[i];
                    prop_assert!(!r[i].meets(&r[j]) || apart, "{:?} {:?}", r[i], r[j]);
                }
            }
        }
    }
}
