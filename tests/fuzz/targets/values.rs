//! Single values: URI, Via, address, SDP, STUN.

use std::net::{IpAddr, SocketAddr};

use callgate::base::Cursor;
use callgate::sip::{
    Host, NameAddr, Params, Scheme, Uri, Via, is_one_host, reply_address, response_address, sdp,
    top_level_comma,
};

/// A URI that was read can be written again from its parts and reads as the same.
pub fn uri(text: &[u8]) {
    let Ok(uri) = Uri::parse(text) else { return };
    let _ = (uri.param(b"maddr"), uri.is_lr());
    if !matches!(uri.scheme, Scheme::Sip | Scheme::Sips) {
        return;
    }
    let mut again = [uri.scheme_text, b":"].concat();
    if let Some(user) = uri.user {
        assert!(!user.contains(&b'@') && !user.contains(&0));
        again.extend(user);
        if let Some(password) = uri.password {
            again.push(b':');
            again.extend(password);
        }
        again.push(b'@');
    }
    match uri.host {
        Host::Name(name) => again.extend(name),
        Host::V4(ip) => again.extend(ip.to_string().bytes()),
        Host::V6(ip) => again.extend(format!("[{ip}]").bytes()),
    }
    if let Some(port) = uri.port {
        again.extend(format!(":{port}").bytes());
    }
    again.extend(uri.params);
    if !uri.headers.is_empty() {
        again.push(b'?');
        again.extend(uri.headers);
    }
    let read = Uri::parse(&again).expect("its own parts");
    assert_eq!((read.user, read.password), (uri.user, uri.password));
    assert_eq!((read.host, read.port), (uri.host, uri.port));
    assert_eq!((read.params, read.headers), (uri.params, uri.headers));
}

/// A Via never sends an answer to another host than its source, nor a response to many.
pub fn via(value: &[u8]) {
    let Ok(via) = Via::parse(value) else { return };
    let source: SocketAddr = "192.0.2.9:40000".parse().expect("a literal");
    let reply = reply_address(&via, source);
    assert_eq!(reply.ip(), source.ip());
    assert_ne!(reply.port(), 0);
    if let Some(to) = response_address(&via) {
        assert!(is_one_host(to.ip()) && to.port() != 0);
    }
    for range in [&via.received_range, &via.rport_range]
        .into_iter()
        .flatten()
    {
        assert!(value[range.clone()].starts_with(b";"));
        let without = [&value[..range.start], &value[range.end..]].concat();
        let again = Via::parse(&without).expect("a parameter less");
        assert_eq!(again.branch, via.branch);
    }
}

/// One value in a list is one value to the list's reader, too.
pub fn name_addr(value: &[u8]) {
    let Ok(address) = NameAddr::parse(value) else {
        return;
    };
    assert_eq!(&value[address.uri_range.clone()], address.uri);
    let _ = (address.tag(), Uri::parse(address.uri).is_ok());
    let is_sound = Params::new(address.params).all(|param| param.is_ok());
    if is_sound && top_level_comma(value, 0).is_none() {
        let twice = [value, b",", value].concat();
        assert_eq!(top_level_comma(&twice, 0), Some(value.len()));
    }
}

/// A body names no more codecs than it has octets.
pub fn sdp(body: &[u8]) {
    let mut octets = 0;
    sdp::audio_codecs(body, |name| octets += 1 + name.len());
    let _ = sdp::has_offer(body);
    assert!(octets <= 16 * body.len());
}

/// An answer is a STUN message that repeats the request's transaction, and hardly longer.
pub fn stun(bytes: &[u8]) {
    let v6 = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]);
    for ip in [IpAddr::from([192, 0, 2, 9]), v6] {
        let mut buffer = [0; 4096];
        let mut out = Cursor::new(&mut buffer);
        let source = SocketAddr::new(ip, 4711);
        if callgate::guard::stun::answer(bytes, source, &mut out).is_none() || out.overflowed() {
            continue;
        }
        let answer = out.written();
        assert_eq!(answer[4..20], bytes[4..20], "magic cookie and transaction");
        assert_eq!(
            20 + usize::from(answer[2]) * 256 + usize::from(answer[3]),
            answer.len()
        );
        assert!(answer.len() <= bytes.len() + 64, "{} octets", answer.len());
    }
}
