//! The 49 torture messages of RFC 4475: what parser and validation make of each.
//!
//! `callgate::sip` decides only what can be told from the message alone. Steps that need the node
//! (Proxy-Require, Max-Forwards of zero, known users) come behind it: for them `Pass` is right here.

mod corpora;

use callgate::sip::{
    HeaderId, Malformed, Message, Misbehaved, Scratch, StartLine, Via, parse, response_address,
    validate_request, validate_response,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Parsed and sound: the proxy goes on with it.
    Pass,
    Answer(u16),
    Drop,
}

use Verdict::{Answer, Drop, Pass};

const EXPECTED: [(&str, Verdict); 49] = [
    ("wsinv.dat", Pass),
    ("intmeth.dat", Pass),
    ("esc01.dat", Pass),
    ("escnull.dat", Pass),
    ("esc02.dat", Pass),
    ("lwsdisp.dat", Pass),
    ("longreq.dat", Pass),
    ("dblreq.dat", Pass),
    ("semiuri.dat", Pass),
    ("transports.dat", Pass),
    ("mpart01.dat", Pass),
    ("unreason.dat", Pass),
    ("noreason.dat", Pass),
    ("badinv01.dat", Answer(400)),
    ("clerr.dat", Answer(400)),
    ("ncl.dat", Answer(400)),
    ("scalar02.dat", Answer(400)),
    ("scalarlg.dat", Drop),
    ("quotbal.dat", Answer(400)),
    ("ltgtruri.dat", Answer(400)),
    ("lwsruri.dat", Answer(400)),
    ("lwsstart.dat", Answer(400)),
    ("trws.dat", Answer(400)),
    ("escruri.dat", Answer(400)),
    ("baddate.dat", Pass),
    ("regbadct.dat", Answer(400)),
    ("badaspec.dat", Answer(400)),
    ("baddn.dat", Answer(400)),
    ("badvers.dat", Answer(505)),
    ("mismatch01.dat", Answer(400)),
    ("mismatch02.dat", Answer(400)),
    ("bigcode.dat", Drop),
    ("badbranch.dat", Pass),
    ("insuf.dat", Answer(400)),
    ("unkscm.dat", Answer(416)),
    ("novelsc.dat", Answer(416)),
    ("unksm2.dat", Pass),
    ("bext01.dat", Pass),
    ("invut.dat", Pass),
    ("regaut01.dat", Pass),
    ("multi01.dat", Answer(400)),
    ("mcl01.dat", Answer(400)),
    ("bcast.dat", Drop),
    ("zeromf.dat", Pass),
    ("cparam01.dat", Pass),
    ("cparam02.dat", Pass),
    ("regescrt.dat", Pass),
    ("sdp01.dat", Pass),
    ("inv2543.dat", Pass),
];

fn verdict(bytes: &[u8]) -> Verdict {
    let mut scratch = Scratch::new(128);
    match parse(bytes, &mut scratch) {
        Ok(message) if message.is_request() => match validate_request(&message) {
            Ok(_) => Pass,
            Err(misbehaved) => Answer(misbehaved.status),
        },
        Ok(response) => response_verdict(&response),
        Err(rejected) if rejected.partial.is_some() => answer_to(rejected.fault),
        Err(_) => Drop,
    }
}

fn answer_to(fault: Malformed) -> Verdict {
    Answer(Misbehaved::from(fault).status)
}

/// A response goes on when it is sound and its next Via, if any, names one host or a name.
fn response_verdict(response: &Message<'_>) -> Verdict {
    if validate_response(response).is_err() {
        return Drop;
    }
    match response.values(HeaderId::Via).nth(1) {
        Some(next) => match Via::parse(next.bytes).map(|via| response_address(&via)) {
            Ok(Some(_)) => Pass,
            Ok(None) | Err(_) => Drop,
        },
        None => Pass,
    }
}

#[test]
fn each_of_the_49_messages_gets_its_verdict() {
    let folder = corpora::folder("rfc4475");
    let mut wrong = Vec::new();
    for (file, expected) in EXPECTED {
        let found = verdict(&corpora::read(&folder, file));
        if found != expected {
            wrong.push(format!("{file}: {found:?}, expected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_verdict_is_one_that_the_index_allows() {
    let rows = corpora::index(&corpora::folder("rfc4475"));
    assert_eq!(rows.len(), EXPECTED.len());
    for row in rows {
        let (file, outcomes) = (row[0].as_str(), row[4].as_str());
        let (_, verdict) = EXPECTED
            .into_iter()
            .find(|(name, _)| *name == file)
            .expect("a verdict for each row");
        let mut outcomes = outcomes.split(',');
        let is_allowed = match verdict {
            Answer(status) => outcomes.any(|outcome| outcome == status.to_string()),
            Drop => outcomes.any(|outcome| outcome == "drop"),
            // 420 and 483 are the proxy's own steps behind validation.
            Pass => outcomes.any(|outcome| {
                let node_steps = ["forward", "200", "404", "420", "483", "response-accept"];
                node_steps.contains(&outcome)
            }),
        };
        assert!(is_allowed, "{file}: {verdict:?}");
    }
}

#[test]
fn the_message_outside_of_the_rfc_is_dropped() {
    let folder = corpora::folder("rfc4475").join("extra");
    assert_eq!(verdict(&corpora::read(&folder, "test.dat")), Drop);
}

#[test]
fn the_tortuous_invite_reads_as_its_author_meant() {
    let bytes = corpora::read(&corpora::folder("rfc4475"), "wsinv.dat");
    let mut scratch = Scratch::new(64);
    let message = parse(&bytes, &mut scratch).expect("well formed");
    assert_eq!(message.to_tag(), Some(&b"1918181833n"[..]));
    assert_eq!(message.from_tag(), Some(&b"98asjd8"[..]));
    assert_eq!(message.max_forwards(), Ok(Some(68)));
    assert_eq!(message.cseq().expect("well formed").number, 9);
    let hosts: Vec<&[u8]> = message
        .values(HeaderId::Via)
        .map(|via| Via::parse(via.bytes).expect("well formed").sent_by)
        .collect();
    let expected: [&[u8]; 3] = [b"192.0.2.2", b"spindle.example.com", b"192.168.255.111"];
    assert_eq!(hosts, expected);
    assert_eq!(message.value(HeaderId::Subject), Some(&b""[..]));
    assert_eq!(message.body().len(), 150);
}

#[test]
fn extra_octets_and_binary_bodies_are_cut_by_content_length() {
    let folder = corpora::folder("rfc4475");
    let mut scratch = Scratch::new(64);
    let bytes = corpora::read(&folder, "dblreq.dat");
    let message = parse(&bytes, &mut scratch).expect("well formed");
    assert!(matches!(message.start(), StartLine::Request { .. }));
    assert_eq!(message.bytes().len(), message.header_end() + 2);
    let bytes = corpora::read(&folder, "mpart01.dat");
    let message = parse(&bytes, &mut scratch).expect("well formed");
    assert_eq!(message.body().len(), 553);
}
