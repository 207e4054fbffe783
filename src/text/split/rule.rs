//! The rules that passes are made of. Each looks at the text from one place on and says how much it takes.

use super::point::{L, M, Point, S};

/// Some of the code points.
pub type Set = fn(Point) -> bool;

/// What may stand at a place of a text. The expressions are those that tokenizers are published with.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// `'s|'t|'re|'ve|'m|'ll|'d`.
    Contraction(Case),
    /// One or more of a set.
    Run(Run),
    /// `lead?upper*lower+` or `lead?upper+lower*`, and a contraction behind it.
    Cased(Cased),
    /// `\p{L}\p{M}*` once or more, words joined by single spaces, with a lead.
    Phrase(Set),
    /// `\s*[\r\n]+`: white space up to the last end of a line.
    Lines,
    /// `\s+(?!\S)`: white space but the last of it before something else.
    Blanks,
    /// `\s{n}(?!\S)` for the first of these that fits.
    BlanksOf(&'static [usize]),
    /// `\s+$`: white space at the end.
    BlanksAtEnd,
    /// Exactly so many of a set.
    Exactly(usize, Set),
    /// This text.
    Literal(&'static str),
    /// This text, then one up to so many of a set, then a character.
    Tagged(&'static str, usize, Set, char),
}

/// Whether letters count in both cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// As written.
    Lower,
    /// Both cases.
    Any,
}

/// `lead?body{1,most}tail{0,most_tail}`, and a contraction behind it.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    lead: Set,
    body: Set,
    most: usize,
    must_lead: bool,
    tail: Set,
    most_tail: usize,
    contraction: bool,
}

/// See [`Rule::Cased`].
#[derive(Clone, Copy, Debug)]
pub struct Cased {
    /// What may come before, once.
    pub lead: Set,
    /// Letters that are not lower case.
    pub upper: Set,
    /// Letters that are not upper case.
    pub lower: Set,
    /// Whether a contraction belongs to it.
    pub contraction: bool,
}

/// No code point.
pub const NOTHING: Set = |_| false;

/// One or more of a set.
pub const fn run(body: Set) -> Run {
    Run {
        lead: NOTHING,
        must_lead: false,
        body,
        most: usize::MAX,
        tail: NOTHING,
        most_tail: usize::MAX,
        contraction: false,
    }
}

impl Run {
    /// With one of a set in front, if there is one.
    pub const fn lead(self, lead: Set) -> Run {
        Run { lead, ..self }
    }
    /// With one of a set in front.
    pub const fn after(self, lead: Set) -> Run {
        Run { lead, must_lead: true, ..self }
    }
    /// At most so many.
    pub const fn most(self, most: usize) -> Run {
        Run { most, ..self }
    }
    /// Followed by at most so many of a set.
    pub const fn tail(self, most_tail: usize, tail: Set) -> Run {
        Run { tail, most_tail, ..self }
    }
    /// Followed by a contraction in any case, if there is one.
    pub const fn contraction(self) -> Run {
        Run { contraction: true, ..self }
    }
    /// As a rule.
    pub const fn rule(self) -> Rule {
        Rule::Run(self)
    }
}

impl Rule {
    /// How many code points of `text` the rule takes at `at`, which is inside; `None` if it does not fit there. The
    /// work is bounded by what is taken, apart from runs that a neighbouring rule takes then.
    pub fn fits(&self, text: &[Point], at: usize) -> Option<usize> {
        let rest = &text[at..];
        let len = match self {
            Rule::Contraction(case) => contraction(rest, *case),
            Rule::Run(run) => run.len(rest),
            Rule::Cased(cased) => cased.len(rest),
            Rule::Phrase(lead) => phrase(rest, *lead),
            Rule::Lines => {
                let blanks = count(rest, |p| p.is(S));
                let newline = |p: &Point| p.is_char('\r') || p.is_char('\n');
                rest[..blanks].iter().rposition(newline).map_or(0, |last| last + 1)
            }
            Rule::Blanks => match count(rest, |p| p.is(S)) {
                blanks if blanks == rest.len() => blanks,
                blanks => blanks.saturating_sub(1),
            },
            Rule::BlanksOf(lengths) => {
                let most = lengths.iter().max().map_or(0, |n| n + 1);
                let blanks = count(&rest[..most.min(rest.len())], |p| p.is(S));
                let fits = |n: &&usize| **n < blanks || (**n == blanks && blanks == rest.len());
                lengths.iter().find(fits).copied().unwrap_or(0)
            }
            // If the blank before was not taken, neither is the rest of its run: looking again would be quadratic.
            Rule::BlanksAtEnd if at > 0 && text[at - 1].is(S) => 0,
            Rule::BlanksAtEnd => Some(count(rest, |p| p.is(S))).filter(|&n| n == rest.len()).unwrap_or(0),
            Rule::Exactly(n, set) => {
                rest.get(..*n).filter(|t| t.iter().all(|&p| set(p))).map_or(0, <[Point]>::len)
            }
            Rule::Literal(word) => literal(rest, word),
            Rule::Tagged(head, most, set, end) => {
                let head = literal(rest, head);
                let body = count(&rest[head..rest.len().min(head.saturating_add(*most))], *set);
                let ended = rest.get(head + body).is_some_and(|p| p.is_char(*end));
                if head > 0 && body > 0 && ended { head + body + 1 } else { 0 }
            }
        };
        (len > 0).then_some(len)
    }
}

