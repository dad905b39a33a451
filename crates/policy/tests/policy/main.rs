//! The policy from source to decision. One binary, a module per area.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking, in their helpers too")]

mod arbitrary;
mod bundles;
mod conditions;
mod decisions;
mod diagnostics;
mod documents;
mod language;
mod movement;
mod random;
mod reached;
mod tools;
mod units;
mod warnings;

use lockgate_package::{AlignedBytes, Digest, Signature};
use lockgate_policy::{
    Attribute, Bundle, CompileOptions, Compiled, Decision, Diagnostics, PackageRef, Policy, RequestContext,
    RouteKey, check, compile, parse,
};

/// A package for every model version that the tests use.
fn packages(policy: &Policy) -> Vec<PackageRef> {
    let package = |name: &lockgate_policy::ModelVersion| PackageRef {
        model: name.model.clone(),
        version: name.version.clone(),
        digest: Digest::of(name.to_string().as_bytes()),
        signature: signature("[-1, 17]"),
    };
    policy.model_versions().into_iter().map(package).collect()
}

/// One FP32 input of this shape, one INT64 output per row.
fn signature(shape: &str) -> Signature {
    let source = format!(
        "lockgate: 1\nroutes: {{ r: {{ signature: {{ inputs: [{{ name: input, datatype: FP32, shape: {shape} }}], outputs: [{{ name: label, datatype: INT64, shape: [-1] }}] }}, variants: {{ v: {{ model: m@1.0.0 }} }}, default: {{ serve: v }} }} }}"
    );
    policy(&source).routes[&RouteKey::platform("r")].signature.clone().unwrap()
}

fn policy(source: &str) -> Policy {
    checked("policy.yaml", source).unwrap_or_else(|problems| panic!("{problems}"))
}

fn checked(file: &str, source: &str) -> Result<Policy, Diagnostics> {
    check(&parse(file, source)?)
}

fn load(bytes: &[u8]) -> Bundle {
    Bundle::load(AlignedBytes::copy_of(bytes)).unwrap()
}

fn load_compiled(compiled: &Compiled) -> Bundle {
    let objects = compiled.objects.iter().map(|object| AlignedBytes::copy_of(&object.bytes)).collect();
    Bundle::load_with(AlignedBytes::copy_of(&compiled.bundle), objects).unwrap()
}

fn bundle(source: &str) -> Bundle {
    bundle_with(source, CompileOptions::default())
}

fn bundle_with(source: &str, options: CompileOptions<'_>) -> Bundle {
    let policy = policy(source);
    let packages = packages(&policy);
    let compiled = compile(&policy, &CompileOptions { packages: &packages, ..options });
    load_compiled(&compiled.unwrap_or_else(|problems| panic!("{problems}")))
}

/// A bundle whose intervals are based on another one's.
fn bundle_on(base: &Bundle, source: &str) -> Bundle {
    bundle_with(source, CompileOptions { base: Some(base), ..Default::default() })
}

/// A context, when it is decided for, and what is unavailable then.
struct Case {
    context: RequestContext,
    now: i64,
    unavailable: Vec<[u8; 32]>,
}

/// A case from words: `user=alice symbol=EURUSD tier="premium" age=5 beta=true asks=canary @2026-05-01T12:00:00Z -m@1.0.0`. The
/// first word is the route, `asks` the requested variant, `@` the time (1970 without it), `-` a model whose package is
/// unavailable. `␣` stands for a blank.
fn case(words: &str) -> Case {
    let mut words = words.split_whitespace();
    let context = RequestContext::new(words.next().unwrap_or_default());
    let mut case = Case { context, now: 0, unavailable: Vec::new() };
    for word in words {
        if let Some(time) = word.strip_prefix('@') {
            case.now = millis(time);
            continue;
        }
        if let Some(model) = word.strip_prefix('-') {
            case.unavailable.push(Digest::of(model.as_bytes()).0);
            continue;
        }
        let (name, value) = word.split_once('=').unwrap();
        let value = value.replace('␣', " ");
        let text = Some(value.clone());
        let context = &mut case.context;
        match name {
            "user" => context.user = text,
            "symbol" => context.symbol = text,
            "tenant" => context.tenant = text,
            "session" => context.session = text,
            "asks" => context.variant = text,
            _ => {
                let value = match value.as_str() {
                    "true" | "false" => Attribute::Boolean(value == "true"),
                    _ => value
                        .parse()
                        .map_or_else(|_| Attribute::Text(value.trim_matches('"').into()), Attribute::Number),
                };
                context.attributes.insert(name.to_owned(), value);
            }
        }
    }
    case
}

