//! Where requests go: route processing, Record-Route, spirals and loops (RFC 3261 §16.3, §16.4,
//! §16.6, §16.12; RFC 5393; RFC 5658).

#[expect(dead_code, reason = "each user of the kit takes a part of it")]
mod kit;

use kit::talk::*;
use kit::{Desk, Sent};

/// A new INVITE of the carrier with these further header lines.
fn routed(route: &str) -> Vec<Sent> {
    Desk::new(CONFIG).receive(CARRIER, &invite("1", route))
}

fn routes(sent: &Sent) -> Vec<&str> {
    sent.headers("Route").collect()
}

//= rfc3261#16.4
#[test]
fn our_own_route_values_are_taken_off_wherever_the_commas_and_lines_fall() {
    let own = "<sip:192.0.2.1;lr>";
    let pbx = "<sip:203.0.113.5;lr>";
    let far = "\"far, away\" <sip:far.example;lr>;x=1";
    for (lines, left) in [
        (format!("Route: {own}"), vec![]),
        (format!("Route: {own}, {own}"), vec![]),
        (format!("Route: {own}\nRoute: {own}"), vec![]),
        (format!("Route: {own},{pbx}"), vec![pbx]),
        (format!("Route: {own}\nRoute: {pbx}"), vec![pbx]),
        (
            format!("Route: {own}, {own},{pbx}\nRoute: {far}"),
            vec![pbx, far],
        ),
        (
            format!("Route: {own}\nRoute: {own}\nRoute: {pbx}, {far}"),
            vec!["<sip:203.0.113.5;lr>, \"far, away\" <sip:far.example;lr>;x=1"],
        ),
        (
            format!("Route: {pbx}, {own}"),
            vec!["<sip:203.0.113.5;lr>, <sip:192.0.2.1;lr>"],
        ),
    ] {
        let sent = routed(&lines);
        let forwarded = first(&sent, "INVITE");
        assert_eq!(routes(forwarded), left, "{lines}");
        assert_eq!(forwarded.to.to_string(), PBX);
    }
}

//= rfc3261#16.4
#[test]
fn what_a_strict_router_did_to_the_request_uri_is_undone() {
    let mut desk = Desk::new(CONFIG);
    let (_, ok) = talk(&mut desk);
    let recorded = ok.header("Record-Route").expect("recorded");
    let uri = recorded.trim_matches(['<', '>']);
    for (cseq, route, left) in [
        (2, "Route: <sip:bob@203.0.113.5:5070>", ""),
        (
            3,
            "Route: <sip:203.0.113.5:5090;lr>, <sip:bob@203.0.113.5:5070>",
            "<sip:203.0.113.5:5090;lr>",
        ),
        (
            4,
            "Route: <sip:203.0.113.5:5090;lr>\nRoute: <sip:bob@203.0.113.5:5070>",
            "<sip:203.0.113.5:5090;lr>",
        ),
    ] {
        let text = sip(&format!(
            "INFO {uri} SIP/2.0
             Via: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKs{cseq}
             Max-Forwards: 70
             {route}
             From: <sip:alice@198.51.100.10>;tag=a
             To: <sip:100@192.0.2.1>;tag=b
             Call-ID: c1
             CSeq: {cseq} INFO"
        ));
        let sent = desk.receive(CARRIER, &text);
        assert_eq!(
            sent[0].start_line(),
            "INFO sip:bob@203.0.113.5:5070 SIP/2.0",
            "{route}"
        );
        assert_eq!(routes(&sent[0]).join(", "), left, "{route}");
        let to = if left.is_empty() {
            "203.0.113.5:5070"
        } else {
            "203.0.113.5:5090"
        };
        assert_eq!(sent[0].to.to_string(), to);
    }
}

