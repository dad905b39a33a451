//! The scaler beside a model: what people have next to a network is a file with means and scales, which the program that trained it
//! applied to its data. Here it becomes nodes in front of the model, so that requests bring raw numbers.
//!
//! Everything is computed in double precision and rounded once, to the precision of the model's input. scikit-learn does the same to
//! data in double precision; it rounds its means to single precision where the data are, which loses digits when a mean is large
//! beside its scale.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

use lockgate_onnx::Tensor;

use super::error::{ManifestProblem, problem};
use super::onnx::{Dimension, ElementType, OnnxModel, ValueInfo};
use super::rewrite::{Renamed, Rewriter};

/// A scaler, checked: what is done to each number of an input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scaler {
    /// Which one.
    pub kind: ScalerKind,
    /// The input, when the model has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// What is taken away before (`standard`, `robust`) or added behind (`min_max`); one number, or one per column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<Vec<f64>>,
    /// What is divided by (`standard`, `robust`) or multiplied with (`min_max`); one number, or one per column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Vec<f64>>,
    /// The bounds that the result is kept within.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<(f64, f64)>,
}

/// The kinds of scalers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScalerKind {
    /// (x − mean) / scale.
    Standard,
    /// x · scale + min.
    MinMax,
    /// (x − center) / scale.
    Robust,
}

impl ScalerKind {
    /// As the manifest source calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::MinMax => "min_max",
            Self::Robust => "robust",
        }
    }
}

/// A scaler as people give it: the name of a file, or its numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum ScalerSource {
    /// A file that holds the numbers; the program that read the manifest reads it too.
    File(String),
    /// The numbers.
    Numbers(Box<ScalerNumbers>),
}

/// One number or a list of them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected a number, a list of numbers, or null")]
pub enum Numbers {
    /// The same for every column.
    One(f64),
    /// One per column.
    Each(Vec<f64>),
}

/// The numbers of a scaler under the names of this project or of scikit-learn's attributes. The outer option says whether the key is
/// there, the inner one whether its value is `null`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScalerNumbers {
    #[serde(alias = "type", alias = "class")]
    kind: Option<String>,
    input: Option<String>,
    #[serde(alias = "mean_", deserialize_with = "given")]
    mean: Option<Option<Numbers>>,
    #[serde(alias = "scale_", alias = "std", alias = "std_", deserialize_with = "given")]
    scale: Option<Option<Numbers>>,
    #[serde(alias = "var_", alias = "variance", deserialize_with = "given")]
    var: Option<Option<Numbers>>,
    #[serde(alias = "center_", alias = "median", deserialize_with = "given")]
    center: Option<Option<Numbers>>,
    #[serde(alias = "min_", deserialize_with = "given")]
    min: Option<Option<Numbers>>,
    #[serde(deserialize_with = "given")]
    max: Option<Option<Numbers>>,
    #[serde(alias = "data_min_", deserialize_with = "given")]
    data_min: Option<Option<Numbers>>,
    #[serde(alias = "data_max_", deserialize_with = "given")]
    data_max: Option<Option<Numbers>>,
    feature_range: Option<(f64, f64)>,
    clip: Option<bool>,
    with_mean: Option<bool>,
    with_std: Option<bool>,
    with_centering: Option<bool>,
    with_scaling: Option<bool>,
    #[serde(alias = "n_features_in_")]
    n_features_in: Option<usize>,
    #[serde(alias = "feature_names_in_")]
    feature_names_in: Option<Vec<String>>,
    // How it was fitted; the numbers above say what came out.
    #[serde(alias = "n_samples_seen_")]
    n_samples_seen: Ignored,
    #[serde(alias = "data_range_")]
    data_range: Ignored,
    copy: Ignored,
    quantile_range: Ignored,
    unit_variance: Ignored,
}

