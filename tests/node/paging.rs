//! Many live calls: their list is paged, and no shard stalls over it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::kit::{Caller, Node, PATIENCE, Plan, answer_to, receive};

const CALLS: usize = 20_000;
/// Calls that are set up at the same time: what fits into a socket with the kernel's own buffers.
const AT_ONCE: usize = 64;
/// A page takes well under a millisecond; the rest is for a test host that others use, too.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(500);

#[test]
fn twenty_thousand_calls_are_listed_while_options_are_answered() {
    let plan = Plan::new("paging");
    let text = plan
        .text()
        .replace(
            "dialogs = 1000\ntransactions = 1000\n",
            "dialogs = 50_000\ntransactions = 100_000\n",
        )
        .replace("calls_max = 20\n", "");
    // Every call has to ring, also where others use the CPUs.
    let text = format!("{text}[overload]\ntarget = \"off\"\n");
    let node = plan
        .start_with(&text, &[])
        .unwrap_or_else(|ended| panic!("{}", ended.stderr));
    ring_all(&node);
    node.until("all calls ring", |node| node.calls() == CALLS as u64);

    let quiet = Prober::start(&node);
    std::thread::sleep(Duration::from_millis(500));
    let quiet = quiet.stop();
    let prober = Prober::start(&node);
    let began = Instant::now();
    let calls = node.json("calls");
    let listed_in = began.elapsed();
    let table = node.text("calls --trunk carrier-a");
    let busy = prober.stop();
    eprintln!(
        "{CALLS} calls as JSON in {listed_in:?}; slowest answer to OPTIONS {:?} of {}, {:?} of {} without a listing",
        busy.slowest, busy.answered, quiet.slowest, quiet.answered
    );
    let calls = calls.as_array().expect("a list");
    assert_eq!(calls.len(), CALLS);
    let ids: std::collections::BTreeSet<&str> = calls
        .iter()
        .filter_map(|call| call["call_id"].as_str())
        .collect();
    assert_eq!(ids.len(), CALLS, "each call once");
    assert_eq!(
        table.lines().count(),
        CALLS + 1,
        "a heading, and one line per call"
    );
    assert_eq!(
        node.json("calls --limit 700")
            .as_array()
            .expect("a list")
            .len(),
        700
    );
    assert!(
        busy.answered > 0 && busy.slowest < ANSWER_TIME_MAX,
        "{:?}",
        busy.slowest
    );
}

/// Has all calls ring, a few at a time.
fn ring_all(node: &Node) {
    let caller = Caller::of(node);
    let uas = node.plan.uas.try_clone().expect("a socket");
    let (own, rung) = (
        uas.local_addr().expect("bound"),
        Arc::new(AtomicUsize::new(0)),
    );
    let ringing = Arc::clone(&rung);
    let server = spawn(move || {
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < CALLS {
            let (invite, from) = receive(&uas);
            uas.send_to(answer_to(&invite, "180 Ringing", own).as_bytes(), from)
                .expect("sent");
            let call_id = invite.lines().find(|line| line.starts_with("Call-ID:"));
            seen.insert(call_id.expect("a Call-ID").to_owned());
            ringing.store(seen.len(), Ordering::Relaxed);
        }
    });
    let deadline = Instant::now() + 6 * PATIENCE;
    for call in 0..CALLS {
        caller.send(&caller.request("INVITE", &format!("many-{call}")));
        while call - rung.load(Ordering::Relaxed).min(call) >= AT_ONCE {
            assert!(Instant::now() < deadline, "{}", node.log());
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    server.join().expect("all calls rang");
}

/// Asks the node for its options every few milliseconds.
struct Prober {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Probed>,
}

struct Probed {
    answered: usize,
    slowest: Duration,
}

impl Prober {
    fn start(node: &Node) -> Prober {
        let caller = Caller::of(node);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = spawn(move || {
            let mut probed = Probed {
                answered: 0,
                slowest: Duration::ZERO,
            };
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                let own = caller.socket.local_addr().expect("bound").port();
                assert_eq!(
                    caller.options(&format!("probe-{own}-{}", probed.answered)),
                    200
                );
                probed.slowest = probed.slowest.max(began.elapsed());
                probed.answered += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            probed
        });
        Prober { stop, thread }
    }

    fn stop(self) -> Probed {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("every OPTIONS was answered")
    }
}

fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::Builder::new().spawn(work).expect("a thread")
}
