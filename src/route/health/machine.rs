//! The machine of a trunk's health, pure: `tests/machines/health.txt` prints all of it.
//!
//! `Up` and `Probing` take calls. A trunk begins as `Probing` when it is probed, with calls from
//! the first moment, and comes through `Probing` again when it recovers, with a small share: two
//! signs of life in a row make it `Up`, one failure in between makes it `Down` again.

/// The health of a trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Takes calls.
    Up,
    /// Takes calls until proven otherwise: not heard of yet, or recovering.
    Probing,
    /// All addresses failed; no new calls.
    Down,
    /// By order: no new calls, dialogs go on, probes too.
    Draining,
    /// By order or configuration: no new calls, no probes.
    Disabled,
}

impl State {
    pub const ALL: &'static [State] = &[
        State::Up,
        State::Probing,
        State::Down,
        State::Draining,
        State::Disabled,
    ];

    /// The name that commands and metrics print.
    pub const fn text(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Probing => "probing",
            State::Down => "down",
            State::Draining => "draining",
            State::Disabled => "disabled",
        }
    }

    /// Whether new calls may go to the trunk.
    pub const fn takes_calls(self) -> bool {
        match self {
            State::Up | State::Probing => true,
            State::Down | State::Draining | State::Disabled => false,
        }
    }
}

/// What happens to a trunk. A failure is `AtLimit` when no address is left below its strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A probe was answered, with anything but 408 and 503.
    ProbeOk,
    ProbeFail,
    ProbeFailAtLimit,
    /// A call was answered.
    PassiveOk,
    /// A call timed out, was answered 503 or refused by ICMP.
    PassiveFail,
    PassiveFailAtLimit,
    /// An address that nothing probes has rested for the hold time.
    HoldOver,
    Drain,
    EnableProbed,
    EnableUnprobed,
    Disable,
    CallsGone,
}

impl Input {
    pub const ALL: &'static [Input] = &[
        Input::ProbeOk,
        Input::ProbeFail,
        Input::ProbeFailAtLimit,
        Input::PassiveOk,
        Input::PassiveFail,
        Input::PassiveFailAtLimit,
        Input::HoldOver,
        Input::Drain,
        Input::EnableProbed,
        Input::EnableUnprobed,
        Input::Disable,
        Input::CallsGone,
    ];
}

/// What the keeper does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Nothing,
    /// Ends a trial: the share grows from what it is to the whole.
    Rise,
    /// Takes the trunk's share away.
    Fall,
    /// Gives the trunk a small share and probes it soon.
    Try,
    /// Begins anew: strikes forgotten, the whole share.
    Restart,
    /// Takes no more calls, by order.
    Rest,
    /// Notes that a draining trunk has no call left.
    NoteDrained,
}

/// The next state of a trunk and what to do.
pub const fn step(state: State, input: Input) -> (State, Action) {
    match state {
        State::Up => up(input),
        State::Probing => probing(input),
        State::Down => down(input),
        State::Draining => draining(input),
        State::Disabled => disabled(input),
    }
}

const fn up(input: Input) -> (State, Action) {
    match input {
        Input::ProbeFailAtLimit | Input::PassiveFailAtLimit => (State::Down, Action::Fall),
        Input::Drain => (State::Draining, Action::Rest),
        Input::Disable => (State::Disabled, Action::Rest),
        Input::ProbeOk
        | Input::ProbeFail
        | Input::PassiveOk
        | Input::PassiveFail
        | Input::HoldOver
        | Input::EnableProbed
        | Input::EnableUnprobed
        | Input::CallsGone => (State::Up, Action::Nothing),
    }
}

const fn probing(input: Input) -> (State, Action) {
    match input {
        Input::ProbeOk | Input::PassiveOk => (State::Up, Action::Rise),
        Input::ProbeFailAtLimit | Input::PassiveFailAtLimit => (State::Down, Action::Fall),
        Input::Drain => (State::Draining, Action::Rest),
        Input::Disable => (State::Disabled, Action::Rest),
        Input::ProbeFail
        | Input::PassiveFail
        | Input::HoldOver
        | Input::EnableProbed
        | Input::EnableUnprobed
        | Input::CallsGone => (State::Probing, Action::Nothing),
    }
}

const fn down(input: Input) -> (State, Action) {
    match input {
        Input::ProbeOk
        | Input::PassiveOk
        | Input::HoldOver
        | Input::EnableProbed
        | Input::EnableUnprobed => (State::Probing, Action::Try),
        Input::Drain => (State::Draining, Action::Rest),
        Input::Disable => (State::Disabled, Action::Rest),
        Input::ProbeFail
        | Input::ProbeFailAtLimit
        | Input::PassiveFail
        | Input::PassiveFailAtLimit
        | Input::CallsGone => (State::Down, Action::Nothing),
    }
}

const fn draining(input: Input) -> (State, Action) {
    match input {
        Input::EnableProbed => (State::Probing, Action::Restart),
        Input::EnableUnprobed => (State::Up, Action::Restart),
        Input::Disable => (State::Disabled, Action::Rest),
        Input::CallsGone => (State::Draining, Action::NoteDrained),
        Input::ProbeOk
        | Input::ProbeFail
        | Input::ProbeFailAtLimit
        | Input::PassiveOk
        | Input::PassiveFail
        | Input::PassiveFailAtLimit
        | Input::HoldOver
        | Input::Drain => (State::Draining, Action::Nothing),
    }
}

/// A disabled trunk stays so when it is told to drain: it does more than that already.
const fn disabled(input: Input) -> (State, Action) {
    match input {
        Input::EnableProbed => (State::Probing, Action::Restart),
        Input::EnableUnprobed => (State::Up, Action::Restart),
        Input::ProbeOk
        | Input::ProbeFail
        | Input::ProbeFailAtLimit
        | Input::PassiveOk
        | Input::PassiveFail
        | Input::PassiveFailAtLimit
        | Input::HoldOver
        | Input::Drain
        | Input::Disable
        | Input::CallsGone => (State::Disabled, Action::Nothing),
    }
}