//= rfc3261#16.6
#[test]
fn a_strict_router_behind_us_gets_its_own_uri_and_the_target_in_the_last_route() {
    let mut desk = Desk::new(CONFIG);
    let (_, ok) = talk(&mut desk);
    let strict = "Route: <sip:203.0.113.5:5090>, <sip:203.0.113.9;lr>";
    let sent = desk.receive(CARRIER, &from_caller("INFO", 2, "b", &ok, strict));
    assert_eq!(
        lines(&sent),
        ["INFO sip:203.0.113.5:5090 SIP/2.0 > 203.0.113.5:5090"]
    );
    assert_eq!(
        routes(&sent[0]),
        ["<sip:203.0.113.9;lr>", "<sip:bob@203.0.113.5:5070>"]
    );
    let alone = "Route: <sip:203.0.113.5:5090>";
    let sent = desk.receive(CARRIER, &from_caller("INFO", 3, "b", &ok, alone));
    assert_eq!(
        lines(&sent),
        ["INFO sip:203.0.113.5:5090 SIP/2.0 > 203.0.113.5:5090"]
    );
    assert_eq!(routes(&sent[0]), ["<sip:bob@203.0.113.5:5070>"]);
}

//= rfc3261#16.4
#[test]
fn an_maddr_that_is_ours_is_stripped_and_a_foreign_one_followed_inside_a_dialog() {
    let mut desk = Desk::new(CONFIG);
    let text = invite("1", "").replace(
        "INVITE sip:100@192.0.2.1 ",
        "INVITE sip:100@example.com:5060;user=phone;maddr=192.0.2.1;transport=udp ",
    );
    let sent = desk.receive(CARRIER, &text);
    assert_eq!(
        first(&sent, "INVITE").start_line(),
        "INVITE sip:100@example.com;user=phone SIP/2.0"
    );
    let mut desk = Desk::new(CONFIG);
    let (_, ok) = talk(&mut desk);
    let info = from_caller("INFO", 2, "b", &ok, "").replace(
        "INFO sip:bob@203.0.113.5:5070 ",
        "INFO sip:bob@phone.example:5070;maddr=203.0.113.77 ",
    );
    assert_eq!(
        desk.receive(CARRIER, &info)[0].to.to_string(),
        "203.0.113.77:5070"
    );
}

#[test]
fn a_route_header_reaches_no_trunk_that_the_route_table_does_not_allow() {
    for route in [
        "Route: <sip:198.51.100.10;lr>",
        "Route: <sip:192.0.2.66;lr>",
        "Route: <sip:stranger.example;lr>",
        "Route: <sip:192.0.2.1;lr>, <sip:192.0.2.66:5060;lr>",
    ] {
        let sent = routed(route);
        let forwarded = first(&sent, "INVITE");
        assert_eq!(forwarded.to.to_string(), PBX, "{route}");
        assert_eq!(routes(forwarded).len(), 1, "the Route is kept: {route}");
    }
    let uri = invite("1", "").replace("sip:100@192.0.2.1 SIP", "sip:100@192.0.2.66:5060 SIP");
    let sent = Desk::new(CONFIG).receive(CARRIER, &uri);
    assert_eq!(
        lines(&sent[1..]),
        ["INVITE sip:100@192.0.2.66:5060 SIP/2.0 > 203.0.113.5:5060"]
    );
}

#[test]
fn a_route_header_picks_among_the_members_of_the_group_that_the_table_chose() {
    let config = CONFIG.replace("to = \"pbx\"", "to = \"farm\"")
        + "[trunk.other]\naddress = \"203.0.113.6:5060\"\n[group.farm]\nmembers = [\"pbx\", \"other\"]\n";
    let sent = Desk::new(&config).receive(CARRIER, &invite("1", "Route: <sip:203.0.113.6;lr>"));
    assert_eq!(first(&sent, "INVITE").to.to_string(), "203.0.113.6:5060");
    let sent = Desk::new(&config).receive(CARRIER, &invite("1", ""));
    assert_eq!(first(&sent, "INVITE").to.to_string(), PBX);
}

