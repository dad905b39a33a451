//! What the cases of ONNX leave out.

use std::collections::BTreeMap;

use crate::expressions::{self, AUTOMATA};
use crate::{Attribute, Meter, Node, Tensor};

/// Runs a node with its expressions compiled.
fn run(
    domain: &str,
    operator: &str,
    attributes: Vec<(&str, Attribute)>,
    x: &Tensor,
) -> Result<Vec<Tensor>, String> {
    let attributes: BTreeMap<String, Attribute> =
        attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let (domain, operator) = (domain.to_owned(), operator.to_owned());
    let opset = if domain == "ai.onnx" { 20 } else { 1 };
    let mut node = Node { domain, operator, opset, attributes, inputs: vec![None], ..Node::default() };
    let mut automata = Vec::new();
    for expression in expressions::of(&node) {
        let tables = expressions::compile(expression.pattern, 1 << 20).map_err(|error| error.to_string())?;
        automata.extend(tables);
    }
    if !automata.is_empty() {
        node.attributes.insert(AUTOMATA.to_owned(), Attribute::Tensor(Tensor::vector(automata)));
    }
    run_node(&node, x)
}

fn run_node(node: &Node, x: &Tensor) -> Result<Vec<Tensor>, String> {
    let kernel = node.kernel(&[None], &[]).map_err(|problem| problem.to_string())?;
    kernel(&[Some(x)], &mut Meter::new(1 << 20, 1 << 24)).map_err(|problem| problem.to_string())
}

fn texts(all: &[&str]) -> Tensor {
    Tensor::vector(all.iter().map(|&text| text.to_owned()).collect())
}

fn text(text: &str) -> Attribute {
    Attribute::Text(text.to_owned())
}

/// What matches is RE2's choice.
#[test]
fn expressions_are_those_of_re2() {
    let check = |pattern: &str, yes: &[&str], no: &[&str]| {
        let all: Vec<&str> = yes.iter().chain(no).copied().collect();
        let found = run("ai.onnx", "RegexFullMatch", vec![("pattern", text(pattern))], &texts(&all)).unwrap();
        let want: Vec<bool> = (0..all.len()).map(|at| at < yes.len()).collect();
        assert_eq!(found[0].elements::<bool>().unwrap(), want, "{pattern}");
    };
    check(r"\d+", &["12"], &["", "١٢", "1a"]);
    check(r"\w\s\W", &["a é", "_\t!"], &["é !", "a\u{b}!"]);
    check(r"(?i)stra[s-t]E", &["STRASE", "stra\u{17f}e"], &["STRAßE"]);
    check(r"a(?i:b)c", &["aBc", "abc"], &["ABc"]);
    check(r".*\bfoo\b.*", &["a foo b", "foo", "éfoo"], &["afoo"]);
    check(r"\Qa.b\E+", &["a.b", "a.bb"], &["aab"]);
    check("a.c", &["aéc", "a日c"], &["a\nc"]);
    check("", &[""], &["a"]);
    for (pattern, want) in [
        (r"\pL", "Unicode classes"),
        (r"[a&&b]", "operations on sets"),
        (r"[[a]]", "sets within sets"),
        ("(?i)é", "beyond ASCII"),
        ("(a{1000}){1000}", "too large"),
        ("(", "unclosed group"),
        (r"(a)\1", "backreference"),
    ] {
        let problem =
            run("ai.onnx", "RegexFullMatch", vec![("pattern", text(pattern))], &texts(&[])).unwrap_err();
        assert!(problem.contains(want), "{pattern}: {problem}");
    }
}

#[test]
fn tokens_are_the_leftmost_and_longest() {
    let tokens = |attributes: Vec<(&str, Attribute)>, x: &Tensor| {
        let mut all =
            vec![("pad_value", text("#")), ("mark", Attribute::Int(0)), ("mincharnum", Attribute::Int(1))];
        all.extend(attributes);
        run("com.microsoft", "Tokenizer", all, x)
    };
    let separators =
        |all: &[&str]| ("separators", Attribute::Texts(all.iter().map(|&one| one.to_owned()).collect()));
    let found = tokens(vec![("tokenexp", text("(ab|a)(c|bcd)?"))], &texts(&["xabcdab", "é"])).unwrap();
    assert_eq!(found[0].elements::<String>().unwrap(), ["abcd", "ab", "#", "#"]);
    let found = tokens(vec![separators(&[" ", ","])], &texts(&["a b,c", ""])).unwrap();
    assert_eq!(found[0].elements::<String>().unwrap(), ["a", "b", "c", "#", "#", "#"]);
    let found = tokens(vec![separators(&[""]), ("mark", Attribute::Int(1))], &texts(&["é", ""])).unwrap();
    assert_eq!(found[0].elements::<String>().unwrap(), ["\u{2}", "é", "\u{3}", "\u{2}", "\u{3}", "#"]);
    // Every character, a line's end too; as a part of an expression, `.` leaves those out.
    let found = tokens(vec![("tokenexp", text("."))], &texts(&["a\nb", "\r\n"])).unwrap();
    assert_eq!(found[0].elements::<String>().unwrap(), ["a", "\n", "b", "\r", "\n", "#"]);
    let found = tokens(vec![("tokenexp", text("(.)"))], &texts(&["a\nb", "\r\n"])).unwrap();
    assert_eq!(found[0].elements::<String>().unwrap(), ["a", "b", "\r", "#"]);
    // A plan of before holds an automaton for it.
    let automaton = Attribute::Tensor(Tensor::vector(expressions::compile(".", 1 << 20).unwrap()));
    let found = tokens(vec![("tokenexp", text(".")), (AUTOMATA, automaton)], &texts(&["a\nb"])).unwrap();
    assert_eq!(found[0].elements::<String>().unwrap(), ["a", "b"]);
    assert_eq!(tokens(vec![separators(&[" "])], &texts(&["", " "])).unwrap()[0].shape(), [2, 0]);
    assert!(
        tokens(vec![separators(&["x*"])], &texts(&["a"])).unwrap_err().contains("matches the empty text")
    );
}

