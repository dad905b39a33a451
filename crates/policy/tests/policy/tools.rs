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
    from                  old      new      advance  differ
    the beginning         stage 0  stage 0           0 %
    2026-12-01T09:00:00Z  stage 1  stage 1  25 %     stable → canary 15 %
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

/// Every boundary in time of either ramp has a line: what the new policy does then, and where the two differ.
#[test]
fn ramps_are_compared_over_time() {
    let approved = RAMP.replace("approved_stage: 1", "approved_stage: 3");
    let faster = RAMP.replace("approved_stage: 1", "approved_stage: 2").replace("hold: 24h", "hold: 12h");
    let faster = faster.replace("share: 10,", "share: 20,");
    check_diff(
        &approved,
        &faster,
        "2026-12-01",
        "
version 1 → 1
route r: changed
  default: 0 % of the units that it matches move
    from                  old      new      advance  differ
    the beginning         stage 0  stage 0           0 %
    2026-12-01T09:00:00Z  stage 1  stage 1  20 %     stable → canary 10 %
    2026-12-01T21:00:00Z  stage 1  stage 2  30 %     stable → canary 40 %
    2026-12-02T09:00:00Z  stage 2  stage 2  0 %      0 %
    2026-12-04T09:00:00Z  stage 3  stage 2  0 %      canary → stable 50 %
  default.ramp.approved_stage: 3 → 2
  default.ramp.stages[0].hold: 1d → 12h
  default.ramp.stages[0].split.canary: 10 → 20
  default.ramp.stages[0].split.stable: 90 → 80",
    );
    // A pause puts off what comes after it; one without end puts it off for good.
    let paused = |until: &str| {
        approved.replace(
            "stages: [",
            &format!("pauses: [{{ from: 2026-12-02T00:00:00Z{until} }}]\n        stages: ["),
        )
    };
    let old = bundle(&approved);
    let table = |source: &str| diff(&old, &bundle(source), 0).routes[0].steps[0].periods.clone();
    let begins = |source: &str| {
        let moments = table(source).into_iter().filter_map(|period| period.from);
        moments.map(|from| (from - millis("2026-12-01")) / 3_600_000).collect::<Vec<_>>()
    };
    assert_eq!(begins(&paused(", until: 2026-12-03T00:00:00Z")), [9, 33, 57, 81, 105]);
    assert_eq!(begins(&paused("")), [9, 33, 81]);
    // Whatever the table says begins, begins then and not a moment before.
    let pauses =
        paused(", until: 2026-12-03T00:00:00Z }, { from: 2026-11-01T00:00:00Z, until: 2026-12-01T12:00:00Z");
    let new = bundle(&pauses);
    let mut begun = 0;
    for period in table(&pauses).iter().filter(|period| period.advancing.is_some_and(|share| share > 0.0)) {
        let from = period.from.unwrap();
        let stage = |now| new.decide(&users(1)[0], now, &[]).unwrap().stage;
        assert_eq!(stage(from - 1).map(|stage| stage + 1), stage(from), "{period:?}");
        begun += 1;
    }
    assert_eq!(begun, 3);
}

#[test]
fn steps_are_compared_in_their_time() {
    let rule = RAMP.replace("name: german,", "name: german, from: 2026-12-01T00:00:00Z,");
    check_diff(
        &rule,
        &rule.replace("2026-12-01T00:00:00Z, if", "2026-12-02T00:00:00Z, until: 2026-12-03T00:00:00Z, if"),
        "2026-12-10",
        "
version 1 → 1
route r: changed
  rule german: 100 % of the units that it matches move
    canary → (next steps)  100 %
    from                  old           new           advance  differ
    the beginning         not in force  not in force           0 %
    2026-12-01T00:00:00Z  canary        not in force  0 %      canary → (next steps) 100 %
    2026-12-02T00:00:00Z  canary        canary        100 %    0 %
    2026-12-03T00:00:00Z  canary        not in force  100 %    canary → (next steps) 100 %
  rules[german].from: 2026-12-01T00:00:00Z → 2026-12-02T00:00:00Z
  rules[german].until: added, 2026-12-03T00:00:00Z",
    );
}

