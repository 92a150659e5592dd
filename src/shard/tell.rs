//! Decisions in words for people and in fields for scripts: what `why` shows of the journal. The words are
//! made when somebody asks, with the names that slots have then.

use super::Shard;
use super::journal::{Obstacle, Step, reason_of};
use super::mail::{Fact, WhyRow};
use super::relay::Destination;
use crate::cdr::AttemptEnd;
use crate::dialog::Side;
use crate::limit::{Direction, Look, Why};
use crate::route::Policy;
use crate::route::sources::Rule;

/// A row under construction.
struct Telling(WhyRow);

impl Telling {
    fn new(step: &'static str, text: String) -> Telling {
        Telling(WhyRow {
            step,
            text,
            ..WhyRow::default()
        })
    }

    fn text(mut self, name: &'static str, value: impl ToString) -> Telling {
        self.0.facts.push((name, Fact::Text(value.to_string())));
        self
    }

    fn number(mut self, name: &'static str, value: impl Into<u64>) -> Telling {
        self.0.facts.push((name, Fact::Number(value.into())));
        self
    }

    fn maybe(self, name: &'static str, value: Option<u32>) -> Telling {
        match value {
            Some(value) => self.number(name, value),
            None => self,
        }
    }
}

impl Shard {
    /// A decision in words and fields.
    pub(super) fn tell(&self, step: Step) -> WhyRow {
        self.telling(step).0
    }

    fn telling(&self, step: Step) -> Telling {
        match step {
            Step::Came { from, trunk, rule } => {
                let (trunk, rule) = (self.name_of(trunk), rule_text(rule));
                let text = format!("INVITE from {from}: trunk {trunk} ({rule})");
                Telling::new("source", text)
                    .text("from", from)
                    .text("trunk", trunk)
                    .text("rule", rule)
            }
            Step::Stranger { from } => {
                let text = format!("INVITE from {from}: no trunk has this address");
                Telling::new("source", text).text("from", from)
            }
            Step::Line { line, to } => {
                let (Destination::Trunk(slot) | Destination::Group(slot)) = to;
                let (file, to) = (&self.plan.source_name, self.name_of(slot));
                Telling::new("route", format!("route line {file}:{line}: to {to}"))
                    .text("file", file)
                    .number("line", line)
                    .text("to", to)
            }
            Step::Limit {
                slot,
                direction,
                look,
                refused,
            } => self.limit(slot, direction, look, refused),
            Step::Admitted { trunk } => {
                let trunk = self.name_of(trunk);
                let text = format!("admitted: incoming limits of {trunk} allow it");
                Telling::new("admitted", text).text("trunk", trunk)
            }
            Step::Chosen { group, trunk } => self.chosen(group, trunk),
            Step::PassedOver { trunk, why } => {
                let (trunk, why) = (self.name_of(trunk), obstacle_text(why));
                Telling::new("passed-over", format!("{trunk} passed over: {why}"))
                    .text("trunk", trunk)
                    .text("reason", why)
            }
            Step::Sent { trunk, to, state } => {
                let (trunk, state) = (self.name_of(trunk), state.text());
                let text = format!("INVITE sent to {trunk} at {to}, which is {state}");
                Telling::new("attempt", text)
                    .text("trunk", trunk)
                    .text("address", to)
                    .text("state", state)
            }
            Step::Answer { status } => {
                Telling::new("answer", format!("answer {status}")).number("code", status)
            }
            Step::Failed { why } => {
                let why = failure_text(why);
                Telling::new("failed", format!("attempt failed: {why}")).text("reason", why)
            }
            Step::Refused {
                status,
                q850,
                counter,
            } => {
                let reason = reason_of(counter);
                let cause = q850.map_or(String::new(), |cause| format!(", Q.850 cause {cause}"));
                let text = format!("refused with {status}{cause}: {reason}");
                Telling::new("refused", text)
                    .number("code", status)
                    .maybe("q850", q850.map(u32::from))
                    .text("reason", reason)
            }
            Step::Cancelled => Telling::new("cancelled", "the caller cancelled".to_owned()),
            Step::HungUp { side } => {
                let by = match side {
                    Side::Caller => "caller",
                    Side::Callee => "callee",
                };
                Telling::new("hung-up", format!("BYE from the {by}")).text("by", by)
            }
            Step::Ended { why } => {
                Telling::new("ended", format!("ended: {why}")).text("reason", why)
            }
        }
    }

