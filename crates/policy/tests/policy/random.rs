//! Whatever the source, an answer comes and no panic; and what must hold for every policy.

use std::collections::BTreeMap;

use lockgate_package::{AlignedBytes, Envelope, EnvelopeBuilder, Kind};
use lockgate_policy::{
    BUCKETS, Bundle, CompileOptions, Trace, TraceDecision, bucket, compile, explain, write_source,
};
use proptest::prelude::*;

use crate::arbitrary::{self, Arbitrary};
use crate::{Case, checked, context, packages};

const POLICY: &str = include_str!("../../../../docs/policy.md");

/// Words that a policy is made of, so that random text gets past the first checks.
fn fragment() -> impl Strategy<Value = String> {
    let words = [
        "lockgate: 1",
        "routes:",
        "r:",
        "variants:",
        "baseline:",
        "default:",
        "split:",
        "serve:",
        "rules:",
        "- ",
        "if:",
        "all:",
        "any:",
        "not:",
        "attribute:",
        "in:",
        "eq:",
        "model: m@1.0.0",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\n",
        "\n  ",
        "\n    ",
        "\n      ",
        "&a",
        "*a",
        "100",
        "50.5",
        "-1",
        "1e400",
        ".inf",
        "~",
        "true",
        "\"x\"",
        "'",
        "!!str",
        "|",
        ">",
        "?",
        ":",
        "#",
        "segments:",
        "s",
        "a",
        "\u{feff}",
        "é",
        "\t",
        "\u{0}",
        "%YAML 1.2",
        "---",
        "...",
        "<<:",
    ];
    prop::sample::select(words.to_vec()).prop_map(str::to_owned)
}