/// Steps that come and go, variants that are disabled, kill switches and other models: what moves units has its figure.
#[test]
fn whatever_moves_units_has_a_figure() {
    let old = "
lockgate: 1
layers: { l: {} }
routes:
  r:
    variants: { a: { model: m@1.0.0 }, b: { model: m@2.0.0 } }
    baseline: a
    default: { split: { a: 50, b: 50 } }
";
    let check = |from: &str, to: &str, expected: &str| {
        assert_eq!(old.matches(from).count(), 1, "{from}");
        let text = |old: &str, new: &str| {
            let text = diff(&bundle(old), &bundle(new), 0).to_string();
            // What is written otherwise follows.
            let figures = text.lines().skip(2).take_while(|line| {
                line.starts_with("    ") || line.contains(": added") || line.contains("move")
            });
            figures.map(|line| format!("{}\n", line.trim())).collect::<String>()
        };
        assert!(
            text(old, &old.replace(from, to)).starts_with(expected.trim_start()),
            "{to}: {}",
            text(old, &old.replace(from, to))
        );
    };
    let layers = "layers: { l: {} }";
    check(
        layers,
        "layers: { l: {} }\nholdouts: { h: { share: 10 } }",
        "holdout h: added\n(next steps) → (held out)  10 %\n",
    );
    let default = "    default:";
    let rule = |rest: &str| format!("    rules: [{{ name: x, {rest} }}]\n    default:");
    let experiment = "experiment: { layer: l, share: 40, split: { a: 50, b: 50 } }";
    check(default, &rule(experiment), "rule x: added\n(next steps) → a  20 %\n(next steps) → b  20 %\n");
    check(
        default,
        &rule("if: { user: u }, split: { a: 70, b: 30 }"),
        "rule x: added\n(next steps) → a  70 %\n(next steps) → b  30 %\n",
    );
    check(default, &rule("if: { user: u }, serve: b"), "rule x: added\nrules: added");
    check(
        "b: { model: m@2.0.0 }",
        "b: { model: m@2.0.0, enabled: false }",
        "default: 50 % of the units that it matches move\nb → a  50 %\n",
    );
    check(
        "    baseline: a",
        "    enabled: false\n    baseline: a",
        "default: 50 % of the units that it matches move\nb → a  50 %\n",
    );
    check(
        "b: { model: m@2.0.0 }",
        "b: { model: m@9.0.0 }",
        "default: 50 % of the units that it matches move\nb m@2.0.0 → b m@9.0.0  50 %\n",
    );

    // And what goes.
    let with = old.replace(layers, "layers: { l: {} }\nholdouts: { h: { share: 10 } }");
    let text = diff(&bundle(&with), &bundle(old), 0).to_string();
    assert!(text.contains("holdout h: removed\n    (held out) → (next steps)  10 %"), "{text}");
}

/// A unit that asks for a route that nobody has is not one that stays where it was.
#[test]
fn unknown_routes_are_named() {
    let bundle = bundle(RAMP);
    let known = RequestContext { user: Some("u".into()), ..RequestContext::new("r") };
    let contexts = [known, RequestContext::new("s"), RequestContext::new("s")];
    let units = diff_units(&bundle, &bundle, contexts, 0);
    assert_eq!(
        units.to_string(),
        "units: 0 of 3 are served otherwise (0 %)\n  route s: neither policy has it, and 2 ask for it"
    );
}

const SWITCHBACK: &str = "
lockgate: 1
routes:
  r:
    variants: { a: { model: m@1.0.0 }, b: { model: m@2.0.0 }, c: { model: m@3.0.0 } }
    baseline: a
    rules:
      - { name: turns, unit: user, switchback: { variants: [a, b], start: 2026-01-01T00:00:00Z, window: 4h, washout: 1h, seed: s } }
    default: { serve: a }
";