#[test]
fn a_made_up_to_tag_reaches_no_trunk_that_the_route_table_does_not_allow() {
    let config = CONFIG.replace(
        "[trunk.pbx]",
        "[trunk.other]\naddress = \"198.51.100.20:5060\"\n[trunk.pbx]",
    );
    for (method, to) in [
        ("INVITE", PBX),
        ("MESSAGE", PBX),
        ("REFER", PBX),
        ("BYE", "198.51.100.20:5060"),
    ] {
        let text = invite("1", "")
            .replace("INVITE sip:100@192.0.2.1 ", "INVITE sip:900@198.51.100.20 ")
            .replace("To: <sip:100@192.0.2.1>", "To: <sip:100@192.0.2.1>;tag=x")
            .replace("INVITE", method);
        let sent = Desk::new(&config).receive(CARRIER, &text);
        assert_eq!(first(&sent, method).to.to_string(), to, "{method}");
    }
}

/// Carrier over IPv4, PBX over IPv6.
const TWO_FAMILIES: &str = r#"
[node]
name = "gate"
[[listen]]
udp = "192.0.2.1:5060"
[[listen]]
udp = "[2001:db8::1]:5062"
[trunk.carrier]
address = "198.51.100.10:5060"
[trunk.pbx]
address = "[2001:db8::5]:5060"
[[route]]
from = ["carrier"]
to = "pbx"
"#;

