//! Random policies, valid and with everything that the language has, and random cases for them.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::Case;

/// A policy in source form, and the seed that it was made from.
#[derive(Clone)]
pub(crate) struct Arbitrary {
    pub(crate) seed: u64,
    pub(crate) source: Value,
}

/// A failure names the seed and the source as it would be written, not as a tree.
impl std::fmt::Debug for Arbitrary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "seed {}: {}", self.seed, self.source)
    }
}

pub(crate) fn policies() -> impl Strategy<Value = Arbitrary> {
    any::<u64>().prop_map(|seed| Arbitrary { seed, source: policy(seed) })
}

/// The policy of a seed.
pub(crate) fn policy(seed: u64) -> Value {
    Generator { random: Random(seed), routes: Vec::new() }.policy()
}

/// A case of a seed; any policy of this module can be asked.
pub(crate) fn case(seed: u64) -> Case {
    let mut random = Random(seed);
    let mut case = crate::case("");
    let context = &mut case.context;
    context.route = random.one(&ROUTES).to_string();
    let text = |random: &mut Random, texts: &[&str]| random.often().then(|| random.one(texts).to_string());
    context.user =
        if random.often() { Some(format!("u{}", random.below(200))) } else { text(&mut random, &USERS) };
    context.symbol = text(&mut random, &SYMBOLS);
    context.tenant = text(&mut random, &TENANTS);
    context.session = text(&mut random, &["s-1", "s-2", ""]);
    context.variant = text(&mut random, &VARIANTS);
    for name in ATTRIBUTES {
        let value = match random.below(6) {
            0 => lockgate_policy::Attribute::Boolean(random.rarely()),
            1 => lockgate_policy::Attribute::Number(f64::from(random.below(40)) / 2.0 - 5.0),
            2 => lockgate_policy::Attribute::Text(
                random.one(&["2.1.0", "2.1.0-rc.1", "0.3.9", "x"]).to_string(),
            ),
            3 => lockgate_policy::Attribute::Text(random.one(&TIMES).to_string()),
            4 => lockgate_policy::Attribute::Text(random.one(&WORDS).to_string()),
            _ => continue,
        };
        context.attributes.insert(name.to_owned(), value);
    }
    case.now = match random.below(8) {
        0 => i64::MIN,
        1 => i64::MAX,
        _ => {
            crate::millis("2026-01-01")
                + i64::from(random.below(40)) * 43_200_000
                + i64::from(random.below(3))
        }
    };
    for model in MODELS {
        if random.rarely() {
            case.unavailable.push(lockgate_package::Digest::of(model.as_bytes()).0);
        }
    }
    case
}

