//! The UAC: starts calls, REGISTERs and OPTIONS, acknowledges, holds, ends, and says what failed.
//!
//! The call's place in the table is written into its Call-ID, tag and branches, so an answer finds
//! its call without a search. A call has one timer; what it means follows from the state.

use core::net::SocketAddr;

use callgate::base::{ByteStore, Handle, Instant, Key, Random, Slab, TimerId};
use callgate::sip::{HeaderId, Message, Method};

use crate::args::Mode;
use crate::desk::{CALLER, Desk, Due, Resend, key_of, number_of};
use crate::linger::Linger;
use crate::plan::{GIVE_UP, Mix, Plan};
use crate::route::{RouteText, split};
use crate::tally::{Failure, record};
use crate::template::Fill;
use crate::wording::{Place, Wording};

/// How long a call may ring; RFC 3261 §16.6 lets a proxy give up after three minutes.
const RING_MAX: core::time::Duration = core::time::Duration::from_secs(200);

/// What is to become of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Answered,
    Busy,
    Cancelled,
    Unanswered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// INVITE sent, nothing heard.
    Calling,
    /// A provisional answer came.
    Ringing,
    /// CANCEL sent, 487 not yet here.
    Cancelling,
    /// Answered and acknowledged; the timer is the hold.
    Up,
    /// BYE sent.
    Ending,
    /// REGISTER or OPTIONS sent.
    Asking,
    /// Refused; stays to acknowledge the refusal again.
    Over,
}

#[derive(Debug)]
struct Call {
    kind: Kind,
    state: State,
    has_rung: bool,
    /// The CANCEL has its answer.
    is_cancel_answered: bool,
    timer: TimerId,
    resend: Resend,
    started: Instant,
    bye_sent: Instant,
    dialog: Handle,
    next_hop: SocketAddr,
    /// Ends as failed whatever comes.
    doomed: Option<Failure>,
    /// Counts from 0 up; names the address of record.
    number: u64,
}

/// The calls that one thread makes.
pub struct Caller {
    mode: Mode,
    mix: Mix,
    plan: Plan,
    target: SocketAddr,
    wording: Wording,
    calls: Slab<Call>,
    dialogs: ByteStore,
    linger: Linger,
    random: Random,
    route: RouteText,
    numbered: u64,
    /// Calls that succeed after this moment do so too late for the goodput.
    in_time_until: Instant,
}

/// Octets of a dialog's texts: a route of two hops and tags, rounded up by the store.
const DIALOG_BYTES: usize = 512;

impl Caller {
    /// A caller whose requests go from `place.local` to `target`; `first` is its first number.
    pub fn new(
        plan: &Plan,
        target: SocketAddr,
        place: &Place,
        random: Random,
        first: u64,
    ) -> Caller {
        let table = plan.table_each();
        Caller {
            mode: plan.mode,
            mix: plan.mix,
            plan: plan.clone(),
            target,
            wording: Wording::new(plan, target, place),
            calls: Slab::new(table),
            dialogs: ByteStore::new(table * DIALOG_BYTES),
            linger: Linger::new(table),
            random,
            route: RouteText::default(),
            numbered: first,
            in_time_until: Instant::START,
        }
    }

    /// Tells when the time to start calls is over.
    pub fn set_end(&mut self, end: Instant) {
        self.in_time_until = end;
    }

    /// Calls that have not ended.
    pub fn busy(&self) -> usize {
        self.calls.len() - self.linger.len()
    }

    /// Starts a call that was due at `due`.
    pub fn start(&mut self, desk: &mut Desk<'_>, due: Instant) {
        let Some(key) = self.open(desk) else {
            desk.tally.counts.not_started += 1;
            return;
        };
        desk.tally.counts.started += 1;
        record(&mut desk.tally.latencies.start_late, desk.now.since(due));
        match self.mode {
            Mode::Call => {
                desk.tally.counts.invites_sent += 1;
                self.send_invite(desk, key);
            }
            Mode::Register | Mode::Options => {
                desk.tally.counts.requests_sent += 1;
                self.send_request(desk, key);
            }
        }
        self.arm_resend(desk, key);
    }

