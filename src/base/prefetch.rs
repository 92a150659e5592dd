//! Asks the processor to fetch memory that will be read soon, so that the wait for it passes while
//! something else is done.

/// Asks for the cache line that `place` begins in. Changes nothing but when it is there.
#[inline(always)]
pub fn prefetch<T>(place: &T) {
    ask(core::ptr::from_ref(place).cast());
}

/// Asks for all of `place`.
#[inline(always)]
pub fn prefetch_all<T>(place: &T) {
    const LINE: usize = 64;
    let address: *const u8 = core::ptr::from_ref(place).cast();
    for line in 0..size_of::<T>().div_ceil(LINE) {
        ask(address.wrapping_add(line * LINE));
    }
}

#[inline(always)]
fn ask(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that a program could see, and faults nowhere.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the same.
    unsafe {
        core::arch::asm!(
            "prfm pldl1keep, [{address}]",
            address = in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
