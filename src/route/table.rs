//! The route table's verb: the first line that matches a new call decides.
//!
//! A line is matched by the trunk a call came from and by the Request-URI's user and host
//! (RFC 3261 §16.5, §19.1.4). What happens then is the policy's or the shard's business.

use core::net::Ipv6Addr;

use super::plan::{Plan, RouteLine, TrunkId};

/// An escaped user part that is longer than this when decoded matches no line at all: matching a
/// part of it could slip a call past a line that rejects it.
const USER_MAX: usize = 1024;

impl Plan {
    /// The first line for a call from `from` to `user`@`domain` (both as on the wire), and its index.
    /// A user that is a telephone number is matched without its visual separators.
    ///
    /// A regular expression keeps its scratch memory in a pool; a `Plan` cloned per shard has pools
    /// that no other thread contends for, and then this allocates only in its first calls.
    pub fn choose(
        &self,
        from: TrunkId,
        user: &[u8],
        is_number: bool,
        domain: &[u8],
    ) -> Option<(usize, &RouteLine)> {
        let has_separators = is_number && user.iter().any(|octet| is_visual_separator(*octet));
        if memchr::memchr(b'%', user).is_none() && !has_separators {
            return self.first_match(from, user, domain);
        }
        let mut room = [0u8; USER_MAX];
        let len = unescape(user, &mut room)?;
        let len = if is_number {
            without_separators(&mut room[..len])
        } else {
            len
        };
        self.first_match(from, &room[..len], domain)
    }

    fn first_match(
        &self,
        from: TrunkId,
        user: &[u8],
        domain: &[u8],
    ) -> Option<(usize, &RouteLine)> {
        self.routes
            .iter()
            .enumerate()
            .find(|(_, line)| line.matches(from, user, domain))
    }
}

impl RouteLine {
    /// Whether the line is for a call from `from` to the unescaped `user` at `domain`.
    fn matches(&self, from: TrunkId, user: &[u8], domain: &[u8]) -> bool {
        (self.from.is_empty() || self.from.contains(&from))
            && self
                .domain
                .as_ref()
                .is_none_or(|wanted| same_host(wanted.as_bytes(), domain))
            && self.user.as_ref().is_none_or(|regex| regex.is_match(user))
    }
}

/// `user` with its `%` escapes decoded; a `%` that two hex digits do not follow stands for itself.
/// Gives the length in `room`; `None` when the decoded text does not fit.
fn unescape(user: &[u8], room: &mut [u8; USER_MAX]) -> Option<usize> {
    let mut rest = user;
    let mut len = 0;
    while let Some((octet, after)) = next_octet(rest) {
        *room.get_mut(len)? = octet;
        len += 1;
        rest = after;
    }
    Some(len)
}

/// RFC 3966 §3: they are there for people, and two numbers that differ in them are the same.
//= rfc3966#5
fn is_visual_separator(octet: u8) -> bool {
    matches!(octet, b'-' | b'.' | b'(' | b')')
}

/// Closes the gaps that visual separators leave; gives the new length.
fn without_separators(number: &mut [u8]) -> usize {
    let mut len = 0;
    for at in 0..number.len() {
        if !is_visual_separator(number[at]) {
            number[len] = number[at];
            len += 1;
        }
    }
    len
}

