//! Which units a change of shares moves, bucket by bucket, seen through whole bundles.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use lockgate_policy::{BUCKETS, Bundle, bucket};
use proptest::prelude::*;

use crate::{bundle, bundle_on, case};

/// A user for every bucket of the layers with the salt `s`.
static USERS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut users = vec![String::new(); BUCKETS as usize];
    let mut missing = BUCKETS;
    for n in 0_u32.. {
        let user = format!("u{n}");
        let slot = &mut users[bucket("s", [user.as_str()]) as usize];
        if slot.is_empty() {
            *slot = user;
            missing -= 1;
        }
        if missing == 0 {
            break;
        }
    }
    users
});

/// What each bucket gets: the rule (if one matched) and the variant.
fn owners(bundle: &Bundle, words: &str) -> Vec<String> {
    let mut case = case(words);
    let owner = |user: &String| {
        case.context.user = Some(user.clone());
        let decision = bundle.decide(&case.context, case.now, &[]).unwrap();
        format!(
            "{}{}",
            decision.rule().map(|rule| format!("{rule}/")).unwrap_or_default(),
            decision.variant().name
        )
    };
    USERS.iter().map(owner).collect()
}

fn widths(owners: &[String]) -> BTreeMap<&str, i64> {
    let mut widths = BTreeMap::new();
    for owner in owners {
        *widths.entry(owner.as_str()).or_default() += 1;
    }
    widths
}

/// Exactly half of the L1 difference moves, and only units of owners that shrank. Returns how many.
#[track_caller]
fn check_moves(before: &[String], after: &[String]) -> usize {
    let (old, new) = (widths(before), widths(after));
    let width = |widths: &BTreeMap<&str, i64>, owner: &str| widths.get(owner).copied().unwrap_or_default();
    let moved: Vec<_> = before.iter().zip(after).filter(|(before, after)| before != after).collect();
    for (from, to) in &moved {
        assert!(width(&new, from) < width(&old, from), "a unit left `{from}`, which did not shrink");
        assert!(width(&new, to) > width(&old, to), "a unit came to `{to}`, which did not grow");
    }
    let names: BTreeSet<&&str> = old.keys().chain(new.keys()).collect();
    let difference: i64 = names.iter().map(|name| (width(&old, name) - width(&new, name)).abs()).sum();
    assert_eq!(moved.len() as i64 * 2, difference);
    moved.len()
}

const VARIANTS: &str = "variants: { a: { model: m@1.0.0 }, b: { model: m@1.0.0 }, c: { model: m@1.0.0 }, d: { model: m@1.0.0 } }, baseline: a, salt: s";

/// A route whose default serves this.
fn default(serve: &str) -> String {
    format!("lockgate: 1\nroutes: {{ r: {{ {VARIANTS}, default: {{ {serve} }} }} }}")
}

#[test]
fn raising_a_variant_moves_units_into_it_only() {
    let shares = ["a: 100, b: 0", "a: 90, b: 10", "a: 75, b: 25", "a: 0.001, b: 99.999"];
    let owners = shares.map(|shares| owners(&bundle(&default(&format!("split: {{ {shares} }}"))), "r"));
    for pair in owners.windows(2) {
        assert!(check_moves(&pair[0], &pair[1]) > 0);
    }
}

#[test]
fn shares_come_out_exactly() {
    let owners = owners(&bundle(&default("split: { a: 69.999, b: 20, c: 10.001 }")), "r");
    assert_eq!(widths(&owners), [("a", 69_999), ("b", 20_000), ("c", 10_001)].into());
    // In the order of the names, the baseline last.
    assert_eq!((owners[0].as_str(), owners[20_000].as_str(), owners[30_001].as_str()), ("b", "c", "a"));
}

