//! The INVITE client transaction as a pure machine: RFC 3261 §17.1.1 figure 5 with the Accepted
//! state of RFC 6026, plus the CANCEL wait of §9.1 and a branch given up for another target.
//! What an action does to timers, bytes and datagrams lives in `client.rs`.

use super::listed::listed;
use super::timings::Timer;

listed! {
    /// Where an INVITE client transaction stands.
    pub enum State {
        /// The INVITE was sent, nothing came back.
        Calling,
        /// A provisional answer came.
        Proceeding,
        /// A 3xx-6xx came and was acknowledged.
        Completed,
        /// A 2xx came; further ones may follow from other forks.
        Accepted,
        /// The user went on to another target; a late answer is still dealt with.
        Abandoned,
        /// Over.
        Terminated,
    }
}

listed! {
    /// What can happen to an INVITE client transaction.
    pub enum Input {
        TimerA,
        TimerB,
        TimerD,
        TimerM,
        TimerWait,
        /// A 1xx response.
        Provisional,
        /// A 2xx response.
        Success,
        /// A 3xx-6xx response.
        Failure,
        /// The network refused the request (ICMP).
        TransportError,
        /// The user sent a CANCEL for it.
        Cancelled,
        /// The user gave the target up.
        Abandoned,
    }
}

listed! {
    /// What the table does for an INVITE client transaction.
    pub enum Action {
        Nothing,
        /// Keeps a response from the user.
        Absorb,
        /// Sends the request again and arms A with twice the interval.
        Retransmit,
        /// Gives the response to the user.
        PassUp,
        /// Stops A and B and gives the response to the user.
        StopPassUp,
        /// Stops A and B, arms M, gives the response to the user.
        AcceptPassUp,
        /// Stops A and B, sends an ACK, arms D, gives the response to the user.
        AckPassUp,
        /// As `AckPassUp`, but the user has gone on: keeps the response from it.
        AckAbsorb,
        /// Sends the ACK again and keeps the response from the user.
        AckAgain,
        /// Stops A and B and waits 64*T1 for a final answer.
        Wait,
        /// Ends and tells the user that no answer came.
        TimeOut,
        /// Ends and tells the user that the network refused.
        Fail,
        /// Ends; the user is told that the record is gone.
        End,
    }
}

impl Input {
    /// The input that a fired timer is to this machine.
    pub const fn fired(timer: Timer) -> Option<Input> {
        match timer {
            Timer::A => Some(Input::TimerA),
            Timer::B => Some(Input::TimerB),
            Timer::D => Some(Input::TimerD),
            Timer::M => Some(Input::TimerM),
            Timer::Wait => Some(Input::TimerWait),
            Timer::C | Timer::E | Timer::F | Timer::G | Timer::H => None,
            Timer::I | Timer::J | Timer::K | Timer::L => None,
        }
    }

    /// The input that a response with this status is.
    pub const fn response(status: u16) -> Input {
        match status {
            0..=199 => Input::Provisional,
            200..=299 => Input::Success,
            300.. => Input::Failure,
        }
    }
}

impl Action {
    /// Whether the user sees the response.
    pub const fn passes_up(self) -> bool {
        match self {
            Action::PassUp | Action::StopPassUp => true,
            Action::AcceptPassUp | Action::AckPassUp => true,
            Action::Nothing | Action::Absorb | Action::AckAbsorb | Action::AckAgain => false,
            Action::Retransmit | Action::Wait => false,
            Action::TimeOut | Action::Fail | Action::End => false,
        }
    }

    /// Whether the response is answered with an ACK.
    pub const fn acknowledges(self) -> bool {
        match self {
            Action::AckPassUp | Action::AckAbsorb | Action::AckAgain => true,
            Action::Nothing | Action::Absorb | Action::PassUp => false,
            Action::StopPassUp | Action::AcceptPassUp => false,
            Action::Retransmit | Action::Wait => false,
            Action::TimeOut | Action::Fail | Action::End => false,
        }
    }
}

/// The next state and what is to be done.
pub const fn step(state: State, input: Input) -> (State, Action) {
    match state {
        State::Calling => calling(input),
        State::Proceeding => proceeding(input),
        State::Completed => completed(input),
        State::Accepted => accepted(input),
        State::Abandoned => abandoned(input),
        State::Terminated => terminated(input),
    }
}

