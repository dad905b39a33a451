//! Texts.

use crate::operator::{ai, required};
use crate::shape::{broadcast, sources};
use crate::{Build, Data, Kernel, Meter, Operator, Problem, Tensor};

mod ngrams;
mod normalize;
mod regex;
#[cfg(test)]
mod tests;
mod tokenize;

pub(super) const TABLE: &[Operator] = &[
    ai("RegexFullMatch", 20, &["pattern"], full_match).but(regex::LIMITS),
    ai("StringConcat", 20, &[], concat),
    ai(
        "StringNormalizer",
        10,
        &["case_change_action", "is_case_sensitive", "locale", "stopwords"],
        normalize::string_normalizer,
    )
    .but("locales with an i of their own: Azerbaijani, Crimean Tatar, Tatar, Turkish"),
    ai("StringSplit", 20, &["delimiter", "maxsplit"], split),
    ai("TfIdfVectorizer", 9, ngrams::ATTRIBUTES, ngrams::tfidf_vectorizer),
    ai("Tokenizer", 1, &["mark", "mincharnum", "pad_value", "separators", "tokenexp"], tokenize::tokenizer)
        .of("com.microsoft")
        .but(tokenize::LIMITS),
];

/// Room for as many texts, and for what they hold together.
fn texts_room(meter: &mut Meter, shape: &[usize], bytes: usize) -> Result<(), Problem> {
    let texts = crate::shape::elements(shape).and_then(|count| count.checked_mul(crate::Kind::Text.size()));
    let bytes = texts.and_then(|texts| texts.checked_add(bytes)).unwrap_or(usize::MAX);
    meter.room(&[bytes], 1)?;
    meter.work(u64::try_from(bytes).unwrap_or(u64::MAX))
}

fn concat(_: &Build<'_>) -> Result<Kernel, Problem> {
    Ok(Box::new(|operands, meter| {
        let (left, right) = (required(operands, 0)?, required(operands, 1)?);
        let (lefts, rights) = (left.elements::<String>()?, right.elements::<String>()?);
        let shape = broadcast(&[left.shape(), right.shape()])?;
        texts_room(meter, &shape, 0)?;
        let pairs = || {
            let places = sources(left.shape(), &shape).zip(sources(right.shape(), &shape));
            places.filter_map(|(one, other)| Some((lefts.get(one)?, rights.get(other)?)))
        };
        let bytes = pairs().fold(0_usize, |sum, (one, other)| sum.saturating_add(one.len() + other.len()));
        texts_room(meter, &shape, bytes)?;
        let texts = pairs().map(|(one, other)| format!("{one}{other}")).collect::<Vec<String>>();
        Ok(vec![Tensor::of(shape, texts)?])
    }))
}

/// The parts between delimiters. Without a delimiter they stand between spaces, however many.
fn split(build: &Build<'_>) -> Result<Kernel, Problem> {
    let delimiter = build.attributes.text_or("delimiter", "")?.to_owned();
    // A negative number is no limit.
    let most = build.attributes.int("maxsplit")?.and_then(|most| usize::try_from(most).ok());
    let most = most.unwrap_or(usize::MAX - 1);
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let texts = x.elements::<String>()?;
        let bytes = texts.iter().fold(0_usize, |sum, text| sum.saturating_add(text.len()));
        // A text has at most one part more than it has bytes.
        texts_room(meter, &[bytes.saturating_add(texts.len())], bytes)?;
        let parts: Vec<Vec<&str>> = texts.iter().map(|text| parts(text, &delimiter, most)).collect();
        let mut shape = x.shape().to_vec();
        let longest = parts.iter().map(Vec::len).max().unwrap_or(0);
        shape.push(longest);
        texts_room(meter, &shape, bytes)?;
        let counts = parts.iter().map(|parts| i64::try_from(parts.len()).unwrap_or(i64::MAX)).collect();
        let all = parts.iter().flat_map(|parts| {
            let pad = longest - parts.len();
            parts.iter().map(|part| (*part).to_owned()).chain(std::iter::repeat_n(String::new(), pad))
        });
        let all = Tensor::of(shape, all.collect::<Vec<String>>())?;
        Ok(vec![all, Tensor::new(x.shape(), Data::I64(counts))?])
    }))
}

fn parts<'t>(text: &'t str, delimiter: &str, most: usize) -> Vec<&'t str> {
    if text.is_empty() {
        return Vec::new();
    }
    if !delimiter.is_empty() {
        return text.splitn(most.saturating_add(1), delimiter).collect();
    }
    let mut parts = Vec::new();
    let mut rest = text.trim_matches(' ');
    while !rest.is_empty() {
        match rest.split_once(' ') {
            Some((part, tail)) if parts.len() < most => {
                parts.push(part);
                rest = tail.trim_start_matches(' ');
            }
            _ => {
                parts.push(rest);
                break;
            }
        }
    }
    parts
}

/// Whether an expression matches a text from its beginning to its end.
fn full_match(build: &Build<'_>) -> Result<Kernel, Problem> {
    // What it says is in the automaton.
    build.attributes.text("pattern")?;
    let automaton = regex::automaton(build)?;
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        meter.room(x.shape(), size_of::<bool>())?;
        let mut found = Vec::with_capacity(x.len());
        for text in x.elements::<String>()? {
            found.push(regex::longest(&automaton, text, 0, meter)? == Some(text.len()));
        }
        Ok(vec![Tensor::of(x.shape(), found)?])
    }))
}
