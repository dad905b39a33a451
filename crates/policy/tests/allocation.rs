//! A decision allocates nothing.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking, in their helpers too")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use lockgate_package::{AlignedBytes, Digest};
use lockgate_policy::{Attribute, Bundle, CompileOptions, PackageRef, RequestContext, check, compile, parse};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "an allocator is counted by being one")]
mod allocator {
    use super::*;

    // SAFETY: every call goes to the system's allocator unchanged.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            ALLOCATIONS.set(ALLOCATIONS.get() + 1);
            // SAFETY: the caller keeps to the contract of `alloc`.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            // SAFETY: the caller keeps to the contract of `dealloc`, and the pointer is the system's.
            unsafe { System.dealloc(pointer, layout) }
        }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Every step, everything that a step can serve, and every test of a condition.
const POLICY: &str = r#"
lockgate: 1
freezes: [{ from: 2026-12-24T00:00:00Z, until: 2027-01-02T00:00:00Z }]
tiers: [{ name: free }, { name: premium, tenants: [acme] }]
segments:
  listed: { users: { file: users.txt }, exclude: { users: [listed-2] } }
  outer: { segments: [listed], if: { symbol: { prefix: EUR } } }
layers:
  lab: { holdout: 20 }
  flagd: { hash: flagd }
holdouts: { quiet: { share: 10 } }
routes:
  other:
    signature: &signature { inputs: [{ name: x, datatype: FP32, shape: [-1] }], outputs: [{ name: y, datatype: FP32, shape: [-1] }] }
    variants: { a: { model: m@1.0.0 } }
    default: { serve: a }
  secret:
    signature: *signature
    access: { tier: premium }
    variants: { a: { model: m@1.0.0 } }
    default: { serve: a }
  r:
    signature: *signature
    variants:
      x: { model: m@1.0.0, payload: { t: 1 } }
      y: { model: n@1.0.0, fallbacks: [z, x] }
      z: { model: n@1.0.0, enabled: false }
    baseline: x
    overrides: [{ user: named, serve: y }]
    requests: [{ name: desk, tenants: [desk], variants: [y] }]
    test_groups: [{ name: group, segments: [outer], serve: y }]
    symbol_rollouts:
      - { name: turns, symbols: [GBPUSD], switchback: { variants: [x, y], start: 2026-01-01T00:00:00Z, window: 4h, washout: 1h } }
    rules:
      - { name: many, if: { symbol: { in: [A, B, C, D, E, F, G, H, I, J] } }, serve: y }
      - { name: texts, if: { attribute: agent, suffix: bot, contains: [rob, web], matches: "^[a-z]+bot$" }, serve: y }
      - { name: version, if: { attribute: app, semver: ">=2.1.0 <3.0.0-0" }, serve: y }
      - { name: moment, if: { attribute: born, from: 2026-01-01T00:00:00Z }, serve: y }
      - { name: number, if: { attribute: age, gte: 18 }, serve: y }
      - { name: boolean, if: { attribute: beta, eq: true }, serve: y }
      - { name: weekend, if: { all: [{ session: weekend }, { time: { weekdays: [sat, sun], daily: { from: "00:00", until: "23:59" } } }] }, serve: y }
      - { name: asks, if: { all: [{ session: asks }, { route: other, serves: a }] }, serve: y }
      - { name: slice, if: { all: [{ session: slice }, { bucket: { layer: lab, from: 0, below: 100 } }] }, serve: y }
      - { name: pair, if: { session: pair }, unit: [tenant, { attribute: account }, user], split: { x: 50, y: 50 } }
      - { name: theirs, if: { session: theirs }, layer: flagd, split: { x: 50, y: 50 } }
      - name: ramp
        if: { session: ramp }
        ramp: { to: y, from: x, start: 2026-12-20T00:00:00Z, approved_stage: 2, stages: [{ share: 10, hold: 5d }, { share: 50 }] }
      - { name: trial, experiment: { layer: lab, share: 80, split: { x: 50, y: 50 } } }
    default: { unit: session, split: { x: 90, y: 10 } }
    shadows:
      - { name: all, variant: y }
      - { name: some, variant: y, if: { session: ramp }, sample: 50 }
tenants:
  acme:
    routes:
      r: { signature: *signature, variants: { own: { model: m@1.0.0 } }, default: { serve: own } }
    users:
      alice:
        routes:
          r: { signature: *signature, variants: { hers: { model: m@1.0.0 } }, default: { serve: hers } }
"#;

