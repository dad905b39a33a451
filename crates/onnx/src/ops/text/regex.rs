//! Searching texts with the automata of a node's expressions.

use lockgate_automaton::Automaton;

use crate::expressions::AUTOMATA;
use crate::{Build, Meter, Problem};

pub(super) const LIMITS: &str = "expressions with Unicode classes (\\p{…}), letters beyond ASCII in (?i), sets within sets, \\C; large expressions";

const PACKAGE_AGAIN: &str = "package the model again";

/// The automata of a node, one for each of its `count` expressions.
///
/// # Errors
/// There are none, as in plans of older versions, or what is there is damaged.
pub(super) fn automata(build: &Build<'_>, count: usize) -> Result<Vec<Automaton>, Problem> {
    let Some(tables) = build.attributes.tensor(AUTOMATA)? else {
        let message = "the automaton of its expression is missing, as it is in packages of older versions; package the model again";
        return Err(Problem::unsupported(message, PACKAGE_AGAIN));
    };
    let damaged = |message: String| Problem::attribute(AUTOMATA, message, PACKAGE_AGAIN);
    let mut rest = tables.elements::<u8>()?;
    let mut automata = Vec::new();
    for index in 0..count {
        let (automaton, after) = Automaton::read(rest)
            .map_err(|damage| damaged(format!("automaton {index} is damaged: {damage}")))?;
        automata.push(automaton);
        rest = after;
    }
    if !rest.is_empty() {
        return Err(damaged(format!("{} bytes stand behind the last automaton", rest.len())));
    }
    Ok(automata)
}

/// The automaton of a node that has one expression.
///
/// # Errors
/// As for [`automata`].
pub(super) fn automaton(build: &Build<'_>) -> Result<Automaton, Problem> {
    automata(build, 1)?.pop().ok_or_else(|| Problem::invalid("the node has no automaton"))
}

/// The end of the longest match that begins at `start`.
pub(super) fn longest(
    automaton: &Automaton,
    text: &str,
    start: usize,
    meter: &mut Meter,
) -> Result<Option<usize>, Problem> {
    let (end, steps) = automaton.longest(text.as_bytes(), start);
    meter.work(u64::try_from(steps).unwrap_or(u64::MAX).saturating_add(1))?;
    Ok(end)
}

/// The first match that begins at `start` or later, and of these the longest.
pub(super) fn leftmost_longest(
    automaton: &Automaton,
    text: &str,
    start: usize,
    meter: &mut Meter,
) -> Result<Option<(usize, usize)>, Problem> {
    let rest = text.get(start..).unwrap_or_default();
    let begins = rest.char_indices().map(|(at, _)| start + at).chain([text.len()]);
    for begin in begins {
        if let Some(end) = longest(automaton, text, begin, meter)? {
            return Ok(Some((begin, end)));
        }
    }
    Ok(None)
}
