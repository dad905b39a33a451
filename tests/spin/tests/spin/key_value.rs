//! The policy in key-value: what is taken from there, what is refused, and what serves meanwhile. Every request has an instance of its
//! own unless a test says otherwise, so nothing that serves again was remembered anywhere but in the store.

use std::sync::atomic::Ordering;

use lockgate_package::signing::{PrivateKey, Signed};
use serde_json::{Value, json};

use crate::endpoints::{infer, stocked};
use crate::fixtures::{POLICY, baked, compile, package, plain, policy_of_version};
use crate::host::{Ask, Host, World};

/// The version that serves, and what the last look into the store gave.
async fn look(host: &Host, world: &std::sync::Arc<World>) -> (Option<u64>, Option<String>) {
    let answer = host.send(world, infer(&json!({ "user": "alice" }))).await.unwrap();
    let version = match answer.status {
        200 => Some(answer.json()["parameters"]["bundle_version"].as_u64().unwrap()),
        503 => {
            assert_eq!(answer.problem().1, "no_bundle");
            None
        }
        _ => panic!("{answer:?}"),
    };
    let health = host.send(world, Ask::get("/health")).await.unwrap().json();
    let policy = &health["parts"]["policy"];
    assert_eq!(policy["version"], json!(version), "{health}");
    let code = policy["last_load"]["code"].as_str().map(str::to_owned);
    let expected = match (version, &code) {
        (None, _) => "unhealthy",
        (Some(_), Some(_)) => "degraded",
        (Some(_), None) => "healthy",
    };
    assert_eq!(policy["status"], expected, "{health}");
    (version, code)
}

fn failed(version: impl Into<Option<u64>>, code: &str) -> (Option<u64>, Option<String>) {
    (version.into(), Some(code.to_owned()))
}

#[tokio::test]
async fn a_policy_comes_goes_and_is_replaced() {
    let world = World::new();
    world.set("policy_source", "key-value");
    assert_eq!(look(plain(), &world).await, failed(None, "missing"));

    let world = stocked(POLICY);
    assert_eq!(look(plain(), &world).await, (Some(5), None));
    world.put("policy", compile(&policy_of_version(6)).bundle);
    assert_eq!(look(plain(), &world).await, (Some(6), None));
    world.remove("policy").unwrap();
    assert_eq!(look(plain(), &world).await, failed(6, "missing"));
    world.put("policy", compile(&policy_of_version(5)).bundle);
    assert_eq!(look(plain(), &world).await, failed(6, "older_version"), "never a lower version");
    let other = policy_of_version(6).replace("stable: 50, canary: 50", "stable: 40, canary: 60");
    world.put("policy", compile(&other).bundle);
    assert_eq!(look(plain(), &world).await, failed(6, "version_conflict"));
    world.put("policy", compile(&policy_of_version(7)).bundle);
    assert_eq!(look(plain(), &world).await, (Some(7), None));
}

#[tokio::test]
async fn damage_changes_nothing() {
    let bundle = compile(&policy_of_version(6)).bundle;
    for (place, bit) in [(0, 1), (9, 0x80), (bundle.len() / 2, 1), (bundle.len() - 40, 4)] {
        let world = stocked(POLICY);
        assert_eq!(look(plain(), &world).await, (Some(5), None));
        let mut damaged = bundle.clone();
        damaged[place] ^= bit;
        world.put("policy", damaged);
        let (version, code) = look(plain(), &world).await;
        assert_eq!(version, Some(5), "byte {place}");
        assert!(code.is_some(), "byte {place}");
        world.put("policy", bundle[..place].to_vec());
        assert_eq!(look(plain(), &world).await.0, Some(5), "cut at {place}");
        world.put("policy", bundle.clone());
        assert_eq!(look(plain(), &world).await, (Some(6), None), "after byte {place}");
    }
}

