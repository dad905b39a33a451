//! What is warned of is so: a step said to be never reached is never reached, and a share that nobody gets is never served.

use std::collections::BTreeMap;

use lockgate_policy::{Attribute, Bundle, CompileOptions, RequestContext, Step, compile, lint};

use crate::{arbitrary, checked, packages};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % u64::from(bound)) as u32
    }

    fn one<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len() as u32) as usize]
    }
}

const USERS: [&str; 6] = ["a", "b", "ab", "ba", "abb", "u"];
const SYMBOLS: [&str; 3] = ["X", "Y", "Z"];
const VERSIONS: [&str; 7] = ["1.0.0", "1.2.0", "1.2.0-rc", "1.9.9", "2.0.0", "2.0.0-0", "x"];
const MOMENTS: [&str; 3] = ["2026-01-01T00:00:00Z", "2026-01-05T00:00:00Z", "2026-01-09T00:00:00Z"];
const SHARES: [u32; 5] = [0, 25, 40, 50, 100];

/// A condition over so few subjects and values that contradictions and overlaps are frequent.
fn condition(random: &mut Random, depth: u32) -> String {
    if depth > 0 && random.below(3) == 0 {
        let (one, other) = (condition(random, depth - 1), condition(random, depth - 1));
        return match random.below(3) {
            0 => format!("{{ all: [{one}, {other}] }}"),
            1 => format!("{{ any: [{one}, {other}] }}"),
            _ => format!("{{ not: {one} }}"),
        };
    }
    let user = random.one(&USERS);
    let number = random.below(6);
    match random.below(15) {
        0 => format!("{{ user: {user} }}"),
        1 => format!("{{ user: {{ in: [{user}, c], ne: {} }} }}", random.one(&USERS)),
        2 => format!("{{ user: {{ present: {} }} }}", random.below(2) == 0),
        3 => format!("{{ user: {{ prefix: {user}, suffix: {} }} }}", random.one(&["a", "b"])),
        4 => format!(
            "{{ user: {{ matches: \"{}\" }} }}",
            random.one(&["^a", "b$", "a^b", "^(ab)+$", "^[ab]*$", "a|b", "^$", ""])
        ),
        5 => format!("{{ symbol: {{ in: [{}, {}W] }} }}", random.one(&SYMBOLS), random.one(&SYMBOLS)),
        6 => format!("{{ symbol: {} }}", random.one(&SYMBOLS)),
        7 => format!("{{ attribute: n, {}: {number} }}", random.one(&["lt", "lte", "gt", "gte", "eq", "ne"])),
        8 => format!("{{ attribute: n, gte: {number}, lt: {} }}", random.below(6)),
        9 => format!(
            "{{ attribute: v, semver: \"{}{}\" }}",
            random.one(&[">=", "<", "=", "!=", "^", "~", "<=", ">"]),
            random.one(&VERSIONS[..6])
        ),
        10 => format!("{{ segment: {} }}", random.one(&["s", "t"])),
        11 => format!("{{ time: {{ {}: {} }} }}", random.one(&["from", "until"]), random.one(&MOMENTS)),
        12 => "{ tier: high }".to_owned(),
        _ => {
            let (from, below) =
                random.one(&["0 25", "0 40", "25 50", "50 100", "0 100"]).split_once(' ').unwrap();
            let unit = random.one(&["user", "user", "symbol"]);
            format!("{{ bucket: {{ layer: x, unit: {unit}, from: {from}, below: {below} }} }}")
        }
    }
}

fn serve(random: &mut Random, is_rule: bool) -> String {
    let share = SHARES[random.below(5) as usize];
    let layer = random.one(&["layer: x, ", "", "unit: symbol, "]);
    let split = format!("{{ a: {share}, b: {}, c: 0 }}", 100 - share);
    match random.below(if is_rule { 6 } else { 4 }) {
        0 => format!("serve: {}", random.one(&["a", "b", "c"])),
        1 | 2 => format!("{layer}split: {split}"),
        3 => format!(
            "{layer}ramp: {{ from: a, to: b, start: 2026-01-04T00:00:00Z, approved_stage: {}, stages: [{{ share: {share}, hold: 1d }}, {{ split: {split} }}] }}",
            random.below(3)
        ),
        4 => "experiment: { layer: x, share: 20, split: { b: 50, c: 50 } }".to_owned(),
        _ => format!(
            "switchback: {{ variants: [a, b], start: 2026-01-02T00:00:00Z, end: {}, window: 1h }}",
            random.one(&MOMENTS[1..])
        ),
    }
}

