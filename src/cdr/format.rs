//! Call detail records as text: one JSON object per line, or comma-separated values (RFC 4180) with
//! the same columns. Texts come from strangers: each is escaped, and what is no UTF-8 stands once more,
//! octet by octet in hexadecimal, in `raw`.

use core::fmt::{self, Display};
use core::net::SocketAddr;
use std::borrow::Cow;
use std::fmt::Write as _;

use serde::{Serialize, Serializer};

use super::record::{AttemptRecord, Cdr};

/// The version of the fields: it changes when one changes its meaning or goes away.
pub const FIELDS_VERSION: u32 = 1;

/// What a line says beside its record.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Name of the node.
    pub node: &'a str,
    /// The configuration file, for the route line.
    pub config: &'a str,
}

#[derive(Serialize)]
struct Line<'a> {
    version: u32,
    node: &'a str,
    start_id: u64,
    shard: u16,
    seq: u64,
    attempt_id: Shown<Id>,
    call_id: Cow<'a, str>,
    request_uri: Cow<'a, str>,
    from: Cow<'a, str>,
    from_tag: Cow<'a, str>,
    to: Cow<'a, str>,
    to_tag: Cow<'a, str>,
    caller: Option<Shown<SocketAddr>>,
    callee: Option<Shown<SocketAddr>>,
    trunk_in: Option<Cow<'a, str>>,
    trunk_out: Option<Cow<'a, str>>,
    start_ms: u64,
    ringing_ms: Option<u64>,
    answer_ms: Option<u64>,
    end_ms: u64,
    setup_delay_ms: Option<u32>,
    duration_ms: u64,
    code: Option<u16>,
    q850: Option<u8>,
    disposition: &'static str,
    hung_up_by: Option<&'static str>,
    end_reason: Cow<'a, str>,
    limit_hit: Option<Limit<'a>>,
    route: Option<Shown<Place<'a>>>,
    resumed: bool,
    attempts: Attempts<'a>,
    attempts_made: u16,
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<Raw>,
}

#[derive(Serialize)]
struct Limit<'a> {
    name: Cow<'a, str>,
    limit: &'static str,
}

#[derive(Serialize)]
struct AttemptLine<'a> {
    trunk: Cow<'a, str>,
    address: Option<Shown<SocketAddr>>,
    code: Option<u16>,
    reason: &'static str,
    start_ms: u64,
    end_ms: u64,
}

/// The attempts of a call that starts at `start_ms`.
struct Attempts<'a> {
    start_ms: u64,
    records: &'a [AttemptRecord<'a>],
}

impl Serialize for Attempts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let line = |attempt| attempt_line(attempt, self.start_ms);
        serializer.collect_seq(self.records.iter().map(line))
    }
}

/// What is written as it is displayed.
struct Shown<T>(T);

impl<T: Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Sixteen hexadecimal digits.
struct Id(u64);

impl Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A line of a file.
struct Place<'a> {
    file: &'a str,
    line: u32,
}

impl Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Texts that are no UTF-8, in hexadecimal.
#[derive(Default, Serialize)]
struct Raw {
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_tag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_tag: Option<String>,
}

impl Raw {
    fn of(cdr: &Cdr<'_>) -> Option<Raw> {
        let texts = [
            cdr.call_id,
            cdr.request_uri,
            cdr.from_user,
            cdr.from_tag,
            cdr.to_user,
            cdr.to_tag,
        ];
        if texts.iter().all(|text| core::str::from_utf8(text).is_ok()) {
            return None;
        }
        Some(Raw {
            call_id: hex(cdr.call_id),
            request_uri: hex(cdr.request_uri),
            from: hex(cdr.from_user),
            from_tag: hex(cdr.from_tag),
            to: hex(cdr.to_user),
            to_tag: hex(cdr.to_tag),
        })
    }
}

fn hex(octets: &[u8]) -> Option<String> {
    if core::str::from_utf8(octets).is_ok() {
        return None;
    }
    let mut text = String::with_capacity(2 * octets.len());
    for octet in octets {
        let _to_a_string = write!(text, "{octet:02x}");
    }
    Some(text)
}

fn text(octets: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(octets)
}

fn some_text(octets: &[u8]) -> Option<Cow<'_, str>> {
    (!octets.is_empty()).then(|| text(octets))
}

fn attempt_line<'a>(attempt: &AttemptRecord<'a>, start_ms: u64) -> AttemptLine<'a> {
    AttemptLine {
        trunk: text(attempt.trunk),
        address: attempt.address.map(Shown),
        code: Some(attempt.code).filter(|code| *code != 0),
        reason: attempt.end.word(),
        start_ms: start_ms + u64::from(attempt.start_ms),
        end_ms: start_ms + u64::from(attempt.end_ms),
    }
}

