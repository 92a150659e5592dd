//! Where a new call goes: trunks, groups, route lines, trunk health, and one policy per file.

pub mod health;
pub mod plan;
pub mod policy;
pub mod slots;
pub mod sources;
pub mod table;
#[cfg(test)]
mod testing;

pub use health::{
    Board, Keeper, Order, OrderFault, Passive, Probe, State, Transition, Why, auto_congest,
};
pub use plan::{
    Cidr, Cps, Group, GroupId, LimitMaxima, Member, Plan, Policy, RouteLine, Target, Trunk, TrunkId,
};
pub use policy::{Choice, next_member};
pub use slots::{SlotBook, SlotKind, SlotsFull};
pub use sources::{Rule, Sources};