#[tokio::test]
async fn a_new_policy_needs_its_packages_and_an_old_one_lives_without_one() {
    let forest = package("eurusd_rf_a");
    let world = stocked(POLICY);
    world.remove(&forest.key()).unwrap();
    assert_eq!(look(plain(), &world).await, failed(None, "missing_package"));
    world.put(&forest.key(), package("eurusd_gb").bytes.clone());
    assert_eq!(look(plain(), &world).await, failed(None, "wrong_digest"));
    let mut damaged = forest.bytes.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    world.put(&forest.key(), damaged.clone());
    assert_eq!(look(plain(), &world).await, failed(None, "malformed"));
    world.put(&forest.key(), forest.bytes.clone());
    assert_eq!(look(plain(), &world).await, (Some(5), None));

    // It was accepted; then a package goes bad. Its route goes on with the fallback, the rest as it is.
    world.put(&forest.key(), damaged);
    assert_eq!(look(plain(), &world).await, (Some(5), None));
    let answer = plain().send(&world, infer(&json!({ "tenant": "acme" }))).await.unwrap().json();
    assert_eq!(answer["parameters"]["intended_variant"], "forest", "{answer}");
    assert_eq!(answer["parameters"]["fallback"], true);
    let health = plain().send(&world, Ask::get("/health")).await.unwrap().json();
    assert_eq!(health["status"], "degraded");
}

#[tokio::test]
async fn signatures_are_demanded_where_keys_are_trusted() {
    let [key, stranger] = [[1; 32], [2; 32]].map(|seed| PrivateKey::from_seed(&seed));
    let sign = |key: &PrivateKey, bytes: &[u8]| Signed::read(bytes).unwrap().sign(key).unwrap();
    let bundle = compile(POLICY).bundle;

    let world = stocked(POLICY);
    world.set("trust", &key.public().to_pem().unwrap());
    assert_eq!(look(plain(), &world).await, failed(None, "unsigned"));
    world.put("policy", sign(&stranger, &bundle));
    assert_eq!(look(plain(), &world).await, failed(None, "unknown_key"));
    let signed = sign(&key, &bundle);
    world.put("policy", signed.clone());
    assert_eq!(look(plain(), &world).await, (Some(5), None));

    // A signature moved from one content to another.
    let mut forged = sign(&key, &compile(&policy_of_version(6)).bundle);
    let signature = signed.len() - 80..signed.len() - 20;
    let end = forged.len() - 80;
    forged[end..end + 60].copy_from_slice(&signed[signature]);
    world.put("policy", forged);
    let (version, code) = look(plain(), &world).await;
    assert_eq!(version, Some(5));
    assert!(code.is_some());

    let world = stocked(POLICY);
    world.set("trust", &key.public().to_pem().unwrap());
    world.set("require_signatures", "all");
    world.put("policy", signed);
    assert_eq!(look(plain(), &world).await, failed(None, "unsigned"), "the packages are not signed");
    for package in crate::fixtures::packages() {
        world.put(&package.key(), sign(&key, &package.bytes));
    }
    assert_eq!(look(plain(), &world).await, (Some(5), None));

    let pinned = stocked(POLICY);
    pinned.set("pin", &lockgate_package::Digest([7; 32]).to_string());
    assert_eq!(look(plain(), &pinned).await, failed(None, "wrong_pin"));
    let low = stocked(POLICY);
    low.set("min_version", "6");
    assert_eq!(look(plain(), &low).await, failed(None, "below_min_version"));
}

#[tokio::test]
async fn a_store_that_is_down_stops_new_instances_alone() {
    let world = stocked(POLICY);
    let mut instance = plain().instance(&world).await.unwrap();
    assert_eq!(instance.send(infer(&json!({}))).await.unwrap().status, 200);
    world.store_is_down.store(true, Ordering::Relaxed);
    // Whatever serves goes on, past the next look as well.
    *world.clock_ahead_ms.lock().unwrap() += 31_000;
    assert_eq!(instance.send(infer(&json!({}))).await.unwrap().status, 200);
    let health = instance.send(Ask::get("/health")).await.unwrap().json();
    assert_eq!(health["parts"]["policy"]["last_load"]["code"], "store_unreachable");
    // An instance that has nothing cannot know what was accepted before, so it serves nothing rather than an older version.
    assert_eq!(look(plain(), &world).await, failed(None, "store_unreachable"));
    world.store_is_down.store(false, Ordering::Relaxed);
    assert_eq!(look(plain(), &world).await, (Some(5), None));

    let world = World::new();
    world.set("policy_source", "key-value");
    world.set("policy_store", "other");
    assert_eq!(look(plain(), &world).await, failed(None, "store_unreachable"));
}

