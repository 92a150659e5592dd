//! Is this us? Host and port of a URI or a sent-by compared with our listeners and aliases.

use core::net::{IpAddr, SocketAddr};

use super::{NodePlan, Shard};
use crate::net::ListenerId;
use crate::sip::{DEFAULT_PORT, Host, Uri};

/// The names and addresses of this node, read once from its plan.
#[derive(Debug, Default)]
pub(super) struct Identity {
    /// In the order of the plan's listeners.
    listeners: Vec<Ours>,
    aliases: Vec<Name>,
}

#[derive(Debug)]
struct Ours {
    bind: SocketAddr,
    advertised: Option<Name>,
    advertised_port: u16,
}

/// A configured host: addresses compare by value, names by letter.
#[derive(Debug)]
enum Name {
    Address(IpAddr),
    Text(Box<[u8]>),
}

/// Which of our names a host and port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Us {
    Listener(ListenerId),
    Alias,
}

impl Us {
    /// The listener that was named.
    pub fn listener(self) -> Option<ListenerId> {
        match self {
            Us::Listener(listener) => Some(listener),
            Us::Alias => None,
        }
    }
}

impl Identity {
    /// Reads what a plan says about this node.
    pub fn of(plan: &NodePlan) -> Identity {
        let listeners = plan.listeners.iter().map(|listener| Ours {
            bind: listener.bind,
            advertised: Name::read(listener.advertise_host.as_bytes()),
            advertised_port: listener.advertise_port,
        });
        let aliases = plan.aliases.iter();
        Identity {
            listeners: listeners.collect(),
            aliases: aliases
                .filter_map(|alias| Name::read(alias.as_bytes()))
                .collect(),
        }
    }

    /// Which of our names host and port are, if they are one.
    pub fn find(&self, host: &Host<'_>, port: Option<u16>) -> Option<Us> {
        let at = port.unwrap_or(DEFAULT_PORT);
        if let Some(listener) = self.listeners.iter().position(|ours| ours.is(host, at)) {
            return Some(Us::Listener(ListenerId(listener as u16)));
        }
        self.is_alias(host, port).then_some(Us::Alias)
    }

    fn is_alias(&self, host: &Host<'_>, port: Option<u16>) -> bool {
        let is_port_of =
            |ours: &Ours, port| port == ours.advertised_port || port == ours.bind.port();
        let port_is_ours =
            || port.is_none_or(|port| self.listeners.iter().any(|ours| is_port_of(ours, port)));
        self.aliases.iter().any(|alias| alias.is(host)) && port_is_ours()
    }
}

impl Ours {
    fn is(&self, host: &Host<'_>, port: u16) -> bool {
        let is_advertised = || self.advertised.as_ref().is_some_and(|name| name.is(host));
        port == self.advertised_port && is_advertised()
            || port == self.bind.port() && host.ip() == Some(self.bind.ip())
    }
}

impl Name {
    fn read(text: &[u8]) -> Option<Name> {
        match Host::parse(text).ok()? {
            Host::Name(name) => Some(Name::Text(name.into())),
            Host::V4(address) => Some(Name::Address(address.into())),
            Host::V6(address) => Some(Name::Address(address.into())),
        }
    }

    fn is(&self, host: &Host<'_>) -> bool {
        match (self, host) {
            (Name::Text(ours), Host::Name(name)) => name.eq_ignore_ascii_case(ours),
            (Name::Address(ours), Host::V4(_) | Host::V6(_)) => host.ip() == Some(*ours),
            (Name::Text(_), Host::V4(_) | Host::V6(_)) | (Name::Address(_), Host::Name(_)) => false,
        }
    }
}

impl Shard {
    /// Whether host and port name this node.
    pub(super) fn is_us(&self, host: &Host<'_>, port: Option<u16>) -> bool {
        self.identity.find(host, port).is_some()
    }

    /// Whether a URI names this node.
    pub(super) fn is_our_uri(&self, uri: &Uri<'_>) -> bool {
        self.is_us(&uri.host, uri.port)
    }
}