    fn limit(&self, slot: u16, direction: Direction, look: Look, refused: Option<Why>) -> Telling {
        let name = self.name_of(slot);
        let direction = match direction {
            Direction::In => "in",
            Direction::Out => "out",
        };
        let Look {
            own,
            own_max,
            calls,
            calls_max,
            rate,
        } = look;
        let parts = [
            own_max.map(|max| format!("{direction} {own} of {max}")),
            calls_max.map(|max| format!("calls {calls} of {max}")),
            rate.map(|(left, most)| format!("rate {left} of {most} left")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        let reached = refused.map(limit_text);
        let over = reached.map_or(String::new(), |limit| format!(": {limit} reached"));
        let text = format!("limits of {name}: {}{over}", parts.join(", "));
        let telling = Telling::new("limit", text)
            .text("name", name)
            .text("direction", direction);
        let telling = match own_max {
            Some(max) => telling.number("used", own).number("used_max", max),
            None => telling,
        };
        let telling = match calls_max {
            Some(max) => telling.number("calls", calls).number("calls_max", max),
            None => telling,
        };
        let telling = match rate {
            Some((left, most)) => telling.number("cps_left", left).number("cps_burst", most),
            None => telling,
        };
        match reached {
            Some(limit) => telling.text("reached", limit),
            None => telling,
        }
    }

    fn chosen(&self, group: u16, trunk: u16) -> Telling {
        let (name, trunk) = (self.name_of(group), self.name_of(trunk));
        let policy = self
            .group_at(group)
            .map_or("", |group| policy_text(group.policy));
        Telling::new(
            "policy",
            format!("group {name} ({policy}): {trunk} is next"),
        )
        .text("group", name)
        .text("policy", policy)
        .text("trunk", trunk)
    }

    /// Name of the trunk or group that has this slot today.
    pub(super) fn name_of(&self, slot: u16) -> &str {
        let trunk = self.trunk_at(slot).map(|trunk| trunk.name.as_str());
        let group = || self.group_at(slot).map(|group| group.name.as_str());
        trunk
            .or_else(group)
            .unwrap_or("(gone from the configuration)")
    }
}

const fn limit_text(why: Why) -> &'static str {
    match why {
        Why::CallsMax => "calls_max",
        Why::CallsInMax => "calls_in_max",
        Why::CallsOutMax => "calls_out_max",
        Why::Cps { .. } => "cps",
    }
}

const fn obstacle_text(why: Obstacle) -> &'static str {
    match why {
        Obstacle::State(state) => state.text(),
        Obstacle::AddressesDown => "all its addresses are down",
        Obstacle::Codec => "no codec of the offer",
        Obstacle::CallsLimit => "over its calls limit, or its group's",
        Obstacle::Rate => "over its rate, or its group's",
        Obstacle::AsksForLess => "it asks for less (RFC 7339)",
    }
}

/// The word of the configuration.
const fn policy_text(policy: Policy) -> &'static str {
    match policy {
        Policy::Priority => "priority",
        Policy::RoundRobin => "round-robin",
        Policy::Weighted => "weighted",
        Policy::LeastCalls => "least-calls",
        Policy::CallIdHash => "call-id-hash",
    }
}

/// Why an attempt was given up.
const fn failure_text(why: AttemptEnd) -> &'static str {
    match why {
        AttemptEnd::Status => "it answered 503",
        other => other.word(),
    }
}

fn rule_text(rule: Rule) -> String {
    match rule {
        Rule::Match(block) => format!("match {}/{}", block.network, block.prefix_len),
        Rule::Address | Rule::AddressIp => rule.text().to_owned(),
    }
}
