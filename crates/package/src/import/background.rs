//! Rows that contributions are measured against.

use serde::{Deserialize, Serialize};

use super::error::problem;
use super::{Imported, ManifestProblem, ManifestSource};
use crate::plan::explain::Explanation;
use crate::plan::tabular::{Array, ArrayKind, Kind, Step, TabularPlan};

/// The most rows of a background.
pub const MOST_BACKGROUND: usize = 1000;

/// The manifest's field.
const FIELD: &str = "background";

/// A background as people give it: the name of a file, or its rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected the name of a file, or a list of rows of numbers and null")]
pub enum BackgroundSource {
    /// A file that holds the rows; the program that read the manifest reads it too.
    File(String),
    /// Rows of the input, all columns of all inputs one after the other; `None` is a missing value. No rows are no background.
    Rows(Vec<Vec<Option<f64>>>),
}

impl BackgroundSource {
    /// Whether nothing is measured against it.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Rows(rows) if rows.is_empty())
    }

    /// What makes no sense whatever the model is.
    pub(super) fn problems(&self, problems: &mut Vec<ManifestProblem>) {
        match self {
            Self::File(file) => problem(
                problems,
                FIELD,
                format!("the file `{file}` was not read"),
                "give the rows themselves, or package with the lockgate program, which reads the file",
            ),
            Self::Rows(rows) if rows.len() > MOST_BACKGROUND => problem(
                problems,
                FIELD,
                format!("it has {} rows, at most {MOST_BACKGROUND} are taken", rows.len()),
                "take a sample of them: 100 rows are often enough",
            ),
            Self::Rows(_) => {}
        }
    }
}

/// Puts the manifest's background into the plan.
pub(super) fn add(source: &ManifestSource, imported: &mut Imported, problems: &mut Vec<ManifestProblem>) {
    let Some(BackgroundSource::Rows(rows)) = &source.background else { return };
    let Some(first) = rows.first() else { return };
    let mut problem = |message: String, hint: &str| problem(problems, FIELD, message, hint);
    let Imported::Tabular(model) = imported else {
        let hint = "leave it out; contributions are for linear models and ensembles of trees";
        return problem("the model runs in the graph engine, which gives no contributions".to_owned(), hint);
    };
    let columns = model.plan.input_columns();
    let wrong = rows.iter().position(|row| u64::try_from(row.len()) != Ok(columns));
    if let Some(row) = wrong {
        let found = rows.get(row).map_or(0, Vec::len);
        let message = format!("row {row} has {found} numbers, the model's inputs have {columns} columns");
        return problem(message, "give each row all columns, in the order of the features");
    }
    let kinds: Vec<Kind> = inputs(&model.plan);
    let accepts_missing = source.accepts_missing.unwrap_or(model.accepts_missing);
    for (index, row) in rows.iter().enumerate() {
        for (column, (value, kind)) in row.iter().zip(&kinds).enumerate() {
            let fits = match (kind, value) {
                (Kind::F32, Some(value)) => (*value as f32).is_finite() || !value.is_finite(),
                (Kind::F64, Some(_)) => true,
                (Kind::F32 | Kind::F64, None) => accepts_missing,
                (Kind::I64, Some(value)) => value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0,
                (Kind::Bool, Some(value)) => *value == 0.0 || *value == 1.0,
                _ => false,
            };
            let missing = value.is_some_and(f64::is_nan) && !accepts_missing;
            if !fits || missing {
                let value = value.map_or_else(|| "null".to_owned(), |value| value.to_string());
                let message = format!("row {index}, column {column}: {value} is no value of this input");
                return problem(message, "send what a request could send there");
            }
        }
    }
    if let Err(unexplained) = explanation(&model.plan, &model.arrays) {
        let message = format!("the model gives no contributions: {}", unexplained.message);
        return problem(message, "leave the background out");
    }
    let numbers = rows.iter().flatten().map(|value| value.unwrap_or(f64::NAN));
    let is_narrow = |value: f64| value.is_nan() || f64::from(value as f32) == value;
    // Single precision holds what inputs of single precision can be; integers where they are small.
    let narrow = kinds.iter().all(|kind| *kind != Kind::F64)
        && rows.iter().all(|row| {
            row.iter().zip(&kinds).all(|(value, kind)| *kind == Kind::F32 || value.is_none_or(is_narrow))
        });
    let (kind, bytes): (_, Vec<u8>) = if narrow {
        (ArrayKind::F32, numbers.flat_map(|value| canonical(value as f32).to_le_bytes()).collect())
    } else {
        (ArrayKind::F64, numbers.flat_map(f64::to_le_bytes).collect())
    };
    let len = u64::try_from(first.len().saturating_mul(rows.len())).unwrap_or(u64::MAX);
    model.plan = model.plan.clone().with_background(Array { kind, len });
    model.arrays.push(bytes);
}

/// The ways in which a model explains itself by what its package carries.
pub(super) fn methods(imported: &Imported) -> Vec<String> {
    let Imported::Tabular(model) = imported else { return Vec::new() };
    let carries = |step: &Step| matches!(step, Step::Trees(trees) if trees.covers.is_some());
    if model.plan.background.is_none() && !model.plan.steps.iter().any(carries) {
        return Vec::new();
    }
    let methods = explanation(&model.plan, &model.arrays).and_then(|found| found.methods(&model.plan));
    methods.unwrap_or_default().into_iter().map(|method| method.name().to_owned()).collect()
}

/// Equal input gives equal bytes, whatever NaN the cast makes.
fn canonical(value: f32) -> f32 {
    if value.is_nan() { f32::NAN } else { value }
}

/// The kind of each column of all inputs.
fn inputs(plan: &TabularPlan) -> Vec<Kind> {
    let inputs = plan.values.iter().take(plan.inputs as usize);
    inputs.flat_map(|value| std::iter::repeat_n(value.kind, value.columns as usize)).collect()
}

fn explanation(
    plan: &TabularPlan,
    arrays: &[Vec<u8>],
) -> Result<Explanation, crate::plan::explain::Unexplained> {
    Explanation::of(plan, &|array| {
        let index = usize::try_from(array).ok()?;
        plan.arrays.get(index)?.numbers(arrays.get(index)?)
    })
}