/// A value that changes nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ignored;

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// Tells a key whose value is `null` from one that is not there.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Numbers>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl<'de> Deserialize<'de> for ScalerSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = ScalerSource;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a scaler's file, or its kind and numbers")
            }

            fn visit_str<E>(self, file: &str) -> Result<ScalerSource, E> {
                Ok(ScalerSource::File(file.to_owned()))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<ScalerSource, A::Error> {
                let numbers = ScalerNumbers::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(ScalerSource::Numbers(Box::new(numbers)))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for ScalerSource {
    /// The file's name, or the numbers as [`Scaler`] has them; what does not check is written as nothing.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::File(file) => serializer.serialize_str(file),
            Self::Numbers(numbers) => numbers.check(&[], &mut Vec::new()).serialize(serializer),
        }
    }
}

impl ScalerSource {
    /// The scaler, if it makes sense.
    pub(super) fn check(&self, features: &[&str], problems: &mut Vec<ManifestProblem>) -> Option<Scaler> {
        match self {
            Self::Numbers(numbers) => numbers.check(features, problems),
            Self::File(file) => {
                problem(
                    problems,
                    "scaler",
                    format!("the file `{file}` was not read"),
                    "give the numbers themselves, or package with the lockgate program, which reads the file",
                );
                None
            }
        }
    }
}

type Part = Option<Option<Numbers>>;

impl ScalerNumbers {
    fn check(&self, features: &[&str], problems: &mut Vec<ManifestProblem>) -> Option<Scaler> {
        let before = problems.len();
        let kind = self.kind(problems)?;
        let foreign: Vec<(&str, bool)> = match kind {
            ScalerKind::Standard => [self.keys_of_min_max(), self.keys_of_robust()].concat(),
            ScalerKind::MinMax => [self.keys_of_standard(), self.keys_of_robust()].concat(),
            ScalerKind::Robust => [self.keys_of_standard(), self.keys_of_min_max()].concat(),
        };
        for (key, _) in foreign.iter().filter(|(_, is_there)| *is_there) {
            problem(
                problems,
                &format!("scaler.{key}"),
                format!("a scaler of kind {} has no such part", kind.name()),
                "leave it out, or give the kind that it belongs to",
            );
        }
        let (offset, scale, clip) = match kind {
            ScalerKind::Standard => {
                let offset = part("mean", &self.mean, self.with_mean, "with_mean", problems);
                (offset, self.standard_scale(problems), None)
            }
            ScalerKind::Robust => {
                let offset = part("center", &self.center, self.with_centering, "with_centering", problems);
                let scale = part("scale", &self.scale, self.with_scaling, "with_scaling", problems);
                (offset, scale, None)
            }
            ScalerKind::MinMax => {
                let (offset, scale) = self.min_max(problems);
                (offset, scale, self.clipped(problems))
            }
        };
        if problems.len() == before && offset.is_none() && scale.is_none() {
            problem(
                problems,
                "scaler",
                "it neither moves nor scales anything".to_owned(),
                "leave it out of the manifest",
            );
        }
        let scaler = Scaler { kind, input: self.input.clone(), offset, scale, clip };
        self.check_numbers(&scaler, features, problems);
        (problems.len() == before).then_some(scaler)
    }

    fn keys_of_standard(&self) -> Vec<(&'static str, bool)> {
        vec![
            ("mean", self.mean.is_some()),
            ("var", self.var.is_some()),
            ("with_mean", self.with_mean.is_some()),
            ("with_std", self.with_std.is_some()),
        ]
    }

    fn keys_of_min_max(&self) -> Vec<(&'static str, bool)> {
        vec![
            ("min", self.min.is_some()),
            ("max", self.max.is_some()),
            ("data_min", self.data_min.is_some()),
            ("data_max", self.data_max.is_some()),
            ("feature_range", self.feature_range.is_some()),
            ("clip", self.clip.is_some()),
        ]
    }

    fn keys_of_robust(&self) -> Vec<(&'static str, bool)> {
        vec![
            ("center", self.center.is_some()),
            ("with_centering", self.with_centering.is_some()),
            ("with_scaling", self.with_scaling.is_some()),
        ]
    }

