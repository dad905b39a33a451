//! Who asks for memory: nobody on a warm decision, neither the module nor the host around it; and a bundle of ten thousand
//! routes takes little more than its own size.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write as _;

use lockgate_abi::{AttributeValue, ContextFields, DecideRequestWriter, Reply};
use lockgate_core::CoreModules;
use lockgate_package::AlignedBytes;
use lockgate_policy::{Bundle, CompileOptions, RequestContext, check, compile, parse};
use lockgate_tests::core_dir;
use wasmtime::{Engine, Instance, Memory, Module, Store, TypedFunc};

/// Counts for the thread that allocates.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

fn taken(len: usize) {
    CALLS.set(CALLS.get() + 1);
    HELD.set(HELD.get().wrapping_add(len));
    MOST.set(MOST.get().max(HELD.get()));
}

// SAFETY: every call is passed on unchanged to the standard allocator, which keeps the trait's contract.
#[expect(unsafe_code, reason = "`GlobalAlloc` is an unsafe trait")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        HELD.set(HELD.get().wrapping_sub(layout.size()));
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(address, layout) }
    }

    unsafe fn realloc(&self, address: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        HELD.set(HELD.get().wrapping_sub(layout.size()));
        taken(len);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::realloc`.
        unsafe { System.realloc(address, layout, len) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// So many routes with a test group, a symbol rollout and a 90/10 split by user.
fn bundle(routes: usize) -> Vec<u8> {
    let mut source = "lockgate: 1\nroutes:\n".to_owned();
    for number in 0..routes {
        write!(
            source,
            "  route-{number:05}:
    variants: {{ stable: {{ model: m@1.0.0 }}, canary: {{ model: n@1.0.0, payload: {{ threshold: 0.5 }} }} }}
    baseline: stable
    test_groups: [{{ name: desk, users: [desk-1, desk-2, member-{number}], serve: canary }}]
    symbol_rollouts: [{{ name: majors, symbols: [EURUSD, USDCHF, GBPJPY], serve: canary }}]
    rules: [{{ name: beta, if: {{ attribute: beta, eq: true }}, serve: canary }}]
    default: {{ unit: user, split: {{ stable: 90, canary: 10 }} }}
"
        )
        .unwrap();
    }
    let policy = check(&parse("policy.yaml", &source).unwrap()).unwrap_or_else(|errors| panic!("{errors}"));
    let options = CompileOptions { stand_ins: true, source: false, ..CompileOptions::default() };
    compile(&policy, &options).unwrap_or_else(|errors| panic!("{errors}")).bundle
}

struct Guest {
    store: Store<()>,
    memory: Memory,
    allocations: TypedFunc<(), u64>,
    reserve: TypedFunc<u32, u32>,
    load: TypedFunc<u32, u32>,
    decide: TypedFunc<u32, u32>,
}

impl Guest {
    fn new() -> Self {
        let engine = Engine::default();
        let module = CoreModules::from_dir(&core_dir()).unwrap().policy;
        let module = Module::new(&engine, module.bytes()).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        let mut function = |name| instance.get_typed_func(&mut store, name).unwrap();
        let (reserve, load, decide) =
            (function("lockgate_reserve"), function("lockgate_load"), function("lockgate_decide"));
        let allocations = instance.get_typed_func(&mut store, "lockgate_allocations").unwrap();
        Self { store, memory, allocations, reserve, load, decide }
    }

    fn write(&mut self, bytes: &[u8]) -> u32 {
        let len = u32::try_from(bytes.len()).unwrap();
        let address = self.reserve.call(&mut self.store, len).unwrap();
        self.memory.write(&mut self.store, address as usize, bytes).unwrap();
        len
    }

    fn load(&mut self, bytes: &[u8]) {
        let len = self.write(bytes);
        let address = self.load.call(&mut self.store, len).unwrap();
        assert!(matches!(Reply::read(self.memory.data(&self.store), address).unwrap(), Reply::Done(_)));
    }
}

/// Decides for contexts that come along the first time, and reads every name.
fn decide(
    guest: &mut Guest,
    bundle: &Bundle,
    request: &mut Vec<u8>,
    users: &[String],
    compact: bool,
) -> usize {
    let writer = DecideRequestWriter::new(request, 0);
    let mut writer = if compact { writer.compact() } else { writer };
    for user in users {
        let fields = ContextFields {
            route: "route-00000",
            user: Some(user),
            symbol: Some(if user.ends_with('7') { "EURUSD" } else { "EURGBP" }),
            ..ContextFields::default()
        };
        let beta = user.ends_with('3').then_some(("beta", AttributeValue::Boolean(true)));
        writer.context(&fields, beta.into_iter()).unwrap();
    }
    writer.finish(&[]).unwrap();
    let len = guest.write(request);
    let address = guest.decide.call(&mut guest.store, len).unwrap();
    let Reply::Done(response) = Reply::read(guest.memory.data(&guest.store), address).unwrap() else {
        panic!()
    };
    let mut names = 0;
    if compact {
        for decision in response.compact_decisions().unwrap() {
            let decision = decision.unwrap().unwrap();
            let route = bundle.route_at(decision.route_index).unwrap();
            let (rule, layer) =
                decision.target_index.and_then(|target| bundle.target_names(target)).unwrap_or_default();
            names += route.variant(decision.variant_index).unwrap().model.len();
            names += rule.map_or(0, str::len) + layer.map_or(0, str::len);
        }
    } else {
        for decision in response.decisions() {
            let (decision, _) = decision.unwrap().unwrap();
            names += decision.model.len();
            names += decision.rule.map_or(0, str::len) + decision.layer.map_or(0, str::len);
        }
    }
    names
}

#[test]
fn a_warm_decision_asks_for_no_memory() {
    let bytes = bundle(3);
    let native = Bundle::load(AlignedBytes::copy_of(&bytes)).unwrap();
    let mut guest = Guest::new();
    guest.load(&bytes);
    let users: Vec<String> = (0..1024).map(|number| format!("user-{number:05}-ü")).collect();
    let mut request = Vec::new();
    for compact in [false, true] {
        for batch in [1, 256] {
            // Buffers grow to what a request takes, once.
            decide(&mut guest, &native, &mut request, &users[..batch], compact);
            let before = (CALLS.get(), guest.allocations.call(&mut guest.store, ()).unwrap());
            let names: usize = users
                .chunks(batch)
                .map(|users| decide(&mut guest, &native, &mut request, users, compact))
                .sum();
            let after = (CALLS.get(), guest.allocations.call(&mut guest.store, ()).unwrap());
            assert!(names > users.len());
            assert_eq!(before, after, "host and module, batches of {batch}, compact: {compact}");
        }
    }
    // The counters count.
    let (calls, allocations) = (CALLS.get(), guest.allocations.call(&mut guest.store, ()).unwrap());
    guest.write(&[0; 100_000]);
    drop(vec![0_u8; 10]);
    assert!(CALLS.get() > calls && guest.allocations.call(&mut guest.store, ()).unwrap() > allocations);
}

#[test]
fn ten_thousand_routes_are_used_where_they_lie() {
    let bytes = bundle(10_000);
    let before = HELD.get();
    MOST.set(before);
    let native = Bundle::load(AlignedBytes::copy_of(&bytes)).unwrap();
    let (most, kept) = (MOST.get() - before, HELD.get() - before);
    let context =
        RequestContext { user: Some("member-9999".to_owned()), ..RequestContext::new("route-09999") };
    assert_eq!(native.decide(&context, 0, &[]).unwrap().rule(), Some("desk"));
    assert!(most <= 3 * bytes.len(), "loading {} bytes took {most}", bytes.len());
    assert!(kept <= 3 * bytes.len() / 2, "{} bytes keep {kept}", bytes.len());

    let mut guest = Guest::new();
    let before = guest.memory.data_size(&guest.store);
    guest.load(&bytes);
    let grown = guest.memory.data_size(&guest.store) - before;
    assert!(grown <= 3 * bytes.len(), "the module's memory grew by {grown} for {} bytes", bytes.len());
}
