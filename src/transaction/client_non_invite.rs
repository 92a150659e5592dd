//! The non-INVITE client transaction as a pure machine: RFC 3261 §17.1.2 figure 6. What an
//! action does to timers, bytes and datagrams lives in `client.rs`.

use super::listed::listed;
use super::timings::Timer;

listed! {
    /// Where a non-INVITE client transaction stands.
    pub enum State {
        /// The request was sent, nothing came back.
        Trying,
        /// A provisional answer came.
        Proceeding,
        /// The final answer came, or the user gave up; further answers are absorbed.
        Completed,
        /// Over.
        Terminated,
    }
}

listed! {
    /// What can happen to a non-INVITE client transaction.
    pub enum Input {
        TimerE,
        TimerF,
        TimerK,
        /// A 1xx response.
        Provisional,
        /// A 2xx-6xx response.
        Final,
        /// The network refused the request (ICMP).
        TransportError,
        /// The user gave the request up.
        Abandoned,
    }
}

listed! {
    /// What the table does for a non-INVITE client transaction.
    pub enum Action {
        Nothing,
        /// Keeps a response from the user.
        Absorb,
        /// Sends the request again and arms E with twice the interval, at most T2.
        Retransmit,
        /// Sends the request again and arms E with T2.
        RetransmitSlowly,
        /// Gives the response to the user.
        PassUp,
        /// Stops E and F, arms K, gives the response to the user.
        CompletePassUp,
        /// Stops E and F, arms K.
        Complete,
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
            Timer::E => Some(Input::TimerE),
            Timer::F => Some(Input::TimerF),
            Timer::K => Some(Input::TimerK),
            Timer::A | Timer::B | Timer::C | Timer::D | Timer::G | Timer::H => None,
            Timer::I | Timer::J | Timer::L | Timer::M | Timer::Wait => None,
        }
    }

    /// The input that a response with this status is.
    pub const fn response(status: u16) -> Input {
        match status {
            0..=199 => Input::Provisional,
            200.. => Input::Final,
        }
    }
}

impl Action {
    /// Whether the user sees the response.
    pub const fn passes_up(self) -> bool {
        match self {
            Action::PassUp | Action::CompletePassUp => true,
            Action::Nothing | Action::Absorb | Action::Complete => false,
            Action::Retransmit | Action::RetransmitSlowly => false,
            Action::TimeOut | Action::Fail | Action::End => false,
        }
    }

    /// Whether the request is sent again.
    pub const fn retransmits(self) -> bool {
        match self {
            Action::Retransmit | Action::RetransmitSlowly => true,
            Action::Nothing | Action::Absorb => false,
            Action::PassUp | Action::CompletePassUp | Action::Complete => false,
            Action::TimeOut | Action::Fail | Action::End => false,
        }
    }
}

/// The next state and what is to be done.
pub const fn step(state: State, input: Input) -> (State, Action) {
    match state {
        State::Trying => trying(input),
        State::Proceeding => proceeding(input),
        State::Completed => completed(input),
        State::Terminated => terminated(input),
    }
}

const fn trying(input: Input) -> (State, Action) {
    match input {
        //= rfc3261#17.1.2.2
        Input::TimerE => (State::Trying, Action::Retransmit),
        Input::TimerF => (State::Terminated, Action::TimeOut),
        Input::Provisional => (State::Proceeding, Action::PassUp),
        Input::Final => (State::Completed, Action::CompletePassUp),
        //= rfc3261#17.1.4
        Input::TransportError => (State::Terminated, Action::Fail),
        Input::Abandoned => (State::Completed, Action::Complete),
        Input::TimerK => (State::Trying, Action::Nothing),
    }
}

const fn proceeding(input: Input) -> (State, Action) {
    match input {
        //= rfc3261#17.1.2.2
        Input::TimerE => (State::Proceeding, Action::RetransmitSlowly),
        Input::TimerF => (State::Terminated, Action::TimeOut),
        Input::Provisional => (State::Proceeding, Action::PassUp),
        Input::Final => (State::Completed, Action::CompletePassUp),
        //= rfc3261#17.1.4
        Input::TransportError => (State::Terminated, Action::Fail),
        Input::Abandoned => (State::Completed, Action::Complete),
        Input::TimerK => (State::Proceeding, Action::Nothing),
    }
}

const fn completed(input: Input) -> (State, Action) {
    match input {
        //= rfc3261#17.1.2.2
        Input::TimerK => (State::Terminated, Action::End),
        Input::Provisional | Input::Final => (State::Completed, Action::Absorb),
        Input::TransportError | Input::Abandoned => (State::Completed, Action::Nothing),
        Input::TimerE | Input::TimerF => (State::Completed, Action::Nothing),
    }
}

const fn terminated(input: Input) -> (State, Action) {
    match input {
        Input::Provisional | Input::Final => (State::Terminated, Action::Absorb),
        Input::TransportError | Input::Abandoned => (State::Terminated, Action::Nothing),
        Input::TimerE | Input::TimerF | Input::TimerK => (State::Terminated, Action::Nothing),
    }
}
