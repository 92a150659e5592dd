//! The methods about bans: list them page by page, add one, take one away.

use core::time::Duration;

use serde::Deserialize;

use crate::base::Instant;
use crate::control::answers::{BanRow, BansPage};
use crate::control::node::Node;
use crate::control::rpc::Fault;
use crate::guard::Block;
use crate::guard::bans::{Ban, Reason, SharedBans};
use crate::route::Trunk;

/// Rows of one page of `ban.list`.
const PAGE_ROWS_MAX: usize = 512;
/// What an operator may say about a ban.
const NOTE_CHARS_MAX: usize = 200;
/// Ten years.
const BAN_TIME_MAX_S: u64 = 3_650 * 86_400;

/// Parameters of `ban.list`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    #[serde(default)]
    from: usize,
    #[serde(default = "page_rows")]
    rows_max: usize,
}

fn page_rows() -> usize {
    PAGE_ROWS_MAX
}

/// Parameters of `ban.add`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddParams {
    block: String,
    for_s: Option<u64>,
    reason: Option<String>,
}

/// Parameters of `ban.remove`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveParams {
    block: String,
}

/// One page of the bans in force, in the order of their blocks.
pub fn list(node: &Node, params: &ListParams) -> BansPage {
    let now = node.levers.now();
    let bans = node.shared.bans.change_nothing(|bans| bans.list(now));
    let rows_max = params.rows_max.clamp(1, PAGE_ROWS_MAX);
    let end = bans.len().min(params.from.saturating_add(rows_max));
    let page = bans.get(params.from..end).unwrap_or_default();
    BansPage {
        rows: page.iter().map(|ban| row(now, ban)).collect(),
        next: (end < bans.len()).then_some(end),
    }
}

/// Bans a block; never one that a trunk is in.
pub fn add(node: &Node, params: &AddParams) -> Result<BanRow, Fault> {
    let block = read(&params.block)?;
    let plan = node.plan();
    if block.is_everybody() {
        return Err(Fault::refused(format!("{block} is everybody")));
    }
    if let Some(trunk) = plan.routing.trunks.iter().find(|trunk| is_in(trunk, block)) {
        let name = &trunk.name;
        let message = format!(
            "{block} has addresses of trunk `{name}`, and a trunk is never banned; \
             `callgate trunk disable {name}` keeps its calls out"
        );
        return Err(Fault::refused(message));
    }
    let allow = plan.guard.access.allow();
    if let Some(allowed) = allow.iter().find(|allowed| allowed.overlaps(block)) {
        let message = format!("{block} has addresses of {allowed}, which [guard] allow names");
        return Err(Fault::refused(message));
    }
    let note = params.reason.as_deref().map(|note| {
        let plain = note.chars().filter(|letter| !letter.is_control());
        plain.take(NOTE_CHARS_MAX).collect::<String>().into()
    });
    let span = match params.for_s {
        None => plan.guard.ban_time,
        Some(seconds) if (1..=BAN_TIME_MAX_S).contains(&seconds) => Duration::from_secs(seconds),
        Some(_) => {
            let message = "a ban lasts from one second to ten years";
            return Err(Fault::new(Fault::INVALID_PARAMS, message));
        }
    };
    let now = node.levers.now();
    let ban = Ban {
        block,
        reason: Reason::Operator,
        note,
        since: now,
        until: now + span,
    };
    let shown = row(now, &ban);
    node.shared
        .bans
        .change(|bans| bans.add(now, ban))
        .map_err(|_full| {
            let max = SharedBans::BANS_MAX;
            Fault::refused(format!("there are {max} bans, and no more are kept"))
        })?;
    Ok(shown)
}

/// Takes a ban away.
pub fn remove(node: &Node, params: &RemoveParams) -> Result<BanRow, Fault> {
    let block = read(&params.block)?;
    let now = node.levers.now();
    let removed = node.shared.bans.change(|bans| bans.remove(block));
    match removed.filter(|ban| now < ban.until) {
        Some(ban) => Ok(row(now, &ban)),
        None => Err(Fault::refused(format!(
            "{block} is not banned; `callgate ban list` shows what is"
        ))),
    }
}

fn read(text: &str) -> Result<Block, Fault> {
    text.parse().map_err(|_| {
        let message = format!(
            "`{}` is no address and no block of addresses, as in 192.0.2.7 or 192.0.2.0/24",
            text.escape_debug()
        );
        Fault::refused(message)
    })
}

/// Whether a trunk sends from a block, or is reached there.
fn is_in(trunk: &Trunk, block: Block) -> bool {
    let mut addresses = trunk.addresses.iter();
    let mut sources = trunk.sources.iter();
    addresses.any(|address| block.contains(address.ip()))
        || sources.any(|cidr| Block::new(cidr.network, cidr.prefix_len).overlaps(block))
}

fn row(now: Instant, ban: &Ban) -> BanRow {
    BanRow {
        block: ban.block.to_string(),
        reason: ban.reason.text().to_owned(),
        note: ban.note.as_deref().map(str::to_owned),
        age_s: now.since(ban.since).as_secs(),
        left_s: ban.until.since(now).as_secs(),
    }
}
