//! Server transactions: what is absorbed, what is answered again, how they end.

use super::server_invite::State as InviteState;
use super::server_non_invite::State as NonInviteState;
use super::*;

impl Desk {
    fn arrive(&mut self, number: u64, role: Role) -> ServerId {
        self.table
            .accept(self.now, server_key(number), role, flow(), 9)
            .expect("room")
    }

    fn answer(&mut self, id: ServerId, status: u16) {
        self.table
            .respond(self.now, id, status, response(status), &mut self.out)
            .expect("room");
    }

    fn again(&mut self, id: ServerId) -> Vec<String> {
        self.table.retransmitted(self.now, id, &mut self.out);
        self.sent()
    }
}

//= rfc3261#17.2.1
#[test]
fn a_repeated_invite_gets_the_most_recent_provisional_answer() {
    let mut desk = Desk::new();
    let id = desk.arrive(1, Role::Invite);
    assert_eq!(desk.again(id), Vec::<String>::new());
    desk.answer(id, 100);
    assert_eq!(desk.sent(), ["0 100"]);
    assert_eq!(desk.again(id), ["0 100"]);
    desk.answer(id, 180);
    assert_eq!(desk.sent(), ["0 180"]);
    assert_eq!(desk.again(id), ["0 180"]);
    assert_eq!(desk.table.last_status(id), Some(180));
    assert_eq!(desk.table.timers_len(), 0);
}

//= rfc3261#17.2.1
#[test]
fn a_busy_without_an_ack_is_repeated_at_intervals_that_stop_at_t2_until_timer_h() {
    let mut desk = Desk::new();
    let id = desk.arrive(1, Role::Invite);
    desk.answer(id, 486);
    let story = desk.run(100_000);
    let times = [
        0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500,
    ];
    let mut expected: Vec<String> = times.iter().map(|ms| format!("{ms} 486")).collect();
    expected.push("32000 ServerTimedOut".to_string());
    expected.push("32000 ServerGone 9".to_string());
    assert_eq!(story, expected);
    assert!(desk.is_empty());
}

//= rfc3261#17.2.1
#[test]
fn an_ack_stops_the_repetition_and_timer_i_ends_the_transaction() {
    let mut desk = Desk::new();
    let id = desk.arrive(1, Role::Invite);
    desk.answer(id, 486);
    desk.run(1000);
    assert_eq!(desk.again(id), ["1000 486"]);
    desk.table.acked(desk.now, id);
    assert_eq!(desk.table.stored_bytes(), 0);
    assert_eq!(desk.again(id), Vec::<String>::new());
    desk.run(2000);
    desk.table.acked(desk.now, id);
    assert_eq!(desk.run(100_000), ["6000 ServerGone 9"]);
    assert!(desk.is_empty());
}

#[test]
fn a_2xx_is_not_repeated_and_the_invite_is_absorbed_until_timer_l() {
    let mut desk = Desk::new();
    let id = desk.arrive(1, Role::Invite);
    desk.answer(id, 180);
    desk.answer(id, 200);
    assert_eq!(desk.sent(), ["0 180", "0 200"]);
    assert_eq!(desk.table.stored_bytes(), 0);
    assert_eq!(desk.again(id), Vec::<String>::new());
    desk.answer(id, 200);
    assert_eq!(desk.sent(), ["0 200"]);
    desk.table.acked(desk.now, id);
    desk.answer(id, 486);
    assert_eq!(desk.table.counters().responses_ignored, 1);
    assert_eq!(
        desk.table.server_state(id),
        Some(ServerState::Invite(InviteState::Accepted))
    );
    assert_eq!(desk.run(100_000), ["32000 ServerGone 9"]);
    assert!(desk.is_empty());
}

