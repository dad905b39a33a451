//! Tables against the automata that they are made of, and damaged ones.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lockgate_automaton::{Automaton, Damage, compile};
use proptest::prelude::*;
use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::{Anchored, Input, MatchKind};
use regex_syntax::hir::Hir;

fn read(pattern: &str) -> Hir {
    regex_syntax::Parser::new().parse(pattern).unwrap()
}

fn tables(pattern: &str) -> Automaton {
    let made = compile::longest(&read(pattern), 1 << 20).unwrap();
    let bytes = made.to_bytes();
    let (automaton, rest) = Automaton::read(&bytes).unwrap();
    assert_eq!((&automaton, rest), (&made, &[][..]), "what is written reads as something else");
    automaton
}

/// The engine's own automaton, neither minimised nor read out.
fn peer(pattern: &str) -> dense::DFA<Vec<u32>> {
    let config = thompson::Config::new().which_captures(thompson::WhichCaptures::None);
    let nfa = thompson::Compiler::new().configure(config).build_from_hir(&read(pattern)).unwrap();
    let config = dense::Config::new().start_kind(StartKind::Anchored).match_kind(MatchKind::All);
    dense::Builder::new().configure(config).build_from_nfa(&nfa).unwrap()
}

fn longest_of(peer: &dense::DFA<Vec<u32>>, text: &str, start: usize) -> Option<usize> {
    let input = Input::new(text).range(start..).anchored(Anchored::Yes);
    peer.try_search_fwd(&input).unwrap().map(|found| found.offset())
}

/// Compares at every place of the texts at which a character begins.
#[track_caller]
fn compare(pattern: &str, texts: &[String]) {
    let (automaton, peer) = (tables(pattern), peer(pattern));
    let mut matches_nothing = false;
    for text in texts {
        for start in (0..=text.len()).filter(|start| text.is_char_boundary(*start)) {
            let (found, steps) = automaton.longest(text.as_bytes(), start);
            assert_eq!(found, longest_of(&peer, text, start), "{pattern:?} in {text:?} from {start}");
            assert!(steps <= text.len() - start, "{pattern:?} in {text:?} from {start}");
            let input = Input::new(text).range(start..start).anchored(Anchored::Yes);
            matches_nothing |= peer.try_search_fwd(&input).unwrap().is_some();
        }
    }
    assert!(automaton.matches_nothing() || !matches_nothing, "{pattern:?}");
}

#[test]
fn the_longest_match_is_found_from_anywhere() {
    let texts =
        ["", "a", "ab", "abab", "\n", "a\nb", "\r\n", "é日🦀", "aé a_1", " a ", "-"].map(str::to_owned);
    for pattern in [
        "",
        "a",
        "a|ab",
        "(a|ab)*?",
        "a*",
        ".",
        "(?s).",
        "[^a]",
        "é|日+",
        "^",
        "$",
        "^a",
        "a$",
        "^$",
        "(?m)^a",
        "(?m)b$",
        "(?m)^$",
        r"\Aab",
        r"ab\z",
        r"(?-u:\b)a",
        r"a(?-u:\b)",
        r"(?-u:\B)b",
        r"(?-u:\b)",
        r"(?m)^(?-u:\b)[a_]*$|é",
        r"(?-u:\b)(?:é|a)(?-u:\B)",
        // Nothing at all.
        "[a&&b]",
    ] {
        compare(pattern, &texts);
    }
}

#[test]
fn it_is_known_what_matches_nothing() {
    for (pattern, expected) in [
        ("a", false),
        ("a*", true),
        ("a|", true),
        ("^", true),
        ("$", true),
        ("(?m)^", true),
        (r"(?-u:\b)", true),
        (r"(?-u:\b)a?", true),
        (r"(?-u:\b)a", false),
        ("a$", false),
        (r"(?-u:\b)(?-u:\B)", false),
        ("[a&&b]", false),
    ] {
        assert_eq!(tables(pattern).matches_nothing(), expected, "{pattern}");
    }
}

#[test]
fn equal_languages_have_equal_tables() {
    for (one, other) in [
        ("aa*", "a+"),
        ("(a|b)c", "[ab]c"),
        ("^(a|b|aa)*$", "^[ab]*$"),
        ("x|", "x?"),
        ("a{2,3}", "aa|aaa"),
        ("[a&&b]", "a[a&&b]"),
        (r"(?-u:\b)a(?-u:\b)", r"(?-u:\b)a$|(?-u:\b)a(?-u:\b)"),
    ] {
        assert_eq!(tables(one).to_bytes(), tables(other).to_bytes(), "{one} and {other}");
    }
    // A header, two states that every automaton has, one in which a search begins and two for what it finds.
    assert_eq!(tables("a").to_bytes().len(), 8 + 256 + 6 + 2 * 5 * 2);
}

