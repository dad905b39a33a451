//! What is fuzzed. `tests/tests/fuzz.rs` runs the same functions on stable Rust, bounded, with every test run.

pub mod targets;

/// Changes an input in its place; its new length.
pub fn change(
    change: targets::Change,
    data: &mut [u8],
    size: usize,
    most: usize,
    seed: u32,
) -> Option<usize> {
    let mut state = u64::from(seed);
    let mut below = |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % end.max(1) as u64) as usize
    };
    let input = data.get(..size)?.to_vec();
    let changed = change(&mut below, &input, &input)?;
    data.get_mut(..changed.len().min(most))?.copy_from_slice(changed.get(..most.min(changed.len()))?);
    Some(changed.len().min(most))
}
