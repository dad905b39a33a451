//! The hash behind every sticky split. `docs/hashing.md` specifies it for auditors; change neither alone.

use xxhash_rust::xxh64::{Xxh64, xxh64};

/// The number of buckets of a layer; a share of one bucket is 0.001 %.
pub const BUCKETS: u32 = 100_000;

const DOMAIN: &[u8] = b"lockgate/bucket/1";

/// The bucket, 0 … 99 999, of a unit in the layer with this salt. `parts` are the unit's parts in the order in which the
/// policy lists them; most units have one.
pub fn bucket<'a>(salt: &str, parts: impl IntoIterator<Item = &'a str>) -> u32 {
    let mut hasher = Xxh64::new(0);
    hasher.update(DOMAIN);
    update(&mut hasher, salt);
    for part in parts {
        update(&mut hasher, part);
    }
    let upper = hasher.digest() >> 32;
    // Below 2^32 × 100 000 / 2^32, so it fits.
    ((upper * u64::from(BUCKETS)) >> 32) as u32
}

fn update(hasher: &mut Xxh64, text: &str) {
    // Texts come from requests and policies, both far below 4 GiB.
    let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
    hasher.update(&len.to_le_bytes());
    hasher.update(text.as_bytes());
}

/// The hash that places a text in a set's table.
pub(crate) fn set_hash(text: &str) -> u64 {
    xxh64(text.as_bytes(), 0)
}