const ROUTES: [&str; 5] = ["alpha", "beta", "gamma", "delta", "eps.ilon"];
const VARIANTS: [&str; 4] = ["stable", "canary", "b", "wild-card"];
const MODELS: [&str; 4] = ["m@1.0.0", "m@1.1.0", "n@2.0.0-rc.1", "o@1.0.0"];
const SEGMENTS: [&str; 4] = ["desk", "night", "outer", "rest"];
const USERS: [&str; 6] = ["u1", "u2", "Zoë", "日本", "with blank", "u%/"];
const SYMBOLS: [&str; 5] = ["EURUSD", "EURCHF", "GOLD", "x", ""];
const TENANTS: [&str; 3] = ["acme", "t/2", ""];
const TIERS: [&str; 3] = ["free", "plus", "premium"];
const LAYERS: [&str; 3] = ["pricing", "gb", "fd"];
const ATTRIBUTES: [&str; 3] = ["country", "version", "age"];
const WORDS: [&str; 5] = ["DE", "FR", "", "désolé", "prefix-DE"];
const TIMES: [&str; 3] = ["2026-01-02T00:00:00Z", "2026-01-10T12:00:00.5+02:00", "2026-02-01T00:00:00Z"];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: u32) -> u32 {
        (self.next() % u64::from(bound)) as u32
    }

    fn one<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len() as u32) as usize]
    }

    /// Some of these, in their order; at least one.
    fn some<'a>(&mut self, all: &[&'a str]) -> Vec<&'a str> {
        let one = self.below(all.len() as u32) as usize;
        let kept = all.iter().enumerate().filter(|(at, _)| *at == one || self.below(3) == 0);
        kept.map(|(_, text)| *text).collect()
    }

    /// Two times out of three.
    fn often(&mut self) -> bool {
        self.below(3) > 0
    }

    /// One time out of six.
    fn rarely(&mut self) -> bool {
        self.below(6) == 0
    }

    /// Numbers that add up to `whole`, in `parts` parts of which each is a multiple of `step`.
    fn parts(&mut self, whole: u32, parts: usize, step: u32) -> Vec<u32> {
        let mut cuts: Vec<u32> = (1..parts).map(|_| self.below(whole / step + 1) * step).collect();
        cuts.extend([0, whole]);
        cuts.sort_unstable();
        cuts.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

/// Thousandths of a percent as a number of percent.
fn percent(thousandths: u32) -> Value {
    serde_json::from_str(&format!("{}.{:03}", thousandths / 1000, thousandths % 1000)).unwrap()
}

struct Generator {
    random: Random,
    /// The routes that may be asked for by those that come.
    routes: Vec<(&'static str, Vec<&'static str>)>,
}

/// Where a step stands, which decides what it may serve.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Group,
    Rule,
    Default,
}

impl Generator {
    fn policy(mut self) -> Value {
        let mut root = json!({
            "lockgate": 1,
            "version": 1 + self.random.below(9),
            "tiers": [
                { "name": "free" },
                { "name": "plus", "tenants": ["acme"] },
                { "name": "premium", "users": ["u1", "Zoë"], "segments": ["desk"] },
            ],
            "layers": {
                "pricing": { "salt": self.random.one(&["pricing-2026", "é", "p"]), "unit": "user", "holdout": self.random.below(3) * 4 },
                "gb": { "hash": self.random.one(&["growthbook", "growthbook-v1", "unleash", "launchdarkly", "statsig"]), "salt": "gb" },
                "fd": { "hash": self.random.one(&["flagd", "flagd-legacy", "unleash-variants"]), "salt": "fd" },
            },
        });
        if self.random.often() {
            root["freezes"] = json!([{ "from": "2026-01-05T00:00:00Z", "until": "2026-01-06T12:00:00Z", "reason": "holidays" }]);
        }
        root["segments"] = self.segments();
        if self.random.often() {
            root["holdouts"] = json!({
                "year": { "share": 5, "unit": "user", "salt": "y" },
                "half": { "share": self.random.below(30), "unit": self.unit(), "routes": ["alpha"] },
            });
        }
        let mut routes = Map::new();
        let count = 1 + self.random.below(4) as usize;
        for name in ROUTES.into_iter().take(count) {
            let route = self.route(true);
            let variants = route["variants"].as_object().unwrap().keys();
            let variants =
                VARIANTS.into_iter().filter(|name| variants.clone().any(|have| have == name)).collect();
            routes.insert(name.to_owned(), route);
            self.routes.push((name, variants));
        }
        root["routes"] = routes.into();
        // Definitions in other scopes ask no routes, so that nobody asks in a circle.
        self.routes.clear();
        if self.random.often() {
            root["tenants"] = json!({
                "acme": { "routes": { "alpha": self.route(false) }, "users": { "u1": { "routes": { "alpha": self.route(false), "delta": self.route(false) } } } },
                "t/2": { "routes": { "beta": self.route(false) } },
            });
        }
        if self.random.often() {
            root["users"] = json!({ "u%/": { "routes": { "alpha": self.route(false) } } });
        }
        root
    }

    fn segments(&mut self) -> Value {
        let mut segments = Map::new();
        for (at, name) in SEGMENTS.into_iter().enumerate() {
            let mut segment = self.members(&SEGMENTS[..at]);
            if self.random.often() {
                segment["if"] = self.leaf(&SEGMENTS[..at], false);
            }
            if self.random.often() {
                segment["exclude"] = self.members(&SEGMENTS[..at]);
            }
            segments.insert(name.to_owned(), segment);
        }
        segments.into()
    }

