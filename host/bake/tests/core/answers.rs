//! A baked module answers as the loaded one, to the bit, and holds what its manifest says.

use std::collections::BTreeMap;

use lockgate_abi::ErrorCode;
use lockgate_bake::Baked;
use lockgate_package::{AlignedBytes, Digest, Package};
use lockgate_policy::{Bundle, CompileOptions, PackageRef, check, compile, parse};
use lockgate_runtime::{Content, Contents};

use crate::guest::{Guest, bake_all, contents, decide_request, engine, predict_request};
use crate::support::{self, MODELS, POLICY, World, package, rows};

fn users() -> Vec<String> {
    let named = ["alice", "forest", "stable", "", "Zoë"].map(str::to_owned);
    named.into_iter().chain((0..500).map(|number| format!("user-{number}"))).collect()
}

#[test]
fn decisions_are_those_of_the_loaded_module() {
    let world = World::new(POLICY, &MODELS);
    let bundle = Bundle::load(AlignedBytes::copy_of(&world.bundle)).unwrap();
    let (version, digest) = (bundle.version(), bundle.digest());
    let core = support::core();
    let engine = engine();
    let mut loaded = Guest::new(&engine, core.policy.bytes());
    loaded.load(&world.bundle).unwrap();
    let Baked { policy, manifest, .. } = bake_all(&core, contents(world)).unwrap();
    let mut baked = Guest::new(&engine, &policy.module);

    assert_eq!(baked.loaded(0), Ok((version, digest)));
    assert_eq!(baked.loaded(0), loaded.loaded(0));
    assert_eq!(baked.loaded(1).unwrap_err().code, ErrorCode::NotLoaded);
    let held = manifest.bundle.unwrap();
    assert_eq!((held.version, held.digest, held.lists), (version, digest, vec![]));
    let users = users();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    for compact in [false, true] {
        for route in ["eurusd-direction", "nowhere"] {
            for batch in [1, 7, 200] {
                for users in users.chunks(batch) {
                    let request = decide_request(route, users, compact);
                    let answers =
                        [&mut loaded, &mut baked].map(|guest| guest.call("lockgate_decide", &request));
                    assert_eq!(answers[0], answers[1]);
                    assert!(answers[0].as_ref().is_ok_and(|answer| answer.len() >= 64 + 32 * users.len()));
                }
            }
        }
    }
    let again = baked.load(&World::new(POLICY, &MODELS).bundle).unwrap_err();
    assert_eq!(again.code, ErrorCode::AlreadyLoaded);
}

#[test]
fn predictions_are_those_of_the_loaded_module() {
    let world = World::new(POLICY, &MODELS);
    let core = support::core();
    let engine = engine();
    let Baked { inference, manifest, unused, .. } = bake_all(&core, contents(world)).unwrap();
    assert_eq!(unused, [""; 0]);
    assert_eq!(manifest.packages.len(), MODELS.len());
    let mut baked = Guest::new(&engine, &inference.module);
    for held in &manifest.packages {
        let name = format!("{}@{}", held.model, held.version);
        let bytes = package(&name);
        assert_eq!(baked.loaded(held.handle as usize), Ok((0, held.digest)), "{name}");
        assert_eq!(support::digest(&bytes), held.digest, "{name}");
        let mut loaded = Guest::new(&engine, core.tabular.bytes());
        assert_eq!(loaded.load(&bytes), Ok(0));
        for count in [1, 2, 300] {
            let inputs = [rows(count)];
            let of_baked = baked.call("lockgate_predict", &predict_request(held.handle, &inputs)).unwrap();
            let of_loaded = loaded.call("lockgate_predict", &predict_request(0, &inputs)).unwrap();
            assert!(of_baked == of_loaded && of_baked.len() > 64 + 8 * count, "{name}, {count} rows");
        }
    }
    let beyond = baked.loaded(MODELS.len()).unwrap_err();
    assert_eq!(beyond.code, ErrorCode::NotLoaded);
    // A package more can be loaded beside them.
    let more = package("eurusd_rf_b@1.0.0");
    assert_eq!(baked.load(&more), Ok(3));
    assert_eq!(baked.loaded(3), Ok((0, support::digest(&more))));
    assert!(baked.call("lockgate_predict", &predict_request(3, &[rows(2)])).is_ok());
}

#[test]
fn handles_are_numbered_by_name_whatever_the_order_of_the_files() {
    let names = ["eurusd_rf_a@1.0.0", "eurusd_gb@1.1.0", "eurusd_lr@1.0.0"];
    let packages = |order: [usize; 3]| {
        let packages = order.map(|place| package(names[place])).to_vec();
        bake_all(&support::core(), Contents::unnamed(None, packages)).unwrap()
    };
    let one = packages([0, 1, 2]);
    let handles: Vec<_> =
        one.manifest.packages.iter().map(|held| (held.handle, held.model.as_str())).collect();
    assert_eq!(handles, [(0, "eurusd_gb"), (1, "eurusd_lr"), (2, "eurusd_rf_a")]);
    for order in [[2, 1, 0], [1, 0, 2]] {
        let other = packages(order);
        assert!(other.inference == one.inference && other.manifest == one.manifest);
    }
    // Without a bundle the policy module stays plain.
    assert_eq!(one.policy.module, support::core().policy.bytes());
    assert_eq!(one.catalog, b"null");
}

