//! XXH64 (seed 0) of pieces that lie apart, as if they lay one behind the other.
//!
//! What is hashed for a bucket is short and comes in four or five pieces. Collecting them in a buffer would cost more than
//! hashing them, so whole words go from the pieces into the hash, and what is left of a word waits for the next piece.
//! The algorithm is that of the specification of xxHash, version 0.1.1.

const PRIME_1: u64 = 0x9E37_79B1_85EB_CA87;
const PRIME_2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const PRIME_3: u64 = 0x1656_67B1_9E37_79F9;
const PRIME_4: u64 = 0x85EB_CA77_C2B2_AE63;
const PRIME_5: u64 = 0x27D4_EB2F_1656_67C5;

/// The hash of one piece.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut lanes = LANES;
    let (stripes, rest) = bytes.as_chunks::<32>();
    for stripe in stripes {
        let (words, _) = stripe.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = round(*lane, u64::from_le_bytes(*word));
        }
    }
    let (words, tail) = rest.as_chunks::<8>();
    let hash = words
        .iter()
        .fold(begin(&lanes, bytes.len() as u64), |hash, word| step(hash, u64::from_le_bytes(*word)));
    end(hash, low_bytes(bytes, tail), 8 * tail.len() as u32)
}

/// A message of which some pieces are known.
#[derive(Clone)]
pub(crate) struct Message {
    /// The accumulators; they count from the first whole stripe on.
    lanes: [u64; 4],
    /// The whole words behind the last stripe.
    words: [u64; 4],
    /// How many words there are, at most three between two pieces.
    held: usize,
    /// The bytes behind the last word, lowest first.
    rest: u64,
    /// How many bits that are, less than 64.
    bits: u32,
    /// The length in bytes so far.
    len: u64,
}

impl Message {
    /// An empty message.
    pub(crate) const fn new() -> Self {
        Self { lanes: LANES, words: [0; 4], held: 0, rest: 0, bits: 0, len: 0 }
    }

    /// Appends a text and before it its length.
    pub(crate) fn text(&mut self, text: &[u8]) {
        // Texts come from requests and policies, both far below 4 GiB.
        self.number(text.len() as u64 & u64::from(u32::MAX), 32);
        self.bytes(text);
    }

    /// Appends bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            self.number(u64::from_le_bytes(*word), 64);
        }
        self.number(low_bytes(bytes, tail), 8 * tail.len() as u32);
    }

    /// Appends the lowest bits of `number`, whole bytes; the others are zero.
    pub(crate) fn number(&mut self, number: u64, bits: u32) {
        self.len = self.len.wrapping_add(u64::from(bits / 8));
        let word = self.rest | number << (self.bits & 63);
        let total = self.bits + bits;
        if total < 64 {
            (self.rest, self.bits) = (word, total);
            return;
        }
        self.rest = above(number, self.bits);
        self.bits = total - 64;
        if let Some(place) = self.words.get_mut(self.held) {
            *place = word;
        }
        self.held += 1;
        if self.held == 4 {
            self.held = 0;
            for (lane, word) in self.lanes.iter_mut().zip(self.words) {
                *lane = round(*lane, word);
            }
        }
    }

    /// The hash of the message.
    pub(crate) fn hash(&self) -> u64 {
        let words = self.words.iter().take(self.held);
        let hash = words.fold(begin(&self.lanes, self.len), |hash, word| step(hash, *word));
        end(hash, self.rest, self.bits)
    }
}

/// A message that texts are put behind, one at a time. What does not depend on the text is computed once.
#[derive(Clone)]
pub(crate) struct Prefix {
    message: Message,
    /// The hash of the message's whole stripes.
    begun: u64,
    /// A text shorter than this ends before the next stripe does.
    room: usize,
}

impl Prefix {
    pub(crate) fn new(message: Message) -> Self {
        let behind = 8 * message.held + message.bits as usize / 8;
        // The text's length takes four bytes.
        let room = 28_usize.saturating_sub(behind);
        let begun = if message.len < 32 { PRIME_5 } else { merge(&message.lanes) };
        Self { message, begun, room }
    }

    /// The hash of the message with a text behind it and before that its length.
    #[inline]
    pub(crate) fn hash_with(&self, text: &[u8]) -> u64 {
        if text.len() >= self.room {
            return self.hash_with_long(text);
        }
        let Message { words, held, mut rest, mut bits, len, .. } = self.message;
        let number = text.len() as u64;
        let mut hash = self.begun.wrapping_add(len).wrapping_add(4).wrapping_add(number);
        for word in words.iter().take(held) {
            hash = step(hash, *word);
        }
        let mut put = |number: u64, width: u32| {
            let word = rest | number << (bits & 63);
            bits += width;
            if bits < 64 {
                rest = word;
            } else {
                hash = step(hash, word);
                bits -= 64;
                rest = above(number, bits.wrapping_sub(width));
            }
        };
        let (chunks, tail) = text.as_chunks::<8>();
        put(number, 32);
        chunks.iter().for_each(|chunk| put(u64::from_le_bytes(*chunk), 64));
        put(low_bytes(text, tail), 8 * tail.len() as u32);
        end(hash, rest, bits)
    }

    #[inline(never)]
    fn hash_with_long(&self, text: &[u8]) -> u64 {
        let mut message = self.message.clone();
        message.text(text);
        message.hash()
    }
}

