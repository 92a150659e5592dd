//! Stories of trunks: how they fall, recover, rest and are told to.

use core::time::Duration;
use std::sync::Arc;

use super::*;
use crate::base::Instant;
use crate::route::plan::Plan;
use crate::route::testing::trunk;

/// A keeper of one trunk in slot 0 and the board it writes.
struct Watch {
    keeper: Keeper,
    board: Arc<Board>,
    plan: Plan,
    now: Instant,
}

const RTT: Duration = Duration::from_millis(20);

fn watch(addresses: &[&str], probe: Option<Duration>) -> Watch {
    let mut trunk = trunk("pbx", 0, addresses);
    trunk.probe = probe;
    let plan = Plan {
        trunks: vec![trunk],
        ..Plan::default()
    };
    let board = Arc::new(Board::new(8));
    board.introduce(Instant::START, &plan);
    let mut keeper = Keeper::new(0, 1, board.clone());
    keeper.adopt(Instant::START, &plan);
    Watch {
        keeper,
        board,
        plan,
        now: Instant::START,
    }
}

fn probed() -> Watch {
    watch(&["192.0.2.1:5060"], Some(Duration::from_secs(10)))
}

fn unprobed() -> Watch {
    watch(&["192.0.2.1:5060"], None)
}

impl Watch {
    /// Goes on to when something is due and takes the probes of that moment.
    fn next_probes(&mut self) -> Vec<usize> {
        loop {
            let due = self.keeper.next_due().expect("something is due");
            self.now = self.now.max(due);
            let probes: Vec<usize> = core::iter::from_fn(|| self.keeper.due(self.now))
                .map(|probe| probe.address_index)
                .collect();
            if !probes.is_empty() {
                return probes;
            }
        }
    }

    /// Sends the next round of probes and lets the peer answer all of them `status`.
    fn round(&mut self, status: u16) {
        for address_index in self.next_probes() {
            self.keeper
                .probe_answered(self.now, 0, address_index, status, RTT);
        }
    }

    fn call(&mut self, address_index: usize, signal: Passive) {
        self.keeper.passive(self.now, 0, address_index, signal);
    }

    fn wait(&mut self, span: Duration) {
        self.now = self.now + span;
        self.keeper.tick(self.now);
    }

    fn order(&mut self, order: Order) {
        self.keeper.order(self.now, 0, order).expect("it is kept");
    }

    fn state(&self) -> State {
        self.board.state(0)
    }

    fn share(&self) -> u16 {
        self.board.share(0, self.now)
    }

    /// The log as `from>to`, oldest first.
    fn log(&self) -> Vec<String> {
        self.keeper
            .transitions()
            .map(|entry| format!("{}>{}", entry.from.text(), entry.to.text()))
            .collect()
    }

    fn last_why(&self) -> Option<Why> {
        self.keeper.transitions().last().map(|entry| entry.why)
    }
}

#[test]
fn a_probed_trunk_takes_all_calls_before_its_first_answer_and_after_it() {
    let mut watch = probed();
    assert_eq!((watch.state(), watch.share()), (State::Probing, 1000));
    watch.round(200);
    assert_eq!((watch.state(), watch.share()), (State::Up, 1000));
    assert_eq!(watch.board.rtt_us(0), Some(20_000));
    assert_eq!(watch.log(), ["probing>up"]);
}

#[test]
fn any_final_answer_but_408_and_503_is_a_sign_of_life() {
    for status in [200, 302, 404, 405, 481, 500, 501, 603] {
        let mut watch = probed();
        watch.round(status);
        assert_eq!(watch.state(), State::Up, "{status}");
    }
    for status in [408, 503] {
        let mut watch = probed();
        watch.round(status);
        assert_eq!(watch.state(), State::Probing, "{status}");
        assert_eq!(watch.board.rtt_us(0), None);
    }
}