impl Run {
    /// Length at the beginning of `rest`; 0 if it does not fit.
    fn len(&self, rest: &[Point]) -> usize {
        let body = |from: usize| {
            let end = rest.len().min(from.saturating_add(self.most));
            count(&rest[from..end], self.body)
        };
        // The lead is taken if something of the body follows; else the body may begin in its place.
        let lead = usize::from((self.lead)(rest[0]) && rest.get(1).is_some_and(|&p| (self.body)(p)));
        let taken = body(lead);
        if taken == 0 || (self.must_lead && lead == 0) {
            return 0;
        }
        let end = lead + taken;
        let tail = count(&rest[end..rest.len().min(end.saturating_add(self.most_tail))], self.tail);
        end + tail + if self.contraction { contraction(&rest[end + tail..], Case::Any) } else { 0 }
    }
}

impl Cased {
    fn len(&self, rest: &[Point]) -> usize {
        let leads = (self.lead)(rest[0]);
        let ends_lower = |from: usize| {
            let uppers = count(&rest[from..], self.upper);
            let lowers = count(&rest[from + uppers..], self.lower);
            if lowers > 0 {
                return Some(from + uppers + lowers);
            }
            // Nothing lower behind them: the last of them that has no case ends the word.
            rest[from..from + uppers].iter().rposition(|&p| (self.lower)(p)).map(|last| from + last + 1)
        };
        let uppers =
            |from: usize| Some(count(&rest[from..], self.upper)).filter(|&n| n > 0).map(|n| from + n);
        let with_lead = |f: &dyn Fn(usize) -> Option<usize>| leads.then(|| f(1)).flatten().or_else(|| f(0));
        let Some(end) = with_lead(&ends_lower).or_else(|| with_lead(&uppers)) else { return 0 };
        end + if self.contraction { contraction(&rest[end..], Case::Any) } else { 0 }
    }
}

/// How many of the first are in the set.
#[inline]
fn count(rest: &[Point], set: Set) -> usize {
    rest.iter().take_while(|&&p| set(p)).count()
}

fn literal(rest: &[Point], word: &str) -> usize {
    let mut points = rest.iter();
    let found = word.chars().all(|c| points.next().is_some_and(|p| p.is_char(c)));
    if found { rest.len() - points.len() } else { 0 }
}

fn contraction(rest: &[Point], case: Case) -> usize {
    let [quote, first, ..] = rest else { return 0 };
    if !quote.is_char('\'') {
        return 0;
    }
    let letter = |p: &Point| {
        let c = u8::try_from(p.code()).unwrap_or(0);
        if case == Case::Any { c.to_ascii_lowercase() } else { c }
    };
    match (letter(first), rest.get(2).map_or(0, letter)) {
        (b's' | b't' | b'm' | b'd', _) => 2,
        (b'r' | b'v', b'e') | (b'l', b'l') => 3,
        _ => 0,
    }
}

fn phrase(rest: &[Point], lead: Set) -> usize {
    let letter = |i: usize| rest.get(i).is_some_and(|p| p.is(L));
    let mut end = match (lead(rest[0]) && letter(1), letter(0)) {
        (true, _) => 2,
        (false, true) => 1,
        _ => return 0,
    };
    while let Some(p) = rest.get(end) {
        match p.is(L | M) {
            true => end += 1,
            false if p.is_char(' ') && letter(end + 1) => end += 2,
            false => break,
        }
    }
    end
}
