//! `TfIdfVectorizer`: how often runs of words occur.

use std::collections::BTreeMap;

use crate::operator::required;
use crate::{Build, Data, Kernel, Problem, Tensor};

pub(super) const ATTRIBUTES: &[&str] = &[
    "max_gram_length",
    "max_skip_count",
    "min_gram_length",
    "mode",
    "ngram_counts",
    "ngram_indexes",
    "pool_int64s",
    "pool_strings",
    "weights",
];

const EXPORT_AGAIN: &str = "export the model again";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Count,
    Presence,
    CountTimesWeight,
}

/// Words of the pool by number.
enum Words {
    Texts(BTreeMap<String, usize>),
    Integers(BTreeMap<i64, usize>),
}

/// Runs of words as a tree: from a run and one more word to the longer run. The empty run is 0.
#[derive(Default)]
struct Runs {
    longer: BTreeMap<(usize, usize), usize>,
    /// The column of each run that is counted, and its weight.
    counted: Vec<Option<(usize, f32)>>,
}

impl Runs {
    /// Whether the run is new.
    fn insert(&mut self, words: &[usize], column: usize, weight: f32) -> bool {
        let mut run = 0;
        for &word in words {
            let next = self.counted.len();
            run = *self.longer.entry((run, word)).or_insert(next);
            if run == next {
                self.counted.push(None);
            }
        }
        self.counted.get_mut(run).is_some_and(|place| place.replace((column, weight)).is_none())
    }
}

struct Vectorizer {
    mode: Mode,
    words: Words,
    runs: Runs,
    shortest: usize,
    longest: usize,
    skips: usize,
    columns: usize,
}

fn number(build: &Build<'_>, name: &str) -> Result<usize, Problem> {
    let number = build.attributes.int(name)?;
    number
        .and_then(|number| usize::try_from(number).ok())
        .ok_or_else(|| Problem::attribute(name, format!("expected a number, found {number:?}"), EXPORT_AGAIN))
}

/// Counts runs of `min_gram_length` to `max_gram_length` words, neighbours or with 1 to `max_skip_count` words left out between each two. Weights belong
/// to runs. Where several runs share a column, their counts and weighted counts are added; of weights alone, that of the run found last stays.
pub(super) fn tfidf_vectorizer(build: &Build<'_>) -> Result<Kernel, Problem> {
    let a = &build.attributes;
    let mode = match a.text_or("mode", "")? {
        "TF" => Mode::Count,
        "IDF" => Mode::Presence,
        "TFIDF" => Mode::CountTimesWeight,
        other => {
            let message = format!("expected TF, IDF or TFIDF, found `{other}`");
            return Err(Problem::attribute("mode", message, EXPORT_AGAIN));
        }
    };
    let vectorizer = read(build, mode)?;
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let (shape, rows, width) = match *x.shape() {
            [] => (vec![vectorizer.columns], 1, 1),
            [width] => (vec![vectorizer.columns], 1, width),
            [rows, width] => (vec![rows, vectorizer.columns], rows, width),
            ref shape => {
                let message = format!("expected rows of words, found the shape {shape:?}");
                return Err(Problem::invalid(message));
            }
        };
        let mut counts = vec![0.0_f32; meter.room(&shape, size_of::<f32>())?];
        meter.room(x.shape(), 2 * crate::meter::PLACE)?;
        let words = vectorizer.numbered(x)?;
        let steps = vectorizer.longest.saturating_mul(vectorizer.skips.min(width).saturating_add(1));
        meter.work(u64::try_from(rows.saturating_mul(width).saturating_mul(steps)).unwrap_or(u64::MAX))?;
        for (row, counts) in words.chunks(width.max(1)).zip(counts.chunks_exact_mut(vectorizer.columns)) {
            vectorizer.count(row, counts);
        }
        Ok(vec![Tensor::of(shape, counts)?])
    }))
}

