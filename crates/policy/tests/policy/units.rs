//! Units: what contexts lack of them, what tables and numbers can say of them, and what tools tell people about that.

use std::collections::BTreeMap;

use lockgate_policy::{
    Attribute, AttributeUse, CompileOptions, RequestContext, attribute_uses, check, explain, lint, parse,
    parse_cases, simulate, stand_ins, write_source,
};

use crate::{bundle, bundle_with, checked, context, policy};

/// A policy whose steps need every kind of unit.
const NEEDY: &str = "
lockgate: 1
layers: { x: { unit: session }, y: {} }
holdouts: { h: { share: 5, unit: tenant } }
routes:
  r:
    variants: { a: { model: m@1.0.0 }, b: { model: m@2.0.0 } }
    baseline: a
    rules:
      - { name: trial, experiment: { layer: x, share: 20, split: { a: 50, b: 50 } } }
      - { name: turns, switchback: { variants: [a, b], start: 1970-01-01T00:00:00Z, window: 1h } }
      - { name: slice, if: { bucket: { layer: y, unit: { attribute: plan }, below: 50 } }, serve: b }
    default: { unit: [user, { attribute: account }], split: { a: 50, b: 50 } }
";

#[track_caller]
fn check_notes(contexts: &[RequestContext], expected: &[&str]) {
    let simulation = simulate(&bundle(NEEDY), "r", contexts, &[0], &[]);
    let shown = simulation.to_string();
    let notes: Vec<&str> = shown.lines().filter_map(|line| line.strip_prefix("note: ")).collect();
    assert_eq!(notes, expected);
}

#[test]
fn a_simulation_says_which_units_are_missing() {
    let whole = "r user=u symbol=s tenant=t session=z plan=\"p\" account=\"x\"";
    check_notes(&[context(whole)], &[]);
    check_notes(
        &[context(whole), context("r user=u account=123"), context("r account=124"), context("r plan=true")],
        &[
            "3 of 4 units have no tenant, so holdout `h` does not hold them out",
            "3 of 4 units have no session, so rule `trial` passes them over",
            "3 of 4 units have no symbol, so rule `turns` passes them over",
            "2 of 4 units have no attribute `plan`, so no `bucket` condition of rule `slice` holds for them",
            "1 of 4 units has no text but a boolean as attribute `plan`, so no `bucket` condition of rule `slice` holds for them",
            "1 of 4 units has no text but a number as attribute `account`, so the default serves them the baseline",
            "1 of 4 units has no user and no attribute `account`, so the default serves them the baseline",
            "1 of 4 units has no user and no text but a number as attribute `account`, so the default serves them the baseline",
        ],
    );
}

#[test]
fn what_is_missing_is_for_programs_too() {
    let simulation = simulate(&bundle(NEEDY), "r", &[context("r user=u account=5 tenant=t")], &[0, 1], &[]);
    let missing = serde_json::to_value(simulation.missing()).unwrap();
    assert_eq!(
        missing[3],
        serde_json::json!({
            "route": "r",
            "step": "default",
            "parts": [{ "name": "account", "attribute": true, "found": "number" }],
            "effect": "baseline",
            "units": 1,
        }),
        "{missing}"
    );
    // Over time, each kind is told once, and behind the table.
    let shown = simulation.to_string();
    assert_eq!(shown.matches("note: ").count(), 4, "{shown}");
    assert!(shown.contains("actual (expected) shares\n\nnote: 1 of 1 units has no session"), "{shown}");
}

#[test]
fn expected_shares_are_not_the_sum_of_rounded_ones() {
    let source = "
lockgate: 1
routes:
  r:
    variants: { a: { model: m@1.0.0 }, b: { model: m@2.0.0 }, c: { model: m@3.0.0 } }
    baseline: a
    rules: [ { name: odd, if: { symbol: { eq: s } }, split: { a: 33.333, b: 33.333, c: 33.334 } } ]
    default: { split: { a: 70.846, b: 29.154 } }
";
    let mut contexts = vec![context("r user=u"); 20_000];
    contexts.extend(vec![context("r user=u symbol=s"); 7]);
    let simulation = simulate(&bundle(source), "r", &contexts, &[0], &[]);
    let json = serde_json::to_string(&simulation.points[0].expected).unwrap();
    assert_eq!(json, "[14171.53331,5833.13331,2.33338]");
}