/// Milliseconds of 2026-12-26T12:00:00Z, a Saturday within the freeze.
const NOW: i64 = 1_798_286_400_000;

fn bundle() -> Bundle {
    let policy =
        check(&parse("policy.yaml", POLICY).unwrap()).unwrap_or_else(|problems| panic!("{problems}"));
    let packages = ["m", "n"].map(|model| PackageRef {
        model: model.into(),
        version: "1.0.0".into(),
        digest: Digest::of(model.as_bytes()),
        signature: policy.routes.values().find_map(|route| route.signature.clone()).unwrap(),
    });
    let lists = [("users.txt".to_owned(), (0..1000).map(|n| format!("listed-{n}")).collect())].into();
    let options = CompileOptions { packages: &packages, lists: &lists, ..Default::default() };
    let compiled = compile(&policy, &options).unwrap_or_else(|problems| panic!("{problems}"));
    let objects = compiled.objects.iter().map(|object| AlignedBytes::copy_of(&object.bytes)).collect();
    Bundle::load_with(AlignedBytes::copy_of(&compiled.bundle), objects).unwrap()
}

/// A context from words such as `r user=alice age=18`; what is no field is an attribute.
fn context(words: &str) -> RequestContext {
    let mut words = words.split(' ');
    let mut context = RequestContext::new(words.next().unwrap());
    for word in words {
        let (key, value) = word.split_once('=').unwrap();
        let text = Some(value.to_owned());
        match key {
            "user" => context.user = text,
            "symbol" => context.symbol = text,
            "tenant" => context.tenant = text,
            "session" => context.session = text,
            "variant" => context.variant = text,
            _ => {
                let attribute = match (value.parse::<f64>(), value) {
                    (Ok(number), _) => Attribute::Number(number),
                    (_, "true") => Attribute::Boolean(true),
                    _ => Attribute::Text(value.to_owned()),
                };
                context.attributes.insert(key.to_owned(), attribute);
            }
        }
    }
    context
}

#[test]
fn a_decision_allocates_nothing() {
    let bundle = bundle();
    let gone = [Digest::of(b"n").0];
    let check = |words: &str, unavailable: &[[u8; 32]], expected: &str| {
        let context = context(words);
        let before = ALLOCATIONS.get();
        let decision = bundle.decide(&context, NOW, unavailable);
        if let Ok(decision) = &decision {
            std::hint::black_box((
                decision.route(),
                decision.variant(),
                decision.intended(),
                decision.names(),
            ));
            decision.shadows().for_each(|shadow| {
                std::hint::black_box(shadow);
            });
        }
        let allocations = ALLOCATIONS.get() - before;
        let said = decision.map_or_else(
            |_| "unknown".to_owned(),
            |decision| {
                let (variant, step) = (decision.variant().name, decision.step);
                format!("{variant} {step} {}", decision.rule().unwrap_or("-"))
            },
        );
        assert_eq!((said.as_str(), allocations), (expected, 0), "{words}");
    };
    check("nowhere", &[], "unknown");
    check("secret tenant=other", &[], "unknown");
    check("secret tenant=acme", &[], "a default -");
    check("r tenant=acme user=bob", &[], "own default -");
    check("r tenant=acme user=alice", &[], "hers default -");
    check("r user=named", &[], "y override -");
    check("r user=named", &gone, "x fallback -");
    check("r tenant=desk variant=y", &[], "y override desk");
    check("r user=listed-7", &[], "y test_group group");
    check("r symbol=EURUSD", &[], "y test_group group");
    check("r symbol=GBPUSD", &[], "x symbol_rollout turns");
    check("r symbol=J", &[], "y rule many");
    check("r agent=webbot", &[], "y rule texts");
    check("r app=2.10.0-rc.1", &[], "y rule version");
    check("r born=2026-05-01T12:00:00+02:00", &[], "y rule moment");
    check("r age=18", &[], "y rule number");
    check("r beta=true", &[], "y rule boolean");
    check("r session=weekend", &[], "y rule weekend");
    check("r session=asks", &[], "y rule asks");
    check("r user=u10 session=slice", &[], "y rule slice");
    check("r session=pair", &[], "x rule pair");
    check("r user=u10 tenant=t account=a session=pair", &[], "x rule pair");
    check("r user=u10 session=theirs", &[], "x rule theirs");
    check("r user=u10 session=ramp", &[], "x rule ramp");
    check("r user=u2", &[], "x holdout quiet");
    check("r user=u3", &[], "x holdout lab");
    check("r user=u10", &[], "x rule trial");
    check("r session=s", &[], "x default -");
}
