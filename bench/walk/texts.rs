//! The messages of the peers, with holes for what differs from call to call. All holes have a fixed
//! width, so that a text is made by a copy.

/// What one call fills into its holes.
#[derive(Clone, Debug)]
pub struct Passage {
    number: [u8; NUMBER.len()],
    /// Our branch in the request that is answered next.
    branch: [u8; BRANCH.len()],
    cookie: [u8; COOKIE.len()],
}

const NUMBER: &[u8; 12] = b"NNNNNNNNNNNN";
const BRANCH: &[u8; 42] = b"BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";
const COOKIE: &[u8; 16] = b"CCCCCCCCCCCCCCCC";

impl Passage {
    /// Nothing known yet.
    pub fn new() -> Passage {
        Passage {
            number: *NUMBER,
            branch: *BRANCH,
            cookie: *COOKIE,
        }
    }

    /// Starts call number `call`.
    pub fn begin(&mut self, call: u64) {
        let mut rest = call;
        for digit in self.number.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }

    /// Keeps the branch and, where there is one, the cookie of a request that the gate sent.
    pub fn learn(&mut self, request: &[u8]) {
        keep_behind(request, b";branch=", &mut self.branch);
        keep_behind(request, b";cg=", &mut self.cookie);
    }
}

fn keep_behind<const LEN: usize>(text: &[u8], mark: &[u8], kept: &mut [u8; LEN]) {
    let at = memchr::memmem::find(text, mark).map(|at| at + mark.len());
    let found = at.and_then(|at| text.get(at..)?.first_chunk::<LEN>());
    if let Some(found) = found {
        *kept = *found;
    }
}

/// A message with holes.
#[derive(Debug)]
pub struct Template {
    text: Vec<u8>,
    numbers: Vec<usize>,
    branches: Vec<usize>,
    cookies: Vec<usize>,
}

impl Template {
    fn new(text: &str) -> Template {
        let text = text.replace('\n', "\r\n").into_bytes();
        let places = |hole: &[u8]| memchr::memmem::find_iter(&text, hole).collect();
        Template {
            numbers: places(NUMBER),
            branches: places(BRANCH),
            cookies: places(COOKIE),
            text,
        }
    }

    /// Writes the message of one call over `text`.
    pub fn fill(&self, passage: &Passage, text: &mut Vec<u8>) {
        text.clear();
        text.extend_from_slice(&self.text);
        for (places, words) in [
            (&self.numbers, &passage.number[..]),
            (&self.branches, &passage.branch),
            (&self.cookies, &passage.cookie),
        ] {
            for at in places {
                text[*at..at + words.len()].copy_from_slice(words);
            }
        }
    }
}

/// The messages of a call in the order of [`super::STEPS`].
pub fn templates() -> [Template; 7] {
    let invite = request("INVITE", GATE_URI, "i", "", "102", CALLER_EXTRA, OFFER);
    let ack = request("ACK", CALLEE_URI, "a", IN_DIALOG, "102", "", "");
    let bye = request("BYE", CALLEE_URI, "b", IN_DIALOG, "103", "", "");
    let answer = |status: &str, to_tag, extra, body| {
        response(status, "i", "102 INVITE", RECORD_ROUTE, to_tag, extra, body)
    };
    let done = response("200 OK", "b", "103 BYE", "", CALLEE_TAG, CALLEE_EXTRA, "");
    [
        invite,
        answer("100 Trying", "", "", ""),
        answer("180 Ringing", CALLEE_TAG, CALLEE_EXTRA, ""),
        answer("200 OK", CALLEE_TAG, CALLEE_EXTRA, ANSWER),
        ack,
        bye,
        done,
    ]
    .map(|text| Template::new(&text))
}

fn request(
    method: &str,
    uri: &str,
    branch: &str,
    in_dialog: &str,
    cseq: &str,
    extra: &str,
    body: &str,
) -> String {
    let to_tag = if in_dialog.is_empty() { "" } else { CALLEE_TAG };
    format!(
        "{method} {uri} SIP/2.0\n\
         Via: SIP/2.0/UDP 198.51.100.10:5060;rport;branch=z9hG4bK-524287-{branch}-NNNNNNNNNNNN\n\
         Max-Forwards: 70\n{in_dialog}\
         Contact: <sip:+4915112345678@198.51.100.10:5060>\n\
         To: <sip:+4930123456@gate.example>{to_tag}\n\
         From: \"Alice Example\" <sip:+4915112345678@carrier.example>;tag=a81ffNNNNNNNNNNNN\n\
         Call-ID: 95c2d6b0NNNNNNNNNNNN@198.51.100.10\n\
         CSeq: {cseq} {method}\n\
         {extra}Content-Length: {}\n\n{body}",
        body.len() + body.matches('\n').count()
    )
}

fn response(
    status: &str,
    branch: &str,
    cseq: &str,
    record_route: &str,
    to_tag: &str,
    extra: &str,
    body: &str,
) -> String {
    format!(
        "SIP/2.0 {status}\n\
         Via: SIP/2.0/UDP 192.0.2.1:5060;branch={}\n\
         Via: SIP/2.0/UDP 198.51.100.10:5060;rport=5060;branch=z9hG4bK-524287-{branch}-NNNNNNNNNNNN;received=198.51.100.10\n\
         {record_route}\
         To: <sip:+4930123456@gate.example>{to_tag}\n\
         From: \"Alice Example\" <sip:+4915112345678@carrier.example>;tag=a81ffNNNNNNNNNNNN\n\
         Call-ID: 95c2d6b0NNNNNNNNNNNN@198.51.100.10\n\
         CSeq: {cseq}\n\
         {extra}Content-Length: {}\n\n{body}",
        "B".repeat(BRANCH.len()),
        body.len() + body.matches('\n').count()
    )
}

const GATE_URI: &str = "sip:+4930123456@192.0.2.1:5060";
const CALLEE_URI: &str = "sip:+4930123456@203.0.113.5:5060";
const CALLEE_TAG: &str = ";tag=b7c01NNNNNNNNNNNN";
const IN_DIALOG: &str = "Route: <sip:192.0.2.1:5060;lr;cg=CCCCCCCCCCCCCCCC>\n";
const RECORD_ROUTE: &str = "Record-Route: <sip:192.0.2.1:5060;lr;cg=CCCCCCCCCCCCCCCC>\n";
const CALLER_EXTRA: &str = "Allow: INVITE, ACK, CANCEL, BYE, NOTIFY, REFER, MESSAGE, OPTIONS, INFO, SUBSCRIBE\n\
    Content-Type: application/sdp\nSupported: replaces, timer\nUser-Agent: Example Softswitch 5.2\n";
const CALLEE_EXTRA: &str =
    "Contact: <sip:+4930123456@203.0.113.5:5060>\nServer: Example PBX 18.4\n";
const OFFER: &str = "v=0\no=- 3861529 3861529 IN IP4 198.51.100.10\ns=call\nc=IN IP4 198.51.100.10\nt=0 0\n\
    m=audio 40000 RTP/AVP 8 0 101\na=rtpmap:8 PCMA/8000\na=rtpmap:0 PCMU/8000\n\
    a=rtpmap:101 telephone-event/8000\na=fmtp:101 0-15\na=sendrecv\n";
const ANSWER: &str = "v=0\no=- 77421 77421 IN IP4 203.0.113.5\ns=call\nc=IN IP4 203.0.113.5\nt=0 0\n\
    m=audio 18030 RTP/AVP 8 101\na=rtpmap:8 PCMA/8000\na=rtpmap:101 telephone-event/8000\n\
    a=fmtp:101 0-15\na=sendrecv\n";
