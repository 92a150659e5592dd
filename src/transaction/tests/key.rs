//! Which requests belong to one server transaction.

use super::*;

/// The key of a request with this start line's method, top Via, To tag and Call-ID.
fn key(method: &str, via: &str, to: &str, call_id: &str) -> ServerKey {
    let text = format!(
        "{method} sip:bob@example.com SIP/2.0\r\n\
         Via: {via}\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:alice@example.com>;tag=a\r\n\
         To: <sip:bob@example.com>{to}\r\n\
         Call-ID: {call_id}\r\n\
         CSeq: 7 {method}\r\n\
         Content-Length: 0\r\n\r\n"
    );
    with_message(&text, |table, request, via| table.server_key(request, via))
}

fn cancel_target(via: &str) -> ServerKey {
    let text = format!(
        "CANCEL sip:bob@example.com SIP/2.0\r\n\
         Via: {via}\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:alice@example.com>;tag=a\r\n\
         To: <sip:bob@example.com>\r\n\
         Call-ID: call\r\n\
         CSeq: 7 CANCEL\r\n\
         Content-Length: 0\r\n\r\n"
    );
    with_message(&text, |table, request, via| {
        table.cancel_target_key(request, via)
    })
}

fn with_message(
    text: &str,
    take: impl FnOnce(&Table, &sip::Message<'_>, &sip::Via<'_>) -> ServerKey,
) -> ServerKey {
    let mut scratch = Scratch::new(64);
    let Ok(request) = sip::parse(text.as_bytes(), &mut scratch) else {
        panic!("does not parse: {text}");
    };
    let via = request.top_via().expect("a Via");
    take(&Desk::new().table, &request, &via)
}

const VIA: &str = "SIP/2.0/UDP Host.example.com:5060;branch=z9hG4bKone";
const OLD_VIA: &str = "SIP/2.0/UDP host.example.com:5060;branch=1";

//= rfc3261#17.2.3
#[test]
fn an_ack_belongs_to_its_invite_whatever_its_to_tag() {
    let invite = key("INVITE", VIA, "", "call");
    assert_eq!(key("ACK", VIA, ";tag=b", "call"), invite);
}

//= rfc3261#17.2.3
#[test]
fn branch_sent_by_method_and_call_tell_transactions_apart() {
    let invite = key("INVITE", VIA, "", "call");
    let other_branch = "SIP/2.0/UDP host.example.com:5060;branch=z9hG4bKtwo";
    let other_host = "SIP/2.0/UDP other.example.com:5060;branch=z9hG4bKone";
    let other_port = "SIP/2.0/UDP host.example.com:5062;branch=z9hG4bKone";
    assert_ne!(key("INVITE", other_branch, "", "call"), invite);
    assert_ne!(key("INVITE", other_host, "", "call"), invite);
    assert_ne!(key("INVITE", other_port, "", "call"), invite);
    assert_ne!(key("CANCEL", VIA, "", "call"), invite);
    assert_ne!(key("INVITE", VIA, "", "other"), invite);
    assert_ne!(key("FOO", VIA, "", "call"), key("BAR", VIA, "", "call"));
}

#[test]
fn a_sent_by_compares_without_case_and_with_its_default_port() {
    let invite = key("INVITE", VIA, "", "call");
    let spelt = "SIP/2.0/UDP HOST.EXAMPLE.COM;branch=z9hG4bKone";
    assert_eq!(key("INVITE", spelt, "", "call"), invite);
    let long = "SIP/2.0/UDP [2001:db8:0:0:0:0:0:1];branch=z9hG4bKone";
    let short = "SIP/2.0/UDP [2001:DB8::1]:5060;branch=z9hG4bKone";
    assert_eq!(key("BYE", long, "", "call"), key("BYE", short, "", "call"));
}

#[test]
fn a_cancel_names_its_invite() {
    assert_eq!(cancel_target(VIA), key("INVITE", VIA, "", "call"));
    assert_eq!(cancel_target(OLD_VIA), key("INVITE", OLD_VIA, "", "call"));
}

//= rfc3261#17.2.3
#[test]
fn without_a_magic_cookie_the_headers_decide() {
    let cookie_alone = "SIP/2.0/UDP host.example.com:5060;branch=z9hG4bK";
    let none = "SIP/2.0/UDP host.example.com:5060";
    for via in [OLD_VIA, cookie_alone, none] {
        let invite = key("INVITE", via, "", "call");
        assert_eq!(key("INVITE", via, "", "call"), invite);
        assert_eq!(key("ACK", via, ";tag=b", "call"), invite);
        assert_ne!(key("INVITE", via, "", "other"), invite);
        let bye = key("BYE", via, ";tag=b", "call");
        assert_ne!(bye, key("BYE", via, ";tag=c", "call"));
        assert_ne!(bye, invite);
    }
}
