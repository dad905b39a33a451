//! Targets that take texts.

use lockgate_package::signing::{PrivateKey, PublicKey};
use lockgate_policy::{
    Algorithm, Attribute, Bundle, CompileOptions, ImportOptions, Models, RequestContext, System, check,
    compile, format_source, import as import_flags, parse, parse_cases, write_source,
};

use super::{compiled, decide_with, file_of, known_bundle, loaded};

pub(super) const FORMATS: &[&str] =
    &["# x\n", "\n\n", "{ ", " }", "[", "]", ", ", ": ", "\"", "'", "|\n", ">-\n", "\t"];

pub(super) const EXPRESSIONS: &[&str] = &[
    "\u{0}",
    "^",
    "$",
    ".",
    "|",
    "(",
    ")",
    "(?:",
    "[",
    "]",
    "[^",
    "-",
    "a-z",
    "*",
    "+",
    "?",
    "??",
    "{2}",
    "{1,3}",
    "{0,}",
    "\\d",
    "\\D",
    "\\w",
    "\\W",
    "\\s",
    "\\S",
    "\\n",
    "\\.",
    "\\x{e9}",
    "\\u00e9",
    "\n",
    "\r",
    "\u{b}",
    "é",
    "東",
    "٣",
    "\u{10FFFF}",
    "0",
    "_",
    "\\b",
    "&&",
    "(?i)",
];

pub(super) const VERSIONS: &[&str] = &[
    "\u{0}",
    "^",
    "~",
    "=",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    " ",
    ",",
    "\t",
    ".",
    "-",
    "+",
    "0",
    "1",
    "10",
    "01",
    "1.2.3",
    "0.0.1",
    "-0",
    "-rc.1",
    "-alpha",
    "+build.5",
    "18446744073709551615",
    "18446744073709551616",
    "--",
    "-1.a.B",
];

pub(super) const FLAGS: &[&str] = &[
    "flags",
    "state",
    "ENABLED",
    "DISABLED",
    "variants",
    "defaultVariant",
    "targeting",
    "if",
    "and",
    "or",
    "!",
    "==",
    "in",
    "<=",
    "var",
    "cat",
    "fractional",
    "sem_ver",
    "starts_with",
    "ends_with",
    "$flagd.flagKey",
    "$flagd.timestamp",
    "$evaluators",
    "$ref",
    "features",
    "strategies",
    "name",
    "parameters",
    "rollout",
    "stickiness",
    "groupId",
    "constraints",
    "contextName",
    "operator",
    "values",
    "IN",
    "NOT_IN",
    "STR_CONTAINS",
    "NUM_GT",
    "DATE_AFTER",
    "SEMVER_EQ",
    "REGEX",
    "segments",
    "dependencies",
    "weight",
    "override",
    "payload",
    "defaultValue",
    "rules",
    "condition",
    "force",
    "coverage",
    "weights",
    "hashAttribute",
    "hashVersion",
    "namespace",
    "ranges",
    "filters",
    "seed",
    "meta",
    "parentConditions",
    "savedGroups",
    "$in",
    "$not",
    "$regex",
    "$gt",
    "$exists",
    "$elemMatch",
    "$inGroup",
    "phase",
    "null",
    "true",
    "false",
    "-1",
    "0",
    "0.1",
    "1e999",
    "100",
    "18446744073709551616",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"\"",
    "\u{0}",
    "é",
];

pub(super) const CASES: &[&str] = &[
    "cases",
    "name",
    "now",
    "context",
    "route",
    "user",
    "symbol",
    "tenant",
    "session",
    "attributes",
    "for",
    "users",
    "symbols",
    "population",
    "prefix",
    "expect",
    "variant",
    "reason",
    "step",
    "rule",
    "bucket",
    "stage",
    "flags",
    "payload",
    "intended",
    "unknown_route",
    "unavailable",
    "shadows",
    "50 ± 1",
    "m@1.0.0",
    "{",
    "}",
    "[",
    "]",
    ": ",
    ", ",
    "- ",
    "\n",
    "null",
    "0",
    "-1",
    "1e999",
    "1000",
    "2026-03-01T00:00:00Z",
];

pub(super) const KEYS: &[&str] = &[
    "-----BEGIN ",
    "-----END ",
    "PUBLIC KEY-----",
    "PRIVATE KEY-----",
    "\n",
    "\r\n",
    " ",
    "=",
    "==",
    "MC",
    "AAAA",
];

