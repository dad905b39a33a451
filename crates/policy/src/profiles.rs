//! The buckets of other systems, for layers whose units come from there. `docs/profiles.md` specifies them for auditors and
//! says which releases of which packages they were compared with; change neither alone.
//!
//! Each system hashes a text that is made of the layer's salt and the unit, and cuts the hash into buckets. Some of them
//! then compare fractions; their intervals are the same in whole buckets, which is all that happens here.

use sha2::{Digest as _, Sha256};

use crate::hash::{Algorithm, bucket};

/// [`bucket_in`] for parts that lie side by side.
#[inline(never)]
pub(crate) fn bucket_of(algorithm: Algorithm, scale: u32, salt: &str, parts: &[&str]) -> u32 {
    bucket_in(algorithm, scale, salt, parts.iter().copied())
}

/// The bucket, below `scale`, of a unit in the layer with this salt. The parts of a unit stand one behind the other, as
/// none of these systems has units of several parts.
pub(crate) fn bucket_in<'a>(
    algorithm: Algorithm,
    scale: u32,
    salt: &'a str,
    parts: impl Iterator<Item = &'a str> + Clone,
) -> u32 {
    let wide = u64::from(scale);
    let salted = |separator: &'a str| [salt, separator].into_iter().chain(parts.clone());
    match algorithm {
        Algorithm::Lockgate => bucket(salt, parts),
        Algorithm::Flagd | Algorithm::FlagdUtf8 => {
            let hash = murmur3(0, hashed(algorithm), salted(""));
            ((u64::from(hash) * wide) >> 32) as u32
        }
        Algorithm::FlagdCbor => {
            let mut murmur = Murmur3::new(0);
            if !salt.is_empty() {
                murmur.push(CBOR_ARRAY_OF_TWO);
                murmur.push_cbor_text([salt].into_iter());
            }
            murmur.push_cbor_text(parts);
            ((u64::from(murmur.finish()) * wide) >> 32) as u32
        }
        Algorithm::FlagdLegacy | Algorithm::FlagdLegacyUtf8 => {
            // The hash is taken as a signed number without its sign, and intervals are closed above, not below.
            let hash = murmur3(0, hashed(algorithm), salted("")).cast_signed().unsigned_abs();
            ((u64::from(hash) * wide).saturating_sub(1) >> 31) as u32
        }
        Algorithm::Unleash | Algorithm::UnleashUtf8 => {
            remainder(murmur3(0, hashed(algorithm), salted(":")), scale)
        }
        Algorithm::UnleashVariants | Algorithm::UnleashVariantsUtf8 => {
            remainder(murmur3(UNLEASH_VARIANT_SEED, hashed(algorithm), salted(":")), scale)
        }
        Algorithm::GrowthBook => {
            let first = salted("").fold(FNV_OFFSET, fnv1a);
            remainder(fnv1a_of_decimal(first), scale)
        }
        Algorithm::GrowthBookV1 => remainder(parts.chain([salt]).fold(FNV_OFFSET, fnv1a), scale),
        Algorithm::LaunchDarkly => {
            let mut hasher = Sha1::new();
            salted(".").for_each(|text| hasher.update(text.as_bytes()));
            // The first 15 of the 40 hexadecimal digits are the upper 60 bits, a fraction of 2^60. In two steps of 28 and
            // 32 bits the product stays below 2^64.
            let hash = hasher.finish() >> 4;
            let (upper, lower) = (hash >> 28, hash & 0x0FFF_FFFF);
            ((upper * wide + ((lower * wide) >> 28)) >> 32) as u32
        }
        Algorithm::Statsig | Algorithm::StatsigExperiment => {
            let mut hasher = Sha256::new();
            salted(".").for_each(|text| hasher.update(text.as_bytes()));
            let first = hasher.finalize().iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
            first.checked_rem(wide).unwrap_or(0) as u32
        }
    }
}

/// Only hostile bundles have the scale 0, and those are refused when they load.
fn remainder(hash: u32, scale: u32) -> u32 {
    hash.checked_rem(scale).unwrap_or(0)
}

/// What a hash takes one after the other.
#[derive(Clone, Copy)]
enum Hashed {
    /// The bytes of UTF-8.
    Bytes,
    /// The code units of UTF-16, of which a word holds four at steps of eight bits, the upper halves overlapping.
    CodeUnits,
    /// The lower bytes of the code units of UTF-16.
    LowerBytes,
}

/// JavaScript's murmurs see code units of UTF-16, everybody else's bytes. In ASCII these are the same.
fn hashed(algorithm: Algorithm) -> Hashed {
    match algorithm {
        Algorithm::Flagd | Algorithm::FlagdLegacy => Hashed::CodeUnits,
        Algorithm::Unleash | Algorithm::UnleashVariants => Hashed::LowerBytes,
        _ => Hashed::Bytes,
    }
}

