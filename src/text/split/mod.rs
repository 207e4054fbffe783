//! Cutting a text into the words that merge on their own.
//!
//! A splitter is a list of passes ([`passes`]), each of which cuts the pieces of the one before. A pass is mostly a
//! list of rules ([`rule`]): the first that fits at a place takes its piece, and what lies between such pieces is a
//! piece too. Rules read code points with their Unicode class ([`point`], [`table`]). Time is linear in the text.

pub mod passes;
mod point;
mod rule;
mod scripts;
mod table;

pub use point::decode;

use point::Point;
use rule::{Rule, Set};

/// One round of cutting.
#[derive(Clone, Copy, Debug)]
pub enum Pass {
    /// The first rule that fits, again and again.
    First(&'static [Rule]),
    /// Groups of three numbers, counted from the end of their run.
    Triples(Set, Edge),
}

/// Where [`Pass::Triples`] cuts a run of numbers besides between its groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// Before the run if all of its groups are whole.
    Start,
    /// Behind the run.
    End,
}

/// The passes of a pre-tokenizer, in order.
pub type Splitter = &'static [Pass];

/// A text cut into words; kept and used again so that cutting allocates only while it grows.
#[derive(Debug, Default)]
pub struct Words {
    points: Vec<Point>,
    ends: Vec<u32>,
    last: Vec<u32>,
}

impl Words {
    /// Cuts `text`, which may be any bytes, less than 4 GiB of them.
    pub fn cut(&mut self, text: &[u8], splitter: Splitter) {
        self.points.clear();
        point::decode(text, &mut self.points);
        self.ends.clear();
        if !self.points.is_empty() {
            self.ends.push(self.points.len() as u32);
        }
        for pass in splitter {
            std::mem::swap(&mut self.ends, &mut self.last);
            self.ends.clear();
            let mut start = 0;
            for &end in &self.last {
                let piece = &self.points[start as usize..end as usize];
                let ends = &mut self.ends;
                let mut cut = |at: usize| {
                    let at = start + at as u32;
                    if at > ends.last().copied().unwrap_or(0) {
                        ends.push(at);
                    }
                };
                match pass {
                    Pass::First(rules) => first(piece, rules, &mut cut),
                    Pass::Triples(set, edge) => triples(piece, *set, *edge, &mut cut),
                }
                cut(piece.len());
                start = end;
            }
        }
    }

    /// Number of words.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Writes the UTF-8 bytes of word `i` into `out`.
    #[inline]
    pub fn write(&self, i: usize, out: &mut Vec<u8>) {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        out.clear();
        self.points[start as usize..self.ends[i] as usize].iter().for_each(|p| p.push_utf8(out));
    }
}

fn first(piece: &[Point], rules: &[Rule], cut: &mut impl FnMut(usize)) {
    let mut at = 0;
    while at < piece.len() {
        match rules.iter().find_map(|rule| rule.fits(piece, at)) {
            Some(len) => {
                cut(at);
                at += len;
                cut(at);
            }
            None => at += 1,
        }
    }
}

fn triples(piece: &[Point], set: Set, edge: Edge, cut: &mut impl FnMut(usize)) {
    let mut at = 0;
    while at < piece.len() {
        let run = piece[at..].iter().take_while(|&&p| set(p)).count();
        let end = at + run;
        let first = if edge == Edge::Start { run - run % 3 } else { run.saturating_sub(1) / 3 * 3 };
        (1..=first / 3).rev().for_each(|groups| cut(end - 3 * groups));
        if edge == Edge::End && run > 0 {
            cut(end);
        }
        at = end + 1;
    }
}
