//! Linear functions of a row.

use lockgate_onnx_ml::dense;
use lockgate_onnx_ml::transform::{Transform, both_classes};

use super::{EXPORT_AGAIN, choose, class_labels, post_transform, rows_of, singles, transform_rows, work};
use crate::operator::required;
use crate::{Attributes, Build, Kernel, Meter, Problem, Tensor};

/// Weights in rows of one element per output, and what is added.
struct Linear {
    columns: usize,
    outputs: usize,
    weights: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl Linear {
    /// Reads the coefficients, which are written as a row per output.
    fn read(a: &Attributes<'_>, outputs: usize) -> Result<Self, Problem> {
        let coefficients = a.floats("coefficients")?.unwrap_or_default();
        let bias = a.floats("intercepts")?.filter(|bias| !bias.is_empty()).map(<[f32]>::to_vec);
        if outputs == 0 || coefficients.is_empty() || !coefficients.len().is_multiple_of(outputs) {
            let message = format!("{} numbers are no rows for {outputs} scores", coefficients.len());
            return Err(Problem::attribute("coefficients", message, EXPORT_AGAIN));
        }
        let columns = coefficients.len() / outputs;
        let mut weights = vec![0.0; coefficients.len()];
        for (output, row) in coefficients.chunks_exact(columns).enumerate() {
            for (place, &weight) in weights.iter_mut().skip(output).step_by(outputs).zip(row) {
                *place = weight;
            }
        }
        Ok(Self { columns, outputs, weights, bias })
    }

    /// The number of rows and their scores.
    fn scores(&self, x: &Tensor, meter: &mut Meter) -> Result<(usize, Vec<f32>), Problem> {
        let rows = rows_of(x, self.columns)?;
        work(meter, rows, self.weights.len())?;
        let mut scores = vec![0.0; meter.room(&[rows, self.outputs], size_of::<f32>())?];
        dense::dense(
            &singles(x)?,
            self.columns,
            &self.weights,
            self.bias.as_deref(),
            self.outputs,
            &mut scores,
        );
        Ok((rows, scores))
    }
}

/// Scores and the class with the largest, the first of equal ones. A single score stands for the second of two classes, which it chooses above 0.
pub(super) fn classifier(build: &Build<'_>) -> Result<Kernel, Problem> {
    let a = &build.attributes;
    let labels = class_labels(a, "classlabels_ints", "classlabels_strings")?;
    let transform = post_transform(a)?;
    // One-versus-rest or multinomial changes how a model is trained; scores are computed alike.
    a.have_no_effect(&["multi_class"]);
    let outputs = a.floats("intercepts")?.filter(|all| !all.is_empty()).map_or(labels.len(), <[f32]>::len);
    let linear = Linear::read(a, outputs)?;
    let single = outputs == 1 && labels.len() == 2;
    if !single && outputs != labels.len() {
        let message = format!("expected one per class ({}), found {outputs}", labels.len());
        return Err(Problem::attribute("intercepts", message, EXPORT_AGAIN));
    }
    if single && transform == Transform::Probit {
        return Err(Problem::attribute(
            "post_transform",
            "PROBIT of a single score for two classes is not defined",
            "train with a score per class",
        ));
    }
    Ok(Box::new(move |operands, meter| {
        let (rows, mut scores) = linear.scores(required(operands, 0)?, meter)?;
        meter.room(&[rows], crate::meter::PLACE)?;
        let mut classes = vec![0_i64; rows];
        if single {
            meter.room(&[rows, 2], size_of::<f32>())?;
            classes.iter_mut().zip(&scores).for_each(|(class, &score)| *class = i64::from(score > 0.0));
            scores = scores.into_iter().flat_map(|score| both_classes(transform, score)).collect();
        } else {
            dense::arg_max(&scores, outputs, &mut classes);
            transform_rows(transform, &mut scores, outputs);
        }
        let places: Vec<usize> =
            classes.into_iter().map(|class| usize::try_from(class).unwrap_or_default()).collect();
        let label = choose(&labels, &[rows], &places, meter)?;
        Ok(vec![label, Tensor::of([rows, labels.len()], scores)?])
    }))
}

/// Linear functions.
pub(super) fn regressor(build: &Build<'_>) -> Result<Kernel, Problem> {
    let a = &build.attributes;
    let targets = a.int_or("targets", 1)?;
    let mut linear = Linear::read(a, usize::try_from(targets).unwrap_or(0))?;
    let transform = post_transform(a)?;
    // skl2onnx writes a single zero for any number of targets without intercepts.
    linear.bias = linear.bias.filter(|bias| bias.iter().any(|&intercept| intercept != 0.0));
    if linear.bias.as_ref().is_some_and(|bias| bias.len() != linear.outputs) {
        return Err(Problem::attribute("intercepts", format!("expected {targets} numbers"), EXPORT_AGAIN));
    }
    Ok(Box::new(move |operands, meter| {
        let (rows, mut scores) = linear.scores(required(operands, 0)?, meter)?;
        transform_rows(transform, &mut scores, linear.outputs);
        Ok(vec![Tensor::of([rows, linear.outputs], scores)?])
    }))
}
