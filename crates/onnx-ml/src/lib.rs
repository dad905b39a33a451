//! Kernels for the operators of `ai.onnx.ml` and for the dense operators that surround them in exported pipelines.
//!
//! A kernel takes slices and writes into slices: it reads no file, allocates nothing on the hot path and knows neither
//! ONNX nor plans. Matrices are row-major; rows are what callers batch.
//!
//! Results do not depend on the target: sums run in a documented order, elementary functions come from [`math`]
//! instead of the platform's library, and loops are written so that a compiler can use SIMD without changing a result.
//! Where the specification leaves room, the kernels do what onnxruntime does, since that is what people compare with.

pub mod dense;
pub mod explain;
pub mod lanes;
pub mod layout;
pub mod math;
pub mod transform;
pub mod tree;
