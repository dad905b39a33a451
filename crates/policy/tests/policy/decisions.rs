use insta::assert_snapshot;
use lockgate_package::Digest;
use lockgate_policy::{Placement, Reason, RequestContext, Step, bucket, explain};

use crate::{bundle, check_decision, context};

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
    crate::load(&lockgate_policy::compile(&policy, &options).unwrap_or_else(|problems| panic!("{problems}")))
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
    assert_eq!((decision.route, decision.route_index), ("direction", 0));
    assert_eq!((decision.variant, decision.variant_index), ("stable", 0));
    assert_eq!((decision.model, decision.version), ("lr", "1.0.0"));
    assert_eq!(decision.package, Digest::of(b"lr@1.0.0"));
    assert_eq!(decision.placement, Placement::Host);
    assert_eq!(decision.payload, Some(r#"{"threshold":0.50,"note":"x\ty"}"#));
    assert_eq!((decision.reason.number(), decision.step.number()), (2, 8));
    let plain = bundle.decide(&context("plain"), 0, &[]).unwrap();
    assert_eq!((plain.route_index, plain.payload, plain.placement), (2, None, Placement::Gpu));
    let pinned = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    assert_eq!(plain.package.to_string(), pinned);
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
        segment `nobody`: user `bob` is one of 0 values: no
        the context belongs to segment `nobody`: no
      test group `desk`: does not match
        user `bob` is `desk-1`: no
        segment `outer`: user `bob` is `nested`: no
        segment `outer`: tenant (absent) is `acme`: no
        segment `outer`: session (absent) is `s-1`: no
        the context belongs to segment `outer`: no
      test group `pilots`: does not match
        tenant (absent) is `pilot`: no
      symbol rollout `majors`: does not match
        symbol `EURCHF` is `GBPUSD`: no
      rule `by-symbol`: bucket 22271 of layer `shared` for symbol `EURCHF` falls into 0–49999 of `canary`
        symbol `EURCHF` is one of 2 values: yes
    serves `canary`, gb@1.1.0 on edge: SPLIT
    ");
    assert_snapshot!(told("direction user=alice symbol=GOLD"), @r"
    route `direction`, bundle version 7
      override: entry 1 serves
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
        segment `nobody`: user (absent) is one of 0 values: no
        the context belongs to segment `nobody`: no
      test group `desk`: does not match
        user (absent) is `desk-1`: no
        segment `outer`: user (absent) is `nested`: no
        segment `outer`: tenant `t` is `acme`: no
        segment `outer`: session (absent) is `s-1`: no
        the context belongs to segment `outer`: no
      test group `pilots`: does not match
        tenant `t` is `pilot`: no
      symbol rollout `majors`: does not match
        symbol (absent) is `GBPUSD`: no
      rule `by-symbol`: does not match
        symbol (absent) is one of 2 values: no
      rule `pair`: does not match
        attribute `mode` (absent) is `pair`: no
      default: the unit of the split is missing (no user), so the baseline serves
    serves `stable`, lr@1.0.0 on host: DEFAULT
    ");
    assert_snapshot!(told("off"), @r"
    route `off`, bundle version 7
      disabled: the route is disabled; its baseline `b` serves
    serves `b`, rf@1.0.0 on gpu: DISABLED
    ");
    assert_snapshot!(told("plain"), @r"
    route `plain`, bundle version 7
      override: the route has none
      default: serves everyone whom nothing before has matched
    serves `only`, rf@1.0.0 on gpu: STATIC
    ");
    assert!(explain(&bundle, &RequestContext::new("nowhere"), 0, &[]).is_err());
    let trace = explain(&bundle, &context("plain"), 0, &[]).unwrap();
    let digest = bundle.digest().to_string();
    assert_snapshot!(serde_json::to_string_pretty(&trace).unwrap().replace(&digest, "<digest>"), @r#"
    {
      "steps": [
        {
          "step": "override",
          "matched": false,
          "text": "the route has none"
        },
        {
          "step": "default",
          "matched": true,
          "text": "serves everyone whom nothing before has matched"
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
    let options = lockgate_policy::CompileOptions { packages: &packages, ..Default::default() };
    let bundle = crate::load(&lockgate_policy::compile(&policy, &options).unwrap());
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
