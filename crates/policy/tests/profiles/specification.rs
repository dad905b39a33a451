//! Unleash's client specification: its features are imported, and its cases decided. What cannot be kept is listed here.

use lockgate_policy::{Extent, ImportOptions, RequestContext, System, import};
use serde_json::Value;

use crate::{bundle, json, variant};

const SPECIFICATION: &str = include_str!("../../../../tests/profiles/import/unleash-specification.json");

#[test]
fn every_case_holds_but_for_those_that_no_policy_expresses() {
    let (mut held, mut others) = (0, Vec::new());
    for suite in json(SPECIFICATION)["suites"].as_array().unwrap() {
        let (name, state) = (suite["name"].as_str().unwrap(), &suite["state"]);
        let imported = match import(System::Unleash, name, &state.to_string(), &ImportOptions::default()) {
            Ok(imported) => imported,
            Err(problems) => {
                let cases = suite["cases"].as_array().unwrap().len();
                others.push(format!("{name}, all {cases} cases: {}", problems.as_slice()[0].message));
                continue;
            }
        };
        let bundle = bundle(&imported.source);
        for case in suite["cases"].as_array().unwrap() {
            let (description, feature) =
                (case["description"].as_str().unwrap(), case["feature"].as_str().unwrap());
            let mut context: RequestContext = serde_json::from_value(case["context"].clone()).unwrap();
            let answer = match imported.routes.get(feature) {
                Some(route) => {
                    context.route.clone_from(route);
                    Ok(variant(&bundle, &context, case["now"].as_i64().unwrap()))
                }
                None => match imported
                    .losses
                    .iter()
                    .find(|loss| loss.flag == feature && loss.extent == Extent::Flag)
                {
                    Some(loss) => Err(loss.reason.clone()),
                    // Nobody defined it: an unknown route, as good as a disabled feature.
                    None => Ok("disabled".to_owned()),
                },
            };
            let expected = &case["variant"];
            match answer {
                Ok(variant) if *expected == Value::Bool(true) && variant != "disabled" => held += 1,
                Ok(variant) if *expected == variant => held += 1,
                Ok(variant) => others.push(format!("{name}, {description}: {variant}, not {expected}")),
                Err(reason) => others.push(format!("{name}, {description}: {reason}")),
            }
        }
    }
    insta::assert_snapshot!(format!("{held} hold\n{}", others.join("\n")), @r#"
    266 hold
    21-regex-constraint-operators, Invalid regex should result in toggle being disabled: `(regex` is no regular expression that can be used: unclosed group (at character 1)
    21-regex-constraint-operators, R04 matches whole word cat: `\bcat\b` is no regular expression that can be used: word boundaries are not supported (at character 1)
    21-regex-constraint-operators, R04 does not match inside 'concatenate': `\bcat\b` is no regular expression that can be used: word boundaries are not supported (at character 1)
    21-regex-constraint-operators, R09 (?i) matches different case: `^(?i)abc$` is no regular expression that can be used: flags are not supported (at character 2)
    21-regex-constraint-operators, R09 (?i) rejects extra chars: `^(?i)abc$` is no regular expression that can be used: flags are not supported (at character 2)
    21-regex-constraint-operators, R10 (?m) matches line 'foo' inside multiline string: `(?m)^foo$` is no regular expression that can be used: flags are not supported (at character 1)
    21-regex-constraint-operators, R10 without foo line would fail: `(?m)^foo$` is no regular expression that can be used: flags are not supported (at character 1)
    21-regex-constraint-operators, R11 (?s) dot matches newline: `^(?s)a.b$` is no regular expression that can be used: flags are not supported (at character 2)
    21-regex-constraint-operators, R90 lookahead should be rejected upstream; if it leaks through, it must not enable: `^(?=a)b$` is no regular expression that can be used: look-around is not supported (at character 2)
    21-regex-constraint-operators, R91 backreference should be rejected upstream; if it leaks through, it must not enable: `^(a)\1$` is no regular expression that can be used: back-references are not supported (at character 5)
    22-cidr-constraint-operator, IPv6 CIDR range should enable matching IP: `2001:db8::/32` is a network of IPv6
    22-cidr-constraint-operator, IPv6 CIDR range should disable non-matching IP: `2001:db8::/32` is a network of IPv6
    22-cidr-constraint-operator, Valid IPv6 CIDR should match even when invalid entries exist: `2001:db8::/32` is a network of IPv6
    "#);
}

const GROWTHBOOK: &str = include_str!("../../../../tests/profiles/import/growthbook-cases.json");

/// GrowthBook's own cases, likewise.
#[test]
fn growthbooks_cases_hold_but_for_those_that_no_policy_expresses() {
    let (mut held, mut others) = (0, Vec::new());
    for (group, cases) in json(GROWTHBOOK)["groups"].as_object().unwrap() {
        for case in cases.as_array().unwrap() {
            let description = format!("{group}, {}", case["description"].as_str().unwrap());
            let options = ImportOptions::default();
            let imported = import(System::GrowthBook, "cases", &case["state"].to_string(), &options);
            let imported = imported.unwrap_or_else(|problems| panic!("{description}: {problems}"));
            let feature = case["feature"].as_str().unwrap();
            let Some(route) = imported.routes.get(feature) else {
                match imported.losses.iter().find(|loss| loss.flag == feature && loss.extent == Extent::Flag)
                {
                    Some(loss) => others.push(format!("{description}: {}", loss.reason)),
                    // Nobody defined it, and it has no value.
                    None if case["value"].is_null() => held += 1,
                    None => others.push(format!("{description}: lost without a word")),
                }
                continue;
            };
            let mut context: RequestContext = serde_json::from_value(case["context"].clone()).unwrap();
            context.route.clone_from(route);
            let bundle = bundle(&imported.source);
            let decision = bundle.decide(&context, 0, &[]).unwrap_or_else(|_| panic!("{description}"));
            let value: Value = decision.variant().payload.map(json).unwrap_or_default();
            if value == case["value"] {
                held += 1;
            } else {
                others.push(format!("{description}: {value}, not {}", case["value"]));
            }
        }
    }
    insta::assert_snapshot!(format!("{held} hold\n{}", others.join("\n")), @r#"
    231 hold
    features, force rules - coverage with bad hash version: the hash version 99 is unknown
    features, Prerequisite flag missing, block dependent flag: there is no feature `parentFlag`
    features, Prerequisite cycle detected, break: its prerequisites ask for it in turn
    conditions, comparing numbers and strings: false, not true
    conditions, comparing numbers and strings - v2: "5" is no number, and texts have no order
    conditions, $regexi - pass (case insensitive match): a regular expression that ignores case
    conditions, $regexi - pass (uppercase pattern, lowercase value): a regular expression that ignores case
    conditions, $regexi - fail: a regular expression that ignores case
    conditions, $notRegex - pass: `$notRegex` is no test that a policy has
    conditions, $notRegex - fail: `$notRegex` is no test that a policy has
    conditions, $notRegexi - pass: `$notRegexi` is no test that a policy has
    conditions, $notRegexi - fail: `$notRegexi` is no test that a policy has
    conditions, $gt/$lt strings - fail $gt: "alphabet" is no number, and texts have no order
    conditions, $gt/$lt strings - fail $lt: "alphabet" is no number, and texts have no order
    conditions, $gt/$lt strings - pass: "alphabet" is no number, and texts have no order
    conditions, $gt/$lt strings - fail uppercase: "alphabet" is no number, and texts have no order
    conditions, $type string - pass: `$type` is no test that a policy has
    conditions, $type string - fail: `$type` is no test that a policy has
    conditions, $type null - pass: `$type` is no test that a policy has
    conditions, $type null - fail: `$type` is no test that a policy has
    conditions, $type boolean - pass: `$type` is no test that a policy has
    conditions, $type boolean - fail: `$type` is no test that a policy has
    conditions, $type number - pass: `$type` is no test that a policy has
    conditions, $type number - fail: `$type` is no test that a policy has
    conditions, $type object - fail: `$type` is no test that a policy has
    conditions, $type array - fail: `$type` is no test that a policy has
    conditions, unknown operator - pass: `$regx` is no test that a policy has
    conditions, $regex invalid - pass: `/???***[)` is no regular expression that can be used: unclosed character class (at character 8)
    conditions, $regex invalid - fail: `/???***[)` is no regular expression that can be used: unclosed character class (at character 8)
    conditions, $size number - fail not array: `$size` is no test that a policy has
    conditions, $elemMatch nested - fail not array: `$elemMatch` is no test that a policy has
    conditions, $all - fail not array: `$all` is no test that a policy has
    conditions, equals array - fail type mismatch: an attribute is compared with a list or an object
    conditions, equals object - fail type mismatch: an attribute is compared with a list or an object
    conditions, version v0.0.0 > 0.0.0-foo: false, not true
    conditions, version v0.0.1 > 0.0.0: false, not true
    conditions, version v1.0.0 > 0.9.9: false, not true
    conditions, version v0.10.0 > 0.9.0: false, not true
    conditions, version v0.99.0 > 0.10.0: false, not true
    conditions, version v2.0.0 > 1.2.3: false, not true
    conditions, version a.b.c.d.e.f > 1.2.3: false, not true
    conditions, version 1-2-3 == 1.2.3: false, not true
    conditions, version 1-2-3 == 1-2.3+build99: "1-2.3+build99" is no complete semantic version
    conditions, version 1-2-3 == v1.2.3: false, not true
    conditions, version 1.2.3.4 == 1.2.3-4: false, not true
    conditions, $inGroup fails for improperly typed data: true, not false
    "#);
}