#[test]
fn automata_are_those_of_the_expressions() {
    let tables = |pattern: &str| expressions::compile(pattern, 1 << 20).unwrap();
    let check = |attributes: Vec<(&str, Attribute)>, automata: Option<Attribute>, want: &str| {
        let mut node = Node {
            domain: "com.microsoft".to_owned(),
            operator: "Tokenizer".to_owned(),
            opset: 1,
            inputs: vec![None],
            ..Node::default()
        };
        node.attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        node.attributes.extend(automata.map(|automata| (AUTOMATA.to_owned(), automata)));
        let problem = run_node(&node, &texts(&["a b"])).unwrap_err();
        assert!(problem.contains(want), "{problem}");
    };
    let bytes = |bytes: Vec<u8>| Some(Attribute::Tensor(Tensor::vector(bytes)));
    let separators = |all: &[&str]| {
        vec![("separators", Attribute::Texts(all.iter().map(|&one| one.to_owned()).collect()))]
    };
    let two = separators(&["a", "b"]);
    check(two.clone(), None, "the automaton of its expression is missing");
    check(two.clone(), bytes(tables("a")), "automaton 1 is damaged: 264 bytes are needed, 0 are there");
    let both = [tables("a"), tables("b"), vec![0]].concat();
    check(two.clone(), bytes(both), "1 bytes stand behind the last automaton");
    check(two.clone(), Some(Attribute::Int(1)), "expected a tensor");
    let floats = Some(Attribute::Tensor(Tensor::vector(vec![1.0_f32])));
    check(two, floats, "expected elements of the kind");
    // A search for nothing would get nowhere, wherever nothing is found.
    for pattern in ["x*", r"\b", "(?m)$"] {
        check(separators(&[pattern]), bytes(tables(pattern)), "matches the empty text");
    }
    check(
        vec![("tokenexp", text("a"))],
        bytes(vec![0; 300]),
        "automaton 0 is damaged: the number of states is 0",
    );
    check(separators(&[""]), bytes(tables("a")), "this attribute is not supported");
}

/// A text that an expression cannot match is searched from each of its characters.
#[test]
fn long_searches_end_at_the_limit() {
    let x = Tensor::vector(vec!["a".repeat(20_000)]);
    let attributes = vec![("pad_value", text("")), ("tokenexp", text("a+b"))];
    assert!(run("com.microsoft", "Tokenizer", attributes, &x).unwrap_err().contains("operations"));
}

/// Against onnxruntime 1.31.
#[test]
fn runs_that_share_a_column() {
    let count = |mode: &str| {
        let attributes = vec![
            ("mode", text(mode)),
            ("min_gram_length", Attribute::Int(1)),
            ("max_gram_length", Attribute::Int(1)),
            ("max_skip_count", Attribute::Int(i64::MAX)),
            ("ngram_counts", Attribute::Ints(vec![0])),
            ("ngram_indexes", Attribute::Ints(vec![0, 0, 1])),
            ("pool_int64s", Attribute::Ints(vec![10, 20, 30])),
            ("weights", Attribute::Floats(vec![1.0, 10.0, 100.0])),
        ];
        let found =
            run("ai.onnx", "TfIdfVectorizer", attributes, &Tensor::vector(vec![10_i64, 20, 20, 5])).unwrap();
        found[0].elements::<f32>().unwrap().to_vec()
    };
    assert_eq!(count("TF"), [3.0, 0.0]);
    assert_eq!(count("IDF"), [10.0, 0.0]);
    assert_eq!(count("TFIDF"), [21.0, 0.0]);
}

#[test]
fn letters_change_one_by_one() {
    let upper = |x: &str| {
        let attributes = vec![("case_change_action", text("UPPER"))];
        let found = run("ai.onnx", "StringNormalizer", attributes, &texts(&[x])).unwrap();
        found[0].elements::<String>().unwrap()[0].clone()
    };
    assert_eq!(upper("straße ÿ ᾀ"), "STRAßE Ÿ ᾈ");
    let attributes = vec![("stopwords", Attribute::Texts(vec!["É".to_owned()]))];
    let found = run("ai.onnx", "StringNormalizer", attributes, &texts(&["é"])).unwrap();
    assert_eq!(found[0].elements::<String>().unwrap(), [""]);
    let attributes = vec![("locale", text("tr_TR"))];
    assert!(run("ai.onnx", "StringNormalizer", attributes, &texts(&["i"])).is_err());
}