fn source(random: &mut Random) -> String {
    let window = |random: &mut Random| match random.below(8) {
        0 => format!("from: {}, ", random.one(&MOMENTS)),
        1 => format!("until: {}, ", random.one(&MOMENTS)),
        _ => String::new(),
    };
    let mut text = format!(
        "lockgate: 1
tiers: [{{ name: low }}, {{ name: high, users: [{}], segments: [s] }}]
layers: {{ x: {{ holdout: {} }} }}
holdouts: {{ h: {{ share: {}, salt: {} }} }}
segments:
  s: {{ users: [a, b], exclude: {{ users: [{}] }} }}
  t: {{ symbols: [X], segments: [s], if: {} }}
routes:
  r:
    variants: {{ a: {{ model: m@1.0.0 }}, b: {{ model: n@1.0.0 }}, c: {{ model: o@1.0.0 }} }}
    baseline: {}
",
        random.one(&USERS),
        random.one(&["0", "20"]),
        random.one(&["0", "0", "0", "30", "100"]),
        random.one(&["x", "h"]),
        random.one(&USERS),
        condition(random, 0).replace("segment: t", "segment: s").replace("tier: high", "user: u"),
        random.one(&["a", "b"]),
    );
    if random.below(4) == 0 {
        text.push_str(&format!("    access: {}\n", condition(random, 1)));
    }
    if random.below(3) == 0 {
        text.push_str(&format!("    overrides: [{{ user: {}, serve: b }}]\n", random.one(&USERS)));
    }
    text.push_str("    test_groups:\n");
    for number in 0..1 + random.below(2) {
        let (window, serve) = (window(random), serve(random, false));
        let members =
            random.one(&["segments: [s]", "users: [a, ab]", "users: [b], symbols: [Y]", "segments: [t]"]);
        text.push_str(&format!("      - {{ name: g{number}, {members}, {window}{serve} }}\n"));
    }
    text.push_str("    symbol_rollouts:\n");
    for number in 0..1 + random.below(2) {
        let (window, serve) = (window(random), serve(random, false));
        let symbols = random.one(&["X", "Y", "X, Y"]);
        text.push_str(&format!("      - {{ name: s{number}, symbols: [{symbols}], {window}{serve} }}\n"));
    }
    text.push_str("    rules:\n");
    for number in 0..1 + random.below(5) {
        let serve = if number < 3 { serve(random, true) } else { serve(random, false) };
        let (window, condition) = (window(random), condition(random, 2));
        text.push_str(&format!("      - {{ name: r{number}, {window}if: {condition}, {serve} }}\n"));
    }
    let default = serve(random, false);
    text.push_str(&format!("    default: {{ {default} }}\n"));
    text
}

fn context(random: &mut Random) -> (RequestContext, i64) {
    let mut context = RequestContext::new("r");
    match random.below(4) {
        0 => {}
        1 => context.user = Some(format!("a{}", random.below(50))),
        _ => context.user = Some(random.one(&USERS).to_owned()),
    }
    match random.below(4) {
        0 => {}
        1 => context.symbol = Some(format!("{}W", random.one(&SYMBOLS))),
        _ => context.symbol = Some(random.one(&SYMBOLS).to_owned()),
    }
    match random.below(4) {
        0 => {}
        1 => drop(context.attributes.insert("n".into(), Attribute::Text("2".into()))),
        _ => drop(
            context.attributes.insert("n".into(), Attribute::Number(f64::from(random.below(14)) / 2.0 - 0.5)),
        ),
    }
    match random.below(4) {
        0 => {}
        _ => drop(context.attributes.insert("v".into(), Attribute::Text(random.one(&VERSIONS).into()))),
    }
    let now = crate::millis("2025-12-30") + i64::from(random.below(26)) * 43_200_000;
    (context, now)
}

/// What the warnings of a policy say is never served: the route, the step (none for the default), and the variant if that is all.
struct Never {
    warning: String,
    place: String,
    step: Option<String>,
    variant: Option<String>,
}

