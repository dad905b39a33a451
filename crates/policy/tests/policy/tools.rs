//! The tools around a policy: layout, cases, differences, simulations, and the source in a bundle.

use std::collections::BTreeMap;

use lockgate_policy::{
    CompileOptions, RequestContext, assume_approvals, compile, diff, diff_units, format_source, parse,
    parse_cases, simulate, unit_lists, verify_source,
};
use proptest::prelude::*;

use crate::{arbitrary, bundle, bundle_with, load_compiled, millis, packages, policy};

const EVERYTHING: &str = include_str!("everything.yaml");

const RAMP: &str = "
lockgate: 1
routes:
  r:
    variants: { stable: { model: m@1.0.0 }, canary: { model: m@2.0.0, payload: { threshold: 0.5 } } }
    baseline: stable
    overrides: [ { user: alice, serve: canary } ]
    rules: [ { name: german, if: { attribute: country, eq: DE }, serve: canary } ]
    default:
      ramp:
        to: canary
        start: 2026-12-01T09:00:00Z
        approved_stage: 1
        stages: [ { share: 10, hold: 24h }, { share: 50, hold: 2d }, { share: 100 } ]
";

fn users(count: u32) -> Vec<RequestContext> {
    let user = |number| RequestContext { user: Some(format!("user-{number}")), ..RequestContext::new("r") };
    (1..=count).map(user).collect()
}

#[track_caller]
fn check_diff(old: &str, new: &str, now: &str, expected: &str) {
    let old = bundle(old);
    let new = bundle_with(new, CompileOptions { base: Some(&old), ..CompileOptions::default() });
    assert_eq!(diff(&old, &new, millis(now)).to_string(), expected.trim_start_matches('\n'));
}

#[test]
fn a_difference_says_what_moves_and_what_was_written() {
    check_diff(RAMP, RAMP, "2026-12-01", "version 1 → 1: nothing else changes");
    // Stage 1 is in force, so its shares are compared, not those of the stages to come.
    let wider = RAMP.replace("share: 10,", "share: 25,").replace("share: 50,", "share: 60,");
    check_diff(
        RAMP,
        &wider,
        "2026-12-10",
        r#"
version 1 → 1
route r: changed
  default: 15 % of the units that it matches move
    stable → canary  15 %
  default.ramp.stages[0].split.canary: 10 → 25
  default.ramp.stages[0].split.stable: 90 → 75
  default.ramp.stages[1].split.canary: 50 → 60
  default.ramp.stages[1].split.stable: 50 → 40"#,
    );
    check_diff(
        RAMP,
        &RAMP.replace("eq: DE", "in: [DE, AT]").replace("threshold: 0.5", "threshold: 0.6"),
        "2026-12-01",
        "
version 1 → 1
route r: changed
  rules[german].if.eq: removed, was DE
  rules[german].if.in: added, DE, AT
  variants.canary.payload.threshold: 0.5 → 0.6",
    );
    check_diff(
        RAMP,
        &RAMP.replace("  r:\n", "  s:\n"),
        "2026-12-01",
        "
version 1 → 1
route r: removed
route s: added",
    );
}