#[test]
fn three_failures_in_a_row_take_a_trunk_down_and_two_do_not() {
    let mut watch = probed();
    for status in [200, 503, 503, 200, 503, 503] {
        watch.round(status);
        assert_eq!(watch.state(), State::Up);
    }
    assert_eq!(watch.board.failures(0), 2);
    watch.round(503);
    assert_eq!((watch.state(), watch.share()), (State::Down, 0));
    assert_eq!(
        watch.last_why(),
        Some(Why::ProbeUnavailable { status: 503 })
    );
    assert!(!watch.board.usable(0));
}

#[test]
fn a_probe_without_an_answer_is_given_up_by_itself_and_its_late_answer_ignored() {
    let mut watch = probed();
    for _ in 0..3 {
        assert_eq!(watch.next_probes(), [0]);
    }
    watch.wait(PROBE_TIME_MAX);
    assert_eq!(watch.state(), State::Down);
    assert_eq!(watch.last_why(), Some(Why::ProbeTimedOut));
    watch.keeper.probe_answered(watch.now, 0, 0, 200, RTT);
    assert_eq!(watch.state(), State::Down);
}

#[test]
fn recovery_needs_two_answers_and_grows_from_a_tenth_to_the_whole_in_30_s() {
    let mut watch = probed();
    for status in [503, 503, 503] {
        watch.round(status);
    }
    watch.round(200);
    assert_eq!((watch.state(), watch.share()), (State::Probing, 100));
    let trial_began = watch.now;
    watch.round(200);
    assert!(watch.now.since(trial_began) <= Duration::from_secs(1));
    assert_eq!((watch.state(), watch.share()), (State::Up, 100));
    watch.now = watch.now + SLOW_START / 2;
    assert!(watch.share().abs_diff(550) <= 1);
    watch.now = watch.now + SLOW_START / 2;
    assert_eq!(watch.share(), 1000);
    assert_eq!(watch.log(), ["probing>down", "down>probing", "probing>up"]);
}

#[test]
fn one_failure_on_trial_is_enough() {
    let mut watch = probed();
    for status in [503, 503, 503, 200, 503] {
        watch.round(status);
    }
    assert_eq!(watch.state(), State::Down);
    assert_eq!(watch.log().last().expect("a log"), "probing>down");
}

#[test]
fn calls_take_a_trunk_down_and_an_answered_call_forgives_the_failures_before_it() {
    let mut watch = unprobed();
    assert_eq!(watch.state(), State::Up);
    watch.call(0, Passive::TimedOut);
    watch.call(0, Passive::Status503);
    watch.call(0, Passive::Answered);
    watch.call(0, Passive::TimedOut);
    watch.call(0, Passive::Status503);
    assert_eq!(watch.state(), State::Up);
    watch.call(0, Passive::Refused);
    assert_eq!(watch.state(), State::Down);
    assert_eq!(watch.last_why(), Some(Why::CallRefused));
}

#[test]
fn without_probes_a_trunk_comes_back_on_trial_after_the_hold_time() {
    let mut watch = unprobed();
    for _ in 0..3 {
        watch.call(0, Passive::TimedOut);
    }
    assert_eq!(watch.keeper.next_due(), Some(watch.now + HOLD_TIME));
    watch.wait(HOLD_TIME - Duration::from_micros(1));
    assert_eq!(watch.state(), State::Down);
    watch.wait(Duration::from_micros(1));
    assert_eq!((watch.state(), watch.share()), (State::Probing, 100));
    assert_eq!(watch.keeper.next_due(), None);
    watch.call(0, Passive::TimedOut);
    assert_eq!(watch.state(), State::Down);
    watch.wait(HOLD_TIME);
    watch.call(0, Passive::Answered);
    assert_eq!((watch.state(), watch.share()), (State::Up, 100));
    assert_eq!(watch.board.failures(0), 0);
}