#[test]
fn with_a_base_only_those_move_whose_variant_shrank() {
    let first = bundle(&default("split: { a: 60, b: 20, c: 20 }"));
    let before = owners(&first, "r");
    let changed = default("split: { a: 50, b: 30, c: 20 }");
    // Laid out anew, users of `c` move although its share stays.
    let anew = owners(&bundle(&changed), "r");
    assert!(before.iter().zip(&anew).any(|(before, after)| before == "c" && after != "c"));
    let second = bundle_on(&first, &changed);
    let after = owners(&second, "r");
    assert_eq!(check_moves(&before, &after), 10_000);
    // The base of a base: what has moved stays.
    let third = bundle_on(&second, &default("split: { a: 50, b: 25, d: 25 }"));
    assert_eq!(check_moves(&after, &owners(&third, "r")), 25_000);
    // The same shares again move nobody.
    let fourth = bundle_on(&third, &default("split: { a: 50, b: 25, d: 25 }"));
    assert_eq!(check_moves(&owners(&third, "r"), &owners(&fourth, "r")), 0);
}

#[test]
fn one_variant_counts_as_a_split_and_steps_are_known_by_name() {
    let first = bundle(&default("serve: b"));
    let second = bundle_on(&first, &default("split: { b: 90, c: 10 }"));
    assert_eq!(check_moves(&owners(&first, "r"), &owners(&second, "r")), 10_000);

    let route = |steps: &str| {
        format!("lockgate: 1\nroutes: {{ r: {{ {VARIANTS}, {steps}, default: {{ serve: a }} }} }}")
    };
    let group = bundle(&route("test_groups: [{ name: x, tenants: [t], split: { a: 30, b: 30, c: 40 } }]"));
    let before = owners(&group, "r tenant=t");
    // The step becomes another kind under the same name, and keeps its intervals.
    let changed = "rules: [{ name: x, if: { tenant: t }, split: { a: 40, b: 20, c: 40 } }]";
    assert_eq!(check_moves(&before, &owners(&bundle_on(&group, &route(changed)), "r tenant=t")), 10_000);
    // Under another name it is a new one.
    let renamed = bundle_on(&group, &route(&changed.replace("name: x", "name: y")));
    let anew = bundle(&route(&changed.replace("name: x", "name: y")));
    assert_eq!(owners(&renamed, "r tenant=t"), owners(&anew, "r tenant=t"));
    // A rule called `default` is not the default.
    let named = route("rules: [{ name: default, if: { tenant: t }, split: { a: 30, b: 30, c: 40 } }]");
    let based = bundle_on(&first, &named);
    assert_eq!(owners(&based, "r tenant=t"), owners(&bundle(&named), "r tenant=t"));
}

#[test]
fn definitions_of_other_scopes_have_their_own_intervals() {
    let source = |platform: &str, tenant: &str| {
        format!(
            "lockgate: 1\nroutes: {{ r: {{ {VARIANTS}, default: {{ split: {{ {platform} }} }} }} }}\ntenants: {{ t: {{ routes: {{ r: {{ {VARIANTS}, default: {{ split: {{ {tenant} }} }} }} }} }} }}"
        )
    };
    let first = bundle(&source("a: 50, b: 50", "b: 20, c: 80"));
    let second = bundle_on(&first, &source("a: 40, b: 60", "b: 30, c: 70"));
    assert_eq!(check_moves(&owners(&first, "r"), &owners(&second, "r")), 10_000);
    assert_eq!(check_moves(&owners(&first, "r tenant=t"), &owners(&second, "r tenant=t")), 10_000);
}

const RAMP: &str = "ramp: { to: b, start: 2026-01-01T00:00:00Z, approved_stage: 3, stages: [{ share: 10, hold: 1d }, { share: 50, hold: 1d }, { share: 100 }] }";

fn day(number: u32) -> String {
    format!("r @2026-01-{number:02}T00:00:00Z")
}

