//! The language as a whole: everything it can say, its schema, its reference page, and the way back to source.

use std::collections::BTreeSet;

use lockgate_policy::{Policy, check, lint, parse, reference, schema, write_source};
use proptest::prelude::*;
use serde_json::Value;

use crate::{checked, policy};

/// Everything that the language can say, at least once.
pub(crate) const EVERYTHING: &str = include_str!("everything.yaml");

const GUIDE: &str = include_str!("../../../../docs/policy.md");
const EXAMPLE: &str = include_str!("../../../../examples/eurusd/policy.yaml");

/// A committed file that is written from the table of the language. With `LOCKGATE_WRITE_DOCS=1` it is written anew.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "the committed pages are written from here, when asked to")]
fn is_current(name: &str, text: &str) {
    let path = format!("{}/../../docs/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("LOCKGATE_WRITE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(
        committed == text,
        "docs/{name} is not current: LOCKGATE_WRITE_DOCS=1 cargo test -p lockgate-policy --all-features --test policy language"
    );
}

#[test]
fn the_reference_page_is_current() {
    is_current("policy-reference.md", &reference());
}

#[test]
fn the_schema_is_current() {
    is_current("policy.schema.json", &schema());
}

fn validator() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    jsonschema::draft202012::meta::validate(&schema).unwrap_or_else(|error| panic!("{error}"));
    jsonschema::draft202012::new(&schema).unwrap_or_else(|error| panic!("{error}"))
}

/// YAML as the values that a validator sees.
fn values(source: &str) -> Value {
    serde_json::from_str(&lockgate_policy::read("policy.yaml", source).unwrap().to_json().unwrap()).unwrap()
}

fn example_of_the_guide() -> &'static str {
    let (_, rest) = GUIDE.split_once("```yaml\n").unwrap();
    rest.split_once("```").unwrap().0
}

#[test]
fn the_schema_accepts_policies() {
    let validator = validator();
    for (name, source) in
        [("everything", EVERYTHING), ("the guide", example_of_the_guide()), ("the example", EXAMPLE)]
    {
        let errors: Vec<String> = validator
            .iter_errors(&values(source))
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
        policy(source);
        let written: Value = serde_json::from_str(&write_source(&policy(source))).unwrap();
        assert!(validator.is_valid(&written), "what is written of {name}");
    }
}

/// Mistakes that an editor can show without the checker. Each is one for the checker, too.
#[test]
fn the_schema_refuses_mistakes() {
    let validator = validator();
    for (old, new) in [
        ("lockgate: 1\n", "lockgate: 2\n"),
        ("version: 3", "version: three"),
        ("reason: holidays", "reasons: holidays"),
        ("from: 2026-12-24T00:00:00Z", "from: 2026-12-24"),
        ("placement: edge", "placement: egde"),
        ("hash: unleash,", "hash: unlaesh,"),
        ("share: 5, unit: user", "share: 105, unit: user"),
        ("share: 5, unit: user", "unit: user"),
        ("enabled: true", "enabled: yes"),
        ("  eurusd-direction:\n", "  eurusd direction:\n"),
        ("users: [carol, chen], serve: canary", "users: [carol, chen], serve: [canary]"),
        ("user: alice, serve", "user: alice, symbol: EURUSD, serve"),
        ("if: { tier: premium }", "if: { tear: premium }"),
        ("if: { tier: premium }", "if: {}"),
        ("if: { tier: premium }", "if: { eq: premium }"),
        ("hold: 24h", "hold: 24"),
        ("hold: 24h", "hold: 24 h"),
        ("variants: [stable, canary], start", "variants: [stable], start"),
        ("rate: 50", "rate: 0.5"),
        ("bytes: 64KiB", "bytes: 64KB"),
        ("semver: \">=2.1.0 <3.0.0-0\"", "semver: \"2.1.0\""),
        ("weekdays: [mon, tue]", "weekdays: [Monday]"),
        ("offset: \"-05:00\"", "offset: EST"),
        ("unit: [tenant, { attribute: team }]", "unit: [tenant, team]"),
        ("model: eurusd_lr@1.0.0,", "model: eurusd_lr@v1,"),
    ] {
        assert!(EVERYTHING.contains(old), "{old}");
        let broken = EVERYTHING.replacen(old, new, 1);
        assert!(!validator.is_valid(&values(&broken)), "the schema admits {new}");
        assert!(checked("policy.yaml", &broken).is_err(), "the checker admits {new}");
    }
}

