//! Where a new call goes: trunks, groups, route lines, trunk health, and one policy per file.

pub mod plan;

pub use plan::{
    Cidr, Cps, Group, GroupId, LimitMaxima, Member, Plan, Policy, RouteLine, Target, Trunk, TrunkId,
};
