//! The ladder of one call: all its messages at the gate with their times, kept when a failure is
//! played again.

use std::net::SocketAddr;

use callgate::base::Instant;

use crate::text::Text;

/// Keeps the messages of one call.
pub struct Ladder {
    of: Option<usize>,
    lines: Vec<String>,
}

impl Ladder {
    pub fn new(of: Option<usize>) -> Ladder {
        Ladder {
            of,
            lines: Vec::new(),
        }
    }

    /// Notes a message that reached the gate (`to` is none) or left it.
    pub fn note(
        &mut self,
        now: Instant,
        call: Option<usize>,
        from: SocketAddr,
        to: Option<SocketAddr>,
        whole: &str,
    ) {
        if self.of.is_none() || call != self.of {
            return;
        }
        let text = Text::new(whole);
        let seconds = now.as_micros() as f64 / 1e6;
        let number = text.value("CSeq").unwrap_or("?");
        let tag = text.tag_of_to().unwrap_or("-");
        let line = text.start_line();
        let way = match to {
            Some(to) => format!("gate > {to}"),
            None => format!("{from} > gate"),
        };
        let branch = text.branch().unwrap_or("?");
        self.lines.push(format!(
            "{seconds:12.6}  {way:<32} {line}  [{number}] to-tag {tag} branch {branch}"
        ));
    }

    /// Notes something that was done to the call.
    pub fn remark(&mut self, now: Instant, call: usize, what: &str) {
        if self.of == Some(call) {
            let seconds = now.as_micros() as f64 / 1e6;
            self.lines.push(format!("{seconds:12.6}  -- {what}"));
        }
    }

    pub fn text(&self) -> String {
        self.lines.join("\n")
    }
}
