//! One Via value: `SIP/2.0/UDP host:port;branch=…` (RFC 3261 §20.42, rport of RFC 3581).

use core::ops::Range;

use super::error::{Malformed, MalformedKind};
use super::grammar::{Reader, decimal, port};
use super::host::{Host, read_host_port};
use super::params::{Param, Params};

/// One hop that a request took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// `2.0`, unless the sender speaks another SIP.
    pub version: &'a [u8],
    /// `UDP`, `TCP`, … in the sender's case.
    pub transport: &'a [u8],
    /// Host and port as they are written.
    pub sent_by: &'a [u8],
    pub host: Host<'a>,
    pub port: Option<u16>,
    pub branch: Option<&'a [u8]>,
    pub received: Option<&'a [u8]>,
    /// `;received=…` with its semicolon, as a range of the value.
    pub received_range: Option<Range<usize>>,
    /// `Some(None)` is `;rport` without a value: the sender asks for it to be filled in.
    pub rport: Option<Option<u16>>,
    /// `;rport` or `;rport=…` with its semicolon, as a range of the value.
    pub rport_range: Option<Range<usize>>,
    pub maddr: Option<&'a [u8]>,
    pub ttl: Option<u8>,
    /// All parameters, from the first semicolon.
    pub params: &'a [u8],
}

impl<'a> Via<'a> {
    /// What starts the branch of an RFC 3261 element (§8.1.1.7).
    pub const MAGIC_COOKIE: &'static [u8] = b"z9hG4bK";

    /// Reads one value, without the commas around it.
    pub fn parse(value: &'a [u8]) -> Result<Via<'a>, Malformed> {
        Via::read(value, |_| Ok(()))
    }

    /// The same with a look at each parameter on the way.
    pub(super) fn read(
        value: &'a [u8],
        check: impl Fn(&Param<'a>) -> Result<(), Malformed>,
    ) -> Result<Via<'a>, Malformed> {
        let mut reader = Reader::new(value);
        let (version, transport) = read_protocol(&mut reader)?;
        let sent_by_start = reader.at;
        let (host, port) = read_host_port(&mut reader)?;
        let sent_by = &value[sent_by_start..reader.at];
        reader.skip_lws();
        let params_at = reader.at;
        let mut via = Via {
            version,
            transport,
            sent_by,
            host,
            port,
            branch: None,
            received: None,
            received_range: None,
            rport: None,
            rport_range: None,
            maddr: None,
            ttl: None,
            params: reader.rest(),
        };
        for param in Params::new(via.params) {
            let param = param
                .and_then(|param| check(&param).map(|()| param))
                .map_err(|fault| fault.shifted(params_at))?;
            via.take(param, params_at)?;
        }
        Ok(via)
    }

    /// Whether the branch was made by an RFC 3261 element, so that it names the transaction alone.
    pub fn has_magic_cookie(&self) -> bool {
        self.branch
            .is_some_and(|branch| starts_with_ignore_case(branch, Self::MAGIC_COOKIE))
    }

    /// Keeps a parameter that a proxy needs; `param.range` counts from `params_at`.
    pub(super) fn take(&mut self, param: Param<'a>, params_at: usize) -> Result<(), Malformed> {
        let range = param.range.start + params_at..param.range.end + params_at;
        let fault = Malformed::new(MalformedKind::Via, range.start);
        // The length first: it is another for nearly each name.
        let is = |name: &[u8]| param.name.eq_ignore_ascii_case(name);
        //= rfc3261#7.3.1 no parameter name may appear twice: two readers would take two values
        let is_repeated = match param.name.len() {
            6 if is(b"branch") => {
                let branch = param.value.filter(|value| !value.is_empty()).ok_or(fault)?;
                self.branch.replace(branch).is_some()
            }
            5 if is(b"rport") => {
                self.rport = Some(match param.value {
                    None | Some(b"") => None,
                    Some(digits) => Some(port(digits).ok_or(fault)?),
                });
                self.rport_range.replace(range).is_some()
            }
            8 if is(b"received") => {
                self.received = param.value;
                self.received_range.replace(range).is_some()
            }
            5 if is(b"maddr") => {
                let maddr = param.value.ok_or(fault)?;
                self.maddr.replace(maddr).is_some()
            }
            3 if is(b"ttl") => {
                let ttl = param.value.and_then(decimal);
                let ttl = ttl.and_then(|ttl| u8::try_from(ttl).ok()).ok_or(fault)?;
                self.ttl.replace(ttl).is_some()
            }
            _ => false,
        };
        if is_repeated {
            return Err(fault);
        }
        Ok(())
    }
}

/// What nearly all Vias start with; the transport is the only word that others have.
const USUAL_PROTOCOL: &[u8] = b"SIP/2.0/UDP ";

/// `SIP / version / transport` and the white space behind it. Another version is read too: its sender
/// gets a 505, and that goes where this Via says.
fn read_protocol<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], &'a [u8]), Malformed> {
    if reader.rest().starts_with(USUAL_PROTOCOL) {
        let text = reader.rest();
        reader.at += USUAL_PROTOCOL.len();
        reader.skip_lws();
        return Ok((&text[4..7], &text[8..11]));
    }
    let name = reader.token(MalformedKind::Via)?;
    let is_sip = name.eq_ignore_ascii_case(b"SIP");
    if !is_sip || !reader.eat_separator(b'/') {
        return Err(reader.fault(MalformedKind::Via));
    }
    let version = reader.token(MalformedKind::Via)?;
    if !reader.eat_separator(b'/') {
        return Err(reader.fault(MalformedKind::Via));
    }
    let transport = reader.token(MalformedKind::Via)?;
    let before = reader.at;
    reader.skip_lws();
    if reader.at == before {
        return Err(reader.fault(MalformedKind::Via));
    }
    Ok((version, transport))
}