/// Policy source and its layout, which is laid out as itself and means the same.
pub fn format(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let file = file_of(text);
    let out = match format_source(file, text) {
        Ok(out) => out,
        Err(problems) => {
            assert!(!problems.to_string().contains("defect"), "{problems}");
            return false;
        }
    };
    assert_eq!(format_source(file, &out).as_ref(), Ok(&out), "what is laid out changes again");
    let meaning = |text: &str| {
        parse(file, text).and_then(|source| check(&source)).map(|policy| write_source(&policy)).ok()
    };
    assert_eq!(meaning(text), meaning(&out), "the layout changed the meaning");
    true
}

/// A regular expression and texts, parted by NUL: the automaton finds what the crate `regex` finds.
pub fn matches(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let (pattern, texts) = text.split_once('\0').unwrap_or((text, ""));
    let Some(bundle) = condition(&format!(r#"{{"attribute":"x","matches":{}}}"#, json(pattern))) else {
        return false;
    };
    let peer = regex::Regex::new(&ascii_classes(pattern))
        .expect("an expression of the language is one of the crate");
    let plain: String = pattern.chars().filter(|c| !"^$.|()[]{}*+?\\".contains(*c)).collect();
    for text in texts.split('\0').chain(["", &plain, pattern]) {
        assert_eq!(holds(&bundle, text), peer.is_match(text), "{pattern:?} in {text:?}");
    }
    true
}

/// `\d`, `\w` and `\s` as the policy language has them: ASCII.
fn ascii_classes(pattern: &str) -> String {
    let mut out = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('d') => out.push_str("[0-9]"),
                Some('D') => out.push_str("[^0-9]"),
                Some('w') => out.push_str("[0-9A-Za-z_]"),
                Some('W') => out.push_str("[^0-9A-Za-z_]"),
                Some('s') => out.push_str(r"[\t-\r ]"),
                Some('S') => out.push_str(r"[^\t-\r ]"),
                other => out.extend(['\\'].into_iter().chain(other)),
            },
            _ => out.push(c),
        }
    }
    out
}

/// Comparators of versions and versions, parted by NUL: they hold where the crate `semver` orders so.
pub fn semver(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let (range, versions) = text.split_once('\0').unwrap_or((text, ""));
    let bundle = condition(&format!(r#"{{"attribute":"x","semver":{}}}"#, json(range)));
    let comparators = comparators(range);
    assert_eq!(bundle.is_some(), comparators.is_some(), "{range:?}");
    let (Some(bundle), Some(comparators)) = (bundle, comparators) else { return false };
    let bounds = comparators.iter().map(|(_, bound)| bound.to_string()).collect::<Vec<_>>();
    for version in versions.split('\0').chain(bounds.iter().map(String::as_str)) {
        let expected = match semver::Version::parse(version) {
            Ok(version) => comparators.iter().all(|(operator, bound)| {
                let order = version.cmp_precedence(bound);
                match *operator {
                    "=" => order.is_eq(),
                    "!=" => order.is_ne(),
                    "<" => order.is_lt(),
                    "<=" => order.is_le(),
                    ">" => order.is_gt(),
                    _ => order.is_ge(),
                }
            }),
            // The crate's numbers end at 64 bits, those of the specification do not.
            Err(_) if version.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > 19) => {
                continue;
            }
            Err(_) => false,
        };
        assert_eq!(holds(&bundle, version), expected, "{version:?} in {range:?}");
    }
    true
}

/// The comparators that `docs/policy-semantics.md` makes of a text.
fn comparators(text: &str) -> Option<Vec<(&'static str, semver::Version)>> {
    let mut out = Vec::new();
    for word in text.split([' ', ',', '\t']).filter(|word| !word.is_empty()) {
        let operators = [">=", "<=", "!=", ">", "<", "=", "^", "~"];
        let operator = operators.into_iter().find(|operator| word.starts_with(operator))?;
        let version = semver::Version::parse(&word[operator.len()..]).ok()?;
        let next = match (operator, version.major, version.minor) {
            ("^", 0, 0) => (0, 0, version.patch.checked_add(1)?),
            ("^", 0, minor) | ("~", 0, minor) => (0, minor.checked_add(1)?, 0),
            ("^", major, _) => (major.checked_add(1)?, 0, 0),
            ("~", major, minor) => (major, minor.checked_add(1)?, 0),
            _ => {
                out.push((operator, version));
                continue;
            }
        };
        out.push((">=", version));
        let mut end = semver::Version::new(next.0, next.1, next.2);
        end.pre = semver::Prerelease::new("0").ok()?;
        out.push(("<", end));
    }
    (!out.is_empty()).then_some(out)
}

/// Flags of another system, named by the first byte: what is imported is a policy, keeps its layout and decides.
pub fn import(data: &[u8]) -> bool {
    let Some((first, rest)) = data.split_first() else { return false };
    let Ok(text) = std::str::from_utf8(rest) else { return false };
    let system = System::ALL[usize::from(*first) % System::ALL.len()];
    let hash = system.hashes().get(usize::from(*first) / 8).copied();
    let models = Models::default().otherwise("m@1.0.0").expect("a model");
    let _ = Models::default().read(file_of(text), text);
    let options = ImportOptions { models, hash, ..ImportOptions::default() };
    let Ok(imported) = import_flags(system, file_of(text), text, &options) else { return false };
    let policy =
        parse("policy.yaml", &imported.source).and_then(|source| check(&source)).expect("an import checks");
    assert_eq!(policy.routes.len(), imported.routes.len(), "a route is listed or not there");
    let laid_out = format_source("policy.yaml", &imported.source).expect("an import can be laid out");
    let again = parse("policy.yaml", &laid_out).and_then(|source| check(&source)).expect("it still checks");
    assert_eq!(write_source(&again), write_source(&policy), "the layout changed an import");
    if let Ok(compiled) = compiled(&policy) {
        decide_with(&loaded(&compiled));
    }
    true
}

/// A file of cases, run against a bundle that is known.
pub fn cases(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(cases) = parse_cases(file_of(text), text) else { return false };
    // A population may have a million units, which is much for a fuzzer.
    if text.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > 4) {
        return true;
    }
    for result in cases.run(known_bundle()) {
        assert_eq!(result.passed(), result.failures.is_empty(), "a case passes without failures");
    }
    true
}

