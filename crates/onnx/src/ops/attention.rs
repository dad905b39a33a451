//! Attention and what language models put around it.
//!
//! Everything is computed in `f32`, or in `f64` when an operand is. Where the specification computes in a 16-bit kind, numbers are rounded to
//! it after each step, so that results are those of its own formula.

use crate::Operator;
use crate::operator::ai;

mod causal_conv;
mod dot_product;
mod flex;
mod heads;
mod linear;
mod rotary;

pub(super) const TABLE: &[Operator] = &[
    ai(
        "Attention",
        23,
        &[
            "is_causal",
            "kv_num_heads",
            "left_window_size",
            "q_num_heads",
            "qk_matmul_output_mode",
            "right_window_size",
            "scale",
            "softcap",
            "softmax_precision",
        ],
        dot_product::make,
    ),
    ai("CausalConvWithState", 27, &["activation"], causal_conv::make),
    ai("FlexAttention", 1, &["prob_mod", "scale", "score_mod", "softmax_precision"], flex::make)
        .of("ai.onnx.preview"),
    ai(
        "LinearAttention",
        27,
        &["chunk_size", "kv_num_heads", "q_num_heads", "scale", "update_rule"],
        linear::make,
    ),
    ai("RotaryEmbedding", 23, &["interleaved", "num_heads", "rotary_embedding_dim"], rotary::make),
];

#[cfg(test)]
mod tests {
    use super::super::reduce::tests::run;
    use crate::{Attribute, Tensor};

    fn vectors(shape: &[usize]) -> Tensor {
        Tensor::of(shape, vec![1_f32; shape.iter().product()]).unwrap()
    }

    #[test]
    fn vectors_without_elements_take_time_too() {
        let many = vectors(&[1 << 10, 1 << 20, 1 << 20, 0]);
        let found = run("Attention", 23, &[], &[Some(&many), Some(&many), Some(&many)], 1).unwrap_err();
        assert!(found.ends_with("operations, at most 1048576 are allowed"), "{found}");
        let none = vectors(&[1 << 20, 0, 1 << 20, 0]);
        let angles = vectors(&[1 << 20, 1 << 20, 0]);
        let found =
            run("RotaryEmbedding", 23, &[], &[Some(&none), Some(&angles), Some(&angles)], 1).unwrap_err();
        assert!(found.ends_with("operations, at most 1048576 are allowed"), "{found}");
    }

    #[test]
    fn no_keys_give_zero() {
        let (q, k) = (vectors(&[1, 1, 2, 3]), vectors(&[1, 1, 0, 3]));
        let found = run("Attention", 23, &[], &[Some(&q), Some(&k), Some(&k)], 1).unwrap();
        assert_eq!(found, [Tensor::of([1, 1, 2, 3], vec![0_f32; 6]).unwrap()]);
    }

    #[test]
    fn heads_that_do_not_fit() {
        let x = vectors(&[1, 2, 6]);
        let heads = |name, count| (name, Attribute::Int(count));
        let operands = [Some(&x), Some(&x), Some(&x)];
        let found = run("Attention", 23, &[heads("q_num_heads", 4), heads("kv_num_heads", 2)], &operands, 1);
        assert_eq!(found.unwrap_err(), "the shape [1, 2, 6] of Q does not have 4 heads");
        let found = run("Attention", 23, &[heads("q_num_heads", 2), heads("kv_num_heads", 0)], &operands, 1);
        assert_eq!(found.unwrap_err(), "there cannot be 0 heads");
        let found = run("Attention", 23, &[], &operands, 1).unwrap_err();
        assert!(found.starts_with("the shape of Q is [1, 2, 6], expected four axes"), "{found}");
    }
}