/// The first octet of `escaped`, decoded, and what follows it.
fn next_octet(escaped: &[u8]) -> Option<(u8, &[u8])> {
    if let [b'%', high, low, after @ ..] = escaped
        && let (Some(high), Some(low)) = (hex_value(*high), hex_value(*low))
    {
        return Some((high << 4 | low, after));
    }
    escaped.split_first().map(|(octet, after)| (*octet, after))
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Whether two host texts name the same host: names without regard to case or a final dot, IPv6
/// references by their address, with brackets or without.
fn same_host(configured: &[u8], received: &[u8]) -> bool {
    let (configured, received) = (bare_host(configured), bare_host(received));
    if configured.eq_ignore_ascii_case(received) {
        return true;
    }
    // Only an IPv6 address has colons, and only it has several spellings.
    configured.contains(&b':')
        && received.contains(&b':')
        && ipv6(configured).is_some_and(|address| ipv6(received) == Some(address))
}

fn bare_host(host: &[u8]) -> &[u8] {
    let host = host.strip_suffix(b".").unwrap_or(host);
    host.strip_prefix(b"[")
        .and_then(|inner| inner.strip_suffix(b"]"))
        .unwrap_or(host)
}

fn ipv6(text: &[u8]) -> Option<Ipv6Addr> {
    core::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::plan::Target;

    fn line(from: &[u16], user: Option<&str>, domain: Option<&str>, status: u16) -> RouteLine {
        RouteLine {
            from: from.iter().copied().map(TrunkId).collect(),
            user: user.map(|text| regex::bytes::Regex::new(text).expect("a literal regex")),
            domain: domain.map(str::to_owned),
            to: Target::Reject { status },
            line: 1,
        }
    }

    fn plan(routes: Vec<RouteLine>) -> Plan {
        Plan {
            routes,
            ..Plan::default()
        }
    }

    fn chosen(plan: &Plan, from: u16, user: &str, domain: &str) -> Option<usize> {
        plan.choose(TrunkId(from), user.as_bytes(), false, domain.as_bytes())
            .map(|(at, _)| at)
    }

    //= rfc3966#5
    #[test]
    fn a_number_is_matched_without_its_visual_separators() {
        let plan = plan(vec![line(&[], Some("^\\+49900"), None, 404)]);
        let chosen = |user: &str, is_number| {
            let found = plan.choose(TrunkId(0), user.as_bytes(), is_number, b"");
            found.is_some()
        };
        for user in ["+49900", "+49-900", "+(49)9.0-0", "%2B49%2D900"] {
            assert!(chosen(user, true), "{user}");
        }
        assert!(!chosen("+49-900", false));
        assert!(!chosen(&"-".repeat(USER_MAX + 1), true));
    }

    #[test]
    fn the_first_line_that_matches_decides() {
        let plan = plan(vec![
            line(&[1], Some("^\\+49"), None, 404),
            line(&[], Some("^\\+"), None, 404),
            line(&[], None, Some("example.com"), 404),
        ]);
        assert_eq!(chosen(&plan, 1, "+4930", "x.example"), Some(0));
        assert_eq!(chosen(&plan, 2, "+4930", "x.example"), Some(1));
        assert_eq!(chosen(&plan, 1, "+1", "example.com"), Some(1));
        assert_eq!(chosen(&plan, 1, "alice", "EXAMPLE.com."), Some(2));
        assert_eq!(chosen(&plan, 1, "alice", "example.org"), None);
    }

    #[test]
    fn a_plan_without_lines_matches_nothing() {
        assert_eq!(chosen(&plan(vec![]), 0, "alice", "example.com"), None);
    }

    //= rfc3261#19.1.4
    #[test]
    fn an_escaped_user_is_matched_by_what_it_means() {
        let plan = plan(vec![line(&[], Some("^\\+49 ?%$"), None, 404)]);
        assert_eq!(chosen(&plan, 0, "%2B49%20%25", ""), Some(0));
        assert_eq!(chosen(&plan, 0, "%2b%34%39%", ""), Some(0));
        assert_eq!(chosen(&plan, 0, "%2g49", ""), None);
    }

    #[test]
    fn an_escaped_user_too_long_to_decode_matches_no_line_not_even_a_catch_all() {
        let plan = plan(vec![line(&[], None, None, 404)]);
        let fits = format!("%2B{}", "1".repeat(USER_MAX - 1));
        assert_eq!(chosen(&plan, 0, &fits, ""), Some(0));
        assert_eq!(chosen(&plan, 0, &format!("{fits}1"), ""), None);
        assert_eq!(chosen(&plan, 0, &"1".repeat(60_000), ""), Some(0));
    }

    #[test]
    fn a_domain_may_be_an_ipv6_reference_in_any_spelling() {
        let plan = plan(vec![line(&[], None, Some("[2001:db8::1]"), 404)]);
        assert_eq!(chosen(&plan, 0, "a", "[2001:DB8:0::1]"), Some(0));
        assert_eq!(chosen(&plan, 0, "a", "2001:db8::1"), Some(0));
        assert_eq!(chosen(&plan, 0, "a", "[2001:db8::2]"), None);
        assert_eq!(chosen(&plan, 0, "a", "[:::::]"), None);
    }
}