//= rfc5658#4
#[test]
fn a_call_between_two_listeners_records_both_and_each_side_reaches_the_other() {
    let mut desk = Desk::new(TWO_FAMILIES);
    let sent = desk.receive(CARRIER, &invite("1", "Record-Route: <sip:198.51.100.1;lr>"));
    let invite = first(&sent, "INVITE").clone();
    assert_eq!(
        (invite.listener, invite.to.to_string().as_str()),
        (1, "[2001:db8::5]:5060")
    );
    assert_eq!(
        invite.start_line(),
        "INVITE sip:100@[2001:db8::5]:5060 SIP/2.0"
    );
    let top = invite.header("Via").expect("ours");
    assert!(
        top.starts_with("SIP/2.0/UDP [2001:db8::1]:5062;branch="),
        "{top}"
    );
    let recorded: Vec<String> = invite
        .headers("Record-Route")
        .map(|value| value.split(";cg=").next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(
        recorded,
        [
            "<sip:[2001:db8::1]:5062;lr",
            "<sip:192.0.2.1:5060;lr",
            "<sip:198.51.100.1;lr>"
        ]
    );
    let contact = "Contact: <sip:bob@[2001:db8::77]:5070>";
    let passed = desk.receive_on(1, "[2001:db8::5]:5060", &answer(&invite, "200 OK", contact));
    let ok = passed[0].clone();
    assert_eq!((ok.listener, ok.to.to_string().as_str()), (0, CARRIER));

    let to_phone = |text: String| text.replace("203.0.113.5:5070", "[2001:db8::77]:5070");
    let ack = from_caller("ACK", 1, "b", &ok, "").replace("Route: <sip:198.51.100.1;lr>\r\n", "");
    let ack = desk.receive(CARRIER, &to_phone(ack));
    assert_eq!(
        (ack[0].listener, ack[0].to.to_string().as_str()),
        (1, "[2001:db8::77]:5070")
    );
    assert_eq!(routes(&ack[0]).len(), 0);

    let bye = to_phone(from_callee("BYE", 1, &invite, ""));
    let bye = desk.receive_on(1, "[2001:db8::77]:5070", &bye);
    assert_eq!(
        lines(&bye),
        ["BYE sip:alice@198.51.100.10:5060 SIP/2.0 > 198.51.100.1:5060"]
    );
    assert_eq!(bye[0].listener, 0);
    assert_eq!(routes(&bye[0]), ["<sip:198.51.100.1;lr>"]);
    let done = desk.receive("198.51.100.1:5060", &answer(&bye[0], "200 OK", ""));
    assert_eq!(
        (done[0].listener, done[0].to.to_string().as_str()),
        (1, "[2001:db8::77]:5070")
    );
    desk.assert_nothing_left();
}

#[test]
fn a_request_leaves_by_the_listener_that_our_own_route_names() {
    let inside_outside = CONFIG.replace(
        "[trunk.carrier]",
        "[[listen]]\nudp = \"10.0.0.1:5060\"\n[trunk.carrier]",
    );
    let mut desk = Desk::new(&inside_outside);
    let sent = desk.receive_on(1, CARRIER, &invite("1", ""));
    let invite = first(&sent, "INVITE").clone();
    let passed = desk.receive(PBX, &ok(&invite));
    assert_eq!(
        passed[0].listener, 1,
        "the answer leaves where the request came in"
    );
    let bye = desk.receive(PHONE, &from_callee("BYE", 1, &invite, ""));
    assert_eq!(bye[0].listener, 1, "the carrier knows us by that address");
}

#[test]
fn record_route_is_written_on_requests_that_make_dialogs_only() {
    for (method, recorded) in [
        ("SUBSCRIBE", 1),
        ("REFER", 1),
        ("NOTIFY", 1),
        ("OPTIONS", 0),
        ("REGISTER", 0),
        ("MESSAGE", 0),
        ("PUBLISH", 0),
        ("INFO", 0),
        ("FOO", 0),
    ] {
        let sent = Desk::new(CONFIG).receive(CARRIER, &invite("1", "").replace("INVITE", method));
        assert_eq!(
            lines(&sent),
            [format!("{method} sip:100@203.0.113.5:5060 SIP/2.0 > {PBX}")]
        );
        assert_eq!(
            sent[0].headers("Record-Route").count(),
            recorded,
            "{method}"
        );
    }
}

//= rfc6665#4.1
#[test]
fn a_subscription_outside_of_any_call_gets_its_notifications_by_our_record_route() {
    let mut desk = Desk::new(CONFIG);
    let subscribe = invite("1", "Event: dialog\nExpires: 600").replace("INVITE", "SUBSCRIBE");
    let sent = desk.receive(CARRIER, &subscribe);
    let forwarded = sent[0].clone();
    let passed = desk.receive(PBX, &answer(&forwarded, "200 OK", "Expires: 600"));
    assert_eq!(lines(&passed), ["SIP/2.0 200 OK > 198.51.100.10:5060"]);
    let notify = from_callee(
        "NOTIFY",
        1,
        &forwarded,
        "Event: dialog\nSubscription-State: active",
    );
    let sent = desk.receive(PHONE, &notify);
    assert_eq!(
        lines(&sent),
        ["NOTIFY sip:alice@198.51.100.10:5060 SIP/2.0 > 198.51.100.10:5060"]
    );
    assert_eq!(routes(&sent[0]).len(), 0);
    let done = desk.receive(CARRIER, &answer(&sent[0], "200 OK", ""));
    assert_eq!(lines(&done), ["SIP/2.0 200 OK > 203.0.113.5:5070"]);
    let again = from_caller("SUBSCRIBE", 2, "b", &passed[0], "Event: dialog\nExpires: 0");
    assert_eq!(
        lines(&desk.receive(CARRIER, &again)),
        ["SUBSCRIBE sip:bob@203.0.113.5:5070 SIP/2.0 > 203.0.113.5:5070"]
    );
    assert_eq!(desk.shared.limits.total_used(), 0);
    desk.assert_nothing_left();
}

#[test]
fn a_made_up_record_route_opens_no_relay() {
    let mut desk = Desk::new(CONFIG);
    let (_, ok) = talk(&mut desk);
    let stranger = "192.0.2.77:5060";
    let text = from_caller("INFO", 2, "b", &ok, "").replace("203.0.113.5:5070", "192.0.2.66:5070");
    for forged in [
        text.replace("Call-ID: c1", "Call-ID: c2"),
        text.replace(";cg=", ";cg=f").replace("tag=b", "tag=x"),
        text.replace(";cg=", ";x=").replace("tag=b", "tag=x"),
    ] {
        let sent = desk.receive(stranger, &forged);
        assert_eq!(sent.len(), 1);
        assert!(
            sent[0].start_line().starts_with("SIP/2.0 481"),
            "{}",
            sent[0].start_line()
        );
    }
}

#[test]
fn a_contact_by_name_is_reached_where_its_owner_was_learned() {
    let mut desk = Desk::new(CONFIG);
    let (invite, ok) = talk(&mut desk);
    let info = from_caller("INFO", 2, "b", &ok, "")
        .replace("sip:bob@203.0.113.5:5070", "sip:bob@phone.example");
    assert_eq!(
        lines(&desk.receive(CARRIER, &info)),
        ["INFO sip:bob@phone.example SIP/2.0 > 203.0.113.5:5060"]
    );
    let info = from_callee("INFO", 2, &invite, "")
        .replace("sip:alice@198.51.100.10:5060 ", "sip:alice@pc.example ");
    assert_eq!(
        lines(&desk.receive(PHONE, &info)),
        ["INFO sip:alice@pc.example SIP/2.0 > 198.51.100.10:5060"]
    );
}

#[test]
fn a_contact_that_is_many_hosts_or_none_is_refused() {
    for host in [
        "0.0.0.0",
        "224.0.1.75",
        "255.255.255.255",
        "[ff02::1]",
        "[::]",
        "192.0.2.9:0",
    ] {
        let mut desk = Desk::new(CONFIG);
        let (_, ok) = talk(&mut desk);
        let info = from_caller("INFO", 2, "b", &ok, "")
            .replace("bob@203.0.113.5:5070", &format!("bob@{host}"));
        let sent = desk.receive(CARRIER, &info);
        assert!(none(&sent, "INFO"), "{host}");
        assert_eq!(sent.len(), 1);
    }
}

/// The PBX sends the call back to us for another user, as a proxy that forwards calls does.
fn spiral(desk: &mut Desk) -> (Sent, Sent, Sent) {
    let there = ring(desk);
    let mut text = String::from(
        "INVITE sip:200@192.0.2.1 SIP/2.0\nVia: SIP/2.0/UDP 203.0.113.5:5060;branch=z9hG4bKpbx\n",
    );
    for name in [
        "Via",
        "Record-Route",
        "Max-Forwards",
        "From",
        "To",
        "Call-ID",
        "CSeq",
        "Contact",
    ] {
        for value in there.headers(name) {
            text += &format!("{name}: {value}\n");
        }
    }
    let sent = desk.receive(PBX, &sip(&text));
    let back = first(&sent, "INVITE").clone();
    assert_eq!(
        lines(std::slice::from_ref(&back)),
        ["INVITE sip:200@198.51.100.10:5060 SIP/2.0 > 198.51.100.10:5060"]
    );
    let contact = "Contact: <sip:carol@198.51.100.10:5080>";
    let to_pbx = desk.receive(CARRIER, &answer(&back, "200 OK", contact));
    let to_pbx = first(&to_pbx, "SIP/2.0 200").clone();
    assert_eq!(to_pbx.to.to_string(), PBX);
    let mut text = String::from("SIP/2.0 200 OK\n");
    for name in [
        "Via",
        "Record-Route",
        "From",
        "To",
        "Call-ID",
        "CSeq",
        "Contact",
    ] {
        let skip = usize::from(name == "Via");
        for value in to_pbx.headers(name).skip(skip) {
            text += &format!("{name}: {value}\n");
        }
    }
    let to_caller = desk.receive(PBX, &sip(&text));
    (there, back, first(&to_caller, "SIP/2.0 200").clone())
}

//= rfc5393#4.2
#[test]
fn a_spiral_is_two_calls_and_its_bye_goes_through_both_passages() {
    let mut desk = Desk::new(CONFIG);
    let (_, _, ok) = spiral(&mut desk);
    assert_eq!((desk.used(0), desk.used(1)), ((1, 1), (1, 1)));
    assert_eq!(ok.headers("Record-Route").count(), 2);
    let bye = from_caller("BYE", 2, "b", &ok, "")
        .replace("bob@203.0.113.5:5070", "carol@198.51.100.10:5080");
    let first_passage = desk.receive(CARRIER, &bye);
    assert_eq!(
        lines(&first_passage),
        ["BYE sip:carol@198.51.100.10:5080 SIP/2.0 > 192.0.2.1:5060"]
    );
    assert_eq!(routes(&first_passage[0]).len(), 1);
    let second_passage = desk.receive("192.0.2.1:5060", &first_passage[0].text);
    assert_eq!(
        lines(&second_passage),
        ["BYE sip:carol@198.51.100.10:5080 SIP/2.0 > 198.51.100.10:5080"]
    );
    assert_eq!(routes(&second_passage[0]).len(), 0);
    let done = desk.receive(
        "198.51.100.10:5080",
        &answer(&second_passage[0], "200 OK", ""),
    );
    assert_eq!(lines(&done), ["SIP/2.0 200 OK > 192.0.2.1:5060"]);
    assert_eq!((desk.used(0), desk.used(1)), ((1, 0), (0, 1)));
    let done = desk.receive("192.0.2.1:5060", &done[0].text);
    assert_eq!(lines(&done), ["SIP/2.0 200 OK > 198.51.100.10:5060"]);
    desk.assert_nothing_left();
}

/// The forwarded INVITE as it comes back from the PBX to this Request-URI.
fn returned(there: &Sent, uri: &str) -> String {
    let first_line = there.start_line().to_owned();
    there
        .text
        .replace(&first_line, &format!("INVITE {uri} SIP/2.0"))
        .replacen(
            "Via: ",
            "Via: SIP/2.0/UDP 203.0.113.5:5060;branch=z9hG4bKx\r\nVia: ",
            1,
        )
}

//= rfc3261#16.3
#[test]
fn a_request_that_comes_round_unchanged_is_a_loop() {
    let mut desk = Desk::new(&CONFIG.replace("from = [\"pbx\"]\nto = \"carrier\"", "to = \"pbx\""));
    let there = ring(&mut desk);
    // Back from the PBX the source is another one, which may mean another route: no loop yet.
    let sent = desk.receive(PBX, &returned(&there, "sip:100@192.0.2.1"));
    let again = first(&sent, "INVITE").clone();
    let sent = desk.receive(
        PBX,
        &returned(&again, "sip:100@192.0.2.1").replace("z9hG4bKx", "z9hG4bKy"),
    );
    assert_eq!(
        lines(&sent),
        ["SIP/2.0 482 Loop Detected > 203.0.113.5:5060"]
    );
}

//= rfc3261#16.3
#[test]
fn max_forwards_is_counted_down_to_nothing() {
    let with = |hops: &str| {
        let text = invite("1", "").replace("Max-Forwards: 70", &format!("Max-Forwards: {hops}"));
        Desk::new(CONFIG).receive(CARRIER, &text)
    };
    assert_eq!(
        first(&with("1"), "INVITE").header("Max-Forwards"),
        Some("0")
    );
    assert_eq!(
        lines(&with("0")),
        ["SIP/2.0 483 Too Many Hops > 198.51.100.10:5060"]
    );
    assert_eq!(
        first(&with("255"), "INVITE").header("Max-Forwards"),
        Some("254")
    );
    for bad in ["256", "-1", "x", ""] {
        assert!(
            with(bad)[0].start_line().starts_with("SIP/2.0 400"),
            "{bad}"
        );
    }
    let text = invite("1", "").replace("Max-Forwards: 70\r\n", "");
    let sent = Desk::new(CONFIG).receive(CARRIER, &text);
    assert_eq!(first(&sent, "INVITE").header("Max-Forwards"), Some("70"));
}

#[test]
fn one_request_by_two_ways_is_two_calls_to_us_and_merged_by_the_callee() {
    let mut desk = Desk::new(CONFIG);
    let one = ring(&mut desk);
    let sent = desk.receive(CARRIER, &invite("2", ""));
    let other = first(&sent, "INVITE").clone();
    desk.receive(PBX, &answer(&other, "482 Merged Request", ""));
    assert_eq!((desk.used(0), desk.used(1)), ((1, 0), (0, 1)));
    let passed = desk.receive(PBX, &ok(&one));
    hang_up(&mut desk, &passed[0]);
    desk.receive(CARRIER, &ack_of_refusal("2"));
    desk.assert_nothing_left();
}