/// Every key that the schema knows is used in the policy that says everything.
#[test]
fn everything_is_everything() {
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    let definitions = schema["$defs"].as_object().unwrap();
    let properties = |value: &Value| -> Vec<String> {
        value["properties"].as_object().into_iter().flat_map(|keys| keys.keys().cloned()).collect()
    };
    let mut keys: Vec<String> =
        definitions.values().flat_map(&properties).chain(properties(&schema)).collect();
    keys.sort();
    keys.dedup();
    assert!(keys.len() > 90, "{}", keys.len());
    for key in keys {
        let used = [format!(" {key}:"), format!("\n{key}:"), format!("{{{key}:")];
        assert!(used.iter().any(|used| EVERYTHING.contains(used)), "`{key}` is not in everything.yaml");
    }
}

/// What the checker knows is what the table knows: a key that nobody reads would be ignored.
#[test]
fn every_key_is_read() {
    let mut seen = std::collections::BTreeSet::new();
    for (number, line) in EVERYTHING.lines().enumerate() {
        for (at, _) in line.match_indices(": ") {
            let key = line[..at].rsplit([' ', '{', '[', ',']).next().unwrap().trim_matches('"');
            if key.is_empty() || line.contains('#') || line[..at].matches('"').count() % 2 == 1 {
                continue;
            }
            // No value of any key may be a list of lists.
            let value_at = at + 2;
            let end = value_end(&line[value_at..]);
            if end == 0 || line[value_at..].starts_with(['|', '>', '&']) {
                continue;
            }
            let broken = format!("{}[[]]{}", &line[..value_at], &line[value_at + end..]);
            let text: Vec<&str> = EVERYTHING
                .lines()
                .enumerate()
                .map(|(other, text)| if other == number { broken.as_str() } else { text })
                .collect();
            if checked("policy.yaml", &text.join("\n")).is_ok() {
                // Payloads are anything.
                assert!(["payload", "threshold", "names"].contains(&key), "line {}: {broken}", number + 1);
            }
            seen.insert(key.to_owned());
        }
    }
    assert!(seen.len() > 80, "{seen:?}");
}

