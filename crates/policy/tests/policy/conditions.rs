use crate::{bundle, context};

/// Compiles a rule with this condition and says whether it matches each context.
#[track_caller]
fn check(condition: &str, matching: &[&str], others: &[&str]) {
    let bundle = bundle(&format!(
        "
lockgate: 1
segments:
  desk: {{ users: [dana], tenants: [acme] }}
  all-desks: {{ segments: [desk, night] }}
  night: {{ sessions: [night] }}
routes:
  r:
    variants: {{ no: {{ model: m@1.0.0 }}, yes: {{ model: m@1.0.0 }} }}
    rules: [{{ name: tested, if: {condition}, serve: yes }}]
    default: {{ serve: no }}
"
    ));
    for (contexts, expected) in [(matching, "yes"), (others, "no")] {
        for words in contexts {
            let decision = bundle.decide(&context(&format!("r {words}")), 0, &[]).unwrap();
            assert_eq!(decision.variant, expected, "{condition} for {words}");
        }
    }
}

#[test]
fn fields() {
    check("{ user: alice }", &["user=alice"], &["", "user=", "user=Alice", "symbol=alice"]);
    check("{ symbol: { eq: EURUSD } }", &["symbol=EURUSD"], &["symbol=EUR", "user=EURUSD"]);
    check("{ tenant: { ne: acme } }", &["tenant=other", ""], &["tenant=acme"]);
    check("{ session: { in: [a, b] } }", &["session=a", "session=b"], &["session=c", ""]);
    check("{ session: { not_in: [a, b] } }", &["session=c", ""], &["session=a"]);
    check("{ user: { present: true } }", &["user=x"], &["", "user="]);
    check("{ user: { present: false } }", &["", "user="], &["user=x"]);
    check("{ user: { present: true, ne: alice } }", &["user=bob"], &["", "user=alice"]);
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
    check("{ attribute: beta, eq: true }", &["beta=true"], &["beta=false", "beta=\"true\"", "beta=1", ""]);
    check(
        "{ attribute: x, in: [a, 5, true] }",
        &["x=a", "x=5", "x=true"],
        &["x=b", "x=\"5\"", "x=false", ""],
    );
    check("{ attribute: x, not_in: [a, 5] }", &["x=b", "x=\"5\"", ""], &["x=a", "x=5"]);
    check("{ attribute: x, ne: 1e3 }", &["x=1", "x=\"1000\"", ""], &["x=1000"]);
    check(
        "{ attribute: age, gte: 18, lt: 65 }",
        &["age=18", "age=64.9"],
        &["age=17.9", "age=65", "age=NaN", ""],
    );
    check("{ attribute: age, gt: -1.5 }", &["age=-1.4", "age=inf"], &["age=-1.5", "age=\"3\"", "age=true"]);
    check("{ attribute: age, lte: 0x10 }", &["age=16"], &["age=17"]);
    check("{ attribute: x, present: true }", &["x=a", "x=0", "x=false", "x=NaN"], &["", "y=1"]);
    check("{ attribute: x, present: false }", &["", "y=1"], &["x=a"]);
    check("{ attribute: a.b c, eq: x }".replace("a.b c", "a.b").as_str(), &["a.b=x"], &["a=x"]);
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
}