    fn open(&mut self, desk: &mut Desk<'_>) -> Option<Key> {
        if self.calls.len() == self.calls.capacity() {
            let oldest = self.linger.pop_oldest()?;
            self.calls.remove(oldest);
            desk.tally.counts.lingering_cut += 1;
        }
        let (state, resend) = match self.mode {
            Mode::Call => (State::Calling, Resend::invite(desk.now)),
            Mode::Register | Mode::Options => (State::Asking, Resend::other(desk.now)),
        };
        self.numbered += 1;
        let call = Call {
            kind: self.draw_kind(),
            state,
            has_rung: false,
            is_cancel_answered: false,
            timer: TimerId::NONE,
            resend,
            started: desk.now,
            bye_sent: Instant::START,
            dialog: Handle::default(),
            next_hop: self.target,
            doomed: None,
            number: self.numbered,
        };
        self.calls.insert(call).ok()
    }

    fn draw_kind(&mut self) -> Kind {
        let Mix {
            cancel,
            busy,
            no_answer,
        } = self.mix;
        if cancel + busy + no_answer == 0 {
            return Kind::Answered;
        }
        let draw = self.random.below(10_000);
        if draw < cancel {
            Kind::Cancelled
        } else if draw < cancel + busy {
            Kind::Busy
        } else if draw < cancel + busy + no_answer {
            Kind::Unanswered
        } else {
            Kind::Answered
        }
    }

    // What is sent.

    fn uri(&self, kind: Kind) -> &[u8] {
        match kind {
            Kind::Answered => &self.wording.uri,
            Kind::Busy => &self.wording.uri_busy,
            Kind::Cancelled | Kind::Unanswered => &self.wording.uri_ring,
        }
    }

    fn send_invite(&self, desk: &mut Desk<'_>, key: Key) {
        self.send_outside(desk, key, |wording| &wording.invite, b"");
    }

    fn send_cancel(&self, desk: &mut Desk<'_>, key: Key) {
        self.send_outside(desk, key, |wording| &wording.cancel, b"");
    }

    /// The ACK for a refusal goes the INVITE's way with the To of the answer.
    //= rfc3261#17.1.1.3
    fn acknowledge_refusal(&self, desk: &mut Desk<'_>, key: Key, answer: &Message<'_>) {
        desk.tally.counts.acks_sent += 1;
        let to = answer.value(HeaderId::To).unwrap_or_default();
        self.send_outside(desk, key, |wording| &wording.ack_refusal, to);
    }

    /// A message of the INVITE's own transaction.
    fn send_outside(
        &self,
        desk: &mut Desk<'_>,
        key: Key,
        which: impl FnOnce(&Wording) -> &crate::template::Template,
        to: &[u8],
    ) {
        let Some(call) = self.calls.get(key) else {
            return;
        };
        let fill = Fill {
            key: number_of(key),
            target: self.uri(call.kind),
            routes: b"",
            to,
        };
        desk.send(CALLER, self.target, |out| {
            which(&self.wording).write(out, &fill)
        });
    }

    /// ACK for the 200, or BYE: along the dialog's route.
    fn send_inside(
        &self,
        desk: &mut Desk<'_>,
        key: Key,
        which: impl FnOnce(&Wording) -> &crate::template::Template,
    ) {
        let Some(call) = self.calls.get(key) else {
            return;
        };
        let (target, routes, to) = split(self.dialogs.get(call.dialog));
        let fill = Fill {
            key: number_of(key),
            target,
            routes,
            to,
        };
        desk.send(CALLER, call.next_hop, |out| {
            which(&self.wording).write(out, &fill)
        });
    }

    fn acknowledge(&self, desk: &mut Desk<'_>, key: Key) {
        desk.tally.counts.acks_sent += 1;
        self.send_inside(desk, key, |wording| &wording.ack);
    }

    fn send_bye(&self, desk: &mut Desk<'_>, key: Key) {
        self.send_inside(desk, key, |wording| &wording.bye);
    }

    fn send_request(&self, desk: &mut Desk<'_>, key: Key) {
        let Some(call) = self.calls.get(key) else {
            return;
        };
        let mut user = [0; 20];
        let mut digits = callgate::base::Cursor::new(&mut user);
        // As many digits each time: messages of one kind are of one length.
        digits.put_decimal(100_000_000 + call.number % u64::from(self.plan.users));
        let fill = Fill {
            key: number_of(key),
            target: &self.wording.uri,
            routes: b"",
            to: &digits.written()[1..],
        };
        desk.send(CALLER, self.target, |out| {
            self.wording.request.write(out, &fill)
        });
    }