/// Keys in PEM; one that is read is written and read again as the same.
pub fn keys(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    if let Ok(key) = PublicKey::from_pem(text) {
        let written = key.to_pem().expect("a key is written");
        assert_eq!(PublicKey::from_pem(&written).map(|key| key.id()), Ok(key.id()), "another key is read");
        return true;
    }
    let Ok(key) = PrivateKey::from_pem(text) else { return false };
    let written = key.to_pem().expect("a key is written");
    let again = PrivateKey::from_pem(&written).map(|key| key.public().id());
    assert_eq!(again, Ok(key.public().id()), "another key is read");
    true
}

/// An algorithm, two weights, a salt and the one or two parts of a unit: the bucket is the one of `docs/profiles.md` and
/// `docs/hashing.md`, and the variant the one that has it.
pub fn bucket(data: &[u8]) -> bool {
    let Some((&[algorithm, first, second], rest)) = data.split_first_chunk() else { return false };
    let Ok(text) = std::str::from_utf8(rest) else { return false };
    let mut parts = text.splitn(3, '\0');
    let (Some(salt), Some(user)) = (parts.next(), parts.next()) else { return false };
    let symbol = parts.next();
    let algorithm = Algorithm::ALL[usize::from(algorithm) % Algorithm::ALL.len()];
    let (mut first, mut second) = (u32::from(first), u32::from(second));
    if !algorithm.takes_any_scale() {
        first = first * algorithm.scale() / 256;
        second = algorithm.scale() - first;
    }
    let split = match algorithm {
        Algorithm::Lockgate => r#""split":{"a":50,"b":50}"#.to_owned(),
        _ => format!(r#""weights":{{"a":{first},"b":{second}}}"#),
    };
    let unit = if symbol.is_some() { r#"["user","symbol"]"# } else { r#""user""# };
    let (name, quoted) = (algorithm.name(), json(salt));
    let source = format!(
        r#"{{"lockgate":1,"version":1,"layers":{{"l":{{"hash":"{name}","salt":{quoted}}}}},"routes":{{"r":{{
        "variants":{{"a":{{"model":"m@1.0.0"}},"b":{{"model":"m@2.0.0"}}}},
        "baseline":"a","default":{{"layer":"l","unit":{unit},{split}}}}}}}}}"#
    );
    let Some(bundle) = bundle_of(&source) else { return false };
    let context = RequestContext {
        route: "r".to_owned(),
        user: Some(user.to_owned()),
        symbol: symbol.map(str::to_owned),
        ..RequestContext::default()
    };
    let decision = bundle.decide(&context, 0, &[]).expect("there is the route");
    let parts: Vec<&str> = std::iter::once(user).chain(symbol).collect();
    let expected = super::hashes::bucket(algorithm, first + second, salt, &parts);
    if let Some(bucket) = decision.bucket {
        assert_eq!(bucket, expected, "{name} {salt:?} {parts:?}");
        if algorithm != Algorithm::Lockgate {
            assert_eq!(decision.variant().name == "a", bucket < first, "{name} {salt:?} {parts:?}");
        }
    }
    decision.bucket.is_some()
}

fn json(text: &str) -> String {
    serde_json::to_string(text).expect("a text")
}

