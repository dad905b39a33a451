//! The fuzz targets of `fuzz/`, bounded and the same every time: the committed corpus, then mutations of it and of the seeds.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use lockgate_tests::root;

#[path = "../../fuzz/src/targets/mod.rs"]
#[expect(unreachable_pub, clippy::expect_used, clippy::panic, reason = "the module belongs to another crate")]
mod targets;

use targets::{TARGETS, Target};

/// Mutations per target; LOCKGATE_FUZZ_ROUNDS asks for more.
const ROUNDS: u64 = 4_000;
/// No input is larger, and none may make its target hold more than [`MEMORY`] at once.
const LARGEST: usize = 64 << 10;
const MEMORY: usize = 256 << 20;
/// Nor may any take longer, by far more than the slowest one takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct Measuring;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "memory is measured by being the allocator")]
mod allocator {
    use super::*;

    // SAFETY: every call goes to the system's allocator unchanged.
    unsafe impl GlobalAlloc for Measuring {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            let held = HELD.get().saturating_add(layout.size());
            HELD.set(held);
            MOST.set(MOST.get().max(held));
            // SAFETY: the caller keeps to the contract of `alloc`.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            HELD.set(HELD.get().saturating_sub(layout.size()));
            // SAFETY: the caller keeps to the contract of `dealloc`, and the pointer is the system's.
            unsafe { System.dealloc(pointer, layout) }
        }
    }
}

#[global_allocator]
static ALLOCATOR: Measuring = Measuring;

#[test]
fn policy_source() {
    check(0);
}

#[test]
fn bundle() {
    check(1);
}

#[test]
fn unit_list() {
    check(2);
}

#[test]
fn package() {
    check(3);
}

#[test]
fn decide() {
    check(4);
}

#[test]
fn predict() {
    check(5);
}

#[test]
fn format() {
    check(6);
}

#[test]
fn matches() {
    check(7);
}

#[test]
fn semver() {
    check(8);
}

#[test]
fn bucket() {
    check(9);
}

#[test]
fn import() {
    check(10);
}

#[test]
fn cases() {
    check(11);
}

#[test]
fn keys() {
    check(12);
}

#[test]
fn onnx() {
    check(13);
}

#[test]
fn model() {
    check(14);
}

#[test]
fn automaton() {
    check(15);
}

/// Seeds for libFuzzer, into `target/tmp/seeds`.
#[test]
#[ignore = "writes files for cargo-fuzz"]
fn write_seeds() {
    for target in TARGETS {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("seeds").join(target.name);
        std::fs::create_dir_all(&folder).unwrap();
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            std::fs::write(folder.join(number.to_string()), seed).unwrap();
        }
    }
}

fn check(number: usize) {
    let target = &TARGETS[number];
    let seeds = (target.seeds)();
    for seed in &seeds {
        assert!(run(target, seed), "a seed of {} is refused at the door", target.name);
    }
    // The corpus has inputs that must be refused, too; what is made of them would mostly be refused again.
    let inputs: Vec<_> = seeds.into_iter().chain(corpus(target).filter(|input| run(target, input))).collect();
    assert!(!inputs.is_empty(), "{} has no inputs", target.name);
    let mut random = Random(number as u64);
    let rounds = std::env::var("LOCKGATE_FUZZ_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap());
    let mut through = 0;
    for _ in 0..rounds {
        let mut input = inputs[random.below(inputs.len())].clone();
        let changed = target.change.filter(|_| random.below(8) > 0).and_then(|change| {
            let other = random.below(inputs.len());
            change(&mut |end| random.below(end), &input, &inputs[other])
        });
        match changed {
            Some(changed) => input = changed,
            None => {
                for _ in 0..=random.below(3) {
                    mutate(&mut random, &mut input, &inputs, target.words);
                }
            }
        }
        input.truncate(LARGEST);
        through += u64::from(run(target, &input));
    }
    // Inputs that are all refused would try little.
    assert!(through >= rounds / 100, "{}: only {through} of {rounds} inputs got through", target.name);
}

fn run(target: &Target, input: &[u8]) -> bool {
    let before = HELD.get();
    MOST.set(before);
    let saved = Saved { target: target.name, input };
    let start = Instant::now();
    let through = (target.run)(input);
    assert!(start.elapsed() < PATIENCE, "{} took {:?}", target.name, start.elapsed());
    let most = MOST.get().saturating_sub(before);
    assert!(most < MEMORY, "{} held {most} bytes for an input of {}", target.name, input.len());
    std::mem::forget(saved);
    through
}

/// Writes the input into a file when its target panics.
struct Saved<'a> {
    target: &'static str,
    input: &'a [u8],
}

impl Drop for Saved<'_> {
    fn drop(&mut self) {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}", self.target));
        if std::fs::write(&file, self.input).is_ok() {
            std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("the input is in {}\n", file.display()),
            )
            .ok();
        }
    }
}

/// The committed corpus.
fn corpus(target: &Target) -> impl Iterator<Item = Vec<u8>> {
    let folder = std::fs::read_dir(root().join("fuzz/corpus").join(target.name));
    let mut files: Vec<_> = folder.into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| std::fs::read(file).unwrap())
}

fn mutate(random: &mut Random, input: &mut Vec<u8>, inputs: &[Vec<u8>], words: &[&str]) {
    // Most texts that change anywhere are no policies any more; a word for a word often leaves one.
    if !words.is_empty() && random.below(10) < 8 {
        let other = random.below(inputs.len());
        let from = word(random, &inputs[other]);
        let to = word_range(random, input);
        input.splice(to, from);
        return;
    }
    let at = random.below(input.len() + 1);
    let most = 1 << random.below(8);
    let end = (at + 1 + random.below(most)).min(input.len());
    match random.below(if words.is_empty() { 7 } else { 10 }) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = [0, 1, 0x7F, 0x80, 0xFF, b'"'][random.below(6)],
        2 => drop(input.drain(at..end.max(at))),
        3 => {
            let part = input[at..end.max(at)].to_vec();
            let to = random.below(input.len() + 1);
            input.splice(to..to, part);
        }
        4 => {
            let other = &inputs[random.below(inputs.len())];
            let from = random.below(other.len() + 1);
            let part = other[from..(from + 1 + random.below(64)).min(other.len()).max(from)].to_vec();
            input.splice(at..at, part);
        }
        // A number where binary formats have theirs.
        5 | 6 if input.len() >= 8 => {
            let at = random.below(input.len() - 3) & !3;
            let number =
                [0, 1, 2, 16, 255, 256, 65_535, 1 << 20, u32::MAX, u32::MAX - 1, 1 << 31][random.below(11)];
            let number = if random.below(3) == 0 { random.below(4096) as u32 } else { number };
            input[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        _ if !words.is_empty() => {
            let word = words[random.below(words.len())].bytes();
            let to = if random.below(2) == 0 { at } else { end.max(at) };
            input.splice(at..to, word);
        }
        _ => input.truncate(at),
    }
}

/// Where some word of a text lies.
fn word_range(random: &mut Random, text: &[u8]) -> std::ops::Range<usize> {
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-%".contains(byte) || *byte > 127;
    let at = random.below(text.len() + 1);
    let start = at + text[at..].iter().position(part).unwrap_or(0);
    let end = start + text[start..].iter().position(|byte| !part(byte)).unwrap_or(text.len() - start);
    start..end
}

/// Some word of a text.
fn word(random: &mut Random, text: &[u8]) -> Vec<u8> {
    let range = word_range(random, text);
    text[range].to_vec()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % end.max(1) as u64) as usize
    }
}