#[test]
fn a_trunk_is_down_only_when_all_its_addresses_are() {
    let mut watch = watch(&["192.0.2.1:5060", "192.0.2.2:5060"], None);
    for _ in 0..3 {
        watch.call(0, Passive::TimedOut);
    }
    assert_eq!((watch.state(), watch.board.alive(0)), (State::Up, 0b10));
    assert_eq!(watch.board.first_alive_address(0, 2, 0), Some(1));
    assert_eq!(watch.board.first_alive_address(0, 2, 0b10), None);
    for _ in 0..3 {
        watch.call(1, Passive::TimedOut);
    }
    assert_eq!((watch.state(), watch.board.alive(0)), (State::Down, 0));
    assert_eq!(watch.board.first_alive_address(0, 2, 0), None);
    watch.wait(HOLD_TIME);
    assert_eq!(
        (watch.state(), watch.board.alive(0)),
        (State::Probing, 0b11)
    );
}

#[test]
fn each_address_is_probed_and_heals_by_itself() {
    let addresses = ["192.0.2.1:5060", "192.0.2.2:5060"];
    let mut watch = watch(&addresses, Some(Duration::from_secs(10)));
    for _ in 0..3 {
        assert_eq!(watch.next_probes(), [0, 1]);
        watch.keeper.probe_refused(watch.now, 0, 0);
        watch.keeper.probe_answered(watch.now, 0, 1, 200, RTT);
    }
    assert_eq!((watch.state(), watch.board.alive(0)), (State::Up, 0b10));
    watch.round(200);
    assert_eq!((watch.state(), watch.board.alive(0)), (State::Up, 0b11));
    assert_eq!(watch.log(), ["probing>up"]);
}

#[test]
fn a_draining_trunk_is_probed_and_stays_draining_until_it_is_enabled() {
    let mut watch = probed();
    watch.round(200);
    watch.order(Order::Drain);
    watch.order(Order::Drain);
    for _ in 0..4 {
        watch.round(503);
    }
    watch.round(200);
    assert_eq!((watch.state(), watch.share()), (State::Draining, 0));
    watch.keeper.calls_gone(watch.now, 0);
    watch.keeper.calls_gone(watch.now, 0);
    watch.order(Order::Enable);
    assert_eq!((watch.state(), watch.share()), (State::Probing, 1000));
    let log = [
        "probing>up",
        "up>draining",
        "draining>draining",
        "draining>probing",
    ];
    assert_eq!(watch.log(), log);
}

#[test]
fn a_disabled_trunk_is_not_probed_and_forgets_probes_under_way() {
    let mut watch = probed();
    watch.next_probes();
    watch.order(Order::Disable);
    assert_eq!(watch.keeper.next_due().map(|at| at > watch.now), Some(true));
    assert_eq!(watch.keeper.due(watch.now + Duration::from_secs(60)), None);
    assert_eq!(watch.keeper.next_due(), None);
    watch.keeper.probe_answered(watch.now, 0, 0, 200, RTT);
    assert_eq!(watch.state(), State::Disabled);
    let refused = watch.keeper.order(watch.now, 0, Order::Probe);
    assert_eq!(refused, Err(OrderFault::Disabled));
    watch.order(Order::Enable);
    watch.round(200);
    assert_eq!(watch.state(), State::Up);
}

#[test]
fn an_order_to_enable_puts_a_trunk_that_is_down_on_trial() {
    let mut watch = unprobed();
    for _ in 0..3 {
        watch.call(0, Passive::TimedOut);
    }
    watch.order(Order::Enable);
    assert_eq!((watch.state(), watch.share()), (State::Probing, 100));
    assert_eq!(watch.board.first_alive_address(0, 1, 0), Some(0));
}

#[test]
fn an_order_to_probe_probes_at_once_also_where_nothing_probes_by_itself() {
    let mut watch = unprobed();
    assert_eq!(watch.keeper.due(watch.now), None);
    watch.order(Order::Probe);
    assert_eq!(watch.next_probes(), [0]);
    watch.keeper.probe_answered(watch.now, 0, 0, 200, RTT);
    assert_eq!(watch.board.rtt_us(0), Some(20_000));
    watch.wait(PROBE_TIME_MAX);
    assert_eq!(watch.keeper.next_due(), None);
    let elsewhere = watch.keeper.order(watch.now, 5, Order::Probe);
    assert_eq!(elsewhere, Err(OrderFault::NotKeptHere));
}