    /// The kind as it is named, or the only one whose parts are there.
    fn kind(&self, problems: &mut Vec<ManifestProblem>) -> Option<ScalerKind> {
        if let Some(name) = &self.kind {
            let plain: String =
                name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
            let kind = match plain.strip_suffix("scaler").unwrap_or(&plain) {
                "standard" => Some(ScalerKind::Standard),
                "minmax" => Some(ScalerKind::MinMax),
                "robust" => Some(ScalerKind::Robust),
                _ => None,
            };
            if kind.is_none() {
                let message = format!("expected standard, min_max or robust, found `{name}`");
                problem(problems, "scaler.kind", message, "put other scalers into the exported model");
            }
            return kind;
        }
        let any = |keys: Vec<(&str, bool)>| keys.iter().any(|(_, is_there)| *is_there);
        let kinds = [
            (any(self.keys_of_standard()), ScalerKind::Standard),
            (any(self.keys_of_min_max()), ScalerKind::MinMax),
            (any(self.keys_of_robust()), ScalerKind::Robust),
        ];
        let mut found = kinds.iter().filter(|(is_there, _)| *is_there).map(|(_, kind)| *kind);
        match (found.next(), found.next()) {
            (Some(kind), None) => Some(kind),
            _ => {
                problem(
                    problems,
                    "scaler.kind",
                    "it is missing, and the other keys do not tell the kind".to_owned(),
                    "give kind: standard, min_max or robust",
                );
                None
            }
        }
    }

    fn standard_scale(&self, problems: &mut Vec<ManifestProblem>) -> Option<Vec<f64>> {
        let var = match (&self.scale, &self.var) {
            (None, Some(Some(var))) if self.with_std != Some(false) => var,
            _ => return part("scale", &self.scale, self.with_std, "with_std", problems),
        };
        let mut scale = Vec::new();
        for (index, &var) in var.as_slice().iter().enumerate() {
            if var < 0.0 || !var.is_finite() {
                let message = format!("{var} is no variance");
                problem(problems, &format!("scaler.var[{index}]"), message, "give finite numbers, 0 or more");
            }
            // As scikit-learn treats a column that never changed.
            scale.push(if var == 0.0 { 1.0 } else { var.sqrt() });
        }
        Some(scale)
    }

    /// min and scale of x · scale + min.
    fn min_max(&self, problems: &mut Vec<ManifestProblem>) -> (Option<Vec<f64>>, Option<Vec<f64>>) {
        // Beside a scale, `min` is what is added; beside a `max`, both are what the data were.
        let min_is_of_data = self.scale.is_none() && self.max.is_some();
        let low = if min_is_of_data { &self.min } else { &self.data_min };
        let high = if min_is_of_data { &self.max } else { &self.data_max };
        let from_data = match (low, high) {
            (Some(Some(low)), Some(Some(high))) => Some(of_data(
                low.as_slice(),
                high.as_slice(),
                self.feature_range.unwrap_or((0.0, 1.0)),
                problems,
            )),
            _ => None,
        };
        if self.max.is_some() && !min_is_of_data {
            problem(
                problems,
                "scaler.max",
                "it says nothing beside `scale`".to_owned(),
                "give `min` and `scale`, or `data_min` and `data_max`",
            );
        }
        if let (Some(Some(min)), Some(Some(scale)), false) = (&self.min, &self.scale, min_is_of_data) {
            let (min, scale) = (min.as_slice().to_vec(), scale.as_slice().to_vec());
            let differs = |a: &[f64], b: &[f64]| {
                a.len() != b.len() || a.iter().zip(b).any(|(a, b)| (a - b).abs() > 1e-6 * b.abs().max(1.0))
            };
            if let Some((of_min, of_scale)) = &from_data
                && (differs(of_min, &min) || differs(of_scale, &scale))
            {
                problem(
                    problems,
                    "scaler",
                    "`min` and `scale` are not those of `data_min`, `data_max` and `feature_range`"
                        .to_owned(),
                    "give one of the two forms",
                );
            }
            return (Some(min), Some(scale));
        }
        match from_data {
            Some((min, scale)) if self.scale.is_none() => (Some(min), Some(scale)),
            _ => {
                problem(
                    problems,
                    "scaler",
                    "the numbers of a min_max scaler are not complete".to_owned(),
                    "give `min` and `scale` (x · scale + min), or `data_min` and `data_max`",
                );
                (None, None)
            }
        }
    }

