//! The words of the caller: its messages as templates, and the texts that name a call in them.

use core::net::SocketAddr;

use crate::args::Mode;
use crate::plan::Plan;
use crate::template::{Template, read_hex};

/// What both sides offer: one audio stream, G.711.
pub fn session(local: SocketAddr) -> String {
    let family = if local.is_ipv4() { "IP4" } else { "IP6" };
    let ip = local.ip();
    format!(
        "v=0\r\no=load 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio 6000 RTP/AVP 8 0\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n"
    )
}

/// Where a thread's messages come from.
#[derive(Clone, Debug)]
pub struct Place {
    pub local: SocketAddr,
    /// 16 digits that no other thread and no other run has.
    pub salt: String,
}

/// Everything the caller says.
#[derive(Debug)]
pub struct Wording {
    /// `z9hG4bK` and the salt; 16 digits of the call and a letter of the request follow.
    branch_start: Vec<u8>,
    /// What a tag of ours ends with.
    tag_end: Vec<u8>,
    pub uri: Vec<u8>,
    pub uri_busy: Vec<u8>,
    pub uri_ring: Vec<u8>,
    pub invite: Template,
    pub cancel: Template,
    pub ack_refusal: Template,
    pub ack: Template,
    pub bye: Template,
    /// REGISTER or OPTIONS; its To hole is the user's digits.
    pub request: Template,
}

const KEY_DIGITS: usize = 16;

impl Wording {
    /// The words of a caller at `place` that calls `target`.
    pub fn new(plan: &Plan, target: SocketAddr, place: &Place) -> Wording {
        let host = plan.domain.clone().unwrap_or(target.to_string());
        let user = &plan.user;
        let words = Words {
            local: &place.local.to_string(),
            salt: &place.salt,
        };
        let session = session(place.local).replace("\r\n", "\n");
        Wording {
            branch_start: format!("z9hG4bK{}", place.salt).into_bytes(),
            tag_end: format!("-{}", &place.salt[..8]).into_bytes(),
            uri: format!("sip:{user}@{host}").into_bytes(),
            uri_busy: format!("sip:{user}-busy@{host}").into_bytes(),
            uri_ring: format!("sip:{user}-ring@{host}").into_bytes(),
            invite: words.request("INVITE", 'i', "<{target}>", 1, Some(&session)),
            cancel: words.request("CANCEL", 'i', "<{target}>", 1, None),
            ack_refusal: words.request("ACK", 'i', "{to}", 1, None),
            ack: words.request("ACK", 'a', "{to}", 1, None),
            bye: words.request("BYE", 'b', "{to}", 2, None),
            request: match plan.mode {
                Mode::Register => words.register(&host),
                Mode::Options | Mode::Call => words.request("OPTIONS", 'o', "<{target}>", 1, None),
            },
        }
    }

    /// The number of the call that this branch of ours names.
    pub fn number_in_branch(&self, branch: &[u8]) -> Option<u64> {
        let digits = branch.strip_prefix(self.branch_start.as_slice())?;
        read_hex(digits.get(..KEY_DIGITS)?)
    }

    /// The number of the call that this tag of ours names.
    pub fn number_in_tag(&self, tag: &[u8]) -> Option<u64> {
        read_hex(tag.strip_suffix(self.tag_end.as_slice())?)
    }

    /// The number of the call that this piece of a request of ours is about.
    pub fn find_number(&self, quoted: &[u8]) -> Option<u64> {
        let at = memchr::memmem::find(quoted, &self.branch_start)?;
        self.number_in_branch(&quoted[at..])
    }
}

/// What is the same in all messages of one thread.
struct Words<'a> {
    local: &'a str,
    salt: &'a str,
}

impl Words<'_> {
    fn request(
        &self,
        method: &str,
        letter: char,
        to: &str,
        cseq: u32,
        session: Option<&str>,
    ) -> Template {
        let head = self.head(method, "{target}", letter, to, cseq);
        let local = self.local;
        Template::new(&match session {
            Some(session) => format!(
                "{head}Contact: <sip:load@{local}>\nContent-Type: application/sdp\n\
                 Content-Length: {}\n\n{session}",
                session.len() + session.matches('\n').count(),
            ),
            None => format!("{head}Content-Length: 0\n\n"),
        })
    }

    fn register(&self, host: &str) -> Template {
        let aor = format!("<sip:u{{to}}@{host}>");
        let head = self.head("REGISTER", &format!("sip:{host}"), 'o', &aor, 1);
        let local = self.local;
        Template::new(&format!(
            "{head}Contact: <sip:u{{to}}@{local}>\nExpires: 3600\nContent-Length: 0\n\n"
        ))
    }

    fn head(&self, method: &str, uri: &str, letter: char, to: &str, cseq: u32) -> String {
        let Words { local, salt } = self;
        let from = if method == "REGISTER" {
            to
        } else {
            &format!("<sip:load@{local}>")
        };
        let tag_end = &salt[..8];
        format!(
            "{method} {uri} SIP/2.0\n\
             Via: SIP/2.0/UDP {local};branch=z9hG4bK{salt}{{key}}{letter};rport\n\
             {{routes}}Max-Forwards: 70\nFrom: {from};tag={{key}}-{tag_end}\nTo: {to}\n\
             Call-ID: {{key}}-{salt}\nCSeq: {cseq} {method}\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use callgate::base::Cursor;
    use callgate::sip::{Scratch, parse, validate_request};

    use super::*;
    use crate::args::CommandLine;
    use crate::template::Fill;

    fn wording(line: &[&str]) -> Wording {
        let line = CommandLine::parse_from([&["load"], line].concat());
        let plan = Plan::of(&line.calls).expect("a sound plan");
        let place = Place {
            local: "127.0.0.1:4000".parse().expect("literal"),
            salt: "00112233445566ff".to_owned(),
        };
        Wording::new(&plan, "127.0.0.1:5060".parse().expect("literal"), &place)
    }

    #[test]
    fn every_request_passes_the_strict_checks_of_a_server() {
        let call = wording(&[]);
        let register = wording(&["--mode", "register"]);
        let templates = [
            &call.invite,
            &call.cancel,
            &call.ack_refusal,
            &call.ack,
            &call.bye,
            &call.request,
        ];
        for (template, to) in templates
            .into_iter()
            .map(|template| (template, b"<sip:b@h>;tag=1".as_slice()))
            .chain([(&register.request, b"00000001".as_slice())])
        {
            let mut buffer = [0; 2048];
            let mut out = Cursor::new(&mut buffer);
            let fill = Fill {
                key: 7,
                target: b"sip:load@127.0.0.1:5060",
                routes: b"",
                to,
            };
            template.write(&mut out, &fill);
            let mut scratch = Scratch::new(32);
            let message = parse(out.written(), &mut scratch).expect("well formed");
            validate_request(&message).expect("well behaved");
            assert_eq!(message.bytes().len(), out.len(), "Content-Length is right");
            let via = message.top_via().expect("a Via");
            assert_eq!(
                call.number_in_branch(via.branch.expect("a branch")),
                Some(7)
            );
            assert_eq!(
                call.number_in_tag(message.from_tag().expect("a tag")),
                Some(7)
            );
            assert_eq!(call.find_number(&out.written()[..200]), Some(7));
        }
    }
}
