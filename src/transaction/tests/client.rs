//! Client transactions: what is sent again and when, what is passed up, how they end.

use super::client_invite::State as InviteState;
use super::*;

const TOKEN: u64 = 42;

impl Desk {
    fn call(&mut self, token: u64, method: Method) -> Result<ClientId, Full> {
        self.call_over(flow(), token, method)
    }

    fn call_over(&mut self, to: Flow, token: u64, method: Method) -> Result<ClientId, Full> {
        let text = String::from_utf8_lossy(method.as_bytes()).into_owned();
        let compose = request(&text);
        self.table
            .send(self.now, token, method, to, 7, compose, &mut self.out)
    }

    fn hear(&mut self, status: u16, method: Method) -> Option<Verdict> {
        let id = self.table.find_client(TOKEN, method)?;
        let text = response_text(status, &String::from_utf8_lossy(method.as_bytes()));
        let (mut read, mut reread) = (Scratch::new(64), Scratch::new(64));
        let response = sip::parse(text.as_bytes(), &mut read).ok()?;
        let (now, out) = (self.now, &mut self.out);
        Some(self.table.received(now, id, &response, &mut reread, out))
    }
}

//= rfc3261#17.1.1.2
#[test]
fn an_unanswered_invite_is_repeated_at_doubling_intervals_until_timer_b() {
    let mut desk = Desk::new();
    desk.call(TOKEN, Method::Invite).expect("room");
    let story = desk.run(100_000);
    assert_eq!(
        story,
        [
            "0 INVITE",
            "500 INVITE",
            "1500 INVITE",
            "3500 INVITE",
            "7500 INVITE",
            "15500 INVITE",
            "31500 INVITE",
            "32000 ClientTimedOut",
            "32000 ClientGone 7",
        ]
    );
    assert!(desk.is_empty());
}

//= rfc3261#17.1.2.2
#[test]
fn an_unanswered_bye_is_repeated_at_intervals_that_stop_at_t2_until_timer_f() {
    let mut desk = Desk::new();
    desk.call(TOKEN, Method::Bye).expect("room");
    let story = desk.run(100_000);
    let times = [
        0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500,
    ];
    let mut expected: Vec<String> = times.iter().map(|ms| format!("{ms} BYE")).collect();
    expected.push("32000 ClientTimedOut".to_string());
    expected.push("32000 ClientGone 7".to_string());
    assert_eq!(story, expected);
    assert!(desk.is_empty());
}

//= rfc3261#17.1.2.2
#[test]
fn after_a_provisional_answer_a_bye_is_repeated_every_t2() {
    let mut desk = Desk::new();
    desk.call(TOKEN, Method::Bye).expect("room");
    desk.run(100);
    assert_eq!(desk.hear(100, Method::Bye), Some(Verdict::PassUp));
    let story = desk.run(9000);
    assert_eq!(story, ["500 BYE", "4500 BYE", "8500 BYE"]);
    let rest = desk.run(100_000);
    assert_eq!(rest.last().map(String::as_str), Some("32000 ClientGone 7"));
}

//= rfc3261#17.1.1.2
#[test]
fn a_provisional_answer_stops_the_repetition_of_an_invite_and_timer_b() {
    let mut desk = Desk::new();
    let id = desk.call(TOKEN, Method::Invite).expect("room");
    desk.run(600);
    assert_eq!(desk.hear(180, Method::Invite), Some(Verdict::PassUp));
    assert_eq!(desk.hear(180, Method::Invite), Some(Verdict::PassUp));
    assert_eq!(desk.run(200_000), Vec::<String>::new());
    assert_eq!(desk.table.timers_len(), 0);
    assert!(desk.table.client_request(id).is_some());
}

#[test]
fn each_2xx_is_passed_up_until_timer_m() {
    let mut desk = Desk::new();
    let id = desk.call(TOKEN, Method::Invite).expect("room");
    assert_eq!(desk.hear(200, Method::Invite), Some(Verdict::PassUp));
    assert_eq!(desk.table.client_request(id), None);
    assert_eq!(desk.table.stored_bytes(), 0);
    desk.run(20_000);
    assert_eq!(desk.hear(200, Method::Invite), Some(Verdict::PassUp));
    assert_eq!(desk.hear(486, Method::Invite), Some(Verdict::Absorb));
    assert_eq!(desk.hear(183, Method::Invite), Some(Verdict::Absorb));
    assert_eq!(desk.run(100_000), ["32000 ClientGone 7"]);
    assert_eq!(desk.hear(200, Method::Invite), None);
    assert!(desk.is_empty());
}