#[test]
fn large_automata_are_refused_early() {
    for pattern in ["((a{999}){999}){999}", "[ab]*a[ab]{30}c", "(.{1,40}x){20}"] {
        assert!(compile::longest(&read(pattern), 1 << 20).is_none(), "{pattern}");
        assert!(compile::finding(&read(pattern), 1 << 20).is_none(), "{pattern}");
    }
    assert!(compile::longest(&read("a{300}"), 1 << 10).is_none());
    assert!(compile::longest(&read("a{300}"), 1 << 16).is_some());
}

#[test]
fn damage_is_named() {
    let bytes = tables("ab").to_bytes();
    assert_eq!(bytes.len(), 8 + 256 + 6 + 2 * 6 * 3);
    let check = |at: usize, byte: u8, expected: &str| {
        let mut damaged = bytes.clone();
        damaged[at] = byte;
        assert_eq!(Automaton::read(&damaged).unwrap_err().to_string(), expected);
    };
    check(0, 1, "the number of states is 1, expected 2 and more");
    check(1, 1, "2098 bytes are needed, 306 are there");
    check(2, 0, "the number of classes is 0, expected 1 to 256");
    check(3, 2, "the number of classes is 515, expected 1 to 256");
    check(4, 1, "the first state is 1, expected 0, or 2 to 5");
    check(4, 6, "the first state is 6, expected 0, or 2 to 5");
    check(6, 1, "an unused number is 1, expected 0");
    check(8 + 65, 3, "the class of byte 65 is 3, expected 0 to 2");
    check(264, 1, "the mark of state 0 is 1, expected 0 to 0");
    check(265, 0, "the mark of state 1 is 0, expected 4 to 4");
    check(266, 4, "the mark of state 2 is 4, expected 0 to 3");
    check(270, 2, "a state behind state 0 is 2, expected 0");
    check(276, 1, "a state behind state 1 is 1, expected 0, or 2 to 5");
    check(305, 1, "a state behind state 5 is 256, expected 0, or 2 to 5");
    for length in 0..bytes.len() {
        let short = matches!(Automaton::read(&bytes[..length]), Err(Damage::Short { .. }));
        assert!(short, "{length} bytes are enough");
    }
    let two = [bytes.clone(), tables("b").to_bytes()].concat();
    let (first, rest) = Automaton::read(&two).unwrap();
    assert_eq!((first.to_bytes(), rest), (bytes, &two[306..]));
    // An odd number of states leaves a byte unused.
    let mut odd = tables("a").to_bytes();
    assert_eq!(odd[264 + 5], 0);
    odd[264 + 5] = 1;
    assert_eq!(Automaton::read(&odd).unwrap_err().to_string(), "the byte behind the marks is 1, expected 0");
}

fn pattern() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "a",
        "b",
        "é",
        "日",
        "-",
        "_",
        r"\n",
        r"\r",
        "[ab]",
        "[^ab]",
        "[a-é]",
        ".",
        "(?s:.)",
        "^",
        "$",
        "(?m:^)",
        "(?m:$)",
        r"(?-u:\b)",
        r"(?-u:\B)",
        "",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(5, 32, 4, |inner| {
        let repetition = prop::sample::select(vec!["*", "+", "?", "{2}", "{0,2}", "{1,}", "*?", "+?"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|parts| parts.concat()),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| format!("(?:{})", parts.join("|"))),
            (inner, repetition).prop_map(|(one, by)| format!("(?:{one}){by}")),
        ]
    })
}

fn text() -> impl Strategy<Value = String> {
    let characters = vec!['a', 'b', 'c', 'é', '日', '-', '_', '1', '\n', '\r', ' ', '٣', '🦀'];
    prop::collection::vec(prop::sample::select(characters), 0..12)
        .prop_map(|characters| characters.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn tables_answer_as_the_automaton_that_they_are_made_of(
        pattern in pattern(),
        texts in prop::collection::vec(text(), 16),
    ) {
        // Large ones have nothing that small ones lack.
        if compile::longest(&read(&pattern), 1 << 16).is_some() {
            compare(&pattern, &texts);
        }
    }

    #[test]
    fn damaged_tables_are_refused_or_answer(
        pattern in pattern(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        length in any::<Option<prop::sample::Index>>(),
        text in text(),
    ) {
        let Some(made) = compile::longest(&read(&pattern), 1 << 16) else { return Ok(()) };
        let mut bytes = made.to_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(length.map_or(bytes.len(), |length| length.index(bytes.len() + 1)));
        if let Ok((automaton, rest)) = Automaton::read(&bytes) {
            prop_assert_eq!([automaton.to_bytes(), rest.to_vec()].concat(), bytes);
            let _ = automaton.matches_nothing();
            prop_assert_eq!(automaton.longest(text.as_bytes(), text.len() + 1), (None, 0));
            for start in 0..=text.len() {
                let (end, steps) = automaton.longest(text.as_bytes(), start);
                prop_assert!(end.is_none_or(|end| (start..=text.len()).contains(&end)) && steps <= text.len());
            }
        }
    }
}
