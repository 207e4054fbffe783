//! Stop strings: what is let through, whatever the portions.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use quipu::engine::stop::{MAX_STOPS, StopMatcher};

/// Feeds the portions; returns what came out after each, all of it after the end, and the stop that was found.
fn run(stops: &[&str], portions: &[&str]) -> (Vec<String>, String, Option<usize>) {
    let mut m = StopMatcher::new(stops).unwrap();
    let mut all = String::new();
    let mut steps = Vec::new();
    for p in portions {
        let mut out = String::new();
        m.feed(p, &mut out);
        all.push_str(&out);
        steps.push(out);
    }
    m.finish(&mut all);
    (steps, all, m.hit())
}

#[test]
fn a_stop_across_portions_never_leaks() {
    let (steps, all, hit) = run(&["STOP"], &["a S", "T", "O", "P b", "c"]);
    assert_eq!(steps, ["a ", "", "", "", ""]);
    assert_eq!((&all[..], hit), ("a ", Some(0)));
}

#[test]
fn what_turns_out_to_be_text_comes_out_whole() {
    let (steps, all, hit) = run(&["aab"], &["a", "a", "a", "c", "aa"]);
    assert_eq!(steps, ["", "", "a", "aac", ""]);
    assert_eq!((&all[..], hit), ("aaacaa", None));
}

#[test]
fn the_first_complete_one_wins_and_of_those_the_longest() {
    assert_eq!(run(&["cd", "abcde"], &["xabcdef"]).1, "xab");
    assert_eq!(run(&["bc", "abc"], &["xabcd"]), (vec!["x".into()], "x".into(), Some(1)));
    assert_eq!(run(&["\n\n", "\n"], &["x\n\n"]).2, Some(1));
}

#[test]
fn portions_of_one_stop_in_another_are_kept_apart() {
    let (steps, all, hit) = run(&["<|end|>", "<|e"], &["<", "|", "x<|", "en"]);
    assert_eq!(steps, ["", "", "<|x", ""]);
    assert_eq!((&all[..], hit), ("<|x", Some(1)));
}

#[test]
fn characters_stay_whole() {
    // é and è share their first byte, so the matcher must not cut between bytes.
    let (steps, all, _) = run(&["éé"], &["è", "é", "è"]);
    assert_eq!(steps, ["è", "", "éè"]);
    assert_eq!(all, "èéè");
    let (steps, ..) = run(&["😀!"], &["😁", "😀", "😁"]);
    assert_eq!(steps, ["😁", "", "😀😁"]);
}

#[test]
fn a_matcher_can_be_used_again() {
    let mut m = StopMatcher::new(&["ab"]).unwrap();
    let mut out = String::new();
    assert_eq!(m.feed("xab", &mut out), Some(0));
    assert_eq!(m.feed("more", &mut out), Some(0));
    m.reset();
    assert_eq!(m.feed("ya", &mut out), None);
    assert_eq!((m.held(), &out[..]), (1, "xy"));
    m.reset();
    assert_eq!(m.feed("b", &mut out), None);
    m.finish(&mut out);
    assert_eq!(out, "xyb");
}

#[test]
fn bad_stops_are_refused() {
    let code = |stops: &[String]| StopMatcher::new(stops).unwrap_err().code();
    assert_eq!(code(&["a".into(), String::new()]), "OutOfRange");
    assert_eq!(code(&vec!["a".into(); MAX_STOPS + 1]), "OutOfRange");
    assert_eq!(code(&["a".repeat(4097)]), "OutOfRange");
    let none: [&str; 0] = [];
    assert_eq!(StopMatcher::new(&none).unwrap().feed("abc", &mut String::new()), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn portions_do_not_matter(
        stops in prop::collection::vec("[abé]{1,5}", 0..5),
        portions in prop::collection::vec("[abéè]{0,4}", 0..20),
    ) {
        let text = portions.concat();
        let hits = stops.iter().enumerate().filter_map(|(i, s)| {
            let at = text.find(&s[..])?;
            Some((at + s.len(), std::cmp::Reverse(s.len()), i))
        });
        let want = hits.min();
        let stops: Vec<&str> = stops.iter().map(|s| &s[..]).collect();
        let portions: Vec<&str> = portions.iter().map(|p| &p[..]).collect();
        let (steps, all, hit) = run(&stops, &portions);
        prop_assert_eq!(hit, want.map(|w| w.2));
        prop_assert_eq!(&all[..], want.map_or(&text[..], |w| &text[..w.0 - w.1.0]));
        // Nothing is held back longer than it must be.
        let (mut fed, mut out) = (String::new(), String::new());
        for (portion, step) in portions.iter().zip(&steps) {
            fed.push_str(portion);
            out.push_str(step);
            if want.is_none_or(|w| fed.len() < w.0) {
                let begun = |s: &str, n: usize| s.get(..n).is_some_and(|head| n < s.len() && fed.ends_with(head));
                let held = (0..16).rev().find(|&n| n == 0 || stops.iter().any(|s| begun(s, n))).unwrap();
                prop_assert_eq!(out.len(), fed.len() - held);
            }
        }
    }
}