const UNLEASH_VARIANT_SEED: u32 = 86_028_157;

const CBOR_TEXT: u32 = 0x60;
const CBOR_ARRAY_OF_TWO: u32 = 0x82;

/// `MurmurHash3_x86_32` of Austin Appleby's smhasher.
fn murmur3<'a>(seed: u32, hashed: Hashed, texts: impl Iterator<Item = &'a str>) -> u32 {
    let mut murmur = Murmur3::new(seed);
    for text in texts {
        match hashed {
            Hashed::Bytes => text.bytes().for_each(|byte| murmur.push(u32::from(byte))),
            Hashed::CodeUnits => text.encode_utf16().for_each(|unit| murmur.push(u32::from(unit))),
            Hashed::LowerBytes => text.encode_utf16().for_each(|unit| murmur.push(u32::from(unit & 0xFF))),
        }
    }
    murmur.finish()
}

struct Murmur3 {
    hash: u32,
    word: u32,
    len: u32,
}

impl Murmur3 {
    fn new(seed: u32) -> Self {
        Self { hash: seed, word: 0, len: 0 }
    }

    /// The texts as one text of CBOR (RFC 8949), its length in the shortest form.
    fn push_cbor_text<'a>(&mut self, texts: impl Iterator<Item = &'a str> + Clone) {
        let len = texts.clone().map(str::len).sum::<usize>();
        // Texts come from requests and policies, both far below 4 GiB.
        let [first, second, third, fourth] =
            u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes().map(u32::from);
        match len {
            0..24 => self.push(CBOR_TEXT | fourth),
            24..0x100 => [CBOR_TEXT | 24, fourth].into_iter().for_each(|byte| self.push(byte)),
            0x100..0x1_0000 => [CBOR_TEXT | 25, third, fourth].into_iter().for_each(|byte| self.push(byte)),
            _ => [CBOR_TEXT | 26, first, second, third, fourth].into_iter().for_each(|byte| self.push(byte)),
        }
        for text in texts {
            text.bytes().for_each(|byte| self.push(u32::from(byte)));
        }
    }

    fn push(&mut self, unit: u32) {
        // A code unit beyond the word's end comes back in at its beginning.
        self.word ^= unit.rotate_left((self.len % 4) * 8);
        self.len = self.len.wrapping_add(1);
        if self.len.is_multiple_of(4) {
            self.hash =
                (self.hash ^ scramble(self.word)).rotate_left(13).wrapping_mul(5).wrapping_add(0xE654_6B64);
            self.word = 0;
        }
    }

    fn finish(mut self) -> u32 {
        // Three bytes never set the sign bit, but three code units may, and JavaScript's murmur then leaves them out.
        if self.word.cast_signed() > 0 {
            self.hash ^= scramble(self.word);
        }
        let mut hash = self.hash ^ self.len;
        hash = (hash ^ (hash >> 16)).wrapping_mul(0x85EB_CA6B);
        hash = (hash ^ (hash >> 13)).wrapping_mul(0xC2B2_AE35);
        hash ^ (hash >> 16)
    }
}

fn scramble(word: u32) -> u32 {
    word.wrapping_mul(0xCC9E_2D51).rotate_left(15).wrapping_mul(0x1B87_3593)
}

const FNV_OFFSET: u32 = 0x811C_9DC5;

/// FNV-1a of 32 bits that takes code units of UTF-16 where the original takes bytes.
fn fnv1a(hash: u32, text: &str) -> u32 {
    text.encode_utf16().fold(hash, |hash, unit| fnv1a_step(hash, u32::from(unit)))
}

fn fnv1a_step(hash: u32, unit: u32) -> u32 {
    (hash ^ unit).wrapping_mul(0x0100_0193)
}

/// The hash of a number as it is written: from its highest digit on.
fn fnv1a_of_decimal(number: u32) -> u32 {
    let mut power = number.checked_ilog10().map_or(1, |digits| 10_u32.pow(digits));
    let mut hash = FNV_OFFSET;
    while power > 0 {
        hash = fnv1a_step(hash, u32::from(b'0') + number / power % 10);
        power /= 10;
    }
    hash
}

/// SHA-1 (FIPS 180-4), of which only the first 64 bits are needed. A crate would weigh more than the rest of this module.
struct Sha1 {
    hash: [u32; 5],
    words: [u32; 16],
    len: u64,
}

impl Sha1 {
    fn new() -> Self {
        Self {
            hash: [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0],
            words: [0; 16],
            len: 0,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.push(*byte);
        }
    }

    fn push(&mut self, byte: u8) {
        let place = (self.len % 64) as usize;
        if let Some(word) = self.words.get_mut(place / 4) {
            *word = (*word << 8) | u32::from(byte);
        }
        self.len += 1;
        if place == 63 {
            self.compress();
        }
    }