    // Timers.

    fn arm_resend(&mut self, desk: &mut Desk<'_>, key: Key) {
        if let Some(call) = self.calls.get_mut(key) {
            let due = call.resend.due(desk.now);
            desk.arm(&mut call.timer, due, Due::Caller(key));
        }
    }

    fn arm_at(&mut self, desk: &mut Desk<'_>, key: Key, at: Instant) {
        if let Some(call) = self.calls.get_mut(key) {
            desk.arm(&mut call.timer, at, Due::Caller(key));
        }
    }

    /// A call's timer has fired.
    pub fn on_timer(&mut self, desk: &mut Desk<'_>, key: Key) {
        let Some(call) = self.calls.get_mut(key) else {
            return;
        };
        call.timer = TimerId::NONE;
        let is_over = call.resend.is_over(desk.now);
        match call.state {
            State::Calling if is_over => self.fail(desk, key, Failure::InviteTimeout),
            State::Ending if is_over => self.fail(desk, key, Failure::ByeTimeout),
            State::Asking if is_over => self.fail(desk, key, Failure::RequestTimeout),
            State::Cancelling if is_over => self.fail(desk, key, Failure::CancelTimeout),
            State::Calling | State::Ending | State::Asking | State::Cancelling => {
                self.send_again(desk, key);
            }
            State::Ringing if call.kind == Kind::Unanswered && call.has_rung => {
                self.cancel(desk, key);
            }
            State::Ringing => self.fail(desk, key, Failure::NoFinalAnswer),
            State::Up => self.end(desk, key),
            State::Over => {}
        }
    }

    fn send_again(&mut self, desk: &mut Desk<'_>, key: Key) {
        let Some(call) = self.calls.get_mut(key) else {
            return;
        };
        call.resend.lengthen();
        let state = call.state;
        let is_cancel_answered = call.is_cancel_answered;
        let counts = &mut desk.tally.counts;
        match state {
            State::Calling => {
                counts.invites_resent += 1;
                self.send_invite(desk, key);
            }
            State::Ending => {
                counts.byes_resent += 1;
                self.send_bye(desk, key);
            }
            State::Asking => {
                counts.requests_resent += 1;
                self.send_request(desk, key);
            }
            State::Cancelling if !is_cancel_answered => {
                counts.cancels_resent += 1;
                self.send_cancel(desk, key);
            }
            State::Cancelling | State::Ringing | State::Up | State::Over => {}
        }
        self.arm_resend(desk, key);
    }

    fn cancel(&mut self, desk: &mut Desk<'_>, key: Key) {
        let Some(call) = self.calls.get_mut(key) else {
            return;
        };
        call.state = State::Cancelling;
        call.resend = Resend::other(desk.now);
        desk.tally.counts.cancels_sent += 1;
        self.send_cancel(desk, key);
        self.arm_resend(desk, key);
    }

    fn end(&mut self, desk: &mut Desk<'_>, key: Key) {
        let Some(call) = self.calls.get_mut(key) else {
            return;
        };
        call.state = State::Ending;
        call.bye_sent = desk.now;
        call.resend = Resend::other(desk.now);
        desk.tally.counts.byes_sent += 1;
        self.send_bye(desk, key);
        self.arm_resend(desk, key);
    }

    // What is received.

    /// Takes a response.
    pub fn on_response(&mut self, desk: &mut Desk<'_>, answer: &Message<'_>) {
        let key = answer
            .top_via()
            .ok()
            .and_then(|via| self.wording.number_in_branch(via.branch?));
        let key = key.map(key_of).filter(|key| self.calls.get(*key).is_some());
        let Some(key) = key else {
            desk.tally.counts.stray_responses += 1;
            return;
        };
        let status = answer.status();
        match answer.method() {
            Method::Invite if status < 200 => self.on_provisional(desk, key, status),
            Method::Invite if status < 300 => self.on_answer(desk, key, answer),
            Method::Invite => self.on_refusal(desk, key, answer),
            Method::Bye if status >= 200 => self.on_bye_answer(desk, key, status),
            Method::Cancel if status >= 200 => self.on_cancel_answer(desk, key),
            Method::Register | Method::Options if status >= 200 => {
                self.on_request_answer(desk, key, status);
            }
            _ => {}
        }
    }

