//! The buckets of `docs/hashing.md` and `docs/profiles.md`, written a second time from these pages.

use lockgate_package::Digest;
use lockgate_policy::Algorithm;

/// The bucket of a unit in the layer with this salt.
pub(super) fn bucket(algorithm: Algorithm, scale: u32, salt: &str, parts: &[&str]) -> u32 {
    use Algorithm as A;
    let unit = parts.concat();
    let wide = u64::from(scale);
    let upper = |hash: u32| ((u64::from(hash) * wide) >> 32) as u32;
    let absolute = |hash: u32| match u64::from(hash.cast_signed().unsigned_abs()) {
        0 => 0,
        hash => ((hash * wide - 1) >> 31) as u32,
    };
    let bytes = |text: String| murmur3(0, text.bytes().map(u32::from), false);
    let units = |text: String| murmur3(0, text.encode_utf16().map(u32::from), true);
    let low = |seed: u32| {
        let text = format!("{salt}:{unit}");
        let units: Vec<u32> = text.encode_utf16().map(|unit| u32::from(unit & 255)).collect();
        murmur3(seed, units.into_iter(), true)
    };
    let utf8 = |seed: u32| murmur3(seed, format!("{salt}:{unit}").bytes().map(u32::from), false);
    let dotted = format!("{salt}.{unit}");
    let sha256 = || {
        let [a, b, c, d, e, f, g, h, ..] = Digest::of(dotted.as_bytes()).0;
        (u64::from_be_bytes([a, b, c, d, e, f, g, h]) % wide) as u32
    };
    match algorithm {
        A::Flagd => upper(units(format!("{salt}{unit}"))),
        A::FlagdUtf8 => upper(bytes(format!("{salt}{unit}"))),
        A::FlagdCbor => {
            let mut data = Vec::new();
            if !salt.is_empty() {
                data.push(0x82);
                cbor(&mut data, salt);
            }
            cbor(&mut data, &unit);
            upper(murmur3(0, data.into_iter().map(u32::from), false))
        }
        A::FlagdLegacy => absolute(units(format!("{salt}{unit}"))),
        A::FlagdLegacyUtf8 => absolute(bytes(format!("{salt}{unit}"))),
        A::Unleash => low(0) % scale,
        A::UnleashUtf8 => utf8(0) % scale,
        A::UnleashVariants => low(86_028_157) % scale,
        A::UnleashVariantsUtf8 => utf8(86_028_157) % scale,
        A::GrowthBook => fnv1a(&fnv1a(&format!("{salt}{unit}")).to_string()) % scale,
        A::GrowthBookV1 => fnv1a(&format!("{unit}{salt}")) % scale,
        A::LaunchDarkly => ((u128::from(sha1(dotted.as_bytes()) >> 4) * u128::from(scale)) >> 60) as u32,
        A::Statsig | A::StatsigExperiment => sha256(),
        _ => {
            let mut data = b"lockgate/bucket/1".to_vec();
            for text in std::iter::once(&salt).chain(parts) {
                data.extend((text.len() as u32).to_le_bytes());
                data.extend(text.bytes());
            }
            (((xxhash_rust::xxh64::xxh64(&data, 0) >> 32) * 100_000) >> 32) as u32
        }
    }
}

/// MurmurHash3_x86_32 of units that are bytes; those of JavaScript may be wider and fall upon their neighbours.
fn murmur3(seed: u32, units: impl Iterator<Item = u32>, javascript: bool) -> u32 {
    let units: Vec<u32> = units.collect();
    let mix = |word: u32| word.wrapping_mul(0xCC9E_2D51).rotate_left(15).wrapping_mul(0x1B87_3593);
    let word = |units: &[u32]| {
        units.iter().zip([0, 8, 16, 24]).fold(0, |word, (unit, turn)| word ^ unit.rotate_left(turn))
    };
    let mut hash = seed;
    for chunk in units.chunks(4) {
        if chunk.len() == 4 {
            hash = (hash ^ mix(word(chunk))).rotate_left(13).wrapping_mul(5).wrapping_add(0xE654_6B64);
        } else if !javascript || word(chunk).cast_signed() > 0 {
            hash ^= mix(word(chunk));
        }
    }
    hash ^= units.len() as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85EB_CA6B);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xC2B2_AE35);
    hash ^ (hash >> 16)
}

fn fnv1a(text: &str) -> u32 {
    text.encode_utf16().fold(0x811C_9DC5, |hash, unit| (hash ^ u32::from(unit)).wrapping_mul(0x0100_0193))
}

fn cbor(out: &mut Vec<u8>, text: &str) {
    match text.len() {
        len @ 0..24 => out.push(0x60 + len as u8),
        len @ 24..256 => out.extend([0x78, len as u8]),
        len @ 256..65_536 => {
            out.push(0x79);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(0x7A);
            out.extend((len as u32).to_be_bytes());
        }
    }
    out.extend(text.bytes());
}

/// The first 64 bits of SHA-1.
fn sha1(data: &[u8]) -> u64 {
    let mut state: [u32; 5] = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0];
    let mut padded = data.to_vec();
    padded.push(0x80);
    padded.resize((padded.len() + 8).next_multiple_of(64) - 8, 0);
    padded.extend((data.len() as u64 * 8).to_be_bytes());
    for block in padded.as_chunks::<64>().0 {
        let mut words: Vec<u32> =
            block.as_chunks().0.iter().map(|bytes| u32::from_be_bytes(*bytes)).collect();
        for at in 16..80 {
            words.push((words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16]).rotate_left(1));
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (at, word) in words.into_iter().enumerate() {
            let (f, k) = match at {
                0..20 => ((b & c) | (!b & d), 0x5A82_7999),
                20..40 => (b ^ c ^ d, 0x6ED9_EBA1),
                40..60 => ((b & c) | (b & d) | (c & d), 0x8F1B_BCDC_u32),
                _ => (b ^ c ^ d, 0xCA62_C1D6),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(word);
            (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
        }
        for (sum, part) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(part);
        }
    }
    u64::from(state[0]) << 32 | u64::from(state[1])
}
