//! The methods about calls: pages of them, single ones, and what is remembered of them.

use core::time::Duration;

use serde_json::Value;

use super::CallId;
use super::limits::limit_name;
use crate::capture::Direction;
use crate::control::answers::{
    CallDetail, CallRow, CallsPage, Cursor, ForkRow, MessageRow, SetupRow, Why, WhyRow,
};
use crate::control::node::Node;
use crate::control::rpc::Fault;
use crate::control::trunks;
use crate::dialog::Phase;
use crate::limit::SlotId;
use crate::net;
use crate::shard::NodePlan;
use crate::shard::mail::{self, Ask, CallFilter};

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
    /// `ringing`, `answered` or `ending`.
    state: Option<String>,
    longer_than_s: Option<f64>,
}

fn page_rows() -> usize {
    PAGE_ROWS_MAX
}

/// One page of live calls. A page ends with its shard, so that no answer waits for two shards.
pub fn page(node: &Node, params: &CallsParams) -> Result<CallsPage, Fault> {
    let plan = node.plan();
    let filter = filter(&plan, params)?;
    let Cursor { shard, index } = params.cursor;
    if shard >= node.seats.len() {
        return Err(Fault::new(Fault::INVALID_PARAMS, "cursor: no such shard"));
    }
    let following = (shard + 1 < node.seats.len()).then_some(Cursor {
        shard: shard + 1,
        index: 0,
    });
    let asked = node.ask(shard, |reply| Ask::Calls {
        from_index: index,
        rows_max: params.rows_max.clamp(1, PAGE_ROWS_MAX),
        filter,
        reply,
    });
    let page = match asked {
        Ok(page) => page,
        Err(fault) => {
            return Ok(CallsPage {
                rows: Vec::new(),
                next: following,
                missing: Some(fault.message),
            });
        }
    };
    let next = page
        .next_index
        .map(|index| Cursor { shard, index })
        .or(following);
    let rows = page
        .rows
        .into_iter()
        .map(|row| call_row(&plan, shard, row))
        .collect();
    Ok(CallsPage {
        rows,
        next,
        missing: None,
    })
}

fn filter(plan: &NodePlan, params: &CallsParams) -> Result<CallFilter, Fault> {
    let trunk_slot = match &params.trunk {
        Some(name) => Some(trunks::find(plan, name)?.slot),
        None => None,
    };
    let phase = params.state.as_deref().map(|word| {
        let phases = [Phase::Ringing, Phase::Answered, Phase::Ending];
        let named = phases.into_iter().find(|phase| phase.text() == word);
        named.ok_or_else(|| {
            let message = format!("state: ringing, answered or ending; found `{word}`");
            Fault::new(Fault::INVALID_PARAMS, message)
        })
    });
    let age = params.longer_than_s.unwrap_or(0.0);
    Ok(CallFilter {
        trunk_slot,
        phase: phase.transpose()?,
        age_min: Duration::try_from_secs_f64(age).map_err(|fault| {
            Fault::new(Fault::INVALID_PARAMS, format!("longer_than_s: {fault}"))
        })?,
    })
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
    let owner = owner(node, params);
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
    let fact = |fact| match fact {
        mail::Fact::Number(number) => Value::from(number),
        mail::Fact::Text(text) => Value::from(text),
    };
    let decision = |row: mail::WhyRow| WhyRow {
        age_s: row.age.as_secs_f64(),
        step: row.step.to_owned(),
        text: row.text,
        facts: row
            .facts
            .into_iter()
            .map(|(name, value)| (name.to_owned(), fact(value)))
            .collect(),
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

/// Everything known of the live calls with a Call-ID.
pub fn show(node: &Node, params: &CallId) -> Result<Vec<CallDetail>, Fault> {
    let plan = node.plan();
    let shard = owner(node, params);
    let call_id = params.call_id.clone().into_bytes();
    let details = node.ask(shard, |reply| Ask::Call { call_id, reply })?;
    if details.is_empty() {
        return Err(no_call(params));
    }
    let detail = |detail| call_detail(&plan, shard, detail);
    Ok(details.into_iter().map(detail).collect())
}

fn call_detail(plan: &NodePlan, shard: usize, detail: mail::CallDetail) -> CallDetail {
    let names = |slots: Vec<SlotId>| slots.iter().map(|slot| limit_name(plan, slot.0)).collect();
    let listener = |at: u16| {
        let listener = plan.listeners.get(usize::from(at));
        listener.map(|listener| listener.address().to_string())
    };
    let seconds = |left: Option<Duration>| left.map(|left| left.as_secs_f64());
    CallDetail {
        row: call_row(plan, shard, detail.row),
        invite_cseq: detail.invite_cseq,
        passage: format!("{:08x}", detail.nonce),
        lease_in: detail.lease_in.map(names),
        lease_out: detail.lease_out.map(names),
        session_left_s: seconds(detail.session_left),
        call_time_left_s: seconds(detail.call_time_left),
        recorded: detail.recorded,
        caller_listener: listener(detail.caller_listener),
        callee_listener: detail.callee_listener.and_then(listener),
        caller_contact: detail.caller_contact,
        caller_route: detail.caller_route,
        callee_contact: detail.callee_contact,
        callee_route: detail.callee_route,
        forks: detail.forks.into_iter().map(fork_row).collect(),
        setup: detail.setup.map(|setup| SetupRow {
            transaction: setup.transaction.word().to_owned(),
            last_status: setup.last_status,
            to: limit_name(plan, setup.to_slot),
            address: u32::from(setup.address_index) + 1,
            sent_s: setup.sent_for.as_secs_f64(),
            cancelled: setup.cancelled,
        }),
    }
}

fn fork_row(fork: mail::ForkDetail) -> ForkRow {
    let state = match (fork.ended, fork.confirmed) {
        (true, _) => "ended",
        (false, true) => "confirmed",
        (false, false) => "early",
    };
    ForkRow {
        state: state.to_owned(),
        caller_cseq: fork.caller_cseq,
        callee_cseq: fork.callee_cseq,
    }
}

/// Ends a call.
pub fn end(node: &Node, params: &CallId) -> Result<Vec<String>, Fault> {
    let call_id = params.call_id.clone().into_bytes();
    match node.ask(owner(node, params), |reply| Ask::EndCall { call_id, reply })? {
        true => Ok(vec![params.call_id.clone()]),
        false => Err(no_call(params)),
    }
}

fn no_call(params: &CallId) -> Fault {
    Fault::refused(format!("no live call has the Call-ID `{}`", params.call_id))
}

/// The shard that has all that is known of a Call-ID: another one need not run for an answer.
fn owner(node: &Node, params: &CallId) -> usize {
    let shards = u16::try_from(node.seats.len()).unwrap_or(u16::MAX);
    let call_id = params.call_id.as_bytes();
    usize::from(net::owner(call_id, &node.shared.owner_key, shards))
}