#[test]
fn the_stages_of_a_ramp_nest() {
    let bundle = bundle(&default(RAMP));
    let stages: Vec<Vec<String>> = ["r @2025-12-31T00:00:00Z".to_owned(), day(1), day(2), day(3)]
        .iter()
        .map(|words| owners(&bundle, words))
        .collect();
    let moved: Vec<usize> = stages.windows(2).map(|pair| check_moves(&pair[0], &pair[1])).collect();
    assert_eq!(moved, [10_000, 40_000, 50_000]);
}

#[test]
fn an_edited_ramp_keeps_the_stages_that_it_keeps() {
    let first = bundle(&default(RAMP));
    // A stage between the others, and another beginning.
    let edited = RAMP.replace("{ share: 10, hold: 1d }", "{ share: 5, hold: 1d }, { share: 10, hold: 1d }");
    let second = bundle_on(&first, &default(&edited.replace("approved_stage: 3", "approved_stage: 4")));
    assert_eq!(owners(&first, &day(1)), owners(&second, &day(2)));
    assert_eq!(owners(&first, &day(2)), owners(&second, &day(3)));
    // The new first stage is based on the old first one.
    assert_eq!(check_moves(&owners(&first, &day(1)), &owners(&second, &day(1))), 5_000);
    // A stage that has its like in the old ramp is that stage, and not made of the one before it.
    let edited = RAMP.replace("share: 10,", "share: 60,");
    let third = bundle_on(&first, &default(&edited));
    assert_eq!(owners(&first, &day(2)), owners(&third, &day(2)));
    assert_ne!(owners(&first, &day(2)), owners(&bundle(&default(&edited)), &day(2)));
}

#[test]
fn a_split_and_a_ramp_take_over_from_each_other() {
    let split = bundle(&default("split: { a: 85, b: 10, c: 5 }"));
    let ramp = bundle_on(&split, &default(RAMP));
    assert_eq!(check_moves(&owners(&split, "r"), &owners(&ramp, &day(1))), 5_000);
    // The split that has the shares of a stage becomes that stage.
    let back = bundle_on(&ramp, &default("split: { a: 50, b: 50 }"));
    assert_eq!(owners(&ramp, &day(2)), owners(&back, "r"));
    // One that has no stage's shares is based on the last stage that was approved.
    let approved = bundle_on(&split, &default(&RAMP.replace("approved_stage: 3", "approved_stage: 2")));
    let other = bundle_on(&approved, &default("split: { a: 40, b: 60 }"));
    assert_eq!(check_moves(&owners(&approved, &day(2)), &owners(&other, "r")), 10_000);
    let automatic = bundle_on(&split, &default(&RAMP.replace("approved_stage: 3", "automatic: true")));
    let other = bundle_on(&automatic, &default("split: { a: 40, b: 60 }"));
    assert_eq!(check_moves(&owners(&automatic, &day(3)), &owners(&other, "r")), 40_000);
    // Of the last stage, which gave everything to `b`, the lowest buckets stay.
    assert_eq!(owners(&other, "r")[0], "b");
    let unapproved = bundle_on(&split, &default(&RAMP.replace("approved_stage: 3", "approved_stage: 0")));
    let other = bundle_on(&unapproved, &default("split: { a: 40, b: 60 }"));
    assert_eq!(check_moves(&owners(&unapproved, &day(3)), &owners(&other, "r")), 60_000);
}

/// Two routes with an experiment each in one layer, and a holdout.
fn layer(holdout: u32, first: &str, second: &str) -> String {
    let route = |name: &str, rules: &str| {
        format!("{name}: {{ {VARIANTS}, rules: [{rules}], default: {{ serve: a }} }}")
    };
    format!(
        "lockgate: 1\nlayers: {{ l: {{ salt: s, holdout: {holdout} }} }}\nroutes: {{ {}, {} }}",
        route("r", first),
        route("q", second)
    )
}

fn experiment(name: &str, share: u32, split: &str) -> String {
    format!("{{ name: {name}, experiment: {{ layer: l, share: {share}, split: {{ {split} }} }} }}")
}

