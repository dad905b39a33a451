//! The operators, by family. Each family has a table; a new operator is a line in one of them and a function beside it.

mod activation;
mod attention;
mod binary;
mod cast;
mod control;
mod gather;
mod image;
mod loss;
mod microsoft;
mod ml;
mod movement;
mod normalize;
mod product;
mod recurrent;
mod reduce;
mod select;
mod signal;
mod text;
mod window;

pub use ml::{TREE_ENSEMBLE_CLASSIFIER, TREE_ENSEMBLE_REGRESSOR};

use crate::Operator;

/// All tables.
pub(crate) const TABLES: &[&[Operator]] = &[
    activation::TABLE,
    attention::TABLE,
    binary::TABLE,
    cast::TABLE,
    control::TABLE,
    gather::TABLE,
    image::TABLE,
    loss::TABLE,
    microsoft::TABLE,
    ml::TABLE,
    movement::TABLE,
    normalize::TABLE,
    product::TABLE,
    recurrent::TABLE,
    reduce::TABLE,
    select::TABLE,
    signal::TABLE,
    text::TABLE,
    window::TABLE,
];
