//! The methods about calls: pages of them, single ones, and what is remembered of them.

use super::CallId;
use crate::capture::Direction;
use crate::control::answers::{CallRow, CallsPage, Cursor, MessageRow, Why, WhyRow};
use crate::control::node::Node;
use crate::control::rpc::Fault;
use crate::control::trunks;
use crate::net;
use crate::shard::NodePlan;
use crate::shard::mail::{self, Ask};

/// Rows of one page of `calls`; a shard spends well under a millisecond on it.
const PAGE_ROWS_MAX: usize = 512;

/// Parameters of `calls`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallsParams {
    #[serde(default)]
    cursor: Cursor,
    #[serde(default = "page_rows")]
    rows_max: usize,
    trunk: Option<String>,
}

fn page_rows() -> usize {
    PAGE_ROWS_MAX
}

/// One page of live calls. A page ends with its shard, so that no answer waits for two shards.
pub fn page(node: &Node, params: &CallsParams) -> Result<CallsPage, Fault> {
    let plan = node.plan();
    let trunk_slot = match &params.trunk {
        Some(name) => Some(trunks::find(&plan, name)?.slot),
        None => None,
    };
    let Cursor { shard, index } = params.cursor;
    if shard >= node.seats.len() {
        return Err(Fault::new(Fault::INVALID_PARAMS, "cursor: no such shard"));
    }
    let page = node.ask(shard, |reply| Ask::Calls {
        from_index: index,
        rows_max: params.rows_max.clamp(1, PAGE_ROWS_MAX),
        trunk_slot,
        reply,
    })?;
    let following = (shard + 1 < node.seats.len()).then_some(Cursor {
        shard: shard + 1,
        index: 0,
    });
    let next = page
        .next_index
        .map(|index| Cursor { shard, index })
        .or(following);
    let rows = page
        .rows
        .into_iter()
        .map(|row| call_row(&plan, shard, row))
        .collect();
    Ok(CallsPage { rows, next })
}

/// A call with the names of its trunks.
pub fn call_row(plan: &NodePlan, shard: usize, row: mail::CallRow) -> CallRow {
    let name = |slot: u16| {
        let named = plan.routing.trunks.iter().find(|trunk| trunk.slot == slot);
        named.map_or_else(|| format!("removed#{slot}"), |trunk| trunk.name.clone())
    };
    CallRow {
        call_id: row.call_id,
        state: row.state.to_owned(),
        trunk_in: name(row.trunk_in_slot),
        trunk_out: row.trunk_out_slot.map(name),
        age_s: row.age.as_secs_f64(),
        answered_s: row.answered_for.map(|time| time.as_secs_f64()),
        caller: row.caller.to_string(),
        callee: row.callee.map(|callee| callee.to_string()),
        from: row.from,
        to: row.to,
        shard,
    }
}

/// Every decision taken for a call and its messages, oldest first, from the shard that owns its
/// Call-ID.
pub fn why(node: &Node, params: &CallId) -> Result<Why, Fault> {
    let call_id = || params.call_id.clone().into_bytes();
    let shards = u16::try_from(node.seats.len()).unwrap_or(u16::MAX);
    let owner = usize::from(net::owner(&call_id(), &node.shared.owner_key, shards));
    let decisions = node.ask(owner, |reply| Ask::Why {
        call_id: call_id(),
        reply,
    })?;
    let messages = node.ask(owner, |reply| Ask::Messages {
        call_id: call_id(),
        reply,
    })?;
    if decisions.is_empty() && messages.is_empty() {
        let message = format!(
            "nothing is remembered of the Call-ID `{}`: it never came, or its notes were overwritten",
            params.call_id
        );
        return Err(Fault::refused(message));
    }
    let decision = |row: mail::WhyRow| WhyRow {
        age_s: row.age.as_secs_f64(),
        text: row.text,
    };
    let plan = node.plan();
    Ok(Why {
        decisions: decisions.into_iter().map(decision).collect(),
        messages: messages
            .into_iter()
            .map(|row| message_row(&plan, row))
            .collect(),
    })
}

fn message_row(plan: &NodePlan, row: mail::MessageRow) -> MessageRow {
    let listener = plan.listeners.get(usize::from(row.listener));
    MessageRow {
        age_s: row.age.as_secs_f64(),
        received: row.direction == Direction::Received,
        local: listener.map_or_else(String::new, |listener| listener.address().to_string()),
        remote: row.remote.to_string(),
        text: row.text,
        cseq: row.cseq,
        octets: row.octets,
        has_body: row.has_body,
    }
}

/// Ends a call wherever it is: a shard that does not have it says so at the cost of one look.
pub fn end(node: &Node, params: &CallId) -> Result<Vec<String>, Fault> {
    for shard in 0..node.seats.len() {
        let call_id = params.call_id.clone().into_bytes();
        if node.ask(shard, |reply| Ask::EndCall { call_id, reply })? {
            return Ok(vec![params.call_id.clone()]);
        }
    }
    let message = format!("no live call has the Call-ID `{}`", params.call_id);
    Err(Fault::refused(message))
}
