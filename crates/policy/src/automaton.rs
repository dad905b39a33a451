//! Regular expressions as deterministic automata over bytes, which answer in one look-up per byte and need no engine.
//!
//! The syntax is read by `regex-syntax`, of which the policy language takes a part (`docs/policy-semantics.md`); the
//! automaton is made by `lockgate-automaton`, as small as it can be, so that equal languages give equal bytes.

use lockgate_automaton::compile::{FOUND, Machine, NEVER, finding};
use regex_syntax::ast::{self, Ast, parse::ParserBuilder};
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, Look, Repetition};

use crate::bundle::format::MAX_AUTOMATON;

/// How deep groups and repetitions may be nested.
const MAX_NESTING: u32 = 100;
/// What may be made on the way, as [`finding`] counts it.
const MAX_MADE: usize = 1 << 20;

/// An automaton as a bundle holds it; `bundle::format` says what the data are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Automaton {
    pub(crate) start: u32,
    pub(crate) states: u32,
    pub(crate) classes: u32,
    pub(crate) data: Vec<u8>,
}

/// What follows from the data of an automaton that [`build`] has made; one of other data answers too.
impl Automaton {
    /// The class of a byte: bytes of one class lead everywhere to the same state.
    pub(crate) fn class(&self, byte: u8) -> u8 {
        self.data.get(usize::from(byte)).copied().unwrap_or_default()
    }

    /// The state after a byte.
    pub(crate) fn next(&self, state: u32, byte: u8) -> u32 {
        let rows = 256 + (self.states as usize).next_multiple_of(2);
        let cell = state as usize * self.classes as usize + usize::from(self.class(byte));
        let next = self.data.get(rows + 2 * cell..).and_then(|rest| rest.first_chunk::<2>());
        next.map_or(NEVER, |next| u32::from(u16::from_le_bytes(*next)))
    }

    /// Whether a text that ends in this state has a match.
    pub(crate) fn accepts(&self, state: u32) -> bool {
        self.data.get(256 + state as usize).is_some_and(|end| *end == 1)
    }

    /// What this state has decided, whatever text follows; `None` when that is open.
    pub(crate) fn settled(&self, state: u32) -> Option<bool> {
        match state {
            NEVER => Some(false),
            FOUND => Some(true),
            _ => None,
        }
    }
}

/// Whether `pattern` is an expression of the policy language whose automaton is not too large.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn check_pattern(pattern: &str) -> Result<(), String> {
    build(pattern).map(drop)
}

/// The automaton that finds an expression's matches. Equal languages give equal automata.
///
/// # Errors
/// What is wrong with the expression, in words.
pub(crate) fn build(pattern: &str) -> Result<Automaton, String> {
    let ast = ParserBuilder::new().nest_limit(MAX_NESTING).build().parse(pattern).map_err(|e| syntax(&e))?;
    let hir = translate(&ast)?;
    finding(&hir, MAX_MADE).and_then(|machine| encode(&machine)).ok_or_else(too_large)
}

fn too_large() -> String {
    format!("the expression needs an automaton of more than {} KiB", MAX_AUTOMATON / 1024)
}

fn syntax(error: &ast::Error) -> String {
    use ast::ErrorKind as E;
    let at = |what: &str| format!("{what} (at character {})", error.span().start.column);
    match error.kind() {
        E::UnsupportedBackreference => at("back-references are not supported"),
        E::UnsupportedLookAround => at("look-around is not supported"),
        E::NestLimitExceeded(limit) => format!("it is nested more than {limit} deep"),
        E::EscapeUnrecognized => at("this escape does not exist; a letter stands for itself without `\\`"),
        kind => at(&kind.to_string()),
    }
}

fn refuse(span: &ast::Span, what: &str) -> String {
    format!("{what} (at character {})", span.start.column)
}

