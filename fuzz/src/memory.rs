//! How many bytes a piece of work asks the allocator for: a length that is claimed must not be believed before the
//! bytes are there.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Does the work, and asserts that it asked for at most `limit` bytes, all its allocations added up. Other threads count
/// too: there are none.
pub fn within<T>(limit: usize, work: impl FnOnce() -> T) -> T {
    let region = Region::new(GLOBAL);
    let result = work();
    let asked = region.change().bytes_allocated;
    assert!(asked <= limit, "{asked} bytes were allocated where {limit} are enough");
    result
}
