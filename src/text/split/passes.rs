//! The splitters by name, each beside the expressions it stands for.
//!
//! They follow llama.cpp where it differs from what a tokenizer was published with: it knows no classes finer than
//! letters, marks, numbers, punctuation and symbols, so `\p{Lu}` is any letter there.

use super::Pass::{self, First, Triples};
use super::point::{L, M, N, P, S, SYM};
use super::rule::{Case, Cased, Rule, Set, run};
use super::scripts::{
    AFMOE_SCRIPTS, BOPOMOFO, CASED_SCRIPTS, CJK, FULL_STOPS, HAN, HANGUL, IDEOGRAPHS, STOPS_AND_WIDE,
    WIDE_SIGNS,
};
use super::{Edge, Splitter};

const LETTER: Set = |p| p.is(L);
const LETTER_OR_MARK: Set = |p| p.is(L | M);
const NUMBER: Set = |p| p.is(N);
const DIGIT: Set = |p| p.within(&[('0', '9')]);
const BLANK: Set = |p| p.is(S);
const SPACE: Set = |p| p.is_char(' ');
const LINE_END: Set = |p| p.is_char('\r') || p.is_char('\n');
const LINE_END_OR_SLASH: Set = |p| p.is_char('\r') || p.is_char('\n') || p.is_char('/');
/// `[^\s\p{L}\p{N}]`.
const OTHER: Set = |p| !p.is(S | L | N);
/// `[^\r\n\p{L}\p{N}]`, what may come before a word.
const BEFORE: Set = |p| !p.is(L | N) && !LINE_END(p);
/// `[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]`.
const ASCII_SIGN: Set = |p| p.within(&[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')]);
/// `[\p{P}\$\+<=>\^~\|`]`.
const SIGN: Set = |p| p.is(P) || ASCII_SIGN(p);
const ASCII_LETTER: Set = |p| p.within(&[('A', 'Z'), ('a', 'z')]);
const UPPER: Set = |p| p.is(L) && !p.within(&[('a', 'z')]);
const LOWER: Set = |p| p.is(L) && !p.within(&[('A', 'Z')]);

const THREE_NUMBERS: Rule = run(NUMBER).most(3).rule();
const ONE_NUMBER: Rule = run(NUMBER).most(1).rule();
const NUMBERS: Rule = run(NUMBER).rule();
const ANY_CONTRACTION: Rule = Rule::Contraction(Case::Any);
/// `[^\r\n\p{L}\p{N}]?\p{L}+`.
const WORD: Rule = run(LETTER).lead(BEFORE).rule();
/// ` ?[^\s\p{L}\p{N}]+[\r\n]*`.
const SIGNS: Rule = run(OTHER).lead(SPACE).tail(usize::MAX, LINE_END).rule();
/// ` ?[^\s\p{L}\p{N}]+[\r\n/]*`.
const SIGNS_OR_SLASH: Rule = run(OTHER).lead(SPACE).tail(usize::MAX, LINE_END_OR_SLASH).rule();
const BLANKS: Rule = run(BLANK).rule();

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)`.
const GPT2_PASS: Pass = First(&[
    Rule::Contraction(Case::Lower),
    run(LETTER).lead(SPACE).rule(),
    run(NUMBER).lead(SPACE).rule(),
    run(OTHER).lead(SPACE).rule(),
    Rule::Blanks,
]);
/// `[0-9][0-9][0-9]`.
const THREE_DIGITS: Pass = First(&[Rule::Exactly(3, DIGIT)]);
const EACH_NUMBER: Pass = First(&[ONE_NUMBER]);
const EACH_LINE_END: Pass = First(&[run(LINE_END).most(1).rule()]);

pub const GPT2: Splitter = &[GPT2_PASS];
pub const STARCODER: Splitter = &[EACH_NUMBER, GPT2_PASS];

/// `[\p{P}\$\+<=>\^~\|`]+` first.
pub const FALCON: Splitter = &[First(&[run(SIGN).rule()]), GPT2_PASS, THREE_DIGITS];
/// As Falcon's, without the backtick, and with all numbers on their own.
pub const DEFAULT: Splitter =
    &[First(&[run(|p| SIGN(p) && !p.is_char('`')).rule()]), GPT2_PASS, First(&[NUMBERS]), THREE_DIGITS];

/// The contraction in any case, the word, `\p{N}{1,3}`, the signs,
/// `\s*[\r\n]+`, `\s+(?!\S)`, `\s+`.
pub const LLAMA3: Splitter =
    &[First(&[ANY_CONTRACTION, WORD, THREE_NUMBERS, SIGNS, Rule::Lines, Rule::Blanks, BLANKS])];
const QWEN2_PASS: Pass =
    First(&[ANY_CONTRACTION, WORD, ONE_NUMBER, SIGNS, Rule::Lines, Rule::Blanks, BLANKS]);
pub const QWEN2: Splitter = &[QWEN2_PASS];
/// As Qwen2's; `[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+` and ` ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*` take marks into words.
pub const QWEN35: Splitter = &[First(&[
    ANY_CONTRACTION,
    run(LETTER_OR_MARK).lead(BEFORE).rule(),
    ONE_NUMBER,
    run(|p| !p.is(S | L | M | N)).lead(SPACE).tail(usize::MAX, LINE_END).rule(),
    Rule::Lines,
    Rule::Blanks,
    BLANKS,
])];
/// As Qwen2's without contractions.
pub const UFAKZEKA: Splitter = &[First(&[WORD, ONE_NUMBER, SIGNS, Rule::Lines, Rule::Blanks, BLANKS])];
/// As Qwen2's; ends of lines do not belong to signs.
pub const SEED_CODER: Splitter = &[First(&[
    ANY_CONTRACTION,
    WORD,
    ONE_NUMBER,
    run(OTHER).lead(SPACE).rule(),
    Rule::Lines,
    Rule::Blanks,
    BLANKS,
])];
/// `[^\n]+|[\n]+`, then as Qwen2's.
pub const LAGUNA: Splitter =
    &[First(&[run(|p| !p.is_char('\n')).rule(), run(|p| p.is_char('\n')).rule()]), QWEN2_PASS];
/// `\p{N}{1,3}`, then as Llama 3's with `\p{N}+`.
pub const MINICPM5: Splitter = &[
    First(&[THREE_NUMBERS]),
    First(&[ANY_CONTRACTION, WORD, NUMBERS, SIGNS, Rule::Lines, Rule::Blanks, BLANKS]),
];
/// As Llama 3's; white space in powers of two.
pub const JAIS2: Splitter = &[First(&[
    ANY_CONTRACTION,
    WORD,
    THREE_NUMBERS,
    SIGNS,
    Rule::Lines,
    Rule::BlanksOf(&[512, 256, 128, 64, 32, 16, 8, 4, 2, 1]),
    run(BLANK).most(1).rule(),
])];
/// As Qwen2's; words are `[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+`, signs end with `[\r\n/]?`.
pub const EXAONE_MOE: Splitter = &[First(&[
    ANY_CONTRACTION,
    Rule::Phrase(BEFORE),
    ONE_NUMBER,
    run(OTHER).lead(SPACE).tail(1, LINE_END_OR_SLASH).rule(),
    Rule::Lines,
    Rule::Blanks,
    BLANKS,
])];

/// Words of upper, then lower case, and single numbers.
pub const TEKKEN: Splitter = &[First(&[
    Rule::Cased(Cased { lead: BEFORE, upper: UPPER, lower: LOWER, contraction: false }),
    ONE_NUMBER,
    SIGNS_OR_SLASH,
    Rule::Lines,
    Rule::Blanks,
    BLANKS,
])];
/// As Tekken's with contractions behind words and `\p{N}{1,3}`.
pub const GPT4O: Splitter = &[First(&[
    Rule::Cased(Cased { lead: BEFORE, upper: UPPER, lower: LOWER, contraction: true }),
    THREE_NUMBERS,
    SIGNS_OR_SLASH,
    Rule::Lines,
    Rule::Blanks,
    BLANKS,
])];
/// As GPT-4o's, with marks in words.
pub const GRANITE_EMBED: Splitter = &[First(&[
    Rule::Cased(Cased {
        lead: BEFORE,
        upper: |p| p.is(M) || UPPER(p),
        lower: |p| p.is(M) || LOWER(p),
        contraction: true,
    }),
    THREE_NUMBERS,
    SIGNS_OR_SLASH,
    Rule::Lines,
    Rule::Blanks,
    BLANKS,
])];

/// Numbers in threes from the right; the first group keeps what is before it. Then words of letters and marks,
/// with contractions.
pub const TINY_AYA: Splitter = &[
    Triples(NUMBER, Edge::End),
    First(&[
        run(LETTER_OR_MARK).lead(BEFORE).contraction().rule(),
        THREE_NUMBERS,
        SIGNS_OR_SLASH,
        Rule::Lines,
        Rule::Blanks,
        BLANKS,
    ]),
];
/// Scripts apart, then as Tiny Aya's with single numbers.
pub const YOUTU: Splitter = &[
    First(&[
        run(|p| p.within(HANGUL)).rule(),
        run(|p| p.within(WIDE_SIGNS)).rule(),
        run(|p| p.within(BOPOMOFO)).rule(),
        EACH_CJK,
    ]),
    First(&[
        run(LETTER_OR_MARK).lead(BEFORE).contraction().rule(),
        ONE_NUMBER,
        SIGNS_OR_SLASH,
        Rule::Lines,
        Rule::Blanks,
        BLANKS,
    ]),
];
/// Chinese words apart, others with contractions, then as Llama 3's.
pub const KIMI_K2: Splitter = &[First(&[
    run(|p| p.within(HAN)).rule(),
    run(|p| p.is(L) && !p.within(HAN)).lead(BEFORE).contraction().rule(),
    THREE_NUMBERS,
    SIGNS,
    Rule::Lines,
    Rule::Blanks,
    BLANKS,
])];
/// All numbers apart, their digits in threes from the right.
pub const SUPERBPE: Splitter = &[First(&[NUMBERS]), Triples(DIGIT, Edge::Start)];

const EACH_CJK: Rule = run(|p| p.within(CJK)).rule();
/// `[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+`.
const SIGNED_WORD: Rule = run(ASCII_LETTER).after(ASCII_SIGN).rule();
/// `[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+`.
const MARKED_WORD: Rule = run(LETTER_OR_MARK).lead(|p| !p.is(L | P | SYM) && !LINE_END(p)).rule();
const PLAIN_SIGN: Set = |p| p.is(P | SYM);
/// A signed word, a word, ` ?[\p{P}\p{S}]+[\r\n]*`, `\s*[\r\n]+`, `\s+(?!\S)`, `\s+`.
const DEEPSEEK3_PASS: Pass = First(&[
    SIGNED_WORD,
    MARKED_WORD,
    run(PLAIN_SIGN).lead(SPACE).tail(usize::MAX, LINE_END).rule(),
    Rule::Lines,
    Rule::Blanks,
    BLANKS,
]);
pub const DEEPSEEK3: Splitter = &[First(&[THREE_NUMBERS]), First(&[EACH_CJK]), DEEPSEEK3_PASS];
/// As DeepSeek's third; each end of a line apart.
pub const SPARK2_5: Splitter = &[
    First(&[THREE_NUMBERS]),
    First(&[EACH_CJK]),
    First(&[
        SIGNED_WORD,
        MARKED_WORD,
        run(PLAIN_SIGN).lead(SPACE).rule(),
        run(LINE_END).most(1).rule(),
        Rule::Blanks,
        BLANKS,
    ]),
    EACH_NUMBER,
];
/// Numbers as Tiny Aya's, Asian scripts apart, then as DeepSeek's third.
pub const AFMOE: Splitter =
    &[Triples(NUMBER, Edge::End), First(&[run(|p| p.within(AFMOE_SCRIPTS)).rule()]), DEEPSEEK3_PASS];
/// `[\r\n]`, `\s?` and a word of a cased script, `\s?` and signs, `\s+$`, ideographs, `\p{N}+`.
pub const DEEPSEEK_LLM: Splitter = &[
    EACH_LINE_END,
    First(&[run(|p| p.within(CASED_SCRIPTS)).lead(BLANK).rule()]),
    First(&[run(|p| p.within(STOPS_AND_WIDE)).lead(BLANK).rule()]),
    First(&[Rule::BlanksAtEnd]),
    First(&[run(|p| p.within(IDEOGRAPHS)).rule()]),
    First(&[NUMBERS]),
];
/// `[\r\n]`, `\s?\p{L}+`, `\s?\p{P}+`, ideographs, `\p{N}`.
pub const DEEPSEEK_CODER: Splitter = &[
    EACH_LINE_END,
    First(&[run(LETTER).lead(BLANK).rule()]),
    First(&[run(|p| p.is(P)).lead(BLANK).rule()]),
    First(&[run(|p| p.within(IDEOGRAPHS)).rule()]),
    EACH_NUMBER,
];
/// ` ?[^(\s|.,!?…。，、।۔،)]+`.
const BETWEEN_STOPS: Pass = First(&[run(|p| !p.is(S) && !p.within(FULL_STOPS)).lead(SPACE).rule()]);
pub const BLOOM: Splitter = &[BETWEEN_STOPS];
pub const VIKING: Splitter = &[BETWEEN_STOPS, EACH_NUMBER];
/// `<sentinel:[0-9]+>`, `(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z`, `([\t\n]|    |  )`, `\p{N}`,
/// `[\p{P}!-/:-@\[-`{-~]`, then as GPT-2's.
pub const CHAMELEON: Splitter = &[
    First(&[Rule::Tagged("<sentinel:", usize::MAX, DIGIT, '>')]),
    First(&[Rule::Tagged("IMGIMG", 4, |p| p.within(&[('A', 'I')]), 'Z')]),
    First(&[
        run(|p| p.is_char('\t') || p.is_char('\n')).most(1).rule(),
        Rule::Literal("    "),
        Rule::Literal("  "),
    ]),
    EACH_NUMBER,
    First(&[run(SIGN).most(1).rule()]),
    GPT2_PASS,
];
