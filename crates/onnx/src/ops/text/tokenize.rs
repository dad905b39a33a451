//! `Tokenizer` of com.microsoft: texts cut into tokens.

use lockgate_automaton::Automaton;

use super::regex::{automata, automaton, leftmost_longest};
use super::texts_room;
use crate::expressions::{AUTOMATA, EVERY_CHARACTER};
use crate::operator::required;
use crate::{Build, Kernel, Meter, Problem, Tensor};

pub(super) const LIMITS: &str = "separators that match the empty text; expressions as for RegexFullMatch";

/// What stands before and behind the tokens of a text when they are marked.
const START: &str = "\u{2}";
const END: &str = "\u{3}";

const EXPORT_AGAIN: &str = "export the model again";

enum Cut {
    Characters,
    /// At what each expression matches, one expression after the other.
    Separators(Vec<Automaton>),
    /// A token is what the expression matches.
    Tokens(Box<Automaton>),
}

/// The tokens of each text along a new axis, filled up to the longest row of them. Matches are the leftmost ones and of these the longest.
pub(super) fn tokenizer(build: &Build<'_>) -> Result<Kernel, Problem> {
    let a = &build.attributes;
    let mark = a.flag("mark", false)?;
    let pad = a.text_or("pad_value", "")?.to_owned();
    let shortest = usize::try_from(a.int_or("mincharnum", 1)?).ok().filter(|&shortest| shortest > 0);
    let shortest = shortest.ok_or_else(|| {
        Problem::attribute("mincharnum", "expected a number of characters above 0", EXPORT_AGAIN)
    })?;
    let cut = match (a.texts("separators")?.unwrap_or_default(), a.text("tokenexp")?) {
        ([only], None) if only.is_empty() => Cut::Characters,
        ([], Some(EVERY_CHARACTER)) if !a.has(AUTOMATA) => Cut::Characters,
        (separators, None) if !separators.is_empty() => {
            let automata = automata(build, separators.len())?;
            // Between two such matches a search would get nowhere.
            let empty = separators.iter().zip(&automata).find(|(_, automaton)| automaton.matches_nothing());
            if let Some((pattern, _)) = empty {
                let message = format!("`{pattern}` matches the empty text");
                return Err(Problem::attribute("separators", message, "write `+` instead of `*`"));
            }
            Cut::Separators(automata)
        }
        ([], Some(pattern)) if !pattern.is_empty() => Cut::Tokens(Box::new(automaton(build)?)),
        _ => {
            let message = "expected separators or an expression for tokens";
            return Err(Problem::attribute("separators", message, EXPORT_AGAIN));
        }
    };
    if matches!(cut, Cut::Characters) && shortest > 1 {
        let message = format!("characters are no tokens of {shortest}");
        return Err(Problem::attribute("mincharnum", message, EXPORT_AGAIN));
    }
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let mut shape = x.shape().to_vec();
        if !matches!(x.rank(), 1 | 2) {
            return Err(Problem::invalid(format!(
                "expected texts along one axis or two, found the shape {shape:?}"
            )));
        }
        let texts = x.elements::<String>()?;
        if texts.is_empty() {
            shape.truncate(x.rank() - 1);
            shape.push(0);
            return Ok(vec![Tensor::of(shape, Vec::<String>::new())?]);
        }
        let bytes = texts.iter().fold(0_usize, |sum, text| sum.saturating_add(text.len()));
        // A text has at most one token more than it has bytes.
        texts_room(meter, &[bytes.saturating_add(texts.len())], bytes)?;
        let mut rows = Vec::with_capacity(texts.len());
        for text in texts {
            rows.push(cut.tokens(text, shortest, meter)?);
        }
        let most = rows.iter().map(Vec::len).max().unwrap_or(0);
        if most == 0 {
            shape.push(0);
            return Ok(vec![Tensor::of(shape, Vec::<String>::new())?]);
        }
        shape.push(if mark { most + 2 } else { most });
        let padding = rows.iter().map(|row| most - row.len()).fold(0_usize, usize::saturating_add);
        texts_room(meter, &shape, bytes.saturating_add(padding.saturating_mul(pad.len())))?;
        let edge = |text: &'static str| mark.then_some(text).into_iter();
        let all = rows.iter().flat_map(|row| {
            let tokens = edge(START).chain(row.iter().copied()).chain(edge(END));
            tokens.chain(std::iter::repeat_n(pad.as_str(), most - row.len()))
        });
        Ok(vec![Tensor::of(shape, all.map(str::to_owned).collect::<Vec<String>>())?])
    }))
}

impl Cut {
    fn tokens<'t>(&self, text: &'t str, shortest: usize, meter: &mut Meter) -> Result<Vec<&'t str>, Problem> {
        let long_enough = |token: &str| token.chars().take(shortest).count() == shortest;
        let mut tokens = Vec::new();
        match self {
            Self::Characters => {
                tokens.extend(text.char_indices().filter_map(|(at, c)| text.get(at..at + c.len_utf8())));
            }
            Self::Separators(automata) => {
                let mut parts = vec![text];
                for automaton in automata {
                    for part in std::mem::take(&mut parts) {
                        let mut start = 0;
                        while let Some((begin, end)) = leftmost_longest(automaton, part, start, meter)? {
                            parts.extend(part.get(start..begin).filter(|token| long_enough(token)));
                            start = end;
                        }
                        parts.extend(part.get(start..).filter(|token| long_enough(token)));
                    }
                }
                tokens = parts;
            }
            Self::Tokens(automaton) => {
                let mut start = 0;
                while let Some((begin, end)) = leftmost_longest(automaton, text, start, meter)? {
                    let token = text.get(begin..end).unwrap_or_default();
                    if long_enough(token) {
                        tokens.push(token);
                        start = end;
                        continue;
                    }
                    // Too short a match is tried again behind its first character.
                    let Some(c) = text.get(begin..).and_then(|rest| rest.chars().next()) else { break };
                    start = begin + c.len_utf8();
                }
            }
        }
        Ok(tokens)
    }
}