fn survives(file: &str, text: &str) {
    match checked(file, text) {
        Err(problems) => {
            assert!(!problems.as_slice().is_empty());
            for problem in &problems {
                assert!(problem.line >= 1 && problem.column >= 1 && !problem.message.is_empty());
            }
            let _ = (problems.to_string(), serde_json::to_string(&problems).unwrap());
        }
        Ok(policy) => {
            let packages = packages(&policy);
            let options = CompileOptions { packages: &packages, ..Default::default() };
            if let Ok(compiled) = compile(&policy, &options) {
                crate::load_compiled(&compiled);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text(text in any::<String>()) {
        survives("p.yaml", &text);
        survives("p.json", &text);
    }

    #[test]
    fn any_words(words in prop::collection::vec(fragment(), 0..60)) {
        let text = words.concat();
        survives("p.yaml", &text);
        survives("p.json", &text);
        survives("p.yaml", &words.join(" "));
    }

    #[test]
    fn the_example_with_a_piece_cut_out_or_put_elsewhere(from in any::<prop::sample::Index>(), len in 1_usize..80, to in any::<prop::sample::Index>(), word in fragment()) {
        let (_, rest) = POLICY.split_once("```yaml\n").unwrap();
        let yaml: Vec<char> = rest.split_once("```").unwrap().0.chars().collect();
        let start = from.index(yaml.len());
        let end = (start + len).min(yaml.len());
        let mut text: Vec<char> = yaml[..start].iter().chain(&yaml[end..]).copied().collect();
        survives("p.yaml", &text.iter().collect::<String>());
        let at = to.index(text.len());
        text.splice(at..at, yaml[start..end].iter().copied());
        survives("p.yaml", &text.iter().collect::<String>());
        text.splice(at..at, word.chars());
        survives("p.yaml", &text.iter().collect::<String>());
    }

    #[test]
    fn any_tree(tree in tree()) {
        survives("p.json", &tree.to_string());
        survives("p.yaml", &tree.to_string());
    }
}

/// JSON trees whose keys are those of policies.
fn tree() -> impl Strategy<Value = serde_json::Value> {
    let keys = [
        "lockgate",
        "version",
        "models",
        "segments",
        "layers",
        "routes",
        "variants",
        "default",
        "serve",
        "split",
        "rules",
        "if",
        "all",
        "not",
        "attribute",
        "eq",
        "in",
        "m@1.0.0",
        "name",
        "users",
        "unit",
        "signature",
        "inputs",
        "shape",
        "r",
        "v",
    ];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        (0..101_u32).prop_map(Into::into),
        prop::sample::select(keys.to_vec()).prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        let key = prop::sample::select(keys.to_vec()).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(key, inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Every policy of the generator compiles, twice to the same bytes, and everything that is asked is answered and explained.
    #[test]
    fn any_policy_decides(Arbitrary { seed, source } in arbitrary::policies()) {
        let text = source.to_string();
        let bundle = bundle_of(&text, CompileOptions::default());
        let again = bundle_of(&text, CompileOptions::default());
        prop_assert_eq!(bundle.as_bytes(), again.as_bytes());
        for n in 0..40 {
            let Case { context, now, unavailable } = arbitrary::case(seed ^ n);
            let decision = bundle.decide(&context, now, &unavailable);
            let trace = explain(&bundle, &context, now, &unavailable);
            match (decision, trace) {
                (Ok(decision), Ok(trace)) => {
                    prop_assert_eq!(&trace.decision, &TraceDecision::new(&decision, &bundle));
                    prop_assert!(!trace.to_string().is_empty());
                    let json = serde_json::to_string(&trace).unwrap();
                    prop_assert_eq!(serde_json::from_str::<Trace>(&json).unwrap(), trace);
                    let again = bundle.decide(&context, now, &unavailable).unwrap();
                    prop_assert_eq!(decision, again);
                }
                (decision, trace) => prop_assert!(decision.is_err() && trace.is_err()),
            }
        }
    }

    /// What the bundle carries as its source compiles to the same decisions, and to the same source.
    #[test]
    fn any_policy_comes_back_from_its_bundle(Arbitrary { source, .. } in arbitrary::policies()) {
        let policy = checked("p.json", &source.to_string()).unwrap_or_else(|problems| panic!("{problems}"));
        let written = write_source(&policy);
        let again = checked("p.json", &written).unwrap_or_else(|problems| panic!("{problems}\n{written}"));
        prop_assert_eq!(&written, &write_source(&again));
        let one = bundle_of(&source.to_string(), CompileOptions::default());
        let other = bundle_of(&written, CompileOptions::default());
        prop_assert_eq!(one.source(), Some(written.as_str()));
        prop_assert_eq!(one.as_bytes(), other.as_bytes());
    }

    /// Neither the order of routes nor a route that nobody asks for changes a decision.
    #[test]
    fn unrelated_routes_change_nothing(Arbitrary { seed, source } in arbitrary::policies()) {
        let one = bundle_of(&source.to_string(), CompileOptions::default());
        let mut edited = source.clone();
        let routes = edited["routes"].as_object_mut().unwrap();
        let mut reversed: serde_json::Map<String, serde_json::Value> =
            routes.iter().rev().map(|(name, route)| (name.clone(), route.clone())).collect();
        for name in ["a-first-one", "zzz"] {
            let split = serde_json::json!({ "a": 50, "b": 50 });
            let variants = serde_json::json!({ "a": { "model": "m@1.0.0" }, "b": { "model": "zzz@1.0.0" } });
            let route = serde_json::json!({ "variants": variants, "baseline": "a", "default": { "split": split } });
            reversed.insert(name.to_owned(), route);
        }
        edited["routes"] = reversed.into();
        let other = bundle_of(&edited.to_string(), CompileOptions::default());
        for n in 0..40 {
            let Case { context, now, unavailable } = arbitrary::case(seed ^ n);
            prop_assert_eq!(one.decide(&context, now, &unavailable), other.decide(&context, now, &unavailable));
        }
    }

    /// Compiled on itself a policy is what it was, and any policy can be the base of any other.
    #[test]
    fn any_policy_is_a_base(Arbitrary { seed, source } in arbitrary::policies(), other in arbitrary::policies()) {
        let one = bundle_of(&source.to_string(), CompileOptions::default());
        let again = bundle_of(&source.to_string(), CompileOptions { base: Some(&one), ..Default::default() });
        prop_assert_eq!(one.as_bytes(), again.as_bytes());
        let based = bundle_of(&other.source.to_string(), CompileOptions { base: Some(&one), parent: Some(&one), version: Some(99), ..Default::default() });
        for n in 0..10 {
            let Case { context, now, unavailable } = arbitrary::case(seed ^ n);
            let _ = based.decide(&context, now, &unavailable).map(|decision| crate::words(&decision));
        }
    }

    /// Whatever bytes a bundle has, with the right digest: it is refused, or answers.
    #[test]
    fn hostile_bundles_are_refused_or_answer(Arbitrary { seed, source } in arbitrary::policies(), edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), edit()), 1..6)) {
        let bundle = bundle_of(&source.to_string(), CompileOptions { source: false, ..Default::default() });
        let envelope = Envelope::open(AlignedBytes::copy_of(bundle.as_bytes()), Kind::Bundle, (2, 0)).unwrap();
        let names: Vec<String> = envelope.section_names().map(str::to_owned).collect();
        let mut sections: Vec<Vec<u8>> =
            names.iter().map(|name| envelope.bytes_of(envelope.section(name).unwrap()).to_vec()).collect();
        for (section, at, edit) in edits {
            let bytes = &mut sections[section.index(names.len())];
            let words = bytes.len() / 4;
            let at = at.index(words.max(1)) * 4;
            match edit {
                Edit::Word(word) => if let Some(slot) = bytes.get_mut(at..at + 4) { slot.copy_from_slice(&word.to_le_bytes()) },
                Edit::Copy(from) => if words > 0 {
                    let from = from.index(words) * 4;
                    bytes.copy_within(from..from + 4, at);
                },
                Edit::Byte(byte) => if let Some(slot) = bytes.get_mut(at) { *slot ^= byte },
                Edit::Cut => bytes.truncate(at),
                Edit::Repeat => { let tail = bytes.clone(); bytes.extend(tail) },
            }
        }
        let mut builder = EnvelopeBuilder::new(Kind::Bundle, (2, 0), envelope.meta().to_vec());
        for (name, bytes) in names.iter().zip(sections) {
            builder.section(name, bytes);
        }
        if let Ok(bundle) = Bundle::load(AlignedBytes::copy_of(&builder.seal().unwrap())) {
            for n in 0..20 {
                let Case { context, now, unavailable } = arbitrary::case(seed ^ n);
                let decision = bundle.decide(&context, now, &unavailable).map(|decision| crate::words(&decision));
                let trace = explain(&bundle, &context, now, &unavailable).map(|trace| trace.to_string());
                prop_assert_eq!(decision.is_ok(), trace.is_ok());
            }
        }
    }
}

/// A change to the bytes of a section.
#[derive(Debug, Clone)]
enum Edit {
    /// Puts a word in place of another.
    Word(u32),
    /// Copies a word from elsewhere in the section, which is a likelier place or number than any.
    Copy(prop::sample::Index),
    /// Flips bits of a byte.
    Byte(u8),
    /// Cuts the section off.
    Cut,
    /// Repeats the section.
    Repeat,
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => prop_oneof![Just(u32::MAX), Just(u32::MAX - 1), 0..20_u32, any::<u32>()].prop_map(Edit::Word),
        4 => any::<prop::sample::Index>().prop_map(Edit::Copy),
        2 => (1..=u8::MAX).prop_map(Edit::Byte),
        1 => Just(Edit::Cut),
        1 => Just(Edit::Repeat),
    ]
}

