//! `load relay`: datagrams from a caller to one destination and back, with the node's driver and a
//! loop like the node's, and no SIP. What it costs is what the kernel costs.

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use callgate::io::{Buffers, Event, Options, bind_group};
use callgate::net::{Flow, ListenerId, Outbox};

use crate::args::{RelayArgs, Tick};
use crate::clock::Clock;
use crate::permit::Permit;
use crate::run::stop_on_signals;

const WAIT_MAX: Duration = Duration::from_millis(100);
/// As the node's loop has them.
const OUTBOX_DATAGRAMS: usize = 1024;
const OUTBOX_BYTES: usize = 1 << 20;

/// Relays until the time is over or a signal comes, then says how much it was.
pub fn run(args: &RelayArgs) -> Result<(), String> {
    let permit = Permit::new(&args.permit);
    let to = permit.check(args.to)?;
    let listen = permit.check(args.listen)?;
    let stop = stop_on_signals().map_err(|fault| fault.to_string())?;
    if let Some(cpu) = args.cpu
        && !core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
    {
        return Err(format!("CPU {cpu} is not to be had"));
    }
    let group = bind_group(&[listen], 1, Buffers::default()).map_err(|fault| fault.to_string())?;
    let sockets: Vec<_> = group.into_iter().flatten().map(Arc::new).collect();
    let (mut driver, _why) = callgate::io::open(args.io.into(), &sockets, Options::default())
        .map_err(|fault| fault.to_string())?;
    let clock = Clock::start();
    let end = clock.now() + args.time;
    let mut out = Outbox::new(OUTBOX_DATAGRAMS, OUTBOX_BYTES);
    let mut latest = None;
    let mut refused = 0_u64;
    println!("load: relaying {listen} to {to}");
    while clock.now() < end && !stop.load(Ordering::Relaxed) {
        let mut handler = |event: Event<'_>, out: &mut Outbox| {
            let Event::Datagram { from, bytes } = event else {
                return;
            };
            let next = if from.remote == to {
                latest
            } else if permit.allows(from.remote.ip()) {
                latest = Some(from.remote);
                Some(to)
            } else {
                None
            };
            let sent = next.map(|next| out.push(Flow::udp(ListenerId(0), next), bytes));
            refused += u64::from(!matches!(sent, Some(Ok(_))));
        };
        let turned = match args.tick {
            Tick::Every(tick) => driver.tick(tick, &mut out, &mut handler),
            _ => driver.turn(Some(WAIT_MAX), &mut out, &mut handler),
        };
        turned.map_err(|fault| fault.to_string())?;
    }
    let counters = driver.counters();
    println!(
        "load: {} datagrams received, {} sent, {refused} refused, {} dropped by the kernel, {} system calls",
        counters.received, counters.sent, counters.dropped_by_kernel, counters.system_calls,
    );
    Ok(())
}
