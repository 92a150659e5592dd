//! The non-INVITE server transaction as a pure machine: RFC 3261 §17.2.2 figure 8. What an
//! action does to timers, bytes and datagrams lives in `server.rs`.

use super::listed::listed;
use super::timings::Timer;

listed! {
    /// Where a non-INVITE server transaction stands.
    pub enum State {
        /// The request is with the user, which has not answered.
        Trying,
        /// A provisional answer was sent.
        Proceeding,
        /// The final answer was sent.
        Completed,
        /// Over.
        Terminated,
    }
}

listed! {
    /// What can happen to a non-INVITE server transaction.
    pub enum Input {
        /// The request came again.
        Request,
        /// The user answers 1xx.
        Provisional,
        /// The user answers 2xx-6xx.
        Final,
        TimerJ,
        /// The user will not answer.
        Abandoned,
    }
}

listed! {
    /// What the table does for a non-INVITE server transaction.
    pub enum Action {
        Nothing,
        /// Sends the response and keeps a copy of it.
        Send,
        /// Sends the response, keeps a copy, arms J.
        Complete,
        /// Sends the copy again.
        SendAgain,
        /// Ends; the user is told that the record is gone.
        End,
    }
}

impl Input {
    /// The input that a fired timer is to this machine.
    pub const fn fired(timer: Timer) -> Option<Input> {
        match timer {
            Timer::J => Some(Input::TimerJ),
            Timer::A | Timer::B | Timer::C | Timer::D | Timer::E | Timer::F => None,
            Timer::G | Timer::H | Timer::I | Timer::K | Timer::L | Timer::M => None,
            Timer::Wait => None,
        }
    }

    /// The input that the user's response with this status is.
    pub const fn response(status: u16) -> Input {
        match status {
            0..=199 => Input::Provisional,
            200.. => Input::Final,
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
        //= rfc3261#17.2.2
        Input::Request => (State::Trying, Action::Nothing),
        Input::Provisional => (State::Proceeding, Action::Send),
        Input::Final => (State::Completed, Action::Complete),
        Input::Abandoned => (State::Terminated, Action::End),
        Input::TimerJ => (State::Trying, Action::Nothing),
    }
}

const fn proceeding(input: Input) -> (State, Action) {
    match input {
        //= rfc3261#17.2.2
        Input::Request => (State::Proceeding, Action::SendAgain),
        Input::Provisional => (State::Proceeding, Action::Send),
        Input::Final => (State::Completed, Action::Complete),
        Input::Abandoned => (State::Terminated, Action::End),
        Input::TimerJ => (State::Proceeding, Action::Nothing),
    }
}

const fn completed(input: Input) -> (State, Action) {
    match input {
        //= rfc3261#17.2.2
        Input::Request => (State::Completed, Action::SendAgain),
        Input::Provisional | Input::Final => (State::Completed, Action::Nothing),
        Input::TimerJ => (State::Terminated, Action::End),
        Input::Abandoned => (State::Completed, Action::Nothing),
    }
}

const fn terminated(input: Input) -> (State, Action) {
    match input {
        Input::Request | Input::Provisional => (State::Terminated, Action::Nothing),
        Input::Final | Input::Abandoned => (State::Terminated, Action::Nothing),
        Input::TimerJ => (State::Terminated, Action::Nothing),
    }
}