    fn clipped(&self, problems: &mut Vec<ManifestProblem>) -> Option<(f64, f64)> {
        let range = self.feature_range.unwrap_or((0.0, 1.0));
        if range.0.partial_cmp(&range.1) != Some(std::cmp::Ordering::Less)
            || !range.0.is_finite()
            || !range.1.is_finite()
        {
            let message = format!("[{}, {}] is no range", range.0, range.1);
            problem(problems, "scaler.feature_range", message, "give the lower number first");
        }
        (self.clip == Some(true)).then_some(range)
    }

    fn check_numbers(&self, scaler: &Scaler, features: &[&str], problems: &mut Vec<ManifestProblem>) {
        let (offset, scale) = match scaler.kind {
            ScalerKind::Standard => ("mean", "scale"),
            ScalerKind::Robust => ("center", "scale"),
            ScalerKind::MinMax => ("min", "scale"),
        };
        let parts = [(offset, &scaler.offset), (scale, &scaler.scale)];
        for (name, numbers) in parts {
            for (index, number) in numbers.iter().flatten().enumerate() {
                let feature = match features.get(index).or(self.name_of(index).as_ref()) {
                    Some(feature) => format!(" (feature `{feature}`)"),
                    None => String::new(),
                };
                if !number.is_finite() {
                    let message = format!("{number} is not a finite number{feature}");
                    problem(problems, &format!("scaler.{name}[{index}]"), message, "fit the scaler again");
                } else if *number == 0.0 && name == scale {
                    let message = format!("a scale of 0 has no meaning{feature}");
                    let hint = "use 1 for a column that never changed in training, as scikit-learn does";
                    problem(problems, &format!("scaler.{name}[{index}]"), message, hint);
                }
            }
            if numbers.as_ref().is_some_and(Vec::is_empty) {
                let message = "it is empty".to_owned();
                problem(problems, &format!("scaler.{name}"), message, "give one number per column");
            }
        }
        let columns = scaler.columns();
        let lengths: Vec<usize> =
            parts.iter().filter_map(|(_, numbers)| Some(numbers.as_ref()?.len())).collect();
        if lengths.iter().any(|&len| len != 1 && len != columns) {
            let message = format!("its parts have different lengths, {lengths:?}");
            problem(problems, "scaler", message, "give each part one number per column");
        }
        let fitted = self.n_features_in.filter(|&fitted| columns > 1 && fitted != columns);
        if let Some(fitted) = fitted {
            let message = format!("it is {fitted}, and there are numbers for {columns} columns");
            problem(problems, "scaler.n_features_in", message, "write the scaler's file again");
        }
        if let Some(names) = &self.feature_names_in
            && !features.is_empty()
            && !names.iter().eq(features.iter())
        {
            let at = names.iter().zip(features).position(|(name, feature)| name != feature);
            let message = match at {
                Some(at) => format!(
                    "column {at} is `{}`, and the manifest's features call it `{}`",
                    names.get(at).map_or("", String::as_str),
                    features.get(at).copied().unwrap_or_default()
                ),
                None => format!("it names {} columns, the manifest {}", names.len(), features.len()),
            };
            problem(
                problems,
                "scaler.feature_names_in",
                message,
                "the scaler must have been fitted on the model's columns, in their order",
            );
        }
    }