/// How long the flow value at the beginning of this text is.
fn value_end(text: &str) -> usize {
    let (mut depth, mut quoted) = (0, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '{' | '[' => depth += 1,
            '}' | ']' | ',' if depth == 0 => return at,
            '}' | ']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    text.trim_end().len()
}

#[track_caller]
fn comes_back(policy: &Policy) {
    let written = write_source(policy);
    let read = parse("written.json", &written).and_then(|source| check(&source));
    let read = read.unwrap_or_else(|problems| panic!("{problems}\n{written}"));
    assert_eq!(without_places(&read), without_places(policy), "{written}");
    assert_eq!(write_source(&read), written);
    // The same text is YAML.
    let yaml = parse("written.yaml", &written).and_then(|source| check(&source));
    let yaml = yaml.unwrap_or_else(|problems| panic!("{problems}\n{written}"));
    assert_eq!(without_places(&yaml), without_places(policy), "{written}");
}

/// A policy in words, without the places where it was written.
fn without_places(policy: &Policy) -> String {
    let words = format!("{policy:#?}");
    let mut kept = String::new();
    let mut skipping = None;
    for line in words.lines() {
        let indent = line.len() - line.trim_start().len();
        if let Some(from) = skipping {
            if indent == from {
                skipping = None;
            }
            continue;
        }
        match line.trim_start() {
            text if text.starts_with("origin: Origin") => skipping = Some(indent),
            text if text.starts_with("file: \"") => {}
            _ => {
                kept.push_str(line);
                kept.push('\n');
            }
        }
    }
    kept
}

#[test]
fn a_policy_comes_back_from_what_is_written() {
    comes_back(&policy(EVERYTHING));
    comes_back(&policy(example_of_the_guide()));
    comes_back(&policy(EXAMPLE));
    assert!(without_places(&policy(EVERYTHING)).len() > 10_000);
    assert!(!without_places(&policy(EVERYTHING)).contains("Position"));
}

/// Whatever text the source holds is in what is written: nothing that people wrote gets lost. What has a form of its own, such as
/// times and durations, is written in that form.
#[test]
fn no_text_is_lost() {
    let written = |text: &str| -> BTreeSet<String> {
        let mut texts = BTreeSet::new();
        texts_of(&serde_json::from_str(text).unwrap(), &mut texts);
        texts
    };
    let source = lockgate_policy::read("everything.yaml", EVERYTHING).unwrap().to_json().unwrap();
    let back = written(&write_source(&policy(EVERYTHING)));
    let lost: Vec<String> = written(&source).difference(&back).cloned().collect();
    let other_forms = [
        "16:00:00",                  // 16:00
        "2026-12-03T09:00:00Z",      // the `hold` before it
        "2027-12-24T00:00:00+01:00", // 2027-12-23T23:00:00Z
        "24h",                       // 1d
        "64KiB",                     // 65536
        "90s",                       // 1m30s
        "^1.2.3, ~0.4.5 !=1.3.0",    // its comparators
        "to",                        // the splits of its stages
    ];
    assert_eq!(lost, other_forms);
}

/// Every key and text of a document.
fn texts_of(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => into.extend([text.clone()]),
        Value::Array(items) => items.iter().for_each(|item| texts_of(item, into)),
        Value::Object(entries) => entries.iter().for_each(|(key, value)| {
            into.insert(key.clone());
            texts_of(value, into);
        }),
        _ => {}
    }
}

/// Times in which clocks stand still keep their reasons, each its own, also where they overlap.
#[test]
fn reasons_are_kept() {
    let source = "lockgate: 1\nfreezes:\n  - { from: 2026-12-25T00:00:00Z, until: 2026-12-27T00:00:00Z, reason: \"audit \\\"Q4\\\"\" }\n  - { from: 2026-12-24T00:00:00Z, until: 2026-12-26T00:00:00Z, reason: holidays }\n  - { from: 2027-01-01T00:00:00Z }\nroutes: {}\n";
    let policy = policy(source);
    let reasons: Vec<Option<&str>> = policy.freezes.iter().map(|freeze| freeze.reason.as_deref()).collect();
    assert_eq!(reasons, [Some("holidays"), Some("audit \"Q4\""), None]);
    comes_back(&policy);
}

/// Every piece of a policy that the guide shows, with around it what it leaves out.
#[test]
fn the_pieces_in_the_guide_are_right() {
    let variants = "variants: { stable: { model: a@1.0.0 }, canary: { model: b@1.0.0 }, forest-a: { model: c@1.0.0 } }\n    baseline: stable\n    default: { serve: stable }\n";
    let indented =
        |text: &str, by: &str| text.lines().map(|line| format!("{by}{line}\n")).collect::<String>();
    let mut pieces = 0;
    for (at, _) in GUIDE.match_indices("```yaml\n") {
        let piece = GUIDE[at..].trim_start_matches("```yaml\n").split_once("```").unwrap().0;
        let source = match piece.split_once(':').unwrap().0 {
            "lockgate" => piece.to_owned(),
            "if" => format!(
                "lockgate: 1\ntiers: [{{ name: free }}, {{ name: premium }}]\nsegments: {{ desk: {{}} }}\nroutes:\n  r:\n    {variants}    rules:\n      - name: x\n        serve: canary\n{}",
                indented(piece, "        ")
            ),
            "rules" => format!("lockgate: 1\nroutes:\n  r:\n    {variants}{}", indented(piece, "    ")),
            "segments" => format!("lockgate: 1\n{piece}routes: {{}}\n"),
            "layers" => format!("lockgate: 1\n{}", piece.replace("# …\n", variants)),
            "routes" => format!("lockgate: 1\ntiers: [{{ name: free }}, {{ name: premium }}]\n{piece}"),
            other => panic!("a piece about `{other}`"),
        };
        policy(&source);
        pieces += 1;
    }
    assert!(pieces >= 6, "{pieces}");
}

