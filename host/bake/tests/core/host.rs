//! Images in `host/runtime`: instances that wake up with what serves.

use lockgate_abi::fault::Mark;
use lockgate_bake::Baked;
use lockgate_core::{BakedModules, CoreModules};
use lockgate_runtime::{Contents, Runtime, Settings};

use crate::guest::{bake_all, contents};
use crate::support::{self, MODELS, POLICY, World, infer, rows, user};

fn modules(baked: Baked) -> BakedModules {
    BakedModules { manifest: baked.manifest, policy: baked.policy.module, inference: baked.inference.module }
}

fn baked_with(core: &CoreModules, world: World) -> BakedModules {
    modules(bake_all(core, contents(world)).unwrap())
}

fn world() -> World {
    World::new(POLICY, &MODELS)
}

fn with(baked: BakedModules) -> Contents {
    Contents { baked: Some(baked), ..contents(world()) }
}

fn runtime(core: CoreModules) -> Runtime {
    let settings = Settings { fault_limit: 1000, ..support::settings() };
    Runtime::builder(core).settings(settings).build().unwrap()
}

#[test]
fn a_runtime_with_images_answers_as_one_without() {
    let core = support::core();
    let loading = support::runtime(core.clone(), support::settings());
    let waking = runtime(core.clone());
    let installed = waking.install_contents(with(baked_with(&core, world())), None).unwrap();
    assert_eq!((installed.models, installed.unused.len()), (3, 0));
    for name in ["alice", "forest", "stable", "bob", "user-17"] {
        let request = || infer(vec![user(name), user("carol")], vec![rows(2)]);
        let (expected, found) = (loading.infer(request()).unwrap(), waking.infer(request()).unwrap());
        assert_eq!(found.outputs, expected.outputs, "{name}");
        assert_eq!(found.served, expected.served, "{name}");
        assert_eq!((found.core, found.bundle), (expected.core, expected.bundle));
    }
    // A new bundle without an image takes over; the packages stay where they are.
    let policy = POLICY.replace("\nversion: 1\n", "\nversion: 2\n");
    waking.install_contents(contents(World::new(&policy, &MODELS)), None).unwrap();
    let answer = waking.infer(infer(vec![user("alice")], vec![rows(1)])).unwrap();
    assert_eq!(answer.bundle.version, 2);
}

#[test]
fn a_trap_costs_a_baked_instance_and_the_next_one_wakes_up() {
    let core = support::fault_core();
    let runtime = runtime(core.clone());
    runtime.install_contents(with(baked_with(&core, world())), None).unwrap();
    for _ in 0..3 {
        let error = runtime.infer(infer(vec![user(Mark::Trap.user())], vec![rows(1)])).unwrap_err();
        assert_eq!(error.code(), "trap");
        let mut values = [0.0; 17];
        values[0] = Mark::Trap.value();
        let marked = lockgate_package::Tensor::fp32("input", vec![1, 17], &values);
        let error = runtime.infer(infer(vec![user("alice")], vec![marked])).unwrap_err();
        assert_eq!(error.code(), "trap");
        runtime.infer(infer(vec![user("alice")], vec![rows(1)])).unwrap();
    }
}

#[test]
fn images_that_are_not_of_what_is_installed_are_refused() {
    let core = support::core();
    let check = |baked: BakedModules, words: &str| {
        let runtime = runtime(support::core());
        let error = runtime.install_contents(with(baked), None).unwrap_err();
        assert_eq!(error.code(), "unusable_image", "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.hint().is_some());
        assert!(runtime.generation().bundle().is_none(), "nothing was installed");
    };
    // Another bundle.
    let policy = POLICY.replace("\nversion: 1\n", "\nversion: 2\n");
    let other = baked_with(&core, World::new(&policy, &MODELS));
    check(other.clone(), "the baked policy module cannot be used: it holds version 2 of the bundle");
    // Another bundle that the manifest hides.
    let good = baked_with(&core, world());
    check(BakedModules { policy: other.policy, ..good.clone() }, "it holds ");
    // A plain module that the manifest calls baked.
    let plain = core.policy.bytes().to_vec();
    check(BakedModules { policy: plain, ..good.clone() }, "no bundle is loaded");
    // Packages in another order than the manifest says.
    let mut misnumbered = good.clone();
    misnumbered.manifest.packages.reverse();
    check(misnumbered, "the baked inference module cannot be used: it holds ");
    // Another core.
    check(baked_with(&support::fault_core(), world()), "it was made from the module ");
    // No module at all.
    check(BakedModules { inference: b"no wasm".to_vec(), ..good }, "the baked inference module");
}
