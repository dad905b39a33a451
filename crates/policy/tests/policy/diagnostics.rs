//! The texts that people read when a policy is wrong.

use insta::assert_snapshot;
use lockgate_policy::{Diagnostics, read};

use crate::checked;

/// The example that the cases break, one part at a time.
const GOOD: &str = "\
lockgate: 1
models:
  lr@1.0.0:
  gb@1.1.0:
segments:
  desk: { users: [dana] }
layers:
  shared: { salt: x }
routes:
  direction:
    variants:
      stable: { model: lr@1.0.0 }
      canary: { model: gb@1.1.0 }
    baseline: stable
    rules:
      - name: desk
        if: { segment: desk }
        serve: canary
    default:
      split: { stable: 90, canary: 10 }
";

fn problems(source: &str) -> Diagnostics {
    checked("policy.yaml", source).unwrap_err()
}

/// What is said when `old` in the good policy becomes `new`.
#[track_caller]
fn broken(old: &str, new: &str) -> String {
    assert_eq!(GOOD.matches(old).count(), 1, "{old}");
    problems(&GOOD.replace(old, new)).to_string()
}

#[test]
fn the_good_policy_is_good() {
    checked("policy.yaml", GOOD).unwrap();
}

#[test]
fn documents() {
    assert_snapshot!(problems("routes: [unclosed"), @"policy.yaml:2:1: this is not YAML: while parsing a flow sequence, expected ',' or ']'");
    assert_snapshot!(problems("routes:\n\t- tab"), @"policy.yaml:2:2: this is not YAML: tabs disallowed within this context (block indentation)");
    assert_snapshot!(problems("# nothing\n"), @"policy.yaml:1:1: the document is empty");
    assert_snapshot!(problems("just words"), @r"
    policy.yaml:1:1: found the text `just words`
      expected: a mapping
    ");
    assert_snapshot!(problems("lockgate: 1\n---\nlockgate: 1\n"), @"policy.yaml:2:1: a second document begins here; a file holds one");
    assert_snapshot!(problems("lockgate: *missing"), @"policy.yaml:1:11: this is not YAML: while parsing node, found unknown anchor");
    assert_snapshot!(problems(&format!("lockgate: {}{}", "[".repeat(200), "]".repeat(200))), @"policy.yaml:1:74: the values are nested more than 64 levels deep");
    assert_snapshot!(problems("lockgate: !!int 1\nroutes: { 5: {} }"), @r"
    policy.yaml:1:11: lockgate: the tag `!!int` has no meaning here
      hint: remove it; quote the value to make it text
    policy.yaml:2:11: routes: found the number `5` as a key
      expected: text
      hint: quote the key
    ");
    let bomb: String =
        (1..12).map(|n| format!("a{n}: &a{n} [{}]\n", format!("*a{},", n - 1).repeat(10))).collect();
    assert_snapshot!(problems(&format!("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n{bomb}")), @"policy.yaml:6:38: aliases copy more than 1000000 values");
}

#[test]
fn json_documents() {
    let problems = |text: &str| checked("policy.json", text).unwrap_err();
    assert_snapshot!(problems("{\"lockgate\": 1,\n  \"routes\": {},}"), @"policy.json:2:15: this is not JSON: trailing commas are not allowed");
    assert_snapshot!(problems("{\"lockgate\": 1\n  \"routes\": {}}"), @"policy.json:1:15: this is not JSON: expected comma");
    assert_snapshot!(problems("{\"lockgate\": 1 // no\n}"), @"policy.json:1:16: this is not JSON: comments are not allowed");
    assert_snapshot!(problems("{'lockgate': 1}"), @"policy.json:1:2: this is not JSON: single-quoted strings are not allowed");
    assert_snapshot!(problems(""), @"policy.json:1:1: the document is empty");
    assert_snapshot!(problems("{\"lockgate\": 1,\n\"routes\": {}, \"ü\": 1, \"routes\": {\"x\": 5}}"), @r"
    policy.json:2:15: unknown key `ü`
      expected: one of `lockgate`, `version`, `models`, `segments`, `layers`, `routes`
    policy.json:2:23: the key `routes` occurs twice in one mapping
      expected: each key once
      hint: it is first at line 2, column 1
    ");
    assert_snapshot!(problems(&"[".repeat(300)), @"policy.json:1:300: this is not JSON: unterminated array");
    assert_snapshot!(problems(&format!("{}{}", "[".repeat(300), "]".repeat(300))), @"policy.json:1:65: the values are nested more than 64 levels deep");
}

#[test]
fn the_language_version() {
    assert_snapshot!(broken("lockgate: 1", "lockgate: 2"), @r"
    policy.yaml:1:11: lockgate: version 2 of the policy language is not supported
      expected: `lockgate: 1`
      hint: use a newer Lockgate
    ");
    assert_snapshot!(broken("lockgate: 1\n", ""), @r"
    policy.yaml:1:1: the key `lockgate` is missing, which says the version of the policy language
      expected: `lockgate: 1`
    ");
    assert_snapshot!(broken("lockgate: 1", "lockgate: \"1\""), @r"
    policy.yaml:1:11: lockgate: found the text `1`
      expected: the number 1
      hint: without quotes: 1
    ");
    assert_snapshot!(broken("lockgate: 1", "lockgate: 1\nversion: 0"), @r"
    policy.yaml:2:10: version: `0` is no version
      expected: a whole number from 1 on
    ");
    assert_snapshot!(broken("lockgate: 1", "lockgate: 1\nversion: three"), @r"
    policy.yaml:2:10: version: found the text `three`
      expected: a whole number from 1 on
    ");
}

#[test]
fn misspelt_keys() {
    assert_snapshot!(broken("    variants:", "    varaints:"), @r"
    policy.yaml:11:5: routes.direction: the key `variants` is missing
      expected: a mapping from the name of each variant to its model
    policy.yaml:11:5: routes.direction: unknown key `varaints`
      expected: one of `description`, `signature`, `enabled`, `unit`, `layer`, `salt`, `variants`, `baseline`, `overrides`, `test_groups`, `symbol_rollouts`, `rules`, `default`
      hint: did you mean `variants`?
    ");
    assert_snapshot!(broken("segments:\n", "segmets:\n"), @r"
    policy.yaml:5:1: unknown key `segmets`
      expected: one of `lockgate`, `version`, `models`, `segments`, `layers`, `routes`
      hint: did you mean `segments`?
    policy.yaml:17:24: routes.direction.rules[0].if.segment: unknown segment `desk`
      expected: a segment of the section `segments`, which is missing or empty
    ");
    assert_snapshot!(broken("if: { segment: desk }", "if: { segmnet: desk }"), @r"
    policy.yaml:17:15: routes.direction.rules[0].if: unknown key `segmnet`
      expected: one of `all`, `any`, `not`, `segment`, `user`, `symbol`, `tenant`, `session`, `attribute`
      hint: did you mean `segment`?
    ");
    assert_snapshot!(broken("if: { segment: desk }", "if: { country: DE }"), @r"
    policy.yaml:17:15: routes.direction.rules[0].if: unknown key `country`
      expected: one of `all`, `any`, `not`, `segment`, `user`, `symbol`, `tenant`, `session`, `attribute`
      hint: for an attribute, write `attribute: country`
    ");
    assert_snapshot!(broken("if: { segment: desk }", "if: { in: [DE] }"), @r"
    policy.yaml:17:15: routes.direction.rules[0].if: unknown key `in`
      expected: one of `all`, `any`, `not`, `segment`, `user`, `symbol`, `tenant`, `session`, `attribute`
      hint: say what is tested: `attribute: <name>` beside `in`
    ");
    assert_snapshot!(broken("if: { segment: desk }", "if: { attribute: country, on: [DE] }"), @r"
    policy.yaml:17:26: routes.direction.rules[0].if.attribute: nothing is tested
      expected: at least one of `eq`, `ne`, `in`, `not_in`, `lt`, `lte`, `gt`, `gte`, `present`
    policy.yaml:17:35: routes.direction.rules[0].if: unknown key `on`
      expected: one of `all`, `any`, `not`, `segment`, `user`, `symbol`, `tenant`, `session`, `attribute`, `eq`, `ne`, `in`, `not_in`, `lt`, `lte`, `gt`, `gte`, `present`
    ");
    assert_snapshot!(broken("model: gb@1.1.0", "model: gb@1.1.0, paylod: 1"), @r"
    policy.yaml:13:34: routes.direction.variants.canary: unknown key `paylod`
      expected: one of `model`, `payload`
      hint: did you mean `payload`?
    ");
}

#[test]
fn shares() {
    assert_snapshot!(broken("canary: 10 }", "canary: 20 }"), @r"
    policy.yaml:20:14: routes.direction.default.split: the shares add up to 110 %
      expected: 100 %
      hint: take away 10 %
    ");
    assert_snapshot!(broken("canary: 10 }", "canary: 9.875 }"), @r"
    policy.yaml:20:14: routes.direction.default.split: the shares add up to 99.875 %
      expected: 100 %
      hint: 0.125 % is missing; give it to a variant
    ");
    assert_snapshot!(broken("split: { stable: 90, canary: 10 }", "split: {}"), @r"
    policy.yaml:20:14: routes.direction.default.split: the split is empty
      expected: a mapping from variants to percentages, such as `{ stable: 90, canary: 10 }`
    ");
    assert_snapshot!(broken("canary: 10 }", "canary: 10.0005 }"), @r"
    policy.yaml:20:36: routes.direction.default.split.canary: `10.0005` has more than three decimals
      expected: a percentage from 0 to 100 with at most three decimals, such as `12.5`
    ");
    assert_snapshot!(broken("canary: 10 }", "canary: -10 }"), @r"
    policy.yaml:20:36: routes.direction.default.split.canary: `-10` is negative
      expected: a percentage from 0 to 100 with at most three decimals, such as `12.5`
    ");
    assert_snapshot!(broken("canary: 10 }", "canary: 1e1 }"), @r"
    policy.yaml:20:36: routes.direction.default.split.canary: `1e1` is no plain decimal number
      expected: a percentage from 0 to 100 with at most three decimals, such as `12.5`
    ");
    assert_snapshot!(broken("canary: 10 }", "canary: 10% }"), @r"
    policy.yaml:20:36: routes.direction.default.split.canary: found the text `10%`
      expected: a percentage from 0 to 100 with at most three decimals, such as `12.5`
      hint: without the percent sign: 10
    ");
    assert_snapshot!(broken("canary: 10 }", "canary: 1000000000000 }"), @r"
    policy.yaml:20:36: routes.direction.default.split.canary: `1000000000000` is more than 100
      expected: a percentage from 0 to 100 with at most three decimals, such as `12.5`
    ");
    assert_snapshot!(broken("canary: 10 }", "canary: }"), @r"
    policy.yaml:20:34: routes.direction.default.split.canary: found nothing
      expected: a percentage from 0 to 100 with at most three decimals, such as `12.5`
    ");
    assert_snapshot!(broken("split: { stable: 90, canary: 10 }", "split: 90"), @r"
    policy.yaml:20:14: routes.direction.default.split: found the number `90`
      expected: a mapping
    ");
    assert_snapshot!(broken("split: { stable: 90, canary: 10 }", "split: { stable: 90, canary: 10 }\n      serve: stable"), @r"
    policy.yaml:20:7: routes.direction.default: `serve` and `split` exclude each other
      expected: `serve: <variant>` or `split: { <variant>: <percent>, … }`
    ");
    assert_snapshot!(broken("      split: { stable: 90, canary: 10 }", "      unit: user"), @r"
    policy.yaml:20:7: routes.direction.default: it says nothing about what it serves
      expected: `serve: <variant>` or `split: { <variant>: <percent>, … }`
    ");
    assert_snapshot!(broken("serve: canary", "serve: canary\n        unit: user"), @r"
    policy.yaml:19:15: routes.direction.rules[0].unit: `unit` has no meaning beside `serve`
      hint: remove `unit`, or write a `split`
    ");
}

#[test]
fn unknown_names() {
    assert_snapshot!(broken("canary: 10 }", "canarie: 10 }"), @r"
    policy.yaml:20:28: routes.direction.default.split.canarie: unknown variant `canarie`
      expected: a variant of this route: `stable`, `canary`
      hint: did you mean `canary`?
    ");
    assert_snapshot!(broken("serve: canary", "serve: canari"), @r"
    policy.yaml:18:16: routes.direction.rules[0].serve: unknown variant `canari`
      expected: a variant of this route: `stable`, `canary`
      hint: did you mean `canary`?
    ");
    assert_snapshot!(broken("baseline: stable", "baseline: control"), @r"
    policy.yaml:14:15: routes.direction.baseline: unknown variant `control`
      expected: a variant of this route: `stable`, `canary`
    ");
    assert_snapshot!(broken("if: { segment: desk }", "if: { segment: dsk }"), @r"
    policy.yaml:17:24: routes.direction.rules[0].if.segment: unknown segment `dsk`
      expected: one of `desk`
      hint: did you mean `desk`?
    ");
    assert_snapshot!(broken("  desk: { users: [dana] }", "  desk: { users: [dana], segments: [a, b] }\n  b: {}"), @r"
    policy.yaml:6:37: segments.desk.segments[0]: unknown segment `a`
      expected: one of `b`, `desk`
    ");
    assert_snapshot!(broken("model: gb@1.1.0", "model: gb@1.2.0"), @r"
    policy.yaml:13:24: routes.direction.variants.canary.model: unknown model `gb@1.2.0`
      expected: a model version of the section `models`: `gb@1.1.0`, `lr@1.0.0`
      hint: did you mean `gb@1.1.0`?
    ");
    assert_snapshot!(broken("    baseline: stable", "    baseline: stable\n    layer: shard"), @r"
    policy.yaml:15:12: routes.direction.layer: unknown layer `shard`
      expected: one of `shared`
      hint: did you mean `shared`?
    ");
    assert_snapshot!(broken("    baseline: stable", "    baseline: stable\n    unit: usr"), @r"
    policy.yaml:15:11: routes.direction.unit: unknown unit `usr`
      expected: one of `user`, `symbol`, `tenant`, `session`, or a list of these
      hint: did you mean `user`?
    ");
    assert_snapshot!(broken("  lr@1.0.0:", "  lr@1.0.0: { placement: egde }"), @r#"
    policy.yaml:3:26: models."lr@1.0.0".placement: unknown placement `egde`
      expected: one of `edge`, `host`, `gpu`
      hint: did you mean `edge`?
    "#);
}

#[test]
fn names_that_occur_twice() {
    assert_snapshot!(broken("      canary: { model: gb@1.1.0 }", "      stable: { model: gb@1.1.0 }"), @r"
    policy.yaml:13:7: routes.direction.variants: the key `stable` occurs twice in one mapping
      expected: each key once
      hint: it is first at line 12, column 7
    policy.yaml:18:16: routes.direction.rules[0].serve: unknown variant `canary`
      expected: a variant of this route: `stable`
    policy.yaml:20:28: routes.direction.default.split.canary: unknown variant `canary`
      expected: a variant of this route: `stable`
    ");
    assert_snapshot!(broken("        serve: canary\n", "        serve: canary\n      - { name: desk, if: { user: x }, serve: canary }\n    test_groups: [{ name: desk, users: [], serve: canary }]\n"), @r"
    policy.yaml:16:15: routes.direction.rules[0].name: the name `desk` occurs twice in this route
      hint: the other one is at line 20, column 27
    policy.yaml:19:17: routes.direction.rules[1].name: the name `desk` occurs twice in this route
      hint: the other one is at line 20, column 27
    ");
    assert_snapshot!(broken("    baseline: stable", "    baseline: stable\n    overrides: [{ user: a, serve: stable }, { users: [b, a], serve: canary }]"), @r"
    policy.yaml:15:54: routes.direction.overrides[1]: the user `a` has two overrides
      hint: the first is at line 15, column 25
    ");
    assert_snapshot!(broken("users: [dana]", "users: [dana, dana]"), @"policy.yaml:6:25: segments.desk.users[1]: `dana` occurs twice in this list");
    assert_snapshot!(problems(&format!("{GOOD}  direction: {{}}\n")), @r"
    policy.yaml:21:3: routes: the key `direction` occurs twice in one mapping
      expected: each key once
      hint: it is first at line 10, column 3
    ");
    assert_snapshot!(broken("  shared: { salt: x }", "  direction: { salt: x }"), @r"
    policy.yaml:10:3: routes.direction: the route `direction` has the name of a layer
      hint: decisions name the layer, and a route's own layer is called as the route is; rename one
    ");
}

#[test]
fn cycles_of_segments() {
    let desk = "  desk: { users: [dana] }";
    assert_snapshot!(broken(desk, "  desk: { segments: [night] }\n  night: { segments: [spare, week] }\n  week: { segments: [desk] }\n  spare: {}"), @r"
    policy.yaml:6:3: segments.desk: segments contain each other in a cycle: desk → night → week → desk
      hint: remove one of these segments from another
    ");
    assert_snapshot!(broken(desk, "  desk: { segments: [desk] }"), @r"
    policy.yaml:6:3: segments.desk: segments contain each other in a cycle: desk → desk
      hint: remove one of these segments from another
    ");
    let chain: String = (0..70).map(|n| format!("  s{n}: {{ segments: [s{}] }}\n", n + 1)).collect();
    assert_snapshot!(broken(desk, format!("  desk: {{}}\n  s70: {{}}\n{chain}").trim_end()), @"policy.yaml:8:3: segments.s0: segments contain each other more than 64 levels deep");
}

#[test]
fn wrong_types() {
    assert_snapshot!(broken("    baseline: stable", "    baseline: stable\n    enabled: yes"), @r"
    policy.yaml:15:14: routes.direction.enabled: found the text `yes`
      expected: `true` or `false`
    ");
    assert_snapshot!(broken("users: [dana]", "users: [1001, true, \"\"]"), @r#"
    policy.yaml:6:19: segments.desk.users[0]: found the number `1001`
      expected: text
      hint: quote it: "1001"
    policy.yaml:6:25: segments.desk.users[1]: found the boolean `true`
      expected: text
      hint: quote it: "true"
    policy.yaml:6:31: segments.desk.users[2]: the text is empty
      expected: at least one character
    "#);
    assert_snapshot!(broken("users: [dana]", "users: dana"), @r"
    policy.yaml:6:18: segments.desk.users: found the text `dana`
      expected: a list
    ");
    assert_snapshot!(broken("{ model: lr@1.0.0 }", "lr@1.0.0"), @r"
    policy.yaml:12:15: routes.direction.variants.stable: found the text `lr@1.0.0`
      expected: a mapping
    ");
    assert_snapshot!(problems("lockgate: 1\nroutes: [a]"), @r"
    policy.yaml:2:9: routes: found a list
      expected: a mapping
    ");
    assert_snapshot!(broken("if: { segment: desk }", "if: { any: { user: x } }"), @r"
    policy.yaml:17:20: routes.direction.rules[0].if.any: found a mapping
      expected: a list
    ");
    assert_snapshot!(broken("if: { segment: desk }", "if: { attribute: age, gt: \"5\" }"), @r"
    policy.yaml:17:35: routes.direction.rules[0].if.gt: found the text `5`
      expected: a number
      hint: without quotes: 5
    ");
    assert_snapshot!(broken("if: { segment: desk }", "if: { attribute: age, eq: .inf, in: [] }"), @r"
    policy.yaml:17:35: routes.direction.rules[0].if.eq: `.inf` is not finite
      expected: text, a finite number, `true` or `false`
    policy.yaml:17:45: routes.direction.rules[0].if.in: the list is empty
      expected: at least one value
    ");
    assert_snapshot!(broken("if: { segment: desk }", "if: {}"), @r"
    policy.yaml:17:13: routes.direction.rules[0].if: the condition is empty
      expected: at least one of `all`, `any`, `not`, `segment`, `user`, `symbol`, `tenant`, `session`, `attribute`
    ");
    assert_snapshot!(broken("if: { segment: desk }", "if: { all: [] }"), @r"
    policy.yaml:17:20: routes.direction.rules[0].if.all: the list is empty
      expected: at least one condition
    ");
    assert_snapshot!(broken("if: { segment: desk }", "if: { attribute: age }"), @r"
    policy.yaml:17:26: routes.direction.rules[0].if.attribute: nothing is tested
      expected: at least one of `eq`, `ne`, `in`, `not_in`, `lt`, `lte`, `gt`, `gte`, `present`
    ");
    assert_snapshot!(broken("model: gb@1.1.0", "model: gb@1.1.0, payload: .nan"), @r"
    policy.yaml:13:43: routes.direction.variants.canary.payload: JSON cannot express the number `.nan`, and payloads travel as JSON
      expected: a finite number
    ");
}

#[test]
fn what_is_missing() {
    assert_snapshot!(problems("lockgate: 1"), @r"
    policy.yaml:1:1: the key `routes` is missing
      expected: a mapping from the name of each route to what it serves
    ");
    assert_snapshot!(problems("lockgate: 1\nroutes: { r: {} }"), @r"
    policy.yaml:2:14: routes.r: the key `default` is missing
      expected: `default: { serve: <variant> }` or `default: { split: { … } }`
    policy.yaml:2:14: routes.r: the key `variants` is missing
      expected: a mapping from the name of each variant to its model
    ");
    assert_snapshot!(broken("    baseline: stable\n", ""), @r"
    policy.yaml:11:5: routes.direction: the key `baseline` is missing, and the default is a split
      expected: `baseline: <variant>`, which serves when the unit is missing or the route is disabled
      hint: perhaps `baseline: stable`
    ");
    assert_snapshot!(broken("      - name: desk\n        if: { segment: desk }\n        serve: canary", "      - {}"), @r"
    policy.yaml:16:9: routes.direction.rules[0]: it says nothing about what it serves
      expected: `serve: <variant>` or `split: { <variant>: <percent>, … }`
    policy.yaml:16:9: routes.direction.rules[0]: the key `if` is missing
      expected: a condition, such as `if: { symbol: EURUSD }`
      hint: what serves everyone belongs into `default`
    policy.yaml:16:9: routes.direction.rules[0]: the key `name` is missing
      expected: `name: <text>`, which decisions carry as what matched
    ");
    assert_snapshot!(broken("    baseline: stable", "    baseline: stable\n    overrides: [{ serve: stable }, { user: a, symbol: b, serve: stable }]\n    test_groups: [{ name: g, serve: stable }]"), @r"
    policy.yaml:15:17: routes.direction.overrides[0]: an override compares exactly one field
      expected: one of `user`, `symbol`, `tenant`, `session`, or one of these in the plural with a list
      hint: for a combination of fields, write a rule
    policy.yaml:15:36: routes.direction.overrides[1]: an override compares exactly one field
      expected: one of `user`, `symbol`, `tenant`, `session`, or one of these in the plural with a list
      hint: for a combination of fields, write a rule
    policy.yaml:16:19: routes.direction.test_groups[0]: it says nothing about who belongs to it
      expected: at least one of `users`, `symbols`, `tenants`, `sessions`, `segments`
    ");
}

#[test]
fn versions_of_models() {
    assert_snapshot!(broken("model: lr@1.0.0", "model: lr@v1.0"), @r"
    policy.yaml:12:24: routes.direction.variants.stable.model: `v1.0` is no semantic version: unexpected character 'v' while parsing major version number
      expected: `<model>@<semantic version>`, such as `eurusd_lr@1.0.0`
      hint: write `1.0.0`
    ");
    assert_snapshot!(broken("model: lr@1.0.0", "model: lr"), @r"
    policy.yaml:12:24: routes.direction.variants.stable.model: `lr` names no version
      expected: `<model>@<semantic version>`, such as `eurusd_lr@1.0.0`
    ");
    assert_snapshot!(broken("model: lr@1.0.0", "model: \"l r@1.0.0\""), @r"
    policy.yaml:12:24: routes.direction.variants.stable.model: the model name `l r` contains ' '
      expected: `<model>@<semantic version>`, such as `eurusd_lr@1.0.0`
    ");
    assert_snapshot!(broken("  lr@1.0.0:", "  lr@1.0.0: { digest: abc }"), @r#"
    policy.yaml:3:23: models."lr@1.0.0".digest: `abc` is no SHA-256 digest
      expected: 64 hexadecimal digits, optionally after `sha256:`
    "#);
}

#[test]
fn names() {
    assert_snapshot!(broken("  direction:", "  eur/usd direction:"), @r#"
    policy.yaml:10:3: routes."eur/usd direction": the name `eur/usd direction` contains '/'
      expected: 1 to 128 letters, digits, `.`, `_` and `-`, beginning with a letter or digit
    "#);
    assert_snapshot!(broken("name: desk", "name: \"\""), @r"
    policy.yaml:16:15: routes.direction.rules[0].name: the text is empty
      expected: at least one character
    ");
}

#[test]
fn signatures() {
    assert_snapshot!(
        broken(
            "    baseline: stable",
            "    baseline: stable\n    signature:\n      inputs: [{ name: a, datatype: FLOAT32, shape: [0, x] }, { name: b }]\n      outputs: []"
        ),
        @r"
    policy.yaml:16:37: routes.direction.signature.inputs[0].datatype: unknown datatype `FLOAT32`
      expected: one of `BOOL`, `UINT8`, `UINT16`, `UINT32`, `UINT64`, `INT8`, `INT16`, `INT32`, `INT64`, `FP16`, `FP32`, `FP64`, `BYTES`
    policy.yaml:16:54: routes.direction.signature.inputs[0].shape[0]: found the number `0` where a dimension belongs
      expected: -1 for a free dimension, or a whole number from 1 on
    policy.yaml:16:57: routes.direction.signature.inputs[0].shape[1]: found the text `x` where a dimension belongs
      expected: -1 for a free dimension, or a whole number from 1 on
    policy.yaml:16:63: routes.direction.signature.inputs[1]: the key `datatype` is missing
      expected: `{ name: <text>, datatype: <datatype>, shape: [<dimensions>] }`
    policy.yaml:16:63: routes.direction.signature.inputs[1]: the key `shape` is missing
      expected: `{ name: <text>, datatype: <datatype>, shape: [<dimensions>] }`
    policy.yaml:17:16: routes.direction.signature.outputs: no tensor is listed
      expected: at least one
    "
    );
}

#[test]
fn all_problems_come_at_once_and_as_json() {
    let source = "lockgate: 1\nroutes:\n  r:\n    variants: { a: { modle: x } }\n    default: { serve: b, zzz: 1 }\n    default: {}\n";
    let problems = problems(source);
    assert_snapshot!(problems, @r"
    policy.yaml:4:20: routes.r.variants.a: the key `model` is missing
      expected: `model: <model>@<version>`
    policy.yaml:4:22: routes.r.variants.a: unknown key `modle`
      expected: one of `model`, `payload`
      hint: did you mean `model`?
    policy.yaml:5:26: routes.r.default: unknown key `zzz`
      expected: one of `unit`, `layer`, `serve`, `split`
    policy.yaml:6:5: routes.r: the key `default` occurs twice in one mapping
      expected: each key once
      hint: it is first at line 5, column 5
    ");
    assert_snapshot!(serde_json::to_string_pretty(&problems.as_slice()[0]).unwrap(), @r#"
    {
      "line": 4,
      "column": 20,
      "file": "policy.yaml",
      "path": "routes.r.variants.a",
      "message": "the key `model` is missing",
      "expected": "`model: <model>@<version>`"
    }
    "#);
}

#[test]
fn other_documents_are_read_strictly() {
    assert_snapshot!(read("manifest.yaml", "a: 1\na: 2").unwrap_err(), @r"
    manifest.yaml:2:1: the key `a` occurs twice in one mapping
      expected: each key once
      hint: it is first at line 1, column 1
    ");
    let node = read("manifest.yaml", "a: [1, 0x10, +1, 1.50, ~, yes, \"q\"]\nb: { c: .5 }").unwrap();
    assert_snapshot!(node.to_json().unwrap(), @r#"{"a":[1,16,1,1.50,null,"yes","q"],"b":{"c":0.5}}"#);
}
