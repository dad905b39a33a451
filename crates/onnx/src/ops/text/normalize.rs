//! `StringNormalizer`: case changed, stop words left out.

use std::collections::BTreeSet;

use super::texts_room;
use crate::operator::required;
use crate::{Build, Kernel, Problem, Tensor};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Keep,
    Lower,
    Upper,
}

/// Texts with the case changed, without those that are stop words. When nothing is left, one empty text is.
pub(super) fn string_normalizer(build: &Build<'_>) -> Result<Kernel, Problem> {
    let a = &build.attributes;
    let case = match a.text_or("case_change_action", "NONE")? {
        "NONE" => Case::Keep,
        "LOWER" => Case::Lower,
        "UPPER" => Case::Upper,
        other => {
            let message = format!("expected NONE, LOWER or UPPER, found `{other}`");
            return Err(Problem::attribute("case_change_action", message, "export the model again"));
        }
    };
    let locale = a.text_or("locale", "en_US.UTF-8")?;
    let language = locale.split(['_', '-', '.']).next().unwrap_or_default();
    if matches!(language, "az" | "crh" | "tr" | "tt") {
        let message = format!("`{locale}` has letters whose cases differ from those of other languages");
        return Err(Problem::attribute("locale", message, "change the case before the request is sent"));
    }
    let ascii = matches!(locale, "C" | "POSIX");
    let compare = match (a.flag("is_case_sensitive", false)?, case) {
        (true, _) => Case::Keep,
        (false, Case::Upper) => Case::Upper,
        (false, _) => Case::Lower,
    };
    let stop = a.texts("stopwords")?.unwrap_or_default();
    let stop: BTreeSet<String> = stop.iter().map(|word| changed(word, compare, ascii)).collect();
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let rank = match *x.shape() {
            [_] => 1,
            [1, _] => 2,
            ref shape => {
                let message = format!("expected one row of texts, found the shape {shape:?}");
                return Err(Problem::invalid(message));
            }
        };
        let texts = x.elements::<String>()?;
        // A letter in the other case takes at most three bytes instead of one.
        let bytes = texts.iter().fold(0_usize, |sum, text| sum.saturating_add(text.len()));
        texts_room(meter, x.shape(), bytes.saturating_mul(3))?;
        let left =
            texts.iter().filter(|text| stop.is_empty() || !stop.contains(&changed(text, compare, ascii)));
        let mut left: Vec<String> = left.map(|text| changed(text, case, ascii)).collect();
        if left.is_empty() {
            left.push(String::new());
        }
        let shape = if rank == 1 { vec![left.len()] } else { vec![1, left.len()] };
        Ok(vec![Tensor::of(shape, left)?])
    }))
}

/// Letter by letter, as in C: a letter whose other case is several letters stays, unless Unicode has a single one for it as well.
fn changed(text: &str, case: Case, ascii: bool) -> String {
    match (case, ascii) {
        (Case::Keep, _) => text.to_owned(),
        (Case::Lower, true) => text.to_ascii_lowercase(),
        (Case::Upper, true) => text.to_ascii_uppercase(),
        (Case::Lower, false) => text.chars().map(lower).collect(),
        (Case::Upper, false) => text.chars().map(upper).collect(),
    }
}

fn lower(c: char) -> char {
    if c == '\u{130}' { 'i' } else { only(c.to_lowercase()).unwrap_or(c) }
}

fn upper(c: char) -> char {
    // Greek letters with a iota below.
    let distance = match u32::from(c) {
        0x1f80..=0x1f87 | 0x1f90..=0x1f97 | 0x1fa0..=0x1fa7 => 8,
        0x1fb3 | 0x1fc3 | 0x1ff3 => 9,
        _ => return only(c.to_uppercase()).unwrap_or(c),
    };
    char::from_u32(u32::from(c) + distance).unwrap_or(c)
}

fn only(mut letters: impl Iterator<Item = char>) -> Option<char> {
    letters.next().filter(|_| letters.next().is_none())
}
