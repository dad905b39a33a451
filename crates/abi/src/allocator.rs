//! The modules' allocator: the standard one, kept out of line.
//!
//! With fat link-time optimisation the compiler copies the standard allocator's `malloc` and `free`, some two
//! kilobytes each, into every function that drops a string. The hot paths allocate nothing, so a call costs nothing
//! there, and the policy module loses a third of its size.
#![expect(unsafe_code, reason = "`GlobalAlloc` is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

static CALLS: AtomicU64 = AtomicU64::new(0);

/// How often memory was asked for, or asked to grow, since the module was instantiated.
pub fn allocations() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

fn count() {
    CALLS.fetch_add(1, Ordering::Relaxed);
}

/// The standard allocator behind functions that are never inlined.
#[derive(Debug, Clone, Copy)]
pub struct OutlinedAllocator;

// SAFETY: every call is passed on unchanged to the standard allocator, which keeps the trait's contract.
unsafe impl GlobalAlloc for OutlinedAllocator {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(address, layout) }
    }

    #[inline(never)]
    unsafe fn realloc(&self, address: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `GlobalAlloc::realloc`.
        unsafe { System.realloc(address, layout, len) }
    }
}