fn bundle_of(source: &str, options: CompileOptions<'_>) -> Bundle {
    let policy = checked("p.json", source).unwrap_or_else(|problems| panic!("{problems}"));
    let packages = packages(&policy);
    let compiled = compile(&policy, &CompileOptions { packages: &packages, ..options });
    crate::load_compiled(&compiled.unwrap_or_else(|problems| panic!("{problems}")))
}

/// How many of a million users each variant of a default gets.
fn counts(bundle: &Bundle, prefix: &str) -> BTreeMap<String, u32> {
    let mut context = context("r");
    let mut counts = vec![0_u32; bundle.route("r").unwrap().variants().count()];
    for n in 0..1_000_000 {
        context.user = Some(format!("{prefix}{n}"));
        counts[bundle.decide(&context, 0, &[]).unwrap().variant_index as usize] += 1;
    }
    let names = bundle.route("r").unwrap().variants().map(|variant| variant.name.to_owned());
    names.zip(counts).collect()
}

#[test]
fn a_million_units_are_shared_out_as_a_coin_would() {
    let shares = [("a", 50.0), ("b", 33.3), ("c", 16.6), ("d", 0.1)];
    for (salt, prefix) in [("r", "user-"), ("pricing-2026", ""), ("é", "00000000-0000-4000-8000-")] {
        let bundle = crate::bundle(&format!(
            "lockgate: 1\nroutes: {{ r: {{ salt: {salt}, variants: {{ a: {{ model: m@1.0.0 }}, b: {{ model: m@1.0.0 }}, c: {{ model: m@1.0.0 }}, d: {{ model: m@1.0.0 }} }}, baseline: a, default: {{ split: {{ a: 50, b: 33.3, c: 16.6, d: 0.1 }} }} }} }}"
        ));
        let counts = counts(&bundle, prefix);
        for (name, share) in shares {
            let share = share / 100.0;
            let found = f64::from(counts[name]) / 1e6;
            // Five standard deviations of a binomial distribution: one run in two million would fail by chance.
            let bound = 5.0 * f64::sqrt(share * (1.0 - share) / 1e6);
            assert!((found - share).abs() < bound, "{salt} {name}: {found}");
        }
    }
}

/// In tables of the variants of two layers, independence is a chi-square of about (rows − 1)(columns − 1).
#[test]
fn layers_are_independent_of_each_other() {
    let salts = ["l1", "l2", "pricing", "pricing-2"];
    for (one, other) in [(0, 1), (0, 2), (2, 3), (1, 3)] {
        const PARTS: usize = 5;
        const UNITS: u32 = 200_000;
        let mut table = [[0_u32; PARTS]; PARTS];
        for n in 0..UNITS {
            let unit = format!("u{n}");
            let part = |salt: &str| bucket(salt, [unit.as_str()]) as usize * PARTS / BUCKETS as usize;
            table[part(salts[one])][part(salts[other])] += 1;
        }
        let row = |at: usize| f64::from(table[at].iter().sum::<u32>());
        let column = |at: usize| table.iter().map(|row| f64::from(row[at])).sum::<f64>();
        let mut chi_square = 0.0;
        for (at, cells) in table.iter().enumerate() {
            for (to, cell) in cells.iter().enumerate() {
                let expected = row(at) * column(to) / f64::from(UNITS);
                chi_square += (f64::from(*cell) - expected).powi(2) / expected;
            }
        }
        // With 16 degrees of freedom, one in a million is above 56.
        assert!(chi_square < 56.0, "{} and {}: {chi_square}", salts[one], salts[other]);
    }
}
