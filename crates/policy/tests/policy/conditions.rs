use crate::{bundle, decided};

/// Compiles a rule with this condition and says whether it matches each context.
#[track_caller]
fn check(condition: &str, matching: &[&str], others: &[&str]) {
    let bundle = bundle(&format!(
        "
lockgate: 1
tiers:
  - {{ name: free }}
  - {{ name: plus, tenants: [acme], users: [pat] }}
  - {{ name: premium, users: [pia], segments: [night] }}
segments:
  desk: {{ users: [dana], tenants: [acme] }}
  all-desks: {{ segments: [desk, night] }}
  night: {{ sessions: [night] }}
  but: {{ users: [eve, dana, fay], if: {{ attribute: country, eq: DE }}, exclude: {{ users: [eve], segments: [night], symbols: [GOLD] }} }}
  paying: {{ if: {{ tier: plus }} }}
layers:
  named: {{ salt: salty, unit: symbol }}
  foreign: {{ hash: growthbook, salt: gb }}
routes:
  other:
    variants: {{ a: {{ model: a@1.0.0 }}, b: {{ model: b@1.0.0 }} }}
    access: {{ not: {{ user: nosy }} }}
    overrides: [{{ user: bea, serve: b }}]
    requests: [{{ name: anyone, users: [rita], variants: [b] }}]
    fallbacks: [b]
    default: {{ serve: a }}
  r:
    variants: {{ no: {{ model: m@1.0.0 }}, yes: {{ model: m@1.0.0 }} }}
    rules: [{{ name: tested, if: {condition}, serve: yes }}]
    default: {{ serve: no }}
"
    ));
    for (contexts, expected) in [(matching, "yes TARGETING_MATCH"), (others, "no DEFAULT")] {
        for words in contexts {
            let found = decided(&bundle, &format!("r {words}"));
            assert!(found.starts_with(expected), "{condition} for {words}: {found}");
        }
    }
}

#[test]
fn fields() {
    check("{ user: alice }", &["user=alice"], &["", "user=", "user=Alice", "user=alice␣", "symbol=alice"]);
    check("{ symbol: { eq: EURUSD } }", &["symbol=EURUSD"], &["symbol=EUR", "user=EURUSD"]);
    check("{ tenant: { ne: acme } }", &["tenant=other", "", "tenant="], &["tenant=acme"]);
    check("{ session: { in: [a, b] } }", &["session=a", "session=b"], &["session=c", ""]);
    check("{ session: { not_in: [a, b] } }", &["session=c", ""], &["session=a"]);
    check("{ user: { present: true } }", &["user=x"], &["", "user="]);
    check("{ user: { present: false } }", &["", "user="], &["user=x"]);
    check("{ user: { present: true, ne: alice } }", &["user=bob"], &["", "user=alice"]);
    check("{ user: Zoë }", &["user=Zoë"], &["user=Zoe\u{308}"]);
}

#[test]
fn more_values_than_are_compared_one_by_one() {
    let symbols: Vec<String> = (0..40).map(|n| format!("S{n}")).collect();
    let condition = format!("{{ symbol: {{ in: {symbols:?} }} }}");
    check(&condition, &["symbol=S0", "symbol=S17", "symbol=S39"], &["symbol=S40", "symbol=S", "symbol=", ""]);
}

#[test]
fn attributes() {
    check(
        "{ attribute: country, eq: DE }",
        &["country=DE"],
        &["country=FR", "country=5", "country=true", ""],
    );
    check("{ attribute: age, eq: 5 }", &["age=5", "age=5.0"], &["age=\"5\"", "age=6", "age=NaN", ""]);
    check("{ attribute: zero, eq: 0 }", &["zero=0", "zero=-0"], &["zero=1e-300"]);
    check("{ attribute: beta, eq: true }", &["beta=true"], &["beta=false", "beta=\"true\"", "beta=1", ""]);
    check(
        "{ attribute: x, in: [a, 5, true] }",
        &["x=a", "x=5", "x=true"],
        &["x=b", "x=\"5\"", "x=false", ""],
    );
    check("{ attribute: x, not_in: [a, 5] }", &["x=b", "x=\"5\"", ""], &["x=a", "x=5"]);
    check("{ attribute: x, ne: 1e3 }", &["x=1", "x=\"1000\"", "", "x=NaN"], &["x=1000"]);
    check("{ attribute: x, eq: \"\" }", &["x=\"\""], &["", "x=0", "x=false"]);
    check(
        "{ attribute: age, gte: 18, lt: 65 }",
        &["age=18", "age=64.9"],
        &["age=17.9", "age=65", "age=NaN", "", "age=\"20\""],
    );
    check("{ attribute: age, gt: -1.5 }", &["age=-1.4", "age=inf"], &["age=-1.5", "age=\"3\"", "age=true"]);
    check("{ attribute: age, lte: 0x10 }", &["age=16"], &["age=17"]);
    check("{ attribute: x, present: true }", &["x=a", "x=0", "x=false", "x=NaN", "x=\"\""], &["", "y=1"]);
    check("{ attribute: x, present: false }", &["", "y=1"], &["x=a"]);
    check("{ attribute: a.b, eq: x }", &["a.b=x"], &["a=x"]);
}