    fn members(&mut self, segments: &[&str]) -> Value {
        let mut members = Map::new();
        if self.random.often() || segments.is_empty() {
            let mut users = self.random.some(&USERS).into_iter().map(str::to_owned).collect::<Vec<_>>();
            if self.random.rarely() {
                users.extend((10..60).map(|n| format!("u{n}")));
            }
            members.insert("users".to_owned(), json!(users));
        }
        if self.random.rarely() {
            members.insert("symbols".to_owned(), json!(["EURUSD", "GOLD"]));
        }
        if self.random.rarely() {
            members.insert("tenants".to_owned(), json!(["acme"]));
        }
        if !segments.is_empty() && self.random.often() {
            members.insert("segments".to_owned(), json!(self.random.some(segments)));
        }
        if members.is_empty() {
            members.insert("sessions".to_owned(), json!(["s-1"]));
        }
        members.into()
    }

    fn unit(&mut self) -> Value {
        match self.random.below(8) {
            0 => json!("symbol"),
            1 => json!("tenant"),
            2 => json!("session"),
            3 => json!(["tenant", "user"]),
            4 => json!({ "attribute": "country" }),
            5 => json!(["symbol", { "attribute": "version" }, "session"]),
            _ => json!("user"),
        }
    }

    /// One test, or a combination of few.
    fn condition(&mut self) -> Value {
        match self.random.below(8) {
            0 => json!({ "all": [self.leaf(&SEGMENTS, true), self.leaf(&SEGMENTS, true)] }),
            1 => json!({ "any": [self.leaf(&SEGMENTS, true), { "not": self.leaf(&SEGMENTS, true) }] }),
            2 => json!({ "not": { "any": [self.leaf(&SEGMENTS, true), self.leaf(&SEGMENTS, true)] } }),
            _ => self.leaf(&SEGMENTS, true),
        }
    }

    /// A test. In a segment, only of segments before it, and of no tier.
    fn leaf(&mut self, segments: &[&str], in_route: bool) -> Value {
        let random = &mut self.random;
        match random.below(if in_route { 20 } else { 16 }) {
            0 => json!({ "user": random.one(&USERS) }),
            1 => {
                json!({ "symbol": { "in": random.some(&["EURUSD", "EURCHF", "GOLD", "A", "B", "C", "D", "E", "F", "G"]) } })
            }
            2 => json!({ "user": { "prefix": random.some(&["u1", "Z", "日"]), "ne": "u1" } }),
            3 => json!({ "symbol": { "suffix": random.one(&["USD", "D", "F"]) } }),
            4 => json!({ "user": { "contains": random.some(&["o", "本", "1", " "]) } }),
            5 => {
                json!({ "user": { "matches": random.one(&["^u[0-9]*[05]$", "ë|本$", "(1|2){2}", "[^a-z0-9]"]) } })
            }
            6 => {
                json!({ "attribute": "version", "semver": random.one(&[">=2.0.0", "^0.3.0", "~2.1.0 !=2.1.1", "<2.1.0"]) })
            }
            7 => json!({ "attribute": "age", "gte": random.below(9), "lt": 12.5 }),
            8 => json!({ "attribute": "country", "in": ["DE", 5, true, ""] }),
            9 => json!({ "attribute": random.one(&ATTRIBUTES), "present": random.often() }),
            10 => json!({ "attribute": "version", "from": random.one(&TIMES) }),
            11 => {
                json!({ "time": { "from": random.one(&TIMES), "weekdays": ["mon", "fri", "sun"], "offset": "+05:30" } })
            }
            12 => {
                json!({ "time": { "daily": { "from": "22:00", "until": random.one(&["06:00", "23:30:15"]) } } })
            }
            13 => {
                let from = random.below(100);
                let below = from + 1 + random.below(100 - from);
                json!({ "bucket": { "layer": random.one(&LAYERS), "unit": "user", "from": from, "below": below } })
            }
            14 | 15 if !segments.is_empty() => json!({ "segment": random.one(segments) }),
            16 => json!({ "tier": random.one(&TIERS) }),
            17..=19 if !self.routes.is_empty() => {
                let at = random.below(self.routes.len() as u32) as usize;
                let (route, variants) = &self.routes[at];
                json!({ "route": route, "serves": random.some(variants) })
            }
            _ => json!({ "tenant": { "not_in": ["acme", "t/2"] } }),
        }
    }

