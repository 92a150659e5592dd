//! JSON-RPC 2.0 over one line per message: the envelope, its error codes, nothing of the methods.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Why a request got no result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    pub code: i64,
    pub message: String,
    /// Further lines for people, as the faults of a configuration file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<String>,
}

impl Fault {
    pub const PARSE: i64 = -32700;
    pub const INVALID_REQUEST: i64 = -32600;
    pub const NO_SUCH_METHOD: i64 = -32601;
    pub const INVALID_PARAMS: i64 = -32602;
    pub const INTERNAL: i64 = -32603;
    /// The request was understood and the node refuses it.
    pub const REFUSED: i64 = 1;

    /// A fault of one line.
    pub fn new(code: i64, message: impl Into<String>) -> Fault {
        Fault {
            code,
            message: message.into(),
            data: Vec::new(),
        }
    }

    /// The node understood and says no.
    pub fn refused(message: impl Into<String>) -> Fault {
        Fault::new(Fault::REFUSED, message)
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub id: Value,
    pub method: String,
    pub params: Value,
    /// A notification has no id and gets no answer.
    pub wants_answer: bool,
}

/// Reads one line; on a fault, the second value is the id to answer to.
pub fn read_request(line: &[u8]) -> Result<Request, (Fault, Value)> {
    let value: Value = serde_json::from_slice(line).map_err(|fault| {
        let message = format!("not JSON: {fault}");
        (Fault::new(Fault::PARSE, message), Value::Null)
    })?;
    let invalid = |message: &str, id: Value| (Fault::new(Fault::INVALID_REQUEST, message), id);
    let Value::Object(mut members) = value else {
        return Err(invalid(
            "a request is an object; batches are not taken",
            Value::Null,
        ));
    };
    let id = members.remove("id");
    let answer_to = id.clone().unwrap_or(Value::Null);
    if !matches!(answer_to, Value::Null | Value::String(_) | Value::Number(_)) {
        return Err(invalid("`id` is a string or a number", Value::Null));
    }
    if members.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(invalid("`jsonrpc` must be \"2.0\"", answer_to));
    }
    let Some(Value::String(method)) = members.remove("method") else {
        return Err(invalid("`method` is a string", answer_to));
    };
    let params = members.remove("params").unwrap_or_else(|| json!({}));
    if !params.is_object() {
        let message = "`params` is an object of named values";
        return Err((Fault::new(Fault::INVALID_PARAMS, message), answer_to));
    }
    Ok(Request {
        wants_answer: id.is_some(),
        id: answer_to,
        method,
        params,
    })
}

/// Writes an answer, its line feed included.
pub fn write_answer(id: &Value, outcome: &Result<Value, Fault>) -> Vec<u8> {
    let answer = match outcome {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(fault) => json!({ "jsonrpc": "2.0", "id": id, "error": fault }),
    };
    line(&answer)
}

/// Writes a request, its line feed included.
pub fn write_request(id: u64, method: &str, params: &Value) -> Vec<u8> {
    line(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
}

/// Reads an answer: the result, or the fault that the node sent.
pub fn read_answer(line: &[u8]) -> Result<Result<Value, Fault>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        result: Value,
        error: Option<Fault>,
    }
    let answer: Answer = serde_json::from_slice(line)?;
    Ok(answer.error.map_or(Ok(answer.result), Err))
}

fn line(value: &Value) -> Vec<u8> {
    let mut bytes = value.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault_code(line: &str) -> i64 {
        read_request(line.as_bytes()).expect_err("a fault").0.code
    }

    #[test]
    fn bad_requests_get_the_codes_of_the_specification() {
        assert_eq!(fault_code("{"), Fault::PARSE);
        assert_eq!(fault_code("[]"), Fault::INVALID_REQUEST);
        assert_eq!(fault_code(r#"{"method":"status"}"#), Fault::INVALID_REQUEST);
        assert_eq!(fault_code(r#"{"jsonrpc":"2.0"}"#), Fault::INVALID_REQUEST);
        assert_eq!(
            fault_code(r#"{"jsonrpc":"2.0","id":{},"method":"status"}"#),
            Fault::INVALID_REQUEST
        );
        assert_eq!(
            fault_code(r#"{"jsonrpc":"2.0","id":1,"method":"status","params":[1]}"#),
            Fault::INVALID_PARAMS
        );
    }

    #[test]
    fn a_request_round_trips() {
        let params = json!({ "name": "carrier-a" });
        let line = write_request(7, "trunk.show", &params);
        let request = read_request(&line).expect("our own request");
        assert_eq!(request.method, "trunk.show");
        assert_eq!(request.params, params);
        assert_eq!(request.id, json!(7));
        assert!(request.wants_answer);
    }

    #[test]
    fn an_answer_round_trips_with_its_fault_lines() {
        let fault = Fault {
            data: vec!["a.toml:3:1: unknown key".into()],
            ..Fault::refused("faulty")
        };
        let line = write_answer(&json!(1), &Err(fault.clone()));
        assert_eq!(read_answer(&line).expect("our own answer"), Err(fault));
        let line = write_answer(&json!(1), &Ok(json!([1])));
        assert_eq!(read_answer(&line).expect("our own answer"), Ok(json!([1])));
    }
}
