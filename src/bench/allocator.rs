//! The bench's allocator: the system's, counting. Each thread counts for itself, so that counting shares no cache line.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[global_allocator]
static COUNTING: Counting = Counting;

struct Counting;

/// What one thread has allocated since it began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allocated {
    /// Calls that got memory: allocations, and reallocations too.
    pub(super) times: u64,
    /// Bytes that were got; of a reallocation, those it added.
    pub(super) bytes: u64,
    /// Bytes that were given back.
    pub(super) freed: u64,
}

thread_local! {
    // Const and without a destructor: reading it allocates nothing, and it lives as long as its thread does.
    static ALLOCATED: Cell<Allocated> = const { Cell::new(Allocated { times: 0, bytes: 0, freed: 0 }) };
}

/// What this thread has allocated so far.
pub(super) fn allocated() -> Allocated {
    ALLOCATED.get()
}

fn count(got: usize, freed: usize) {
    ALLOCATED.with(|cell| {
        let Allocated { times, bytes, freed: before } = cell.get();
        cell.set(Allocated {
            times: times + u64::from(got > 0 || freed == 0),
            bytes: bytes + got as u64,
            freed: before + freed as u64,
        });
    });
}

#[expect(unsafe_code, reason = "an allocator can be wrapped in no other way")]
// SAFETY: every call goes to the system's allocator as it came, and what that answers is returned as it is, so that
// its promises are ours. Counting touches a thread-local cell of plain numbers: it allocates nothing and cannot panic.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promises, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promises, handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller's promises, handed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.saturating_sub(layout.size()), layout.size().saturating_sub(size));
        // SAFETY: the caller's promises, handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
