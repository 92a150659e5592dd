//! INVITEs of about 700 octets as a bench needs them: alike in size, unlike in shape.

const BODY: &str = "v=0\r\no=- 3724394400 3724394405 IN IP4 192.0.2.10\r\ns=-\r\n\
    c=IN IP4 192.0.2.10\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\n\
    a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n";

/// Variant `number`: 0 is the plain one, others differ in order, spelling and length of fields.
pub fn invite(number: u64) -> Vec<u8> {
    let mut chance = Chance(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let id = chance.next() % 1_000_000_007;
    let user = chance.next() % 100_000;
    let mut fields = vec![
        format!("Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK{id};rport"),
        "Max-Forwards: 70".to_owned(),
        format!("From: \"Alice {user}\" <sip:alice{user}@example.com>;tag={id}"),
        format!("To: <sip:+49301234{user}@gw.example.net>"),
        format!("Call-ID: {id}-{user}@192.0.2.10"),
        format!("CSeq: {} INVITE", user % 1000 + 1),
        format!("Contact: <sip:alice{user}@192.0.2.10:5060>"),
        "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE".to_owned(),
        "Supported: replaces, timer".to_owned(),
        "User-Agent: Example Phone 4.2.1".to_owned(),
        "Content-Type: application/sdp".to_owned(),
        format!("Content-Length: {}", BODY.len()),
    ];
    if number > 0 {
        vary(&mut fields, &mut chance);
    }
    let head = fields.join("\r\n");
    format!("INVITE sip:+49301234{user}@gw.example.net SIP/2.0\r\n{head}\r\n\r\n{BODY}")
        .into_bytes()
}

/// Shuffles the fields, makes some names compact or lower case, and adds or leaves out some.
fn vary(fields: &mut Vec<String>, chance: &mut Chance) {
    match chance.next() % 4 {
        0 => fields.push("Session-Expires: 1800;refresher=uac".to_owned()),
        1 => fields.push("X-Trunk-Hint: a3".to_owned()),
        2 => drop(fields.remove(8)),
        _ => {}
    }
    for at in (1..fields.len()).rev() {
        fields.swap(at, (chance.next() % (at as u64 + 1)) as usize);
    }
    for field in fields.iter_mut() {
        match chance.next() % 12 {
            0 => *field = compact(field),
            1 => *field = lower_case_name(field),
            _ => {}
        }
    }
}

fn compact(field: &str) -> String {
    let letters = [
        ("Via:", "v:"),
        ("From:", "f:"),
        ("To:", "t:"),
        ("Call-ID:", "i:"),
        ("Contact:", "m:"),
        ("Content-Length:", "l:"),
    ];
    let known = letters.iter().find(|(name, _)| field.starts_with(name));
    known.map_or(field.to_owned(), |(name, letter)| {
        field.replacen(name, letter, 1)
    })
}

fn lower_case_name(field: &str) -> String {
    let (name, value) = field.split_once(':').expect("a field");
    format!("{}:{value}", name.to_lowercase())
}

/// `count` variants in an order of their own.
pub fn shuffled_invites(count: u64) -> Vec<Vec<u8>> {
    (1..=count).map(invite).collect()
}

/// xorshift64: the same messages on each machine.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