#[test]
fn switchbacks_are_compared_over_units_and_time() {
    let old = bundle(SWITCHBACK);
    let check = |from: &str, to: &str, expected: &str| {
        assert_eq!(SWITCHBACK.matches(from).count(), 1, "{from}");
        let source = SWITCHBACK.replace(from, to);
        let new = bundle_with(&source, CompileOptions { source: false, ..CompileOptions::default() });
        let text = diff(&old, &new, millis("2026-06-01")).to_string();
        let text: Vec<&str> = text.lines().skip(2).filter(|line| !line.starts_with("note:")).collect();
        assert_eq!(text.join("\n"), expected.trim_start_matches('\n'), "{to}");
    };
    // The same turns: exact. A quarter of the time is washout, half of the rest goes from one to the other.
    check(
        "variants: [a, b]",
        "variants: [a, c]",
        "
  rule turns: 37.5 % of the units and time that it matches move
    b → c  37.5 %
    from                  old           new           advance  differ
    the beginning         not in force  not in force           0 %
    2026-01-01T00:00:00Z  switchback    switchback             b → c 37.5 %
    variants: − b + c",
    );
    check(
        "washout: 1h",
        "washout: 2h",
        "
  rule turns: 12.5 % of the units and time that it matches move
    b → a  12.5 %
    from                  old           new           advance  differ
    the beginning         not in force  not in force           0 %
    2026-01-01T00:00:00Z  switchback    switchback             b → a 12.5 %
    washout: 1h → 2h",
    );
    check(
        "seed: s",
        "seed: t",
        "
  rule turns: 37.5 % of the units and time that it matches move (expected: they get other turns)
    a → b  18.75 %
    b → a  18.75 %
    from                  old           new           advance  differ
    the beginning         not in force  not in force           0 %
    2026-01-01T00:00:00Z  switchback    switchback             37.5 %: a → b 18.75 %, b → a 18.75 %
    seed: s → t",
    );
    check("seed: s", "seed: s, end: 2026-02-01T00:00:00Z", "
  rule turns: 100 % of the units and time that it matches move
    a → (next steps)  62.5 %
    b → (next steps)  37.5 %
    from                  old           new           advance  differ
    the beginning         not in force  not in force           0 %
    2026-01-01T00:00:00Z  switchback    switchback             0 %
    2026-02-01T00:00:00Z  switchback    not in force           100 %: a → (next steps) 62.5 %, b → (next steps) 37.5 %
    end: added, 2026-02-01T00:00:00Z");
}

/// What the comparison expects is what units get, whatever the windows, and where it is exact, each unit gets exactly that.
#[test]
fn expected_turns_are_what_units_get() {
    let base = SWITCHBACK.replace("seed: s", "seed: s, end: 2026-01-09T00:00:00Z");
    for (from, to) in [
        ("variants: [a, b]", "variants: [b, a]"),
        ("variants: [a, b]", "variants: [b, c]"),
        ("variants: [a, b]", "variants: [c, b, a]"),
        ("washout: 1h", "washout: 3h"),
        ("window: 4h", "window: 6h"),
        ("window: 4h, washout: 1h", "window: 3h"),
        ("start: 2026-01-01T00", "start: 2026-01-01T04"),
        ("start: 2026-01-01T00", "start: 2026-01-01T06"),
        ("seed: s", "seed: t"),
        ("unit: user", "unit: [user, user_id]"),
        (
            "switchback: { variants: [a, b], start: 2026-01-01T00:00:00Z, window: 4h, washout: 1h, seed: s, end: 2026-01-09T00:00:00Z }",
            "if: { user: { present: true } }, split: { a: 20, b: 80 }",
        ),
    ] {
        let to = to.replace("user_id", "{ attribute: x }");
        assert_eq!(base.matches(from).count(), 1, "{from}");
        let source = base.replace(from, &to);
        let (old, new) = (bundle(&base), bundle(&source));
        let changes = diff(&old, &new, millis("2026-01-05"));
        let step = &changes.routes[0].steps[0];
        let period = step
            .periods
            .iter()
            .find(|period| {
                period.from.is_some_and(|from| from > millis("2026-01-01") || step.periods.len() == 3)
                    && period.old == "switchback"
            })
            .unwrap();
        let next = step.periods.iter().find(|other| other.from > period.from).unwrap();
        // The moments in the middle of every half hour.
        let times: Vec<i64> =
            (period.from.unwrap()..next.from.unwrap()).step_by(1_800_000).map(|at| at + 900_000).collect();
        let mut contexts = users(400);
        for context in &mut contexts {
            context.attributes.insert("x".to_owned(), lockgate_policy::Attribute::Text("y".to_owned()));
        }
        let mut moved = 0;
        for context in &contexts {
            let differing = times.iter().filter(|now| {
                let variant = |bundle: &lockgate_policy::Bundle| {
                    bundle.decide(context, **now, &[]).unwrap().variant_index
                };
                let name = |bundle: &lockgate_policy::Bundle, place: u32| {
                    bundle.route_at(0).unwrap().variant(place).unwrap().name.to_owned()
                };
                name(&old, variant(&old)) != name(&new, variant(&new))
            });
            let differing = differing.count();
            if !period.rehashed {
                assert_eq!(differing as f64 / times.len() as f64, period.moved / 100.0, "{to}: {period:?}");
            }
            moved += differing;
        }
        let found = 100.0 * moved as f64 / (times.len() * contexts.len()) as f64;
        assert!((found - period.moved).abs() < 1.5, "{to}: {found} % instead of {period:?}");
    }
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
    // A name too long for its place is cut, and whole where it is pointed at; axes say what they measure.
    let long = "v".repeat(60);
    let named = crate::bundle(&RAMP.replace("canary", &long));
    let cut = format!("{}…", "v".repeat(31));
    for times in [&times[..1], &times[..]] {
        let svg = simulate(&named, "r", &users(10), times, &[]).svg();
        for part in [format!(">{cut}<"), format!("<title>{long}</title>"), ">share of units<".to_owned()] {
            assert!(svg.contains(&part), "{part}: {svg}");
        }
    }
    assert!(svg.contains(">time (UTC)<"));
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