/// The accumulators before the first stripe.
const LANES: [u64; 4] = [PRIME_1.wrapping_add(PRIME_2), PRIME_2, 0, 0_u64.wrapping_sub(PRIME_1)];

/// What of a number does not fit into a word whose lowest `bits` are taken.
#[inline]
fn above(number: u64, bits: u32) -> u64 {
    // In two steps, since nothing of it remains when all of it fits.
    number >> 1 >> (63 - (bits & 63))
}

#[inline]
fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(PRIME_2)).rotate_left(31).wrapping_mul(PRIME_1)
}

/// The hash of the stripes of a message of `len` bytes.
#[inline]
fn begin(lanes: &[u64; 4], len: u64) -> u64 {
    if len < 32 {
        return PRIME_5.wrapping_add(len);
    }
    merge(lanes).wrapping_add(len)
}

/// The hash of the accumulators alone.
#[inline]
fn merge(lanes: &[u64; 4]) -> u64 {
    let [a, b, c, d] = *lanes;
    let sum = a
        .rotate_left(1)
        .wrapping_add(b.rotate_left(7))
        .wrapping_add(c.rotate_left(12))
        .wrapping_add(d.rotate_left(18));
    let merge = |hash: u64, lane: u64| (hash ^ round(0, lane)).wrapping_mul(PRIME_1).wrapping_add(PRIME_4);
    merge(merge(merge(merge(sum, a), b), c), d)
}

/// Adds a word behind the last stripe.
#[inline]
fn step(hash: u64, word: u64) -> u64 {
    (hash ^ round(0, word)).rotate_left(27).wrapping_mul(PRIME_1).wrapping_add(PRIME_4)
}

/// Adds the bytes behind the last word, lowest first, and spreads what came of it over all bits.
#[inline]
fn end(mut hash: u64, mut rest: u64, mut bits: u32) -> u64 {
    if bits >= 32 {
        let four = rest & u64::from(u32::MAX);
        hash =
            (hash ^ four.wrapping_mul(PRIME_1)).rotate_left(23).wrapping_mul(PRIME_2).wrapping_add(PRIME_3);
        rest >>= 32;
        bits -= 32;
    }
    while bits > 0 {
        hash = (hash ^ (rest & 0xff).wrapping_mul(PRIME_5)).rotate_left(11).wrapping_mul(PRIME_1);
        rest >>= 8;
        bits -= 8;
    }
    hash = (hash ^ hash >> 33).wrapping_mul(PRIME_2);
    hash = (hash ^ hash >> 29).wrapping_mul(PRIME_3);
    hash ^ hash >> 32
}

/// The bytes of `tail`, at most seven, as a number, lowest first; they are the last ones of `bytes`.
#[inline]
fn low_bytes(bytes: &[u8], tail: &[u8]) -> u64 {
    let len = tail.len() as u32;
    if let Some(last) = bytes.last_chunk::<8>() {
        // In two steps, since nothing of it remains when the tail is empty.
        return u64::from_le_bytes(*last) >> 8 >> ((56 - 8 * len) & 63);
    }
    if let (Some(first), Some(last)) = (tail.first_chunk::<4>(), tail.last_chunk::<4>()) {
        let (first, last) = (u64::from(u32::from_le_bytes(*first)), u64::from(u32::from_le_bytes(*last)));
        return first | last << ((8 * (len - 4)) & 63);
    }
    tail.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use xxhash_rust::xxh64::xxh64;

    use super::*;

    #[test]
    fn every_length_and_every_cut_gives_the_hash_of_the_whole() {
        let bytes: Vec<u8> = (0..200_u32).map(|n| (n * 151 + 7) as u8).collect();
        for len in 0..=bytes.len() {
            let whole = &bytes[..len];
            for cut in 0..=len {
                let mut message = Message::new();
                message.bytes(&whole[..cut]);
                message.bytes(&whole[cut..]);
                assert_eq!(message.hash(), xxh64(whole, 0), "{len} bytes cut at {cut}");
            }
            assert_eq!(hash(whole), xxh64(whole, 0), "{len} bytes");
        }
    }

    #[test]
    fn a_text_behind_a_message_is_hashed_with_its_length() {
        let bytes: Vec<u8> = (0..200_u32).map(|n| (n * 151 + 7) as u8).collect();
        for cut in 0..70 {
            for len in 0..=120 {
                let (before, text) = (&bytes[..cut], &bytes[cut..cut + len]);
                let mut message = Message::new();
                message.bytes(before);
                let whole = [before, &(len as u32).to_le_bytes(), text].concat();
                let prefix = Prefix::new(message);
                assert_eq!(prefix.hash_with(text), xxh64(&whole, 0), "{len} bytes behind {cut}");
            }
        }
    }

    proptest! {
        #[test]
        fn pieces_hash_like_the_whole(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            number in any::<u64>(),
            len in 1_u32..=8,
        ) {
            let number = number & (u64::MAX >> (64 - 8 * len));
            let mut message = Message::new();
            let mut whole = Vec::new();
            for piece in &pieces {
                message.text(piece);
                message.number(number, 8 * len);
                whole.extend_from_slice(&(piece.len() as u32).to_le_bytes());
                whole.extend_from_slice(piece);
                whole.extend_from_slice(&number.to_le_bytes()[..len as usize]);
            }
            prop_assert_eq!(message.hash(), xxh64(&whole, 0));
        }
    }
}