fn context(words: &str) -> RequestContext {
    case(words).context
}

/// Milliseconds since 1970 of a time such as `2026-05-01T12:00:00Z`, or of `2026-05-01`, its first moment.
fn millis(time: &str) -> i64 {
    let (date, time) = time.split_once('T').unwrap_or((time, "00:00:00Z"));
    let number = |text: &str| text.parse::<i64>().unwrap();
    let date: Vec<i64> = date.split('-').map(number).collect();
    let [year, month, day] = date.try_into().unwrap();
    let (seconds, fraction) =
        time.trim_end_matches('Z').split_once('.').unwrap_or((time.trim_end_matches('Z'), "0"));
    let seconds = seconds.split(':').map(number).fold(0, |sum, part| sum * 60 + part);
    let leap = |year: i64| i64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
    let lengths = [31, 28 + leap(year), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let days = (1970..year).map(|year| 365 + leap(year)).sum::<i64>()
        + lengths.iter().take(month as usize - 1).sum::<i64>()
        + day
        - 1;
    (days * 86_400 + seconds) * 1000 + number(fraction)
}

/// `variant REASON step` and, where there are, scope, rule, layer, bucket, stage, window, flags, the intended variant and the
/// shadows.
fn words(decision: &Decision<'_>) -> String {
    let mut text = format!("{} {} {}", decision.variant().name, decision.reason, decision.step);
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(" {name}={value}"));
        }
    };
    let number = |number: Option<u32>| number.map(|number| number.to_string());
    add("tenant", decision.route().tenant().map(str::to_owned));
    add("user", decision.route().user().map(str::to_owned));
    add("rule", decision.rule().map(str::to_owned));
    add("layer", decision.layer().map(str::to_owned));
    add("bucket", number(decision.bucket));
    add("stage", number(decision.stage));
    add("window", number(decision.window));
    add("intended", decision.intended().map(|variant| variant.name.to_owned()));
    let shadows: Vec<&str> = decision.shadows().map(|shadow| shadow.name).collect();
    add("shadows", (!shadows.is_empty()).then(|| shadows.join(",")));
    let flags = [
        (decision.unit_missing, " unit missing"),
        (decision.holdout, " held out"),
        (decision.washout, " washout"),
        (decision.unavailable, " unavailable"),
    ];
    text.extend(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| *flag));
    text
}

/// What a bundle says to a case, in words.
fn decided(bundle: &Bundle, words_of_case: &str) -> String {
    let Case { context, now, unavailable } = case(words_of_case);
    let decision = bundle.decide(&context, now, &unavailable);
    let trace = lockgate_policy::explain(bundle, &context, now, &unavailable);
    match (decision, trace) {
        (Ok(decision), Ok(trace)) => {
            assert_eq!(trace.decision, lockgate_policy::TraceDecision::new(&decision, bundle));
            words(&decision)
        }
        (Err(error), Err(_)) => error.to_string(),
        (decision, trace) => panic!("{words_of_case}: {decision:?}, but explained {trace:?}"),
    }
}

#[track_caller]
fn check_decision(bundle: &Bundle, words_of_case: &str, expected: &str) {
    assert_eq!(decided(bundle, words_of_case), expected, "{words_of_case}");
}
