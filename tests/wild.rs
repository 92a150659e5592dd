//! Messages that nobody of this project wrote: real devices, other projects' tests, PROTOS.
//!
//! Each must go through the parser alive; sound ones must be accepted, and whatever is accepted
//! must come out of an edit as the same message.

mod corpora;

use std::process::Command;

use callgate::base::Cursor;
use callgate::sip::{Edit, HeaderId, Message, Scratch, parse, validate_request, validate_response};

const FIELDS_MAX: usize = 256;

/// What a message says, as far as a proxy must keep it.
#[derive(Debug, PartialEq, Eq)]
struct Meaning {
    start_line: Vec<u8>,
    fields: Vec<(HeaderId, Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
}

fn meaning(message: &Message<'_>) -> Meaning {
    let fields = message.fields().iter();
    Meaning {
        start_line: message.bytes()[..message.header_start()].to_vec(),
        fields: fields
            .map(|field| {
                (
                    field.id,
                    field.name(message).to_vec(),
                    field.value(message).to_vec(),
                )
            })
            .collect(),
        body: message.body().to_vec(),
    }
}

/// Why the message is not accepted.
fn fault(bytes: &[u8]) -> Option<String> {
    let mut scratch = Scratch::new(FIELDS_MAX);
    match parse(bytes, &mut scratch) {
        Err(rejected) => Some(rejected.fault.to_string()),
        Ok(message) if message.is_request() => validate_request(&message)
            .err()
            .map(|fault| format!("{} {} at octet {}", fault.status, fault.reason, fault.at)),
        Ok(message) => validate_response(&message)
            .err()
            .map(|fault| fault.to_string()),
    }
}

/// Looks at everything that can be read of a message, sound or not: nothing may panic.
fn read_all(message: &Message<'_>, is_sound: bool) {
    let end = message.bytes().len();
    for field in message.fields() {
        assert!(field.line().end <= end && field.value_range().end <= field.line().end);
        assert!(field.line().start <= field.name_range().end);
        assert!(field.name_range().end <= field.value_range().start);
    }
    for field in message.fields() {
        for value in message.values(field.id) {
            assert!(!value.bytes.is_empty());
            assert_eq!(&message.bytes()[value.range.clone()], value.bytes);
            let _ = callgate::sip::Via::parse(value.bytes);
            if let Ok(address) = callgate::sip::NameAddr::parse(value.bytes) {
                assert_eq!(&value.bytes[address.uri_range.clone()], address.uri);
                let _ = callgate::sip::Uri::parse(address.uri).map(|uri| uri.is_lr());
            }
        }
    }
    let _ = (
        message.top_via(),
        message.cseq(),
        message.from(),
        message.to(),
    );
    let _ = (message.max_forwards(), message.start(), message.method());
    let _ = (validate_request(message), validate_response(message));
    callgate::sip::sdp::audio_codecs(message.body(), |_| {});
    compose_all(message, is_sound);
}

/// Composes all that this node may say about a message.
fn compose_all(message: &Message<'_>, is_sound: bool) {
    let asker = callgate::sip::compose::Asker {
        source: "192.0.2.77:4711".parse().expect("a literal"),
        feedback: Some(callgate::sip::oc::Feedback {
            percent: 50,
            validity_ms: 500,
            seq: callgate::sip::oc::Seq::default(),
        }),
    };
    let mut buffer = vec![0; 70_000];
    let mut out = Cursor::new(&mut buffer);
    let mut scratch = Scratch::new(FIELDS_MAX);
    callgate::sip::compose::response(&mut out, message, asker, 400, "Bad", Some(b"t"), &[]);
    if is_sound && validate_request(message).is_ok() {
        let response = parse(out.written(), &mut scratch).expect("our own response is sound");
        validate_response(&response).expect("our own response is sound");
        assert_eq!(response.count(HeaderId::Via), message.count(HeaderId::Via));
    }
    callgate::sip::compose::ack(&mut Cursor::new(&mut [0; 64]), message, message);
    callgate::sip::compose::cancel(&mut Cursor::new(&mut [0; 64]), message, None);
}

/// Runs everything over one datagram; true when it parses.
fn survive(bytes: &[u8]) -> bool {
    let mut scratch = Scratch::new(FIELDS_MAX);
    match parse(bytes, &mut scratch) {
        Ok(message) => {
            read_all(&message, true);
            check_round_trip(&message);
            true
        }
        Err(rejected) => {
            assert!(rejected.fault.at <= bytes.len());
            if let Some(partial) = rejected.partial {
                read_all(&partial, false);
            }
            false
        }
    }
}

/// Parse, write, parse again: untouched, and with the changes of a proxy.
fn check_round_trip(message: &Message<'_>) {
    let mut edit = Edit::new(16, 1024);
    let mut buffer = vec![0; message.bytes().len() + 1024];
    edit.begin();
    let mut out = Cursor::new(&mut buffer);
    edit.write(message.bytes(), &mut out).expect("no change");
    assert_eq!(out.written(), message.bytes());

    edit.insert_top_via(message, |out| {
        out.put(b"SIP/2.0/UDP new.example;branch=z9hG4bKnew")
    });
    let mut out = Cursor::new(&mut buffer);
    edit.write(message.bytes(), &mut out)
        .expect("one insertion");
    if out.len() > callgate::sip::MESSAGE_MAX {
        return;
    }
    let mut scratch = Scratch::new(FIELDS_MAX + 1);
    let again = parse(out.written(), &mut scratch).expect("still a message");
    let mut with_via = meaning(&again);
    let position = with_via
        .fields
        .iter()
        .position(|field| field.0 == HeaderId::Via);
    let new = with_via.fields.remove(position.expect("the new Via"));
    assert!(new.2.starts_with(b"SIP/2.0/UDP new.example"));
    assert_eq!(with_via, meaning(message));
    check_removal(&again, &meaning(message));
}

/// The way back: without its top Via the message is the one that came.
fn check_removal(message: &Message<'_>, expected: &Meaning) {
    let mut edit = Edit::new(16, 1024);
    edit.begin();
    edit.remove_top_via(message);
    let mut buffer = vec![0; message.bytes().len()];
    let mut out = Cursor::new(&mut buffer);
    edit.write(message.bytes(), &mut out).expect("one removal");
    let mut scratch = Scratch::new(FIELDS_MAX);
    let again = parse(out.written(), &mut scratch).expect("still a message");
    assert_eq!(meaning(&again), *expected);
}

/// Messages of the wild corpus that must not be accepted, by number, and what is wrong with them.
const REFUSED: &[(&str, &[u16])] = &[
    // Excerpts and literals that leave out what their author had no use for: mostly the Via.
    (
        "Missing mandatory header field",
        &[
            100, 162, 266, 267, 268, 269, 270, 271, 272, 293, 294, 388, 389, 390, 391, 392, 393,
            394, 395, 396, 397,
        ],
    ),
    // `sip:@127.0.0.1`: an `@` without a user.
    ("Malformed Request-URI", &[90]),
    // `SIP/2.0/UDP` and literal `<hex>` markup at the end of the request line.
    ("Malformed start line", &[136, 367]),
    (
        "Extra white space in the request line",
        &[150, 151, 295, 296],
    ),
    // A comment behind a Via, which only RFC 2543 had; `;;,;`.
    ("Malformed parameter", &[155, 164]),
    // A fold or blanks inside of <>, a comma in a bare display name, `?` outside of <>.
    ("Malformed address", &[157, 175, 301, 370]),
    ("Malformed Content-Length", &[166]),
    ("Carriage return inside a line", &[197]),
    ("Header field without colon", &[300]),
    ("Unsupported URI Scheme", &[302, 304, 375, 376]),
    ("Malformed CSeq", &[361, 362]),
    ("Malformed status code", &[373]),
    ("Repeated header field", &[378]),
];

/// Why file `number` must be refused, when it must.
fn expected_fault(number: u16) -> Option<&'static str> {
    let row = REFUSED
        .iter()
        .find(|(_, numbers)| numbers.contains(&number));
    row.map(|(fault, _)| *fault)
}