#[tokio::test]
async fn an_old_policy_serves_as_it_is_told() {
    for (when, mode, variant) in
        [("fail_static", "fail_static", "canary"), ("fail_default", "fail_default", "stable")]
    {
        let world = stocked(POLICY);
        world.set("max_stale", "60s");
        world.set("when_stale", when);
        let ask = || infer(&json!({ "user": "alice" }));
        let variant_of = |answer: crate::host::Answer| answer.json()["parameters"]["variant"].clone();
        assert_eq!(variant_of(plain().send(&world, ask()).await.unwrap()), "canary");
        world.remove("policy").unwrap();
        *world.clock_ahead_ms.lock().unwrap() += 59_000;
        assert_eq!(variant_of(plain().send(&world, ask()).await.unwrap()), "canary", "{when}: not yet stale");
        *world.clock_ahead_ms.lock().unwrap() += 3_000;
        assert_eq!(variant_of(plain().send(&world, ask()).await.unwrap()), variant, "{when}");
        let health = plain().send(&world, Ask::get("/health")).await.unwrap().json();
        assert_eq!(health["parts"]["policy"]["mode"], mode, "{health}");
        assert!(health["parts"]["policy"]["age_seconds"].as_u64().unwrap() >= 62, "{health}");
    }
}

#[tokio::test]
async fn an_instance_that_lives_looks_again_in_time() {
    let world = stocked(POLICY);
    let mut instance = plain().instance(&world).await.unwrap();
    let version = |answer: crate::host::Answer| answer.json()["parameters"]["bundle_version"].as_u64();
    assert_eq!(version(instance.send(infer(&json!({}))).await.unwrap()), Some(5));
    let reads = world.reads.load(Ordering::Relaxed);
    world.put("policy", compile(&policy_of_version(6)).bundle);
    assert_eq!(version(instance.send(infer(&json!({}))).await.unwrap()), Some(5));
    assert_eq!(world.reads.load(Ordering::Relaxed), reads, "it looked before it was time");
    *world.clock_ahead_ms.lock().unwrap() += 31_000;
    assert_eq!(version(instance.send(infer(&json!({}))).await.unwrap()), Some(6));
    // Under load: requests at once, while the policy changes.
    for round in 7..12 {
        world.put("policy", compile(&policy_of_version(round)).bundle);
        *world.clock_ahead_ms.lock().unwrap() += 31_000;
        let asks = (0..40).map(|user| infer(&json!({ "user": format!("u{user}") }))).collect();
        for answer in instance.send_all(asks).await.unwrap() {
            assert!([Some(round - 1), Some(round)].contains(&version(answer)));
        }
        assert_eq!(version(instance.send(infer(&json!({}))).await.unwrap()), Some(round));
    }
}

#[tokio::test]
async fn what_is_read_again_is_not_written_again() {
    let world = stocked(POLICY);
    for _ in 0..5 {
        assert_eq!(plain().send(&world, infer(&json!({}))).await.unwrap().status, 200);
    }
    let first = world.writes.load(Ordering::Relaxed);
    assert_eq!(first, 2, "the good bundle and the state, once");
    *world.clock_ahead_ms.lock().unwrap() += 31_000;
    for _ in 0..5 {
        assert_eq!(plain().send(&world, infer(&json!({}))).await.unwrap().status, 200);
    }
    assert_eq!(world.writes.load(Ordering::Relaxed), first + 1, "the state alone");
    assert_eq!(newest(&world), 5);
}

/// The version that the application remembers.
fn newest(world: &World) -> u64 {
    let state = String::from_utf8(world.value("policy/state").unwrap()).unwrap();
    let (_, state) = state.split_once('\n').unwrap();
    serde_json::from_str::<Value>(state).unwrap()["newest"]["version"].as_u64().unwrap()
}