#[test]
fn the_examples_have_no_warnings() {
    for source in [example_of_the_guide(), EXAMPLE] {
        assert_eq!(lint(&policy(source)), []);
    }
}

/// Conditions of every kind, nested.
fn condition() -> impl Strategy<Value = String> {
    let text = || prop::sample::select(vec!["a", "b", "ü", "x y", "5", "\u{2028}", "\"", "\\"]);
    let quoted = move || text().prop_map(|text| serde_json::to_string(text).unwrap());
    let texts = move || {
        prop::collection::btree_set(quoted(), 1..4)
            .prop_map(|texts| format!("[{}]", texts.into_iter().collect::<Vec<_>>().join(", ")))
    };
    let one_or_more = move || prop_oneof![quoted(), texts()];
    let scalar = move || {
        prop_oneof![
            quoted(),
            any::<i32>().prop_map(|n| n.to_string()),
            Just("1.25e-3".to_owned()),
            any::<bool>().prop_map(|b| b.to_string())
        ]
    };
    let text_test = move || {
        prop_oneof![
            quoted().prop_map(|value| format!("eq: {value}")),
            quoted().prop_map(|value| format!("ne: {value}")),
            texts().prop_map(|values| format!("in: {values}")),
            texts().prop_map(|values| format!("not_in: {values}")),
            any::<bool>().prop_map(|there| format!("present: {there}")),
            one_or_more().prop_map(|values| format!("prefix: {values}")),
            one_or_more().prop_map(|values| format!("suffix: {values}")),
            one_or_more().prop_map(|values| format!("contains: {values}")),
            Just("matches: \"^a+$\"".to_owned()),
            Just("semver: \"~1.2.3\"".to_owned()),
        ]
    };
    let tests = move || {
        prop::collection::vec(text_test(), 1..4).prop_map(|tests| {
            let mut seen = std::collections::BTreeSet::new();
            let tests: Vec<String> = tests
                .into_iter()
                .filter(|test| seen.insert(test.split(':').next().unwrap().to_owned()))
                .collect();
            tests.join(", ")
        })
    };
    let field = || prop::sample::select(vec!["user", "symbol", "tenant", "session"]);
    let leaf = prop_oneof![
        (field(), quoted()).prop_map(|(field, value)| format!("{field}: {value}")),
        (field(), tests()).prop_map(|(field, tests)| format!("{field}: {{ {tests} }}")),
        (quoted(), tests()).prop_map(|(name, tests)| format!("attribute: {name}, {tests}")),
        (quoted(), scalar(), -5..5_i32).prop_map(|(name, value, bound)| format!(
            "attribute: {name}, in: [{value}], gt: {bound}, from: 2026-01-01T00:00:00.5Z"
        )),
        Just("segment: s".to_owned()),
        Just("tier: t".to_owned()),
        Just("bucket: { layer: l, from: 0.5, below: 10 }".to_owned()),
        Just("route: r, serves: a".to_owned()),
        Just("time: { from: 2026-01-01T00:00:00Z }".to_owned()),
        (0..1440_u32, 1..1440_u32, -720..720_i32, 1..128_u8).prop_map(|(from, length, offset, days)| {
            let clock = |minute: u32| format!("\"{:02}:{:02}\"", minute / 60 % 24, minute % 60);
            let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
            let days: Vec<&str> = (0..7).filter(|bit| days & (1 << bit) != 0).map(|bit| names[bit]).collect();
            let sign = if offset < 0 { '-' } else { '+' };
            let offset = format!("{sign}{:02}:{:02}", offset.abs() / 60, offset.abs() % 60);
            format!(
                "time: {{ daily: {{ from: {}, until: {} }}, weekdays: [{}], offset: \"{offset}\" }}",
                clock(from),
                clock(from + length),
                days.join(", ")
            )
        }),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let list = || prop::collection::vec(inner.clone(), 1..4);
        let joined = |parts: Vec<String>| {
            parts.iter().map(|part| format!("{{ {part} }}")).collect::<Vec<_>>().join(", ")
        };
        prop_oneof![
            list().prop_map(move |parts| format!("all: [{}]", joined(parts))),
            list().prop_map(move |parts| format!("any: [{}]", joined(parts))),
            inner.clone().prop_map(|part| format!("not: {{ {part} }}")),
            (inner.clone(), list())
                .prop_map(move |(one, parts)| format!("not: {{ {one} }}, any: [{}]", joined(parts))),
        ]
    })
}