/// Who owns each bucket of the layer, by what both routes say; fails where both claim it.
#[track_caller]
fn layer_owners(bundle: &Bundle) -> Vec<String> {
    let both = owners(bundle, "q").into_iter().zip(owners(bundle, "r"));
    // Only routes with an experiment in the layer know of its holdout.
    both.map(|(q, r)| match (q.as_str(), r.as_str()) {
        ("l/a", "l/a" | "a") | ("a", "l/a") => "holdout".to_owned(),
        ("a", "a") => "nobody".to_owned(),
        (_, "a") => format!("q:{q}"),
        ("a", _) => format!("r:{r}"),
        _ => panic!("{q} and {r} overlap"),
    })
    .collect()
}

#[test]
fn experiments_of_a_layer_never_overlap() {
    let one =
        bundle(&layer(5, &experiment("x", 20, "a: 50, b: 50"), &experiment("y", 40, "a: 25, b: 50, c: 25")));
    let before = layer_owners(&one);
    assert_eq!(
        widths(&before),
        [
            ("holdout", 5_000),
            ("nobody", 35_000),
            ("q:y/a", 10_000),
            ("q:y/b", 20_000),
            ("q:y/c", 10_000),
            ("r:x/a", 10_000),
            ("r:x/b", 10_000)
        ]
        .into()
    );
    // The holdout first, then the experiments by route and rule, variants by name with the baseline last.
    let borders = [0, 5_000, 25_000, 35_000, 45_000, 55_000, 65_000].map(|bucket| before[bucket].as_str());
    assert_eq!(borders, ["holdout", "q:y/b", "q:y/c", "q:y/a", "r:x/b", "r:x/a", "nobody"]);

    // One experiment grows, one more begins: with the base, nobody else moves.
    let rules = [experiment("x", 20, "a: 50, b: 50"), experiment("w", 10, "c: 100")].join(", ");
    let two = bundle_on(&one, &layer(5, &rules, &experiment("y", 60, "a: 25, b: 50, c: 25")));
    assert_eq!(check_moves(&before, &layer_owners(&two)), 30_000);
    // One ends; the holdout does not change.
    let three = bundle_on(&two, &layer(5, &rules, ""));
    let after = layer_owners(&three);
    assert_eq!(check_moves(&layer_owners(&two), &after), 60_000);
    let held_out = |owners: &[String]| owners.iter().map(|owner| owner == "holdout").collect::<Vec<bool>>();
    assert_eq!(held_out(&before), held_out(&after));
    // The holdout grows into what is free.
    let four = bundle_on(&three, &layer(8, &rules, ""));
    assert_eq!(check_moves(&after, &layer_owners(&four)), 3_000);
}

#[test]
fn named_holdouts_move_as_little_as_splits() {
    let source = |share: u32| {
        format!(
            "lockgate: 1\nholdouts: {{ h: {{ share: {share}, salt: s }} }}\nroutes: {{ r: {{ {VARIANTS}, rules: [{{ name: x, if: {{ user: {{ present: true }} }}, serve: b }}], default: {{ serve: a }} }} }}"
        )
    };
    let first = bundle(&source(5));
    assert_eq!(widths(&owners(&first, "r")), [("h/a", 5_000), ("x/b", 95_000)].into());
    let second = bundle_on(&first, &source(8));
    assert_eq!(check_moves(&owners(&first, "r"), &owners(&second, "r")), 3_000);
    let third = bundle_on(&second, &source(2));
    assert_eq!(check_moves(&owners(&second, "r"), &owners(&third, "r")), 6_000);
}