    fn on_provisional(&mut self, desk: &mut Desk<'_>, key: Key, status: u16) {
        let Some(call) = self.calls.get_mut(key) else {
            return;
        };
        let is_ringing = status > 100;
        let counts = &mut desk.tally.counts;
        *if is_ringing {
            &mut counts.ringing_received
        } else {
            &mut counts.trying_received
        } += 1;
        if !matches!(call.state, State::Calling | State::Ringing) {
            return;
        }
        let is_first = call.state == State::Calling;
        call.state = State::Ringing;
        if is_first {
            let at = desk.now + RING_MAX;
            desk.arm(&mut call.timer, at, Due::Caller(key));
        }
        if is_ringing && !call.has_rung {
            call.has_rung = true;
            let since = desk.now.since(call.started);
            record(&mut desk.tally.latencies.invite_180, since);
            self.on_first_ring(desk, key);
        }
    }

    fn on_first_ring(&mut self, desk: &mut Desk<'_>, key: Key) {
        match self.calls.get(key).map(|call| call.kind) {
            Some(Kind::Cancelled) => self.cancel(desk, key),
            Some(Kind::Unanswered) => {
                let at = desk.now + self.plan.patience;
                self.arm_at(desk, key, at);
            }
            Some(Kind::Answered | Kind::Busy) | None => {}
        }
    }

    fn on_answer(&mut self, desk: &mut Desk<'_>, key: Key, answer: &Message<'_>) {
        let Some(call) = self.calls.get_mut(key) else {
            return;
        };
        match call.state {
            State::Calling | State::Ringing | State::Cancelling => {}
            State::Up | State::Ending => {
                //= rfc3261#13.2.2.4 an ACK for each 2xx that comes
                desk.tally.counts.answers_again += 1;
                return self.acknowledge(desk, key);
            }
            State::Asking | State::Over => {
                desk.tally.counts.stray_responses += 1;
                return;
            }
        }
        desk.tally.counts.answers_received += 1;
        if call.kind == Kind::Answered {
            let since = desk.now.since(call.started);
            record(&mut desk.tally.latencies.invite_200, since);
        } else {
            call.doomed = Some(Failure::AnsweredAnyway);
        }
        match self.establish(key, answer) {
            Ok(()) => self.hold(desk, key),
            Err(why) => self.fail(desk, key, why),
        }
    }

    /// Keeps what later requests need.
    fn establish(&mut self, key: Key, answer: &Message<'_>) -> Result<(), Failure> {
        let first_hop = self.route.read(answer, &self.plan.permit)?;
        let dialog = self
            .dialogs
            .store(self.route.bytes())
            .ok_or(Failure::StoreFull)?;
        if let Some(call) = self.calls.get_mut(key) {
            call.dialog = dialog;
            call.state = State::Up;
            if !self.plan.sticky {
                call.next_hop = first_hop;
            }
        }
        Ok(())
    }

    fn hold(&mut self, desk: &mut Desk<'_>, key: Key) {
        self.acknowledge(desk, key);
        let is_doomed = self
            .calls
            .get(key)
            .is_some_and(|call| call.doomed.is_some());
        let hold = self.plan.hold.draw(&mut self.random);
        if hold.is_zero() || is_doomed {
            self.end(desk, key);
        } else {
            let at = desk.now + hold;
            self.arm_at(desk, key, at);
        }
    }

    fn on_refusal(&mut self, desk: &mut Desk<'_>, key: Key, answer: &Message<'_>) {
        let Some(call) = self.calls.get(key) else {
            return;
        };
        let is_wanted = matches!(
            (call.kind, answer.status()),
            (Kind::Busy, 486) | (Kind::Cancelled | Kind::Unanswered, 487)
        );
        match call.state {
            State::Calling | State::Ringing | State::Cancelling => {}
            State::Over => {
                desk.tally.counts.refusals_again += 1;
                return self.acknowledge_refusal(desk, key, answer);
            }
            State::Up | State::Ending | State::Asking => return,
        }
        desk.tally.counts.refusals_received += 1;
        self.acknowledge_refusal(desk, key, answer);
        if is_wanted {
            self.succeed(desk);
        } else {
            desk.tally.fail(Failure::Status(answer.status()));
        }
        self.retire(desk, key);
    }