#[test]
fn other_buckets_are_expected_shares() {
    let split = "lockgate: 1\nroutes: { r: { variants: { a: { model: m@1.0.0 }, b: { model: m@2.0.0 } }, baseline: a, default: { split: { a: 90, b: 10 } } } }";
    check_diff(
        split,
        &split.replace("default: {", "default: { unit: symbol,"),
        "2026-12-01",
        "
version 1 → 1
route r: changed
  default: 18 % of the units that it matches move (expected: they get other buckets)
    a → b  9 %
    b → a  9 %
  default.unit: user → symbol",
    );
    // One variant and a split are compared exactly, whatever the buckets.
    check_diff(
        split,
        &split.replace("split: { a: 90, b: 10 }", "serve: b"),
        "2026-12-01",
        "
version 1 → 1
route r: changed
  default: 90 % of the units that it matches move
    a → b  90 %
  default.serve: added, b
  default.split: removed, was {\"a\":90,\"b\":10}
  default.unit: removed, was user",
    );
}

#[test]
fn units_say_the_whole_truth() {
    let old = bundle(RAMP);
    let new = RAMP.replace("share: 10,", "share: 25,").replace("user: alice", "user: albert");
    let new = bundle_with(&new, CompileOptions { base: Some(&old), ..CompileOptions::default() });
    let mut contexts = users(1000);
    for user in ["alice", "albert"] {
        contexts.push(RequestContext { user: Some(user.to_owned()), ..RequestContext::default() });
    }
    let now = millis("2026-12-10");
    let moved = contexts.iter().filter(|context| {
        let route = RequestContext { route: "r".to_owned(), ..(*context).clone() };
        let variant = |bundle: &lockgate_policy::Bundle| {
            bundle.decide(&route, now, &[]).unwrap().variant().name.to_owned()
        };
        variant(&old) != variant(&new)
    });
    let moved = moved.count() as u64;
    let units = diff_units(&old, &new, contexts, now);
    assert_eq!((units.contexts, units.moved, units.routes["r"].moved), (1002, moved, moved));
    assert!((120..180).contains(&moved), "{units}");
}

#[test]
fn cases_pass_or_say_why() {
    let cases = parse_cases(
        "c.yaml",
        "
now: 2026-12-10T00:00:00Z
context: { route: r }
cases:
  - { name: german, for: { attributes: { country: [DE] }, users: [bob, carol] }, expect: { variant: [stable, canary], rule: german, model: m, payload: { threshold: 0.50 }, flags: ~ } }
  - { name: fallback, context: { user: alice }, unavailable: [m@2.0.0], expect: { variant: stable, step: fallback, intended: canary } }
  - { name: shares, population: { users: 5000, expect: { canary: 10, stable: 88..92 } } }
  - { name: unknown, context: { route: x }, expect: unknown_route }
  - { name: wrong, context: { user: bob }, expect: { variant: canary, stage: 2, rule: ~ } }
  - { name: wrong shares, population: { users: 100, prefix: u, expect: { canary: 50 ± 1 } } }
  - { name: wrong package, unavailable: [m@3.0.0], expect: { variant: stable } }
  - { name: wrong route, context: { user: bob }, expect: unknown_route }
",
    )
    .unwrap_or_else(|problems| panic!("{problems}"));
    let results: Vec<String> = cases.run(&bundle(RAMP)).iter().map(ToString::to_string).collect();
    assert_eq!(
        results.join("\n"),
        "ok     `german` (line 5)
ok     `fallback` (line 6)
ok     `shares` (line 7)
ok     `unknown` (line 8)
FAILED `wrong` (line 9)
  for route=r user=bob
    variant (line 9)
      expected: `canary`
      found:    `stable`
    stage (line 9)
      expected: 2
      found:    1
    decided: `stable`, SPLIT at step default, layer `r`, bucket 17533, stage 1
FAILED `wrong shares` (line 10)
    share of `canary` (line 10)
      expected: 49 to 51 %
      found:    6 %
    decided: of 100: canary 6 % (6), stable 94 % (94)
FAILED `wrong package` (line 11)
    unavailable (line 11)
      expected: `m@3.0.0`
      found:    the policy has `m@1.0.0`, `m@2.0.0`
FAILED `wrong route` (line 12)
  for route=r user=bob
    route (line 12)
      expected: unknown route
      found:    `stable`
    decided: `stable`, SPLIT at step default, layer `r`, bucket 17533, stage 1"
    );
}

#[test]
fn what_is_wrong_with_cases_has_its_place() {
    let problems = parse_cases(
        "c.yaml",
        "
cases:
  - { name: a, contxt: {}, context: { route: r }, expect: { step: tst_group, variant: 5, bucket: high } }
  - { name: a, expect: { variant: b } }
  - { name: b, context: { route: r }, population: { users: 0, expect: { a: lots } } }
  - { name: c, context: { route: r, user: 1001 }, now: soon, expect: {} }
  - { name: d, context: { route: r } }
",
    );
    assert_eq!(
        problems.unwrap_err().to_string(),
        "c.yaml:3:16: unknown key `contxt`
  expected: one of `name`, `now`, `context`, `for`, `unavailable`, `expect`, `population`
  hint: did you mean `context`?
c.yaml:3:67: there is no step `tst_group`
  expected: one of `disabled`, `scope`, `override`, `holdout`, `test_group`, `symbol_rollout`, `rule`, `default`, `fallback`
  hint: did you mean `test_group`?
c.yaml:3:87: found the number `5`
  expected: text
  hint: quote it: \"5\"
c.yaml:3:98: found the text `high`
  expected: a whole number, or nothing
c.yaml:4:5: the case names no route
  expected: `context: { route: … }`, in the case or at the top of the file
c.yaml:4:5: the name `a` occurs twice
  hint: it is first at line 3
c.yaml:5:60: found the number `0`
  expected: a number from 1 to 1000000, or a list
c.yaml:6:43: found the number `1001`
  expected: text
  hint: quote it: \"1001\"
c.yaml:6:56: found the text `soon`
  expected: a time such as `2026-05-01T12:00:00Z`, or milliseconds since 1970
c.yaml:7:5: the case expects nothing
  expected: `expect: { variant: … }` or `population: { users: 10000, expect: { … } }`"
    );
}

#[test]
fn a_simulation_follows_a_ramp() {
    let mut approved = policy(RAMP);
    assume_approvals(&mut approved, 3);
    let packages = packages(&approved);
    let compiled = compile(&approved, &CompileOptions { packages: &packages, ..CompileOptions::default() });
    let bundle = load_compiled(&compiled.unwrap());
    let times = ["2026-12-01", "2026-12-02", "2026-12-03", "2026-12-06"].map(millis);
    let simulation = simulate(&bundle, "r", &users(1000), &times, &[]);
    assert_eq!(simulation.variants, ["stable", "canary"]);
    let counts: Vec<usize> = simulation.points.iter().map(|point| point.counts[1]).collect();
    let expected: Vec<f64> = simulation.points.iter().map(|point| point.expected[1].round()).collect();
    assert_eq!(expected, [0.0, 100.0, 500.0, 1000.0]);
    assert!(
        counts[0] == 0
            && (70..130).contains(&counts[1])
            && (440..560).contains(&counts[2])
            && counts[3] == 1000
    );
    // Without approvals the clock alone promotes nothing.
    let held = simulate(&crate::bundle(RAMP), "r", &users(1000), &times, &[]);
    assert_eq!(held.points[3].expected[1].round(), 100.0);
    assert_eq!(held.points[3].steps.len(), 1);

    let svg = simulation.svg();
    assert_eq!(svg, simulate(&bundle, "r", &users(1000), &times, &[]).svg());
    for part in [
        "<svg xmlns",
        "role=\"img\"",
        "<title id=",
        "<desc id=",
        "2026-12-03",
        "canary",
        "expected",
        "</svg>",
    ] {
        assert!(svg.contains(part), "{part}");
    }
    assert_eq!(svg.matches("<polygon").count(), 2);
    let one = simulate(&bundle, "r", &users(10), &times[..1], &[]);
    assert!(one.svg().contains("stable 100.00 %, expected 100.00 %"));
    assert!(one.to_string().contains("default, stage 0"), "{one}");
}

#[test]
fn everything_is_laid_out_and_means_the_same() {
    let out = format_source("everything.yaml", EVERYTHING).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(format_source("everything.yaml", &out).unwrap(), out);
    let comments = |text: &str| {
        text.lines().filter_map(|line| line.split_once(" # ").map(|(_, c)| c.to_owned())).count()
    };
    assert_eq!(comments(&out), comments(EVERYTHING));
}

#[test]
fn the_source_of_a_bundle_is_proved() {
    let checked = policy(EVERYTHING);
    let lists: BTreeMap<String, Vec<String>> = checked
        .list_files()
        .into_iter()
        .map(|file| (file.to_owned(), (0..50_000).map(|number| format!("{file}-{number}")).collect()))
        .collect();
    let options = CompileOptions { stand_ins: true, lists: &lists, ..CompileOptions::default() };
    let bundle = load_compiled(&compile(&checked, &options).unwrap_or_else(|problems| panic!("{problems}")));
    assert_eq!(verify_source(&bundle), Ok(()));
    let found: BTreeMap<String, Vec<String>> = unit_lists(&bundle)
        .into_iter()
        .map(|(file, mut units)| {
            units.sort();
            (file, units)
        })
        .collect();
    let sorted = |units: &Vec<String>| {
        let mut units = units.clone();
        units.sort();
        units
    };
    assert_eq!(found, lists.iter().map(|(file, units)| (file.clone(), sorted(units))).collect());

    let without = CompileOptions { source: false, ..options };
    let without = load_compiled(&compile(&checked, &without).unwrap());
    assert_eq!(verify_source(&without).unwrap_err().to_string(), "the bundle carries no source");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_policy_is_laid_out_verified_and_no_different_from_itself(arbitrary::Arbitrary { source, .. } in arbitrary::policies()) {
        let text = source.to_string();
        let one = bundle(&text);
        prop_assert_eq!(verify_source(&one), Ok(()));
        let based = bundle_with(&text, CompileOptions { base: Some(&one), ..CompileOptions::default() });
        prop_assert_eq!(verify_source(&based), Ok(()));
        let same = diff(&one, &based, 0);
        prop_assert!(same.is_empty(), "{}", same);
        // As JSON, and as YAML, which JSON is too.
        for file in ["p.json", "p.yaml"] {
            let out = format_source(file, &text).unwrap_or_else(|problems| panic!("{problems}"));
            prop_assert_eq!(&format_source(file, &out).unwrap(), &out);
            prop_assert!(parse(file, &out).is_ok());
        }
    }

    #[test]
    fn differences_are_found_and_units_agree(arbitrary::Arbitrary { seed, source: old } in arbitrary::policies(), arbitrary::Arbitrary { source: new, .. } in arbitrary::policies()) {
        let (one, other) = (bundle(&old.to_string()), bundle(&new.to_string()));
        let changes = diff(&one, &other, 0);
        let contexts = (0..50).map(|n| arbitrary::case(seed ^ n).context);
        let units = diff_units(&one, &other, contexts, 0);
        prop_assert!(units.moved == 0 || !changes.is_empty());
        prop_assert!(!changes.to_string().is_empty() && !units.to_string().is_empty());
    }

    #[test]
    fn any_text_is_laid_out_or_refused(text in "[a-c:,#|>'\"{}\\[\\] \n-]{0,60}") {
        for file in ["p.yaml", "p.json"] {
            if let Ok(out) = format_source(file, &text) {
                prop_assert_eq!(&format_source(file, &out).unwrap_or_else(|problems| panic!("{problems}\n{out}")), &out);
            }
        }
    }
}
