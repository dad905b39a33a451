//! Damaged envelopes: what a broken disk, a download that was cut short or somebody hostile leaves. Equal seeds give equal damage.

use lockgate_package::{AlignedBytes, Digest, Envelope, Kind};

/// A file with something wrong in it.
pub(crate) struct Damaged {
    /// What was done to it.
    pub(crate) what: String,
    pub(crate) bytes: Vec<u8>,
    /// Whether the digest that the file states was made to fit again. What such a file says may happen to make sense.
    pub(crate) is_resealed: bool,
}

/// Numbers that look random (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap() % bound
    }
}

/// A sound envelope, damaged in `count` ways.
pub(crate) fn damaged(good: &[u8], kind: Kind, seed: u64, count: usize) -> Vec<Damaged> {
    let mut numbers = Numbers(seed | 1);
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let (what, bytes) = damage(good, kind, all.len() % 9, &mut numbers);
        let is_resealed = what.starts_with("resealed");
        // Two blocks of zeros that trade places damage nothing.
        if bytes != good {
            all.push(Damaged { what, bytes, is_resealed });
        }
    }
    all
}

fn damage(good: &[u8], kind: Kind, way: usize, numbers: &mut Numbers) -> (String, Vec<u8>) {
    let content = usize::try_from(u64::from_le_bytes(good[24..32].try_into().unwrap())).unwrap();
    let mut bytes = good.to_vec();
    let what = match way {
        0 => {
            bytes.truncate(numbers.below(good.len()));
            format!("cut after {} bytes", bytes.len())
        }
        1 => {
            let more = 1 + numbers.below(100);
            bytes.extend(std::iter::repeat_n(7, more));
            format!("{more} bytes appended")
        }
        2 => {
            let (at, bit) = (numbers.below(good.len()), numbers.below(8));
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} flipped")
        }
        3 => {
            let blocks = content / 64;
            let (a, b) = (numbers.below(blocks) * 64, numbers.below(blocks) * 64);
            trade(&mut bytes, a, b, 64);
            format!("blocks at {a} and {b} swapped")
        }
        4 => {
            let (a, b, len) = two_sections(good, kind, numbers);
            trade(&mut bytes, a, b, len);
            format!("sections at {a} and {b} swapped")
        }
        5 => {
            let (a, b, len) = two_sections(good, kind, numbers);
            trade(&mut bytes, a, b, len);
            reseal(&mut bytes, good, content);
            format!("resealed, sections at {a} and {b} swapped")
        }
        6 => {
            let (at, bit) = (64 + numbers.below(content - 64), numbers.below(8));
            bytes[at] ^= 1 << bit;
            reseal(&mut bytes, good, content);
            format!("resealed, bit {bit} of byte {at} flipped")
        }
        7 => {
            // Numbers that are too large for whatever they count.
            let at = 64 + 4 * numbers.below((content - 64) / 4);
            bytes[at..at + 4].copy_from_slice(&[0xFF, 0xFF, 0xFF, 0x7F]);
            reseal(&mut bytes, good, content);
            format!("resealed, the word at {at} very large")
        }
        _ => {
            let header = usize::try_from(u32::from_le_bytes(good[16..20].try_into().unwrap())).unwrap();
            let at = 8 + numbers.below(56 + header);
            bytes[at] = u8::try_from(numbers.below(256)).unwrap();
            reseal(&mut bytes, good, content);
            format!("resealed, byte {at} of preamble and header changed")
        }
    };
    (what, bytes)
}

fn trade(bytes: &mut [u8], a: usize, b: usize, len: usize) {
    let (first, second) = (bytes[a..a + len].to_vec(), bytes[b..b + len].to_vec());
    bytes[a..a + len].copy_from_slice(&second);
    bytes[b..b + len].copy_from_slice(&first);
}

/// Where two sections begin, and how much of them can trade places.
fn two_sections(good: &[u8], kind: Kind, numbers: &mut Numbers) -> (usize, usize, usize) {
    let envelope = Envelope::open(AlignedBytes::copy_of(good), kind, (u16::MAX, u16::MAX)).unwrap();
    let sections: Vec<_> = envelope
        .section_names()
        .map(|name| envelope.section(name).unwrap())
        .filter(|section| section.len > 0)
        .collect();
    let mut any = || sections[numbers.below(sections.len())];
    let (a, b) = (any(), any());
    (a.offset, b.offset, a.len.min(b.len))
}

/// Writes the digest of the content over the one that the trailer states.
fn reseal(bytes: &mut [u8], good: &[u8], content: usize) {
    let stated = Digest::of(&good[..content]).0;
    let place = good[content..].windows(32).position(|window| window == stated).unwrap();
    let digest = Digest::of(&bytes[..content]).0;
    bytes[content + place..content + place + 32].copy_from_slice(&digest);
}
