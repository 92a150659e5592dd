//! What can be wrong with bytes from the wire: where and why. One row of the table per fault.
//!
//! A fault of a message's *meaning* (legal bytes, illegal act) is `validate::Misbehaved`.

use core::fmt;

macro_rules! malformed_kinds {
    ($($variant:ident $text:literal,)*) => {
        /// Why octets are not the SIP they claim to be.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum MalformedKind { $($variant,)* }

        impl MalformedKind {
            /// The fault as a phrase for people and for reason phrases.
            pub const fn text(self) -> &'static str {
                match self { $(MalformedKind::$variant => $text,)* }
            }
        }
    };
}

malformed_kinds! {
    Empty "Empty message",
    TooLong "Message over 65535 octets",
    StartLine "Malformed start line",
    RequestLineSpaces "Extra white space in the request line",
    RequestUri "Malformed Request-URI",
    Version "SIP version not supported",
    StatusCode "Malformed status code",
    NoEmptyLine "No empty line after the header fields",
    TooManyFields "Too many header fields",
    FieldName "Malformed header field name",
    MissingColon "Header field without colon",
    StrayCarriageReturn "Carriage return inside a line",
    ContentLength "Malformed Content-Length",
    BodyShort "Body shorter than Content-Length",
    MissingField "Missing mandatory header field",
    Via "Malformed Via",
    Host "Malformed host",
    Port "Malformed port",
    Uri "Malformed URI",
    NameAddr "Malformed address",
    Quote "Unbalanced quotes",
    Parameter "Malformed parameter",
    RepeatedField "Repeated header field",
    CallId "Malformed Call-ID",
    CSeq "Malformed CSeq",
    MaxForwards "Malformed Max-Forwards",
    MaxBreadth "Malformed Max-Breadth",
    Number "Number out of range",
}

/// A fault of the bytes: what, and at which octet of the text that was being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    pub what: MalformedKind,
    /// Offset in the text given to the function that reports it: a datagram, or one value.
    pub at: usize,
}

impl Malformed {
    /// Makes the fault `what` at octet `at`.
    pub const fn new(what: MalformedKind, at: usize) -> Malformed {
        Malformed { what, at }
    }

    /// The same fault, told in the coordinates of a text in which this one starts at `offset`.
    pub const fn shifted(self, offset: usize) -> Malformed {
        Malformed {
            what: self.what,
            at: self.at + offset,
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at octet {}", self.what.text(), self.at)
    }
}

impl std::error::Error for Malformed {}