fn translate(ast: &Ast) -> Result<Hir, String> {
    let translate_all = |asts: &[Ast]| asts.iter().map(translate).collect::<Result<Vec<Hir>, String>>();
    Ok(match ast {
        Ast::Empty(_) => Hir::empty(),
        Ast::Flags(flags) => return Err(refuse(&flags.span, "flags are not supported")),
        Ast::Literal(literal) => Hir::literal(literal.c.encode_utf8(&mut [0; 4]).as_bytes().to_vec()),
        Ast::Dot(_) => Hir::class(Class::Unicode(negated(ranges(&[('\n', '\n')])))),
        Ast::Assertion(assertion) => match assertion.kind {
            ast::AssertionKind::StartLine => Hir::look(Look::Start),
            ast::AssertionKind::EndLine => Hir::look(Look::End),
            ast::AssertionKind::StartText => {
                return Err(refuse(&assertion.span, "`\\A` is not supported; write `^`"));
            }
            ast::AssertionKind::EndText => {
                return Err(refuse(&assertion.span, "`\\z` is not supported; write `$`"));
            }
            _ => return Err(refuse(&assertion.span, "word boundaries are not supported")),
        },
        Ast::ClassUnicode(class) => {
            return Err(refuse(&class.span, "Unicode property classes are not supported"));
        }
        Ast::ClassPerl(class) => Hir::class(Class::Unicode(perl(class))),
        Ast::ClassBracketed(class) => {
            let mut set = ClassUnicode::empty();
            match &class.kind {
                ast::ClassSet::Item(item) => add(&mut set, item)?,
                ast::ClassSet::BinaryOp(operation) => return Err(set_operation(&operation.span)),
            }
            Hir::class(Class::Unicode(if class.negated { negated(set) } else { set }))
        }
        Ast::Repetition(repetition) => {
            let (min, max) = match &repetition.op.kind {
                ast::RepetitionKind::ZeroOrOne => (0, Some(1)),
                ast::RepetitionKind::ZeroOrMore => (0, None),
                ast::RepetitionKind::OneOrMore => (1, None),
                ast::RepetitionKind::Range(ast::RepetitionRange::Exactly(n)) => (*n, Some(*n)),
                ast::RepetitionKind::Range(ast::RepetitionRange::AtLeast(n)) => (*n, None),
                ast::RepetitionKind::Range(ast::RepetitionRange::Bounded(m, n)) => (*m, Some(*n)),
            };
            if matches!(*repetition.ast, Ast::Repetition(_)) {
                return Err(refuse(
                    &repetition.op.span,
                    "a repetition of a repetition needs a group, `(a+)*`",
                ));
            }
            let sub = Box::new(translate(&repetition.ast)?);
            // Lazy or not changes which match is found, never whether there is one.
            Hir::repetition(Repetition { min, max, greedy: true, sub })
        }
        Ast::Group(group) => match &group.kind {
            ast::GroupKind::NonCapturing(flags) if !flags.items.is_empty() => {
                return Err(refuse(&flags.span, "flags are not supported"));
            }
            ast::GroupKind::CaptureName { .. } => {
                return Err(refuse(&group.span, "named groups are not supported; write `(…)`"));
            }
            ast::GroupKind::NonCapturing(_) | ast::GroupKind::CaptureIndex(_) => translate(&group.ast)?,
        },
        Ast::Alternation(alternation) => Hir::alternation(translate_all(&alternation.asts)?),
        Ast::Concat(concat) => Hir::concat(translate_all(&concat.asts)?),
    })
}

/// Adds what stands between brackets.
fn add(set: &mut ClassUnicode, item: &ast::ClassSetItem) -> Result<(), String> {
    match item {
        ast::ClassSetItem::Empty(_) => {}
        ast::ClassSetItem::Literal(literal) => set.push(ClassUnicodeRange::new(literal.c, literal.c)),
        ast::ClassSetItem::Range(range) => set.push(ClassUnicodeRange::new(range.start.c, range.end.c)),
        ast::ClassSetItem::Perl(class) => set.union(&perl(class)),
        ast::ClassSetItem::Union(union) => union.items.iter().try_for_each(|item| add(set, item))?,
        ast::ClassSetItem::Ascii(class) => {
            return Err(refuse(&class.span, "classes such as `[:alpha:]` are not supported; write `a-zA-Z`"));
        }
        ast::ClassSetItem::Unicode(class) => {
            return Err(refuse(&class.span, "Unicode property classes are not supported"));
        }
        ast::ClassSetItem::Bracketed(class) => return Err(set_operation(&class.span)),
    }
    Ok(())
}

fn set_operation(span: &ast::Span) -> String {
    refuse(
        span,
        "classes within classes and operations on them are not supported; a bracket that is meant itself is `\\[`",
    )
}

fn perl(class: &ast::ClassPerl) -> ClassUnicode {
    let set = ranges(match class.kind {
        ast::ClassPerlKind::Digit => &[('0', '9')],
        ast::ClassPerlKind::Word => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        ast::ClassPerlKind::Space => &[('\t', '\r'), (' ', ' ')],
    });
    if class.negated { negated(set) } else { set }
}

fn ranges(ranges: &[(char, char)]) -> ClassUnicode {
    ClassUnicode::new(ranges.iter().map(|(first, last)| ClassUnicodeRange::new(*first, *last)))
}

fn negated(mut set: ClassUnicode) -> ClassUnicode {
    set.negate();
    set
}

