//! SIP as bytes and as meaning: scanning, parsing, reading values, editing and composing.
//!
//! Received bytes are indexed in one pass (`even`, `scan`, `parse`) and read only where somebody asks
//! (`message`, `via`, `uri`, …). What is passed on is the received bytes with splices (`edit`);
//! what this node says itself is written by `compose`. Nothing here allocates after start, and
//! nothing here panics on bytes from a wire.

mod address;
mod cseq;
mod error;
mod even;
mod grammar;
mod header;
mod host;
mod marks;
mod message;
mod method;
mod name_addr;
mod name_index;
mod params;
mod parse;
mod plain;
mod scan;
mod start_line;
mod uri;
mod usual;
mod via;
#[expect(
    unsafe_code,
    reason = "vector instructions are called where the processor has them"
)]
mod width;
#[expect(unsafe_code, reason = "vector instructions that each x86_64 has")]
mod window;

pub mod compose;
pub mod edit;
pub mod oc;
pub mod sdp;
pub mod status;
pub mod validate;

pub use address::{DEFAULT_PORT, is_one_host, reply_address, response_address};
pub use cseq::CSeq;
pub use edit::{Edit, EditFault};
pub use error::{Malformed, MalformedKind};
pub use grammar::{decimal, is_token, trim_lws};
pub use header::{HEADERS, Header, HeaderId, Shape};
pub use host::{Host, parse_ip};
pub use message::{Field, Message, StartLine, Value, Values};
pub use method::Method;
pub use name_addr::NameAddr;
pub use params::{Param, Params, find as find_param, top_level_comma};
pub use parse::{MESSAGE_MAX, Rejected, Scratch, parse};
pub use uri::{Scheme, Uri};
pub use validate::{
    Misbehaved, validate_request, validate_request_and, validate_response, validate_response_and,
};
pub use via::Via;