#[test]
fn a_layer_of_another_system_is_laid_out_as_that_system_does_it() {
    let source = |serve: &str| {
        format!(
            "lockgate: 1\nlayers: {{ gb: {{ hash: growthbook, salt: s }} }}\nroutes: {{ r: {{ {VARIANTS}, default: {{ layer: gb, {serve} }} }} }}"
        )
    };
    let first = bundle(&source("split: { c: 50, a: 30, b: 20 }"));
    let ends = |bundle: &Bundle| {
        let mut ends: BTreeMap<String, (u32, u32)> = BTreeMap::new();
        for user in USERS.iter().step_by(3) {
            let mut case = case("r");
            case.context.user = Some(user.clone());
            let decision = bundle.decide(&case.context, 0, &[]).unwrap();
            let bucket = decision.bucket.unwrap();
            let entry = ends.entry(decision.variant().name.to_owned()).or_insert((bucket, bucket));
            *entry = (entry.0.min(bucket), entry.1.max(bucket));
        }
        ends
    };
    // In the order of the source, out of 10 000 buckets; a base changes nothing.
    let expected = [("a", (5_000, 7_999)), ("b", (8_000, 9_999)), ("c", (0, 4_999))];
    assert_eq!(ends(&first), expected.map(|(name, ends)| (name.to_owned(), ends)).into());
    let second = source("split: { c: 40, a: 30, b: 30 }");
    assert_eq!(owners(&bundle_on(&first, &second), "r"), owners(&bundle(&second), "r"));
    // Coming from there, too, there is nothing to keep.
    let ours = default("split: { a: 50, b: 50 }");
    assert_eq!(owners(&bundle_on(&first, &ours), "r"), owners(&bundle(&ours), "r"));
}

/// `alice` has bucket 36064 in this route's layer (docs/hashing.md), and `b` comes before the baseline `a`.
#[test]
fn an_interval_ends_before_its_end() {
    for (share, rest, expected) in [("36.064", "63.936", "a"), ("36.065", "63.935", "b")] {
        let source = default(&format!("split: {{ a: {rest}, b: {share} }}"));
        let source = source.replace("{ r: ", "{ eurusd-direction: ").replace(", salt: s", "");
        let found = crate::decided(&bundle(&source), "eurusd-direction user=alice");
        assert_eq!(found, format!("{expected} SPLIT default layer=eurusd-direction bucket=36064"));
    }
}

/// Shares in buckets of the four variants.
fn shares() -> impl Strategy<Value = [u32; 4]> {
    prop::collection::vec(prop_oneof![Just(0), Just(BUCKETS), 0..=BUCKETS], 3).prop_map(|mut cuts| {
        cuts.sort_unstable();
        [cuts[0], cuts[1] - cuts[0], cuts[2] - cuts[1], BUCKETS - cuts[2]]
    })
}

fn split(shares: [u32; 4]) -> String {
    let percent = |share: u32| format!("{}.{:03}", share / 1000, share % 1000);
    let [a, b, c, d] = shares.map(percent);
    format!("split: {{ d: {d}, a: {a}, b: {b}, c: {c} }}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn any_change_with_a_base_moves_exactly_what_it_must(steps in prop::collection::vec(shares(), 3)) {
        let mut last = bundle(&default(&split(steps[0])));
        let mut before = owners(&last, "r");
        for shares in &steps[1..] {
            last = bundle_on(&last, &default(&split(*shares)));
            let after = owners(&last, "r");
            check_moves(&before, &after);
            before = after;
        }
    }

    #[test]
    fn any_change_of_experiments_leaves_the_others_alone(changes in prop::collection::vec((0..=3_u32, 1..=4_u32, 1..=4_u32), 3)) {
        let source = |(holdout, first, second): (u32, u32, u32)| {
            layer(holdout * 5, &experiment("x", first * 10, "a: 20, b: 80"), &experiment("y", second * 10, "a: 50, c: 50"))
        };
        let mut last = bundle(&source(changes[0]));
        let mut before = layer_owners(&last);
        for change in &changes[1..] {
            last = bundle_on(&last, &source(*change));
            let after = layer_owners(&last);
            check_moves(&before, &after);
            before = after;
        }
    }
}
