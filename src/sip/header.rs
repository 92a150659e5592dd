//! The header table: one declaration per header field, with its compact form and its shape.
//!
//! A name that is not here is `Unknown`: it is passed on as it came (RFC 3261 §16.3). The table is
//! turned into a perfect hash when the crate is compiled, see `name_index.rs`.

/// Whether commas separate values in a field (RFC 3261 §7.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The field's text is one value, commas and all.
    Single,
    /// Values separated by commas, equivalent to as many fields.
    List,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub id: HeaderId,
    pub name: &'static str,
    pub compact: Option<u8>,
    pub shape: Shape,
}

macro_rules! headers {
    ($($variant:ident $name:literal $compact:expr, $shape:ident;)*) => {
        /// Which header field it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum HeaderId { $($variant,)* Unknown }

        /// Every known header, in the order of `HeaderId`.
        pub const HEADERS: &[Header] = &[$(Header {
            id: HeaderId::$variant, name: $name, compact: $compact, shape: Shape::$shape,
        },)*];
    };
}

headers! {
    // RFC 3261 §20
    Via "Via" Some(b'v'), List;
    From "From" Some(b'f'), Single;
    To "To" Some(b't'), Single;
    CallId "Call-ID" Some(b'i'), Single;
    CSeq "CSeq" None, Single;
    Contact "Contact" Some(b'm'), List;
    MaxForwards "Max-Forwards" None, Single;
    Route "Route" None, List;
    RecordRoute "Record-Route" None, List;
    ContentLength "Content-Length" Some(b'l'), Single;
    ContentType "Content-Type" Some(b'c'), Single;
    Require "Require" None, List;
    ProxyRequire "Proxy-Require" None, List;
    Supported "Supported" Some(b'k'), List;
    Unsupported "Unsupported" None, List;
    Allow "Allow" None, List;
    Expires "Expires" None, Single;
    MinExpires "Min-Expires" None, Single;
    Accept "Accept" None, List;
    AcceptEncoding "Accept-Encoding" None, List;
    AcceptLanguage "Accept-Language" None, List;
    AlertInfo "Alert-Info" None, List;
    // Commas separate the parts of one challenge or credential here, not values (§20.7, §20.44).
    AuthenticationInfo "Authentication-Info" None, Single;
    Authorization "Authorization" None, Single;
    ProxyAuthenticate "Proxy-Authenticate" None, Single;
    ProxyAuthorization "Proxy-Authorization" None, Single;
    WwwAuthenticate "WWW-Authenticate" None, Single;
    CallInfo "Call-Info" None, List;
    ContentDisposition "Content-Disposition" None, Single;
    ContentEncoding "Content-Encoding" Some(b'e'), List;
    ContentLanguage "Content-Language" None, List;
    Date "Date" None, Single;
    ErrorInfo "Error-Info" None, List;
    InReplyTo "In-Reply-To" None, List;
    MimeVersion "MIME-Version" None, Single;
    Organization "Organization" None, Single;
    Priority "Priority" None, Single;
    ReplyTo "Reply-To" None, Single;
    RetryAfter "Retry-After" None, Single;
    Server "Server" None, Single;
    Subject "Subject" Some(b's'), Single;
    Timestamp "Timestamp" None, Single;
    UserAgent "User-Agent" None, Single;
    Warning "Warning" None, List;
    // RFC 3262
    RAck "RAck" None, Single;
    RSeq "RSeq" None, Single;
    // RFC 6665
    Event "Event" Some(b'o'), Single;
    AllowEvents "Allow-Events" Some(b'u'), List;
    SubscriptionState "Subscription-State" None, Single;
    // RFC 3323, 3325, 3326, 3327
    Privacy "Privacy" None, Single;
    PAssertedIdentity "P-Asserted-Identity" None, List;
    PPreferredIdentity "P-Preferred-Identity" None, List;
    Reason "Reason" None, List;
    Path "Path" None, List;
    ServiceRoute "Service-Route" None, List; // RFC 3608
    // RFC 3515, 3891, 3892
    ReferTo "Refer-To" Some(b'r'), Single;
    Replaces "Replaces" None, Single;
    ReferredBy "Referred-By" Some(b'b'), Single;
    // RFC 3841
    AcceptContact "Accept-Contact" Some(b'a'), List;
    RejectContact "Reject-Contact" Some(b'j'), List;
    RequestDisposition "Request-Disposition" Some(b'd'), List;
    // RFC 3903
    SipEtag "SIP-ETag" None, Single;
    SipIfMatch "SIP-If-Match" None, Single;
    // RFC 4028
    SessionExpires "Session-Expires" Some(b'x'), Single;
    MinSe "Min-SE" None, Single;
    // RFC 4412
    ResourcePriority "Resource-Priority" None, List;
    AcceptResourcePriority "Accept-Resource-Priority" None, List;
    MaxBreadth "Max-Breadth" None, Single; // RFC 5393
    FlowTimer "Flow-Timer" None, Single; // RFC 5626
    // RFC 6086
    InfoPackage "Info-Package" None, Single;
    RecvInfo "Recv-Info" None, List;
    // RFC 8224 and the header it made obsolete
    Identity "Identity" Some(b'y'), List;
    IdentityInfo "Identity-Info" Some(b'n'), Single;
}