//= rfc3261#17.2.2
#[test]
fn a_repeated_bye_is_absorbed_then_gets_what_was_answered_last_until_timer_j() {
    let mut desk = Desk::new();
    let id = desk.arrive(1, Role::NonInvite);
    assert_eq!(desk.again(id), Vec::<String>::new());
    desk.answer(id, 100);
    desk.sent();
    assert_eq!(desk.again(id), ["0 100"]);
    desk.answer(id, 200);
    desk.sent();
    assert_eq!(desk.again(id), ["0 200"]);
    desk.answer(id, 481);
    assert_eq!(desk.sent(), Vec::<String>::new());
    assert_eq!(desk.again(id), ["0 200"]);
    assert_eq!(desk.table.counters().responses_ignored, 1);
    assert_eq!(
        desk.table.server_state(id),
        Some(ServerState::NonInvite(NonInviteState::Completed))
    );
    assert_eq!(desk.run(100_000), ["32000 ServerGone 9"]);
    assert!(desk.is_empty());
}

#[test]
fn an_abandoned_request_is_gone_unless_it_was_answered() {
    let mut desk = Desk::new();
    let unanswered = desk.arrive(1, Role::Invite);
    let answered = desk.arrive(2, Role::NonInvite);
    desk.answer(answered, 200);
    desk.sent();
    desk.table.abandon_server(unanswered);
    desk.table.abandon_server(answered);
    assert_eq!(desk.table.find_server(&server_key(1)), None);
    assert_eq!(desk.run(1000), ["0 ServerGone 9"]);
    assert_eq!(desk.table.find_server(&server_key(2)), Some(answered));
}

#[test]
fn a_full_table_refuses_the_next_request() {
    let mut desk = Desk::with(&Capacity {
        servers: 1,
        ..ROOMY
    });
    let id = desk.arrive(1, Role::Invite);
    let refused = desk
        .table
        .accept(desk.now, server_key(2), Role::Invite, flow(), 9);
    assert_eq!(refused, Err(Full::Servers));
    assert_eq!(desk.table.find_server(&server_key(2)), None);
    assert_eq!(desk.table.find_server(&server_key(1)), Some(id));
}

#[test]
fn an_answer_whose_copy_has_no_room_is_sent_once_and_the_transaction_ends() {
    let mut desk = Desk::with(&Capacity { bytes: 0, ..ROOMY });
    let id = desk.arrive(1, Role::Invite);
    desk.answer(id, 486);
    assert_eq!(desk.table.counters().copies_refused, 1);
    let story = desk.run(100_000);
    assert_eq!(
        story,
        ["0 486", "32000 ServerTimedOut", "32000 ServerGone 9"]
    );
    assert!(desk.is_empty());
}

#[test]
fn an_answer_that_finds_the_outbox_full_changes_nothing() {
    let mut desk = Desk::new();
    let id = desk.arrive(1, Role::Invite);
    desk.answer(id, 180);
    desk.fill_outbox();
    let refused = desk
        .table
        .respond(desk.now, id, 486, response(486), &mut desk.out);
    assert_eq!(refused, Err(Full::Outbox));
    desk.out.clear();
    assert_eq!(desk.table.last_status(id), Some(180));
    assert_eq!(desk.again(id), ["0 180"]);
    assert_eq!(desk.table.timers_len(), 0);
}

#[test]
fn a_stale_id_does_nothing() {
    let mut desk = Desk::new();
    let stale = desk.arrive(1, Role::Invite);
    desk.table.abandon_server(stale);
    assert_eq!(desk.run(0), ["0 ServerGone 9"]);
    let id = desk.arrive(1, Role::Invite);
    desk.answer(stale, 200);
    desk.table.acked(desk.now, stale);
    desk.table.abandon_server(stale);
    assert_eq!(desk.again(stale), Vec::<String>::new());
    assert_eq!(desk.table.server_user_mut(stale), None);
    assert_eq!(desk.table.server_flow(stale), None);
    assert_eq!(desk.table.last_status(stale), None);
    assert_eq!(desk.table.find_server(&server_key(1)), Some(id));
    assert_eq!(
        desk.table.server_state(id),
        Some(ServerState::Invite(InviteState::Proceeding))
    );
}

#[test]
fn a_listing_shows_each_record_once_in_table_order() {
    let mut desk = Desk::new();
    let ids = [1, 2, 3].map(|number| desk.arrive(number, Role::Invite));
    let listed: Vec<ServerId> = desk.table.servers().map(|(id, _)| id).collect();
    assert_eq!(listed, ids);
}
