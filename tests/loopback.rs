//! Whole calls through a running node, with real peers on the loopback interface.
//!
//! SIPp brings load, Kamailio and baresip bring somebody else's reading of the RFCs, and the phones
//! of `tests/support` bring what neither of them does. Tests of one file run one after the other.

#[path = "loopback/baresip_calls.rs"]
mod baresip_calls;
#[path = "loopback/capacity.rs"]
mod capacity;
#[path = "loopback/drain.rs"]
mod drain;
#[path = "loopback/failover.rs"]
mod failover;
#[path = "loopback/in_dialog.rs"]
mod in_dialog;
#[path = "loopback/kamailio_hops.rs"]
mod kamailio_hops;
#[path = "loopback/limits.rs"]
mod limits;
#[path = "loopback/load.rs"]
mod load;
#[path = "loopback/local.rs"]
mod local;
#[path = "loopback/storm.rs"]
mod storm;
mod support;
#[path = "loopback/takeover.rs"]
mod takeover;