const fn calling(input: Input) -> (State, Action) {
    match input {
        //= rfc3261#17.1.1.2
        Input::TimerA => (State::Calling, Action::Retransmit),
        Input::TimerB => (State::Terminated, Action::TimeOut),
        Input::Provisional => (State::Proceeding, Action::StopPassUp),
        //= rfc6026#7.2
        Input::Success => (State::Accepted, Action::AcceptPassUp),
        //= rfc3261#17.1.1.2
        Input::Failure => (State::Completed, Action::AckPassUp),
        //= rfc3261#17.1.4
        Input::TransportError => (State::Terminated, Action::Fail),
        Input::Abandoned => (State::Abandoned, Action::Wait),
        //= rfc3261#9.1
        // A CANCEL must not be sent before a provisional answer; timer B still bounds the state.
        Input::Cancelled => (State::Calling, Action::Nothing),
        Input::TimerD | Input::TimerM | Input::TimerWait => (State::Calling, Action::Nothing),
    }
}

const fn proceeding(input: Input) -> (State, Action) {
    match input {
        //= rfc3261#17.1.1.2
        Input::Provisional => (State::Proceeding, Action::PassUp),
        Input::Success => (State::Accepted, Action::AcceptPassUp),
        Input::Failure => (State::Completed, Action::AckPassUp),
        Input::Cancelled => (State::Proceeding, Action::Wait),
        //= rfc3261#9.1
        Input::TimerWait => (State::Terminated, Action::TimeOut),
        Input::Abandoned => (State::Abandoned, Action::Wait),
        // Nothing is being sent in this state, so the error is that of an earlier copy.
        Input::TransportError => (State::Proceeding, Action::Nothing),
        Input::TimerA | Input::TimerB => (State::Proceeding, Action::Nothing),
        Input::TimerD | Input::TimerM => (State::Proceeding, Action::Nothing),
    }
}

const fn completed(input: Input) -> (State, Action) {
    match input {
        //= rfc3261#17.1.1.2
        Input::Failure => (State::Completed, Action::AckAgain),
        Input::TimerD => (State::Terminated, Action::End),
        // The user has its answer; that the ACK bounced changes nothing about it.
        Input::TransportError => (State::Terminated, Action::End),
        Input::Provisional | Input::Success => (State::Completed, Action::Absorb),
        Input::Cancelled | Input::Abandoned => (State::Completed, Action::Nothing),
        Input::TimerA | Input::TimerB => (State::Completed, Action::Nothing),
        Input::TimerM | Input::TimerWait => (State::Completed, Action::Nothing),
    }
}

const fn accepted(input: Input) -> (State, Action) {
    match input {
        //= rfc6026#7.2
        Input::Success => (State::Accepted, Action::PassUp),
        Input::TimerM => (State::Terminated, Action::End),
        Input::Provisional | Input::Failure => (State::Accepted, Action::Absorb),
        Input::TransportError => (State::Accepted, Action::Nothing),
        Input::Cancelled | Input::Abandoned => (State::Accepted, Action::Nothing),
        Input::TimerA | Input::TimerB => (State::Accepted, Action::Nothing),
        Input::TimerD | Input::TimerWait => (State::Accepted, Action::Nothing),
    }
}

const fn abandoned(input: Input) -> (State, Action) {
    match input {
        // A phone that starts to ring late must get a CANCEL, which only the user can send.
        Input::Provisional => (State::Abandoned, Action::PassUp),
        Input::Success => (State::Accepted, Action::AcceptPassUp),
        Input::Failure => (State::Completed, Action::AckAbsorb),
        Input::Cancelled => (State::Abandoned, Action::Wait),
        Input::TimerWait | Input::TransportError => (State::Terminated, Action::End),
        Input::Abandoned => (State::Abandoned, Action::Nothing),
        Input::TimerA | Input::TimerB => (State::Abandoned, Action::Nothing),
        Input::TimerD | Input::TimerM => (State::Abandoned, Action::Nothing),
    }
}

const fn terminated(input: Input) -> (State, Action) {
    match input {
        Input::Provisional | Input::Success | Input::Failure => (State::Terminated, Action::Absorb),
        Input::TransportError | Input::Cancelled => (State::Terminated, Action::Nothing),
        Input::TimerA | Input::TimerB => (State::Terminated, Action::Nothing),
        Input::TimerD | Input::TimerM => (State::Terminated, Action::Nothing),
        Input::TimerWait | Input::Abandoned => (State::Terminated, Action::Nothing),
    }
}