//= rfc3261#17.1.1.3
#[test]
fn the_ack_for_a_busy_goes_where_the_invite_went() {
    let mut desk = Desk::new();
    let id = desk.call(TOKEN, Method::Invite).expect("room");
    desk.out.clear();
    assert_eq!(desk.hear(486, Method::Invite), Some(Verdict::PassUp));
    let ack = desk.out.iter().next().expect("an ACK was sent");
    assert_eq!(ack.to, flow());
    let text = String::from_utf8_lossy(ack.bytes).into_owned();
    assert!(
        text.starts_with("ACK sip:bob@192.0.2.1 SIP/2.0\r\n"),
        "{text}"
    );
    assert!(text.contains("branch=z9hG4bK1\r\n"), "{text}");
    assert!(!text.contains("z9hG4bKcaller"), "{text}");
    assert!(text.contains("Route: <sip:192.0.2.1;lr>\r\n"), "{text}");
    assert!(
        text.contains("To: <sip:bob@example.com>;tag=b\r\n"),
        "{text}"
    );
    assert!(text.contains("CSeq: 7 ACK\r\n"), "{text}");
    assert_eq!(desk.table.client_request(id), None);
}

//= rfc3261#17.1.1.2
#[test]
fn a_repeated_busy_is_acknowledged_again_and_absorbed_until_timer_d() {
    let mut desk = Desk::new();
    desk.call(TOKEN, Method::Invite).expect("room");
    desk.run(100);
    assert_eq!(desk.hear(486, Method::Invite), Some(Verdict::PassUp));
    assert_eq!(desk.sent(), ["100 ACK"]);
    desk.run(600);
    assert_eq!(desk.hear(486, Method::Invite), Some(Verdict::Absorb));
    assert_eq!(desk.sent(), ["600 ACK"]);
    assert_eq!(desk.hear(180, Method::Invite), Some(Verdict::Absorb));
    assert_eq!(desk.hear(200, Method::Invite), Some(Verdict::Absorb));
    assert_eq!(desk.run(100_000), ["32100 ClientGone 7"]);
    assert!(desk.is_empty());
}

#[test]
fn an_ack_that_found_no_room_is_composed_for_the_next_copy_of_the_answer() {
    let mut desk = Desk::new();
    desk.call(TOKEN, Method::Invite).expect("room");
    desk.fill_outbox();
    assert_eq!(desk.hear(486, Method::Invite), Some(Verdict::PassUp));
    assert_eq!(desk.table.counters().acks_refused, 1);
    desk.out.clear();
    assert_eq!(desk.hear(486, Method::Invite), Some(Verdict::Absorb));
    assert_eq!(desk.sent(), ["0 ACK"]);
    assert_eq!(desk.hear(486, Method::Invite), Some(Verdict::Absorb));
    assert_eq!(desk.sent(), ["0 ACK"]);
    assert_eq!(desk.table.counters().requests_resent, 1);
}

//= rfc3261#17.1.2.2
#[test]
fn one_final_answer_to_a_bye_is_passed_up_and_others_absorbed_until_timer_k() {
    let mut desk = Desk::new();
    desk.call(TOKEN, Method::Bye).expect("room");
    assert_eq!(desk.hear(200, Method::Bye), Some(Verdict::PassUp));
    assert_eq!(desk.table.stored_bytes(), 0);
    assert_eq!(desk.hear(200, Method::Bye), Some(Verdict::Absorb));
    assert_eq!(desk.run(100_000), ["0 BYE", "5000 ClientGone 7"]);
    assert!(desk.is_empty());
}