#[test]
fn parts_of_texts() {
    check("{ user: { prefix: al } }", &["user=al", "user=alice"], &["user=a", "user=Alice", "user=xal", ""]);
    check("{ user: { prefix: [al, bo] } }", &["user=bob", "user=alice"], &["user=carol"]);
    check("{ user: { suffix: ce } }", &["user=alice", "user=ce"], &["user=cel", ""]);
    check("{ symbol: { contains: RU } }", &["symbol=EURUSD", "symbol=RU"], &["symbol=EUUSD", ""]);
    check(
        "{ attribute: path, prefix: /a/, suffix: [.json, .txt] }",
        &["path=/a/b.json"],
        &["path=/a/b", "path=/b.json", "path=5"],
    );
    // By bytes: the second byte of `é` is not a character, but `é` begins with `é`.
    check("{ user: { contains: é } }", &["user=née"], &["user=ne\u{301}e", "user=n\u{e8}e"]);
}

#[test]
fn regular_expressions() {
    check(
        "{ symbol: { matches: \"^EUR(USD|CHF)$\" } }",
        &["symbol=EURUSD", "symbol=EURCHF"],
        &["symbol=EURUSDX", "symbol=eurusd", ""],
    );
    check("{ user: { matches: \"[0-9]{3}\" } }", &["user=a123b", "user=1234"], &["user=12a3", "user=٣٣٣"]);
    check("{ attribute: x, matches: \"^.$\" }", &["x=é", "x=\"🦀\""], &["x=ab", "x=5", "x=true", ""]);
    check("{ not: { user: { matches: a } } }", &["", "user=b"], &["user=cat"]);
}

#[test]
fn versions() {
    let version = |comparators: &str| format!("{{ attribute: v, semver: \"{comparators}\" }}");
    check(
        &version(">=2.1.0 <3.0.0-0"),
        &["v=2.1.0", "v=2.99.0", "v=2.2.0-rc.1", "v=2.1.0+build.5"],
        &["v=2.1.0-rc.1", "v=3.0.0", "v=3.0.0-rc.1", "v=2.1", "v=\"\"", "v=2", "v=true", ""],
    );
    check(&version("=1.2.3"), &["v=1.2.3", "v=\"1.2.3\""], &["v=1.2.4", "v=1.2.3-a"]);
    check(&version("!=1.2.3"), &["v=1.2.4"], &["v=1.2.3", "v=x", ""]);
    check(&version("^1.2.3"), &["v=1.2.3", "v=1.9.0"], &["v=1.2.2", "v=2.0.0", "v=2.0.0-0"]);
    check(&version("^0.2.3"), &["v=0.2.3", "v=0.2.9"], &["v=0.3.0", "v=0.2.2"]);
    check(&version("^0.0.3"), &["v=0.0.3"], &["v=0.0.4", "v=0.0.2"]);
    check(&version("~1.2.3"), &["v=1.2.3", "v=1.2.9"], &["v=1.3.0", "v=1.2.2"]);
    check(
        &version(">1.0.0-alpha"),
        &["v=1.0.0-alpha.1", "v=1.0.0-beta", "v=1.0.0"],
        &["v=1.0.0-alpha", "v=1.0.0-1"],
    );
    check(&version(">=1.0.0-2"), &["v=1.0.0-10", "v=1.0.0-a"], &["v=1.0.0-1"]);
}

#[test]
fn moments() {
    let moment = |tests: &str| format!("{{ attribute: t, {tests} }}");
    check(
        &moment("from: 2026-05-01T12:00:00Z"),
        &[
            "t=2026-05-01T12:00:00Z",
            "t=2026-05-01T15:00:00.001z",
            "t=1777636800000",
            "t=2026-05-01t14:00:00+02:00",
        ],
        &["t=2026-05-01T11:59:59.999Z", "t=2026-05-01", "t=x", "t=1777636799999.9", "t=NaN", "t=true", ""],
    );
    check(
        &moment("until: 2026-05-01T12:00:00Z"),
        &["t=2026-05-01T11:59:59.9999Z", "t=-inf"],
        &["t=2026-05-01T12:00:00Z", "t=2026-02-30T00:00:00Z", ""],
    );
}

