//! Messages written once, with holes for what differs from call to call.
//!
//! Everything that fills a hole of the same call's messages has the same length from call to call,
//! so that equal messages to one destination are equally long and can be sent as one group.

use callgate::base::Cursor;

/// What goes into a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hole {
    /// The call's key, 16 hexadecimal digits.
    Key,
    /// The Request-URI.
    Target,
    /// The Route fields, each with its line end.
    Routes,
    /// The value of To.
    To,
}

const HOLES: [(&str, Hole); 4] = [
    ("{key}", Hole::Key),
    ("{target}", Hole::Target),
    ("{routes}", Hole::Routes),
    ("{to}", Hole::To),
];

/// What fills the holes of one message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fill<'a> {
    pub key: u64,
    pub target: &'a [u8],
    pub routes: &'a [u8],
    pub to: &'a [u8],
}

/// A message with holes.
#[derive(Clone, Debug)]
pub struct Template {
    /// Text, and the hole behind it.
    pieces: Vec<(Box<[u8]>, Option<Hole>)>,
}

impl Template {
    /// Reads `{key}`, `{target}`, `{routes}` and `{to}` as holes; lines end with a line feed here
    /// and with CRLF in the message.
    pub fn new(text: &str) -> Template {
        let text = text.replace('\n', "\r\n");
        let mut pieces = Vec::new();
        let mut rest = text.as_str();
        while let Some((at, mark, hole)) = first_hole(rest) {
            pieces.push((rest.as_bytes()[..at].into(), Some(hole)));
            rest = &rest[at + mark.len()..];
        }
        pieces.push((rest.as_bytes().into(), None));
        Template { pieces }
    }

    /// Writes the message.
    pub fn write(&self, out: &mut Cursor<'_>, fill: &Fill<'_>) {
        for (text, hole) in &self.pieces {
            out.put(text);
            match hole {
                Some(Hole::Key) => out.put_hex(fill.key),
                Some(Hole::Target) => out.put(fill.target),
                Some(Hole::Routes) => out.put(fill.routes),
                Some(Hole::To) => out.put(fill.to),
                None => {}
            }
        }
    }
}

fn first_hole(text: &str) -> Option<(usize, &'static str, Hole)> {
    HOLES
        .iter()
        .filter_map(|(mark, hole)| text.find(mark).map(|at| (at, *mark, *hole)))
        .min_by_key(|(at, ..)| *at)
}

/// Reads 16 hexadecimal digits as [`Cursor::put_hex`] writes them.
pub fn read_hex(text: &[u8]) -> Option<u64> {
    let digits: &[u8; 16] = text.try_into().ok()?;
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_filled_in_their_places() {
        let template = Template::new("BYE {target} SIP/2.0\n{routes}To: {to}\nCall-ID: {key}\n\n");
        let mut buffer = [0; 128];
        let mut out = Cursor::new(&mut buffer);
        let fill = Fill {
            key: 0xab,
            target: b"sip:a",
            routes: b"Route: <sip:p;lr>\r\n",
            to: b"<sip:b>",
        };
        template.write(&mut out, &fill);
        assert_eq!(
            String::from_utf8_lossy(out.written()),
            "BYE sip:a SIP/2.0\r\nRoute: <sip:p;lr>\r\nTo: <sip:b>\r\nCall-ID: 00000000000000ab\r\n\r\n"
        );
    }

    #[test]
    fn keys_are_read_as_they_are_written() {
        assert_eq!(read_hex(b"0123456789abcdef"), Some(0x0123_4567_89ab_cdef));
        assert_eq!(read_hex(b"0123456789ABCDEF"), None);
        assert_eq!(read_hex(b"123"), None);
    }
}
