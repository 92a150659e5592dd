//! What the gate may and must change in a message that it passes on, and what it says by itself.

use std::net::SocketAddr;

use crate::support::message::{Message, parameter};
use crate::support::phone::names;

/// Collects what is wrong with one message.
pub struct Findings {
    about: Message,
    found: Vec<String>,
}

impl Findings {
    pub fn about(message: &Message) -> Findings {
        Findings {
            about: message.clone(),
            found: Vec::new(),
        }
    }

    fn check(&mut self, is_right: bool, what: impl FnOnce() -> String) {
        if !is_right {
            self.found.push(what());
        }
    }

    fn same(&mut self, name: &str, other: &Message) {
        let (here, there) = (self.about.all(name), other.all(name));
        self.check(here == there, || {
            format!("{name} is {here:?}, was {there:?}")
        });
    }

    pub fn report(self, place: &str) {
        let found = self.found.join("\n  ");
        assert!(
            self.found.is_empty(),
            "{place}\n  {found}\nin {:?}",
            self.about
        );
    }
}

/// A request that went through `gates` (in that order) from `sent` to `came`.
//= rfc3261#16.6
pub fn forwarded_request(
    found: &mut Findings,
    sent: &Message,
    came: &Message,
    gates: &[SocketAddr],
) {
    vias_of_request(found, sent, came, gates);
    let hops = gates.len() as i64;
    let forwards = |message: &Message| message.value("Max-Forwards").parse::<i64>().unwrap_or(-1);
    let (before, after) = (forwards(sent), forwards(came));
    found.check(after == before - hops, || {
        format!("Max-Forwards {after}, was {before}")
    });
    for name in [
        "From",
        "To",
        "Call-ID",
        "CSeq",
        "Contact",
        "Content-Type",
        "Proxy-Authorization",
    ] {
        found.same(name, sent);
    }
    found.check(came.uri() == sent.uri(), || {
        format!("Request-URI was {}", sent.uri())
    });
    found.check(came.body() == sent.body(), || {
        "the body has changed".to_owned()
    });
    routes_of_request(found, sent, came, gates);
    if came.method() == "INVITE" && came.to_tag().is_none() {
        record_routes(found, sent, came, gates);
    }
}

fn vias_of_request(found: &mut Findings, sent: &Message, came: &Message, gates: &[SocketAddr]) {
    let (before, after) = (sent.list("Via"), came.list("Via"));
    found.check(after.len() == before.len() + gates.len(), || {
        format!(
            "{} Vias, were {} before {} gates",
            after.len(),
            before.len(),
            gates.len()
        )
    });
    for (via, gate) in after.iter().zip(gates.iter().rev()) {
        let sent_by = via
            .split_whitespace()
            .nth(1)
            .and_then(|rest| rest.split(';').next());
        found.check(sent_by == Some(gate.to_string().as_str()), || {
            format!("Via {via} is not {gate}'s")
        });
        let branch = parameter(via, "branch").unwrap_or_default();
        found.check(branch.starts_with("z9hG4bK") && branch.len() > 15, || {
            format!("branch {branch} can be guessed")
        });
        found.check(branch != sent.branch(), || {
            "the branch is the sender's".to_owned()
        });
    }
    let rest = after.get(gates.len()..).unwrap_or_default();
    let untouched = rest
        .iter()
        .zip(&before)
        .all(|(after, before)| is_via_of(after, before));
    found.check(untouched, || {
        format!("the sender's Vias {before:?} became {rest:?}")
    });
}

/// Whether `after` is `before`, apart from `received` and `rport` that the receiver adds.
fn is_via_of(after: &str, before: &str) -> bool {
    let plain = |via: &str| {
        let parts = via.split(';').filter(|part| {
            let name = part.split('=').next().unwrap_or_default().trim();
            !matches!(name, "received" | "rport")
        });
        parts.collect::<Vec<&str>>().join(";")
    };
    plain(after) == plain(before)
}

//= rfc3261#16.4
fn routes_of_request(found: &mut Findings, sent: &Message, came: &Message, gates: &[SocketAddr]) {
    let mut left = sent.list("Route");
    left.retain(|route| !gates.iter().any(|gate| names(route, *gate)));
    let after = came.list("Route");
    found.check(after == left, || {
        format!("Route is {after:?}, should be {left:?}")
    });
}

//= rfc3261#16.6
fn record_routes(found: &mut Findings, sent: &Message, came: &Message, gates: &[SocketAddr]) {
    let (before, after) = (sent.list("Record-Route"), came.list("Record-Route"));
    found.check(after.len() == before.len() + gates.len(), || {
        format!("Record-Route {after:?}, was {before:?}")
    });
    for (route, gate) in after.iter().zip(gates.iter().rev()) {
        found.check(names(route, *gate), || {
            format!("Record-Route {route} is not {gate}'s")
        });
        found.check(route.contains(";lr"), || {
            format!("Record-Route {route} has no lr")
        });
    }
    found.check(after.ends_with(&before), || {
        "Record-Route of others has changed".to_owned()
    });
}

/// CANCEL, or ACK for a refusal: made by the gate for the INVITE that it had sent.
//= rfc3261#9.1
//= rfc3261#17.1.1.3
pub fn hop_by_hop(found: &mut Findings, invite: &Message, came: &Message) {
    let vias = came.list("Via");
    found.check(vias == invite.list("Via")[..1], || {
        format!(
            "Via {vias:?} is not the topmost of the INVITE's {:?}",
            invite.list("Via")
        )
    });
    for name in ["From", "Call-ID", "Route"] {
        found.same(name, invite);
    }
    found.check(came.uri() == invite.uri(), || {
        format!("Request-URI was {}", invite.uri())
    });
    found.check(came.cseq() == invite.cseq(), || {
        format!("CSeq was {}", invite.cseq())
    });
    found.check(came.has("Max-Forwards"), || "no Max-Forwards".to_owned());
}

/// An answer that some other side gave, passed on to who asked.
//= rfc3261#16.7
pub fn forwarded_response(found: &mut Findings, request: &Message, sent: &Message, came: &Message) {
    answer_to(found, request, came);
    for name in [
        "To",
        "Record-Route",
        "Contact",
        "Content-Type",
        "Proxy-Authenticate",
        "Reason",
        "Require",
        "RSeq",
    ] {
        found.same(name, sent);
    }
    found.check(came.start_line() == sent.start_line(), || {
        format!("was {}", sent.start_line())
    });
    found.check(came.body() == sent.body(), || {
        "the body has changed".to_owned()
    });
}

/// An answer of the gate itself.
//= rfc3261#8.2.6
pub fn own_response(found: &mut Findings, request: &Message, came: &Message) {
    answer_to(found, request, came);
    if came.status() == 100 {
        found.same("To", request);
    } else {
        found.check(came.to_tag().is_some(), || "no To tag".to_owned());
    }
}

fn answer_to(found: &mut Findings, request: &Message, came: &Message) {
    let (before, after) = (request.list("Via"), came.list("Via"));
    let same = before.len() == after.len()
        && before
            .iter()
            .zip(&after)
            .all(|(before, after)| is_via_of(after, before));
    found.check(same, || format!("Via {after:?}, asked with {before:?}"));
    for name in ["From", "Call-ID", "CSeq"] {
        found.same(name, request);
    }
}