    fn window(&mut self, step: &mut Value) {
        if self.random.rarely() {
            step["from"] = json!("2026-01-03T00:00:00Z");
        }
        if self.random.rarely() {
            step["until"] = json!("2026-01-12T00:00:00Z");
        }
    }

    fn route(&mut self, platform: bool) -> Value {
        let count = 2 + self.random.below(3) as usize;
        let variants = &VARIANTS[..count];
        let mut entries = Map::new();
        for name in variants {
            let mut variant = json!({ "model": self.random.one(&MODELS) });
            if self.random.rarely() {
                variant["payload"] = json!({ "threshold": 0.5, "note": "ü", "list": [1, null, true] });
            }
            if self.random.rarely() {
                variant["enabled"] = json!(false);
            }
            if self.random.rarely() {
                variant["fallbacks"] =
                    json!(variants.iter().filter(|other| *other != name).collect::<Vec<_>>());
            }
            entries.insert((*name).to_owned(), variant);
        }
        let mut route = json!({
            "variants": entries,
            "baseline": self.random.one(variants),
            "unit": self.unit(),
            "enabled": !self.random.rarely(),
        });
        if self.random.rarely() {
            route["access"] = if platform { self.condition() } else { self.leaf(&SEGMENTS, false) };
        }
        if self.random.often() {
            route["description"] = json!("what it is for");
        }
        if self.random.rarely() {
            route["salt"] = json!(self.random.one(&["salt", "é"]));
        }
        if self.random.often() {
            route["fallbacks"] = json!(self.random.some(variants));
        }
        if self.random.often() {
            route["overrides"] = json!([
                { "user": "u2", "serve": self.random.one(variants) },
                { "symbols": ["GOLD", "x"], "serve": self.random.one(variants) },
                { "users": ["u4", "u3"], "serve": self.random.one(variants) },
            ]);
        }
        if self.random.often() {
            let mut request = self.members(&SEGMENTS);
            request["name"] = json!("desk request");
            request["variants"] = json!(self.random.some(variants));
            route["requests"] = json!([request]);
        }
        for (key, symbols) in [("test_groups", false), ("symbol_rollouts", true)] {
            let mut steps = Vec::new();
            for number in 0..self.random.below(3) {
                let mut step = if symbols {
                    json!({ "symbols": ["EURUSD", "EURCHF"] })
                } else {
                    self.members(&SEGMENTS)
                };
                step["name"] = json!(format!("{key} {number}"));
                self.window(&mut step);
                self.serve(&mut step, variants, Place::Group, number);
                steps.push(step);
            }
            route[key] = json!(steps);
        }
        let mut rules = Vec::new();
        for number in 0..self.random.below(4) {
            let mut rule = json!({ "name": format!("rule {number}"), "if": self.condition() });
            self.window(&mut rule);
            self.serve(&mut rule, variants, Place::Rule, number);
            rules.push(rule);
        }
        route["rules"] = json!(rules);
        let mut default = json!({});
        self.serve(&mut default, variants, Place::Default, 0);
        route["default"] = default;
        if self.random.often() {
            let mut shadow = json!({ "name": "shadow", "variant": self.random.one(variants), "sample": self.random.below(101), "unit": self.unit() });
            if self.random.often() {
                shadow["if"] = self.condition();
            }
            self.window(&mut shadow);
            let every = json!({ "name": "every", "variant": self.random.one(variants), "limits": { "rate": 3, "concurrency": 1, "bytes": "64KiB", "deadline": "200ms" } });
            route["shadows"] = json!([shadow, every]);
        }
        if self.random.often() {
            route["records"] = json!(self.random.below(101));
        }
        route
    }