#[test]
fn time() {
    check(
        "{ time: { from: 2026-05-01T12:00:00Z, until: 2026-05-02T00:00:00Z } }",
        &["@2026-05-01T12:00:00Z", "@2026-05-01T23:59:59.999Z"],
        &["@2026-05-01T11:59:59.999Z", "@2026-05-02T00:00:00Z", ""],
    );
    check(
        "{ time: { daily: { from: \"09:30\", until: \"16:00:00\" } } }",
        &["@2026-05-01T09:30:00Z", "@2026-05-01T15:59:59.999Z"],
        &["@2026-05-01T09:29:59Z", "@2026-05-01T16:00:00Z"],
    );
    check(
        "{ time: { daily: { from: \"22:00\", until: \"06:00\" }, offset: \"-05:00\" } }",
        &["@2026-05-01T03:00:00Z", "@2026-05-01T10:59:59Z"],
        &["@2026-05-01T02:59:59Z", "@2026-05-01T11:00:00Z"],
    );
    // 2026-05-01 is a Friday.
    check("{ time: { weekdays: [fri] } }", &["@2026-05-01"], &["@2026-04-30T23:59:59Z", "@2026-05-02"]);
    check(
        "{ time: { weekdays: [sat, sun], offset: \"+02:00\" } }",
        &["@2026-05-01T22:00:00Z", "@2026-05-03T21:59:59Z"],
        &["@2026-05-01T21:59:59Z", "@2026-05-03T22:00:00Z"],
    );
}

#[test]
fn buckets() {
    // `alice` has 36064 with the salt `eurusd-direction` (docs/hashing.md); these are others, so they are computed.
    let bucket = lockgate_policy::bucket("salty", ["EURUSD"]);
    let percent = |bucket: u32| format!("{}.{:03}", bucket / 1000, bucket % 1000);
    let slice = |from: u32, below: u32| {
        format!("{{ bucket: {{ layer: named, from: {}, below: {} }} }}", percent(from), percent(below))
    };
    check(&slice(bucket, bucket + 1), &["symbol=EURUSD"], &["user=EURUSD", ""]);
    check(&slice(0, bucket), &[], &["symbol=EURUSD"]);
    check(&slice(bucket + 1, 100_000), &[], &["symbol=EURUSD"]);
    check("{ bucket: { layer: named, unit: user, from: 0, below: 100 } }", &["user=x"], &["symbol=x", ""]);
    check("{ bucket: { layer: foreign, unit: user, from: 0, below: 100 } }", &["user=x"], &[""]);
    check("{ not: { bucket: { layer: named, from: 0, below: 100 } } }", &[""], &["symbol=x"]);
}

#[test]
fn tiers() {
    check("{ tier: free }", &["", "user=pat", "user=pia"], &[]);
    check("{ tier: plus }", &["user=pat", "tenant=acme", "user=pia", "session=night"], &["", "user=x"]);
    check("{ tier: premium }", &["user=pia", "session=night tenant=acme"], &["user=pat", "tenant=acme", ""]);
    check("{ not: { tier: plus } }", &["", "user=x"], &["user=pia"]);
    check("{ segment: paying }", &["user=pat", "user=pia"], &["", "user=x"]);
}

#[test]
fn other_routes() {
    let serves = |variants: &str| format!("{{ route: other, serves: {variants} }}");
    check(
        &serves("a"),
        &["", "user=x", "asks=b"],
        &["user=bea", "user=nosy", "-a@1.0.0", "user=rita asks=b"],
    );
    check(&serves("[b]"), &["user=bea", "-a@1.0.0", "user=rita asks=b"], &["", "user=nosy"]);
    check(&serves("[a, b]"), &["", "user=bea", "-a@1.0.0 -b@1.0.0"], &["user=nosy"]);
    check(&format!("{{ not: {} }}", serves("[a, b]")), &["user=nosy"], &[""]);
}

#[test]
fn combinations() {
    check("{ all: [{ user: a }, { symbol: b }] }", &["user=a symbol=b"], &["user=a", "symbol=b", ""]);
    check(
        "{ any: [{ user: a }, { symbol: b }] }",
        &["user=a", "symbol=b", "user=x symbol=b"],
        &["user=b", ""],
    );
    check("{ not: { user: a } }", &["user=b", ""], &["user=a"]);
    check("{ user: a, symbol: b }", &["user=a symbol=b"], &["user=a", "symbol=b"]);
    check("{ user: a, attribute: x, eq: 1 }", &["user=a x=1"], &["user=a", "x=1"]);
    check(
        "{ all: [{ any: [{ user: a }, { not: { any: [{ symbol: b }, { tenant: t }] } }] }, { not: { session: s } }] }",
        &["user=a", "", "user=a symbol=b", "user=z"],
        &["session=s", "user=z symbol=b", "tenant=t", "user=a session=s"],
    );
    check(
        "{ not: { all: [{ user: a }, { symbol: b }] } }",
        &["user=a", "symbol=b", ""],
        &["user=a symbol=b"],
    );
    check("{ not: { not: { user: a } } }", &["user=a"], &[""]);
}

#[test]
fn segments() {
    check("{ segment: desk }", &["user=dana", "tenant=acme"], &["user=acme", "session=night", ""]);
    check("{ segment: all-desks }", &["user=dana", "tenant=acme", "session=night"], &["user=x", ""]);
    check("{ not: { segment: desk }, session: night }", &["session=night"], &["user=dana session=night", ""]);
    check(
        "{ segment: but }",
        &["user=dana", "user=fay", "country=DE", "user=x country=DE"],
        &[
            "user=eve",
            "user=eve country=DE",
            "user=fay session=night",
            "country=DE symbol=GOLD",
            "country=FR",
            "",
        ],
    );
}