#[test]
fn a_probe_that_could_not_be_sent_is_no_failure_of_the_trunk() {
    let mut watch = probed();
    for _ in 0..5 {
        assert_eq!(watch.next_probes(), [0]);
        watch.keeper.probe_unsent(0, 0);
    }
    assert_eq!(
        (watch.state(), watch.board.failures(0)),
        (State::Probing, 0)
    );
}

#[test]
fn probes_of_trunks_that_began_together_spread_over_the_interval() {
    let interval = Duration::from_secs(10);
    let mut trunks: Vec<_> = (0..100)
        .map(|slot| trunk("t", slot, &["192.0.2.1:5060"]))
        .collect();
    for trunk in &mut trunks {
        trunk.probe = Some(interval);
    }
    let plan = Plan {
        trunks,
        ..Plan::default()
    };
    let mut keeper = Keeper::new(0, 1, Arc::new(Board::new(100)));
    keeper.adopt(Instant::START, &plan);
    let mut sent = vec![Vec::new(); 100];
    while let Some(now) = keeper.next_due().filter(|at| at.as_millis() < 60_000) {
        while let Some(probe) = keeper.due(now) {
            keeper.probe_answered(now, probe.slot, 0, 200, RTT);
            sent[usize::from(probe.slot)].push(now);
        }
    }
    let mut per_second = [0; 10];
    for times in &sent {
        assert!(times[0] < Instant::from_micros(1_000_000));
        for pair in times[1..].windows(2) {
            assert_eq!(pair[1].since(pair[0]), interval);
        }
        per_second[(times[2].as_millis() / 1000 % 10) as usize] += 1;
    }
    assert!(per_second.iter().all(|count| *count < 30), "{per_second:?}");
}

#[test]
fn a_keeper_keeps_its_own_slots_only() {
    let plan = Plan {
        trunks: (0..6)
            .map(|slot| trunk("t", slot, &["192.0.2.1:5060"]))
            .collect(),
        ..Plan::default()
    };
    let board = Arc::new(Board::new(8));
    let mut keeper = Keeper::new(1, 3, board.clone());
    keeper.adopt(Instant::START, &plan);
    for slot in 0..6 {
        let order = keeper.order(Instant::START, slot, Order::Drain);
        assert_eq!(order.is_ok(), slot % 3 == 1);
    }
    assert_eq!(board.state(4), State::Draining);
    assert_eq!(board.state(5), State::Probing);
}

#[test]
fn a_reload_keeps_the_state_of_a_trunk_whose_addresses_stay() {
    let mut watch = probed();
    for _ in 0..3 {
        watch.round(503);
    }
    let mut plan = watch.plan.clone();
    plan.trunks[0].probe = Some(Duration::from_secs(3));
    watch.keeper.adopt(watch.now, &plan);
    assert_eq!(watch.state(), State::Down);
    plan.trunks[0].addresses = vec!["192.0.2.9:5060".parse().expect("an address")];
    watch.keeper.adopt(watch.now, &plan);
    assert_eq!((watch.state(), watch.share()), (State::Probing, 1000));
    assert_eq!(watch.last_why(), Some(Why::AddressesChanged));
    assert_eq!(watch.board.failures(0), 0);
}

#[test]
fn a_reload_with_other_addresses_does_not_undo_an_order() {
    let mut watch = probed();
    watch.order(Order::Drain);
    let mut plan = watch.plan.clone();
    plan.trunks[0].addresses = vec!["192.0.2.9:5060".parse().expect("an address")];
    watch.keeper.adopt(watch.now, &plan);
    assert_eq!(watch.state(), State::Draining);
}