/// No instance lives; all that is known is what the store holds, damaged or not.
#[tokio::test]
async fn after_a_restart_an_older_version_does_not_come_back() {
    type Harm = fn(Vec<u8>) -> Option<Vec<u8>>;
    let harms: [(&str, Harm); 5] = [
        ("sound", Some),
        ("gone", |_| None),
        ("empty", |_| Some(Vec::new())),
        ("a changed byte", |mut state| {
            let place = state.windows(2).position(|pair| pair == b":6").unwrap() + 1;
            state[place] = b'4';
            Some(state)
        }),
        ("cut", |state| Some(state[..state.len() / 2].to_vec())),
    ];
    for (what, harm) in harms {
        let world = stocked(POLICY);
        assert_eq!(look(plain(), &world).await, (Some(5), None));
        world.put("policy", compile(&policy_of_version(6)).bundle);
        assert_eq!(look(plain(), &world).await, (Some(6), None));
        let state = world.remove("policy/state").unwrap();
        if let Some(state) = harm(state) {
            world.put("policy/state", state);
        }
        world.put("policy", compile(&policy_of_version(5)).bundle);
        assert_eq!(look(plain(), &world).await, failed(6, "older_version"), "{what}");
        assert_eq!(newest(&world), 6, "{what}");
    }
}