/// A bundle that serves `a` where the condition holds.
fn condition(condition: &str) -> Option<Bundle> {
    bundle_of(&format!(
        r#"{{"lockgate":1,"version":1,"routes":{{"r":{{
        "variants":{{"a":{{"model":"m@1.0.0"}},"b":{{"model":"m@2.0.0"}}}},
        "rules":[{{"name":"x","if":{condition},"serve":"a"}}],"default":{{"serve":"b"}}}}}}}}"#
    ))
}

fn bundle_of(source: &str) -> Option<Bundle> {
    let policy = parse("policy.json", source).and_then(|source| check(&source)).ok()?;
    let options = CompileOptions { stand_ins: true, source: false, ..CompileOptions::default() };
    Some(loaded(&compile(&policy, &options).expect("a small policy compiles")))
}

fn holds(bundle: &Bundle, value: &str) -> bool {
    let mut context = RequestContext { route: "r".to_owned(), ..RequestContext::default() };
    context.attributes.insert("x".to_owned(), Attribute::Text(value.to_owned()));
    bundle.decide(&context, 0, &[]).expect("there is the route").variant().name == "a"
}

pub(super) fn format_seeds() -> Vec<Vec<u8>> {
    const COMMENTED: &str = "# top\nlockgate: 1\n\n\nroutes: # all\n  r: { variants: { a: { model: m@1.0.0 } }, default: { serve: a } }\n  # last\n  s:\n    variants:\n    - { a: b, # why\n        c: [ 1, 2 ] }\n    text: |\n      a\n       b\n";
    let route = "{ variants: { a: { model: m@1.0.0 } }, default: { serve: a } }";
    // The formatter refuses anchors.
    let plain = super::POLICY
        .replace("&r ", "")
        .replace("&s ", "")
        .replace("*r", route)
        .replace("*s", "{ inputs: [] }");
    vec![plain.into_bytes(), COMMENTED.as_bytes().to_vec()]
}

pub(super) fn matches_seeds() -> Vec<Vec<u8>> {
    [
        "^(a|é)[a-z0-9]{2,5}$\0abc\0éz9",
        "\\d+\\.\\w*?[^\\s-]|.$\x001.x\x00٣.\n",
        "(?:ab?c*){2,}[\\x{e9}-東]\0abcac東",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

pub(super) fn semver_seeds() -> Vec<Vec<u8>> {
    [
        "^1.2.3\x001.9.0\x002.0.0-rc.1\x002.0.0",
        "~0.4.1, !=0.4.2+b\x000.4.2\x000.4.3-x.7.z",
        ">=1.0.0-a.1 <18446744073709551615.0.0\x001.0.0-a.b",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

pub(super) fn cases_seeds() -> Vec<Vec<u8>> {
    const CASES: &str = "now: 2026-03-01T00:00:00Z
context: { route: r, attributes: { age: 6, app: 1.2.4 } }
cases:
  - { name: one, for: { users: [dana, alice], symbols: [EURCHF, X] }, expect: { variant: a, step: rule, rule: e, payload: { t: 0.5 }, flags: [holdout] } }
  - { name: gone, now: 0, context: { user: olga }, unavailable: [m@2.0.0], expect: { reason: SPLIT, stage: 1, intended: b, shadows: [sh], bucket: 7 } }
  - { name: most, population: { users: 100, prefix: u, expect: { a: 10 ± 1, b: 90 } } }
  - { name: none, context: { route: nowhere }, expect: unknown_route }
";
    vec![CASES.as_bytes().to_vec()]
}

pub(super) fn import_seeds() -> Vec<Vec<u8>> {
    [
        (0, include_str!("../../../tests/profiles/import/flagd.source.json")),
        (1, include_str!("../../../tests/profiles/import/unleash.source.json")),
        (2, include_str!("../../../tests/profiles/import/growthbook.source.json")),
    ]
    .map(|(system, text)| [&[system], text.as_bytes()].concat())
    .to_vec()
}

pub(super) fn keys_seeds() -> Vec<Vec<u8>> {
    let key = PrivateKey::from_seed(&[7; 32]);
    let texts = [
        key.to_pem().expect("a key is written").to_string(),
        key.public().to_pem().expect("a key is written"),
    ];
    texts.map(String::into_bytes).to_vec()
}

pub(super) fn bucket_seeds() -> Vec<Vec<u8>> {
    (0..Algorithm::ALL.len() as u8)
        .map(|algorithm| [&[algorithm, 90, 10], "checkout\0Zoë".as_bytes()].concat())
        .chain([[&[1, 128, 128], "old\0日本語\0EURUSD".as_bytes()].concat()])
        .collect()
}