#[track_caller]
fn check_case(expect: &str, expected: &str) {
    let cases = format!("context: {{ route: r, user: u }}\ncases:\n  - {{ name: n, {expect} }}\n");
    let cases = parse_cases("c.yaml", &cases).unwrap_or_else(|problems| panic!("{problems}"));
    let [result] = &cases.run(&bundle(NEEDY))[..] else { panic!() };
    assert_eq!(result.to_string(), expected, "{expect}");
}

#[test]
fn a_variant_that_the_policy_does_not_have_fails_a_case_and_missing_units_are_noted() {
    let failure = |what: &str, name: &str| {
        format!(
            "FAILED `n` (line 3)\n    {what} (line 3)\n      expected: a variant `{name}`\n      found:    route `r` has `a`, `b`"
        )
    };
    check_case("population: { users: 10, expect: { a: 0..100, zz: 0 } }", &failure("share of `zz`", "zz"));
    check_case("expect: { variant: [a, b, zz] }", &failure("variant", "zz"));
    check_case("expect: { variant: [a, b], intended: [~, zz] }", &failure("intended", "zz"));
    check_case(
        "population: { users: 10, expect: { a: 0..100, unknown_route: 0 } }",
        "ok     `n` (line 3)\n  note: 10 of 10 units have no tenant, so holdout `h` does not hold them out\n  note: 10 of 10 units have no session, so rule `trial` passes them over\n  note: 10 of 10 units have no symbol, so rule `turns` passes them over\n  note: 10 of 10 units have no attribute `plan`, so no `bucket` condition of rule `slice` holds for them\n  note: 10 of 10 units have no attribute `account`, so the default serves them the baseline",
    );
    check_case(
        "context: { route: x }, population: { users: 10, expect: { a: 0 } }",
        "FAILED `n` (line 3)\n    share of `a` (line 3)\n      expected: a variant `a`\n      found:    the policy has no route `x`",
    );
}

#[test]
fn cases_that_say_nothing_are_refused() {
    let check = |text: &str, expected: &str| {
        let problems = parse_cases("c.yaml", text).unwrap_err().to_string();
        assert!(problems.contains(expected), "{text}: {problems}");
    };
    check("cases: []\n", "c.yaml:1:8: there are no cases");
    let case = |rest: &str| format!("cases:\n  - {{ name: n, context: {{ route: r, {rest} }}\n");
    check(&case("user: u }, expect: { flags: [holdut] }"), "there is no flag `holdut`");
    check(
        &case("attributes: { id: 9007199254740993 } }, expect: { variant: a }"),
        "the number `9007199254740993` cannot be kept exactly: numbers are doubles, and the nearest is 9007199254740992\n  hint: an identifier is a text: \"9007199254740993\"",
    );
}

#[test]
fn an_attribute_that_is_no_text_is_no_missing_one() {
    let bundle = bundle(NEEDY);
    let text = |words: &str| explain(&bundle, &context(words), 0, &[]).unwrap().to_string();
    let check = |words: &str, expected: &str| {
        assert!(text(words).contains(expected), "{words}: {}", text(words));
    };
    check(
        "r user=u account=123",
        "default: the unit is missing (user `u`, attribute `account` is the number 123; only texts count), so the baseline",
    );
    check("r account=true", "(no user, attribute `account` is the boolean true; only texts count)");
    check("r user=u", "(user `u`, no attribute `account`)");
    check("r user=u account=\"x\"", "for user `u`, attribute `account` `x` falls into");
}

#[test]
fn a_bundle_knows_how_it_uses_attributes() {
    let source = "
lockgate: 1
segments: { s: { if: { attribute: plan, prefix: gold } } }
routes:
  r:
    variants: { a: { model: m@1.0.0 }, b: { model: m@2.0.0 } }
    baseline: a
    rules:
      - { name: r1, if: { attribute: age, gte: 18 }, serve: b }
      - { name: r2, if: { not: { attribute: vip, eq: true } }, serve: b }
      - { name: r3, if: { attribute: since, until: 2026-01-01T00:00:00Z }, serve: b }
      - { name: r4, if: { attribute: mixed, in: [5, five] }, serve: b }
      - { name: r5, if: { attribute: there, present: true }, serve: b }
      - { name: r6, if: { segment: s }, serve: b }
    default: { unit: { attribute: account }, split: { a: 50, b: 50 } }
";
    let uses = attribute_uses(&bundle(source));
    let used = |unit, text, number, boolean, moment| {
        let mut used = AttributeUse::default();
        (used.unit, used.text, used.number, used.boolean, used.moment) =
            (unit, text, number, boolean, moment);
        used
    };
    let expected = BTreeMap::from([
        ("account", used(true, false, false, false, false)),
        ("age", used(false, false, true, false, false)),
        ("mixed", used(false, true, true, false, false)),
        ("plan", used(false, true, false, false, false)),
        ("since", used(false, false, false, false, true)),
        ("there", used(false, false, false, false, false)),
        ("vip", used(false, false, false, true, false)),
    ]);
    let uses: BTreeMap<&str, AttributeUse> = uses.iter().map(|(name, used)| (name.as_str(), *used)).collect();
    assert_eq!(uses, expected);
    assert!(uses["mixed"].is_mixed() && !uses["age"].is_mixed() && !uses["account"].is_mixed());
    assert!(uses["account"].or(uses["age"]).is_mixed());
    assert_eq!(uses["account"].read("0123"), Ok(Attribute::Text("0123".to_owned())));
}

