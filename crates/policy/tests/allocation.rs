//! A decision allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use lockgate_package::{AlignedBytes, Digest, Signature};
use lockgate_policy::{Bundle, CompileOptions, PackageRef, RequestContext, check, compile, parse};

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

#[test]
fn a_decision_allocates_nothing() {
    let source = "
lockgate: 1
segments: { s: { users: [a, b, c] } }
routes:
  r:
    variants: { x: { model: m@1.0.0, payload: { t: 1 } }, y: { model: m@1.0.0 } }
    baseline: x
    overrides: [{ user: o, serve: y }]
    test_groups: [{ name: g, segments: [s], serve: y }]
    rules:
      - { name: symbols, if: { symbol: { in: [A, B, C, D, E, F, G, H, I, J] } }, serve: y }
      - { name: attribute, if: { attribute: country, eq: DE }, unit: [tenant, user], split: { x: 50, y: 50 } }
    default: { split: { x: 90, y: 10 } }
";
    let policy = check(&parse("policy.yaml", source).unwrap()).unwrap();
    let packages = [PackageRef {
        model: "m".into(),
        version: "1.0.0".into(),
        digest: Digest::of(b"m"),
        signature: Signature::default(),
    }];
    let bytes = compile(&policy, &CompileOptions { packages: &packages, ..Default::default() }).unwrap();
    let bundle = Bundle::load(AlignedBytes::copy_of(&bytes)).unwrap();
    let text = |text: &str| Some(text.to_owned());
    let contexts = [
        RequestContext::new("r"),
        RequestContext { user: text("o"), ..RequestContext::new("r") },
        RequestContext { user: text("b"), ..RequestContext::new("r") },
        RequestContext { user: text("z"), symbol: text("H"), ..RequestContext::new("r") },
        RequestContext {
            user: text("z"),
            tenant: text("t"),
            attributes: [("country".into(), lockgate_policy::Attribute::Text("DE".into()))].into(),
            ..RequestContext::new("r")
        },
        RequestContext::new("nowhere"),
    ];
    let before = ALLOCATIONS.get();
    let decided = contexts.iter().filter(|context| bundle.decide(*context, 0, &[]).is_ok()).count();
    let after = ALLOCATIONS.get();
    assert_eq!((decided, after - before), (5, 0));
}
