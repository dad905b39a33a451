//! The operators of ONNX on tensors whose shapes are known when they run, and graphs of them.
//!
//! An operator is an entry of a table ([`operator::find`]): its name, the operator sets that it understands, the attributes that it reads,
//! and how a node becomes a [`Kernel`]. The importer asks the table what can be run, folds constants with it and measures with it what a row
//! costs; the engine runs the same kernels on every target. There is no ONNX file in here, no clock and no randomness.
//!
//! Results do not depend on the target: sums run in a documented order, elementary functions come from one software library, and
//! nothing is fused. What one request may take is bounded by a [`Meter`].

pub mod attribute;
pub mod expressions;
pub mod graph;
pub mod meter;
pub mod operator;
mod ops;
pub mod problem;
pub mod shape;
pub mod tensor;

pub use attribute::{Attribute, Attributes};
pub use graph::{Graph, Node, Source};
pub use meter::Meter;
pub use operator::{Build, Kernel, Operator};
pub use problem::Problem;
pub use tensor::{Data, Element, Kind, Numbers, Tensor};
