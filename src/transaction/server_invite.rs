//! The INVITE server transaction as a pure machine: RFC 3261 §17.2.1 figure 7 with the Accepted
//! state of RFC 6026. A response that the network refuses changes no state (RFC 6026 §7.1 on
//! §17.2.4). What an action does to timers, bytes and datagrams lives in `server.rs`.

use super::listed::listed;
use super::timings::Timer;

listed! {
    /// Where an INVITE server transaction stands.
    pub enum State {
        /// The INVITE is with the user; provisional answers may have been sent.
        Proceeding,
        /// A 2xx was sent; its repetition is between the two user agents.
        Accepted,
        /// A 3xx-6xx was sent and is repeated until the ACK comes.
        Completed,
        /// The ACK came; further ones are absorbed.
        Confirmed,
        /// Over.
        Terminated,
    }
}

listed! {
    /// What can happen to an INVITE server transaction.
    pub enum Input {
        /// The INVITE came again.
        Request,
        Ack,
        /// The user answers 1xx.
        Provisional,
        /// The user answers 2xx.
        Success,
        /// The user answers 3xx-6xx.
        Failure,
        TimerG,
        TimerH,
        TimerI,
        TimerL,
        /// The user will not answer.
        Abandoned,
    }
}

listed! {
    /// What the table does for an INVITE server transaction.
    pub enum Action {
        Nothing,
        /// Sends the response and keeps a copy of it.
        Send,
        /// Sends the response, arms L; no copy, since the user agent repeats a 2xx.
        Accept,
        /// Sends a further 2xx.
        PassOn,
        /// Sends the response, keeps a copy, arms G and H.
        Complete,
        /// Sends the copy again.
        SendAgain,
        /// Sends the copy again and arms G with twice the interval, at most T2.
        Retransmit,
        /// Stops G and H, frees the copy, arms I.
        Confirm,
        /// Ends and tells the user that no ACK came.
        TimeOut,
        /// Ends; the user is told that the record is gone.
        End,
    }
}

impl Input {
    /// The input that a fired timer is to this machine.
    pub const fn fired(timer: Timer) -> Option<Input> {
        match timer {
            Timer::G => Some(Input::TimerG),
            Timer::H => Some(Input::TimerH),
            Timer::I => Some(Input::TimerI),
            Timer::L => Some(Input::TimerL),
            Timer::A | Timer::B | Timer::C | Timer::D | Timer::E | Timer::F => None,
            Timer::J | Timer::K | Timer::M | Timer::Wait => None,
        }
    }

    /// The input that the user's response with this status is.
    pub const fn response(status: u16) -> Input {
        match status {
            0..=199 => Input::Provisional,
            200..=299 => Input::Success,
            300.. => Input::Failure,
        }
    }
}

/// The next state and what is to be done.
pub const fn step(state: State, input: Input) -> (State, Action) {
    match state {
        State::Proceeding => proceeding(input),
        State::Accepted => accepted(input),
        State::Completed => completed(input),
        State::Confirmed => confirmed(input),
        State::Terminated => terminated(input),
    }
}

const fn proceeding(input: Input) -> (State, Action) {
    match input {
        //= rfc3261#17.2.1
        Input::Request => (State::Proceeding, Action::SendAgain),
        Input::Provisional => (State::Proceeding, Action::Send),
        //= rfc6026#7.1
        Input::Success => (State::Accepted, Action::Accept),
        //= rfc3261#17.2.1
        Input::Failure => (State::Completed, Action::Complete),
        Input::Abandoned => (State::Terminated, Action::End),
        Input::Ack => (State::Proceeding, Action::Nothing),
        Input::TimerG | Input::TimerH => (State::Proceeding, Action::Nothing),
        Input::TimerI | Input::TimerL => (State::Proceeding, Action::Nothing),
    }
}

const fn accepted(input: Input) -> (State, Action) {
    match input {
        //= rfc6026#7.1
        Input::Request => (State::Accepted, Action::Nothing),
        Input::Success => (State::Accepted, Action::PassOn),
        Input::TimerL => (State::Terminated, Action::End),
        Input::Ack | Input::Provisional | Input::Failure => (State::Accepted, Action::Nothing),
        Input::TimerG | Input::TimerH => (State::Accepted, Action::Nothing),
        Input::TimerI | Input::Abandoned => (State::Accepted, Action::Nothing),
    }
}

const fn completed(input: Input) -> (State, Action) {
    match input {
        //= rfc3261#17.2.1
        Input::Request => (State::Completed, Action::SendAgain),
        Input::TimerG => (State::Completed, Action::Retransmit),
        Input::Ack => (State::Confirmed, Action::Confirm),
        Input::TimerH => (State::Terminated, Action::TimeOut),
        Input::Provisional | Input::Success => (State::Completed, Action::Nothing),
        Input::Failure | Input::Abandoned => (State::Completed, Action::Nothing),
        Input::TimerI | Input::TimerL => (State::Completed, Action::Nothing),
    }
}

const fn confirmed(input: Input) -> (State, Action) {
    match input {
        //= rfc3261#17.2.1
        Input::TimerI => (State::Terminated, Action::End),
        Input::Request | Input::Ack => (State::Confirmed, Action::Nothing),
        Input::Provisional | Input::Success => (State::Confirmed, Action::Nothing),
        Input::Failure | Input::Abandoned => (State::Confirmed, Action::Nothing),
        Input::TimerG | Input::TimerH => (State::Confirmed, Action::Nothing),
        Input::TimerL => (State::Confirmed, Action::Nothing),
    }
}

const fn terminated(input: Input) -> (State, Action) {
    match input {
        Input::Request | Input::Ack => (State::Terminated, Action::Nothing),
        Input::Provisional | Input::Success => (State::Terminated, Action::Nothing),
        Input::Failure | Input::Abandoned => (State::Terminated, Action::Nothing),
        Input::TimerG | Input::TimerH => (State::Terminated, Action::Nothing),
        Input::TimerI | Input::TimerL => (State::Terminated, Action::Nothing),
    }
}
