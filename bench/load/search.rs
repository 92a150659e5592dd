//! The search of RFC 7502 for the session establishment rate: the highest rate at which no session
//! fails, confirmed over many sessions, and its report form (§5 there). A session that had to be
//! rescued by sending something again, or that ended only after the load was over, counts as failed:
//! a device with a backlog does not keep that rate up.
//!
//! The rate is doubled until something fails, then halved in between until the bounds are close;
//! what was found must pass a longer run, or the search goes on below it.

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::args::{CallArgs, Mode};
use crate::plan::{GIVE_UP, Plan};
use crate::report;
use crate::run::{self, Outcome};

/// One step of the search takes this long; what is confirmed runs by number of sessions.
const STEP: Duration = Duration::from_secs(5);
/// A step also ends after so many trials: a device whose limit moves is not searched for ever.
const TRIALS_MAX: usize = 40;
/// What the next rate is compared with must be at least this much lower than planned to be blamed
/// on the generator.
const GENERATOR_SHARE: f64 = 0.98;

/// One run at one rate.
struct Trial {
    rate: f64,
    sessions: u64,
    failed: u64,
    is_clean: bool,
    confirming: bool,
}

/// Bounds of the rate.
struct Search<'a> {
    plan: Plan,
    args: &'a CallArgs,
    stop: &'a Arc<AtomicBool>,
    trials: Vec<Trial>,
    /// The highest rate that passed, and the lowest that did not.
    good: Option<f64>,
    bad: Option<f64>,
    generator_limit: bool,
}

/// Searches, prints the form, writes the JSON; tells whether a rate was found.
pub fn run(plan: &Plan, args: &CallArgs, stop: &Arc<AtomicBool>) -> Result<bool, String> {
    let mut search = Search {
        plan: Plan {
            quiet: true,
            ..plan.clone()
        },
        args,
        stop,
        trials: Vec::new(),
        good: None,
        bad: None,
        generator_limit: false,
    };
    let found = search.find()?;
    crate::say(search.form(found));
    if let Some(file) = &args.json {
        report::write_json(file, &search.json(found))?;
    }
    Ok(found.is_some())
}

