//! Messages of the peers of a shard on a desk, written as text: what stands in a test is what goes
//! over the wire, with line ends and Content-Length added.

use super::{Desk, Sent};

/// Two trunks and a route each way: a carrier outside and a PBX inside.
pub const CONFIG: &str = r#"
[node]
name = "gate"
[[listen]]
udp = "192.0.2.1:5060"
[trunk.carrier]
address = "198.51.100.10:5060"
[trunk.pbx]
address = "203.0.113.5:5060"
[[route]]
from = ["carrier"]
to = "pbx"
[[route]]
from = ["pbx"]
to = "carrier"
"#;

/// The trunk `carrier` of [`CONFIG`]; slot 0.
pub const CARRIER: &str = "198.51.100.10:5060";

/// The trunk `pbx` of [`CONFIG`]; slot 1.
pub const PBX: &str = "203.0.113.5:5060";

/// The phone behind the PBX that answers, by its Contact.
pub const PHONE: &str = "203.0.113.5:5070";

/// A message without body from its lines, indented as the test likes.
pub fn sip(lines: &str) -> String {
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    let head: String = lines.map(|line| format!("{line}\r\n")).collect();
    format!("{head}Content-Length: 0\r\n\r\n")
}

/// The INVITE of a caller at the carrier; call `c1`, From tag `a`.
pub fn invite(branch: &str, extra: &str) -> String {
    sip(&format!(
        "INVITE sip:100@192.0.2.1 SIP/2.0
         Via: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK{branch}
         Max-Forwards: 70
         From: <sip:alice@198.51.100.10>;tag=a
         To: <sip:100@192.0.2.1>
         Call-ID: c1
         CSeq: 1 INVITE
         Contact: <sip:alice@198.51.100.10:5060>
         {extra}"
    ))
}

/// The CANCEL of [`invite`].
pub fn cancel(branch: &str, extra: &str) -> String {
    sip(&format!(
        "CANCEL sip:100@192.0.2.1 SIP/2.0
         Via: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK{branch}
         Max-Forwards: 70
         From: <sip:alice@198.51.100.10>;tag=a
         To: <sip:100@192.0.2.1>
         Call-ID: c1
         CSeq: 1 CANCEL
         {extra}"
    ))
}

/// The ACK of [`invite`] for a final answer that is no success.
pub fn ack_of_refusal(branch: &str) -> String {
    sip(&format!(
        "ACK sip:100@192.0.2.1 SIP/2.0
         Via: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK{branch}
         Max-Forwards: 70
         From: <sip:alice@198.51.100.10>;tag=a
         To: <sip:100@192.0.2.1>;tag=b
         Call-ID: c1
         CSeq: 1 ACK"
    ))
}

/// An answer to what the gate sent, by a callee whose tag is `b`.
pub fn answer(sent: &Sent, status: &str, extra: &str) -> String {
    answer_as("b", sent, status, extra)
}

/// An answer by a callee with this tag.
pub fn answer_as(tag: &str, sent: &Sent, status: &str, extra: &str) -> String {
    let mut text = format!("SIP/2.0 {status}\n");
    for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
        for value in sent.headers(name) {
            let is_bare = name == "To" && !value.contains("tag=");
            let tag = if is_bare {
                format!(";tag={tag}")
            } else {
                String::new()
            };
            text += &format!("{name}: {value}{tag}\n");
        }
    }
    sip(&(text + extra))
}

/// 200 with the phone's Contact.
pub fn ok(sent: &Sent) -> String {
    answer(sent, "200 OK", "Contact: <sip:bob@203.0.113.5:5070>")
}

/// Start lines and where they go.
pub fn lines(sent: &[Sent]) -> Vec<String> {
    sent.iter()
        .map(|one| format!("{} > {}", one.start_line(), one.to))
        .collect()
}

/// The first of these messages whose start line begins so.
pub fn first<'s>(sent: &'s [Sent], start: &str) -> &'s Sent {
    let found = sent.iter().find(|one| one.start_line().starts_with(start));
    found.unwrap_or_else(|| panic!("no {start} among {:?}", lines(sent)))
}

/// Whether none of these messages begins so.
pub fn none(sent: &[Sent], start: &str) -> bool {
    !sent.iter().any(|one| one.start_line().starts_with(start))
}

/// The Route header of the caller in a dialog that this answer confirms, as RFC 3261 §12.1.2 says.
pub fn caller_route(ok: &Sent) -> String {
    let mut routes: Vec<&str> = ok.headers("Record-Route").collect();
    routes.reverse();
    routes
        .iter()
        .map(|route| format!("Route: {route}\n"))
        .collect()
}

/// The Route header of the callee in a dialog of this INVITE, as RFC 3261 §12.1.1 says.
pub fn callee_route(invite: &Sent) -> String {
    let routes = invite.headers("Record-Route");
    routes.map(|route| format!("Route: {route}\n")).collect()
}

/// A request of the caller inside the dialog with the callee that has this tag.
pub fn from_caller(method: &str, cseq: u32, tag: &str, ok: &Sent, extra: &str) -> String {
    sip(&format!(
        "{method} sip:bob@203.0.113.5:5070 SIP/2.0
         Via: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKa{method}{cseq}{tag}
         Max-Forwards: 70
         From: <sip:alice@198.51.100.10>;tag=a
         To: <sip:100@192.0.2.1>;tag={tag}
         Call-ID: c1
         CSeq: {cseq} {method}
         Contact: <sip:alice@198.51.100.10:5060>
         {}{extra}",
        caller_route(ok)
    ))
}

/// A request of the callee inside the dialog with tag `b`.
pub fn from_callee(method: &str, cseq: u32, invite: &Sent, extra: &str) -> String {
    sip(&format!(
        "{method} sip:alice@198.51.100.10:5060 SIP/2.0
         Via: SIP/2.0/UDP 203.0.113.5:5070;branch=z9hG4bKb{method}{cseq}
         Max-Forwards: 70
         From: <sip:100@192.0.2.1>;tag=b
         To: <sip:alice@198.51.100.10>;tag=a
         Call-ID: c1
         CSeq: {cseq} {method}
         Contact: <sip:bob@203.0.113.5:5070>
         {}{extra}",
        callee_route(invite)
    ))
}

/// The INVITE as the callee got it.
pub fn ring(desk: &mut Desk) -> Sent {
    let sent = desk.receive(CARRIER, &invite("1", ""));
    first(&sent, "INVITE").clone()
}

/// A call that was answered and acknowledged: the INVITE as the callee got it, the 200 as the
/// caller did.
pub fn talk(desk: &mut Desk) -> (Sent, Sent) {
    let invite = ring(desk);
    let passed = desk.receive(PBX, &ok(&invite));
    assert_eq!(lines(&passed), ["SIP/2.0 200 OK > 198.51.100.10:5060"]);
    let ack = desk.receive(CARRIER, &from_caller("ACK", 1, "b", &passed[0], ""));
    assert_eq!(
        lines(&ack),
        ["ACK sip:bob@203.0.113.5:5070 SIP/2.0 > 203.0.113.5:5070"]
    );
    (invite, passed[0].clone())
}

/// The caller hangs up and the callee agrees.
pub fn hang_up(desk: &mut Desk, ok: &Sent) {
    let bye = desk.receive(CARRIER, &from_caller("BYE", 90, "b", ok, ""));
    let done = desk.receive(PHONE, &answer(first(&bye, "BYE"), "200 OK", ""));
    assert_eq!(lines(&done), ["SIP/2.0 200 OK > 198.51.100.10:5060"]);
}
