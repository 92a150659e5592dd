//! Records of calls in memory, for a process that takes a node without `state_dir` over.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, memfd_create};

use super::Mapping;
use crate::dialog::store::{Head, Region};
use crate::runtime::shard_loop::Surroundings;
use crate::shard::Shard;

/// Records all calls of a shard at this moment; they are read once and then kept up by nobody.
pub fn keep_in_memory(shard: &mut Shard, around: &Surroundings) -> io::Result<OwnedFd> {
    let head = Head::new(shard.positions_needed(), &around.shared.owner_key);
    let file = File::from(memfd_create("callgate-calls", MemfdFlags::CLOEXEC)?);
    file.set_len(head.octets() as u64)?;
    let mut mapping = Mapping::over(&file)?;
    head.write(mapping.octets_mut());
    let (now, wall) = (around.clock.now(), around.clock.wall());
    shard.keep_calls_in(now, Box::new(mapping), wall, &|_| None);
    shard.record_all();
    shard.close_accounts(now);
    drop(shard.leave_records());
    Ok(file.into())
}