fn line<'a>(cdr: &'a Cdr<'a>, context: &Context<'a>) -> Line<'a> {
    let start_ms = cdr.start_us / 1000;
    Line {
        version: FIELDS_VERSION,
        node: context.node,
        start_id: cdr.start_id,
        shard: cdr.shard,
        seq: cdr.sequence,
        attempt_id: Shown(Id(cdr.attempt_id)),
        call_id: text(cdr.call_id),
        request_uri: text(cdr.request_uri),
        from: text(cdr.from_user),
        from_tag: text(cdr.from_tag),
        to: text(cdr.to_user),
        to_tag: text(cdr.to_tag),
        caller: cdr.caller.map(Shown),
        callee: cdr.callee.map(Shown),
        trunk_in: some_text(cdr.trunk_in),
        trunk_out: some_text(cdr.trunk_out),
        start_ms,
        ringing_ms: cdr.ringing_us.map(|us| us / 1000),
        answer_ms: cdr.answer_us.map(|us| us / 1000),
        end_ms: cdr.end_us / 1000,
        setup_delay_ms: cdr.setup_delay_ms,
        duration_ms: cdr.duration_ms,
        code: Some(cdr.code).filter(|code| *code != 0),
        q850: Some(cdr.q850).filter(|cause| *cause != 0),
        disposition: cdr.disposition.word(),
        hung_up_by: cdr.hung_up_by.map(|party| party.word()),
        end_reason: text(cdr.end_reason),
        limit_hit: cdr.limit.map(|limit| Limit {
            name: text(limit.name),
            limit: limit.kind.word(),
        }),
        route: (cdr.route_line > 0).then_some(Shown(Place {
            file: context.config,
            line: cdr.route_line,
        })),
        resumed: cdr.resumed,
        attempts: Attempts {
            start_ms,
            records: cdr.attempts(),
        },
        attempts_made: cdr.attempts_made,
        truncated: cdr.is_cut,
        raw: Raw::of(cdr),
    }
}

/// Appends a record as one line of JSON.
pub fn json_line(cdr: &Cdr<'_>, context: &Context<'_>, out: &mut Vec<u8>) {
    // Numbers, strings and lists of them: there is nothing that could fail to be written.
    let _to_memory = serde_json::to_writer(&mut *out, &line(cdr, context));
    out.push(b'\n');
}

/// Columns of the comma-separated form, in order; the names are those of the JSON fields.
const COLUMNS: &[&str] = &[
    "version",
    "node",
    "start_id",
    "shard",
    "seq",
    "attempt_id",
    "call_id",
    "request_uri",
    "from",
    "from_tag",
    "to",
    "to_tag",
    "caller",
    "callee",
    "trunk_in",
    "trunk_out",
    "start_ms",
    "ringing_ms",
    "answer_ms",
    "end_ms",
    "setup_delay_ms",
    "duration_ms",
    "code",
    "q850",
    "disposition",
    "hung_up_by",
    "end_reason",
    "limit_hit",
    "route",
    "resumed",
    "attempts",
    "attempts_made",
    "truncated",
    "raw",
];

/// The first line of a file of comma-separated values.
pub fn csv_head() -> String {
    COLUMNS.join(",") + "\r\n"
}

