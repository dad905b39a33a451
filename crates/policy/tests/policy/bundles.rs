use std::collections::{BTreeMap, BTreeSet};

use insta::assert_snapshot;
use lockgate_package::{AlignedBytes, Digest, Envelope, EnvelopeBuilder, Kind};
use lockgate_policy::{Bundle, CompileOptions, Compiled, LoadError, compile};
use proptest::prelude::*;

use crate::{bundle, bundle_with, check_decision, decided, load_compiled, packages, policy, signature};

/// Where the share of records stands in a record of `route-texts`, behind four texts and a span.
const RECORDS_AT: usize = 40;

const SMALL: &str = "
lockgate: 1
freezes: [{ from: 2026-01-05T00:00:00Z }]
tiers: [{ name: free }, { name: premium, users: [p] }]
segments: { s: { users: [a, b], tenants: [t], exclude: { symbols: [Q] } } }
layers: { l: { salt: l, unit: user, holdout: 5 }, gb: { hash: growthbook, salt: gb } }
holdouts: { h: { share: 1, unit: symbol } }
routes:
  one:
    variants: { x: { model: m@1.0.0 }, y: { model: n@1.0.0, payload: 1, fallbacks: [x] } }
    baseline: x
    overrides: [{ user: o, serve: y }]
    requests: [{ name: q, users: [z], variants: [y] }]
    test_groups: [{ name: g, segments: [s], serve: y }]
    rules:
      - { name: many, if: { symbol: { in: [A, B, C, D, E, F, G, H, I, J] } }, split: { x: 50, y: 50 } }
      - { name: number, if: { attribute: n, gte: 1.5 }, serve: y }
      - { name: e, if: { user: { matches: \"[az]\" } }, experiment: { layer: l, share: 20, split: { x: 50, y: 50 } } }
      - { name: turns, if: { tier: premium }, switchback: { variants: [x, y], start: 2026-01-01T00:00:00Z, window: 1h, washout: 1m } }
      - { name: v, if: { attribute: v, semver: \">=1.0.0\" }, unit: [symbol, { attribute: v }], layer: gb, split: { y: 50, x: 50 } }
    default: { split: { x: 90, y: 10 } }
    shadows: [{ name: sh, variant: y, if: { route: two, serves: x }, sample: 50, until: 2027-01-01T00:00:00Z }]
  two:
    variants: { x: { model: m@1.0.0 }, y: { model: m@1.0.0 } }
    baseline: x
    access: { not: { bucket: { layer: l, from: 0, below: 1 } } }
    default: { ramp: { to: y, start: 2026-01-01T00:00:00Z, approved_stage: 1, stages: [{ share: 10, hold: 1d }, { share: 100 }] } }
tenants: { t: { users: { u: { routes: { two: { enabled: false, variants: { x: { model: m@1.0.0 } }, default: { serve: x } } } } } } }
";

#[test]
fn versions_rise_from_parent_to_child() {
    let first = bundle(SMALL);
    assert_eq!((first.version(), first.parent()), (1, None));
    let second = bundle_with(SMALL, CompileOptions { parent: Some(&first), ..Default::default() });
    assert_eq!((second.version(), second.parent()), (2, Some(first.digest())));
    let third = CompileOptions { parent: Some(&second), version: Some(40), ..Default::default() };
    let third = bundle_with(SMALL, third);
    assert_eq!(third.version(), 40);

    let policy = policy(&SMALL.replace("lockgate: 1", "lockgate: 1\nversion: 40"));
    let packages = packages(&policy);
    let options = CompileOptions { parent: Some(&third), packages: &packages, ..Default::default() };
    assert_snapshot!(compile(&policy, &options).unwrap_err(), @r"
    policy.yaml:1:1: version: version 40 is not above the parent's, which is 40
      expected: 41 or higher
      hint: a rollback, too, is old content under a higher version
    ");
    let options = CompileOptions { version: Some(41), ..options };
    assert_eq!(crate::load(&compile(&policy, &options).unwrap().bundle).version(), 41);
    let options = CompileOptions { version: Some(0), packages: &packages, ..Default::default() };
    assert_snapshot!(compile(&policy, &options).unwrap_err(), @r"
    policy.yaml:1:1: version: 0 is no version
      expected: 1 or higher
    ");
}

#[test]
fn equal_policies_give_equal_bytes() {
    let reordered =
        SMALL.replace("split: { x: 90, y: 10 }", "split: { y: 10.000, x: 90.0 }").replace("[a, b]", "[b, a]");
    assert_ne!(SMALL, reordered);
    assert_eq!(bundle(SMALL).as_bytes(), bundle(&reordered).as_bytes());
    assert_ne!(bundle(SMALL).digest(), bundle(&SMALL.replace("x: 90, y: 10", "x: 91, y: 9")).digest());
}

#[test]
fn the_order_of_mappings_changes_no_byte() {
    let one = "
lockgate: 1
segments: { s: { users: [a, b] }, t: { segments: [s] } }
layers: { l: { salt: l }, m: { salt: m } }
routes:
  r: { variants: { x: { model: m@1.0.0 }, y: { model: m@1.0.0 } }, baseline: x, default: { layer: l, split: { x: 50, y: 50 } } }
  q: { variants: { x: { model: m@1.0.0 } }, default: { serve: x }, test_groups: [{ name: g, segments: [t], users: [u], serve: x }] }
";
    let other = "
lockgate: 1
routes:
  q: { test_groups: [{ serve: x, users: [u], segments: [t], name: g }], default: { serve: x }, variants: { x: { model: m@1.0.0 } } }
  r: { baseline: x, default: { split: { y: 50, x: 50 }, layer: l }, variants: { x: { model: m@1.0.0 }, y: { model: m@1.0.0 } } }
layers: { m: { salt: m }, l: { salt: l } }
segments: { t: { segments: [s] }, s: { users: [b, a] } }
";
    assert_eq!(bundle(one).as_bytes(), bundle(other).as_bytes());
    // The order of the variants numbers them.
    let swapped = one.replace(
        "{ x: { model: m@1.0.0 }, y: { model: m@1.0.0 } }",
        "{ y: { model: m@1.0.0 }, x: { model: m@1.0.0 } }",
    );
    assert_ne!(bundle(one).digest(), bundle(&swapped).digest());
}

#[test]
fn a_bundle_carries_its_source_unless_told_otherwise() {
    let whole = bundle(SMALL);
    let source = whole.source().unwrap();
    assert_eq!(bundle(source).source(), Some(source));
    let without = bundle_with(SMALL, CompileOptions { source: false, ..Default::default() });
    assert_eq!(without.source(), None);
}

#[test]
fn stand_ins_let_a_policy_be_tried_without_packages() {
    let source = "
lockgate: 1
models: { lr@1.0.0: { digest: 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef }, gb@1.0.0: {} }
routes:
  r: { variants: { x: { model: lr@1.0.0 }, y: { model: gb@1.0.0 } }, baseline: x, default: { serve: x } }
";
    let options = CompileOptions { stand_ins: true, ..Default::default() };
    let bundle = load_compiled(&compile(&policy(source), &options).unwrap());
    let digests: Vec<Digest> = bundle.models().map(|model| model.digest).collect();
    let pinned = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    assert_eq!(digests[0], Digest::of(b"lockgate/stand-in/1 gb@1.0.0"));
    assert_eq!(digests[1].to_string(), pinned);
    assert!(bundle.route("r").unwrap().signature().unwrap().inputs.is_empty());
}

const LISTED: &str = "
lockgate: 1
segments:
  big: { users: { file: big.txt }, exclude: { users: { file: out.txt } } }
routes:
  r:
    variants: { a: { model: m@1.0.0 }, b: { model: m@1.0.0 } }
    baseline: a
    test_groups: [{ name: group, tenants: { file: tenants.txt }, serve: b }]
    rules: [{ name: big, if: { segment: big }, serve: b }]
    default: { serve: a }
";

fn lists(big: usize) -> BTreeMap<String, Vec<String>> {
    let users = (0..big).map(|n| format!("user-{n:07}"));
    let others = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    [
        ("big.txt".to_owned(), users.collect()),
        ("out.txt".to_owned(), others(&["user-0000005", "user-0000006"])),
        ("tenants.txt".to_owned(), others(&["acme", "", "zürich"])),
    ]
    .into()
}

fn listed(lists: &BTreeMap<String, Vec<String>>) -> Compiled {
    let policy = policy(LISTED);
    let packages = packages(&policy);
    compile(&policy, &CompileOptions { packages: &packages, lists, ..Default::default() })
        .unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn lists_of_units_become_objects() {
    let policy = policy(LISTED);
    assert_eq!(policy.list_files(), ["big.txt", "out.txt", "tenants.txt"].into());
    let compiled = listed(&lists(60_000));
    let bundle = load_compiled(&compiled);
    for (words, expected) in [
        ("r user=user-0000000", "b TARGETING_MATCH rule rule=big"),
        ("r user=user-0059999", "b TARGETING_MATCH rule rule=big"),
        ("r user=user-0060000", "a DEFAULT default"),
        ("r user=user-0000005", "a DEFAULT default"),
        ("r user=", "a DEFAULT default"),
        ("r tenant=zürich", "b TARGETING_MATCH test_group rule=group"),
        ("r tenant=zurich", "a DEFAULT default"),
    ] {
        check_decision(&bundle, words, expected);
    }
    // The bundle holds no unit, and names what it needs.
    assert!(compiled.bundle.len() < 10_000, "{}", compiled.bundle.len());
    let digests: BTreeSet<Digest> = compiled.objects.iter().map(|object| object.digest).collect();
    assert_eq!(digests, Bundle::required_objects(&compiled.bundle).unwrap().into_iter().collect());
    assert!(compiled.objects.iter().all(|object| object.bytes.len() < 300_000));
    // The order and repetition of units do not matter; one unit more changes one object, and the policy none.
    let mut reversed = lists(60_000);
    let users = reversed.get_mut("big.txt").unwrap();
    users.push(users[0].clone());
    users.reverse();
    assert_eq!(listed(&reversed), compiled);
    let more: BTreeSet<Digest> = listed(&lists(60_001)).objects.iter().map(|object| object.digest).collect();
    assert_eq!(digests.difference(&more).count(), 1);

    // Without its objects a bundle does not load, nor with others.
    let bytes = || AlignedBytes::copy_of(&compiled.bundle);
    assert!(matches!(Bundle::load(bytes()), Err(LoadError::MissingObject { .. })));
    let objects = |skipped: usize| {
        let objects = compiled.objects.iter().enumerate().filter(|(at, _)| *at != skipped);
        objects.map(|(_, object)| AlignedBytes::copy_of(&object.bytes)).collect::<Vec<_>>()
    };
    let missing = compiled.objects[0].digest;
    assert_eq!(
        Bundle::load_with(bytes(), objects(0)).unwrap_err(),
        LoadError::MissingObject { digest: missing }
    );
    let mut more = objects(usize::MAX);
    more.reverse();
    more.push(AlignedBytes::copy_of(&listed(&lists(1)).objects[0].bytes));
    assert!(Bundle::load_with(bytes(), more).is_ok());
    let wrong = vec![bytes()];
    assert!(matches!(Bundle::load_with(bytes(), wrong), Err(LoadError::Envelope(_))));
}

#[test]
fn a_list_that_is_not_at_hand_is_named() {
    let policy = policy(LISTED);
    let packages = packages(&policy);
    let mut lists = lists(3);
    let units = lists.remove("big.txt").unwrap();
    lists.insert("bigs.txt".to_owned(), units);
    let options = CompileOptions { packages: &packages, lists: &lists, ..Default::default() };
    assert_snapshot!(compile(&policy, &options).unwrap_err(), @r"
    policy.yaml:4:3: segments.big: the list `big.txt` is not at hand
      expected: one of `bigs.txt`, `out.txt`, `tenants.txt`
      hint: did you mean `bigs.txt`?
    ");
}

#[test]
fn conditions_that_multiply_are_refused() {
    // Each segment asks the one before it twenty times; five of them are 20^5 tests.
    let mut source = String::from("lockgate: 1\nsegments:\n  s0: { users: [u] }\n");
    for n in 1..=6 {
        let asks = vec![format!("{{ segment: s{} }}", n - 1); 20].join(", ");
        source.push_str(&format!("  s{n}: {{ if: {{ any: [{asks}] }} }}\n"));
    }
    source.push_str("routes: { r: { variants: { a: { model: m@1.0.0 } }, rules: [{ name: x, if: { segment: s6 }, serve: a }], default: { serve: a } } }");
    let policy = policy(&source);
    let packages = packages(&policy);
    let problems =
        compile(&policy, &CompileOptions { packages: &packages, ..Default::default() }).unwrap_err();
    assert_snapshot!(problems, @"policy.yaml:10:11: routes.r: a decision on route `r` could take more than 1048576 tests; let its conditions ask fewer segments and routes");
}

#[test]
fn models_are_pinned_to_packages() {
    let source = "
lockgate: 1
models:
  lr@1.0.0: { digest: 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef }
  gb@1.1.0:
  rf@1.0.0:
routes:
  pinned:
    variants: { x: { model: lr@1.0.0 }, y: { model: gb@1.1.0 }, z: { model: rf@1.0.0 } }
    default: { serve: x }
";
    let policy = policy(source);
    let mut packages = packages(&policy);
    packages.retain(|package| package.model != "rf");
    packages[0].version = "1.1.1".to_owned();
    let mut other = packages[0].clone();
    other.digest = Digest::of(b"other");
    packages.push(other);
    let options = CompileOptions { packages: &packages, ..Default::default() };
    assert_snapshot!(compile(&policy, &options).unwrap_err(), @r#"
    policy.yaml:1:1: two different packages are called `gb@1.1.1`: sha256:d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa and sha256:db06669aea46dd3528957983eed04d77fa8866a05fd3294df09a831b3ac9261b
      hint: a version's package never changes; keep one of them, and give new content a new version
    policy.yaml:4:3: models."lr@1.0.0": the package of `lr@1.0.0` has the digest sha256:c02f227c80fb38a77525705698e2a3dcead0f6bece4979c8f6a870a729a37e7c
      expected: sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef, as the policy pins it
      hint: a version's package never changes; get the pinned one, or pin the new one under a new version
    policy.yaml:9:41: routes.pinned.variants.y: there is no package of `gb@1.1.0`
      expected: a package of this model version, or its digest in `models`
      hint: of this model there is `gb@1.1.1`
    policy.yaml:9:65: routes.pinned.variants.z: there is no package of `rf@1.0.0`
      expected: a package of this model version, or its digest in `models`
      hint: say where the packages are with `--packages`
    "#);
}

#[test]
fn packages_must_fit_the_signature() {
    let source = "
lockgate: 1
routes:
  declared:
    signature:
      inputs: [{ name: input, datatype: FP32, shape: [-1, 17] }]
      outputs: [{ name: label, datatype: INT64, shape: [-1] }, { name: scores, datatype: FP32, shape: [-1, 2] }]
    variants: { x: { model: x@1.0.0 }, y: { model: y@1.0.0 } }
    default: { serve: x }
  taken:
    variants: { x: { model: x@1.0.0 }, z: { model: z@1.0.0 } }
    default: { serve: x }
";
    let policy = policy(source);
    let mut packages = packages(&policy);
    let declared = policy.routes[&lockgate_policy::RouteKey::platform("declared")].signature.clone().unwrap();
    for package in &mut packages {
        package.signature = declared.clone();
    }
    // `y` takes another type, a narrower shape, has another name and one output too many.
    packages[1].signature.inputs[0].datatype = lockgate_package::Datatype::Fp64;
    packages[1].signature.outputs[1].name = "probabilities".to_owned();
    // `z` answers more freely than `x` does.
    packages[2].signature.outputs[1].shape = vec![-1, -1];
    let options = CompileOptions { packages: &packages, ..Default::default() };
    assert_snapshot!(compile(&policy, &options).unwrap_err(), @r"
    policy.yaml:8:40: routes.declared.variants.y: `y@1.0.0` has a further output `probabilities`, FP32 [-1, 2]
      expected: no outputs but `label`, `scores`, as the route's signature says
    policy.yaml:8:40: routes.declared.variants.y: `y@1.0.0` has no output `scores`
      expected: FP32 [-1, 2], as the route's signature says
    policy.yaml:8:40: routes.declared.variants.y: input `input` of `y@1.0.0` is FP64 [-1, 17]
      expected: FP32 [-1, 17], as the route's signature says
    policy.yaml:11:40: routes.taken.variants.z: output `scores` of `z@1.0.0` is FP32 [-1, -1]
      expected: FP32 [-1, 2], as in variant `x`
    ");

    // A model may take more and answer less than the route says, not the reverse.
    let fits = |input: &str, model: &str| {
        let policy = crate::policy(&format!(
            "lockgate: 1\nroutes: {{ r: {{ signature: {{ inputs: [{{ name: input, datatype: FP32, shape: {input} }}], outputs: [{{ name: label, datatype: INT64, shape: [-1] }}] }}, variants: {{ v: {{ model: m@1.0.0 }} }}, default: {{ serve: v }} }} }}"
        ));
        let mut packages = crate::packages(&policy);
        packages[0].signature = signature(model);
        compile(&policy, &CompileOptions { packages: &packages, ..Default::default() }).is_ok()
    };
    assert!(fits("[-1, 17]", "[-1, 17]") && fits("[1, 17]", "[-1, 17]") && fits("[-1, 17]", "[-1, -1]"));
    assert!(
        !fits("[-1, 17]", "[1, 17]") && !fits("[-1, 17]", "[-1, 17, 1]") && !fits("[-1, 17]", "[-1, 16]")
    );
}

#[test]
fn a_model_may_take_nothing() {
    let policy = policy(
        "lockgate: 1\nroutes: { r: { signature: { inputs: [], outputs: [{ name: values, datatype: FP32, shape: [5, 5] }] }, variants: { v: { model: m@1.0.0 } }, default: { serve: v } } }",
    );
    let mut packages = packages(&policy);
    packages[0].signature =
        policy.routes[&lockgate_policy::RouteKey::platform("r")].signature.clone().unwrap();
    let compiled = compile(&policy, &CompileOptions { packages: &packages, ..Default::default() });
    let bundle = load_compiled(&compiled.unwrap_or_else(|problems| panic!("{problems}")));
    let signature = bundle.route("r").unwrap().signature().unwrap();
    assert_eq!((signature.inputs.len(), signature.outputs.len()), (0, 1));
}

#[test]
fn a_route_needs_a_signature_from_somewhere() {
    let source = "
lockgate: 1
models: { remote@1.0.0: { placement: gpu, digest: 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef } }
routes:
  remote: { variants: { x: { model: remote@1.0.0 } }, default: { serve: x } }
";
    assert_snapshot!(compile(&policy(source), &CompileOptions::default()).unwrap_err(), @r"
    policy.yaml:5:3: routes.remote: the route has no signature, and no package at hand says it
      expected: `signature: { inputs: […], outputs: […] }`
      hint: declare it, or say where the packages are with `--packages`
    ");
}

#[test]
fn broken_bundles_are_refused() {
    let good = bundle(SMALL).as_bytes().to_vec();
    let refusal = |bytes: &[u8]| Bundle::load(AlignedBytes::copy_of(bytes)).unwrap_err().to_string();
    assert_snapshot!(refusal(b"routes:"), @"not a Lockgate policy bundle: the first bytes are not `LOCKGATE`");
    let half = refusal(&good[..good.len() / 2]);
    assert_eq!(
        half,
        format!(
            "the policy bundle is truncated or has bytes behind its end: {} bytes are there",
            good.len() / 2
        )
    );
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    assert!(matches!(
        Bundle::load(AlignedBytes::copy_of(&flipped)),
        Err(LoadError::Envelope(lockgate_package::EnvelopeError::DigestMismatch { .. }))
    ));
    let newer = EnvelopeBuilder::new(Kind::Bundle, (3, 0), Vec::new()).seal().unwrap();
    assert_snapshot!(refusal(&newer), @"the policy bundle has format 3.0, this program reads formats up to 2.x; use a newer Lockgate");
    let older = EnvelopeBuilder::new(Kind::Bundle, (1, 0), Vec::new()).seal().unwrap();
    assert_snapshot!(refusal(&older), @"the policy bundle has format 1.0, this program reads 2.x; compile the policy again");
    let package = EnvelopeBuilder::new(Kind::Package, (1, 0), Vec::new()).seal().unwrap();
    assert_snapshot!(refusal(&package), @"expected a policy bundle, found a model package");
    let empty = EnvelopeBuilder::new(Kind::Bundle, (2, 0), Vec::new()).seal().unwrap();
    assert_snapshot!(refusal(&empty), @"the policy bundle is malformed: section `meta`: it cannot be read");
    let malformed = |section: &str, problem: &str| {
        format!("the policy bundle is malformed: section `{section}`: {problem}")
    };
    assert_eq!(
        refusal(&edited("models", |bytes| bytes.truncate(1))),
        malformed("models", "its length is no multiple of a record")
    );
    assert_eq!(refusal(&edited("texts", |bytes| bytes[0] = 0xff)), malformed("texts", "it is not UTF-8"));
    assert_eq!(
        refusal(&edited("routes", |bytes| bytes[4] = 9)),
        malformed("routes", "a baseline does not exist")
    );
    let records = |share: u32| {
        refusal(&edited("route-texts", |bytes| {
            bytes[RECORDS_AT..RECORDS_AT + 4].copy_from_slice(&share.to_le_bytes());
        }))
    };
    assert_eq!(records(100_001), malformed("route-texts", "a share of records is above the whole"));
    assert_eq!(refusal(&edited("routes", Vec::clear)), malformed("route-texts", "not one record per route"));
    assert_eq!(
        refusal(&edited("intervals", |bytes| bytes[..4].fill(0))),
        malformed("intervals", "the intervals are not in order")
    );
}

#[test]
fn a_newer_minor_format_is_read() {
    let envelope = opened();
    let mut builder = EnvelopeBuilder::new(Kind::Bundle, (2, 9), envelope.meta().to_vec());
    for name in envelope.section_names() {
        builder.section(name, envelope.bytes_of(envelope.section(name).unwrap()).to_vec());
    }
    builder.section("from-the-future", vec![1, 2, 3]);
    assert_eq!(crate::load(&builder.seal().unwrap()).route_count(), 3);
}

fn opened() -> Envelope {
    let bundle = bundle_with(SMALL, CompileOptions { source: false, ..Default::default() });
    Envelope::open(AlignedBytes::copy_of(bundle.as_bytes()), Kind::Bundle, (2, 0)).unwrap()
}

/// The small bundle with one section changed and sealed again.
fn edited(section: &str, edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    resealed(&opened(), section, edit)
}

fn resealed(envelope: &Envelope, section: &str, edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut builder = EnvelopeBuilder::new(Kind::Bundle, (2, 0), envelope.meta().to_vec());
    let mut edit = Some(edit);
    for name in envelope.section_names() {
        let mut bytes = envelope.bytes_of(envelope.section(name).unwrap()).to_vec();
        if name == section {
            edit.take().unwrap()(&mut bytes);
        }
        builder.section(name, bytes);
    }
    builder.seal().unwrap()
}

/// Uses everything that a bundle offers; it may answer nonsense, but it must answer.
fn exercise(bundle: &Bundle) {
    for words in [
        "one",
        "one user=a",
        "one user=o tenant=t -m@1.0.0",
        "one symbol=C n=2",
        "one symbol=Z user=z asks=y @2026-01-02",
        "two user=a",
        "two user=u tenant=t @2026-01-01",
        "x",
    ] {
        decided(bundle, words);
    }
    for route in bundle.routes() {
        let _ = (route.name(), route.description(), route.signature(), route.baseline());
        assert!(route.variants().all(|variant| variant.payload.is_none_or(|payload| payload.len() < 10_000)));
    }
    assert!(bundle.models().count() < 1000);
}

#[test]
fn every_flipped_bit_of_every_section_loads_or_is_refused() {
    let envelope = opened();
    let names: Vec<String> = envelope.section_names().map(str::to_owned).collect();
    let (mut loaded, mut refused) = (0, 0);
    for name in &names {
        let len = envelope.bytes_of(envelope.section(name).unwrap()).len();
        for at in 0..len {
            for bit in [0, 3, 7] {
                let bytes = resealed(&envelope, name, |bytes| bytes[at] ^= 1 << bit);
                match Bundle::load(AlignedBytes::copy_of(&bytes)) {
                    Ok(bundle) => {
                        loaded += 1;
                        exercise(&bundle);
                    }
                    Err(LoadError::Malformed { .. }) => refused += 1,
                    Err(other) => panic!("{name} {at}: {other}"),
                }
            }
        }
    }
    assert!(loaded > 1000 && refused > 1000, "{loaded} loaded, {refused} refused");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn sections_of_random_bytes_load_or_are_refused(section in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), random in prop::collection::vec(any::<u8>(), 0..64), replace in any::<bool>()) {
        let envelope = opened();
        let names: Vec<&str> = envelope.section_names().collect();
        let name = (*section.get(&names)).to_owned();
        let bytes = resealed(&envelope, &name, |bytes| {
            if replace || bytes.is_empty() {
                *bytes = random;
            } else {
                let start = at.index(bytes.len());
                bytes.splice(start..(start + random.len()).min(bytes.len()), random);
            }
        });
        if let Ok(bundle) = Bundle::load(AlignedBytes::copy_of(&bytes)) {
            exercise(&bundle);
        }
    }

    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(Bundle::load(AlignedBytes::copy_of(&bytes)).is_err());
    }
}