    fn on_cancel_answer(&mut self, desk: &mut Desk<'_>, key: Key) {
        let Some(call) = self.calls.get_mut(key) else {
            return;
        };
        if !call.is_cancel_answered {
            call.is_cancel_answered = true;
            desk.tally.counts.cancel_answers_received += 1;
        }
    }

    fn on_bye_answer(&mut self, desk: &mut Desk<'_>, key: Key, status: u16) {
        let Some(call) = self.calls.get(key) else {
            return;
        };
        if call.state != State::Ending {
            return;
        }
        let (since, doomed) = (desk.now.since(call.bye_sent), call.doomed);
        desk.tally.counts.bye_answers_received += 1;
        record(&mut desk.tally.latencies.bye_200, since);
        match doomed {
            Some(why) => desk.tally.fail(why),
            None if status >= 300 => desk.tally.fail(Failure::ByeRefused),
            None => self.succeed(desk),
        }
        self.forget(desk, key);
    }

    fn on_request_answer(&mut self, desk: &mut Desk<'_>, key: Key, status: u16) {
        let Some(call) = self.calls.get(key) else {
            return;
        };
        if call.state != State::Asking {
            return;
        }
        let since = desk.now.since(call.started);
        desk.tally.counts.request_answers_received += 1;
        record(&mut desk.tally.latencies.request_200, since);
        if status < 300 {
            self.succeed(desk);
        } else {
            desk.tally.fail(Failure::Status(status));
        }
        self.forget(desk, key);
    }

    /// The other side ends a call; whether it is one of ours.
    pub fn on_bye(&mut self, desk: &mut Desk<'_>, bye: &Message<'_>) -> bool {
        let number = bye.to_tag().and_then(|tag| self.wording.number_in_tag(tag));
        let Some(key) = number.map(key_of) else {
            return false;
        };
        match self.calls.get(key).map(|call| call.state) {
            Some(State::Up) => {
                desk.tally.counts.byes_received_by_caller += 1;
                self.fail(desk, key, Failure::EndedByPeer);
                true
            }
            Some(State::Ending) => true,
            _ => false,
        }
    }

    /// One of our datagrams came back; `quoted` is its beginning.
    pub fn on_unreachable(&mut self, desk: &mut Desk<'_>, quoted: &[u8]) {
        let Some(key) = self.wording.find_number(quoted).map(key_of) else {
            return;
        };
        match self.calls.get(key).map(|call| call.state) {
            Some(State::Calling | State::Asking | State::Ending) => {
                self.fail(desk, key, Failure::Unreachable);
            }
            // An ACK or CANCEL: the other timers decide.
            Some(State::Ringing | State::Cancelling | State::Up | State::Over) | None => {}
        }
    }

    // Ends.

    fn succeed(&self, desk: &mut Desk<'_>) {
        desk.tally.counts.succeeded += 1;
        desk.tally.counts.succeeded_in_time += u64::from(desk.now <= self.in_time_until);
    }

    fn fail(&mut self, desk: &mut Desk<'_>, key: Key, why: Failure) {
        desk.tally.fail(why);
        self.forget(desk, key);
    }

    fn forget(&mut self, desk: &mut Desk<'_>, key: Key) {
        if let Some(call) = self.calls.remove(key) {
            desk.wheel.cancel(call.timer);
            self.dialogs.free(call.dialog);
        }
    }

    /// Keeps a refused call to acknowledge the refusal again (timer D).
    fn retire(&mut self, desk: &mut Desk<'_>, key: Key) {
        if let Some(call) = self.calls.get_mut(key) {
            call.state = State::Over;
            desk.wheel.cancel(call.timer);
            self.linger.keep(desk.now, key);
        }
    }

    /// Forgets calls that nothing can come for any more.
    pub fn sweep(&mut self, now: Instant) {
        while let Some(key) = self.linger.pop_over(now) {
            self.calls.remove(key);
        }
    }

    /// Counts everything that has not ended as unfinished: the run is over.
    pub fn give_up(&mut self, desk: &mut Desk<'_>) {
        let live: Vec<Key> = self
            .calls
            .iter()
            .filter(|(_, call)| call.state != State::Over)
            .map(|(key, _)| key)
            .collect();
        for key in live {
            self.fail(desk, key, Failure::Unfinished);
        }
    }
}

const _: () = assert!(RING_MAX.as_secs() > GIVE_UP.as_secs());