/// What is counted.
fn read(build: &Build<'_>, mode: Mode) -> Result<Vectorizer, Problem> {
    let a = &build.attributes;
    let (shortest, longest) = (number(build, "min_gram_length")?, number(build, "max_gram_length")?);
    let skips = number(build, "max_skip_count")?;
    let starts = a.ints("ngram_counts")?.unwrap_or_default();
    if shortest == 0 || shortest > longest || longest > starts.len() {
        let message = format!("runs of {shortest} to {longest} words are not among {} lengths", starts.len());
        return Err(Problem::attribute("max_gram_length", message, EXPORT_AGAIN));
    }
    let indexes = a.ints("ngram_indexes")?.unwrap_or_default();
    let indexes = indexes
        .iter()
        .map(|&index| usize::try_from(index).ok().filter(|&index| index < usize::MAX))
        .collect::<Option<Vec<usize>>>()
        .filter(|indexes| !indexes.is_empty());
    let indexes = indexes
        .ok_or_else(|| Problem::attribute("ngram_indexes", "expected columns of the result", EXPORT_AGAIN))?;
    let columns = indexes.iter().max().map_or(0, |most| most + 1);
    let weights = a.floats("weights")?;
    if let Some(weights) = weights.filter(|weights| weights.len() != indexes.len()) {
        let message = format!("expected {} numbers, found {}", indexes.len(), weights.len());
        return Err(Problem::attribute("weights", message, EXPORT_AGAIN));
    }
    let (words, pool) = match (a.texts("pool_strings")?, a.ints("pool_int64s")?) {
        (Some(texts), None) if !texts.is_empty() => {
            let (table, pool) = dictionary(texts);
            (Words::Texts(table), pool)
        }
        (None, Some(integers)) if !integers.is_empty() => {
            let (table, pool) = dictionary(integers);
            (Words::Integers(table), pool)
        }
        _ => {
            let message = "expected texts or integers as words";
            return Err(Problem::attribute("pool_strings", message, EXPORT_AGAIN));
        }
    };
    let mut runs = Runs { counted: vec![None], ..Runs::default() };
    let mut indexes = indexes.into_iter().enumerate();
    let bounds = starts.iter().map(|&start| usize::try_from(start).unwrap_or(usize::MAX));
    let ends = bounds.clone().skip(1).chain([pool.len()]);
    for (len, (start, end)) in (1_usize..).zip(bounds.zip(ends)) {
        let part = pool.get(start..end).filter(|part| part.len().is_multiple_of(len));
        let Some(part) = part else {
            let message = format!("{start} to {end} do not hold whole runs of {len} words");
            return Err(Problem::attribute("ngram_counts", message, EXPORT_AGAIN));
        };
        for run in part.chunks_exact(len) {
            let (number, column) = indexes.next().ok_or_else(|| {
                Problem::attribute("ngram_indexes", "there are fewer columns than runs", EXPORT_AGAIN)
            })?;
            let weight = weights.and_then(|weights| weights.get(number)).copied().unwrap_or(1.0);
            if (shortest..=longest).contains(&len) && !runs.insert(run, column, weight) {
                return Err(Problem::attribute("pool_strings", "a run is listed twice", EXPORT_AGAIN));
            }
        }
    }
    Ok(Vectorizer { mode, words, runs, shortest, longest, skips, columns })
}

/// Numbers for words, and the words as numbers.
fn dictionary<T: Ord + Clone>(words: &[T]) -> (BTreeMap<T, usize>, Vec<usize>) {
    let mut table = BTreeMap::new();
    let mut pool = Vec::with_capacity(words.len());
    for word in words {
        let next = table.len();
        pool.push(*table.entry(word.clone()).or_insert(next));
    }
    (table, pool)
}

impl Vectorizer {
    /// The words as numbers; those that are not in the pool have none.
    fn numbered(&self, x: &Tensor) -> Result<Vec<Option<usize>>, Problem> {
        match (&self.words, x.data()) {
            (Words::Texts(table), Data::Text(all)) => {
                Ok(all.iter().map(|word| table.get(word).copied()).collect())
            }
            (Words::Integers(table), data) if data.kind() != crate::Kind::Text => {
                Ok(x.integers()?.iter().map(|word| table.get(word).copied()).collect())
            }
            (_, data) => Err(Problem::invalid(format!("the model has no words of the kind {}", data.kind()))),
        }
    }

    fn count(&self, words: &[Option<usize>], counts: &mut [f32]) {
        for distance in 1..=self.skips.min(words.len()).saturating_add(1) {
            // Single words know no distance and are counted once.
            let shortest = if distance == 1 { self.shortest } else { self.shortest.max(2) };
            for start in 0..words.len() {
                self.runs_from(words, start, distance, shortest, counts);
            }
        }
    }

    /// Counts the runs of at least `shortest` words that begin at `start`.
    fn runs_from(
        &self,
        words: &[Option<usize>],
        start: usize,
        distance: usize,
        shortest: usize,
        counts: &mut [f32],
    ) {
        let mut run = 0;
        let picked = words.iter().skip(start).step_by(distance).take(self.longest);
        for (len, word) in (1_usize..).zip(picked) {
            let Some(&next) = word.and_then(|word| self.runs.longer.get(&(run, word))) else { return };
            run = next;
            let counted = self.runs.counted.get(run).copied().flatten().filter(|_| len >= shortest);
            let Some((column, weight)) = counted else { continue };
            let Some(count) = counts.get_mut(column) else { continue };
            match self.mode {
                Mode::Count => *count += 1.0,
                Mode::Presence => *count = weight,
                Mode::CountTimesWeight => *count += weight,
            }
        }
    }
}
