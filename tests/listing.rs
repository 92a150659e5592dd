//! A hundred thousand live calls in one shard: pages are bounded, each call is on one of them, and
//! a filter costs the shard no more than a page without one.

#[expect(dead_code, reason = "each user of the kit takes a part of it")]
mod kit;

use core::time::Duration;

use callgate::dialog::Phase;
use callgate::shard::mail::{Ask, CallFilter, CallsPage};
use crossbeam::channel::bounded;
use kit::Desk;

const CALLS: usize = 100_000;
/// As the admin socket asks for.
const PAGE_ROWS: usize = 512;

const CONFIG: &str = "
    [capacity]
    dialogs = 100_000
    transactions = 200_000
    [[listen]]
    udp = \"192.0.2.1:5060\"
    [trunk.callers]
    match = [\"198.51.100.0/24\"]
    [trunk.carrier]
    address = \"203.0.113.1:5060\"
    [[route]]
    to = \"carrier\"
";

fn invite(number: usize) -> String {
    format!(
        "INVITE sip:1234@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK{number}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:a@198.51.100.1>;tag=1\r\nTo: <sip:1234@192.0.2.1>\r\n\
         Call-ID: many-{number}\r\nCSeq: 1 INVITE\r\nContact: <sip:a@198.51.100.1>\r\nContent-Length: 0\r\n\r\n"
    )
}

fn page(desk: &mut Desk, from_index: u32, filter: CallFilter) -> CallsPage {
    let (reply, answer) = bounded(1);
    desk.ask(Ask::Calls {
        from_index,
        rows_max: PAGE_ROWS,
        filter,
        reply,
    });
    answer.try_recv().expect("a page")
}

/// All rows and the number of pages.
fn list(desk: &mut Desk, filter: CallFilter) -> (Vec<String>, usize) {
    let (mut ids, mut pages, mut from) = (Vec::new(), 0, Some(0));
    while let Some(at) = from {
        let page = page(desk, at, filter);
        assert!(page.rows.len() <= PAGE_ROWS);
        ids.extend(page.rows.into_iter().map(|row| row.call_id));
        pages += 1;
        from = page.next_index;
    }
    (ids, pages)
}

#[test]
fn a_hundred_thousand_calls_are_listed_once_each_in_bounded_pages() {
    let mut desk = Desk::new(CONFIG);
    for number in 0..CALLS {
        let sent = desk.receive("198.51.100.1:5060", &invite(number));
        assert!(!sent.is_empty(), "call {number} was not taken");
    }
    let (mut ids, pages) = list(&mut desk, CallFilter::default());
    assert_eq!(ids.len(), CALLS);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), CALLS, "each call once");
    assert!(pages <= CALLS.div_ceil(PAGE_ROWS) + 1, "{pages}");
    // What matches nothing is looked for in as many steps.
    let nothing = [
        CallFilter {
            trunk_slot: Some(60),
            ..CallFilter::default()
        },
        CallFilter {
            phase: Some(Phase::Answered),
            ..CallFilter::default()
        },
        CallFilter {
            age_min: Duration::from_secs(3600),
            ..CallFilter::default()
        },
    ];
    for filter in nothing {
        assert_eq!(list(&mut desk, filter), (Vec::new(), pages), "{filter:?}");
    }
}