    fn finish(mut self) -> u64 {
        let bits = self.len * 8;
        self.push(0x80);
        while self.len % 64 != 56 {
            self.push(0);
        }
        self.update(&bits.to_be_bytes());
        let [first, second, ..] = self.hash;
        (u64::from(first) << 32) | u64::from(second)
    }

    fn compress(&mut self) {
        let [mut a, mut b, mut c, mut d, mut e] = self.hash;
        let words = &mut self.words;
        for round in 0..80_usize {
            // The schedule needs the last 16 words only, so it turns in place.
            let [word, _, w2, _, _, _, _, _, w8, _, _, _, _, w13, ..] = *words;
            words.rotate_left(1);
            words[15] = (word ^ w2 ^ w8 ^ w13).rotate_left(1);
            let (choice, constant) = match round {
                0..20 => ((b & c) | (!b & d), 0x5A82_7999),
                20..40 => (b ^ c ^ d, 0x6ED9_EBA1),
                40..60 => ((b & c) | (b & d) | (c & d), 0x8F1B_BCDC),
                _ => (b ^ c ^ d, 0xCA62_C1D6_u32),
            };
            let next = a
                .rotate_left(5)
                .wrapping_add(choice)
                .wrapping_add(e)
                .wrapping_add(constant)
                .wrapping_add(word);
            (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
        }
        for (hash, value) in self.hash.iter_mut().zip([a, b, c, d, e]) {
            *hash = hash.wrapping_add(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(algorithm: Algorithm, scale: u32, salt: &str, unit: &str, expected: u32) {
        assert_eq!(
            bucket_in(algorithm, scale, salt, [unit].into_iter()),
            expected,
            "{algorithm:?} {salt:?} {unit:?}"
        );
    }

    /// The vectors that ports of smhasher use.
    #[test]
    fn murmur3_is_that_of_smhasher() {
        let murmur = |seed, text: &str| murmur3(seed, Hashed::Bytes, [text].into_iter());
        assert_eq!(murmur(0, ""), 0);
        assert_eq!(murmur(1, ""), 0x514E_28B7);
        assert_eq!(murmur(0xFFFF_FFFF, ""), 0x81F1_6F39);
        assert_eq!(murmur(0, "test"), 0xBA6B_D213);
        assert_eq!(murmur(0x9747_B28C, "test"), 0x704B_81DC);
        assert_eq!(murmur(0, "Hello, world!"), 0xC036_3E43);
        assert_eq!(murmur(0x9747_B28C, "The quick brown fox jumps over the lazy dog"), 0x2FA8_26CD);
    }

    /// FIPS 180's examples.
    #[test]
    fn sha1_is_that_of_the_standard() {
        let sha1 = |text: &str| {
            let mut hasher = Sha1::new();
            hasher.update(text.as_bytes());
            hasher.finish()
        };
        assert_eq!(sha1(""), 0xDA39_A3EE_5E6B_4B0D);
        assert_eq!(sha1("abc"), 0xA999_3E36_4706_816A);
        assert_eq!(sha1("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"), 0x8498_3E44_1C3B_D26E);
        assert_eq!(sha1(&"a".repeat(1_000_000)), 0x34AA_973C_D4C4_DAA4);
    }

    /// The ends and the middle of flagd's hash range, from the units that its own test bed has for them.
    #[test]
    fn the_ends_of_a_range_fall_as_flagd_says() {
        for (unit, expected) in [("ejOoVL", 0), ("bY9fO-", 0), ("SI7p-", 0), ("6LvT0", 1), ("ceQdGm", 1)] {
            check(Algorithm::Flagd, 2, "", unit, expected);
            check(Algorithm::FlagdUtf8, 2, "", unit, expected);
        }
    }

    #[test]
    fn buckets_stay_below_the_scale_even_if_the_scale_is_odd() {
        for algorithm in Algorithm::ALL {
            for scale in [1, 2, 3, 100_000, i32::MAX as u32, u32::MAX] {
                let scale = if algorithm == Algorithm::Lockgate { 100_000 } else { scale };
                for unit in ["", "a", "\u{7F}", "Zoë", "日本語日本語", "\u{1F600}", "a\0b"] {
                    let bucket = bucket_in(algorithm, scale, "salt", [unit].into_iter());
                    assert!(bucket < scale, "{algorithm:?} {scale} {unit:?}: {bucket}");
                }
            }
        }
    }

    #[test]
    fn the_parts_of_a_unit_stand_one_behind_the_other() {
        for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| *algorithm != Algorithm::Lockgate) {
            let scale = algorithm.scale();
            let together = bucket_in(algorithm, scale, "salt", ["alice/EURUSD"].into_iter());
            assert_eq!(bucket_in(algorithm, scale, "salt", ["alice", "/", "EURUSD"].into_iter()), together);
        }
    }
}