    fn name_of(&self, index: usize) -> Option<&str> {
        self.feature_names_in.as_ref()?.get(index).map(String::as_str)
    }
}

impl Numbers {
    fn as_slice(&self) -> &[f64] {
        match self {
            Self::One(number) => std::slice::from_ref(number),
            Self::Each(numbers) => numbers,
        }
    }
}

/// A part that may have been switched off: `null`, or a flag that says so.
fn part(
    name: &str,
    value: &Part,
    flag: Option<bool>,
    flag_name: &str,
    problems: &mut Vec<ManifestProblem>,
) -> Option<Vec<f64>> {
    match (value, flag) {
        (_, Some(false)) => None,
        (Some(Some(numbers)), _) => Some(numbers.as_slice().to_vec()),
        (Some(None), None) => None,
        (None | Some(None), _) => {
            let message = "it is missing".to_owned();
            let hint =
                format!("give one number per column, or null where it was switched off ({flag_name}=False)");
            problem(problems, &format!("scaler.{name}"), message, &hint);
            None
        }
    }
}

/// min and scale from what the data were. A column that never changed is not scaled, as in scikit-learn.
fn of_data(
    low: &[f64],
    high: &[f64],
    range: (f64, f64),
    problems: &mut Vec<ManifestProblem>,
) -> (Vec<f64>, Vec<f64>) {
    if low.len() != high.len() {
        let message = format!("there are {} smallest numbers and {} greatest", low.len(), high.len());
        problem(problems, "scaler", message, "give both for every column");
    }
    let (mut min, mut scale) = (Vec::new(), Vec::new());
    for (index, (&low, &high)) in low.iter().zip(high).enumerate() {
        if low > high {
            let message = format!("column {index}: the smallest number, {low}, is greater than {high}");
            problem(problems, "scaler", message, "exchange them");
        }
        let width = high - low;
        let factor = (range.1 - range.0) / if width == 0.0 { 1.0 } else { width };
        scale.push(factor);
        min.push(range.0 - low * factor);
    }
    (min, scale)
}

impl Scaler {
    /// How many columns it was fitted on; 1 when it treats all alike.
    pub fn columns(&self) -> usize {
        let len = |part: &Option<Vec<f64>>| part.as_ref().map_or(1, Vec::len);
        len(&self.offset).max(len(&self.scale))
    }

    /// The numbers for some of its columns.
    fn slice(&self, first: usize, count: usize) -> Self {
        let cut = |part: &Option<Vec<f64>>| {
            let part = part.as_ref()?;
            Some(if part.len() == 1 { part.clone() } else { part.get(first..first + count)?.to_vec() })
        };
        Self { offset: cut(&self.offset), scale: cut(&self.scale), ..self.clone() }
    }

    /// Puts the scaler in front of a model.
    pub(super) fn apply(&self, model: &mut OnnxModel, problems: &mut Vec<ManifestProblem>) -> Vec<Renamed> {
        let Some(inputs) = self.inputs(model, problems) else {
            return Vec::new();
        };
        let mut renamed = Vec::new();
        let mut rewriter = Rewriter::new(model);
        for (position, scaler) in inputs {
            renamed.extend(scaler.apply_to(&mut rewriter, position, problems));
        }
        rewriter.nodes_go_first();
        renamed
    }

