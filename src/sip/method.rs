//! The method table: one row per method this node knows by name (RFC 3261, 3262, 3311, 3428, 3515,
//! 3903, 6086, 6665). Any other token is `Other` and is proxied like the rest (RFC 3261 §16.3).

macro_rules! methods {
    ($($variant:ident $text:literal,)*) => {
        /// A request method; names are case-sensitive (RFC 3261 §7.1).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Method { $($variant,)* Other }

        impl Method {
            /// Every method with a name of its own.
            pub const KNOWN: &[Method] = &[$(Method::$variant,)*];

            /// The method spelled exactly `text`.
            pub fn parse(text: &[u8]) -> Method {
                $(if text == $text { return Method::$variant; })*
                Method::Other
            }

            /// The method's name; empty for `Other`, whose text only the message has.
            pub const fn as_bytes(self) -> &'static [u8] {
                match self { $(Method::$variant => $text,)* Method::Other => b"" }
            }
        }
    };
}

methods! {
    Invite b"INVITE",
    Ack b"ACK",
    Bye b"BYE",
    Cancel b"CANCEL",
    Options b"OPTIONS",
    Register b"REGISTER",
    Prack b"PRACK",
    Update b"UPDATE",
    Info b"INFO",
    Refer b"REFER",
    Subscribe b"SUBSCRIBE",
    Notify b"NOTIFY",
    Publish b"PUBLISH",
    Message b"MESSAGE",
}

impl Method {
    /// The method's name for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match core::str::from_utf8(self.as_bytes()) {
            Ok(name) if !name.is_empty() => name,
            Ok(_) | Err(_) => "OTHER",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_reads_back_and_case_matters() {
        for &method in Method::KNOWN {
            assert_eq!(Method::parse(method.as_bytes()), method);
            assert_eq!(method.as_str().as_bytes(), method.as_bytes());
        }
        assert_eq!(Method::parse(b"invite"), Method::Other);
        assert_eq!(Method::parse(b"INVITES"), Method::Other);
        assert_eq!(Method::Other.as_str(), "OTHER");
    }
}
