//! Automata as plans hold them, and texts that are searched with them.

use super::wire::Below;
use lockgate_automaton::Automaton;
use lockgate_onnx::expressions::{AUTOMATA, compile};
use lockgate_onnx::{Attribute, Meter, Node, Tensor};

/// The longest text: every place of it is searched from.
const LONGEST: usize = 512;

/// Tables and a text behind them: what is read is what was there, a search stays within the text, and nodes with such automata end.
pub fn automaton(data: &[u8]) -> bool {
    let Ok((automaton, text)) = Automaton::read(data) else { return false };
    let tables = &data[..data.len() - text.len()];
    assert_eq!(automaton.to_bytes(), tables, "what is read is not what was there");
    let text = &text[..text.len().min(LONGEST)];
    for start in 0..=text.len() {
        let (end, steps) = automaton.longest(text, start);
        assert!(end.is_none_or(|end| (start..=text.len()).contains(&end)), "a match outside of the text");
        assert!(steps <= text.len() - start, "{steps} steps for {} bytes", text.len() - start);
        assert!(end != Some(start) || automaton.matches_nothing(), "a match of nothing at {start}");
    }
    let text = String::from_utf8_lossy(text);
    let one = || Attribute::Text("x".to_owned());
    run("ai.onnx", "RegexFullMatch", ("pattern", one()), tables, &text);
    run("com.microsoft", "Tokenizer", ("tokenexp", one()), tables, &text);
    run("com.microsoft", "Tokenizer", ("separators", Attribute::Texts(vec!["x".to_owned()])), tables, &text);
    true
}

/// A node with the automaton, which matches, refuses or cuts a text into parts of it.
fn run(domain: &str, operator: &str, expression: (&str, Attribute), tables: &[u8], text: &str) {
    let tables = Attribute::Tensor(Tensor::vector(tables.to_vec()));
    let node = Node {
        domain: domain.to_owned(),
        operator: operator.to_owned(),
        opset: 20,
        attributes: [(expression.0.to_owned(), expression.1), (AUTOMATA.to_owned(), tables)].into(),
        inputs: vec![Some(0)],
        ..Node::default()
    };
    let Ok(kernel) = node.kernel(&[None], &[]) else { return };
    let texts = Tensor::vector(vec![text.to_owned(), String::new()]);
    let Ok(results) = kernel(&[Some(&texts)], &mut Meter::new(1 << 20, 1 << 20)) else { return };
    for token in results.iter().filter_map(|result| result.elements::<String>().ok()).flatten() {
        assert!(text.contains(token.as_str()), "a token that is not in the text");
    }
}

/// An automaton with some numbers changed into others that could stand there, and a text with parts of another; `None` when it is none.
pub fn changed_automaton(below: Below<'_>, data: &[u8], other: &[u8]) -> Option<Vec<u8>> {
    let (_, text) = Automaton::read(data).ok()?;
    let mut bytes = data.to_vec();
    let number = |at: usize| usize::from(data[at]) + (usize::from(data[at + 1]) << 8);
    let (states, classes) = (number(0), number(2));
    let rows = 264 + states.next_multiple_of(2);
    for _ in 0..=below(4) {
        match below(8) {
            0 => bytes[4..6].copy_from_slice(&(below(states) as u16).to_le_bytes()),
            1 => bytes[8 + below(256)] = below(classes) as u8,
            2 | 3 => bytes[264 + below(states)] = below(4) as u8,
            4..=6 => {
                let at = rows + 2 * (classes + below((states - 1) * classes));
                bytes[at..at + 2].copy_from_slice(&(below(states) as u16).to_le_bytes());
            }
            _ => {
                let at = data.len() - below(text.len() + 1);
                let from = below(other.len() + 1);
                let part = &other[from..(from + below(9)).min(other.len())];
                bytes.splice(at..at, part.iter().copied());
            }
        }
    }
    Some(bytes)
}

pub(super) fn automaton_seeds() -> Vec<Vec<u8>> {
    [
        ("[a-z]+|\\d{2,}", "ab 12 é\n3"),
        ("(?i)(a|k)?b*$", "xabb\nKB"),
        ("(?m)^\\bw+\\b", "w ww\nwwé\r\nw"),
        ("\\s+", "a  b\t"),
    ]
    .map(|(pattern, text)| {
        let tables = compile(pattern, 1 << 20).expect("a seed is an expression");
        [&tables, text.as_bytes()].concat()
    })
    .to_vec()
}
