//! Whether the library's own strict parser accepts what the node sends out.
//!
//! The one place where a test uses the library: a message that the gate forwards must be one that
//! the gate itself would take.

use callgate::sip::{Scratch, parse, validate_request};

use super::message::Message;

/// Parses and validates a forwarded request.
pub fn request(bytes: &[u8]) -> Result<(), String> {
    let mut scratch = Scratch::new(1024);
    let parsed = parse(bytes, &mut scratch).map_err(|rejected| rejected.fault.to_string())?;
    if parsed.is_request() {
        validate_request(&parsed).map_err(|fault| format!("{}: {}", fault.status, fault.reason))?;
    }
    has_the_body_it_says(bytes)
}

/// Octets behind the body are noise that must not be passed on (RFC 3261 §18.3).
fn has_the_body_it_says(bytes: &[u8]) -> Result<(), String> {
    let message = Message::new(bytes);
    let said = message.all("Content-Length");
    let length = said.first().map(|text| text.parse::<usize>());
    match length {
        None => Ok(()),
        Some(Ok(length)) if length == message.body().len() => Ok(()),
        Some(_) => Err(format!(
            "Content-Length {said:?}, body of {}",
            message.body().len()
        )),
    }
}
