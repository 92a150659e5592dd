//! Where load may go: loopback, and addresses that the command line says it may.
//!
//! The same rule holds for what is written in a Contact or a Route on the way: a peer cannot turn
//! the generator on a third party.

use core::net::{IpAddr, SocketAddr};

/// The addresses that load may be sent to besides loopback.
#[derive(Clone, Debug, Default)]
pub struct Permit {
    given: Vec<IpAddr>,
}

impl Permit {
    /// Loopback and these.
    pub fn new(given: &[IpAddr]) -> Permit {
        Permit {
            given: given.to_vec(),
        }
    }

    /// Whether load may go to `ip`, and come from there.
    pub fn allows(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.given.contains(&ip)
    }

    /// Refuses an address of the command line, and says how to permit it.
    pub fn check(&self, address: SocketAddr) -> Result<SocketAddr, String> {
        let ip = address.ip();
        if ip.is_unspecified() {
            return Err(format!(
                "{address} means every address of this host: name one, such as 127.0.0.1"
            ));
        }
        if self.allows(ip) {
            return Ok(address);
        }
        Err(format!(
            "{address} is not a loopback address. Load takes services down, so it goes nowhere \
             else by default; if this host is yours to load, say so with --permit {ip}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_allowed_without_a_permit() {
        let address = |text: &str| -> SocketAddr { text.parse().expect("literal") };
        let strict = Permit::default();
        assert!(strict.check(address("127.0.0.2:5060")).is_ok());
        assert!(strict.check(address("[::1]:5060")).is_ok());
        assert!(strict.check(address("0.0.0.0:5060")).is_err());
        let why = strict
            .check(address("192.0.2.1:5060"))
            .expect_err("not ours");
        assert!(why.contains("--permit 192.0.2.1"), "{why}");
        let given = Permit::new(&["192.0.2.1".parse().expect("literal")]);
        assert!(given.check(address("192.0.2.1:5060")).is_ok());
        assert!(given.check(address("192.0.2.2:5060")).is_err());
    }
}
