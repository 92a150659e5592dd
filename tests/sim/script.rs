//! What the two ends of one call are going to do, good and bad manners alike, thrown before it starts.

use std::time::Duration;

use crate::dice::Dice;

/// Who does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Caller,
    Callee,
}

/// How an end treats the ACK that it owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acking {
    Proper,
    Never,
    Double,
}

/// How a request inside the dialog is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Status(u16),
    Silence,
}

/// What a callee does in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answer,
    /// Two 2xx with different tags.
    AnswerTwice,
    Refuse(u16),
    Never,
}

/// What a callee does with a CANCEL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCancel {
    Terminate,
    /// 200 to the CANCEL, and then a 2xx to the INVITE all the same.
    AnswerAnyway,
    Ignore,
    Unknown481,
}

/// Something inside the talk.
#[derive(Clone, Copy, Debug)]
pub struct Middle {
    pub after: Duration,
    pub by: End,
    pub method: &'static str,
}

/// One attempt's callee.
#[derive(Clone, Copy, Debug)]
pub struct Callee {
    /// 100 after this time.
    pub trying: Option<Duration>,
    /// How many early dialogs ring, and when the first does.
    pub forks: u8,
    pub ringing: Duration,
    pub outcome: Outcome,
    pub outcome_after: Duration,
    pub on_cancel: OnCancel,
    pub sends_twice: bool,
}

/// Forged messages that someone throws in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    Cancel,
    Bye,
    /// A response without a branch of the gate.
    Response,
    /// A response with a branch that looks like one of the gate.
    Answer(u16),
    /// A BYE with one tag right and the other made up.
    HalfBye,
    /// A BYE and a CANCEL that a trunk makes up which is no party.
    TrunksBye,
    TrunksCancel,
    StrangersInvite,
    Garbage,
    KeepAlive,
    Options,
}

/// The whole play of a call.
#[derive(Clone, Debug)]
pub struct Script {
    pub cancel_after: Option<Duration>,
    /// Does not wait for a provisional answer with its CANCEL.
    pub cancel_rash: bool,
    pub acking: Acking,
    pub talk: Duration,
    /// Who hangs up; both at once, or nobody.
    pub hangs_up: Vec<End>,
    pub bye_reply: [Reply; 2],
    pub middle: Vec<Middle>,
    pub middle_reply: Reply,
    /// When an end falls silent for good, counted from the start of the call.
    pub dies: Option<(End, Duration)>,
    pub knows_timers: bool,
    pub refreshes: bool,
    pub compact: bool,
    pub offers: Option<&'static str>,
    pub callees: Vec<Callee>,
    pub forgery: Option<(Duration, Forgery)>,
    /// Its requests ask to be answered where they come from (RFC 3581).
    pub rport: bool,
    /// An end is moved to another port by its NAT, counted from the start of its leg.
    pub rebinds: Option<(End, Duration)>,
    /// What is sent to the port of before is lost.
    pub forgets_port: bool,
}

