//! Is this us? Host and port of a URI or a sent-by compared with our listeners and aliases.

use super::Shard;
use crate::net::ListenerId;
use crate::sip::{Host, Uri};

const SIP_PORT: u16 = 5060;

impl Shard {
    /// Whether host and port name this node.
    pub(super) fn is_us(&self, host: &Host<'_>, port: Option<u16>) -> bool {
        self.listener_named(host, port).is_some() || self.is_alias(host, port)
    }

    /// The listener that host and port name.
    pub(super) fn listener_named(&self, host: &Host<'_>, port: Option<u16>) -> Option<ListenerId> {
        let port = port.unwrap_or(SIP_PORT);
        let at = self.plan.listeners.iter().position(|listener| {
            let advertised =
                port == listener.advertise_port && names(host, listener.advertise_host.as_bytes());
            let bound = port == listener.bind.port()
                && host.ip().is_some_and(|ip| listener.is_bound_to(ip));
            advertised || bound
        })?;
        Some(ListenerId(at as u16))
    }

    /// Whether a URI names this node.
    pub(super) fn is_our_uri(&self, uri: &Uri<'_>) -> bool {
        self.is_us(&uri.host, uri.port)
    }

    fn is_alias(&self, host: &Host<'_>, port: Option<u16>) -> bool {
        let port_is_ours = port.is_none_or(|port| {
            self.plan
                .listeners
                .iter()
                .any(|listener| port == listener.advertise_port || port == listener.bind.port())
        });
        port_is_ours
            && self
                .plan
                .aliases
                .iter()
                .any(|alias| names(host, alias.as_bytes()))
    }
}

/// Whether a host is the one that a configured text names: addresses by value, names by letter.
fn names(host: &Host<'_>, text: &[u8]) -> bool {
    match Host::parse(text) {
        Ok(Host::Name(configured)) => {
            matches!(host, Host::Name(name) if name.eq_ignore_ascii_case(configured))
        }
        Ok(configured) => host.ip().is_some() && host.ip() == configured.ip(),
        Err(_) => false,
    }
}
