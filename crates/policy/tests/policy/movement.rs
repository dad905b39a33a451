//! Which users a change of shares moves, seen through whole bundles.

use lockgate_policy::{Bundle, CompileOptions};

use crate::{bundle, bundle_with, context};

fn source(split: &str) -> String {
    let models = "{ a: { model: m@1.0.0 }, b: { model: m@1.0.0 }, c: { model: m@1.0.0 } }";
    format!(
        "lockgate: 1\nroutes: {{ r: {{ variants: {models}, baseline: a, rules: [{{ name: rule, if: {{ tenant: t }}, {split} }}], default: {{ {split} }} }} }}"
    )
}

/// The variant of each of 20 000 users, by the rule and by the default.
fn variants(bundle: &Bundle) -> Vec<String> {
    let of = |words: String| bundle.decide(&context(&words), 0, &[]).unwrap().variant.to_owned();
    (0..10_000).flat_map(|n| [of(format!("r user=u{n}")), of(format!("r user=u{n} tenant=t"))]).collect()
}

fn moves(before: &[String], after: &[String]) -> Vec<(String, String)> {
    let pairs = before.iter().zip(after).filter(|(before, after)| before != after);
    pairs.map(|(before, after)| (before.clone(), after.clone())).collect()
}

#[test]
fn raising_the_canary_moves_users_into_it_only() {
    let shares = ["a: 100, b: 0", "a: 90, b: 10", "a: 75, b: 25", "a: 0.001, b: 99.999"];
    let bundles = shares.map(|shares| variants(&bundle(&source(&format!("split: {{ {shares} }}")))));
    for pair in bundles.windows(2) {
        let moves = moves(&pair[0], &pair[1]);
        assert!(!moves.is_empty());
        assert!(moves.iter().all(|(before, after)| before == "a" && after == "b"));
    }
}

#[test]
fn with_a_base_only_those_move_whose_variant_shrank() {
    let first = bundle(&source("split: { a: 60, b: 20, c: 20 }"));
    let before = variants(&first);
    let changed = source("split: { a: 50, b: 30, c: 20 }");
    // Laid out anew, users of `c` move although its share stays.
    let anew = moves(&before, &variants(&bundle(&changed)));
    assert!(anew.iter().any(|(before, _)| before == "c"));
    let second = bundle_with(&changed, CompileOptions { base: Some(&first), ..Default::default() });
    let based = moves(&before, &variants(&second));
    assert!(!based.is_empty());
    assert!(based.iter().all(|(before, after)| before == "a" && after == "b"));
    // The base of a base: what has moved stays.
    let third = source("split: { a: 50, b: 25, c: 25 }");
    let third = bundle_with(&third, CompileOptions { base: Some(&second), ..Default::default() });
    let moved = moves(&variants(&second), &variants(&third));
    assert!(moved.iter().all(|(before, after)| before == "b" && after == "c"));
}

#[test]
fn with_a_base_one_variant_becomes_a_split() {
    let first = bundle(&source("serve: b"));
    let split = source("split: { b: 90, c: 10 }");
    let second = bundle_with(&split, CompileOptions { base: Some(&first), ..Default::default() });
    let moved = moves(&variants(&first), &variants(&second));
    let share = moved.len() as f64 / 20_000.0;
    assert!((0.08..0.12).contains(&share), "{share}");
    assert!(moved.iter().all(|(before, after)| before == "b" && after == "c"));
}

#[test]
fn shares_come_out_as_they_are_written() {
    let bundle = bundle(&source("split: { a: 70, b: 20, c: 10 }"));
    let variants = variants(&bundle);
    for (name, share) in [("a", 0.7), ("b", 0.2), ("c", 0.1)] {
        let found = variants.iter().filter(|variant| *variant == name).count() as f64 / variants.len() as f64;
        // Six standard deviations of a binomial distribution over the 10 000 users.
        let bound = 6.0 * f64::sqrt(share * (1.0 - share) / 10_000.0);
        assert!((found - share).abs() < bound, "{name}: {found}");
    }
}

/// `alice` has bucket 36064 in this route's layer (docs/hashing.md), and `b` comes before the baseline `a`.
#[test]
fn an_interval_ends_before_its_end() {
    for (share, expected) in [("36.064", "a"), ("36.065", "b")] {
        let rest = if share == "36.064" { "63.936" } else { "63.935" };
        let source =
            source(&format!("split: {{ a: {rest}, b: {share} }}")).replace("{ r: ", "{ eurusd-direction: ");
        let bundle = bundle(&source);
        let decision = bundle.decide(&context("eurusd-direction user=alice"), 0, &[]).unwrap();
        assert_eq!((decision.bucket, decision.variant), (Some(36_064), expected), "{share}");
    }
}