#[test]
fn equal_inputs_give_equal_bytes() {
    let baked = || bake_all(&support::core(), contents(World::new(POLICY, &MODELS))).unwrap();
    let (one, other) = (baked(), baked());
    assert!(one.policy == other.policy && one.inference == other.inference);
    assert!(one.policy.component.is_some() && one.inference.component.is_some());
    assert_eq!(one.manifest, other.manifest);
    assert_eq!(one.catalog, other.catalog);
    // One version more, and the policy's image is another one, and the inference's is not.
    let policy = POLICY.replace("\nversion: 1\n", "\nversion: 2\n");
    let next = bake_all(&support::core(), contents(World::new(&policy, &MODELS))).unwrap();
    assert_ne!(next.manifest.policy.image, one.manifest.policy.image);
    assert_eq!(next.manifest.inference.image, one.manifest.inference.image);
}

const LISTED: &str = "
lockgate: 1
version: 1
models:
  eurusd_lr@1.0.0:
  eurusd_gb@1.1.0:
segments:
  early: { users: { file: early.txt } }
routes:
  eurusd-direction:
    variants:
      stable: { model: eurusd_lr@1.0.0 }
      canary: { model: eurusd_gb@1.1.0 }
    baseline: stable
    rules: [{ name: early, if: { segment: early }, serve: canary }]
    default: { serve: stable }
";

/// A bundle, its lists and its packages.
fn listed() -> Contents {
    let packages = ["eurusd_lr@1.0.0", "eurusd_gb@1.1.0"].map(package).to_vec();
    let references: Vec<_> = packages
        .iter()
        .map(|bytes| Package::open(AlignedBytes::copy_of(bytes)).unwrap())
        .map(|package| PackageRef::new(package.manifest(), package.digest()))
        .collect();
    let policy = check(&parse("policy.yaml", LISTED).unwrap()).unwrap();
    let units: Vec<String> = (0..60_000).map(|number| format!("user-{number}")).collect();
    let lists = BTreeMap::from([("early.txt".to_owned(), units)]);
    let options = CompileOptions { packages: &references, lists: &lists, ..CompileOptions::default() };
    let compiled = compile(&policy, &options).unwrap();
    let mut contents = Contents::unnamed(Some(compiled.bundle), packages);
    let list = |object: lockgate_policy::Object| Content::new(object.digest.to_string(), object.bytes);
    contents.lists = compiled.objects.into_iter().map(list).collect();
    contents
}

#[test]
fn unit_lists_are_baked_with_their_bundle() {
    let contents = listed();
    assert!(contents.lists.len() > 1, "{} lists", contents.lists.len());
    let core = support::core();
    let engine = engine();
    let mut loaded = Guest::new(&engine, core.policy.bytes());
    for list in &contents.lists {
        loaded.load(&list.bytes).unwrap();
    }
    loaded.load(&contents.bundle.as_ref().unwrap().bytes).unwrap();
    let digests: Vec<Digest> = contents.lists.iter().map(|list| list.name.parse().unwrap()).collect();

    let baked = bake_all(&core, contents).unwrap();
    let mut held = baked.manifest.bundle.unwrap().lists;
    held.sort();
    let mut expected = digests;
    expected.sort();
    assert_eq!(held, expected);
    let mut baked = Guest::new(&engine, &baked.policy.module);
    let users = ["user-0", "user-59999", "user-60000", "nobody"];
    let request = decide_request("eurusd-direction", &users, false);
    let answer = baked.call("lockgate_decide", &request).unwrap();
    assert_eq!(answer, loaded.call("lockgate_decide", &request).unwrap());
    let texts = String::from_utf8_lossy(&answer);
    assert_eq!((texts.matches("canary").count(), texts.matches("stable").count()), (2, 2));

    let mut without = listed();
    without.lists.pop();
    let error = bake_all(&core, without).unwrap_err();
    assert_eq!(error.code(), "unusable_bundle");
    assert!(error.to_string().contains("unit list"), "{error}");
}

#[test]
fn a_warm_decision_of_a_baked_module_allocates_nothing() {
    let baked = bake_all(&support::core(), contents(World::new(POLICY, &MODELS))).unwrap();
    let mut guest = Guest::new(&engine(), &baked.policy.module);
    let request = decide_request("eurusd-direction", &["alice", "bob"], true);
    guest.call("lockgate_decide", &request).unwrap();
    let before = guest.allocations();
    guest.call("lockgate_decide", &request).unwrap();
    assert_eq!(guest.allocations(), before);
}