const NUMBERS: &str = "
lockgate: 1
routes:
  r:
    variants: { a: { model: m@1.0.0, payload: { deep: [PAYLOAD] } }, b: { model: m@2.0.0 } }
    baseline: a
    rules: [ { name: n, if: { attribute: id, TEST }, serve: b } ]
    default: { serve: a }
";

#[test]
fn numbers_that_cannot_be_kept_are_refused() {
    let source = |payload: &str, test: &str| NUMBERS.replace("PAYLOAD", payload).replace("TEST", test);
    for fine in ["9007199254740992", "-9007199254740992", "1e30", "0.1", "9007199254740994"] {
        policy(&source(fine, &format!("eq: {fine}")));
    }
    // What readers would make a float of stays a whole number.
    let written = write_source(&policy(&source("-0", "eq: 1")));
    assert!(written.contains(r#""payload":{"deep":[0]}"#), "{written}");
    let check = |payload: &str, test: &str, expected: &str| {
        let problems = checked("p.yaml", &source(payload, test)).unwrap_err().to_string();
        assert_eq!(problems, expected, "{payload} {test}");
    };
    check(
        "123456789012345678901234567890",
        "eq: 1",
        "p.yaml:5:56: routes.r.variants.a.payload: the number `123456789012345678901234567890` cannot be kept exactly: numbers are doubles, and the nearest is 123456789012345677877719597056
  hint: quote it, so that it is a text: \"123456789012345678901234567890\"",
    );
    for test in ["eq: 9007199254740993", "ne: 9007199254740993", "gte: 9007199254740993"] {
        let problems = checked("p.yaml", &source("1", test)).unwrap_err().to_string();
        assert!(
            problems.contains("the number `9007199254740993` cannot be kept exactly: numbers are doubles, and the nearest is 9007199254740992\n  hint: an identifier is a text: \"9007199254740993\""),
            "{problems}"
        );
    }
    assert!(checked("p.yaml", &source("1", "in: [1, 0x20000000000001]")).is_err());
}

#[test]
fn made_up_digests_are_known() {
    let policy = policy(NEEDY);
    let options = CompileOptions { stand_ins: true, ..CompileOptions::default() };
    let made_up = crate::load_compiled(&lockgate_policy::compile(&policy, &options).unwrap());
    assert_eq!(stand_ins(&made_up), ["m@1.0.0", "m@2.0.0"]);
    assert_eq!(stand_ins(&bundle_with(NEEDY, CompileOptions::default())), [""; 0]);
}

#[test]
fn lists_are_renamed_wherever_they_are_named() {
    let source = "
lockgate: 1
tiers: [ { name: free }, { name: gold, users: { file: ../gold.txt } } ]
segments: { s: { users: { file: ../a.txt }, exclude: { symbols: { file: b.txt } } } }
routes:
  r:
    variants: { a: { model: m@1.0.0 }, b: { model: m@2.0.0 } }
    baseline: a
    requests: [ { name: q, users: { file: ../a.txt }, variants: [b] } ]
    test_groups: [ { name: g, sessions: { file: ../c.txt }, serve: b } ]
    symbol_rollouts: [ { name: k, symbols: { file: ../d.txt }, serve: b } ]
    default: { serve: a }
";
    let mut policy = policy(source);
    policy.rename_list_files(|name| name.strip_prefix("../").map(str::to_owned));
    let again = parse("p.json", &write_source(&policy)).and_then(|source| check(&source)).unwrap();
    assert_eq!(
        again.list_files().into_iter().collect::<Vec<_>>(),
        ["a.txt", "b.txt", "c.txt", "d.txt", "gold.txt"]
    );
    assert_eq!(policy.list_files(), again.list_files());
    // Warnings still find their places.
    lint(&policy);
}