/// Reads the warnings; places are those of the source.
fn nevers(file: &str, source: &str, bundle: &mut Option<Bundle>) -> Vec<Never> {
    let policy = checked(file, source).unwrap_or_else(|problems| panic!("{problems}\n{source}"));
    let packages = packages(&policy);
    let compiled = compile(&policy, &CompileOptions { packages: &packages, ..Default::default() });
    *bundle = Some(crate::load_compiled(&compiled.unwrap()));
    // The names of the steps by their places.
    let mut steps: BTreeMap<String, String> = BTreeMap::new();
    for (key, route) in &policy.routes {
        let mut of = |section: &str, names: Vec<&str>| {
            for (index, name) in names.into_iter().enumerate() {
                let place = format!("{}.{section}[{index}]", route.origin.path);
                steps.insert(place, format!("{} {name}", key.layer_name()));
            }
        };
        for kind in lockgate_policy::GroupKind::ALL {
            of(kind.section(), route.groups_of(kind).map(|group| group.name.as_str()).collect());
        }
        of("rules", route.rules.iter().map(|rule| rule.name.as_str()).collect());
        steps.insert(format!("{}.default", route.origin.path), key.layer_name());
    }
    let mut found = Vec::new();
    for warning in lint(&policy) {
        let code = warning.code.clone().unwrap_or_default();
        if !["unreachable", "never-matches", "unreachable-share"].contains(&code.as_str()) {
            continue;
        }
        let Some((place, step)) = steps.iter().find(|(place, _)| {
            warning
                .path
                .strip_prefix(place.as_str())
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
        }) else {
            continue;
        };
        let of_share = code == "unreachable-share";
        let named = warning.message.split("share of the variant `").nth(1);
        let variant = named.and_then(|rest| rest.split('`').next()).map(str::to_owned);
        found.push(Never {
            warning: warning.to_string(),
            place: step.split(' ').next().unwrap_or_default().to_owned(),
            step: (!place.ends_with(".default")).then(|| step.split_once(' ').unwrap().1.to_owned()),
            variant: of_share.then(|| variant.unwrap_or_default()),
        });
    }
    found
}

/// Whether a decision is what a warning says never happens.
fn contradicts(never: &Never, decision: &lockgate_policy::Decision<'_>) -> bool {
    let matched = matches!(decision.step, Step::TestGroup | Step::SymbolRollout | Step::Rule | Step::Default);
    let route = decision.route();
    let key = lockgate_policy::RouteKey {
        name: route.name().to_owned(),
        scope: lockgate_policy::RouteScope {
            tenant: route.tenant().map(str::to_owned),
            user: route.user().map(str::to_owned),
        },
    };
    let here = matched && key.layer_name() == never.place && decision.rule() == never.step.as_deref();
    let by_default = decision.step == Step::Default;
    let served = match never.variant.as_deref() {
        None => true,
        Some("") => decision.bucket.is_some(),
        Some(variant) => decision.bucket.is_some() && decision.variant().name == variant,
    };
    here && by_default == never.step.is_none() && served
}

#[test]
fn what_is_warned_of_never_happens() {
    let mut warnings: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 0..1500_u64 {
        let mut random = Random(seed);
        let source = source(&mut random);
        let mut bundle = None;
        let nevers = nevers("policy.yaml", &source, &mut bundle);
        let Some(bundle) = bundle.filter(|_| !nevers.is_empty()) else { continue };
        for never in &nevers {
            let kind = if never.variant.is_some() { "shares" } else { "steps" };
            *warnings.entry(kind).or_default() += 1;
        }
        for _ in 0..400 {
            let (context, now) = context(&mut random);
            if let Ok(decision) = bundle.decide(&context, now, &[]) {
                for never in &nevers {
                    assert!(
                        !contradicts(never, &decision),
                        "seed {seed}: {}\n{context:?} {now}: {}\n{source}",
                        never.warning,
                        crate::words(&decision)
                    );
                }
            }
        }
    }
    assert!(warnings["steps"] > 800 && warnings["shares"] > 300, "{warnings:?}");
}

#[test]
fn what_is_warned_of_never_happens_in_any_policy() {
    let mut count = 0;
    for seed in 0..600_u64 {
        let source = arbitrary::policy(seed).to_string();
        let mut bundle = None;
        let nevers = nevers("p.json", &source, &mut bundle);
        count += nevers.len();
        let Some(bundle) = bundle.filter(|_| !nevers.is_empty()) else { continue };
        for n in 0..300 {
            let case = arbitrary::case(seed.wrapping_mul(1000) ^ n);
            if let Ok(decision) = bundle.decide(&case.context, case.now, &[]) {
                for never in &nevers {
                    assert!(
                        !contradicts(never, &decision),
                        "{}\n{}\n{source}",
                        never.warning,
                        crate::words(&decision)
                    );
                }
            }
        }
    }
    assert!(count > 50, "{count}");
}