/// Nothing serves yet, and many ask at once: of one instance, and of one instance each.
#[tokio::test(flavor = "multi_thread")]
async fn first_requests_at_once_share_one_look() {
    let world = stocked(POLICY);
    assert_eq!(plain().send(&world, infer(&json!({}))).await.unwrap().status, 200);
    let (reads, writes) = (world.reads.load(Ordering::Relaxed), world.writes.load(Ordering::Relaxed));
    let world = stocked(POLICY);
    let asks = || (0..40).map(|user| infer(&json!({ "user": format!("u{user}") })));
    let answers = plain().instance(&world).await.unwrap().send_all(asks().collect()).await.unwrap();
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(world.reads.load(Ordering::Relaxed), reads);
    assert_eq!(world.writes.load(Ordering::Relaxed), writes);

    // None of them gets an answer, all of them an error, and the next look is another one.
    let empty = World::new();
    empty.set("policy_source", "key-value");
    let mut instance = plain().instance(&empty).await.unwrap();
    let answers = instance.send_all(asks().collect()).await.unwrap();
    assert!(answers.iter().all(|answer| answer.problem() == (503, "no_bundle".to_owned())));
    for (key, value) in stocked(POLICY).stores.lock().unwrap()["default"].clone() {
        empty.put(&key, value);
    }
    assert_eq!(instance.send(infer(&json!({}))).await.unwrap().status, 200);

    let world = stocked(POLICY);
    let tasks: Vec<_> = asks()
        .map(|ask| {
            let world = std::sync::Arc::clone(&world);
            tokio::spawn(async move { plain().send(&world, ask).await.unwrap() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().json()["parameters"]["bundle_version"], 5);
    }
    assert_eq!(newest(&world), 5);
}

/// Each read of a look fails once, alone or with all that follow. What serves then is the version before, the new one, or nothing, and
/// never a version below one that was accepted; the next look gives the new one.
#[tokio::test]
async fn a_store_that_breaks_off_between_two_reads() {
    for (way, host) in [("plain", plain()), ("baked", baked())] {
        let world = stocked(POLICY);
        assert_eq!(look(host, &world).await, (Some(5), None));
        world.put("policy", compile(&policy_of_version(6)).bundle);
        let offered = world.stores.lock().unwrap().clone();
        assert_eq!(look(host, &world).await, (Some(6), None));
        world.put("policy", compile(POLICY).bundle);
        let accepted = world.stores.lock().unwrap().clone();
        for (what, stores, allowed) in [("offered", offered, [5, 6]), ("accepted", accepted, [6, 6])] {
            let world = || {
                let world = stocked(POLICY);
                *world.stores.lock().unwrap() = stores.clone();
                world
            };
            let whole = world();
            assert_eq!(host.send(&whole, infer(&json!({}))).await.unwrap().status, 200);
            let reads = whole.reads.load(Ordering::Relaxed);
            let sound = look(host, &whole).await;
            let mut served = std::collections::BTreeSet::new();
            for first in 0..reads {
                for last in [first + 1, usize::MAX] {
                    let world = world();
                    *world.failing_reads.lock().unwrap() = first..last;
                    let answer = host.send(&world, infer(&json!({}))).await.unwrap();
                    match answer.status {
                        200 => {
                            let version = answer.json()["parameters"]["bundle_version"].as_u64().unwrap();
                            assert!(allowed.contains(&version), "{way}, {what}, read {first}: {version}");
                            served.insert(version);
                        }
                        _ => assert_eq!(answer.problem(), (503, "no_bundle".to_owned())),
                    }
                    *world.failing_reads.lock().unwrap() = 0..0;
                    assert_eq!(look(host, &world).await, sound, "{way}, {what}, after read {first}");
                }
            }
            assert_eq!(served, allowed.into(), "{way}, {what}");
        }
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_written_is_said() {
    let world = stocked(POLICY);
    world.is_read_only.store(true, Ordering::Relaxed);
    assert_eq!(look(plain(), &world).await, failed(5, "state_not_kept"));
    world.is_read_only.store(false, Ordering::Relaxed);
    assert_eq!(look(plain(), &world).await, (Some(5), None));
    assert_eq!(newest(&world), 5);
}

/// While one instance loads version 6, another accepts version 7. The first may not write 6 over it.
#[tokio::test]
async fn a_slower_instance_does_not_undo_what_a_quicker_one_accepted() {
    let quicker = stocked(&policy_of_version(7));
    assert_eq!(look(plain(), &quicker).await, (Some(7), None));
    let after = quicker.stores.lock().unwrap()["default"].clone();
    for key in ["policy", &package("eurusd_gb").key()] {
        let world = stocked(POLICY);
        assert_eq!(look(plain(), &world).await, (Some(5), None));
        world.put("policy", compile(&policy_of_version(6)).bundle);
        *world.meanwhile.lock().unwrap() = Some((key.to_owned(), after.clone()));
        assert_eq!(look(plain(), &world).await, (Some(7), None), "while `{key}` was read");
        assert_eq!(newest(&world), 7);
        world.put("policy", compile(&policy_of_version(6)).bundle);
        assert_eq!(look(plain(), &world).await, failed(7, "older_version"));
    }
}

/// Slow: the application waits ten seconds for a store that says nothing.
#[tokio::test]
async fn a_store_that_hangs_is_given_up() {
    let world = stocked(POLICY);
    let mut instance = plain().instance(&world).await.unwrap();
    assert_eq!(instance.send(infer(&json!({}))).await.unwrap().status, 200);
    world.store_hangs.store(true, Ordering::Relaxed);
    *world.clock_ahead_ms.lock().unwrap() += 31_000;
    let asks = (0..3).map(|_| infer(&json!({}))).collect();
    let answers = instance.send_all(asks).await.unwrap();
    assert!(answers.iter().all(|answer| answer.status == 200));
    let health = instance.send(Ask::get("/health")).await.unwrap().json();
    assert_eq!(health["parts"]["policy"]["last_load"]["code"], "store_unreachable", "{health}");
}

#[tokio::test]
async fn a_baked_policy_serves_until_the_store_has_a_newer_one() {
    let world = World::new();
    world.set("policy_source", "key-value");
    assert_eq!(look(baked(), &world).await, failed(5, "missing"));
    let world = stocked(&policy_of_version(4));
    assert_eq!(look(baked(), &world).await, failed(5, "older_version"), "the baked one is newer");
    world.put("policy", compile(&policy_of_version(6)).bundle);
    assert_eq!(look(baked(), &world).await, (Some(6), None));
    world.remove("policy").unwrap();
    assert_eq!(look(baked(), &world).await, failed(6, "missing"));

    // The store has what is baked: nothing more need be read.
    let world = stocked(POLICY);
    for package in crate::fixtures::packages() {
        world.remove(&package.key()).unwrap();
    }
    assert_eq!(look(baked(), &world).await, (Some(5), None));

    // Told nothing, a baked application never looks.
    let world = stocked(&policy_of_version(9));
    world.set("policy_source", "");
    assert_eq!(look(baked(), &world).await, (Some(5), None));
    assert_eq!(world.reads.load(Ordering::Relaxed), 0);
    // A plain core without a store has nothing to serve.
    world.set("policy_source", "baked");
    assert_eq!(look(plain(), &world).await, (None, None));
}
