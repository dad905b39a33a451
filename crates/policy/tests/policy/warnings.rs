//! What is allowed and hardly meant: the warnings that people read, and what must not give one.

use insta::assert_snapshot;
use lockgate_policy::lint;

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
    policy.yaml:21:9: warning[never-matches]: routes.direction.rules[0]: nothing fulfils the condition of the rule `r0`
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
        "if: { attribute: app, matches: \"^a$\", eq: b }",
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
        ("if: { attribute: app, matches: x }", "if: { attribute: app, matches: x, eq: y }"),
    ] {
        let warnings = rules(&[first, second]);
        assert!(
            warnings.contains("warning[unreachable]") && warnings.lines().count() == 2,
            "{second}: {warnings}"
        );
    }
    for (first, second) in [
        ("if: { user: a, symbol: X }", "if: { user: a }"),
        ("if: { attribute: age, gt: 5 }", "if: { attribute: age, gte: 5 }"),
        ("from: 2026-01-01T00:00:00Z, if: { user: a }", "if: { user: a }"),
        ("until: 2026-01-01T00:00:00Z, if: { user: a }", "from: 2026-01-01T00:00:00Z, if: { user: a }"),
        ("if: { not: { user: a } }", "if: { user: a }"),
        ("if: { user: { matches: a } }", "if: { user: { matches: aa } }"),
    ] {
        assert_eq!(rules(&[first, second]), "", "{second}");
    }
    assert_snapshot!(rules(&["if: { user: a }", "if: { user: a, symbol: X }"]), @r"
    policy.yaml:22:9: warning[unreachable]: routes.direction.rules[1]: the rule `r1` is never reached: the rule `r0` takes whatever it matches
      hint: put it first, or remove it
    ");
    assert_snapshot!(with("    test_groups:\n", "    overrides: [{ users: [dana, deniz], serve: stable }]\n    test_groups:\n"), @r"
    policy.yaml:18:9: warning[unreachable]: routes.direction.test_groups[0]: the test group `desk` is never reached: the override at line 16 takes whatever it matches
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
    assert_snapshot!(with("split: { stable: 90, canary: 10 }", "split: { stable: 100, canary: 0 }"), @"policy.yaml:11:3: warning[zero-share]: routes.direction.default: the variant `canary` has a share of 0 %, so nobody gets it here");
    assert_snapshot!(with("    baseline: stable\n", "      third: { model: lr@1.0.0 }\n    baseline: stable\n"), @"policy.yaml:15:7: warning[unused-variant]: routes.direction.variants.third: nothing serves the variant `third`");
    assert_snapshot!(with("segments:\n", "holdouts: { h: { share: 0 } }\nlayers: { l: { holdout: 5 }, m: {} }\nsegments:\n"), @r"
    policy.yaml:7:13: warning[zero-share]: holdouts.h: the holdout `h` has a share of 0 %
    policy.yaml:8:11: warning[unused-layer]: layers.l: nothing uses the layer `l`
    policy.yaml:8:30: warning[unused-layer]: layers.m: nothing uses the layer `m`
    ");
    let kept_out = "    baseline: stable\n    access: { bucket: { layer: l, below: 50 } }\n";
    let source = GOOD
        .replace("segments:\n", "layers: { l: { holdout: 5 } }\nsegments:\n")
        .replace("    baseline: stable\n", kept_out);
    assert_snapshot!(lint(&policy(&source))[0], @r"
    policy.yaml:7:11: warning[unused-holdout]: layers.l: the layer `l` has a holdout and no experiment
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
    policy.yaml:11:3: warning[automatic-ramp]: routes.direction.default.ramp: this ramp is automatic: the clock alone promotes the new version
      hint: remove `automatic` and raise `approved_stage` when the evidence holds
    ");
    assert_eq!(
        with(
            "split: { stable: 90, canary: 10 }",
            "ramp: { to: canary, start: 2026-01-01T00:00:00Z, stages: [{ share: 0, hold: 1d }, { share: 100 }] }"
        ),
        ""
    );
}

#[test]
fn shadows_that_never_run() {
    let only = "lockgate: 1\nroutes: { r: { variants: { a: { model: m@1.0.0 }, b: { model: m@1.0.0 }, c: { model: n@1.0.0, enabled: false } }, default: { serve: a }, shadows: [SHADOW] } }\n";
    let warnings = |shadow: &str| {
        let warnings = lint(&policy(&only.replace("SHADOW", shadow)));
        let warnings = warnings.iter().filter(|warning| warning.code.as_deref() != Some("unused-variant"));
        warnings.map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert_snapshot!(warnings("{ name: s, variant: a }"), @"policy.yaml:2:148: warning[idle-shadow]: routes.r.shadows[0]: the shadow `s` runs the only variant that serves, so it never runs");
    assert_snapshot!(warnings("{ name: s, variant: b }"), @"policy.yaml:2:148: warning[idle-shadow]: routes.r.shadows[0]: the shadow `s` runs the same model version as every variant that serves, so it never runs");
    assert_snapshot!(warnings("{ name: s, variant: c }"), @"policy.yaml:2:148: warning[idle-shadow]: routes.r.shadows[0]: the variant of the shadow `s` is disabled, so it never runs");
    assert_eq!(
        with(
            "    default:\n",
            "    shadows: [{ name: s, variant: canary }, { name: t, variant: stable }]\n    default:\n"
        ),
        ""
    );
    assert_snapshot!(with("    default:\n", "    shadows: [{ name: s, variant: canary, sample: 0 }]\n    default:\n"), @"policy.yaml:22:15: warning[idle-shadow]: routes.direction.shadows[0]: the shadow `s` samples 0 %, so it never runs");
    assert_snapshot!(with("    default:\n", "    shadows: [{ name: s, variant: canary, if: { user: { eq: a, ne: a } } }]\n    default:\n"), @r"
    policy.yaml:22:15: warning[never-matches]: routes.direction.shadows[0]: nothing fulfils the condition of the shadow `s`
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
    policy.yaml:20:9: warning[overlapping-rollouts]: routes.direction.symbol_rollouts[1]: the symbol rollouts `majors` and `second` overlap: `EURUSD`
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
    policy.yaml:8:3: warning[empty-segment]: segments.desk: the segment `desk` contains nobody
    policy.yaml:17:9: warning[never-matches]: routes.direction.test_groups[0]: nobody belongs to the test group `desk`
      hint: a part of it contradicts another
    ");
}

#[test]
fn variants_that_nothing_stands_in_for() {
    assert_snapshot!(with("canary: { model: gb@1.1.0 }", "canary: { model: gb@1.1.0, enabled: false, fallbacks: [] }"), @r"
    policy.yaml:14:7: warning[no-fallback]: routes.direction.variants.canary: the variant `canary` is disabled, and nothing serves instead of it
      hint: it serves all the same, flagged as unavailable; give it `fallbacks` that are enabled
    ");
    assert_snapshot!(with("stable: { model: lr@1.0.0 }", "stable: { model: gpu@1.0.0 }"), @r"
    policy.yaml:13:7: warning[no-fallback]: routes.direction.variants.stable: the variant `stable` runs on a remote node, and nothing serves when that is away
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
