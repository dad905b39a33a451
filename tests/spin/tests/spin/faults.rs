//! The fault core through the application, and what a trap costs: the instance, with every request that it was serving. The host drops
//! the instance and makes another.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lockgate_abi::fault::Mark;
use serde_json::{Value, json};

use crate::endpoints::infer;
use crate::fixtures::{POLICY, baked_core, faulty};
use crate::host::{Ask, Host, World};

/// A request on which the policy module misbehaves.
fn decide(mark: Mark) -> Ask {
    infer(&json!({ "user": mark.user() }))
}

/// A request on which the inference module misbehaves: the mark stands in the first value, in binary to keep its bits.
fn predict(mark: Mark) -> Ask {
    let header = json!({
        "parameters": { "user": "alice" },
        "inputs": [{ "name": "input", "datatype": "FP32", "shape": [1, 17], "parameters": { "binary_data_size": 68 } }],
    });
    let header = serde_json::to_vec(&header).unwrap();
    let mut body = header.clone();
    body.extend(mark.value().to_le_bytes());
    body.extend([0; 64]);
    Ask::post("/v2/models/direction/infer", body)
        .header("inference-header-content-length", &header.len().to_string())
}

fn sound() -> Ask {
    infer(&json!({ "user": "alice" }))
}

#[tokio::test]
async fn every_mark_in_either_module() {
    assert_eq!(every_mark_is_survived().await, 16);
}

/// Traps and failed allocations end the instance, a loop runs until the host ends it; the component model leaves no room for malformed
/// answers, so the other marks do nothing. After each, the next request is answered as before.
pub(crate) async fn every_mark_is_survived() -> usize {
    let world = World::new();
    let before = faulty().send(&world, sound()).await.unwrap().json()["outputs"].clone();
    let mut compared = 0;
    for ask in [decide as fn(Mark) -> Ask, predict] {
        for mark in Mark::ALL {
            match mark {
                Mark::Loop => end_a_loop(ask(mark)).await,
                Mark::Trap | Mark::Allocate => {
                    let answer = faulty().send(&world, ask(mark)).await;
                    let error =
                        format!("{:#}", answer.err().unwrap_or_else(|| panic!("{mark:?} was answered")));
                    assert!(error.contains("unreachable") || error.contains("trap"), "{mark:?}: {error}");
                }
                _ => assert_eq!(faulty().send(&world, ask(mark)).await.unwrap().status, 200, "{mark:?}"),
            }
            let after = faulty().send(&world, sound()).await.unwrap();
            assert_eq!((after.status, &after.json()["outputs"]), (200, &before), "after {mark:?}");
            compared += 1;
        }
    }
    compared
}

/// Nothing in the application ends a loop: the platform must, as Spin does when it is told a request timeout.
async fn end_a_loop(ask: Ask) {
    // An engine of its own: interrupting ends everything that runs on it.
    static HOST: OnceLock<Arc<Host>> = OnceLock::new();
    let host = HOST.get_or_init(|| Arc::new(Host::new(&baked_core(true, POLICY).composed())));
    let _alone = LOOPS.lock().await;
    let running = Arc::clone(host);
    let runtime = tokio::runtime::Handle::current();
    let request =
        std::thread::spawn(move || runtime.block_on(async { running.send(&World::new(), ask).await }));
    while !request.is_finished() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        host.interrupt();
    }
    let error = format!("{:#}", request.join().unwrap().unwrap_err());
    assert!(error.contains("interrupt"), "{error}");
}

static LOOPS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Spin may give an instance several requests at once. A trap takes them all, and no more than them.
#[tokio::test]
async fn a_trap_costs_the_instance_and_no_other() {
    let world = World::new();
    let mut other = faulty().instance(&world).await.unwrap();
    let mut instance = faulty().instance(&world).await.unwrap();
    assert_eq!(instance.send(sound()).await.unwrap().status, 200);
    let lost = instance.send_all(vec![sound(), decide(Mark::Trap), sound()]).await;
    assert!(lost.is_err(), "all of them are lost: {lost:?}");
    drop(instance);
    let answers = other.send_all(vec![sound(), sound()]).await.unwrap();
    assert!(answers.iter().all(|answer| answer.status == 200));
    let answers: Vec<Value> = answers.iter().map(|answer| answer.json()["outputs"].clone()).collect();
    assert_eq!(answers[0], answers[1]);
}

/// Instances at once, as many requests in each, traps among them.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_requests_at_once_lose_only_the_instances_that_trap() {
    let world = World::new();
    let tasks: Vec<_> = (0..25_usize)
        .map(|number| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let mut asks: Vec<Ask> =
                    (0..40).map(|user| infer(&json!({ "user": format!("u{user}") }))).collect();
                if number % 5 == 0 {
                    asks.insert(20, predict(Mark::Trap));
                }
                let mut instance = faulty().instance(&world).await.unwrap();
                (number, instance.send_all(asks).await.map(|answers| answers.len()))
            })
        })
        .collect();
    for task in tasks {
        let (number, answered) = task.await.unwrap();
        match number % 5 {
            0 => assert!(answered.is_err(), "instance {number}"),
            _ => assert_eq!(answered.unwrap(), 40, "instance {number}"),
        }
    }
}
