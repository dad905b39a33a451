//! The texts that people read when a policy is wrong.

use insta::assert_snapshot;
use lockgate_policy::{Diagnostics, printable, read};

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
      expected: one of `lockgate`, `version`, `freezes`, `models`, `tiers`, `segments`, `layers`, `holdouts`, `tenants`, `users`, `routes`
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
    policy.yaml:11:5: routes.direction: unknown key `varaints`
      expected: one of `description`, `signature`, `enabled`, `access`, `unit`, `layer`, `salt`, `variants`, `baseline`, `fallbacks`, `overrides`, `requests`, `test_groups`, `symbol_rollouts`, `rules`, `default`, `shadows`, `records`
      hint: did you mean `variants`?
    ");
    assert_snapshot!(broken("segments:\n", "segmets:\n"), @r"
    policy.yaml:5:1: unknown key `segmets`
      expected: one of `lockgate`, `version`, `freezes`, `models`, `tiers`, `segments`, `layers`, `holdouts`, `tenants`, `users`, `routes`
      hint: did you mean `segments`?
    ");
    assert_snapshot!(broken("if: { segment: desk }", "if: { segmnet: desk }"), @r"
    policy.yaml:17:15: routes.direction.rules[0].if: unknown key `segmnet`
      expected: one of `all`, `any`, `not`, `segment`, `tier`, `user`, `symbol`, `tenant`, `session`, `time`, `bucket`, `route`, `attribute`
      hint: did you mean `segment`?
    ");
    assert_snapshot!(broken("if: { segment: desk }", "if: { country: DE }"), @r"
    policy.yaml:17:15: routes.direction.rules[0].if: unknown key `country`
      expected: one of `all`, `any`, `not`, `segment`, `tier`, `user`, `symbol`, `tenant`, `session`, `time`, `bucket`, `route`, `attribute`
      hint: for an attribute, write `attribute: country`
    ");
    assert_snapshot!(broken("if: { segment: desk }", "if: { in: [DE] }"), @r"
    policy.yaml:17:15: routes.direction.rules[0].if: unknown key `in`
      expected: one of `all`, `any`, `not`, `segment`, `tier`, `user`, `symbol`, `tenant`, `session`, `time`, `bucket`, `route`, `attribute`
      hint: say what is tested: `attribute: <name>` beside `in`
    ");
    assert_snapshot!(broken("if: { segment: desk }", "if: { attribute: country, on: [DE] }"), @r"
    policy.yaml:17:35: routes.direction.rules[0].if: unknown key `on`
      expected: one of `all`, `any`, `not`, `segment`, `tier`, `user`, `symbol`, `tenant`, `session`, `time`, `bucket`, `route`, `attribute`, `eq`, `ne`, `in`, `not_in`, `lt`, `lte`, `gt`, `gte`, `from`, `until`, `present`, `prefix`, `suffix`, `contains`, `matches`, `semver`
    ");
    assert_snapshot!(broken("model: gb@1.1.0", "model: gb@1.1.0, paylod: 1"), @r"
    policy.yaml:13:34: routes.direction.variants.canary: unknown key `paylod`
      expected: one of `model`, `payload`, `enabled`, `fallbacks`
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
      expected: exactly one of `serve`, `split`, `weights`, `ramp`
    ");
    assert_snapshot!(broken("      split: { stable: 90, canary: 10 }", "      unit: user"), @r"
    policy.yaml:20:7: routes.direction.default: it says nothing about what it serves
      expected: exactly one of `serve`, `split`, `weights`, `ramp`
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
      expected: a variant of this route: `canary`, `stable`
      hint: did you mean `canary`?
    ");
    assert_snapshot!(broken("serve: canary", "serve: canari"), @r"
    policy.yaml:18:16: routes.direction.rules[0].serve: unknown variant `canari`
      expected: a variant of this route: `canary`, `stable`
      hint: did you mean `canary`?
    ");
    assert_snapshot!(broken("baseline: stable", "baseline: control"), @r"
    policy.yaml:14:15: routes.direction.baseline: unknown variant `control`
      expected: a variant of this route: `canary`, `stable`
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
      expected: one of `user`, `symbol`, `tenant`, `session`, `{ attribute: <name> }`, or a list of these
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
    assert_snapshot!(broken(desk, format!("  desk: {{}}\n  s70: {{}}\n{chain}").trim_end()), @r"
    policy.yaml:8:3: segments.s0: segments contain each other 71 levels deep
      hint: 32 levels are allowed; list the innermost segments directly
    ");
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
      expected: a list, or `{ file: <name> }`
      hint: for a list of one, write `[dana]`
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
      expected: at least one of `all`, `any`, `not`, `segment`, `tier`, `user`, `symbol`, `tenant`, `session`, `time`, `bucket`, `route`, `attribute`
    ");
    assert_snapshot!(broken("if: { segment: desk }", "if: { all: [] }"), @r"
    policy.yaml:17:20: routes.direction.rules[0].if.all: the list is empty
      expected: at least one condition
    ");
    assert_snapshot!(broken("if: { segment: desk }", "if: { attribute: age }"), @r"
    policy.yaml:17:26: routes.direction.rules[0].if.attribute: nothing is tested
      expected: at least one of `eq`, `ne`, `in`, `not_in`, `lt`, `lte`, `gt`, `gte`, `from`, `until`, `present`, `prefix`, `suffix`, `contains`, `matches`, `semver`
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
      expected: exactly one of `serve`, `split`, `weights`, `ramp`, `experiment`, `switchback`
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
    policy.yaml:4:22: routes.r.variants.a: unknown key `modle`
      expected: one of `model`, `payload`, `enabled`, `fallbacks`
      hint: did you mean `model`?
    policy.yaml:5:23: routes.r.default.serve: unknown variant `b`
      expected: a variant of this route: `a`
    policy.yaml:5:26: routes.r.default: unknown key `zzz`
      expected: one of `serve`, `split`, `weights`, `ramp`, `unit`, `layer`
    policy.yaml:6:5: routes.r: the key `default` occurs twice in one mapping
      expected: each key once
      hint: it is first at line 5, column 5
    ");
    assert_snapshot!(serde_json::to_string_pretty(&problems.as_slice()[0]).unwrap(), @r#"
    {
      "line": 4,
      "column": 22,
      "file": "policy.yaml",
      "path": "routes.r.variants.a",
      "message": "unknown key `modle`",
      "expected": "one of `model`, `payload`, `enabled`, `fallbacks`",
      "hint": "did you mean `model`?",
      "severity": "error"
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

/// What is said when the rule `desk` of the good policy serves this instead.
#[track_caller]
fn serving(serve: &str) -> String {
    broken("        serve: canary", &format!("        {serve}"))
}

/// What is said about a condition.
#[track_caller]
fn condition(condition: &str) -> String {
    broken("if: { segment: desk }", &format!("if: {condition}"))
}

#[test]
fn one_mistake_is_reported_once() {
    // What refers to something that could not be read may well be right.
    assert_snapshot!(broken("  desk: { users: [dana] }", "  desk: { users: [dana] }\n  desk: {}"), @r"
    policy.yaml:7:3: segments: the key `desk` occurs twice in one mapping
      expected: each key once
      hint: it is first at line 6, column 3
    ");
    assert_snapshot!(broken("layers:\n", "laiers:\n"), @r"
    policy.yaml:7:1: unknown key `laiers`
      expected: one of `lockgate`, `version`, `freezes`, `models`, `tiers`, `segments`, `layers`, `holdouts`, `tenants`, `users`, `routes`
      hint: did you mean `layers`?
    ");
    assert_snapshot!(broken("    default:\n", "    defualt:\n"), @r"
    policy.yaml:19:5: routes.direction: unknown key `defualt`
      expected: one of `description`, `signature`, `enabled`, `access`, `unit`, `layer`, `salt`, `variants`, `baseline`, `fallbacks`, `overrides`, `requests`, `test_groups`, `symbol_rollouts`, `rules`, `default`, `shadows`, `records`
      hint: did you mean `default`?
    ");
    assert_snapshot!(broken("    baseline: stable", "    basline: stable"), @r"
    policy.yaml:14:5: routes.direction: unknown key `basline`
      expected: one of `description`, `signature`, `enabled`, `access`, `unit`, `layer`, `salt`, `variants`, `baseline`, `fallbacks`, `overrides`, `requests`, `test_groups`, `symbol_rollouts`, `rules`, `default`, `shadows`, `records`
      hint: did you mean `baseline`?
    ");
    assert_snapshot!(broken("        serve: canary", "        sevre: canary"), @r"
    policy.yaml:18:9: routes.direction.rules[0]: unknown key `sevre`
      expected: one of `name`, `from`, `until`, `if`, `serve`, `split`, `weights`, `ramp`, `experiment`, `switchback`, `unit`, `layer`
      hint: did you mean `serve`?
    ");
    assert_snapshot!(broken("segments:\n  desk: { users: [dana] }", "segments: [desk]"), @r"
    policy.yaml:5:11: segments: found a list
      expected: a mapping
    ");
    assert_snapshot!(broken("models:\n", "modls:\n"), @r"
    policy.yaml:2:1: unknown key `modls`
      expected: one of `lockgate`, `version`, `freezes`, `models`, `tiers`, `segments`, `layers`, `holdouts`, `tenants`, `users`, `routes`
      hint: did you mean `models`?
    ");
    assert_snapshot!(broken("    variants:\n", "    variants: &v\n      5: {}\n"), @r"
    policy.yaml:12:7: routes.direction.variants: found the number `5` as a key
      expected: text
      hint: quote the key
    ");
    assert_snapshot!(broken("canary: { model: gb@1.1.0 }", "canary: { model: gb@v1 }"), @r"
    policy.yaml:13:24: routes.direction.variants.canary.model: `v1` is no semantic version: unexpected character 'v' while parsing major version number
      expected: `<model>@<semantic version>`, such as `eurusd_lr@1.0.0`
      hint: write `1.0.0`
    ");
}

#[test]
fn ramps() {
    let ramp = |ramp: &str| serving(&format!("ramp: {{ {ramp} }}"));
    assert_snapshot!(ramp("stages: []"), @r"
    policy.yaml:18:15: routes.direction.rules[0].ramp: the key `start` is missing
      expected: `start: <moment>`, when the first stage may begin
    policy.yaml:18:25: routes.direction.rules[0].ramp.stages: the list is empty
      expected: at least one stage
    ");
    assert_snapshot!(ramp("to: canary, start: 2026-12-01, approved_stage: 3, stages: [{ share: 10 }, { share: 20, hold: 1h }]"), @r"
    policy.yaml:18:36: routes.direction.rules[0].ramp.start: `2026-12-01` is no moment
      expected: a moment as RFC 3339 writes it, with an offset, such as `2026-05-01T12:00:00Z`
      hint: write `2026-12-01T00:00:00Z`
    policy.yaml:18:64: routes.direction.rules[0].ramp.approved_stage: `3` is not allowed here
      expected: a whole number from 0 to 2
    policy.yaml:18:76: routes.direction.rules[0].ramp.stages[0]: the key `hold` is missing
      expected: `hold: <duration>`, how long this stage lasts at least
      hint: or the next stage says its `start`
    policy.yaml:18:110: routes.direction.rules[0].ramp.stages[1].hold: the last stage has nothing to hold for
      hint: remove `hold`, or add a stage
    ");
    assert_snapshot!(ramp("start: 2026-12-01T09:00:00Z, stages: [{ share: 10, hold: 1 h }, { split: { stable: 50, canary: 40 } }]"), @r"
    policy.yaml:18:64: routes.direction.rules[0].ramp.stages[0].share: the ramp does not say which variant's share this is
      expected: `to: <variant>` beside `stages`
    policy.yaml:18:74: routes.direction.rules[0].ramp.stages[0].hold: `1 h` is no duration
      expected: a duration, such as `90s`, `15m`, `4h`, `7d` or `1h30m`
      hint: write `1h`
    policy.yaml:18:90: routes.direction.rules[0].ramp.stages[1].split: the shares add up to 90 %
      expected: 100 %
      hint: 10 % is missing; give it to a variant
    ");
    assert_snapshot!(ramp("to: stable, start: 2026-12-01T09:00:00, stages: [{ share: 100 }]"), @r"
    policy.yaml:18:15: routes.direction.rules[0].ramp: the ramp leads from `stable` to `stable`
      hint: `from` is the baseline unless it says otherwise
    policy.yaml:18:36: routes.direction.rules[0].ramp.start: `2026-12-01T09:00:00` is no moment
      expected: a moment as RFC 3339 writes it, with an offset, such as `2026-05-01T12:00:00Z`
      hint: write `2026-12-01T09:00:00Z`
    ");
    assert_snapshot!(ramp("to: canary, start: 2026-12-01T09:00:00Z, stages: [{ share: 10, start: 2026-12-02T09:00:00Z, hold: 2d }, { share: 20, start: 2026-12-02T09:00:00Z }, { }]"), @r"
    policy.yaml:18:87: routes.direction.rules[0].ramp.stages[0].start: the first stage starts with the ramp
      hint: write `start` beside `stages`
    policy.yaml:18:121: routes.direction.rules[0].ramp.stages[1]: the key `hold` is missing
      expected: `hold: <duration>`, how long this stage lasts at least
      hint: or the next stage says its `start`
    policy.yaml:18:141: routes.direction.rules[0].ramp.stages[1].start: this stage would start before the stage before it has been held
      expected: `2026-12-03T09:00:00Z` or later
    policy.yaml:18:165: routes.direction.rules[0].ramp.stages[2]: the stage says no share
      expected: `share: <percent>` of `to`, or `split: { <variant>: <percent>, … }`
    ");
    assert_snapshot!(ramp("to: canary, start: 2026-12-01T09:00:00Z, pauses: [{ until: 2026-12-02T00:00:00Z }, { from: 2026-12-03T00:00:00Z, until: 2026-12-02T00:00:00Z }], stages: [{ share: 100 }]"), @r"
    policy.yaml:18:67: routes.direction.rules[0].ramp.pauses[0]: the key `from` is missing
      expected: `from: <moment>`, when it begins
    policy.yaml:18:137: routes.direction.rules[0].ramp.pauses[1].until: `until` is not after `from`
    ");
    assert_snapshot!(ramp("to: canary, start: 2026-12-01T09:00:00Z, stages: [{ split: { stable: 100 }, share: 5 }]"), @r"
    policy.yaml:18:67: routes.direction.rules[0].ramp.stages[0]: `share` and `split` exclude each other
      expected: `share: <percent>` of `to`, or `split: { <variant>: <percent>, … }`
    ");
    assert_snapshot!(ramp("to: canary, start: 2026-02-30T09:00:00Z, stages: [{ split: { stable: 100 } }]"), @r"
    policy.yaml:18:15: routes.direction.rules[0].ramp: `to` has no meaning when every stage has a `split`
      hint: remove it, or give the stages a `share`
    policy.yaml:18:36: routes.direction.rules[0].ramp.start: `2026-02-30T09:00:00Z` is no moment
      expected: a moment as RFC 3339 writes it, with an offset, such as `2026-05-01T12:00:00Z`
      hint: there is no such day
    ");
    assert_snapshot!(ramp("to: canary, start: 1, stages: [{ share: 5, hold: 24 }, { share: 5 }]"), @r#"
    policy.yaml:18:36: routes.direction.rules[0].ramp.start: found the number `1`
      expected: a moment as RFC 3339 writes it, with an offset, such as `2026-05-01T12:00:00Z`
      hint: write `1970-01-01T00:00:01Z`
    policy.yaml:18:66: routes.direction.rules[0].ramp.stages[0].hold: found the number `24`
      expected: a duration, such as `90s`, `15m`, `4h`, `7d` or `1h30m`
      hint: add the unit, such as `24s` or `24h`
    "#);
}

#[test]
fn experiments_and_layers() {
    assert_snapshot!(serving("experiment: { layer: shard, share: 5, split: { stable: 100 } }"), @r"
    policy.yaml:18:30: routes.direction.rules[0].experiment.layer: unknown layer `shard`
      expected: one of `shared`
      hint: did you mean `shared`?
    ");
    assert_snapshot!(serving("experiment: { layer: shared, share: 0.001, split: { stable: 50, canary: 50 } }"), @r"
    policy.yaml:18:69: routes.direction.rules[0].experiment.split.stable: 50 % of 0.001 % is no whole number of buckets
      expected: a share of the layer that is a multiple of 0.002 %
    policy.yaml:18:81: routes.direction.rules[0].experiment.split.canary: 50 % of 0.001 % is no whole number of buckets
      expected: a share of the layer that is a multiple of 0.002 %
    ");
    assert_snapshot!(serving("experiment: { layer: shared, share: 0, split: { stable: 50, canary: 60 } }\n        unit: user"), @r"
    policy.yaml:18:45: routes.direction.rules[0].experiment.share: the experiment has no share
      hint: to end the experiment, remove the rule
    policy.yaml:19:15: routes.direction.rules[0].unit: `unit` has no meaning beside `experiment`
      hint: the unit of an experiment is that of its layer
    ");
    assert_snapshot!(serving("experiment: { }"), @r"
    policy.yaml:18:21: routes.direction.rules[0].experiment: the key `layer` is missing
      expected: `{ layer: <name>, share: <percent>, split: { <variant>: <percent>, … } }`
    policy.yaml:18:21: routes.direction.rules[0].experiment: the key `share` is missing
      expected: `{ layer: <name>, share: <percent>, split: { <variant>: <percent>, … } }`
    policy.yaml:18:21: routes.direction.rules[0].experiment: the key `split` is missing
      expected: `{ layer: <name>, share: <percent>, split: { <variant>: <percent>, … } }`
    ");
    let two = "    rules:\n      - { name: a, experiment: { layer: shared, share: 60, split: { stable: 100 } } }\n      - { name: b, experiment: { layer: shared, share: 40.001, split: { stable: 100 } } }\n";
    assert_snapshot!(broken("    rules:\n", two), @r"
    policy.yaml:17:9: routes.direction.rules[1]: with this experiment, the layer `shared` is taken to 100.001 %
      expected: at most 100 % for the holdout and all experiments of a layer
      hint: the layer has 0 % for its holdout, 60 % for `a`, 40.001 % for `b`
    ");
    assert_snapshot!(problems(&GOOD.replace("{ salt: x }", "{ salt: x, hash: unlesh, holdout: 3 }").replace("serve: canary", "experiment: { layer: shared, share: 5, split: { stable: 100 } }")), @r"
    policy.yaml:8:28: layers.shared.hash: unknown hash `unlesh`
      expected: one of `lockgate`, `flagd`, `flagd-legacy`, `unleash`, `unleash-variants`, `growthbook`, `growthbook-v1`, `launchdarkly`, `statsig`, `statsig-experiment`, `flagd-utf8`, `flagd-legacy-utf8`, `unleash-utf8`, `unleash-variants-utf8`, `flagd-cbor`
      hint: did you mean `unleash`?
    policy.yaml:8:45: layers.shared.holdout: a layer with the hash of another system has no holdout
      hint: write a holdout into the section `holdouts`
    ");
    assert_snapshot!(problems(&GOOD.replace("{ salt: x }", "{ salt: \"\", hash: unleash, holdout: 3 }").replace("serve: canary", "experiment: { layer: shared, share: 5, split: { stable: 100 } }")), @r"
    policy.yaml:8:47: layers.shared.holdout: a layer with the hash of another system has no holdout
      hint: write a holdout into the section `holdouts`
    policy.yaml:18:30: routes.direction.rules[0].experiment.layer: the layer `shared` has the hash of another system
      hint: experiments need a layer with the hash `lockgate`
    ");
    assert_snapshot!(broken("segments:\n", "holdouts: { shared: { share: 101 }, direction: { routes: [] }, h: { share: 5, routes: [directoin] } }\nsegments:\n"), @r"
    policy.yaml:5:13: holdouts.shared: the holdout `shared` has the name of a layer
      hint: decisions name the layer, and a holdout is a layer of its own; rename one
    policy.yaml:5:30: holdouts.shared.share: `101` is more than 100
      expected: a percentage from 0 to 100 with at most three decimals, such as `12.5`
    policy.yaml:5:37: holdouts.direction: the holdout `direction` has the name of a route
      hint: decisions name the layer, and a holdout is a layer of its own; rename one
    policy.yaml:5:48: holdouts.direction: the key `share` is missing
      expected: `share: <percent>`, how much is held out
    policy.yaml:5:58: holdouts.direction.routes: the list is empty
      expected: at least one route
    policy.yaml:5:88: holdouts.h.routes[0]: unknown route `directoin`
      expected: one of `direction`
      hint: did you mean `direction`?
    ");
}

#[test]
fn switchbacks() {
    assert_snapshot!(serving("switchback: { variants: [stable], start: 2026-01-01T00:00:00Z, window: 0s }"), @r"
    policy.yaml:18:33: routes.direction.rules[0].switchback.variants: a switchback of 1 variants
      expected: 2 to 16 variants
    policy.yaml:18:80: routes.direction.rules[0].switchback.window: the duration is 0
      expected: a duration above 0
    ");
    assert_snapshot!(serving("switchback: { variants: [stable, canary, stable], start: 2026-01-01T00:00:00Z, end: 2026-01-01T00:00:00Z, window: 4h, washout: 240m }\n        layer: shared"), @r"
    policy.yaml:18:50: routes.direction.rules[0].switchback.variants[2]: `stable` occurs twice in this list
    policy.yaml:18:93: routes.direction.rules[0].switchback.end: `end` is not after `start`
    policy.yaml:18:136: routes.direction.rules[0].switchback.washout: the washout leaves nothing of the window
      expected: less than the window, 4h
    policy.yaml:19:16: routes.direction.rules[0].layer: `layer` has no meaning beside `switchback`
      hint: a switchback has no layer; its `seed` plays that part
    ");
    assert_snapshot!(broken("split: { stable: 90, canary: 10 }", "switchback: {}"), @r"
    policy.yaml:20:7: routes.direction.default: it says nothing about what it serves
      expected: exactly one of `serve`, `split`, `weights`, `ramp`
    policy.yaml:20:7: routes.direction.default: unknown key `switchback`
      expected: one of `serve`, `split`, `weights`, `ramp`, `unit`, `layer`
    ");
}

#[test]
fn profiles() {
    let layer = |hash: &str, serve: &str| {
        problems(
            &GOOD
                .replace("{ salt: x }", &format!("{{ salt: x, hash: {hash} }}"))
                .replace("        serve: canary", &format!("        layer: shared\n        {serve}")),
        )
        .to_string()
    };
    assert_snapshot!(layer("unleash", "split: { stable: 99.5, canary: 0.5 }"), @r"
    policy.yaml:19:26: routes.direction.rules[0].split.stable: 99.5 % is no whole number of buckets
      expected: a multiple of 1 %: the layer's hash has 100 buckets
    policy.yaml:19:40: routes.direction.rules[0].split.canary: 0.5 % is no whole number of buckets
      expected: a multiple of 1 %: the layer's hash has 100 buckets
    ");
    assert_snapshot!(layer("growthbook", "weights: { stable: 99, canary: 2 }"), @r"
    policy.yaml:19:18: routes.direction.rules[0].weights: the weights add up to 101
      expected: 10000: the number of buckets of the hash `growthbook`
    ");
    assert_snapshot!(layer("flagd", "weights: { stable: 0, canary: 0 }"), @r"
    policy.yaml:19:18: routes.direction.rules[0].weights: the weights add up to 0
      expected: 1 to 2147483647
    ");
    assert_snapshot!(layer("flagd", "weights: { stable: 1.5, canary: -1 }"), @r"
    policy.yaml:19:28: routes.direction.rules[0].weights.stable: `1.5` is not allowed here
      expected: a whole number from 0 to 2147483647
    policy.yaml:19:41: routes.direction.rules[0].weights.canary: `-1` is not allowed here
      expected: a whole number from 0 to 2147483647
    ");
    assert_snapshot!(layer("lockgate", "weights: { stable: 1 }"), @r"
    policy.yaml:19:18: routes.direction.rules[0].weights: weights are for layers with the hash of another system
      hint: write `split` with percentages that add up to 100
    ");
}

#[test]
fn conditions() {
    assert_snapshot!(condition("{ time: { } }"), @r"
    policy.yaml:17:21: routes.direction.rules[0].if.time: nothing is tested
      expected: at least one of `from`, `until`, `daily`, `weekdays`
    ");
    assert_snapshot!(condition("{ time: { offset: \"+01:00\" } }"), @r"
    policy.yaml:17:31: routes.direction.rules[0].if.time.offset: `offset` has no meaning without `daily` or `weekdays`
      hint: `from` and `until` have an offset of their own
    ");
    assert_snapshot!(condition("{ time: { from: 2026-02-01T00:00:00Z, until: 2026-01-01T00:00:00Z, daily: { from: \"9:30\", until: 16 }, weekdays: [Mon, mon, mon], offset: Europe/Berlin } }"), @r#"
    policy.yaml:17:58: routes.direction.rules[0].if.time.until: `until` is not after `from`
    policy.yaml:17:95: routes.direction.rules[0].if.time.daily.from: `9:30` is no time of day
      expected: a time of day, such as `"09:30"` or `"16:00:00"`
      hint: write `"09:30"`
    policy.yaml:17:127: routes.direction.rules[0].if.time.weekdays[0]: unknown day `Mon`
      expected: one of `mon`, `tue`, `wed`, `thu`, `fri`, `sat`, `sun`
      hint: did you mean `mon`?
    policy.yaml:17:137: routes.direction.rules[0].if.time.weekdays[2]: `mon` occurs twice in this list
    policy.yaml:17:151: routes.direction.rules[0].if.time.offset: `Europe/Berlin` is no offset from UTC
      expected: an offset from UTC, such as `"+01:00"` or `Z`
      hint: there are no time zones: their rules change, and with them what a policy would mean
    "#);
    assert_snapshot!(condition("{ time: { daily: { from: \"00:00\", until: \"24:00\" } } }"), @r"
    policy.yaml:17:30: routes.direction.rules[0].if.time.daily: this is the whole day
      hint: for the whole day, leave `daily` out
    ");
    assert_snapshot!(condition("{ bucket: { layer: shared, from: 10, below: 10 } }"), @"policy.yaml:17:23: routes.direction.rules[0].if.bucket: `below` is not above `from`, so no bucket is in this slice");
    assert_snapshot!(condition("{ bucket: { unit: [user, user] } }"), @r"
    policy.yaml:17:23: routes.direction.rules[0].if.bucket: the key `below` is missing
      expected: `{ layer: <name>, unit: <unit>, from: <percent>, below: <percent> }`
    policy.yaml:17:23: routes.direction.rules[0].if.bucket: the key `layer` is missing
      expected: `{ layer: <name>, unit: <unit>, from: <percent>, below: <percent> }`
    policy.yaml:17:31: routes.direction.rules[0].if.bucket.unit: the unit lists a part twice
      expected: 1 to 8 parts, each once
    ");
    assert_snapshot!(condition("{ user: { matches: \"(a\" } }"), @"policy.yaml:17:32: routes.direction.rules[0].if.user.matches: `(a` is no regular expression that can be used: unclosed group (at character 1)");
    assert_snapshot!(condition("{ attribute: app, semver: \"2.1.0 >= 1.0 ^1.2\" }"), @r"
    policy.yaml:17:39: routes.direction.rules[0].if.semver: `1.2` is no semantic version: unexpected end of input while parsing minor version number
      expected: comparators such as `>=2.1.0 <3.0.0-0` or `^2.1.0`
      hint: write `1.2.0`
    policy.yaml:17:39: routes.direction.rules[0].if.semver: `2.1.0` has no comparison
      expected: comparators such as `>=2.1.0 <3.0.0-0` or `^2.1.0`
      hint: write `=2.1.0` or `^2.1.0`
    policy.yaml:17:39: routes.direction.rules[0].if.semver: a blank stands between `>=` and `1.0`
      expected: comparators such as `>=2.1.0 <3.0.0-0` or `^2.1.0`
      hint: write `>=1.0`
    ");
    assert_snapshot!(condition("{ attribute: app, prefix: 5, suffix: [], contains: [a, a], in: [1, 1.0] }"), @r#"
    policy.yaml:17:39: routes.direction.rules[0].if.prefix: found the number `5`
      expected: text, or a list of texts
      hint: quote it: "5"
    policy.yaml:17:50: routes.direction.rules[0].if.suffix: the list is empty
      expected: at least one value
    policy.yaml:17:68: routes.direction.rules[0].if.contains[1]: `a` occurs twice in this list
    policy.yaml:17:80: routes.direction.rules[0].if.in[1]: `1` occurs twice in this list
    "#);
    assert_snapshot!(condition("{ user: { gt: 5 } }"), @r"
    policy.yaml:17:23: routes.direction.rules[0].if.user: unknown key `gt`
      expected: one of `eq`, `ne`, `in`, `not_in`, `present`, `prefix`, `suffix`, `contains`, `matches`, `semver`
    ");
    assert_snapshot!(condition("{ tier: premium }"), @r"
    policy.yaml:17:21: routes.direction.rules[0].if.tier: unknown tier `premium`
      expected: a tier of the section `tiers`, which is missing or empty
    ");
    assert_snapshot!(condition("{ serves: canary }"), @r"
    policy.yaml:17:15: routes.direction.rules[0].if: `serves` stands alone
      hint: say of which route: `route: <name>` beside `serves`
    ");
    assert_snapshot!(condition("{ route: directoin, serves: canary }"), @r"
    policy.yaml:17:22: routes.direction.rules[0].if.route: unknown route `directoin`
      expected: one of `direction`
      hint: did you mean `direction`?
    ");
    assert_snapshot!(condition("{ route: direction }"), @r"
    policy.yaml:17:15: routes.direction.rules[0].if: the key `serves` is missing
      expected: `serves: <variant>` or `serves: [<variants>]` beside `route`
    ");
    assert_snapshot!(condition("{ route: direction, serves: [canari] }"), @r"
    policy.yaml:17:42: routes.direction.rules[0].if.serves[0]: unknown variant `canari`
      expected: one of `canary`, `stable`
      hint: did you mean `canary`?
    ");
    assert_snapshot!(broken("  desk: { users: [dana] }", "  desk: { if: { route: direction, serves: canary } }"), @r"
    policy.yaml:6:17: segments.desk.if: a segment cannot ask what a route serves
      hint: write this condition into the rules that use the segment
    ");
    assert_snapshot!(broken("    baseline: stable", "    baseline: stable\n    unit: [user, symbol, tenant, session, { attribute: a }, { attribute: b }, { attribute: c }, { attribute: d }, { attribute: e }]"), @r"
    policy.yaml:15:11: routes.direction.unit: the unit has 9 parts
      expected: 1 to 8 parts, each once
    ");
}

#[test]
fn what_goes_in_circles() {
    assert_snapshot!(condition("{ route: direction, serves: canary }"), @r"
    policy.yaml:16:9: routes.direction.rules[0]: routes ask for each other in a cycle: direction → direction
      hint: remove one of these `route` conditions
    ");
    let two = "  other:\n    variants: { a: { model: lr@1.0.0 } }\n    access: { route: direction, serves: canary }\n    default: { serve: a }\n";
    let source = GOOD.replace("segment: desk", "route: other, serves: a") + two;
    assert_snapshot!(problems(&source), @r"
    policy.yaml:16:9: routes.direction.rules[0]: routes ask for each other in a cycle: direction → other → direction
      hint: remove one of these `route` conditions
    ");
    let chain: String = (0..9)
        .map(|n| format!("  r{n}: {{ variants: {{ a: {{ model: lr@1.0.0 }} }}, access: {{ route: r{}, serves: a }}, default: {{ serve: a }} }}\n", n + 1))
        .collect();
    let end = "  r9: { variants: { a: { model: lr@1.0.0 } }, default: { serve: a } }\n";
    assert_snapshot!(problems(&format!("{GOOD}{chain}{end}")), @r"
    policy.yaml:21:3: routes.r0: this begins a chain of 9 prerequisites
      hint: at most 8 `route` conditions may hang on one another
    ");
    let tiers = "tiers: [{ name: free }, { name: premium, segments: [desk] }]\nsegments:\n  desk: { if: { tier: premium } }";
    assert_snapshot!(broken("segments:\n  desk: { users: [dana] }", tiers), @r"
    policy.yaml:7:3: segments.desk: segments contain each other in a cycle: desk → tier premium → desk
      hint: remove one of these segments from another
    ");
}

#[test]
fn tenants_and_limits() {
    assert_snapshot!(broken("segments:\n", "tenants: { acme: {}, \"\": { routs: {} }, x: { routes: { r: { default: { serve: a } } }, users: { y: {} } } }\nsegments:\n"), @r#"
    policy.yaml:5:18: tenants.acme: it defines no routes
      expected: `routes`, or `users` with routes of their own
    policy.yaml:5:22: tenants."": the name is empty
      expected: at least one character
    policy.yaml:5:28: tenants."": unknown key `routs`
      expected: one of `routes`, `users`
      hint: did you mean `routes`?
    policy.yaml:5:59: tenants.x.routes.r: the key `variants` is missing
      expected: a mapping from the name of each variant to its model
    policy.yaml:5:100: tenants.x.users.y: the key `routes` is missing
      expected: the user's routes
    "#);
    let many: String = (0..257).map(|n| format!("      v{n}: {{ model: lr@1.0.0 }}\n")).collect();
    assert_snapshot!(broken("    baseline: stable\n", &format!("{many}    baseline: stable\n")), @r"
    policy.yaml:12:7: routes.direction.variants: the route has 259 variants
      expected: at most 256
    ");
    let shadows: String = (0..33).map(|n| format!("{{ name: s{n}, variant: canary }}, ")).collect();
    assert_snapshot!(broken("    baseline: stable\n", &format!("    baseline: stable\n    shadows: [{shadows}]\n")), @r"
    policy.yaml:15:14: routes.direction.shadows: the route has 33 shadows
      expected: at most 32
    ");
    assert_snapshot!(broken("    baseline: stable\n", "    baseline: stable\n    shadows: [{ name: s, variant: canari, sample: 5%, limits: { rate: 0, concurrency: x, bytes: 64KB, deadline: 9w } }]\n    requests: [{ name: desk, variants: [] }]\n    fallbacks: [stable, stabel]\n"), @r"
    policy.yaml:15:35: routes.direction.shadows[0].variant: unknown variant `canari`
      expected: a variant of this route: `canary`, `stable`
      hint: did you mean `canary`?
    policy.yaml:15:51: routes.direction.shadows[0].sample: found the text `5%`
      expected: a percentage from 0 to 100 with at most three decimals, such as `12.5`
      hint: without the percent sign: 5
    policy.yaml:15:71: routes.direction.shadows[0].limits.rate: `0` is not allowed here
      expected: a whole number from 1 on
    policy.yaml:15:87: routes.direction.shadows[0].limits.concurrency: found the text `x`
      expected: a whole number from 1 on
    policy.yaml:15:97: routes.direction.shadows[0].limits.bytes: found the text `64KB` where a size belongs
      expected: a number of bytes, or text such as `64KiB` or `1MiB`
    policy.yaml:15:113: routes.direction.shadows[0].limits.deadline: the deadline is too long
      expected: at most 7w
    policy.yaml:16:16: routes.direction.requests[0]: it says nothing about who belongs to it
      expected: at least one of `users`, `symbols`, `tenants`, `sessions`, `segments`
    policy.yaml:16:40: routes.direction.requests[0].variants: the list is empty
      expected: at least one variant
    policy.yaml:17:25: routes.direction.fallbacks[1]: unknown variant `stabel`
      expected: a variant of this route: `canary`, `stable`
      hint: did you mean `stable`?
    policy.yaml:19:15: routes.direction.rules[0].name: the name `desk` occurs twice in this route
      hint: the other one is at line 16, column 24
    ");
    assert_snapshot!(broken("segments:\n", "tiers: [{ name: free }, { name: free }, { users: [a] }]\nfreezes: [{ from: 2026-01-01T00:00:00Z, untill: x }]\nsegments:\n"), @r"
    policy.yaml:5:33: tiers[1].name: the tier `free` occurs twice
      hint: it is first at line 5, column 9
    policy.yaml:5:41: tiers[2]: the key `name` is missing
      expected: `name: <name of the tier>`
    policy.yaml:6:41: freezes[0]: unknown key `untill`
      expected: one of `from`, `until`, `reason`
      hint: did you mean `until`?
    ");
    assert_snapshot!(broken("    rules:\n", "    test_groups: [{ name: g, users: { fil: x }, from: 2026-01-02T00:00:00Z, until: 2026-01-01T00:00:00Z, serve: canary }]\n    rules:\n"), @r"
    policy.yaml:15:39: routes.direction.test_groups[0].users: unknown key `fil`
      expected: one of `file`
      hint: did you mean `file`?
    policy.yaml:15:84: routes.direction.test_groups[0].until: `until` is not after `from`
    ");
}

/// What is broken on purpose is refused soon, and with an answer of bounded size.
#[test]
fn hostile_sources_come_to_an_end() {
    let names: Vec<String> = (0..300).map(|n| format!("s{n}")).collect();
    let all = names.join(", ");
    let dense: String = names.iter().map(|name| format!("  {name}: {{ segments: [{all}] }}\n")).collect();
    let problems_of_dense = problems(&GOOD.replace("segments:\n", &format!("segments:\n{dense}")));
    assert!(problems_of_dense.as_slice().len() <= 20);
    assert!(problems_of_dense.to_string().len() < 10_000);
    let unknown: String = (0..5_000).map(|n| format!("u{n}, ")).collect();
    let known: String = (0..5_000).map(|n| format!("  k{n}: {{}}\n")).collect();
    let source =
        GOOD.replace("segments:\n", &format!("segments:\n  x: {{ segments: [{unknown}] }}\n{known}"));
    assert_eq!(problems(&source).as_slice().len(), 5_000);
}

/// What other YAML readers allow and people try.
#[test]
fn habits_from_elsewhere() {
    // A merge key may bring any key, so none is missing.
    assert_snapshot!(broken("stable: { model: lr@1.0.0 }\n      canary: { model: gb@1.1.0 }", "stable: &stable { model: lr@1.0.0 }\n      canary: { <<: *stable }"), @r"
    policy.yaml:13:17: routes.direction.variants.canary: unknown key `<<`
      expected: one of `model`, `payload`, `enabled`, `fallbacks`
      hint: YAML 1.2 has no merge keys; write the keys out, or let an alias stand for the whole value
    ");
    // Levels beyond what any reader follows.
    for (file, source) in [("p.yaml", "[".repeat(100_000)), ("p.json", "[".repeat(100_000))] {
        let problems = checked(file, &source).unwrap_err().to_string();
        assert!(problems.ends_with("the values are nested more than 64 levels deep"), "{problems}");
    }
    // Moments as numbers, in seconds and in milliseconds.
    for (number, moment) in
        [("1767225600", "2026-01-01T00:00:00Z"), ("1767225600123", "2026-01-01T00:00:00.123Z")]
    {
        let source = GOOD.replace(
            "    rules:\n",
            &format!(
                "    test_groups: [{{ name: g, users: [u], from: {number}, serve: canary }}]\n    rules:\n"
            ),
        );
        let problems = problems(&source).to_string();
        assert!(problems.contains(&format!("hint: write `{moment}`")), "{problems}");
    }
}

#[test]
fn what_is_wrong_does_not_hide_what_else_is() {
    // The experiment whose parts are no whole buckets counts in the sum of its layer.
    let both = serving(
        "experiment: { layer: shared, share: 100, split: { stable: 100 } }\n      - name: other\n        experiment: { layer: shared, share: 0.001, split: { stable: 50, canary: 50 } }",
    );
    assert!(both.contains("is taken to 100.001 %") && both.contains("a multiple of 0.002 %"), "{both}");
}

/// Python's `isoformat` writes microseconds.
#[test]
fn digits_beyond_milliseconds_are_cut_off() {
    let from = |moment: &str| {
        let condition = format!("if: {{ time: {{ from: {moment} }} }}");
        checked("policy.yaml", &GOOD.replace("if: { segment: desk }", &condition)).unwrap()
    };
    assert_eq!(from("2026-01-01T00:00:00.123999+00:00"), from("2026-01-01T00:00:00.123Z"));
    assert_ne!(from("2026-01-01T00:00:00.124Z"), from("2026-01-01T00:00:00.123Z"));
}

/// Names and values come from outside and are shown on terminals.
#[test]
fn control_characters_are_shown_as_escapes() {
    let problems =
        checked("p\u{1b}.yaml", "lockgate: 1\nroutes: { \"r\\e[31m\\n\\u202e\": { variants: 5 } }\n")
            .unwrap_err();
    let text = problems.to_string();
    let hidden = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!text.contains(hidden) && text.contains("\\u{1b}"), "{text}");
    assert_eq!(
        printable("a\tb\nc\u{1b}[1m\u{9b}\u{7f}\r\u{2066}é"),
        "a\tb\nc\\u{1b}[1m\\u{9b}\\u{7f}\\u{d}\\u{2066}é"
    );
}