    /// The inputs that are scaled, each with its numbers.
    fn inputs(&self, model: &OnnxModel, problems: &mut Vec<ManifestProblem>) -> Option<Vec<(usize, Self)>> {
        let names = || {
            let names: Vec<String> = model.inputs.iter().map(|input| format!("`{}`", input.name)).collect();
            names.join(", ")
        };
        if let Some(wanted) = &self.input {
            let position = model.inputs.iter().position(|input| input.name == *wanted);
            if position.is_none() {
                let message = format!("the model has no input `{wanted}`; its inputs are {}", names());
                problem(problems, "scaler.input", message, "give the name of the input that is scaled");
            }
            return position.map(|position| vec![(position, self.clone())]);
        }
        if model.inputs.len() == 1 {
            return Some(vec![(0, self.clone())]);
        }
        // As with the features: the columns of all inputs, one after the other.
        let widths: Option<Vec<usize>> = model.inputs.iter().map(width).collect();
        match widths {
            Some(widths) if widths.iter().sum::<usize>() == self.columns() => {
                let mut first = 0;
                let parts = widths.iter().enumerate().map(|(position, &count)| {
                    let part = (position, self.slice(first, count));
                    first += count;
                    part
                });
                Some(parts.collect())
            }
            _ => {
                let message = format!("the model has the inputs {}", names());
                let hint = "name the input that is scaled as scaler.input, or give numbers for all columns";
                problem(problems, "scaler", message, hint);
                None
            }
        }
    }

    fn apply_to(
        &self,
        rewriter: &mut Rewriter<'_>,
        position: usize,
        problems: &mut Vec<ManifestProblem>,
    ) -> Option<Renamed> {
        let columns = self.columns();
        let input = rewriter.model.inputs.get_mut(position)?;
        let name = input.name.clone();
        let mut refuse = |message: String, hint: &str| {
            problem(problems, "scaler", format!("input `{name}` {message}"), hint);
            None
        };
        let element = match input.element {
            Some(
                element @ (ElementType::Float
                | ElementType::Double
                | ElementType::Float16
                | ElementType::Bfloat16),
            ) => element,
            other => {
                let other = other.map_or_else(|| "no tensor".to_owned(), |element| element.to_string());
                return refuse(
                    format!("is {other}, and what a scaler gives are fractions"),
                    "export the model with a float input",
                );
            }
        };
        match input.shape.as_deref_mut() {
            None | Some([]) if columns > 1 => {
                return refuse("does not declare its shape".to_owned(), "export with a declared shape");
            }
            Some([_]) if columns > 1 => {
                return refuse(
                    "has no columns".to_owned(),
                    "export with an input of the shape [rows, columns]",
                );
            }
            Some([.., Dimension::Fixed(last)])
                if columns > 1 && i64::try_from(columns).is_ok_and(|n| n != *last) =>
            {
                let message = format!("has {last} columns, and the scaler has numbers for {columns}");
                return refuse(message, "use the scaler that was fitted with this model");
            }
            // The scaler knows what the model does not say.
            Some([_, .., last]) if columns > 1 => *last = Dimension::Fixed(i64::try_from(columns).ok()?),
            _ => {}
        }
        let outer = rewriter.fresh(&name);
        if let Some(input) = rewriter.model.inputs.get_mut(position) {
            input.name.clone_from(&outer);
        }
        let mut value = outer.clone();
        if element != ElementType::Double {
            value = rewriter.cast(&value, ElementType::Double);
        }
        let (first, second) = match self.kind {
            ScalerKind::MinMax => (("Mul", &self.scale), ("Add", &self.offset)),
            ScalerKind::Standard | ScalerKind::Robust => (("Sub", &self.offset), ("Div", &self.scale)),
        };
        for (operator, numbers) in [first, second] {
            if let Some(numbers) = numbers {
                let numbers = rewriter.constant(Tensor::vector(numbers.clone()));
                value = rewriter.node(operator, &[&value, &numbers], &[]);
            }
        }
        if let Some((low, high)) = self.clip {
            value = rewriter.clip(&value, Some(low), Some(high));
        }
        // The model goes on reading the input's name.
        rewriter.cast_to(&value, element, &name);
        Some(Renamed { inner: outer, outer: name })
    }
}

/// The number of an input's columns, if it is declared.
fn width(input: &ValueInfo) -> Option<usize> {
    match input.shape.as_deref() {
        Some([_, .., Dimension::Fixed(columns)]) => usize::try_from(*columns).ok(),
        Some([_]) => Some(1),
        _ => None,
    }
}
