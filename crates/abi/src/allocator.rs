//! The modules' allocator: two-level segregated fit, kept out of line.
//!
//! With fat link-time optimisation the compiler copies an allocator into every function that drops a string. The hot paths allocate
//! nothing, so a call costs nothing there. `docs/decisions/0011-the-allocator.md` says why it is not the standard one.
#![expect(unsafe_code, reason = "`GlobalAlloc` is an unsafe trait")]

#[cfg(not(target_arch = "wasm32"))]
use std::alloc::System as HEAP;
use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(target_arch = "wasm32")]
static HEAP: rlsf::SmallGlobalTlsf = rlsf::SmallGlobalTlsf::new();

static CALLS: AtomicU64 = AtomicU64::new(0);

/// How often memory was asked for, or asked to grow, since the module was instantiated.
pub fn allocations() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

fn count() {
    CALLS.fetch_add(1, Ordering::Relaxed);
}

/// The allocator behind functions that are never inlined.
#[derive(Debug, Clone, Copy)]
pub struct OutlinedAllocator;

// SAFETY: every call is passed on unchanged to an allocator that keeps the trait's contract.
unsafe impl GlobalAlloc for OutlinedAllocator {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { HEAP.alloc(layout) }
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc_zeroed`.
        unsafe { HEAP.alloc_zeroed(layout) }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { HEAP.dealloc(address, layout) }
    }

    #[inline(never)]
    unsafe fn realloc(&self, address: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `GlobalAlloc::realloc`.
        unsafe { HEAP.realloc(address, layout, len) }
    }
}