/// Appends a record as one line of comma-separated values. Texts stand in quotes, numbers do not,
/// nothing stands for what is not known; `attempts` and `raw` hold their JSON.
pub fn csv_line(cdr: &Cdr<'_>, context: &Context<'_>, out: &mut Vec<u8>) {
    let line = line(cdr, context);
    let value = serde_json::to_value(&line).unwrap_or_default();
    for (at, column) in COLUMNS.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        match (&value[column], *column) {
            (serde_json::Value::Null, _) => {}
            (serde_json::Value::String(text), _) => quoted(text, out),
            (serde_json::Value::Object(limit), "limit_hit") => {
                let word = |key| limit.get(key).and_then(|word| word.as_str()).unwrap_or("");
                quoted(&format!("{}:{}", word("name"), word("limit")), out);
            }
            (other @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_)), _) => {
                out.extend_from_slice(other.to_string().as_bytes())
            }
            (other @ (serde_json::Value::Array(_) | serde_json::Value::Object(_)), _) => {
                quoted(&other.to_string(), out);
            }
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::record::tests::full;
    use super::*;

    const CONTEXT: Context<'static> = Context {
        node: "edge1",
        config: "edge.toml",
    };

    fn json(cdr: &Cdr<'_>) -> String {
        let mut out = Vec::new();
        json_line(cdr, &CONTEXT, &mut out);
        String::from_utf8(out).expect("a line is UTF-8")
    }

    #[test]
    fn a_record_is_one_line_with_these_fields() {
        let expected = concat!(
            r#"{"version":1,"node":"edge1","start_id":1764000000000001,"shard":3,"seq":42,"#,
            r#""attempt_id":"00000000feedbeef","call_id":"c1@host","request_uri":"sip:100@192.0.2.1","#,
            r#""from":"+49301","from_tag":"a","to":"100","to_tag":"b","caller":"198.51.100.10:5060","#,
            r#""callee":"[2001:db8::5]:5080","trunk_in":"carrier","trunk_out":"pbx2","#,
            r#""start_ms":1764000001000,"ringing_ms":1764000001200,"answer_ms":1764000003000,"#,
            r#""end_ms":1764000063000,"setup_delay_ms":199,"duration_ms":60000,"code":200,"q850":16,"#,
            r#""disposition":"answered","hung_up_by":"callee","end_reason":"BYE","#,
            r#""limit_hit":{"name":"pbx1","limit":"calls_out_max"},"route":"edge.toml:17","resumed":true,"#,
            r#""attempts":[{"trunk":"pbx1","address":"203.0.113.5:5060","code":503,"reason":"final answer","#,
            r#""start_ms":1764000001001,"end_ms":1764000001020},{"trunk":"pbx2","address":"[2001:db8::5]:5080","#,
            r#""code":200,"reason":"answered","start_ms":1764000001020,"end_ms":1764000003000}],"#,
            r#""attempts_made":2,"truncated":false}"#,
            "\n"
        );
        assert_eq!(json(&full()), expected);
    }

    /// What a stranger may write as user, tag or Call-ID.
    const HOSTILE: &[&[u8]] = &[
        b"say \"hi\"",
        b"two\r\nlines\n",
        b"=cmd|' /C calc'!A0",
        b"@SUM(1)",
        b"a,b;c\\d\t\0\x1b[31m",
        b"\xff\xfe not UTF-8 \x80",
        "Zo\u{eb} \u{202e}\u{1f4de}".as_bytes(),
    ];

    fn octets_of(value: &Value, field: &str) -> Vec<u8> {
        match value["raw"][field].as_str() {
            Some(hex) => (0..hex.len() / 2)
                .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex"))
                .collect(),
            None => value[field].as_str().expect("a text").as_bytes().to_vec(),
        }
    }

    #[test]
    fn hostile_texts_come_back_from_json() {
        for text in HOSTILE {
            let cdr = Cdr {
                call_id: text,
                request_uri: text,
                from_user: text,
                from_tag: text,
                to_user: text,
                to_tag: text,
                ..full()
            };
            let line = json(&cdr);
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            let value: Value = serde_json::from_str(&line).expect("JSON");
            for field in ["call_id", "request_uri", "from", "from_tag", "to", "to_tag"] {
                assert_eq!(octets_of(&value, field), *text, "{field}");
            }
        }
    }

    /// Splits comma-separated values as RFC 4180 says.
    fn split(line: &str) -> Vec<String> {
        let mut fields = vec![String::new()];
        let mut in_quotes = false;
        let mut letters = line
            .strip_suffix("\r\n")
            .expect("an end")
            .chars()
            .peekable();
        while let Some(letter) = letters.next() {
            let field = fields.last_mut().expect("one is always there");
            match letter {
                '"' if in_quotes && letters.peek() == Some(&'"') => {
                    letters.next();
                    field.push('"');
                }
                '"' => in_quotes = !in_quotes,
                ',' if !in_quotes => fields.push(String::new()),
                other => field.push(other),
            }
        }
        fields
    }

    #[test]
    fn hostile_texts_come_back_from_comma_separated_values() {
        let names: Vec<String> = split(&csv_head());
        for text in HOSTILE {
            let cdr = Cdr {
                call_id: text,
                from_user: text,
                ..full()
            };
            let mut out = Vec::new();
            csv_line(&cdr, &CONTEXT, &mut out);
            let fields = split(core::str::from_utf8(&out).expect("UTF-8"));
            assert_eq!(fields.len(), names.len());
            let field = |name: &str| {
                let at = names.iter().position(|is| is == name).expect("a column");
                fields[at].clone()
            };
            let raw: Value = serde_json::from_str(&field("raw")).unwrap_or_default();
            for name in ["call_id", "from"] {
                let value = serde_json::json!({ "raw": raw, name: field(name) });
                assert_eq!(octets_of(&value, name), *text, "{name}");
            }
            assert_eq!(field("limit_hit"), "pbx1:calls_out_max");
            assert_eq!(field("duration_ms"), "60000");
            let attempts: Value = serde_json::from_str(&field("attempts")).expect("JSON");
            assert_eq!(attempts[0]["code"], 503);
        }
    }

    #[test]
    fn the_columns_are_the_fields_of_the_json_form() {
        let cdr = Cdr {
            call_id: b"\xff",
            ..full()
        };
        let line = json(&cdr);
        let value: Value = serde_json::from_str(&line).expect("JSON");
        let mut fields: Vec<&str> = value
            .as_object()
            .expect("an object")
            .keys()
            .map(String::as_str)
            .collect();
        let mut columns = COLUMNS.to_vec();
        fields.sort_unstable();
        columns.sort_unstable();
        assert_eq!(fields, columns);
    }

    #[test]
    fn what_is_not_known_is_null_and_empty() {
        let value: Value = serde_json::from_str(&json(&Cdr::BLANK)).expect("JSON");
        for field in [
            "code",
            "q850",
            "ringing_ms",
            "trunk_out",
            "route",
            "limit_hit",
        ] {
            assert!(value[field].is_null(), "{field}");
        }
        let mut out = Vec::new();
        csv_line(&Cdr::BLANK, &CONTEXT, &mut out);
        assert!(core::str::from_utf8(&out).expect("UTF-8").contains(",,"));
    }
}
