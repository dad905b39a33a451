//! What `ai.onnx.ml` does to scores at the end (the attribute `post_transform`).

use crate::math::{exp, probit, sigmoid, sigmoid_in_place};

/// A transformation of the scores of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transform {
    /// None.
    None,
    /// 1 / (1 + e⁻ˣ) of each score.
    Logistic,
    /// Softmax over the row.
    Softmax,
    /// Softmax over the scores that are not 0; a score of 0 stays 0.
    SoftmaxZero,
    /// The probit of each score.
    Probit,
}

/// Transforms rows of so many scores.
pub fn transform_rows(transform: Transform, scores: &mut [f32], columns: usize) {
    match transform {
        Transform::None => {}
        // Each score is looked at alone.
        Transform::Logistic => sigmoid_in_place(scores),
        _ => scores.chunks_exact_mut(columns.max(1)).for_each(|row| transform_row(transform, row)),
    }
}

/// Transforms the scores of one row.
pub fn transform_row(transform: Transform, scores: &mut [f32]) {
    match transform {
        Transform::None => {}
        Transform::Logistic => scores.iter_mut().for_each(|score| *score = sigmoid(*score)),
        Transform::Softmax => {
            let max = largest(scores);
            let mut sum = 0.0;
            for score in scores.iter_mut() {
                *score = exp(*score - max);
                sum += *score;
            }
            scores.iter_mut().for_each(|score| *score /= sum);
        }
        Transform::SoftmaxZero => {
            let max = largest(scores);
            let zero = exp(-max);
            let mut sum = 0.0;
            for score in scores.iter_mut() {
                // What counts as 0 is onnxruntime's choice; the specification gives no bound.
                if *score > 1e-7 || *score < -1e-7 {
                    *score = exp(*score - max);
                    sum += *score;
                } else {
                    *score *= zero;
                }
            }
            scores.iter_mut().for_each(|score| *score /= sum);
        }
        Transform::Probit => scores.iter_mut().for_each(|score| *score = probit(*score)),
    }
}

/// The scores of both classes, when a classifier computes only the second one's.
pub fn both_classes(transform: Transform, score: f32) -> [f32; 2] {
    match transform {
        Transform::Logistic => [sigmoid(-score), sigmoid(score)],
        _ => [1.0 - score, score],
    }
}

fn largest(scores: &[f32]) -> f32 {
    scores.iter().fold(f32::MIN, |max, &score| if score > max { score } else { max })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against answers of onnxruntime 1.31.
    #[track_caller]
    fn check(transform: Transform, scores: &[f32], want: &[f32]) {
        let mut found = scores.to_vec();
        transform_row(transform, &mut found);
        for (found, want) in found.iter().zip(want) {
            assert!((found - want).abs() < 2e-5 || found == want, "{transform:?} of {scores:?}: {found:?}");
        }
    }

    #[test]
    fn rows_are_transformed_as_onnxruntime_does() {
        check(Transform::None, &[0.8, 0.2], &[0.8, 0.2]);
        check(Transform::Logistic, &[0.8, 0.2], &[0.68997, 0.54983]);
        check(Transform::Softmax, &[0.8, 0.0, 0.1], &[0.5139, 0.23091, 0.25519]);
        check(Transform::SoftmaxZero, &[0.8, 0.0, 0.1], &[0.66819, 0.0, 0.33181]);
        check(Transform::SoftmaxZero, &[-0.8, 0.0, -0.1], &[0.33181, 0.0, 0.66819]);
        check(Transform::Probit, &[0.3, 0.0], &[-0.52445, f32::NEG_INFINITY]);
        check(Transform::Softmax, &[1000.0, 0.0], &[1.0, 0.0]);
    }

    #[test]
    fn one_score_becomes_two() {
        assert_eq!(both_classes(Transform::None, 0.25), [0.75, 0.25]);
        assert_eq!(both_classes(Transform::Softmax, 0.25), [0.75, 0.25]);
        assert_eq!(both_classes(Transform::Logistic, 0.0), [0.5, 0.5]);
    }
}