impl Search<'_> {
    fn find(&mut self) -> Result<Option<f64>, String> {
        let mut rate = self.plan.rate;
        while self.trials.len() < TRIALS_MAX && !self.stop.load(Ordering::Relaxed) {
            let is_clean = self.trial(rate, false)?;
            self.note(rate, is_clean);
            match self.next() {
                Some(next) => rate = next,
                None => {
                    let Some(found) = self.good else {
                        return Ok(None);
                    };
                    if self.trial(found, true)? {
                        return Ok(Some(found));
                    }
                    self.good = None;
                    self.bad = Some(found);
                    rate = found * (1.0 - self.args.resolution / 100.0);
                }
            }
        }
        Ok(None)
    }

    fn note(&mut self, rate: f64, is_clean: bool) {
        if is_clean {
            self.good = Some(self.good.map_or(rate, |good| good.max(rate)));
        } else {
            self.bad = Some(self.bad.map_or(rate, |bad| bad.min(rate)));
        }
    }

    /// The next rate to try; none when the bounds are close enough.
    fn next(&self) -> Option<f64> {
        let resolution = 1.0 + self.args.resolution / 100.0;
        match (self.good, self.bad) {
            (Some(_), None) if self.generator_limit => None,
            (Some(good), None) => Some(good * 2.0),
            (Some(good), Some(bad)) if bad <= good * resolution => None,
            (Some(good), Some(bad)) => Some((good + bad) / 2.0),
            (None, Some(bad)) if bad > 1.0 => Some(bad / 2.0),
            (None, _) => None,
        }
    }

    fn trial(&mut self, rate: f64, confirming: bool) -> Result<bool, String> {
        let plan = self.plan_at(rate, confirming);
        let outcome = run::run(&plan, self.stop).map_err(|fault| fault.to_string())?;
        let counts = &outcome.tally.counts;
        let is_clean = outcome.is_sustained() && counts.started > 0;
        self.generator_limit |= is_clean && outcome.offered() < GENERATOR_SHARE * rate;
        eprintln!(
            "load: {:>9.1}/s  {:>8} sessions  {}{}",
            rate,
            counts.started,
            verdict(&outcome),
            if confirming { "  (to confirm)" } else { "" },
        );
        self.trials.push(Trial {
            rate,
            sessions: counts.started,
            failed: counts.failed,
            is_clean,
            confirming,
        });
        Ok(is_clean)
    }

    fn plan_at(&self, rate: f64, confirming: bool) -> Plan {
        let (calls_max, time) = if confirming {
            let sessions = self.args.sessions;
            let time = Duration::from_secs_f64(sessions as f64 / rate + 1.0);
            (sessions, time)
        } else {
            (u64::MAX >> 8, self.args.time.unwrap_or(STEP))
        };
        Plan {
            rate,
            calls_max,
            time,
            ..self.plan.clone()
        }
    }

    fn form(&self, found: Option<f64>) -> String {
        let plan = &self.plan;
        let sessions: u64 = self.trials.iter().map(|trial| trial.sessions).sum();
        let rate = found.map_or("none found".to_owned(), |rate| {
            format!("{rate:.0} per second")
        });
        let limit = if self.generator_limit {
            "the generator could not offer more: the device may do more than this\n"
        } else {
            ""
        };
        let (session, registration) = match plan.mode {
            Mode::Call => (rate.as_str(), "not measured"),
            Mode::Register => ("not measured", rate.as_str()),
            Mode::Options => ("not measured (the requests were OPTIONS)", rate.as_str()),
        };
        format!(
            "\nRFC 7502 report\n\n\
             Test setup\n\
             \x20 SIP Transport Protocol        = UDP\n\
             \x20 Session Attempt Rate          = {:.0} per second at first\n\
             \x20 Session Duration              = {}\n\
             \x20 Total Sessions Attempted      = {sessions} in {} runs; {} to confirm\n\
             \x20 Media Streams per Session     = 0 (signalling only)\n\
             \x20 Associated Media Protocol     = none\n\
             \x20 Codec                         = PCMA, PCMU (offered, not sent)\n\
             \x20 Establishment Threshold Time  = {} s\n\
             \x20 TLS ciphersuite, IPsec        = none\n\n\
             Benchmarks\n\
             \x20 Session Establishment Rate    = {session}\n\
             \x20 Registration Rate             = {registration}\n\
             \x20 DUT is a media relay          = no\n\
             {limit}",
            plan.rate,
            plan.hold,
            self.trials.len(),
            self.args.sessions,
            GIVE_UP.as_secs(),
        )
    }

    fn json(&self, found: Option<f64>) -> Value {
        let trials: Vec<Value> = self
            .trials
            .iter()
            .map(|trial| {
                json!({
                    "rate": trial.rate,
                    "sessions": trial.sessions,
                    "failed": trial.failed,
                    "clean": trial.is_clean,
                    "confirming": trial.confirming,
                })
            })
            .collect();
        json!({
            "rfc7502": {
                "rate_per_s": found,
                "generator_limit": self.generator_limit,
                "sessions_to_confirm": self.args.sessions,
                "resolution_percent": self.args.resolution,
            },
            "trials": trials,
        })
    }
}

fn verdict(outcome: &Outcome) -> String {
    if outcome.is_sustained() {
        return "no failure".to_owned();
    }
    let named = |why: &str, count: u64| (count > 0).then(|| format!("{why} {count}"));
    let failures = outcome.tally.failures.iter();
    let reasons: Vec<String> = failures
        .filter_map(|(why, count)| named(&why.name(), *count))
        .chain(named("not started", outcome.tally.counts.not_started))
        .chain(named("sent again", outcome.resent()))
        .chain(named("too late", outcome.overdue()))
        .collect();
    format!("failed: {}", reasons.join(", "))
}
