//! Messages of a call as a text ladder: the caller to the left, this node in the middle, whom it
//! called to the right. It fits into 80 columns.

use std::fmt::Write as _;

use crate::control::answers::MessageRow;

/// Columns between the lines of two parties.
const SPAN: usize = 32;

/// A ladder that is written message by message.
#[derive(Debug, Default)]
pub struct Ladder {
    /// Who is who, by address: the first is the caller.
    parties: Vec<String>,
}

impl Ladder {
    /// One message as a rung; `at` stands before it. A party that is new is introduced first.
    pub fn rung(&mut self, at: &str, message: &MessageRow) -> String {
        let mut text = String::new();
        let number = match self.parties.iter().position(|is| *is == message.remote) {
            Some(number) => number,
            None => {
                let number = self.parties.len();
                self.parties.push(message.remote.clone());
                let _to_a_string = writeln!(text, "{}", introduced(number, message));
                number
            }
        };
        let is_caller = number == 0;
        let rightwards = is_caller == message.received;
        let arrow = arrow(&words(message), rightwards);
        let blank = " ".repeat(SPAN);
        let (left, right) = match is_caller {
            true => (arrow, blank),
            false => (blank, arrow),
        };
        let mark = match number {
            0 | 1 => String::new(),
            further => format!(" {further}"),
        };
        let _to_a_string = writeln!(text, "{at:>9} |{left}|{right}|{mark}");
        text
    }
}

/// `INVITE + body`, or `200 OK (BYE)`: of an answer the method is told unless it is the INVITE's.
fn words(message: &MessageRow) -> String {
    let method = message.cseq.rsplit(' ').next().unwrap_or_default();
    let is_answer = message
        .text
        .starts_with(|first: char| first.is_ascii_digit());
    let mut words = message.text.clone();
    if is_answer && method != "INVITE" {
        let _to_a_string = write!(words, " ({method})");
    }
    if message.has_body {
        words.push_str(" + body");
    }
    words
}

fn arrow(words: &str, rightwards: bool) -> String {
    // Two dashes, a blank on each side and the tip at least.
    let words: String = words.chars().take(SPAN - 6).collect();
    let dashes = "-".repeat(SPAN - 5 - words.chars().count());
    match rightwards {
        true => format!("-- {words} {dashes}>"),
        false => format!("<{dashes} {words} --"),
    }
}

fn introduced(number: usize, message: &MessageRow) -> String {
    let name = name(number);
    let (party, local) = (&message.remote, &message.local);
    format!("          {name} = {party}, by our {local}")
}

fn name(number: usize) -> String {
    match number {
        0 => "caller".to_owned(),
        1 => "callee".to_owned(),
        further => format!("callee {further}"),
    }
}

/// The ladder of a call, with the seconds since its first message that is remembered.
pub fn of_call(messages: &[MessageRow]) -> String {
    let Some(first) = messages.first() else {
        return String::new();
    };
    let mut ladder = Ladder::default();
    let mut text = format!(
        "\nmessages, in seconds since the first, {:.3} s ago:\n",
        first.age_s
    );
    for message in messages {
        let at = format!("{:.3}", first.age_s - message.age_s);
        text.push_str(&ladder.rung(&at, message));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(age_s: f64, received: bool, remote: &str, text: &str, cseq: &str) -> MessageRow {
        MessageRow {
            age_s,
            received,
            local: "192.0.2.1:5060".to_owned(),
            remote: remote.to_owned(),
            text: text.to_owned(),
            cseq: cseq.to_owned(),
            octets: 500,
            has_body: text == "INVITE",
        }
    }

    #[test]
    fn a_call_with_a_failover_is_a_ladder_of_80_columns() {
        let (caller, first, second) = ("198.51.100.9:5060", "203.0.113.5:5060", "203.0.113.6:5060");
        let invite = "1 INVITE";
        let text = of_call(&[
            message(9.0, true, caller, "INVITE", invite),
            message(9.0, false, caller, "100 Trying", invite),
            message(9.0, false, first, "INVITE", invite),
            message(8.75, true, first, "503 Service Unavailable", invite),
            message(8.75, false, second, "INVITE", invite),
            message(0.5, true, second, "200 OK", "2 BYE"),
        ]);
        let wanted = "
messages, in seconds since the first, 9.000 s ago:
          caller = 198.51.100.9:5060, by our 192.0.2.1:5060
    0.000 |-- INVITE + body -------------->|                                |
    0.000 |<------------------ 100 Trying --|                                |
";
        let shape = |text: &str| text.lines().take(3).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(shape(&text), shape(wanted));
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
        assert!(text.contains("callee 2 = 203.0.113.6:5060"), "{text}");
        let last = text.lines().last().expect("a line");
        assert!(
            last.contains("200 OK (BYE)") && last.ends_with("| 2"),
            "{last}"
        );
        let rungs: Vec<&str> = text.lines().filter(|line| line.contains('|')).collect();
        let ends = rungs.iter().map(|line| line.rfind('|'));
        assert!(
            ends.collect::<Vec<_>>()
                .windows(2)
                .all(|pair| pair[0] == pair[1]),
            "{text}"
        );
    }

    #[test]
    fn a_call_without_messages_has_no_ladder() {
        assert_eq!(of_call(&[]), "");
    }
}
