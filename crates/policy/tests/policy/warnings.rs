//! What is allowed and hardly meant: the warnings that people read, and what must not give one.

use insta::assert_snapshot;
use lockgate_policy::{lint, lint_with};

use crate::policy;

/// A policy without warnings; the cases add to it.
const GOOD: &str = "\
lockgate: 1
models:
  lr@1.0.0:
  gb@1.1.0:
  gpu@1.0.0: { placement: gpu }
tiers: [{ name: free }, { name: premium, tenants: [acme] }]
segments:
  desk: { users: [dana, deniz] }
  majors: { symbols: [EURUSD, USDCHF], exclude: { symbols: [USDCHF] } }
routes:
  direction:
    variants:
      stable: { model: lr@1.0.0 }
      canary: { model: gb@1.1.0 }
    baseline: stable
    test_groups:
      - { name: desk, segments: [desk], serve: canary }
    symbol_rollouts:
      - { name: majors, segments: [majors], serve: canary }
    rules:
      - { name: first, if: { attribute: age, gt: 5 }, serve: canary }
    default:
      split: { stable: 90, canary: 10 }
";

/// The warnings once `old` in the good policy has become `new`.
#[track_caller]
fn with(old: &str, new: &str) -> String {
    assert_eq!(GOOD.matches(old).count(), 1, "{old}");
    let warnings = lint(&policy(&GOOD.replace(old, new)));
    warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The warnings with this rule behind the others.
#[track_caller]
fn rule(condition: &str) -> String {
    rules(&[condition])
}

/// The warnings with these rules, and no step before them but those of the good policy.
#[track_caller]
fn rules(conditions: &[&str]) -> String {
    let rules = conditions.iter().enumerate();
    let rules: String = rules
        .map(|(number, condition)| format!("      - {{ name: r{number}, {condition}, serve: canary }}\n"))
        .collect();
    with("      - { name: first, if: { attribute: age, gt: 5 }, serve: canary }\n", &rules)
}

#[test]
fn the_good_policy_has_none() {
    assert_eq!(lint(&policy(GOOD)), []);
}

#[test]
fn rules_that_never_match() {
    for condition in [
        "if: { user: { eq: a, ne: a } }",
        "if: { user: { in: [a, b], not_in: [b, a, c] } }",
        "if: { all: [{ user: a }, { user: b }] }",
        "if: { user: { eq: abc, prefix: b } }",
        "if: { user: { prefix: [ab, c], present: false } }",
        "if: { user: { prefix: ab }, not: { user: { prefix: a } } }",
        "if: { all: [{ user: { prefix: ab } }, { user: { prefix: b } }] }",
        "if: { all: [{ user: { suffix: ab } }, { not: { user: { contains: b } } }] }",
        "if: { attribute: age, gt: 5, lt: 5 }",
        "if: { attribute: age, gt: 5, lte: 5 }",
        "if: { attribute: age, gte: 5.5, lt: 5.25 }",
        "if: { attribute: age, eq: 5, in: [6, \"5\"] }",
        "if: { attribute: age, eq: \"5\", gt: 1 }",
        "if: { attribute: age, gt: 1, prefix: a }",
        "if: { all: [{ attribute: age, gt: 5 }, { not: { attribute: age, gt: 4 } }] }",
        "if: { attribute: since, from: 2026-02-01T00:00:00Z, until: 2026-01-01T00:00:00Z }",
        "if: { attribute: since, from: 2026-02-01T00:00:00Z, eq: 2026-01-01T00:00:00Z }",
        "if: { attribute: app, semver: \">=2.0.0 <1.0.0\" }",
        "if: { attribute: app, semver: \"=2.0.0 !=2.0.0\" }",
        "if: { attribute: app, present: false, semver: ^1.0.0 }",
        "if: { time: { weekdays: [mon] }, not: { time: { weekdays: [mon, tue] } } }",
        "if: { all: [{ time: { daily: { from: \"09:00\", until: \"12:00\" } } }, { time: { daily: { from: \"12:00\", until: \"09:00\" } } }] }",
        "from: 2026-02-01T00:00:00Z, if: { user: z, time: { until: 2026-02-01T00:00:00Z } }",
        "if: { segment: desk, not: { segment: desk } }",
        "if: { segment: desk, user: { not_in: [dana, deniz] } }",
        "if: { segment: majors, all: [{ symbol: USDCHF }, { user: { present: false } }] }",
        "if: { not: { tier: free } }",
        "if: { any: [{ user: { eq: a, ne: a } }, { not: { tier: free } }] }",
        "if: { attribute: app, matches: \"a^b\" }",
        "if: { attribute: app, matches: \"^[^\\\\d\\\\D]\" }",
        "if: { attribute: app, matches: \"^a$\", eq: b }",
        "if: { user: { prefix: ab, matches: \"^x\" } }",
        "if: { user: { suffix: [ab, b], matches: \"[^b]$\" } }",
        "if: { user: { matches: \"^a+$\" }, not: { user: { contains: a } } }",
        "if: { user: { matches: \"^(a|b)*$\" }, not: { user: { matches: \"^[ab]*$\" } } }",
        "if: { all: [{ user: { matches: \"^[a-m]\" } }, { user: { matches: \"^[n-z]\" } }] }",
        "if: { attribute: age, gte: 5, lte: 5, ne: 5 }",
        "if: { attribute: app, semver: \">=1.0.0 <2.0.0\", not: { attribute: app, semver: \">0.9.0\" } }",
        "if: { attribute: app, eq: 2.0.0, semver: \"<2.0.0\" }",
        "if: { route: direction2, serves: b }",
    ] {
        let policy = GOOD.replace(
            "      - { name: first, if: { attribute: age, gt: 5 }, serve: canary }\n",
            &format!("      - {{ name: r, {condition}, serve: canary }}\n"),
        ) + "  direction2: { variants: { a: { model: lr@1.0.0 }, b: { model: gb@1.1.0 } }, default: { serve: a }, shadows: [{ name: s, variant: b }] }\n";
        let warnings = lint(&crate::policy(&policy));
        let codes: Vec<&str> = warnings.iter().filter_map(|warning| warning.code.as_deref()).collect();
        assert_eq!(codes, ["never-matches"], "{condition}: {warnings:?}");
    }
    assert_snapshot!(rule("if: { attribute: age, gt: 5, lt: 3 }"), @r"
    policy.yaml:21:21: warning[never-matches]: routes.direction.rules[0].if: nothing fulfils the condition of the rule `r0`
      hint: a part of it contradicts another
    ");
}

/// Conditions that look odd and can hold.
#[test]
fn no_false_alarms() {
    for condition in [
        "if: { user: { ne: a, not_in: [b] } }",
        "if: { not: { user: { prefix: a } } }",
        "if: { user: { prefix: [a, b] }, not: { user: { prefix: ab } } }",
        "if: { all: [{ user: { prefix: a } }, { user: { suffix: b } }, { user: { contains: c } }] }",
        "if: { attribute: age, gte: 5, lte: 5 }",
        "if: { attribute: age, not_in: [5], present: true }",
        "if: { all: [{ not: { attribute: age, gt: 5 } }, { not: { attribute: age, lte: 5 } }] }",
        "if: { attribute: app, semver: \">=2.0.0-0 <2.0.0\" }",
        "if: { attribute: app, semver: \">=2.0.0 <=2.0.0\" }",
        "if: { attribute: app, matches: \"^a$\", eq: a }",
        "if: { attribute: app, matches: \"^a\", prefix: ab, suffix: ba, contains: c }",
        "if: { attribute: app, matches: \"^a\", not: { attribute: app, matches: \"a$\" } }",
        "if: { attribute: app, not: { attribute: app, matches: \"\" }, present: true }",
        "if: { attribute: app, semver: \">=1.0.0 <2.0.0\", not: { attribute: app, semver: \">1.0.0\" } }",
        "if: { attribute: app, eq: 2.0.0+build, semver: \"=2.0.0\" }",
        "if: { all: [{ time: { daily: { from: \"22:00\", until: \"06:00\" } } }, { time: { daily: { from: \"05:00\", until: \"23:00\" } } }] }",
        "if: { all: [{ time: { weekdays: [mon] } }, { time: { weekdays: [tue], offset: \"+05:00\" } }] }",
        "if: { user: zed, symbol: USDCHF, not: { segment: majors }, tenant: x }",
        "if: { any: [{ user: { eq: a, ne: a } }, { user: b }] }",
        "if: { tenant: acme, tier: premium }",
    ] {
        assert_eq!(rule(condition), "", "{condition}");
    }
}

#[test]
fn steps_that_are_never_reached() {
    for (first, second) in [
        ("if: { user: a }", "if: { user: a }"),
        ("if: { user: { in: [a, b] } }", "if: { user: b, symbol: X }"),
        ("if: { attribute: age, gt: 5 }", "if: { attribute: age, gt: 6 }"),
        ("if: { user: { prefix: a } }", "if: { user: { prefix: [ab, ac] } }"),
        ("if: { tier: free }", "if: { user: a }"),
        ("if: { any: [{ user: a }, { symbol: X }] }", "if: { symbol: X, user: b }"),
        ("if: { tier: premium }", "if: { tenant: acme }"),
        (
            "from: 2026-01-01T00:00:00Z, if: { user: a }",
            "if: { user: a, time: { from: 2026-02-01T00:00:00Z } }",
        ),
        ("if: { attribute: app, matches: x }", "if: { attribute: app, matches: x, eq: axb }"),
        ("if: { attribute: app, matches: \"^(a|b)\" }", "if: { attribute: app, prefix: [ab, b] }"),
        ("if: { user: { matches: a } }", "if: { user: { matches: aa } }"),
        ("if: { attribute: app, semver: \">=1.0.0\" }", "if: { attribute: app, semver: ^1.2.0 }"),
        ("if: { attribute: app, semver: \"!=1.5.0\" }", "if: { attribute: app, semver: \">1.5.0 <2.0.0\" }"),
    ] {
        let warnings = rules(&[first, second]);
        let expected = "the rule `r1` is never reached: the rule `r0` takes whatever it matches";
        assert!(warnings.lines().next().is_some_and(|line| line.ends_with(expected)), "{second}: {warnings}");
        // Whoever has a tier is everyone.
        let count = if first == "if: { tier: free }" { 4 } else { 2 };
        assert_eq!(warnings.lines().count(), count, "{second}: {warnings}");
    }
    for (first, second) in [
        ("if: { user: a, symbol: X }", "if: { user: a }"),
        ("if: { attribute: age, gt: 5 }", "if: { attribute: age, gte: 5 }"),
        ("from: 2026-01-01T00:00:00Z, if: { user: a }", "if: { user: a }"),
        ("until: 2026-01-01T00:00:00Z, if: { user: a }", "from: 2026-01-01T00:00:00Z, if: { user: a }"),
        ("if: { not: { user: a } }", "if: { user: a, symbol: X }"),
        ("if: { user: { matches: aa } }", "if: { user: { matches: a } }"),
        ("if: { attribute: app, semver: \">1.2.0\" }", "if: { attribute: app, semver: ^1.2.0 }"),
        ("if: { attribute: app, semver: \"!=1.5.0\" }", "if: { attribute: app, semver: \">=1.5.0 <2.0.0\" }"),
        ("if: { user: { eq: a, ne: b }, symbol: X }", "if: { user: a }"),
        ("from: 2026-01-01T00:00:00Z, if: { user: { in: [a, b] } }", "if: { user: { in: [b, c] } }"),
    ] {
        assert_eq!(rules(&[first, second]), "", "{second}");
    }
    assert_snapshot!(rules(&["if: { user: a }", "if: { user: a, symbol: X }"]), @r"
    policy.yaml:22:21: warning[unreachable]: routes.direction.rules[1].if: the rule `r1` is never reached: the rule `r0` takes whatever it matches
      hint: put it first, or remove it
    ");
    assert_snapshot!(with("    test_groups:\n", "    overrides: [{ users: [dana, deniz], serve: stable }]\n    test_groups:\n"), @r"
    policy.yaml:18:23: warning[unreachable]: routes.direction.test_groups[0].segments: the test group `desk` is never reached: the override at line 16 takes whatever it matches
      hint: put it first, or remove it
    ");
    // Whom an experiment or a switchback passes on is not taken.
    let switchback = "      - { name: first, switchback: { variants: [stable, canary], start: 2026-01-01T00:00:00Z, window: 1h } }\n      - { name: second, if: { user: a }, serve: canary }\n";
    assert_eq!(
        with("      - { name: first, if: { attribute: age, gt: 5 }, serve: canary }\n", switchback),
        ""
    );
}

#[test]
fn shares_that_nobody_gets() {
    assert_snapshot!(with("split: { stable: 90, canary: 10 }", "split: { stable: 100, canary: 0 }"), @"policy.yaml:23:37: warning[zero-share]: routes.direction.default.split.canary: the variant `canary` has a share of 0 %, so nobody gets it here");
    assert_snapshot!(with("    baseline: stable\n", "      third: { model: lr@1.0.0 }\n    baseline: stable\n"), @"policy.yaml:15:7: warning[unused-variant]: routes.direction.variants.third: nothing serves the variant `third`");
    assert_snapshot!(with("segments:\n", "holdouts: { h: { share: 0 } }\nlayers: { l: { holdout: 5 }, m: {} }\nsegments:\n"), @r"
    policy.yaml:7:25: warning[zero-share]: holdouts.h.share: the holdout `h` has a share of 0 %
    policy.yaml:8:11: warning[unused-layer]: layers.l: nothing uses the layer `l`
    policy.yaml:8:30: warning[unused-layer]: layers.m: nothing uses the layer `m`
    ");
    let kept_out = "    baseline: stable\n    access: { bucket: { layer: l, below: 50 } }\n";
    let source = GOOD
        .replace("segments:\n", "layers: { l: { holdout: 5 } }\nsegments:\n")
        .replace("    baseline: stable\n", kept_out);
    assert_snapshot!(lint(&policy(&source))[0], @r"
    policy.yaml:7:16: warning[unused-holdout]: layers.l.holdout: the layer `l` has a holdout and no experiment
      hint: a holdout of a layer concerns only its experiments; write one into `holdouts`
    ");
    assert_eq!(
        with(
            "    baseline: stable\n",
            "      third: { model: lr@1.0.0 }\n    baseline: stable\n    fallbacks: [third]\n"
        ),
        ""
    );
}

#[test]
fn ramps_that_climb_by_themselves() {
    assert_snapshot!(with("split: { stable: 90, canary: 10 }", "ramp: { to: canary, automatic: true, start: 2026-01-01T00:00:00Z, stages: [{ share: 10, hold: 1d }, { share: 100 }] }"), @r"
    policy.yaml:23:27: warning[automatic-ramp]: routes.direction.default.ramp.automatic: this ramp is automatic: the clock alone promotes the new version
      hint: remove `automatic` and raise `approved_stage` when the evidence holds
    ");
    // What a ramp leads away from serves before the first stage, if not in it.
    for stages in ["[{ share: 0, hold: 1d }, { share: 100 }]", "[{ share: 100 }]"] {
        let ramp = format!("ramp: {{ to: canary, start: 2026-01-01T00:00:00Z, stages: {stages} }}");
        assert_eq!(with("split: { stable: 90, canary: 10 }", &ramp), "");
    }
}

#[test]
fn shadows_that_never_run() {
    let only = "lockgate: 1\nroutes: { r: { variants: { a: { model: m@1.0.0 }, b: { model: m@1.0.0 }, c: { model: n@1.0.0, enabled: false } }, default: { serve: a }, shadows: [SHADOW] } }\n";
    let warnings = |shadow: &str| {
        let warnings = lint(&policy(&only.replace("SHADOW", shadow)));
        let warnings = warnings.iter().filter(|warning| warning.code.as_deref() != Some("unused-variant"));
        warnings.map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert_snapshot!(warnings("{ name: s, variant: a }"), @"policy.yaml:2:168: warning[idle-shadow]: routes.r.shadows[0].variant: the shadow `s` runs the only variant that serves, so it never runs");
    assert_snapshot!(warnings("{ name: s, variant: b }"), @"policy.yaml:2:168: warning[idle-shadow]: routes.r.shadows[0].variant: the shadow `s` runs the same model version as every variant that serves, so it never runs");
    assert_snapshot!(warnings("{ name: s, variant: c }"), @"policy.yaml:2:168: warning[idle-shadow]: routes.r.shadows[0].variant: the variant of the shadow `s` is disabled, so it never runs");
    assert_eq!(
        with(
            "    default:\n",
            "    shadows: [{ name: s, variant: canary }, { name: t, variant: stable }]\n    default:\n"
        ),
        ""
    );
    assert_snapshot!(with("    default:\n", "    shadows: [{ name: s, variant: canary, sample: 0 }]\n    default:\n"), @"policy.yaml:22:51: warning[idle-shadow]: routes.direction.shadows[0].sample: the shadow `s` samples 0 %, so it never runs");
    assert_snapshot!(with("    default:\n", "    shadows: [{ name: s, variant: canary, if: { user: { eq: a, ne: a } } }]\n    default:\n"), @r"
    policy.yaml:22:43: warning[never-matches]: routes.direction.shadows[0].if: nothing fulfils the condition of the shadow `s`
      hint: a part of it contradicts another
    ");
}

#[test]
fn symbol_rollouts_that_overlap() {
    let second = |rest: &str| {
        let first = "      - { name: majors, segments: [majors], serve: canary }\n";
        with(first, &format!("{first}      - {{ name: second, {rest}, serve: stable }}\n"))
    };
    assert_snapshot!(second("symbols: [EURGBP, EURUSD]"), @r"
    policy.yaml:20:43: warning[overlapping-rollouts]: routes.direction.symbol_rollouts[1].symbols[1]: the symbol rollouts `majors` and `second` overlap: `EURUSD`
      hint: `majors` comes first and has them
    ");
    assert_eq!(second("symbols: [EURGBP, USDCHF]"), "");
    assert_eq!(
        with(
            "      - { name: majors, segments: [majors], serve: canary }\n",
            "      - { name: a, symbols: [X], until: 2026-01-01T00:00:00Z, serve: canary }\n      - { name: b, symbols: [X], from: 2026-01-01T00:00:00Z, serve: canary }\n      - { name: c, segments: [majors], serve: canary }\n"
        ),
        ""
    );
}

#[test]
fn segments_without_anybody() {
    assert_snapshot!(with("segments:\n", "segments:\n  empty: {}\n  unused: { users: [a] }\n"), @r"
    policy.yaml:8:3: warning[unused-segment]: segments.empty: nothing uses the segment `empty`
    policy.yaml:9:3: warning[unused-segment]: segments.unused: nothing uses the segment `unused`
    ");
    assert_snapshot!(with("desk: { users: [dana, deniz] }", "desk: { users: [dana], exclude: { users: [dana] } }"), @r"
    policy.yaml:8:26: warning[empty-segment]: segments.desk.exclude: the segment `desk` contains nobody
    policy.yaml:17:23: warning[never-matches]: routes.direction.test_groups[0].segments: nobody belongs to the test group `desk`
      hint: its lists are empty, or who is in them is excluded
    ");
}

#[test]
fn variants_that_nothing_stands_in_for() {
    assert_snapshot!(with("canary: { model: gb@1.1.0 }", "canary: { model: gb@1.1.0, enabled: false, fallbacks: [] }"), @r"
    policy.yaml:14:50: warning[no-fallback]: routes.direction.variants.canary.fallbacks: the variant `canary` is disabled, and nothing serves instead of it
      hint: it serves all the same, flagged as unavailable; give it `fallbacks` that are enabled
    ");
    assert_snapshot!(with("stable: { model: lr@1.0.0 }", "stable: { model: gpu@1.0.0 }"), @r"
    policy.yaml:13:24: warning[no-fallback]: routes.direction.variants.stable.model: the variant `stable` runs on a remote node, and nothing serves when that is away
      hint: give it `fallbacks`
    ");
    assert_eq!(with("canary: { model: gb@1.1.0 }", "canary: { model: gpu@1.0.0, enabled: false }"), "");
}

/// What is long or nested on purpose does not take long, and no warning is better than a late one.
#[test]
fn hostile_policies_come_to_an_end() {
    let users: String = (0..20_000).map(|n| format!("u{n}, ")).collect();
    let any: String = (0..24)
        .map(|n| {
            format!("{{ any: [{{ user: a{n} }}, {{ symbol: b{n} }}, {{ attribute: c{n}, matches: d }}] }}, ")
        })
        .collect();
    let rules: String = (0..60)
        .map(|n| format!("      - {{ name: r{n}, if: {{ segment: long, all: [{any}] }}, serve: canary }}\n"))
        .collect();
    let source = GOOD
        .replace("segments:\n", &format!("segments:\n  long: {{ users: [{users}] }}\n"))
        .replace("    rules:\n", &format!("    rules:\n{rules}"));
    lint(&policy(&source));
}

/// Every kind of warning, with what in the source stands where it points: what somebody has to change.
#[test]
fn warnings_point_at_what_is_to_change() {
    let check = |source: &str, code: &str, path: &str, text: &str| {
        let warnings = lint(&policy(source));
        let found = warnings.iter().find(|warning| warning.code.as_deref() == Some(code));
        let found = found.unwrap_or_else(|| panic!("no {code}: {warnings:?}"));
        let line = source.lines().nth(found.line as usize - 1).unwrap();
        let rest: String = line.chars().skip(found.column as usize - 1).collect();
        assert!(found.path == path && rest.starts_with(text), "{code}: {found} at {rest}");
    };
    let good = |old: &str, new: &str| {
        assert_eq!(GOOD.matches(old).count(), 1, "{old}");
        GOOD.replace(old, new)
    };
    let default = |new: &str| good("split: { stable: 90, canary: 10 }", new);
    let rule = |new: &str| good("name: first, if: { attribute: age, gt: 5 }", &format!("name: first, {new}"));
    let shadow =
        |new: &str| good("    default:\n", &format!("    shadows: [{{ name: s, {new} }}]\n    default:\n"));
    let route = "routes.direction";

    let ramp = "ramp: { to: canary, start: 2026-01-01T00:00:00Z, automatic: true, stages: [{ share: 100 }] }";
    check(&default(ramp), "automatic-ramp", "routes.direction.default.ramp.automatic", "automatic: true");

    check(&good("desk: { users: [dana, deniz] }", "desk: {}"), "empty-segment", "segments.desk", "desk: {}");
    let desk = |rest: &str| good("desk: { users: [dana, deniz] }", &format!("desk: {{ {rest} }}"));
    check(
        &desk("users: [dana], exclude: { users: [dana] }"),
        "empty-segment",
        "segments.desk.exclude",
        "exclude:",
    );
    check(&desk("if: { user: { eq: a, ne: a } }"), "empty-segment", "segments.desk.if", "if:");
    check(&good("tenants: [acme]", "tenants: []"), "empty-segment", "tiers[1].name", "premium");

    check(&shadow("variant: canary, sample: 0"), "idle-shadow", "routes.direction.shadows[0].sample", "0");
    let idle = good(
        "    default:\n      split: { stable: 90, canary: 10 }\n",
        "    shadows: [{ name: s, variant: stable }]\n    default: { serve: stable }\n",
    )
    .replace("serve: canary", "serve: stable");
    check(&idle, "idle-shadow", "routes.direction.shadows[0].variant", "stable }]");

    check(&rule("if: { user: { eq: a, ne: a } }"), "never-matches", "routes.direction.rules[0].if", "if: {");
    let late = "if: { user: z, time: { from: 2026-02-01T00:00:00Z } }, until: 2026-02-01T00:00:00Z";
    check(&rule(late), "never-matches", "routes.direction.rules[0].until", "until: 2026-02-01");
    check(
        &shadow("variant: canary, if: { user: { eq: a, ne: a } }"),
        "never-matches",
        "routes.direction.shadows[0].if",
        "if: {",
    );
    check(
        &good("    baseline: stable\n", "    baseline: stable\n    access: { user: { eq: a, ne: a } }\n"),
        "never-matches",
        "routes.direction.access",
        "access:",
    );
    check(
        &desk("users: [dana], exclude: { users: [dana] }"),
        "never-matches",
        "routes.direction.test_groups[0].segments",
        "segments: [desk]",
    );

    let canary = |rest: &str| good("canary: { model: gb@1.1.0 }", &format!("canary: {{ {rest} }}"));
    check(
        &canary("model: gb@1.1.0, enabled: false, fallbacks: []"),
        "no-fallback",
        "routes.direction.variants.canary.fallbacks",
        "fallbacks:",
    );
    check(
        &canary("model: gb@1.1.0, enabled: false").replace("baseline: stable", "baseline: canary"),
        "no-fallback",
        "routes.direction.variants.canary.enabled",
        "enabled: false",
    );
    check(
        &good("stable: { model: lr@1.0.0 }", "stable: { model: gpu@1.0.0 }"),
        "no-fallback",
        "routes.direction.variants.stable.model",
        "gpu@1.0.0",
    );

    let majors = "      - { name: majors, segments: [majors], serve: canary }\n";
    let second =
        |rest: &str| good(majors, &format!("{majors}      - {{ name: second, {rest}, serve: stable }}\n"));
    check(
        &second("symbols: [EURGBP, EURUSD]"),
        "overlapping-rollouts",
        "routes.direction.symbol_rollouts[1].symbols[1]",
        "EURUSD]",
    );
    check(
        &second("symbols: [EURGBP], segments: [majors]"),
        "overlapping-rollouts",
        "routes.direction.symbol_rollouts[1].segments[0]",
        "majors]",
    );

    check(
        &rule("if: { user: a }, serve: stable }\n      - { name: again, if: { user: a, symbol: X }"),
        "unreachable",
        "routes.direction.rules[1].if",
        "if: { user: a, s",
    );
    check(
        &second("segments: [majors]"),
        "unreachable",
        "routes.direction.symbol_rollouts[1].segments",
        "segments: [majors], serve: stable",
    );
    check(
        &good(
            "    test_groups:\n",
            "    overrides: [{ users: [dana, deniz], serve: stable }]\n    test_groups:\n",
        ),
        "unreachable",
        "routes.direction.test_groups[0].segments",
        "segments: [desk]",
    );

    let layer = |layer: &str| good("segments:\n", &format!("layers: {{ l: {layer} }}\nsegments:\n"));
    check(&layer("{}"), "unused-layer", "layers.l", "l: {}");
    let kept_out =
        layer("{ holdout: 5 }").replace("    baseline: stable\n", "    baseline: stable\n    layer: l\n");
    check(&kept_out, "unused-holdout", "layers.l.holdout", "holdout: 5");
    check(
        &good("segments:\n", "segments:\n  unused: { users: [a] }\n"),
        "unused-segment",
        "segments.unused",
        "unused:",
    );
    check(
        &good("    baseline: stable\n", "      third: { model: lr@1.0.0 }\n    baseline: stable\n"),
        "unused-variant",
        "routes.direction.variants.third",
        "third:",
    );

    let zero = |new: &str, path: &str, text: &str| {
        check(&default(new), "zero-share", &format!("{route}.{path}"), text);
    };
    zero("split: { stable: 100, canary: 0 }", "default.split.canary", "0 }");
    zero("split: { stable: 100, \"canary\": 0.000 }", "default.split.canary", "0.000 }");
    zero(
        "ramp: { to: canary, start: 2026-01-01T00:00:00Z, stages: [{ share: 0 }] }",
        "default.ramp.stages[0].share",
        "0 }]",
    );
    let splits = "ramp: { start: 2026-01-01T00:00:00Z, stages: [{ split: { stable: 100 }, hold: 1d }, { split: { canary: 0, stable: 100 } }] }";
    zero(splits, "default.ramp.stages[1].split.canary", "0, stable");
    let experiment = rule("experiment: { layer: l, share: 10, split: { stable: 100, canary: 0 } }")
        .replace(", serve: canary }\n    default", " }\n    default");
    let experiment = experiment.replace("segments:\n  desk", "layers: { l: {} }\nsegments:\n  desk");
    check(&experiment, "zero-share", "routes.direction.rules[0].experiment.split.canary", "0 } }");
    check(
        &good("segments:\n", "holdouts: { h: { unit: user, share: 0 } }\nsegments:\n"),
        "zero-share",
        "holdouts.h.share",
        "0 } }",
    );

    // Places in tenants' and users' own routes, under names that need quotes.
    let own = "lockgate: 1\ntenants:\n  \"a.b\":\n    users:\n      u:\n        routes:\n          r: { variants: { v: { model: m@1.0.0 }, w: { model: m@1.0.0 } }, default: { serve: v } }\nroutes: {}\n";
    check(own, "unused-variant", "tenants.\"a.b\".users.u.routes.r.variants.w", "w:");
}

/// Code and place of each warning about a policy with these rules and this default, in its own words with three variants and a layer `x`.
#[track_caller]
fn codes(layers: &str, rules: &[&str], default: &str) -> Vec<String> {
    let rules: String = rules.iter().map(|rule| format!("      - {{ {rule} }}\n")).collect();
    let source = format!(
        "lockgate: 1\nlayers: {{ x: {{}}, y: {{}} }}\n{layers}\nroutes:\n  r:\n    variants: {{ a: {{ model: m@1.0.0 }}, b: {{ model: m@2.0.0 }}, c: {{ model: m@3.0.0 }} }}\n    baseline: a\n    fallbacks: [b, c]\n    rules:\n{rules}    default: {{ {default} }}\n"
    );
    let source = if rules.is_empty() { source.replace("    rules:\n", "") } else { source };
    let warnings = lint(&policy(&source));
    let unused = |code: &str| code == "unused-layer";
    let codes = warnings.iter().map(|warning| (warning.code.clone().unwrap_or_default(), &warning.path));
    codes
        .filter(|(code, _)| !unused(code))
        .map(|(code, path)| format!("{code} {}", path.trim_start_matches("routes.r.")))
        .collect()
}

#[test]
fn shares_whose_buckets_are_taken() {
    let below = "name: one, if: { bucket: { layer: x, below: 40 } }, serve: c";
    // `b` lies first, then `c`, and the baseline last.
    let split = "layer: x, split: { a: 10, b: 30, c: 60 }";
    assert_eq!(codes("", &[below], split), ["unreachable-share default.split.b"]);
    assert_eq!(codes("", &[below], "layer: x, split: { a: 10, b: 50, c: 40 }"), [""; 0]);
    // Another layer, or another unit, gives other buckets.
    assert_eq!(codes("", &[below], "split: { a: 10, b: 30, c: 60 }"), [""; 0]);
    assert_eq!(codes("", &[below], &format!("unit: session, {split}")), [""; 0]);
    // Not everybody below 40 is taken.
    let some = "name: one, if: { bucket: { layer: x, below: 40 }, symbol: X }, serve: c";
    assert_eq!(codes("", &[some], split), [""; 0]);
    // Two steps together.
    let pieces = [
        "name: one, if: { bucket: { layer: x, below: 20 } }, serve: c",
        "name: two, if: { bucket: { layer: x, from: 20, below: 30 } }, serve: c",
    ];
    assert_eq!(codes("", &pieces, split), ["unreachable-share default.split.b"]);
    // A rule's own condition, and what it leaves of the layer.
    let half = "name: one, if: { bucket: { layer: x, below: 50 } }, layer: x, split: { a: 50, b: 50 }";
    assert_eq!(codes("", &[half], "serve: a"), ["unreachable-share rules[0].split.a"]);
    let experiment = "name: e, experiment: { layer: x, share: 50, split: { b: 50, c: 50 } }";
    assert_eq!(
        codes("", &[half, experiment], "serve: a"),
        ["unreachable-share rules[0].split.a", "unreachable rules[1].name"]
    );
    assert_eq!(codes("", &[experiment, half], "serve: a"), ["unreachable rules[1].if"]);
    assert_eq!(
        codes("", &[below, experiment], "serve: a"),
        ["unreachable-share rules[1].experiment.split.b"]
    );
    assert_eq!(
        codes("", &[experiment], "layer: x, split: { a: 50, b: 50 }"),
        ["unreachable-share default.split.b"]
    );
    // Whoever is held out, and whoever has no unit.
    let holdout = |share: u32| format!("holdouts: {{ h: {{ share: {share}, routes: [r] }} }}");
    assert_eq!(codes(&holdout(100), &[], "split: { a: 50, b: 50 }"), ["unreachable-share default.split"]);
    assert_eq!(codes(&holdout(99), &[], "split: { a: 50, b: 50 }"), [""; 0]);
    assert_eq!(
        codes(&holdout(100), &["name: u, if: { user: u }, serve: b"], "serve: a"),
        ["unreachable rules[0].if"]
    );
    assert_eq!(codes(&holdout(100), &["name: u, if: { symbol: u }, serve: b"], "serve: a"), [""; 0]);
    let nobody = "name: one, if: { user: { present: false } }, split: { a: 50, b: 50 }";
    assert_eq!(codes("", &[nobody], "serve: a"), ["unreachable-share rules[0].split"]);
    // A ramp gets through all its stages; the second one takes its new buckets from the upper end.
    let ramp = |stages: &str| {
        format!("layer: x, ramp: {{ to: b, start: 2026-01-01T00:00:00Z, stages: [{stages}] }}")
    };
    assert_eq!(
        codes("", &[below], &ramp("{ share: 40 }")),
        ["unreachable-share default.ramp.stages[0].share"]
    );
    assert_eq!(codes("", &[below], &ramp("{ share: 10, hold: 1d }, { share: 40 }")), [""; 0]);

    assert_snapshot!(lint(&policy("lockgate: 1\nlayers: { x: {} }\nroutes:\n  r:\n    variants: { a: { model: m@1.0.0 }, b: { model: m@2.0.0 }, c: { model: m@3.0.0 } }\n    baseline: a\n    rules: [{ name: one, if: { bucket: { layer: x, below: 40 } }, serve: c }]\n    default: { layer: x, split: { a: 10, b: 30, c: 60 } }"))[0], @r"
    policy.yaml:8:45: warning[unreachable-share]: routes.r.default.split.b: nobody gets the share of the variant `b`: the rule `one` takes its buckets
      hint: a unit has the same bucket wherever a layer is used; a split that shall not depend on it needs another `layer`
    ");
}

#[test]
fn defaults_that_are_never_reached() {
    let everyone =
        "name: all, if: { any: [{ user: { present: true } }, { user: { present: false } }] }, serve: b";
    let split = "split: { a: 50, b: 25, c: 25 }";
    assert_eq!(codes("", &[everyone], split), ["unreachable default"]);
    assert_eq!(
        codes("", &[everyone, "name: z, if: { symbol: Z }, serve: b"], "serve: a"),
        ["unreachable rules[1].if", "unreachable default"]
    );
    let halves = [
        "name: one, if: { attribute: n, lt: 5 }, serve: b",
        "name: two, if: { not: { attribute: n, lt: 5 } }, serve: c",
    ];
    assert_eq!(codes("", &halves, split), ["unreachable default"]);
    assert_eq!(
        codes(
            "",
            &[
                "name: one, if: { attribute: n, lt: 5 }, serve: b",
                "name: two, if: { attribute: n, gte: 5 }, serve: c"
            ],
            split
        ),
        [""; 0]
    );
}

#[test]
fn several_steps_that_leave_nothing_together() {
    assert_snapshot!(rules(&["if: { user: a }", "if: { user: b }", "if: { user: { in: [a, b] }, symbol: X }"]), @r"
    policy.yaml:23:21: warning[unreachable]: routes.direction.rules[2].if: the rule `r2` is never reached: the rule `r0` and the rule `r1` take whatever it matches
      hint: put it first, or remove it
    ");
    assert_snapshot!(rules(&["if: { attribute: n, lt: 5 }", "if: { attribute: m, lt: 5 }", "if: { attribute: n, gte: 5 }", "if: { attribute: n, gt: 1, lt: 9 }"]), @r"
    policy.yaml:24:21: warning[unreachable]: routes.direction.rules[3].if: the rule `r3` is never reached: the rule `r0` and the rule `r2` take whatever it matches
      hint: put it first, or remove it
    ");
    assert_eq!(rules(&["if: { user: a }", "if: { user: b }", "if: { user: { in: [a, b, c] } }"]), "");
    // What cannot match takes nothing.
    let contradictory =
        rules(&["if: { user: { prefix: ab, matches: \"^x\" } }", "if: { user: { prefix: ab } }"]);
    assert_eq!(contradictory.matches("warning[").count(), 1, "{contradictory}");
}

#[test]
fn steps_for_which_nobody_sees_the_route() {
    assert_snapshot!(with("    baseline: stable\n", "    baseline: stable\n    access: { attribute: age, lt: 3 }\n"), @r"
    policy.yaml:22:24: warning[never-matches]: routes.direction.rules[0].if: nobody who may see the route belongs to the rule `first`
      hint: its condition contradicts the route's `access` or whose route it is
    ");
    let own = |rule: &str| {
        let source = format!(
            "lockgate: 1\nroutes: {{}}\ntenants: {{ acme: {{ routes: {{ r: {{ variants: {{ v: {{ model: m@1.0.0 }} }}, rules: [{{ name: n, if: {{ {rule} }}, serve: v }}], default: {{ serve: v }} }} }} }} }}\n"
        );
        lint(&policy(&source)).len()
    };
    assert_eq!((own("tenant: other"), own("tenant: acme, user: u"), own("tenant: acme")), (1, 0, 1));
}

#[test]
fn switchbacks_outside_of_their_time() {
    let rule = |window: &str| {
        format!(
            "name: s, {window}, switchback: {{ variants: [a, b], start: 2026-01-01T00:00:00Z, end: 2026-02-01T00:00:00Z, window: 1h }}"
        )
    };
    assert_eq!(
        codes("", &[&rule("until: 2026-01-01T00:00:00Z")], "serve: c"),
        ["never-matches rules[0].switchback"]
    );
    assert_eq!(
        codes("", &[&rule("from: 2026-02-01T00:00:00Z")], "serve: c"),
        ["never-matches rules[0].switchback"]
    );
    assert_eq!(codes("", &[&rule("from: 2026-01-31T00:00:00Z")], "serve: c"), [""; 0]);
}

#[test]
fn ramps_that_shrink() {
    let ramp = |stages: &str| format!("ramp: {{ to: b, start: 2026-01-01T00:00:00Z, stages: [{stages}] }}");
    assert_eq!(
        codes("", &[], &ramp("{ share: 50, hold: 1d }, { share: 20 }")),
        ["shrinking-ramp default.ramp.stages[1].share"]
    );
    assert_eq!(
        codes("", &[], &ramp("{ share: 50, hold: 1d }, { share: 50, hold: 1d }, { share: 100 }")),
        [""; 0]
    );
    let splits = "ramp: { start: 2026-01-01T00:00:00Z, stages: [{ split: { a: 50, b: 50 }, hold: 1d }, { split: { b: 20, c: 80 }, hold: 1d }, { split: { a: 100 } }] }";
    assert_eq!(codes("", &[], splits), ["shrinking-ramp default.ramp.stages[2].split"]);
}

/// Lists as their files have them.
#[test]
fn lists_that_went_wrong() {
    let source = GOOD.replace("users: [dana, deniz]", "users: { file: desk.txt }");
    let warnings = |units: &[&str]| {
        let units = units.iter().map(|unit| (*unit).to_owned()).collect();
        let warnings = lint_with(&policy(&source), &[("desk.txt".to_owned(), units)].into());
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(lint(&policy(&source)), []);
    assert_eq!(warnings(&["dana", "deniz"]), "");
    assert_snapshot!(warnings(&[]), @r"
    policy.yaml:8:3: warning[empty-segment]: segments.desk: the segment `desk` contains nobody
    policy.yaml:8:26: warning[odd-list]: segments.desk.users.file: the list `desk.txt` is empty
      hint: it holds one unit a line
    policy.yaml:17:23: warning[never-matches]: routes.direction.test_groups[0].segments: nobody belongs to the test group `desk`
      hint: its lists are empty, or who is in them is excluded
    ");
    assert_snapshot!(warnings(&["# people", "dana", "dana", "dana"]), @r"
    policy.yaml:8:26: warning[odd-list]: segments.desk.users.file: the list `desk.txt` has the unit `# people`
      hint: a list has no comments: each of its lines is a unit
    policy.yaml:8:26: warning[odd-list]: segments.desk.users.file: the list `desk.txt` has the unit `dana` twice
      hint: 1 more of its lines are there already
    ");
    // Conditions are held against short lists too.
    let out = GOOD
        .replace("users: [dana, deniz]", "users: { file: desk.txt }")
        .replace("if: { attribute: age, gt: 5 }", "if: { segment: desk, user: eve }");
    let warnings = lint_with(&policy(&out), &[("desk.txt".to_owned(), vec!["dana".to_owned()])].into());
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

/// Each rollout is named once, however many list its symbols, and what is never reached is said to be that.
#[test]
fn many_rollouts_of_one_symbol() {
    let rollouts = |count: usize, rest: &str| -> String {
        (0..count)
            .map(|n| format!("      - {{ name: s{n}, symbols: [EURUSD, S{n}], {rest}serve: canary }}\n"))
            .collect()
    };
    let majors = "      - { name: majors, segments: [majors], serve: canary }\n";
    let count =
        |rest: &str| with(majors, &(rollouts(4000, rest) + majors)).matches("warning[overlapping").count();
    assert_eq!(count(""), 3999);
    assert_eq!(count("from: 2026-01-01T00:00:00Z, "), 4000);
    assert_snapshot!(with(majors, &(rollouts(2, "") + "      - { name: both, symbols: [S0, S1, S2], serve: canary }\n")), @r"
    policy.yaml:9:3: warning[unused-segment]: segments.majors: nothing uses the segment `majors`
    policy.yaml:20:31: warning[overlapping-rollouts]: routes.direction.symbol_rollouts[1].symbols[0]: the symbol rollouts `s0` and `s1` overlap: `EURUSD`
      hint: `s0` comes first and has them
    policy.yaml:21:33: warning[overlapping-rollouts]: routes.direction.symbol_rollouts[2].symbols[0]: the symbol rollout `both` overlaps 2 before it: `S0`, `S1`
      hint: these come first and have them: `s0`, `s1`
    ");
}

/// Thousands of steps, and of routes.
#[test]
fn large_policies_come_to_an_end() {
    let rules: String = (0..2000)
        .map(|n| {
            format!(
                "      - {{ name: r{n}, if: {{ attribute: n, gte: {n}, lt: {} }}, serve: canary }}\n",
                n + 2
            )
        })
        .collect();
    lint(&policy(&GOOD.replace("    rules:\n", &format!("    rules:\n{rules}"))));
    let routes: String = (0..2000)
        .map(|n| format!("  r{n}: {{ variants: {{ a: {{ model: lr@1.0.0 }}, b: {{ model: gb@1.1.0 }} }}, baseline: a, symbol_rollouts: [{{ name: s, symbols: [A, B], serve: b }}], rules: [{{ name: x, if: {{ attribute: q, gt: 5 }}, serve: b }}, {{ name: y, if: {{ attribute: q, gt: 6 }}, serve: b }}], default: {{ split: {{ a: 50, b: 50 }} }} }}\n"))
        .collect();
    let warnings = lint(&policy(&format!("{GOOD}{routes}")));
    assert_eq!(warnings.len(), 2000);
    assert!(warnings.iter().all(|warning| warning.code.as_deref() == Some("unreachable")));
}

/// Layers that are other names for the same buckets.
#[test]
fn salts_that_two_layers_share() {
    let variants = "variants: { a: { model: m@1.0.0 }, b: { model: n@1.0.0 } }, baseline: a";
    let check = |layers: &str, r: &str, s: &str, expected: &[&str]| {
        let source = format!(
            "lockgate: 1\n{layers}\nroutes:\n  r: {{ {variants}, {r} }}\n  s: {{ {variants}, {s} }}\n"
        );
        let warnings: Vec<String> = lint(&policy(&source)).iter().map(ToString::to_string).collect();
        let first: Vec<&str> = warnings.iter().map(|warning| warning.lines().next().unwrap()).collect();
        assert_eq!(first, expected, "{source}");
    };
    let half = "default: { split: { a: 50, b: 50 } }";
    let layered = "layer: l, default: { split: { a: 50, b: 50 } }";
    let experiment = "rules: [{ name: x, experiment: { layer: l, share: 10, split: { a: 50, b: 50 } } }], default: { serve: a }";
    let of_layer = "policy.yaml:2:22: warning[shared-salt]: layers.l.salt: the layer `l` has the salt of the route `r`, so a unit has the same bucket in both";
    check("layers: { l: { salt: r } }", half, layered, &[of_layer]);
    check("layers: { l: { salt: r } }", half, experiment, &[of_layer]);
    check(
        "layers: { l: { salt: r } }",
        half,
        "rules: [{ name: x, if: { bucket: { layer: l, below: 5 } }, serve: b }], default: { serve: a }",
        &[of_layer],
    );
    check(
        "",
        half,
        "salt: r, default: { split: { a: 50, b: 50 } }",
        &[
            "policy.yaml:5:87: warning[shared-salt]: routes.s.salt: the route `s` has the salt of the route `r`, so a unit has the same bucket in both",
        ],
    );
    check(
        "holdouts: { h: { share: 5, salt: r } }",
        half,
        "default: { serve: a }, fallbacks: [b]",
        &[
            "policy.yaml:2:34: warning[shared-salt]: holdouts.h.salt: the holdout `h` has the salt of the route `r`, so a unit has the same bucket in both",
        ],
    );
    check(
        "layers: { l: { salt: x }, k: { salt: x } }",
        &half.replace("{ split", "{ layer: k, split"),
        layered,
        &[of_layer.replace("route `r`", "layer `k`").as_str()],
    );

    // One layer under its own name, another unit, another hash, and a salt of which nothing makes use.
    check("layers: { l: {} }", layered, layered, &[]);
    check("layers: { l: { salt: r } }", half, &layered.replace("{ split", "{ unit: symbol, split"), &[]);
    check("layers: { l: { salt: r, hash: growthbook } }", half, layered, &[]);
    check("layers: { l: { salt: r } }", "default: { serve: a }, fallbacks: [b]", layered, &[]);
    // A tenant's own definition keeps the platform's assignment: a context sees one of them.
    check(
        &format!("tenants: {{ t: {{ routes: {{ r: {{ {variants}, salt: r, {half} }} }} }} }}"),
        half,
        "default: { serve: a }, fallbacks: [b]",
        &[],
    );
}