#[test]
fn a_timed_out_record_can_be_read_but_not_matched_until_it_is_gone() {
    let mut desk = Desk::new();
    let id = desk.call(TOKEN, Method::Invite).expect("room");
    desk.run(31_999);
    let event = desk.table.expire(at(32_000), &mut desk.out);
    assert_eq!(event, Some(Event::ClientTimedOut(id)));
    assert_eq!(desk.table.find_client(TOKEN, Method::Invite), None);
    assert!(desk.table.client_request(id).is_some());
    assert_eq!(desk.table.client_user(id), Some(&7));
    let event = desk.table.expire(at(32_000), &mut desk.out);
    assert_eq!(event, Some(Event::ClientGone(id, 7)));
    assert_eq!(desk.table.client_user(id), None);
    assert_eq!(desk.table.client_state(id), None);
}

//= rfc3261#9.1
#[test]
fn a_cancelled_invite_without_a_final_answer_times_out_after_64_t1() {
    let mut desk = Desk::new();
    let id = desk.call(TOKEN, Method::Invite).expect("room");
    desk.run(100);
    desk.hear(180, Method::Invite);
    desk.run(10_000);
    desk.table.cancelled(desk.now, id);
    assert_eq!(desk.hear(180, Method::Invite), Some(Verdict::PassUp));
    let story = desk.run(100_000);
    assert_eq!(story, ["42000 ClientTimedOut", "42000 ClientGone 7"]);
    assert!(desk.is_empty());
}

//= rfc3261#9.1
#[test]
fn a_cancelled_invite_takes_its_487_or_its_late_200() {
    for status in [487, 200] {
        let mut desk = Desk::new();
        let id = desk.call(TOKEN, Method::Invite).expect("room");
        desk.hear(180, Method::Invite);
        desk.table.cancelled(desk.now, id);
        assert_eq!(desk.hear(status, Method::Invite), Some(Verdict::PassUp));
        desk.out.clear();
        assert_eq!(desk.run(100_000), ["32000 ClientGone 7"]);
    }
}

//= rfc3261#17.1.3
#[test]
fn a_cancel_shares_the_token_of_its_invite_and_is_matched_apart() {
    let mut desk = Desk::new();
    let invite = desk.call(TOKEN, Method::Invite).expect("room");
    let cancel = desk.call(TOKEN, Method::Cancel).expect("room");
    assert_eq!(desk.table.find_client(TOKEN, Method::Invite), Some(invite));
    assert_eq!(desk.table.find_client(TOKEN, Method::Cancel), Some(cancel));
    assert_eq!(desk.table.find_client(TOKEN, Method::Bye), None);
    assert_eq!(desk.table.find_client(TOKEN + 1, Method::Invite), None);
}

//= rfc3261#17.1.4
#[test]
fn a_refusal_by_the_network_fails_a_calling_invite_at_once() {
    let mut desk = Desk::new();
    let id = desk.call(TOKEN, Method::Invite).expect("room");
    desk.table.unreachable(desk.now, id);
    desk.table.unreachable(desk.now, id);
    assert_eq!(desk.table.next_deadline(), Some(Instant::START));
    let story = desk.run(100_000);
    assert_eq!(story, ["0 INVITE", "0 ClientFailed", "0 ClientGone 7"]);
    assert!(desk.is_empty());
}

#[test]
fn a_refusal_by_the_network_does_not_end_a_ringing_call() {
    let mut desk = Desk::new();
    let id = desk.call(TOKEN, Method::Invite).expect("room");
    desk.hear(180, Method::Invite);
    desk.table.unreachable(desk.now, id);
    assert_eq!(
        desk.table.client_state(id),
        Some(ClientState::Invite(InviteState::Proceeding))
    );
}

#[test]
fn an_abandoned_invite_is_not_repeated_and_its_late_busy_is_acknowledged_and_absorbed() {
    let mut desk = Desk::new();
    let id = desk.call(TOKEN, Method::Invite).expect("room");
    desk.run(2000);
    desk.table.abandon_client(desk.now, id);
    assert_eq!(desk.run(10_000), Vec::<String>::new());
    assert_eq!(desk.hear(180, Method::Invite), Some(Verdict::PassUp));
    assert_eq!(desk.hear(486, Method::Invite), Some(Verdict::Absorb));
    assert_eq!(desk.run(100_000), ["10000 ACK", "42000 ClientGone 7"]);
    assert!(desk.is_empty());
}

