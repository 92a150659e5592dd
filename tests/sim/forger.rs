//! Those who are no party of a call and try to end or to answer it, with what they may know of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::caller::cancel_of;
use crate::dice::Dice;
use crate::leg::response;
use crate::peers::{Call, gate_of};
use crate::script::Forgery;
use crate::text::Text;

/// Where who is no party of anything sends from: the gate knows it not.
pub const FORGER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 66)), 5060);

/// The number of forged requests: nobody else's gets so high in a test.
pub const FORGED_CSEQ: u32 = 7777;

/// A message that nobody of this call sends: by whom, to where, and what.
pub fn forge(call: &Call, dice: &mut Dice) -> Option<(SocketAddr, SocketAddr, String)> {
    let (_, what) = call.script.forgery?;
    let stranger = match what {
        Forgery::TrunksBye | Forgery::TrunksCancel => {
            "203.0.113.4:5060".parse().expect("a literal address")
        }
        _ => FORGER,
    };
    let gate = gate_of(stranger);
    let invite = &call.legs[0].asked.first()?.text;
    let own_branch = format!("branch=z9hG4bK{:016x}", dice.number());
    let text = match what {
        Forgery::Cancel | Forgery::TrunksCancel => with_branch(&cancel_of(invite), &own_branch),
        Forgery::Bye | Forgery::TrunksBye => bye(call, gate, &own_branch, ";tag=forged", ";tag=t"),
        Forgery::HalfBye => {
            let dialog = call.legs[0].dialogs.first();
            let callee = dialog.map_or("t", |dialog| dialog.remote_tag.as_str());
            match dice.chance(500) {
                true => bye(
                    call,
                    gate,
                    &own_branch,
                    ";tag=forged",
                    &format!(";tag={callee}"),
                ),
                false => {
                    let caller = format!(";tag={}", Text::new(invite).tag_of_from()?);
                    bye(call, gate, &own_branch, &caller, ";tag=forged")
                }
            }
        }
        Forgery::Response => response(invite, 200, "forged", ""),
        Forgery::Answer(status) => {
            let (token, check) = (dice.number(), dice.number());
            let via =
                format!("Via: SIP/2.0/UDP {gate};branch=z9hG4bKcg{token:016x}.{check:016x}\r\n");
            let at = invite.find("\r\n")? + 2;
            let seen = format!("{}{via}{}", &invite[..at], &invite[at..]);
            let contact = format!("Contact: <sip:forger@{stranger}>\r\n");
            response(&seen, status, "forged", &contact)
        }
        Forgery::StrangersInvite => invite.clone(),
        Forgery::Garbage => "\u{0}\u{1}garbage".to_owned(),
        Forgery::KeepAlive => "\r\n\r\n".to_owned(),
        Forgery::Options => invite
            .replace("INVITE", "OPTIONS")
            .replace(&format!("{}@", call.user), ""),
    };
    Some((stranger, gate, text))
}

fn with_branch(text: &str, branch: &str) -> String {
    let known = Text::new(text).branch().unwrap_or_default();
    text.replacen(&format!("branch={known}"), branch, 1)
}

/// A BYE in the words of the INVITE, with these tags.
fn bye(call: &Call, gate: SocketAddr, branch: &str, from_tag: &str, to_tag: &str) -> String {
    let Some(asked) = call.legs[0].asked.first() else {
        return String::new();
    };
    let invite = Text::new(&asked.text);
    let without_tag = |name| {
        let value: &str = invite.value(name).unwrap_or_default();
        value.split(";tag=").next().unwrap_or_default().to_owned()
    };
    format!(
        "BYE sip:{}@{gate} SIP/2.0\r\nVia: SIP/2.0/UDP {};{branch}\r\nMax-Forwards: 70\r\nFrom: {}{from_tag}\r\n\
         To: {}{to_tag}\r\nCall-ID: {}\r\nCSeq: {FORGED_CSEQ} BYE\r\nContent-Length: 0\r\n\r\n",
        call.user,
        call.legs[0].at,
        without_tag("From"),
        without_tag("To"),
        call.call_id
    )
}