impl HeaderId {
    /// How many ids there are, `Unknown` included: the size of an array indexed by id.
    pub const COUNT: usize = HEADERS.len() + 1;

    /// The canonical name; empty for `Unknown`, whose name only the message has.
    pub const fn name(self) -> &'static str {
        match self {
            HeaderId::Unknown => "",
            known => HEADERS[known as usize].name,
        }
    }

    /// Whether commas separate values in this field.
    pub const fn shape(self) -> Shape {
        match self {
            HeaderId::Unknown => Shape::Single,
            known => HEADERS[known as usize].shape,
        }
    }

    /// The header called `name`, in any case or in its compact form.
    pub fn parse(name: &[u8]) -> HeaderId {
        super::name_index::lookup(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_found_in_any_case_and_compact_form() {
        for (position, header) in HEADERS.iter().enumerate() {
            assert_eq!(header.id as usize, position);
            assert_eq!(HeaderId::parse(header.name.as_bytes()), header.id);
            assert_eq!(
                HeaderId::parse(header.name.to_ascii_uppercase().as_bytes()),
                header.id
            );
            assert_eq!(
                HeaderId::parse(header.name.to_ascii_lowercase().as_bytes()),
                header.id
            );
            if let Some(letter) = header.compact {
                assert_eq!(HeaderId::parse(&[letter]), header.id);
                assert_eq!(HeaderId::parse(&[letter.to_ascii_uppercase()]), header.id);
            }
        }
    }

    #[test]
    fn a_name_that_differs_in_one_bit_is_unknown() {
        for header in HEADERS {
            for at in 0..header.name.len() {
                for bit in 0..8 {
                    let mut name = header.name.as_bytes().to_vec();
                    name[at] ^= 1 << bit;
                    let is_same = name.eq_ignore_ascii_case(header.name.as_bytes());
                    assert_eq!(HeaderId::parse(&name) == header.id, is_same, "{name:?}");
                }
            }
        }
        assert_eq!(HeaderId::parse(b""), HeaderId::Unknown);
        assert_eq!(HeaderId::parse(b"C%6Fntact"), HeaderId::Unknown);
        assert_eq!(HeaderId::parse(b"Vi"), HeaderId::Unknown);
        assert_eq!(HeaderId::parse(b"T\0"), HeaderId::Unknown);
        assert_eq!(HeaderId::parse(b"Via:"), HeaderId::Unknown);
        assert_eq!(HeaderId::parse(b"Viaa"), HeaderId::Unknown);
    }
}