#[test]
fn real_messages_are_accepted_and_survive_a_round_trip() {
    let folder = corpora::folder("wild");
    let (mut rows, mut parsed, mut accepted) = (0u32, 0u32, 0u32);
    let mut surprises = Vec::new();
    for row in corpora::index(&folder) {
        let (file, kind, length) = (row[0].as_str(), row[1].as_str(), row[5].as_str());
        let bytes = corpora::read(&folder, file);
        let is_parsed = survive(&bytes);
        if !matches!(kind, "req" | "resp") || !matches!(length, "eq" | "none") {
            continue;
        }
        rows += 1;
        parsed += u32::from(is_parsed);
        let found = fault(&bytes);
        accepted += u32::from(found.is_none());
        let expected = expected_fault(file[..4].parse().expect("a number in front"));
        let is_expected = match (&found, expected) {
            (None, None) => true,
            (Some(found), Some(expected)) => found.contains(expected),
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !is_expected {
            surprises.push(format!("{file}: {found:?}, expected {expected:?}"));
        }
    }
    println!("of {rows} messages {parsed} parse, {accepted} are accepted as sound");
    assert!(surprises.is_empty(), "{surprises:#?}");
    let refused: usize = REFUSED.iter().map(|(_, numbers)| numbers.len()).sum();
    assert_eq!(rows as usize, accepted as usize + refused);
}

#[test]
fn torture_messages_survive_a_round_trip() {
    let folder = corpora::folder("rfc4475");
    for row in corpora::index(&folder) {
        survive(&corpora::read(&folder, &row[0]));
    }
}

/// Unpacks the PROTOS cases into a folder of this run's own.
fn unpack_protos() -> std::path::PathBuf {
    let archive = corpora::folder("protos-c07-sip").join("testcases.tar.xz");
    let target = std::env::temp_dir().join(format!("callgate-protos-{}", std::process::id()));
    std::fs::create_dir_all(&target).expect("a temporary folder");
    let status = Command::new("tar")
        .arg("-xJf")
        .arg(&archive)
        .arg("-C")
        .arg(&target)
        .status()
        .expect("this test needs the commands tar and xz");
    assert!(status.success(), "tar -xJf {} failed", archive.display());
    target
}

/// All files below `folder`, by name.
fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The PDUs of a case: `length SP octets`, repeated.
fn pdus(mut case: &[u8]) -> Vec<&[u8]> {
    let mut pdus = Vec::new();
    while let Some(space) = case.iter().position(|&octet| octet == b' ') {
        let length = std::str::from_utf8(&case[..space]).expect("a length");
        let end = space + 1 + length.trim().parse::<usize>().expect("a length");
        pdus.push(&case[space + 1..end]);
        case = &case[end..];
    }
    pdus
}

fn replace_all(text: &[u8], tag: &str, with: &str) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest
        .windows(tag.len())
        .position(|window| window == tag.as_bytes())
    {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(with.as_bytes());
        rest = &rest[at + tag.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}

/// Fills in the tags of a PDU as the PROTOS injector does.
fn fill_in(pdu: &[u8], method: &str) -> Vec<u8> {
    let mut text = pdu.to_vec();
    for (tag, with) in [
        ("<To>", "callee@127.0.0.1"),
        ("<From>", "caller@127.0.0.1"),
        ("<From-Address>", "127.0.0.1"),
        ("<From-IP>", "127.0.0.1"),
        ("<Local-Port>", "5060"),
        ("<Call-ID>", "17"),
        ("<CSeq>", "1"),
        ("<Branch-ID>", "0000000017"),
        ("<Teardown-Method>", method),
    ] {
        text = replace_all(&text, tag, with);
    }
    let header_end = text.windows(4).position(|window| window == b"\r\n\r\n");
    let body = header_end.map_or(0, |at| text.len() - at - 4);
    replace_all(&text, "<Content-Length>", &body.to_string())
}

#[test]
fn all_protos_cases_survive() {
    let folder = unpack_protos();
    let files = files_below(&folder);
    assert!(files.len() >= 2264, "only {} cases", files.len());
    let (mut parsed, mut all) = (0, 0);
    for file in &files {
        let case = std::fs::read(file).expect("a case");
        for (i, pdu) in pdus(&case).into_iter().enumerate() {
            let bytes = fill_in(pdu, if i == 0 { "INVITE" } else { "CANCEL" });
            all += 1;
            parsed += usize::from(survive(&bytes));
            if file.ends_with("0000000") {
                assert_eq!(fault(&bytes), None, "the valid case");
            }
        }
    }
    std::fs::remove_dir_all(&folder).expect("our own folder");
    println!("parsed {parsed} of {all} PDUs");
}

/// A small generator of its own, so that a failure comes back with the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

const DELIMITERS: &[u8] = b"\r\n\t :;,<>\"\\@?=[]%/*\0\xff0a9";

/// Changes, copies, drops or repeats a few octets.
fn mutate(bytes: &mut Vec<u8>, chance: &mut Chance) {
    for _ in 0..=chance.below(4) {
        let at = chance.below(bytes.len());
        let len = chance.below(9).min(bytes.len() - at);
        let octet = DELIMITERS[chance.below(DELIMITERS.len())];
        match chance.below(5) {
            0 if !bytes.is_empty() => bytes[at] = octet,
            1 => bytes.insert(at, octet),
            2 => drop(bytes.drain(at..at + len)),
            3 => bytes.truncate(at + len),
            _ => {
                let copied = bytes[at..at + len].to_vec();
                let to = chance.below(bytes.len());
                bytes.splice(to..to, copied);
            }
        }
    }
}

#[test]
fn mutated_messages_never_break_the_parser() {
    let mut seeds = Vec::new();
    for corpus in ["wild", "rfc4475"] {
        let folder = corpora::folder(corpus);
        let rows = corpora::index(&folder);
        seeds.extend(rows.iter().map(|row| corpora::read(&folder, &row[0])));
    }
    let mut chance = Chance(0x5eed_ca11_9a7e);
    let rounds = 40;
    for _ in 0..rounds {
        for seed in &seeds {
            let mut bytes = seed.clone();
            mutate(&mut bytes, &mut chance);
            survive(&bytes);
        }
    }
}