#[test]
fn an_abandoned_transaction_is_gone_without_a_time_out() {
    let mut desk = Desk::new();
    let invite = desk.call(TOKEN, Method::Invite).expect("room");
    let bye = desk.call(TOKEN + 1, Method::Bye).expect("room");
    desk.out.clear();
    desk.table.abandon_client(desk.now, invite);
    desk.table.abandon_client(desk.now, bye);
    let story = desk.run(100_000);
    assert_eq!(story, ["5000 ClientGone 7", "32000 ClientGone 7"]);
    assert!(desk.is_empty());
}

#[test]
fn a_reliable_transport_repeats_nothing_and_absorbs_for_no_time() {
    let mut desk = Desk::new();
    desk.call_over(reliable_flow(), TOKEN, Method::Invite)
        .expect("room");
    assert_eq!(desk.run(1000), ["0 INVITE"]);
    assert_eq!(desk.hear(486, Method::Invite), Some(Verdict::PassUp));
    assert_eq!(desk.run(2000), ["1000 ACK", "1000 ClientGone 7"]);
    assert!(desk.is_empty());
}

#[test]
fn a_full_table_refuses_and_sends_nothing() {
    let mut desk = Desk::with(&Capacity {
        clients: 1,
        ..ROOMY
    });
    desk.call(1, Method::Invite).expect("room");
    let stored = desk.table.stored_bytes();
    assert_eq!(desk.call(2, Method::Invite), Err(Full::Clients));
    assert_eq!(desk.sent(), ["0 INVITE"]);
    assert_eq!(desk.table.stored_bytes(), stored);
    assert_eq!(desk.table.find_client(2, Method::Invite), None);
}

#[test]
fn a_request_whose_copy_has_no_room_is_not_sent() {
    let mut desk = Desk::with(&Capacity { bytes: 0, ..ROOMY });
    assert_eq!(desk.call(TOKEN, Method::Invite), Err(Full::Bytes));
    assert!(desk.out.is_empty());
    assert!(desk.is_empty());
}

#[test]
fn a_request_that_finds_the_outbox_full_leaves_no_record() {
    let mut desk = Desk::new();
    desk.fill_outbox();
    assert_eq!(desk.call(TOKEN, Method::Invite), Err(Full::Outbox));
    assert!(desk.is_empty());
}

#[test]
fn a_repetition_that_finds_the_outbox_full_is_counted_and_tried_again() {
    let mut desk = Desk::new();
    desk.call(TOKEN, Method::Invite).expect("room");
    desk.fill_outbox();
    assert_eq!(desk.table.expire(at(500), &mut desk.out), None);
    assert_eq!(desk.table.counters().resends_refused, 1);
    desk.out.clear();
    assert_eq!(desk.run(2000), ["1500 INVITE"]);
}

#[test]
fn a_stale_id_does_nothing() {
    let mut desk = Desk::new();
    let stale = desk.call(TOKEN, Method::Invite).expect("room");
    desk.table.unreachable(desk.now, stale);
    desk.run(0);
    let id = desk.call(TOKEN, Method::Invite).expect("room");
    desk.table.unreachable(desk.now, stale);
    desk.table.abandon_client(desk.now, stale);
    desk.table.cancelled(desk.now, stale);
    assert_eq!(desk.table.client_user_mut(stale), None);
    assert_eq!(desk.table.client_flow(stale), None);
    assert_eq!(
        desk.table.client_state(id),
        Some(ClientState::Invite(InviteState::Calling))
    );
}

#[test]
fn events_come_in_the_order_in_which_they_happened() {
    let mut desk = Desk::new();
    desk.call(1, Method::Bye).expect("room");
    desk.run(1);
    let failed = desk.call(2, Method::Invite).expect("room");
    desk.run(2);
    desk.table.unreachable(desk.now, failed);
    let mut told = Vec::new();
    while let Some(event) = desk.table.expire(at(40_000), &mut desk.out) {
        told.push(name(&event));
    }
    assert_eq!(
        told,
        [
            "ClientFailed",
            "ClientGone 7",
            "ClientTimedOut",
            "ClientGone 7"
        ]
    );
}

#[test]
fn a_clock_that_was_held_up_causes_one_repetition_and_not_a_burst() {
    let mut desk = Desk::new();
    desk.call(TOKEN, Method::Invite).expect("room");
    desk.out.clear();
    assert_eq!(desk.table.expire(at(10_000), &mut desk.out), None);
    assert_eq!(desk.out.len(), 1);
}