#[test]
fn a_reload_disables_enables_and_forgets() {
    let mut watch = probed();
    let mut plan = watch.plan.clone();
    plan.trunks[0].disabled = true;
    watch.keeper.adopt(watch.now, &plan);
    assert_eq!(watch.state(), State::Disabled);
    watch.keeper.adopt(watch.now, &watch.plan);
    assert_eq!(watch.state(), State::Probing);
    watch.keeper.adopt(watch.now, &Plan::default());
    assert_eq!(watch.keeper.next_due(), None);
    assert_eq!(watch.board.since(0), Instant::START);
    assert_eq!(watch.board.alive(0), u16::MAX);
}

#[test]
fn a_trunk_that_loses_its_probes_while_down_heals_by_the_hold_time() {
    let mut watch = probed();
    for _ in 0..3 {
        watch.round(503);
    }
    let mut plan = watch.plan.clone();
    plan.trunks[0].probe = None;
    watch.keeper.adopt(watch.now, &plan);
    watch.wait(HOLD_TIME);
    assert_eq!(watch.state(), State::Probing);
}

#[test]
fn a_board_introduces_what_it_does_not_know_and_leaves_the_rest() {
    let mut watch = probed();
    watch.order(Order::Drain);
    let mut plan = watch.plan.clone();
    let mut other = trunk("other", 3, &["192.0.2.3:5060"]);
    other.disabled = true;
    plan.trunks.push(other);
    watch.board.introduce(watch.now, &plan);
    assert_eq!(watch.board.state(0), State::Draining);
    assert_eq!(watch.board.state(3), State::Disabled);
    assert_eq!(watch.board.state(7_000), State::Probing);
}

#[test]
fn signals_about_what_is_not_there_change_nothing() {
    let mut watch = unprobed();
    for address_index in [1, 15, 16, usize::MAX] {
        watch.call(address_index, Passive::TimedOut);
        watch.keeper.probe_timed_out(watch.now, 0, address_index);
        watch.keeper.probe_unsent(0, address_index);
    }
    watch.keeper.passive(watch.now, 9, 0, Passive::TimedOut);
    assert_eq!(watch.board.failures(0), 0);
}

#[test]
fn auto_congest_is_four_round_trips_within_2_and_32_s() {
    let mut watch = probed();
    let time = |watch: &Watch| auto_congest(&watch.plan.trunks[0], &watch.board);
    assert_eq!(time(&watch), Duration::from_secs(2));
    for (rtt_ms, congest_ms) in [(20, 2000), (700, 2800), (20_000, 32_000)] {
        watch.board.set_rtt(0, Some(Duration::from_millis(rtt_ms)));
        assert_eq!(time(&watch), Duration::from_millis(congest_ms));
    }
    watch.plan.trunks[0].probe = None;
    assert_eq!(time(&watch), Duration::from_secs(32));
    watch.plan.trunks[0].auto_congest = Some(Duration::from_millis(700));
    assert_eq!(time(&watch), Duration::from_millis(700));
}

#[test]
fn a_probe_interval_of_nothing_does_not_keep_the_keeper_busy() {
    let mut watch = watch(&["192.0.2.1:5060"], Some(Duration::ZERO));
    for _ in 0..100 {
        watch.round(200);
    }
    assert!(watch.now > Instant::from_micros(1_000_000));
}

#[test]
fn signals_in_the_middle_of_a_sweep_lose_no_probe() {
    let mut plan = Plan {
        trunks: (0..4)
            .map(|slot| trunk("t", slot, &["192.0.2.1:5060"]))
            .collect(),
        ..Plan::default()
    };
    for trunk in &mut plan.trunks {
        trunk.probe = Some(Duration::from_secs(10));
    }
    let mut keeper = Keeper::new(0, 1, Arc::new(Board::new(8)));
    keeper.adopt(Instant::START, &plan);
    let now = Instant::from_micros(2_000_000);
    let mut probed = Vec::new();
    while let Some(probe) = keeper.due(now) {
        probed.push(probe.slot);
        keeper.tick(now);
        keeper.passive(now, 3, 0, Passive::TimedOut);
        keeper.probe_answered(now, probe.slot, 0, 200, RTT);
    }
    probed.sort_unstable();
    assert_eq!(probed, [0, 1, 2, 3]);
}