fn starts_with_ignore_case(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    #[test]
    fn white_space_and_folds_are_allowed_between_all_parts() {
        let value =
            b"SIP  /   2.0\r\n /UDP\r\n    192.0.2.2 : 5070 ; branch=\r\n z9hG4bK30239;rport";
        let via = Via::parse(value).expect("well formed");
        assert_eq!(via.transport, b"UDP");
        assert_eq!(via.host, Host::V4(Ipv4Addr::new(192, 0, 2, 2)));
        assert_eq!(via.port, Some(5070));
        assert_eq!(via.branch, Some(&b"z9hG4bK30239"[..]));
        assert_eq!(via.rport, Some(None));
        let range = via.rport_range.clone().expect("rport");
        assert_eq!(&value[range], b";rport");
        assert!(via.has_magic_cookie());
    }

    #[test]
    fn extra_separators_are_a_fault() {
        assert!(Via::parse(b"SIP/2.0/UDP 192.0.2.15;;").is_err());
        assert!(Via::parse(b"SIP/2.0/UDP").is_err());
        assert!(Via::parse(b"SIP/2.0/UDP ;branch=x").is_err());
        assert!(Via::parse(b"SIP/2.0 192.0.2.15").is_err());
        assert!(Via::parse(b"SIP/2.0/UDP h;branch=").is_err());
        assert!(Via::parse(b"SIP/2.0/UDP h;rport=65536").is_err());
        assert!(Via::parse(b"SIP/2.0/UDP h;ttl=256").is_err());
    }

    #[test]
    fn an_ipv6_host_keeps_its_port_apart() {
        let via = Via::parse(b"SIP/2.0/UDP [2001:db8::9:1]:6050;received=2001:db8::9:255")
            .expect("well formed");
        assert_eq!(via.port, Some(6050));
        assert_eq!(via.sent_by, b"[2001:db8::9:1]:6050");
        assert_eq!(via.received, Some(&b"2001:db8::9:255"[..]));
    }
}