/// What a step serves, of every kind.
fn serve() -> impl Strategy<Value = String> {
    let share = || {
        (0..=100_000_u32).prop_map(|share| (f64::from(share) / 1000.0, f64::from(100_000 - share) / 1000.0))
    };
    prop_oneof![
        Just("serve: a".to_owned()),
        share().prop_map(|(a, b)| format!("split: {{ b: {b}, a: {a} }}, unit: [symbol, {{ attribute: team }}]")),
        share().prop_map(|(a, b)| format!("split: {{ a: {a}, b: {b} }}, layer: l")),
        (0..50_u32, 1..50_u32).prop_map(|(a, b)| format!("weights: {{ a: {a}, c: 0, b: {b} }}, layer: f")),
        (0..=100_u32).prop_map(|a| format!("split: {{ b: {a}, a: {} }}, layer: u", 100 - a)),
        (share(), 1..10_000_u64, any::<bool>()).prop_map(|((a, b), minutes, automatic)| format!(
            "ramp: {{ to: b, start: 2026-12-01T09:00:00Z, automatic: {automatic}, approved_stage: 1, stages: [{{ share: {a}, hold: {minutes}m }}, {{ split: {{ a: {a}, c: {b} }} }}] }}"
        )),
        (1..=20_u32, 0..=100_u32).prop_map(|(share, a)| format!(
            "experiment: {{ layer: l, share: {share}, split: {{ a: {a}, b: {} }} }}", 100 - a
        )),
        (1..100_000_u64).prop_map(|window| format!(
            "switchback: {{ variants: [b, a], start: 2026-01-01T00:00:00Z, window: {window}ms, washout: 0s }}"
        )),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Source → policy → source → policy, on policies with random conditions and random serves.
    #[test]
    fn random_policies_come_back(
        when in condition(),
        rules in prop::collection::vec((condition(), serve()), 0..4),
        exclude in any::<bool>(),
    ) {
        let mut source = format!(
            "lockgate: 1
tiers: [{{ name: z }}, {{ name: t, users: [q] }}]
layers: {{ l: {{ holdout: 1 }}, f: {{ hash: flagd }}, u: {{ hash: unleash }} }}
segments: {{ s: {{ users: [p], if: {{ tenant: x }}{} }} }}
tenants: {{ \"a/%\": {{ routes: {{ own: {{ variants: {{ a: {{ model: m@1.0.0 }} }}, default: {{ serve: a }}, access: {{ {when} }} }} }} }} }}
routes:
  r: {{ variants: {{ a: {{ model: m@1.0.0 }} }}, default: {{ serve: a }} }}
  x:
    variants: {{ a: {{ model: m@1.0.0 }}, b: {{ model: n@1.0.0 }}, c: {{ model: n@1.1.0 }} }}
    default: {{ serve: a }}
    rules:
",
            if exclude { ", exclude: { segments: [n] } }, n: { symbols: [o]" } else { "" },
        );
        if rules.is_empty() {
            source.push_str("      []\n");
        }
        for (number, (condition, serve)) in rules.iter().enumerate() {
            source.push_str(&format!("      - {{ name: rule {number}, if: {{ {condition} }}, {serve} }}\n"));
        }
        let policy = policy(&source);
        comes_back(&policy);
        // Whatever the conditions, warnings come to an end, and each has a name.
        for warning in lint(&policy) {
            prop_assert!(warning.code.is_some(), "{warning}");
        }
    }
}
