//! The example of the crate's documentation runs.

use crate::support;

#[expect(dead_code, reason = "its `main` reads files")]
#[path = "../../examples/embed.rs"]
mod example;

#[test]
fn the_example_answers() {
    let world =
        support::World::new(support::POLICY, &["eurusd_lr@1.0.0", "eurusd_gb@1.1.0", "eurusd_rf_a@1.0.0"]);
    let answer = example::ask(support::core(), world.bundle, world.packages).unwrap();
    assert_eq!(answer, "eurusd_gb@1.1.0, because TARGETING_MATCH: output_label and output_probability");
}