    fn split(&mut self, variants: &[&str], whole: u32, step: u32) -> Value {
        let widths = self.random.parts(whole, variants.len(), step);
        variants
            .iter()
            .zip(widths)
            .map(|(name, width)| ((*name).to_owned(), percent(width)))
            .collect::<Map<_, _>>()
            .into()
    }

    fn serve(&mut self, step: &mut Value, variants: &[&str], place: Place, number: u32) {
        match self.random.below(9) {
            0 | 1 => step["serve"] = json!(self.random.one(variants)),
            2 => {
                step["layer"] = json!("gb");
                step["split"] = self.split(variants, 100_000, 1000);
            }
            3 => {
                step["layer"] = json!("fd");
                let mut weights: Map<String, Value> =
                    variants.iter().map(|name| ((*name).to_owned(), self.random.below(9).into())).collect();
                weights.insert(variants[0].to_owned(), 1.into());
                step["weights"] = weights.into();
            }
            4 | 5 => {
                step["ramp"] = self.ramp(variants);
                if self.random.rarely() {
                    step["unit"] = self.unit();
                }
            }
            6 if place == Place::Rule => {
                // Few enough that all experiments of a policy fit into their layer: at most 3 rules of 9 definitions.
                let split = self.split(variants, 100_000, 10_000);
                step["experiment"] = json!({ "layer": "pricing", "share": 1 + number, "split": split });
            }
            7 if place != Place::Default => {
                step["switchback"] = json!({
                    "variants": variants, "start": "2026-01-02T00:00:00Z", "window": "4h", "washout": self.random.one(&["0s", "15m"]),
                });
                if self.random.often() {
                    step["switchback"]["seed"] = json!("seed");
                    step["switchback"]["end"] = json!("2026-01-14T00:00:00Z");
                    step["unit"] = self.unit();
                }
            }
            _ => {
                step["split"] = self.split(variants, 100_000, 1);
                if self.random.rarely() {
                    step["unit"] = self.unit();
                }
                if self.random.rarely() {
                    step["layer"] = json!("pricing");
                }
            }
        }
    }

    fn ramp(&mut self, variants: &[&str]) -> Value {
        let mut ramp = json!({ "start": "2026-01-02T00:00:00Z", "from": self.random.one(variants) });
        if self.random.often() {
            ramp["approved_stage"] = json!(self.random.below(4));
        } else {
            ramp["automatic"] = json!(true);
        }
        if self.random.often() {
            ramp["pauses"] = json!([{ "from": "2026-01-03T00:00:00Z", "until": "2026-01-04T06:00:00Z" }]);
            if self.random.rarely() {
                ramp["pauses"].as_array_mut().unwrap().push(json!({ "from": "2026-01-20T00:00:00Z" }));
            }
        }
        let from = ramp["from"].as_str().unwrap_or_default().to_owned();
        let others: Vec<&str> = variants.iter().copied().filter(|name| *name != from).collect();
        if self.random.often() {
            ramp["to"] = json!(self.random.one(&others));
            ramp["stages"] = json!([
                { "share": 10, "hold": "24h" },
                { "share": percent(10_000 + self.random.below(50_000)), "hold": "2d" },
                { "share": 100, "start": "2026-01-15T00:00:00Z" },
            ]);
            if let Some(hold) = ramp["stages"][1].as_object_mut() {
                hold.remove("hold");
            }
        } else {
            let stages: Vec<Value> = ["1d", "1h30m", ""]
                .iter()
                .map(|hold| {
                    let mut stage = json!({ "split": self.split(variants, 100_000, 10) });
                    if !hold.is_empty() {
                        stage["hold"] = json!(hold);
                    }
                    stage
                })
                .collect();
            ramp["stages"] = json!(stages);
        }
        ramp
    }
}
