//! The node as operators meet it: admin socket, HTTP pages and the commands of the program.
//!
//! `node` is the view that all of them share; what only the runtime can do comes in as its levers.

pub mod answers;
mod cdr_board;
pub mod cli;
mod desk;
mod events;
mod exposition;
mod histograms;
pub mod http;
mod methods;
mod node;
mod patience;
pub mod rpc;
mod seat;
pub mod socket;
mod trunks;
mod verify;
pub mod watch;

pub use cdr_board::{CdrBoard, CdrFileState};
pub use desk::{Desk, HOMER_NUMBER, HepCounters};
pub use events::Events;
pub use node::{Facts, Levers, Node};
pub use rpc::Fault;
pub use seat::{Condition, Pace, Seat};