/// The automaton's data, unless they are too many.
fn encode(machine: &Machine) -> Option<Automaton> {
    let mut data = machine.map().to_vec();
    data.extend_from_slice(machine.marks());
    data.resize(data.len().next_multiple_of(2), 0);
    for to in machine.rows() {
        data.extend_from_slice(&u16::try_from(*to).ok()?.to_le_bytes());
    }
    let fits = u32::try_from(data.len()).is_ok_and(|len| len <= MAX_AUTOMATON);
    fits.then_some(Automaton {
        start: machine.start(),
        states: u32::try_from(machine.states()).ok()?,
        classes: u32::try_from(machine.classes()).ok()?,
        data,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Runs the automaton, with every look-up checked.
    fn matches(automaton: &Automaton, text: &str) -> bool {
        let (states, classes) = (automaton.states as usize, automaton.classes as usize);
        let (map, rest) = automaton.data.split_at(256);
        let (ends, rows) = rest.split_at(states.next_multiple_of(2));
        assert_eq!(rows.len(), states * classes * 2);
        let mut state = automaton.start as usize;
        for byte in text.bytes() {
            let at = (state * classes + usize::from(map[usize::from(byte)])) * 2;
            state = usize::from(u16::from_le_bytes([rows[at], rows[at + 1]]));
        }
        assert!(state < states && ends[0] == 0 && ends[1] == 1);
        ends[state] == 1
    }

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let automaton = build(pattern).unwrap();
        for (texts, expected) in [(matching, true), (others, false)] {
            for text in texts {
                assert_eq!(matches(&automaton, text), expected, "{pattern} in {text:?}");
            }
        }
    }

    #[test]
    fn matches_lie_anywhere() {
        check("b", &["b", "abc", "bb"], &["", "a", "B"]);
        check("", &["", "x"], &[]);
        check("a|", &["", "x"], &[]);
        check("^a", &["a", "ab"], &["ba", ""]);
        check("a$", &["a", "ba"], &["ab", "a\n", ""]);
        check("^a$", &["a"], &["aa", "a\n", ""]);
        check("^$", &[""], &["\n", "x"]);
        check("(^|,)b(,|$)", &["b", "a,b", "b,c", "a,b,c"], &["ab", "bc", ""]);
        check("a^b", &[], &["ab", "a^b"]);
        check("x*$", &["", "y"], &[]);
    }

    #[test]
    fn characters_are_unicode_scalar_values() {
        check("^.$", &["a", "é", "日", "🦀", "\r"], &["", "\n", "ab", "e\u{301}"]);
        check("^[^a]$", &["é", "\n", "🦀"], &["a", "bc"]);
        check("^[à-ý]+$", &["éè"], &["e", "É", "é!"]);
        check("^\\x41\\u00e9\\x{65e5}$", &["Aé日"], &["Ae日"]);
        check("^\\d\\D$", &["1a", "1٣"], &["٣a", "12"]);
        check("^\\w\\W$", &["_é", "a "], &["é ", "ab"]);
        check("^\\s\\S$", &["\tx", "\u{b}\u{a0}", " é"], &["\u{a0}x", "  "]);
        check("^[\\d-]+$", &["1-2"], &["1.2"]);
        check("^[\\D]$", &["x"], &["1"]);
        check("^[]^-]$", &["]", "^", "-"], &["a"]);
    }

    #[test]
    fn repetitions_and_groups() {
        check("^(ab){2,3}$", &["abab", "ababab"], &["ab", "abababab"]);
        check("^a{2,}$", &["aa", "aaaa"], &["a", ""]);
        check("^(?:a|b){3}$", &["aba"], &["ab", "abab"]);
        check("^a+?b*?c??$", &["a", "aab", "abc"], &["c", "b", "acc"]);
        check("^EUR(USD|CHF|[SN]EK)$", &["EURUSD", "EURSEK", "EURNEK"], &["EURSE", "EURUSDX"]);
    }

    #[test]
    fn what_the_language_lacks_is_refused() {
        #[track_caller]
        fn refused(pattern: &str, expected: &str) {
            assert_eq!(check_pattern(pattern).unwrap_err(), expected, "{pattern}");
        }
        refused("(?i)a", "flags are not supported (at character 1)");
        refused("b(?s:a)", "flags are not supported (at character 4)");
        refused("(?=a)", "look-around is not supported (at character 1)");
        refused("(?<!a)b", "look-around is not supported (at character 1)");
        refused("(a)\\1", "back-references are not supported (at character 4)");
        refused("\\bword", "word boundaries are not supported (at character 1)");
        refused("a\\B", "word boundaries are not supported (at character 2)");
        refused("\\Aa", "`\\A` is not supported; write `^` (at character 1)");
        refused("a\\z", "`\\z` is not supported; write `$` (at character 2)");
        refused("\\pL", "Unicode property classes are not supported (at character 1)");
        refused("[a\\p{Greek}]", "Unicode property classes are not supported (at character 3)");
        refused(
            "[[:alpha:]]",
            "classes such as `[:alpha:]` are not supported; write `a-zA-Z` (at character 2)",
        );
        refused("a**", "a repetition of a repetition needs a group, `(a+)*` (at character 3)");
        refused("a{2}+", "a repetition of a repetition needs a group, `(a+)*` (at character 5)");
        refused("(?P<n>a)", "named groups are not supported; write `(…)` (at character 1)");
        refused("(a", "unclosed group (at character 1)");
        refused("a{2", "unclosed counted repetition (at character 2)");
        refused("*a", "repetition operator missing expression (at character 1)");
        refused("[b-a]", "invalid character class range, the start must be <= the end (at character 2)");
        refused(
            "\\y",
            "this escape does not exist; a letter stands for itself without `\\` (at character 1)",
        );
        for operation in ["[a&&b]", "[a--b]", "[a~~b]", "[a[bc]]"] {
            assert!(
                check_pattern(operation).unwrap_err().starts_with("classes within classes"),
                "{operation}"
            );
        }
    }

    #[test]
    fn large_automata_are_refused_early() {
        let large = "the expression needs an automaton of more than 64 KiB";
        for pattern in ["a{60000}", "((a{999}){999}){999}", "[ab]*a[ab]{30}c", "(.{1,40}x){20}", ".{3000}"] {
            assert_eq!(check_pattern(pattern).unwrap_err(), large, "{pattern}");
        }
        let deep = format!("{}a{}", "(".repeat(1000), ")".repeat(1000));
        assert_eq!(check_pattern(&deep).unwrap_err(), "it is nested more than 100 deep");
        check(&format!("^{}$", "a".repeat(10_000)), &[&"a".repeat(10_000)], &[&"a".repeat(9_999)]);
    }

    #[test]
    fn equal_languages_have_equal_automata() {
        for (one, other) in
            [("a+", "a"), ("(a|b)c", "[ab]c"), ("aa*b|ab", "ab"), ("^(a|b|aa)*$", "^[ab]*$"), ("x|", "")]
        {
            assert_eq!(build(one).unwrap(), build(other).unwrap(), "{one} and {other}");
        }
    }

    /// The same expression in this language and in that of the `regex` crate.
    fn pattern() -> impl Strategy<Value = (String, String)> {
        let same = |text: &str| (text.to_owned(), text.to_owned());
        let leaf = prop_oneof![
            prop::sample::select(vec![
                "a", "b", "é", "日", "-", "_", "1", "\\.", "\\n", "[ab]", "[^ab]", "[a-é]", "[^-1]", ".",
                "^", "$"
            ])
            .prop_map(same),
            prop::sample::select(vec![
                ("\\d", "[0-9]"),
                ("\\D", "[^0-9]"),
                ("\\w", "[0-9A-Za-z_]"),
                ("\\W", "[^0-9A-Za-z_]"),
                ("\\s", "[\\t-\\r ]"),
                ("[\\S]", "[^\\t-\\r ]"),
            ])
            .prop_map(|(one, other)| (one.to_owned(), other.to_owned())),
        ];
        leaf.prop_recursive(5, 32, 4, |inner| {
            let repetition = prop::sample::select(vec!["*", "+", "?", "{2}", "{0,2}", "{1,}", "*?", "+?"]);
            let join = |parts: Vec<(String, String)>, by: &str| {
                let (one, other): (Vec<String>, Vec<String>) = parts.into_iter().unzip();
                (one.join(by), other.join(by))
            };
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(move |parts| join(parts, "")),
                prop::collection::vec(inner.clone(), 1..4).prop_map(move |parts| {
                    let (one, other) = join(parts, "|");
                    (format!("({one})"), format!("({other})"))
                }),
                (inner, repetition)
                    .prop_map(|((one, other), by)| (format!("(?:{one}){by}"), format!("(?:{other}){by}"))),
            ]
        })
    }

    fn text() -> impl Strategy<Value = String> {
        prop::collection::vec(
            prop::sample::select(vec!['a', 'b', 'c', 'é', '日', '-', '_', '1', '.', '\n', ' ', '٣', '🦀']),
            0..12,
        )
        .prop_map(|characters| characters.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn it_finds_what_a_regex_engine_finds((ours, theirs) in pattern(), texts in prop::collection::vec(text(), 24)) {
            let engine = regex::Regex::new(&theirs).unwrap();
            if let Ok(automaton) = build(&ours) {
                for text in &texts {
                    prop_assert_eq!(matches(&automaton, text), engine.is_match(text), "{} in {:?}", ours, text);
                }
            }
        }

        #[test]
        fn any_text_is_an_expression_or_refused(pattern in any::<String>()) {
            if let Err(problem) = check_pattern(&pattern) {
                prop_assert!(!problem.is_empty());
            }
        }
    }
}