impl Script {
    /// Throws a play; a polite one has no bad manners, so that its outcome is known.
    pub fn throw(dice: &mut Dice, polite: bool) -> Script {
        let bad = |dice: &mut Dice, permille| !polite && dice.chance(permille);
        let cancel = dice.chance(200);
        // What is mailed between shards may be overtaken by what follows within a moment, as on any
        // network; polite ends leave the answer that time.
        let settled = Duration::from_millis(if polite { 50 } else { 0 });
        let hangs_up = match dice.below(10) {
            0..=4 => vec![End::Caller],
            5..=7 => vec![End::Callee],
            8 => vec![End::Caller, End::Callee],
            _ if polite => vec![End::Caller],
            _ => vec![],
        };
        Script {
            cancel_after: cancel.then(|| throw_span(dice)),
            cancel_rash: bad(dice, 100),
            acking: match bad(dice, 100) {
                true if dice.chance(500) => Acking::Never,
                true => Acking::Double,
                false => Acking::Proper,
            },
            talk: throw_talk(dice) + settled,
            hangs_up,
            bye_reply: [throw_reply(dice, polite), throw_reply(dice, polite)],
            middle: throw_middle(dice, settled),
            middle_reply: throw_reply(dice, polite),
            dies: bad(dice, 60).then(|| {
                let end = dice.pick(&[End::Caller, End::Callee]);
                (end, dice.millis(0..120_000))
            }),
            knows_timers: dice.chance(500),
            refreshes: polite || dice.chance(800),
            compact: dice.chance(200),
            offers: dice.weighted(&[(6, None), (6, Some("0 8 101")), (1, Some("3"))]),
            callees: (0..4).map(|_| throw_callee(dice, polite)).collect(),
            forgery: dice.chance(200).then(|| {
                let what = dice.pick(&[
                    Forgery::Cancel,
                    Forgery::Bye,
                    Forgery::Response,
                    Forgery::Answer(200),
                    Forgery::Answer(486),
                    Forgery::HalfBye,
                    Forgery::TrunksBye,
                    Forgery::TrunksCancel,
                    Forgery::StrangersInvite,
                    Forgery::Garbage,
                    Forgery::KeepAlive,
                    Forgery::Options,
                ]);
                (dice.millis(0..30_000), what)
            }),
            rport: dice.chance(500),
            rebinds: dice.chance(100).then(|| {
                let end = dice.pick(&[End::Caller, End::Callee]);
                (end, dice.millis(0..120_000))
            }),
            forgets_port: bad(dice, 500),
        }
    }
}

fn throw_span(dice: &mut Dice) -> Duration {
    match dice.below(4) {
        0 => dice.millis(0..30),
        1 => dice.millis(30..3_000),
        2 => dice.millis(3_000..40_000),
        _ => dice.millis(0..240_000),
    }
}

fn throw_talk(dice: &mut Dice) -> Duration {
    match dice.below(4) {
        0 => dice.millis(0..200),
        1 => dice.millis(200..20_000),
        2 => dice.millis(20_000..200_000),
        _ => dice.millis(200_000..1_200_000),
    }
}

fn throw_reply(dice: &mut Dice, polite: bool) -> Reply {
    if polite || dice.chance(800) {
        return Reply::Status(200);
    }
    dice.weighted(&[
        (4, Reply::Status(481)),
        (2, Reply::Status(500)),
        (1, Reply::Status(401)),
        (3, Reply::Silence),
    ])
}

fn throw_middle(dice: &mut Dice, settled: Duration) -> Vec<Middle> {
    let count = dice.weighted(&[(6, 0), (2, 1), (1, 3)]);
    (0..count)
        .map(|_| Middle {
            after: dice.millis(0..60_000) + settled,
            by: dice.pick(&[End::Caller, End::Callee]),
            method: dice.pick(&["INVITE", "UPDATE", "INFO", "REFER", "NOTIFY"]),
        })
        .collect()
}

fn throw_callee(dice: &mut Dice, polite: bool) -> Callee {
    let outcome = dice.weighted(&[
        (60, Outcome::Answer),
        (if polite { 0 } else { 5 }, Outcome::AnswerTwice),
        (8, Outcome::Refuse(486)),
        (4, Outcome::Refuse(404)),
        (2, Outcome::Refuse(302)),
        (2, Outcome::Refuse(401)),
        (2, Outcome::Refuse(603)),
        (8, Outcome::Refuse(503)),
        (if polite { 0 } else { 10 }, Outcome::Never),
    ]);
    let rings = dice.chance(850);
    Callee {
        trying: (polite || dice.chance(700)).then(|| dice.millis(0..300)),
        forks: if rings {
            dice.weighted(&[(8, 1), (2, 2), (1, 5)])
        } else {
            0
        },
        // Later than auto-congest and than a server transaction outlives its ACK (T4), but not than
        // 64*T1, when the gate has forgotten the INVITE and could not cancel it.
        ringing: match !polite && dice.chance(150) {
            true => dice.millis(2_500..28_000),
            false => dice.millis(0..2_500),
        },
        outcome,
        outcome_after: throw_span(dice),
        on_cancel: if polite {
            OnCancel::Terminate
        } else {
            dice.weighted(&[
                (8, OnCancel::Terminate),
                (2, OnCancel::AnswerAnyway),
                (1, OnCancel::Ignore),
                (1, OnCancel::Unknown481),
            ])
        },
        sends_twice: !polite && dice.chance(100),
    }
}
