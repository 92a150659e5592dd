//! Memory that is reserved and was never used. The first touch of it is the kernel's work, zeroing a
//! page of up to 2 MiB, and a shard need not be the one that waits for that.

/// The part of a reserved region that nothing was ever written to, by address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fresh {
    /// The first octet of it.
    pub start: usize,
    /// Behind the last one. It stays the same as long as the region lives.
    pub end: usize,
}

impl Fresh {
    /// The rest of a vector that never gives a place back to the end.
    pub fn of_vec<T>(vec: &Vec<T>) -> Fresh {
        let address = vec.as_ptr().addr();
        Fresh {
            start: address + size_of::<T>() * vec.len(),
            end: address + size_of::<T>() * vec.capacity(),
        }
    }

    /// What lies behind the first `used` octets of a region.
    pub fn behind(region: &[u8], used: usize) -> Fresh {
        let address = region.as_ptr().addr();
        Fresh {
            start: address + used.min(region.len()),
            end: address + region.len(),
        }
    }
}
