use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::source::Position;

/// One thing that is wrong with a policy source, or that looks wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Diagnostic {
    /// The line, counted from 1.
    pub line: u32,
    /// The column, counted in characters from 1.
    pub column: u32,
    /// The file, as the caller named it.
    pub file: String,
    /// The place within the document, `routes.eurusd-direction.default.split`; empty for the whole document.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What belongs there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// How much it matters.
    pub severity: Severity,
    /// A stable name for this kind of warning, `never-matches`. Errors have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// How much a diagnostic matters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The policy cannot be used.
    #[default]
    Error,
    /// The policy can be used, but hardly does what its author meant.
    Warning,
}

impl Diagnostic {
    /// An error at a place; an empty path means the document as a whole.
    pub(crate) fn error(file: &str, position: Position, path: String, message: impl Into<String>) -> Self {
        let Position { line, column } = position;
        Self {
            line,
            column,
            file: file.to_owned(),
            path,
            message: message.into(),
            expected: None,
            hint: None,
            severity: Severity::Error,
            code: None,
        }
    }

    /// What concerns the document as a whole.
    pub(crate) fn of_document(file: &str, message: impl Into<String>) -> Self {
        Self::error(file, Position::START, String::new(), message)
    }
}

/// Each of its texts on one line, with control characters as escapes: names and values in them come from outside.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, severity, code, .. } = self;
        let text = |text: &str| escaped(text, is_hidden).into_owned();
        let [file, path, message] = [&self.file, &self.path, &self.message].map(|field| text(field));
        let [expected, hint] = [&self.expected, &self.hint].map(|field| field.as_deref().map(text));
        write!(f, "{file}:{line}:{column}: ")?;
        if *severity == Severity::Warning {
            write!(f, "warning[{}]: ", code.as_deref().unwrap_or("warning"))?;
        }
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        f.write_str(&message)?;
        if let Some(expected) = expected {
            write!(f, "\n  expected: {expected}")?;
        }
        if let Some(hint) = hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a policy source, in the order of the file. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// `Ok` when there are none.
    pub(crate) fn check(mut list: Vec<Diagnostic>) -> Result<(), Self> {
        if list.is_empty() {
            return Ok(());
        }
        list.sort();
        list.dedup();
        Err(Self { list })
    }

    /// The diagnostics.
    pub fn as_slice(&self) -> &[Diagnostic] {
        &self.list
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { list: vec![diagnostic] }
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// A text for people to see: control characters but line feeds and tabs, and characters that reorder what is around them, become escapes such as
/// `\u{1b}`, so that what comes from outside cannot steer a terminal.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_hidden(c) && !matches!(c, '\n' | '\t'))
}

/// What a terminal does not show but obeys.
fn is_hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, is_meant: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&is_meant) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_meant(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Appends a key to a place within a document, `routes."eur/usd"`.
pub(crate) fn write_key(out: &mut impl fmt::Write, first: bool, key: &str) -> fmt::Result {
    if !first {
        out.write_char('.')?;
    }
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if plain { out.write_str(key) } else { write!(out, "{key:?}") }
}

/// The names in backticks, for a message: all of a few, the first of many.
pub(crate) fn list_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let mut names = names.into_iter();
    let mut text: Vec<String> = names.by_ref().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let more = names.count();
    if more > 0 {
        text.push(format!("and {more} more"));
    }
    text.join(", ")
}

/// "did you mean …?" for the candidate that `found` most likely misspells.
pub(crate) fn suggestion<'a>(found: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(found, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// The candidate that `found` most likely misspells.
pub(crate) fn nearest<'a>(found: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = found.chars().count();
    // In one or two letters every other name would be a slip of the pen.
    let tolerance = (length / 3).min(3);
    candidates
        .into_iter()
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= tolerance)
        .map(|candidate| (strsim::damerau_levenshtein(found, candidate), candidate))
        .filter(|(distance, _)| *distance <= tolerance)
        .min()
        .map(|(_, candidate)| candidate)
}
