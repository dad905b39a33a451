use std::collections::BTreeMap;

use insta::assert_snapshot;
use lockgate_package::Digest;
use lockgate_policy::{
    Bundle, CompileOptions, Placement, Reason, RequestContext, ShadowLimits, Step, bucket, explain,
};

use crate::{bundle, case, check_decision, context, decided, millis};

const POLICY: &str = "
lockgate: 1
version: 7
models:
  lr@1.0.0: { placement: host }
  gb@1.1.0:
  rf@1.0.0: { placement: gpu, digest: 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef }
segments:
  inner: { users: [nested], sessions: [s-1] }
  outer: { tenants: [acme], segments: [inner] }
  nobody: { users: [] }
layers:
  shared: { salt: shared-2026 }
routes:
  direction:
    description: up or down
    signature:
      inputs: [{ name: input, datatype: FP32, shape: [-1, 17] }]
      outputs: [{ name: label, datatype: INT64, shape: [-1] }]
    variants:
      stable: { model: lr@1.0.0, payload: { threshold: 0.50, note: \"x\\ty\" } }
      canary: { model: gb@1.1.0 }
      forest: { model: gb@1.1.0 }
    baseline: stable
    overrides:
      - { symbol: GOLD, serve: forest }
      - { user: alice, serve: canary }
      - { users: [carol, dave], serve: forest }
    test_groups:
      - { name: empty, segments: [nobody], serve: forest }
      - { name: desk, users: [desk-1], segments: [outer], serve: canary }
      - { name: pilots, tenants: [pilot], split: { stable: 0, canary: 100 } }
    symbol_rollouts:
      - { name: majors, symbols: [GBPUSD], serve: canary }
    rules:
      - name: by-symbol
        if: { symbol: { in: [EURCHF, EURSEK] } }
        unit: symbol
        layer: shared
        split: { canary: 50, forest: 50 }
      - name: pair
        if: { attribute: mode, eq: pair }
        unit: [tenant, user]
        split: { canary: 50, stable: 50 }
    default:
      split: { stable: 90, canary: 10 }
  off:
    enabled: false
    signature: &signature
      inputs: [{ name: input, datatype: FP32, shape: [-1, 17] }]
      outputs: [{ name: label, datatype: INT64, shape: [-1] }]
    variants: { a: { model: rf@1.0.0 }, b: { model: rf@1.0.0 } }
    baseline: b
    overrides: [{ user: alice, serve: a }]
    default: { serve: a }
  plain:
    signature: *signature
    variants: { only: { model: rf@1.0.0 } }
    default: { serve: only }
  targeted:
    signature: *signature
    variants: { only: { model: rf@1.0.0 } }
    rules: [{ name: never, if: { user: nobody }, serve: only }]
    default: { serve: only }
";

fn policy_bundle() -> lockgate_policy::Bundle {
    let policy = crate::policy(POLICY);
    let packages: Vec<_> =
        crate::packages(&policy).into_iter().filter(|package| package.model != "rf").collect();
    let options = lockgate_policy::CompileOptions { packages: &packages, ..Default::default() };
    crate::load(
        &lockgate_policy::compile(&policy, &options).unwrap_or_else(|problems| panic!("{problems}")).bundle,
    )
}

#[test]
fn each_step_decides_in_its_turn() {
    let bundle = policy_bundle();
    let check = |context: &str, expected: &str| check_decision(&bundle, context, expected);
    // Disabled comes before everything else.
    check("off user=alice", "b DISABLED disabled");
    // Overrides: the first in the source wins, whatever field it compares.
    check("direction user=alice tenant=acme symbol=GBPUSD", "canary TARGETING_MATCH override");
    check("direction user=alice symbol=GOLD", "forest TARGETING_MATCH override");
    check("direction user=dave", "forest TARGETING_MATCH override");
    // Test groups: by list, by segment, by segment of a segment, by split.
    check("direction user=desk-1 symbol=GBPUSD", "canary TARGETING_MATCH test_group rule=desk");
    check("direction tenant=acme", "canary TARGETING_MATCH test_group rule=desk");
    check("direction user=nested", "canary TARGETING_MATCH test_group rule=desk");
    check("direction session=s-1", "canary TARGETING_MATCH test_group rule=desk");
    let bob = bucket("direction", ["bob"]);
    check(
        "direction tenant=pilot user=bob symbol=EURCHF",
        &format!("canary SPLIT test_group rule=pilots layer=direction bucket={bob}"),
    );
    // Symbol rollouts come before rules, rules before the default.
    check("direction user=bob symbol=GBPUSD", "canary TARGETING_MATCH symbol_rollout rule=majors");
    let forests = bucket("shared-2026", ["EURCHF"]);
    let owner = if forests < 50_000 { "canary" } else { "forest" };
    check(
        "direction user=bob symbol=EURCHF",
        &format!("{owner} SPLIT rule rule=by-symbol layer=shared bucket={forests}"),
    );
    let owner = if bob < 10_000 { "canary" } else { "stable" };
    check("direction user=bob", &format!("{owner} SPLIT default layer=direction bucket={bob}"));
    // One variant for everyone, with and without anything that could have targeted.
    check("plain", "only STATIC default");
    check("targeted user=bob", "only DEFAULT default");
    check("nowhere user=bob", "the bundle has no such route");
    check("", "the bundle has no such route");
}

#[test]
fn a_missing_unit_gets_the_baseline_and_never_chance() {
    let bundle = policy_bundle();
    let check = |context: &str, expected: &str| check_decision(&bundle, context, expected);
    check("direction", "stable DEFAULT default layer=direction unit missing");
    check("direction user= symbol=EURUSD", "stable DEFAULT default layer=direction unit missing");
    check("direction user=bob mode=\"pair\"", "stable DEFAULT rule rule=pair layer=direction unit missing");
    check("direction tenant=pilot", "stable DEFAULT test_group rule=pilots layer=direction unit missing");
    let pair = bucket("direction", ["t", "bob"]);
    let owner = if pair < 50_000 { "canary" } else { "stable" };
    check(
        "direction tenant=t user=bob mode=\"pair\"",
        &format!("{owner} SPLIT rule rule=pair layer=direction bucket={pair}"),
    );
}

#[test]
fn a_decision_names_what_runs() {
    let bundle = policy_bundle();
    let decision = bundle.decide(&context("direction"), 0, &[]).unwrap();
    let variant = decision.variant();
    assert_eq!((decision.route().name(), decision.route_index), ("direction", 0));
    assert_eq!((variant.name, decision.variant_index), ("stable", 0));
    assert_eq!((variant.model, variant.version), ("lr", "1.0.0"));
    assert_eq!(variant.digest, Digest::of(b"lr@1.0.0"));
    assert_eq!(variant.placement, Placement::Host);
    assert_eq!(variant.payload, Some(r#"{"threshold":0.50,"note":"x\ty"}"#));
    assert_eq!((decision.reason.number(), decision.step.number()), (2, 8));
    let plain = bundle.decide(&context("plain"), 0, &[]).unwrap();
    let variant = plain.variant();
    assert_eq!((plain.route_index, variant.payload, variant.placement), (2, None, Placement::Gpu));
    let pinned = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    assert_eq!(variant.digest.to_string(), pinned);
}

#[test]
fn equal_targets_mean_equal_rules_and_layers() {
    let bundle = policy_bundle();
    let target = |words: &str| bundle.decide(&context(words), 0, &[]).unwrap().target_index;
    assert_eq!(target("direction user=x"), target("direction user=y"));
    assert_ne!(target("direction user=x"), target("direction user=x symbol=GBPUSD"));
    assert_eq!((target("plain"), target("off")), (None, None));
    let majors = target("direction symbol=GBPUSD").unwrap();
    assert_eq!(bundle.target_names(majors), Some((Some("majors"), None)));
    let default = target("direction user=x").unwrap();
    assert_eq!(bundle.target_names(default), Some((None, Some("direction"))));
    assert_eq!(bundle.target_names(u32::MAX), None);
}

#[test]
fn a_bundle_shows_its_routes() {
    let bundle = policy_bundle();
    assert_eq!((bundle.version(), bundle.parent(), bundle.route_count()), (7, None, 4));
    let names: Vec<&str> = bundle.routes().map(|route| route.name()).collect();
    assert_eq!(names, ["direction", "off", "plain", "targeted"]);
    let route = bundle.route("direction").unwrap();
    assert_eq!(
        (route.description(), route.enabled(), route.baseline().name),
        (Some("up or down"), true, "stable")
    );
    assert_eq!(
        route.variants().map(|variant| variant.name).collect::<Vec<_>>(),
        ["stable", "canary", "forest"]
    );
    assert_eq!(route.signature().unwrap(), crate::signature("[-1, 17]"));
    assert!(!bundle.route("off").unwrap().enabled());
    assert!(bundle.route("Direction").is_none());
    let models: Vec<String> =
        bundle.models().map(|model| format!("{}@{}", model.name, model.version)).collect();
    assert_eq!(models, ["gb@1.1.0", "lr@1.0.0", "rf@1.0.0"]);
}

#[test]
fn numbers_and_words_are_those_of_the_flat_entry_point() {
    let reasons: Vec<_> = Reason::ALL.iter().map(|reason| (reason.number(), reason.name())).collect();
    assert_eq!(
        reasons,
        [(1, "STATIC"), (2, "DEFAULT"), (3, "TARGETING_MATCH"), (4, "SPLIT"), (5, "DISABLED"), (6, "ERROR")]
    );
    let placements: Vec<_> =
        Placement::ALL.iter().map(|placement| (placement.number(), placement.name())).collect();
    assert_eq!(placements, [(1, "edge"), (2, "host"), (3, "gpu")]);
    let steps: Vec<_> = Step::ALL.iter().map(|step| (step.number(), step.name())).collect();
    assert_eq!(
        steps,
        [
            (1, "disabled"),
            (2, "scope"),
            (3, "override"),
            (4, "holdout"),
            (5, "test_group"),
            (6, "symbol_rollout"),
            (7, "rule"),
            (8, "default"),
            (9, "fallback")
        ]
    );
}

/// Two variants, a and b, on models of the same names; `a` is the baseline. `more` follows.
fn route(more: &str) -> String {
    format!("{{ variants: {{ a: {{ model: a@1.0.0 }}, b: {{ model: b@1.0.0 }} }}, baseline: a, {more} }}")
}

/// A policy with one route, `r`; `before` stands before the routes.
fn one(before: &str, more: &str) -> Bundle {
    bundle(&format!("lockgate: 1\n{before}\nroutes: {{ r: {} }}", route(more)))
}

/// What the bundle says to each case.
#[track_caller]
fn check_all(bundle: &Bundle, cases: &[(&str, &str)]) {
    for (words, expected) in cases {
        check_decision(bundle, words, expected);
    }
}

#[test]
fn the_most_specific_definition_that_admits_the_context_is_the_route() {
    let serve = |variant: &str| format!("default: {{ serve: {variant} }}");
    let open = |variant: &str| route(&serve(variant));
    let source = format!(
        "
lockgate: 1
routes:
  r: {platform}
  hidden: {hidden}
tenants:
  acme:
    routes: {{ r: {tenant}, own: {own} }}
    users: {{ alice: {{ routes: {{ r: {both} }} }} }}
  other:
    routes: {{ r: {closed} }}
users:
  alice: {{ routes: {{ r: {user} }} }}
",
        platform = open("a"),
        hidden = route("access: { user: root }, default: { serve: b }"),
        tenant = open("b"),
        own = open("a"),
        both = route("access: { symbol: EURUSD }, default: { serve: a }"),
        closed = route("enabled: false, access: { user: dave }, default: { serve: b }"),
        user = route("access: { session: s }, default: { serve: b }"),
    );
    let bundle = bundle(&source);
    check_all(
        &bundle,
        &[
            ("r", "a STATIC default"),
            ("r tenant=acme", "b STATIC default tenant=acme"),
            ("r tenant=acme user=bob", "b STATIC default tenant=acme"),
            ("r tenant=acme user=alice symbol=EURUSD session=s", "a STATIC default tenant=acme user=alice"),
            ("r tenant=acme user=alice session=s", "b STATIC default user=alice"),
            ("r tenant=acme user=alice", "b STATIC default tenant=acme"),
            ("r user=alice session=s", "b STATIC default user=alice"),
            ("r user=alice symbol=EURUSD", "a STATIC default"),
            // A definition that does not admit the context is passed over, disabled or not.
            ("r tenant=other", "a STATIC default"),
            ("r tenant=other user=dave", "a DISABLED disabled tenant=other"),
            ("own", "the bundle has no such route"),
            ("own tenant=acme", "a STATIC default tenant=acme"),
            ("own tenant=other", "the bundle has no such route"),
            ("hidden user=x", "the bundle has no such route"),
            ("hidden user=root", "b STATIC default"),
            ("r tenant=", "a STATIC default"),
        ],
    );
    let resolved = |words: &str| bundle.resolve(&context(words), 0, &[]).map(|route| route.index());
    assert_eq!(resolved("hidden user=x"), None);
    assert_eq!(resolved("nowhere"), None);
    for words in ["r", "r tenant=acme", "r tenant=acme user=alice session=s"] {
        let decision = bundle.decide(&context(words), 0, &[]).unwrap();
        assert_eq!(resolved(words), Some(decision.route_index), "{words}");
    }
    assert_eq!(bundle.route_count(), 7);
    assert!(bundle.route("own").is_none() && bundle.definition("own", Some("acme"), None).is_some());
}

#[test]
fn layers_of_scoped_routes_have_names_of_their_own() {
    let split = route("default: { split: { a: 50, b: 50 } }");
    let source = format!(
        "lockgate: 1\nroutes: {{ r: {split} }}\ntenants: {{ t/%: {{ routes: {{ r: {split} }}, users: {{ u: {{ routes: {{ r: {split} }} }} }} }} }}\nusers: {{ v/w: {{ routes: {{ r: {split} }} }} }}"
    );
    let bundle = bundle(&source);
    for (words, layer, unit) in [
        ("r user=x", "r", "x"),
        ("r user=x tenant=t/%", "t%2F%25/r", "x"),
        ("r user=u tenant=t/%", "t%2F%25/u/r", "u"),
        ("r user=v/w", "/v%2Fw/r", "v/w"),
    ] {
        let expected = format!("layer={layer} bucket={}", bucket(layer, [unit]));
        assert!(decided(&bundle, words).ends_with(&expected), "{words}: {}", decided(&bundle, words));
    }
}

#[test]
fn the_first_override_in_the_source_wins() {
    let overrides =
        "overrides: [{ tenant: t, serve: a }, { users: [x, y], serve: b }, { symbol: S, serve: a }]";
    let bundle = one("", &format!("{overrides}, default: {{ serve: a }}"));
    check_all(
        &bundle,
        &[
            ("r user=x", "b TARGETING_MATCH override"),
            ("r user=x symbol=S", "b TARGETING_MATCH override"),
            ("r user=x symbol=S tenant=t", "a TARGETING_MATCH override"),
            ("r user=z symbol=S", "a TARGETING_MATCH override"),
            ("r user=z", "a DEFAULT default"),
        ],
    );
}

#[test]
fn requests_permit_what_their_members_ask_for() {
    let requests = "requests: [{ name: first, users: [x], variants: [a] }, { name: desk, users: [x, y], tenants: [t], variants: [a, b] }]";
    let bundle =
        one("", &format!("overrides: [{{ user: o, serve: a }}], {requests}, default: {{ serve: a }}"));
    check_all(
        &bundle,
        &[
            ("r user=x asks=a", "a TARGETING_MATCH override rule=first"),
            ("r user=x asks=b", "b TARGETING_MATCH override rule=desk"),
            ("r tenant=t asks=b", "b TARGETING_MATCH override rule=desk"),
            // What nothing permits, and what does not exist, is as good as no request.
            ("r user=z asks=b", "a DEFAULT default"),
            ("r user=x asks=c", "a DEFAULT default"),
            ("r user=x asks=", "a DEFAULT default"),
            ("r user=o tenant=t asks=b", "a TARGETING_MATCH override"),
        ],
    );
}

#[test]
fn steps_have_their_time() {
    let bundle = one(
        "",
        "test_groups: [{ name: g, users: [u], from: 2026-01-01T00:00:00Z, until: 2026-01-02T00:00:00Z, serve: b }],
        symbol_rollouts: [{ name: s, symbols: [S], from: 2026-01-02T00:00:00Z, serve: b }],
        rules: [{ name: x, if: { tenant: t }, until: 2026-01-03T00:00:00Z, serve: b }],
        default: { serve: a }",
    );
    let all = "r user=u symbol=S tenant=t";
    for (time, expected) in [
        ("2025-12-31T23:59:59.999Z", "b TARGETING_MATCH rule rule=x"),
        ("2026-01-01T00:00:00Z", "b TARGETING_MATCH test_group rule=g"),
        ("2026-01-01T23:59:59.999Z", "b TARGETING_MATCH test_group rule=g"),
        ("2026-01-02T00:00:00Z", "b TARGETING_MATCH symbol_rollout rule=s"),
    ] {
        check_decision(&bundle, &format!("{all} @{time}"), expected);
    }
    check_decision(&bundle, "r tenant=t @2026-01-02T23:59:59.999Z", "b TARGETING_MATCH rule rule=x");
    check_decision(&bundle, "r tenant=t @2026-01-03T00:00:00Z", "a DEFAULT default");
}

#[test]
fn units_have_parts_in_their_order() {
    let split = |unit: &str| one("", &format!("default: {{ unit: {unit}, split: {{ a: 0, b: 100 }} }}"));
    let check = |unit: &str, words: &str, parts: &[&str]| {
        let found = decided(&split(unit), words);
        let expected = match parts {
            [] => "a DEFAULT default layer=r unit missing".to_owned(),
            parts => format!("b SPLIT default layer=r bucket={}", bucket("r", parts.iter().copied())),
        };
        assert_eq!(found, expected, "{unit} {words}");
    };
    check("session", "r session=s", &["s"]);
    check("[tenant, user]", "r user=u tenant=t", &["t", "u"]);
    check("[user, tenant]", "r user=u tenant=t", &["u", "t"]);
    check("[user, tenant]", "r user=u", &[]);
    check("{ attribute: desk }", "r desk=\"d\"", &["d"]);
    check("{ attribute: desk }", "r desk=\"\"", &[""]);
    check("{ attribute: desk }", "r desk=5", &[]);
    check("{ attribute: desk }", "r user=u", &[]);
    check("[symbol, { attribute: desk }]", "r desk=\"d\" symbol=S", &["S", "d"]);
}

const RAMP: &str = "ramp: { to: b, start: 2026-01-01T00:00:00Z, approved_stage: 2, stages: [{ share: 10, hold: 1d }, { share: 50, hold: 2d }, { share: 100 }] }";

/// The stage that is in force at each time.
#[track_caller]
fn check_stages(before: &str, ramp: &str, stages: &[(&str, u32)]) {
    let bundle = one(before, &format!("default: {{ {ramp} }}"));
    for (time, stage) in stages {
        let decision = bundle.decide(&context("r user=x"), millis(time), &[]).unwrap();
        assert_eq!(decision.stage, Some(*stage), "{time}");
    }
}

#[test]
fn a_ramp_waits_for_its_clock_and_for_approval() {
    let none = "2025-12-31T23:59:59.999Z";
    let approved = |stage: u32| RAMP.replace("approved_stage: 2", &format!("approved_stage: {stage}"));
    let steps = [
        (none, 0),
        ("2026-01-01", 1),
        ("2026-01-01T23:59:59.999Z", 1),
        ("2026-01-02", 2),
        ("2026-01-03T23:59:59.999Z", 2),
    ];
    check_stages("", RAMP, &steps);
    check_stages("", RAMP, &[("2026-01-04", 2), ("2027-01-01", 2)]);
    check_stages("", &approved(3), &[("2026-01-03T23:59:59.999Z", 2), ("2026-01-04", 3), ("9999-12-31", 3)]);
    check_stages("", &approved(0), &[("2026-01-04", 0)]);
    check_stages("", &RAMP.replace("approved_stage: 2, ", ""), &[("2026-01-04", 0)]);
    check_stages("", &RAMP.replace("approved_stage: 2", "automatic: true"), &[(none, 0), ("2026-01-04", 3)]);
    // A stage with a start has the offset of its start, whatever the hold of the one before.
    let start = approved(3)
        .replace("{ share: 100 }", "{ share: 100, start: 2026-01-10T12:00:00Z }")
        .replace(", hold: 2d", "");
    check_stages("", &start, &[("2026-01-10T11:59:59.999Z", 2), ("2026-01-10T12:00:00Z", 3)]);
}

#[test]
fn a_ramps_clock_stands_still_in_pauses_and_freezes() {
    let ramp = RAMP.replace(
        "approved_stage: 2",
        "approved_stage: 3, pauses: [{ from: 2026-01-01T12:00:00Z, until: 2026-01-02T00:00:00Z }]",
    );
    check_stages("", &ramp, &[("2026-01-02T11:59:59.999Z", 1), ("2026-01-02T12:00:00Z", 2)]);
    // The freeze begins within the pause: together they last from noon to the end of the next day.
    let freeze = "freezes: [{ from: 2026-01-01T18:00:00Z, until: 2026-01-03T00:00:00Z, reason: holidays }]";
    check_stages(freeze, &ramp, &[("2026-01-03T11:59:59.999Z", 1), ("2026-01-03T12:00:00Z", 2)]);
    // One that began before the ramp counts from the ramp's start on; one without end lasts.
    let early = "freezes: [{ from: 2025-01-01T00:00:00Z, until: 2026-01-01T06:00:00Z }]";
    let plain = RAMP.replace("approved_stage: 2", "approved_stage: 3");
    check_stages(
        early,
        &plain,
        &[("2026-01-01", 1), ("2026-01-02T05:59:59.999Z", 1), ("2026-01-02T06:00:00Z", 2)],
    );
    let endless = "freezes: [{ from: 2026-01-02T00:00:00Z }]";
    check_stages(endless, &plain, &[("2026-01-02", 2), ("2030-01-01", 2)]);
    let all_of_it = "freezes: [{ from: 2020-01-01T00:00:00Z }]";
    check_stages(all_of_it, &plain, &[("2025-01-01", 0), ("2030-01-01", 1)]);
}

#[test]
fn a_ramp_serves_from_until_its_first_stage() {
    let bundle = one("", &format!("default: {{ {} }}", RAMP.replace("to: b", "from: b, to: a")));
    let x = bucket("r", ["x"]);
    check_decision(&bundle, "r user=x", &format!("b SPLIT default layer=r bucket={x} stage=0"));
    check_decision(&bundle, "r", "a DEFAULT default layer=r stage=0 unit missing");
    check_decision(&bundle, "r @2026-01-02", "a DEFAULT default layer=r stage=2 unit missing");
    let at_stage_2 = if x < 50_000 { "b" } else { "a" };
    // With `a` as the baseline, `b` has the lower buckets, and what it gives away are its upper ones.
    check_decision(
        &bundle,
        "r user=x @2026-01-02",
        &format!("{at_stage_2} SPLIT default layer=r bucket={x} stage=2"),
    );
}

#[test]
fn an_experiment_matches_its_own_buckets_only() {
    let rules = "rules: [{ name: x, if: { tenant: t }, experiment: { layer: l, share: 50, split: { a: 50, b: 50 } } }, { name: y, experiment: { layer: l, share: 20, split: { b: 100 } } }, { name: z, if: { tenant: t }, serve: b }]";
    let bundle = one(
        "layers: { l: { salt: salty, unit: symbol, holdout: 10 } }",
        &format!("{rules}, default: {{ serve: a }}"),
    );
    let mut seen = BTreeMap::new();
    for n in 0..200 {
        let symbol = format!("S{n}");
        let bucket = bucket("salty", [symbol.as_str()]);
        // The holdout, then x with b before the baseline, then y, then nobody.
        let in_layer =
            |rule: &str, variant: &str| format!("{variant} SPLIT rule rule={rule} layer=l bucket={bucket}");
        let held_out = format!("a SPLIT holdout rule=l layer=l bucket={bucket} held out");
        let (with_tenant, without) = match bucket {
            0..10_000 => (held_out.clone(), held_out),
            10_000..35_000 => (in_layer("x", "b"), "a DEFAULT default".to_owned()),
            35_000..60_000 => (in_layer("x", "a"), "a DEFAULT default".to_owned()),
            60_000..80_000 => (in_layer("y", "b"), in_layer("y", "b")),
            _ => ("b TARGETING_MATCH rule rule=z".to_owned(), "a DEFAULT default".to_owned()),
        };
        check_decision(&bundle, &format!("r symbol={symbol} tenant=t"), &with_tenant);
        check_decision(&bundle, &format!("r symbol={symbol}"), &without);
        *seen.entry(bucket / 20_000).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 5, "every part of the layer was met");
    // A missing unit is in no experiment and not held out.
    check_decision(&bundle, "r tenant=t", "b TARGETING_MATCH rule rule=z");
}

#[test]
fn holdouts_are_looked_at_in_order_and_give_the_baseline() {
    let holdouts = "holdouts: { b-second: { share: 100, unit: session }, a-first: { share: 50, salt: s, routes: [r] }, c-other: { share: 100, routes: [q] } }";
    let r = route(
        "overrides: [{ user: o, serve: b }], test_groups: [{ name: g, tenants: [t], serve: b }], default: { serve: b }",
    );
    let bundle = bundle(&format!("lockgate: 1\n{holdouts}\nroutes: {{ r: {r}, q: {r}, p: {r} }}"));
    let (mut inside, mut outside) = (0, 0);
    for n in 0..40 {
        let bucket = bucket("s", [format!("u{n}").as_str()]);
        let words = format!("r user=u{n} tenant=t");
        if bucket < 50_000 {
            inside += 1;
            check_decision(
                &bundle,
                &words,
                &format!("a SPLIT holdout rule=a-first layer=a-first bucket={bucket} held out"),
            );
        } else {
            outside += 1;
            check_decision(&bundle, &words, "b TARGETING_MATCH test_group rule=g");
        }
    }
    assert!(inside > 5 && outside > 5);
    let of = |layer: &str, unit: &str| {
        format!("a SPLIT holdout rule={layer} layer={layer} bucket={} held out", bucket(layer, [unit]))
    };
    check_decision(&bundle, "r session=x", &of("b-second", "x"));
    check_decision(&bundle, "q user=x", &of("c-other", "x"));
    check_decision(&bundle, "p user=x session=x", &of("b-second", "x"));
    check_decision(&bundle, "q user=o session=x", "b TARGETING_MATCH override");
    check_decision(&bundle, "p", "b DEFAULT default");
}

/// The variant that serves a unit's window, computed as the semantics say.
fn turn(seed: &str, parts: &[&str], window: u64, count: u32) -> u32 {
    let (block, place) = (window / u64::from(count), (window % u64::from(count)) as usize);
    let hash = |variant: u32| {
        let mut bytes = b"lockgate/switchback/1".to_vec();
        for text in [seed].iter().chain(parts) {
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes.extend(block.to_le_bytes());
        bytes.extend(variant.to_le_bytes());
        xxhash_rust::xxh64::xxh64(&bytes, 0)
    };
    let mut order: Vec<u32> = (0..count).collect();
    order.sort_by_key(|variant| hash(*variant));
    order[place]
}

#[test]
fn a_switchback_gives_whole_windows_to_one_variant() {
    let source = |more: &str| {
        format!(
            "lockgate: 1
routes:
  r:
    variants: {{ a: {{ model: a@1.0.0 }}, b: {{ model: b@1.0.0 }}, c: {{ model: c@1.0.0 }} }}
    baseline: a
    rules:
      - {{ name: turns, switchback: {{ variants: [c, b, a], start: 2026-01-01T00:00:00Z, end: 2026-01-03T00:00:00Z, window: 1h, washout: 10m{more} }} }}
    default: {{ serve: b }}
"
        )
    };
    for (more, seed) in [("", "r/turns"), (", seed: dice", "dice")] {
        let bundle = bundle(&source(more));
        let start = millis("2026-01-01");
        for symbol in ["EURUSD", "é", "GOLD"] {
            for window in 0..48 {
                let at = |offset: i64| {
                    bundle
                        .decide(
                            &context(&format!("r symbol={symbol}")),
                            start + window * 3_600_000 + offset,
                            &[],
                        )
                        .map(|decision| crate::words(&decision))
                        .unwrap()
                };
                let served = ["c", "b", "a"][turn(seed, &[symbol], window as u64, 3) as usize];
                assert_eq!(at(0), format!("a SPLIT rule rule=turns window={window} washout"));
                assert_eq!(at(599_999), format!("a SPLIT rule rule=turns window={window} washout"));
                for offset in [600_000, 3_599_999] {
                    assert_eq!(at(offset), format!("{served} SPLIT rule rule=turns window={window}"));
                }
            }
            // In each block every variant has one turn.
            for block in 0..16 {
                let mut turns: Vec<u32> =
                    (0..3).map(|place| turn(seed, &[symbol], block * 3 + place, 3)).collect();
                turns.sort_unstable();
                assert_eq!(turns, [0, 1, 2]);
            }
        }
        let outside = "b DEFAULT default";
        check_decision(&bundle, "r symbol=EURUSD @2025-12-31T23:59:59.999Z", outside);
        check_decision(&bundle, "r symbol=EURUSD @2026-01-03T00:00:00Z", outside);
        check_decision(&bundle, "r user=u @2026-01-02", outside);
    }
}

#[test]
fn fallbacks_stand_in_for_what_is_unavailable() {
    let bundle = bundle(
        "
lockgate: 1
routes:
  r:
    variants:
      a: { model: a@1.0.0 }
      b: { model: b@1.0.0 }
      c: { model: c@1.0.0, fallbacks: [b, a] }
      d: { model: d@1.0.0, fallbacks: [] }
      e: { model: e@1.0.0, enabled: false }
    baseline: a
    fallbacks: [d, c]
    overrides: [{ user: a, serve: a }, { user: b, serve: b }, { user: c, serve: c }, { user: d, serve: d }, { user: e, serve: e }]
    default: { split: { a: 0, c: 100 } }
  plain:
    variants: { a: { model: a@1.0.0 }, b: { model: b@1.0.0 } }
    baseline: a
    default: { serve: b }
  off:
    enabled: false
    variants: { a: { model: a@1.0.0 }, b: { model: b@1.0.0 } }
    baseline: a
    fallbacks: [b]
    default: { serve: b }
",
    );
    let x = bucket("r", ["x"]);
    check_all(
        &bundle,
        &[
            ("r user=a -a@1.0.0", "d TARGETING_MATCH fallback intended=a"),
            ("r user=a -a@1.0.0 -d@1.0.0", "c TARGETING_MATCH fallback intended=a"),
            ("r user=a -a@1.0.0 -d@1.0.0 -c@1.0.0", "a TARGETING_MATCH override unavailable"),
            ("r user=c -c@1.0.0 -b@1.0.0", "a TARGETING_MATCH fallback intended=c"),
            // Fallbacks of a fallback are not asked.
            ("r user=c -c@1.0.0 -b@1.0.0 -a@1.0.0", "c TARGETING_MATCH override unavailable"),
            ("r user=d -d@1.0.0", "d TARGETING_MATCH override unavailable"),
            ("r user=e", "d TARGETING_MATCH fallback intended=e"),
            ("r user=e -d@1.0.0 -x@1.0.0", "c TARGETING_MATCH fallback intended=e"),
            ("r -c@1.0.0", "a DEFAULT default layer=r unit missing"),
            ("plain -b@1.0.0", "a STATIC fallback intended=b"),
            ("plain -a@1.0.0", "b STATIC default"),
            ("off -a@1.0.0", "b DISABLED fallback intended=a"),
        ],
    );
    check_decision(&bundle, "r user=x -c@1.0.0", &format!("b SPLIT fallback layer=r bucket={x} intended=c"));
}

#[test]
fn shadows_run_beside_what_serves() {
    let bundle = bundle(
        "
lockgate: 1
routes:
  r:
    variants:
      a: { model: a@1.0.0 }
      b: { model: b@1.0.0 }
      twin: { model: a@1.0.0 }
      off: { model: o@1.0.0, enabled: false }
    baseline: a
    fallbacks: [b]
    rules: [{ name: b, if: { tenant: b }, serve: b }]
    default: { serve: a }
    shadows:
      - { name: plain, variant: b }
      - { name: same package, variant: twin }
      - { name: disabled, variant: off }
      - { name: some, variant: b, if: { symbol: S }, from: 2026-01-01T00:00:00Z, until: 2026-01-02T00:00:00Z }
      - { name: half, variant: b, sample: 50, unit: session, limits: { rate: 5, concurrency: 1, bytes: 64KiB, deadline: 200ms } }
      - { name: stable, variant: a }
  down: { enabled: false, variants: { a: { model: a@1.0.0 }, b: { model: b@1.0.0 } }, baseline: a, default: { serve: a }, shadows: [{ name: s, variant: b }] }
",
    );
    let shadows = |words: &str| {
        let found = decided(&bundle, words);
        found.split_once("shadows=").map(|(_, names)| names.to_owned()).unwrap_or_default()
    };
    assert_eq!(shadows("r user=u"), "plain");
    assert_eq!(shadows("r"), "", "a shadow whose unit is missing does not run");
    assert_eq!(shadows("r user=u tenant=b"), "same package,stable");
    assert_eq!(shadows("r user=u symbol=S @2026-01-01"), "plain,some");
    assert_eq!(shadows("r user=u symbol=S @2026-01-02"), "plain");
    assert_eq!(shadows("r user=u symbol=T @2026-01-01"), "plain");
    // `b` serves in place of `a`, whose package is not there for any of its variants.
    assert_eq!(shadows("r user=u -a@1.0.0"), "");
    assert_eq!(shadows("r user=u -b@1.0.0"), "");
    assert_eq!(shadows("down user=u"), "");
    let (mut runs, mut rests) = (0, 0);
    for n in 0..40 {
        let session = format!("s{n}");
        let sampled = bucket("r/shadow/half", [session.as_str()]) < 50_000;
        *(if sampled { &mut runs } else { &mut rests }) += 1;
        let expected = if sampled { "half" } else { "" };
        assert_eq!(shadows(&format!("r session={session}")), expected);
    }
    assert!(runs > 5 && rests > 5);
    let decision = bundle.decide(&context("r user=u"), 0, &[]).unwrap();
    assert_eq!(decision.shadow_mask, 1);
    let limits =
        |name: &str| bundle.route("r").unwrap().shadows().find(|shadow| shadow.name == name).unwrap().limits;
    assert_eq!(limits("plain"), ShadowLimits { rate: 10, concurrency: 2, bytes: 1 << 20, deadline_ms: 1000 });
    assert_eq!(limits("half"), ShadowLimits { rate: 5, concurrency: 1, bytes: 65_536, deadline_ms: 200 });
}

#[test]
fn a_route_says_which_share_is_recorded() {
    let serve = "default: { serve: a }";
    let records = |said: &str| one("", &format!("{said} {serve}")).route("r").unwrap().records();
    assert_eq!(records(""), None);
    assert_eq!(records("records: 0,"), Some(0));
    assert_eq!(records("records: 12.5,"), Some(12_500));
    assert_eq!(records("records: 100,"), Some(100_000));
}

#[test]
fn static_means_that_nothing_else_could_have_served() {
    let serve = "default: { serve: a }";
    let reason = |before: &str, more: &str| {
        decided(&one(before, &format!("{more} {serve}")), "r user=u").split_once(' ').unwrap().1.to_owned()
    };
    assert_eq!(reason("", ""), "STATIC default");
    assert_eq!(
        reason("", "access: { user: u }, shadows: [{ name: s, variant: b, sample: 0 }],"),
        "STATIC default"
    );
    assert_eq!(reason("", "overrides: [{ user: o, serve: a }],"), "DEFAULT default");
    assert_eq!(reason("", "requests: [{ name: q, users: [o], variants: [a] }],"), "DEFAULT default");
    assert_eq!(reason("", "test_groups: [{ name: g, users: [o], serve: a }],"), "DEFAULT default");
    assert_eq!(reason("", "symbol_rollouts: [{ name: s, symbols: [o], serve: a }],"), "DEFAULT default");
    assert_eq!(reason("", "rules: [{ name: x, if: { user: o }, serve: a }],"), "DEFAULT default");
    assert_eq!(reason("holdouts: { h: { share: 0 } }", ""), "DEFAULT default");
    let other = format!(
        "lockgate: 1\nholdouts: {{ h: {{ share: 50, routes: [q] }} }}\nroutes: {{ r: {r}, q: {r} }}",
        r = route(serve)
    );
    check_decision(&bundle(&other), "r user=u", "a STATIC default");
}

#[test]
fn moments_at_the_ends_of_time_are_decided_too() {
    let bundle = one(
        "freezes: [{ from: 2026-01-02T00:00:00Z }]",
        &format!(
            "rules: [{{ name: turns, if: {{ tenant: t }}, switchback: {{ variants: [a, b], start: 2026-01-01T00:00:00Z, window: 1s }} }}], default: {{ {RAMP} }}"
        ),
    );
    for now in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX] {
        for words in ["r user=x", "r symbol=S tenant=t"] {
            let context = case(words).context;
            let decision = bundle.decide(&context, now, &[]).unwrap();
            let trace = explain(&bundle, &context, now, &[]).unwrap();
            assert_eq!(trace.decision.variant, decision.variant().name);
            assert!(!trace.to_string().is_empty());
        }
    }
}

#[test]
fn a_trace_tells_every_step_and_decides_the_same() {
    let bundle = policy_bundle();
    let told = |words: &str| {
        let context = context(words);
        let trace = explain(&bundle, &context, 0, &[]).unwrap();
        let decision = bundle.decide(&context, 0, &[]).unwrap();
        assert_eq!(trace.decision, lockgate_policy::TraceDecision::new(&decision, &bundle));
        trace.to_string()
    };
    assert_snapshot!(told("direction user=bob symbol=EURCHF"), @r"
    route `direction`, bundle version 7
      override: none names the context
        no entry for user `bob`
        no entry for symbol `EURCHF`
      test group `empty`: does not match
        segment `nobody`: user `bob` is one of no values: no
        the context belongs to segment `nobody`: no
      test group `desk`: does not match
        user `bob` is `desk-1`: no
        segment `outer`: tenant (absent) is `acme`: no
        segment `inner`: user `bob` is `nested`: no
        segment `inner`: session (absent) is `s-1`: no
        segment `outer`: the context belongs to segment `inner`: no
        the context belongs to segment `outer`: no
      test group `pilots`: does not match
        tenant (absent) is `pilot`: no
      symbol rollout `majors`: does not match
        symbol `EURCHF` is `GBPUSD`: no
      rule `by-symbol`: bucket 22271 of layer `shared` for symbol `EURCHF` falls into 0–49999 of `canary`
        symbol `EURCHF` is one of `EURCHF`, `EURSEK`: yes
    serves `canary`, gb@1.1.0 on edge: SPLIT
    ");
    assert_snapshot!(told("direction user=alice symbol=GOLD"), @r"
    route `direction`, bundle version 7
      override: entry 1 gives `forest`
        user `alice` is named by entry 2
        symbol `GOLD` is named by entry 1
    serves `forest`, gb@1.1.0 on edge: TARGETING_MATCH
    ");
    assert_snapshot!(told("direction tenant=t"), @r"
    route `direction`, bundle version 7
      override: none names the context
        the context names no user
        the context names no symbol
      test group `empty`: does not match
        segment `nobody`: user (absent) is one of no values: no
        the context belongs to segment `nobody`: no
      test group `desk`: does not match
        user (absent) is `desk-1`: no
        segment `outer`: tenant `t` is `acme`: no
        segment `inner`: user (absent) is `nested`: no
        segment `inner`: session (absent) is `s-1`: no
        segment `outer`: the context belongs to segment `inner`: no
        the context belongs to segment `outer`: no
      test group `pilots`: does not match
        tenant `t` is `pilot`: no
      symbol rollout `majors`: does not match
        symbol (absent) is `GBPUSD`: no
      rule `by-symbol`: does not match
        symbol (absent) is one of `EURCHF`, `EURSEK`: no
      rule `pair`: does not match
        attribute `mode` (absent) is `pair`: no
      default: the unit is missing (no user), so the baseline serves
    serves `stable`, lr@1.0.0 on host: DEFAULT, unit missing
    ");
    assert_snapshot!(told("off"), @r"
    route `off`, bundle version 7
      disabled: the route is disabled; its baseline `b` serves
    serves `b`, rf@1.0.0 on gpu: DISABLED
    ");
    assert_snapshot!(told("plain"), @r"
    route `plain`, bundle version 7
      default: `only` serves everyone whom nothing before has matched
    serves `only`, rf@1.0.0 on gpu: STATIC
    ");
    assert!(explain(&bundle, &RequestContext::new("nowhere"), 0, &[]).is_err());
    let trace = explain(&bundle, &context("plain"), 0, &[]).unwrap();
    let digest = bundle.digest().to_string();
    assert_snapshot!(serde_json::to_string_pretty(&trace).unwrap().replace(&digest, "<digest>"), @r#"
    {
      "now_ms": 0,
      "steps": [
        {
          "step": "default",
          "matched": true,
          "text": "`only` serves everyone whom nothing before has matched"
        }
      ],
      "decision": {
        "route": "plain",
        "variant": "only",
        "model": "rf",
        "version": "1.0.0",
        "package": "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
        "placement": "gpu",
        "reason": "STATIC",
        "step": "default",
        "rule": null,
        "layer": null,
        "bucket": null,
        "unit_missing": false,
        "payload": null,
        "bundle_version": 7,
        "bundle": "<digest>"
      }
    }
    "#);
}

#[test]
fn a_trace_tells_stages_windows_fallbacks_and_shadows() {
    let source = "
lockgate: 1
freezes: [{ from: 2026-01-20T00:00:00Z }]
tiers: [{ name: free }, { name: premium, users: [pia] }]
layers: { pricing: { salt: pricing, holdout: 5 }, l: { salt: l } }
holdouts: { year: { share: 5, unit: session } }
routes:
  gate:
    variants: { on: { model: m@1.0.0 }, off: { model: m@1.0.0 } }
    baseline: on
    default: { serve: off }
  r:
    variants:
      a: { model: a@1.0.0 }
      b: { model: b@1.0.0 }
      c: { model: c@1.0.0, enabled: false }
    baseline: a
    requests: [{ name: desk, users: [dana], variants: [b] }]
    rules:
      - { name: gated, if: { route: gate, serves: on }, serve: b }
      - { name: old, until: 2025-01-01T00:00:00Z, if: { user: x }, serve: b }
      - name: tests
        if:
          all:
            - { user: { prefix: [p, x], matches: \"^x.*$\" } }
            - { attribute: v, semver: \"^1.2.0\" }
            - { time: { from: 2026-01-01T00:00:00Z, daily: { from: \"09:30\", until: \"16:00\" }, weekdays: [mon, fri], offset: \"+01:00\" } }
            - { bucket: { layer: l, from: 0, below: 100 } }
            - { tier: premium }
        serve: b
      - { name: exp, if: { session: s }, experiment: { layer: pricing, share: 10, split: { a: 50, b: 50 } } }
      - { name: turns, if: { symbol: EURUSD }, switchback: { variants: [a, c], start: 2026-01-01T00:00:00Z, window: 1d, washout: 1h } }
    default: { ramp: { to: b, start: 2026-01-01T00:00:00Z, approved_stage: 1, stages: [{ share: 10, hold: 1d }, { share: 100 }] } }
    shadows:
      - { name: copy, variant: b, if: { attribute: v, present: true }, sample: 50 }
      - { name: late, variant: b, from: 2027-01-01T00:00:00Z }
      - { name: broken, variant: c }
tenants: { t: { users: { x: { routes: { r: { variants: { a: { model: a@1.0.0 } }, access: { session: never }, default: { serve: a } } } } } } }
";
    let bundle = bundle(source);
    let told = |words: &str| {
        let case = case(words);
        explain(&bundle, &case.context, case.now, &case.unavailable).unwrap().to_string()
    };
    assert_snapshot!(told("r user=x tenant=t v=\"1.3.0\" session=s @2026-01-02T09:00:00Z asks=b"), @r"
    route `r`, bundle version 1
      scope: the definition of user `x` of tenant `t` is passed over: it does not admit the context
        session `s` is `never`: no
      scope: the platform's definition is the route
      override `desk`: variant `b` is not for this context
        user `x` is `dana`: no
      holdout `year`: bucket 34172 of layer `year` for session `s` lies in 5000–99999, which is not held out
      holdout `pricing`: bucket 45648 of layer `pricing` for user `x` lies in 5000–99999, which is not held out
      rule `gated`: does not match
        route `gate`, which serves `off`, serves `on`: no
      rule `old`: it was over at 2025-01-01T00:00:00Z
      rule `tests`: does not match
        user `x` begins with one of `p`, `x`: yes
        user `x` matches `^x.*$`: yes
        attribute `v` (`1.3.0`) is a version >=1.2.0 <2.0.0-0: yes
        the time, 2026-01-02T09:00:00Z, is at or after 2026-01-01T00:00:00Z: yes
        the time of day, 10:00 (UTC+01:00), is from 09:30 to 16:00: yes
        the day, Friday (UTC+01:00), is one of Monday, Friday: yes
        bucket 96945 of layer `l` for user `x` lies in 0–99999, 0 % to 100 %: yes
        tier `premium`: user `x` is `pia`: no
        the context belongs to tier `premium`: no
      rule `exp`: bucket 45648 of layer `pricing` for user `x` is not the experiment's
        session `s` is `s`: yes
      rule `turns`: does not match
        symbol (absent) is `EURUSD`: no
      default: stage 1 of 2 is in force (stage 2 waits for approval); bucket 86001 of layer `r` for user `x` falls into 10000–99999 of `a`
      shadow `copy`: bucket 97285 for user `x` is not in the sample of 50 %
        attribute `v` (`1.3.0`) is present: yes
      shadow `late`: it begins at 2027-01-01T00:00:00Z
      shadow `broken`: `c` is unavailable
    serves `a`, a@1.0.0 on edge: SPLIT
    ");
    assert_snapshot!(told("r user=dana asks=b -b@1.0.0"), @r"
    route `r`, bundle version 1
      override `desk`: permits variant `b`, for which the context asks
        user `dana` is `dana`: yes
      fallback: `b` runs a package that is unavailable; its fallback `a` serves
      shadow `copy`: `b` is unavailable
      shadow `late`: `b` is unavailable
      shadow `broken`: `c` is unavailable
    serves `a`, a@1.0.0 on edge: TARGETING_MATCH, instead of `b`
    ");
    assert_snapshot!(told("r symbol=EURUSD @2026-01-03T12:00:00Z"), @r"
    route `r`, bundle version 1
      holdout `year`: the unit is missing (no session), so nothing is held out
      holdout `pricing`: the unit is missing (no user), so nothing is held out
      rule `gated`: does not match
        route `gate`, which serves `off`, serves `on`: no
      rule `old`: it was over at 2025-01-01T00:00:00Z
      rule `tests`: does not match
        user (absent) begins with one of `p`, `x`: no
      rule `exp`: does not match
        session (absent) is `s`: no
      rule `turns`: window 2, from 2026-01-03T00:00:00Z to 2026-01-04T00:00:00Z, belongs to `a` for symbol `EURUSD`
        symbol `EURUSD` is `EURUSD`: yes
      shadow `copy`: does not match
        attribute `v` (absent) is present: no
      shadow `late`: it begins at 2027-01-01T00:00:00Z
      shadow `broken`: `c` is unavailable
    serves `a`, a@1.0.0 on edge: SPLIT
    ");
    assert_snapshot!(told("r symbol=EURUSD @2026-01-01T00:30:00Z"), @r"
    route `r`, bundle version 1
      holdout `year`: the unit is missing (no session), so nothing is held out
      holdout `pricing`: the unit is missing (no user), so nothing is held out
      rule `gated`: does not match
        route `gate`, which serves `off`, serves `on`: no
      rule `old`: it was over at 2025-01-01T00:00:00Z
      rule `tests`: does not match
        user (absent) begins with one of `p`, `x`: no
      rule `exp`: does not match
        session (absent) is `s`: no
      rule `turns`: window 0, from 2026-01-01T00:00:00Z to 2026-01-02T00:00:00Z, is in its washout until 2026-01-01T01:00:00Z, so the baseline serves
        symbol `EURUSD` is `EURUSD`: yes
      shadow `copy`: does not match
        attribute `v` (absent) is present: no
      shadow `late`: it begins at 2027-01-01T00:00:00Z
      shadow `broken`: `c` is unavailable
    serves `a`, a@1.0.0 on edge: SPLIT, washout
    ");
    assert_snapshot!(told("r user=u @2026-02-01"), @r"
    route `r`, bundle version 1
      holdout `year`: the unit is missing (no session), so nothing is held out
      holdout `pricing`: bucket 75553 of layer `pricing` for user `u` lies in 5000–99999, which is not held out
      rule `gated`: does not match
        route `gate`, which serves `off`, serves `on`: no
      rule `old`: it was over at 2025-01-01T00:00:00Z
      rule `tests`: does not match
        user `u` begins with one of `p`, `x`: no
      rule `exp`: does not match
        session (absent) is `s`: no
      rule `turns`: does not match
        symbol (absent) is `EURUSD`: no
      default: stage 1 of 2 is in force (stage 2 waits for approval); bucket 19951 of layer `r` for user `u` falls into 10000–99999 of `a`
      shadow `copy`: does not match
        attribute `v` (absent) is present: no
      shadow `late`: it begins at 2027-01-01T00:00:00Z
      shadow `broken`: `c` is unavailable
    serves `a`, a@1.0.0 on edge: SPLIT
    ");
}

#[test]
fn the_members_of_a_large_group_are_told_apart() {
    let users: Vec<String> = (0..100_000).map(|n| format!("user-{n}")).collect();
    let source = format!(
        "{{\"lockgate\": 1, \"routes\": {{\"r\": {{\"variants\": {{\"a\": {{\"model\": \"m@1.0.0\"}}, \"b\": {{\"model\": \"m@1.0.0\"}}}},
        \"test_groups\": [{{\"name\": \"big\", \"serve\": \"b\", \"users\": {users:?}}}], \"default\": {{\"serve\": \"a\"}}}}}}}}"
    );
    let bundle = bundle(&source);
    for user in users.iter().step_by(997) {
        check_decision(&bundle, &format!("r user={user}"), "b TARGETING_MATCH test_group rule=big");
        check_decision(&bundle, &format!("r user={user}x"), "a DEFAULT default");
    }
}

#[test]
fn a_hundred_thousand_routes_load_and_decide() {
    let mut source = String::from("{\"lockgate\": 1, \"routes\": {");
    for n in 0..100_000 {
        let comma = if n == 0 { "" } else { "," };
        source.push_str(&format!(
            "{comma}\"route-{n}\": {{\"variants\": {{\"a\": {{\"model\": \"m@1.0.0\"}}, \"b\": {{\"model\": \"m@1.0.0\"}}}}, \"baseline\": \"a\", \"default\": {{\"split\": {{\"a\": 50, \"b\": 50}}}}}}"
        ));
    }
    source.push_str("}}");
    let policy = crate::checked("routes.json", &source).unwrap();
    let packages = crate::packages(&policy);
    let options = CompileOptions { packages: &packages, ..Default::default() };
    let bundle = crate::load(&lockgate_policy::compile(&policy, &options).unwrap().bundle);
    assert_eq!(bundle.route_count(), 100_000);
    for n in (0..100_000).step_by(1013) {
        let route = format!("route-{n}");
        let bucket = bucket(&route, ["bob"]);
        let owner = if bucket < 50_000 { "b" } else { "a" };
        let expected = format!("{owner} SPLIT default layer={route} bucket={bucket}");
        check_decision(&bundle, &format!("{route} user=bob"), &expected);
    }
    check_decision(&bundle, "route-100000 user=bob", "the bundle has no such route");
}
