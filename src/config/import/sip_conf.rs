//! Asterisk's `sip.conf`: peers with an address become trunks.
//!
//! A phone that registers (`host=dynamic`) has no place in a node without a registrar, and what a
//! context does stands in `extensions.conf`: both are told, line by line.

use core::net::{IpAddr, SocketAddr};

use super::Imported;
use super::draft::{Draft, Listener, Trunk, quoted};
use super::lines::{Section, Sections, Setting};
use crate::config::address;

/// Reads a file.
pub(super) fn import(
    file: &str,
    text: &str,
    include: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Imported, String> {
    let mut read = Sections::default();
    read.read(file, text, include, 0);
    if read.sections.is_empty() {
        return Err("no [section] is in it: is it a sip.conf?".to_owned());
    }
    let mut draft = Draft::of(file);
    for (file, line, what, why) in &read.faults {
        draft.leave_in(file, *line, what, why.as_str());
    }
    let mut general = General::default();
    if let Some(section) = read
        .sections
        .iter()
        .find(|section| section.name == "general")
    {
        general.take(section, &mut draft);
    }
    general.write(&mut draft);
    let peers = read.sections.iter().filter(|section| {
        !section.is_template && !matches!(section.name.as_str(), "general" | "authentication")
    });
    let mut contexts = Vec::new();
    for section in peers {
        Peer::of(section, &general).take(section, &mut draft, &mut contexts);
    }
    for section in read
        .sections
        .iter()
        .filter(|section| section.name == "authentication")
    {
        for setting in &section.settings {
            leave(&mut draft, setting, AUTHENTICATION);
        }
    }
    write_contexts(&mut draft, &contexts);
    let count = draft.trunks.len();
    draft
        .remarks
        .push(format!("From the sip.conf {file}: {count} trunks."));
    if count == 0 && draft.listeners.is_empty() {
        let left = draft.finish().left.len();
        return Err(format!(
            "nothing could be carried over: no peer has an address; {left} lines were left behind"
        ));
    }
    Ok(draft.finish())
}

fn leave(draft: &mut Draft, setting: &Setting, why: impl Into<String>) {
    draft.leave_in(&setting.file, setting.line, &setting.shown(), why);
}

/// What `[general]` says for all peers.
#[derive(Clone, Default)]
struct General {
    bind_ip: Option<IpAddr>,
    bind_port: Option<u16>,
    advertise: Option<String>,
    codecs: Codecs,
    qualify: Option<Setting>,
    qualify_s: Option<u32>,
    session_s: Option<u32>,
    asks_for_timers: bool,
    min_se_s: Option<u32>,
    t1_ms: Option<u32>,
}

impl General {
    fn take(&mut self, section: &Section, draft: &mut Draft) {
        for setting in &section.settings {
            if let Err(why) = self.take_one(setting) {
                leave(draft, setting, why);
            }
        }
    }

    fn take_one(&mut self, setting: &Setting) -> Result<(), String> {
        let value = setting.value.as_str();
        match setting.key.as_str() {
            "bindaddr" | "udpbindaddr" => {
                let (ip, port) = match value.parse::<SocketAddr>() {
                    Ok(both) => (both.ip(), Some(both.port())),
                    Err(_) => (address_alone(value)?, None),
                };
                self.bind_ip = Some(ip);
                self.bind_port = port.or(self.bind_port);
            }
            "bindport" => self.bind_port = Some(number(value, 1, 65_535)? as u16),
            "externip" | "externaddr" | "externhost" => {
                address::advertised(value, address::SIP_PORT).map_err(|fault| fault.what)?;
                self.advertise = Some(value.to_owned());
            }
            "allow" | "disallow" => self.codecs.take(&setting.key, value)?,
            "qualify" => self.qualify = Some(setting.clone()),
            "qualifyfreq" => self.qualify_s = Some(number(value, 1, 3_600)?),
            "session-expires" => self.session_s = Some(number(value, 90, 86_400)?),
            "session-timers" => self.asks_for_timers = value == "originate",
            "session-minse" => self.min_se_s = Some(number(value, 90, 86_400)?),
            "t1min" => {}
            "timert1" => self.t1_ms = Some(number(value, 1, 60_000)?),
            "udpenable" if is_yes(value) => {}
            "tcpenable" | "tlsenable" | "websocket_enabled" if !is_yes(value) => {}
            "allowguest" if !is_yes(value) => {}
            "allowguest" => return Err("an unknown source gets 403 and is never forwarded".into()),
            "context" => {
                return Err("callers without a peer get 403; see the contexts of the peers".into());
            }
            "register" => {
                return Err(
                    "there are no registrations yet: a peer must be known by its address".into(),
                );
            }
            key => return Err(why_not(key)),
        }
        Ok(())
    }

    fn write(&self, draft: &mut Draft) {
        let any: IpAddr = IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED);
        draft.listeners.push(Listener {
            udp: SocketAddr::new(
                self.bind_ip.unwrap_or(any),
                self.bind_port.unwrap_or(address::SIP_PORT),
            ),
            advertise: self.advertise.clone(),
        });
        // t2 and t4 follow t1 in no configuration that sets only t1.
        if let Some(ms) = self.t1_ms.filter(|ms| *ms <= 4_000) {
            draft
                .tables
                .push(("timers", vec![format!("t1 = \"{ms}ms\"")]));
        }
        if let Some(s) = self.min_se_s {
            draft
                .tables
                .push(("session", vec![format!("min_se = \"{s}s\"")]));
        }
    }
}

/// One peer while it is read.
struct Peer {
    is_user: bool,
    has_type: bool,
    host: Option<Setting>,
    port: Option<u16>,
    calls_max: Option<u32>,
    busy_at: Option<u32>,
    codecs: Codecs,
    qualify: Option<Setting>,
    qualify_s: Option<u32>,
    session_s: Option<u32>,
    asks_for_timers: bool,
    permits: Vec<String>,
    context: Option<Setting>,
    other_transport: Option<Setting>,
}

impl Peer {
    fn of(section: &Section, general: &General) -> Peer {
        Peer {
            is_user: false,
            has_type: section.settings.iter().any(|setting| setting.key == "type"),
            host: None,
            port: None,
            calls_max: None,
            busy_at: None,
            codecs: general.codecs.clone(),
            qualify: general.qualify.clone(),
            qualify_s: general.qualify_s,
            session_s: general.session_s,
            asks_for_timers: general.asks_for_timers,
            permits: Vec::new(),
            context: None,
            other_transport: None,
        }
    }

    fn take(
        mut self,
        section: &Section,
        draft: &mut Draft,
        contexts: &mut Vec<(Setting, Vec<String>)>,
    ) {
        for setting in &section.settings {
            if let Err(why) = self.take_one(setting) {
                leave(draft, setting, format!("[{}]: {why}", section.name));
            }
        }
        let Some(trunk) = self.trunk(section, draft) else {
            return;
        };
        if let Some(context) = self.context {
            match contexts
                .iter_mut()
                .find(|(other, _)| other.value == context.value)
            {
                Some((_, names)) => names.push(trunk.name.clone()),
                None => contexts.push((context, vec![trunk.name.clone()])),
            }
        }
        draft.trunks.push(trunk);
    }

    fn take_one(&mut self, setting: &Setting) -> Result<(), String> {
        let value = setting.value.as_str();
        match setting.key.as_str() {
            "type" => match value {
                "peer" | "friend" => self.is_user = false,
                "user" => self.is_user = true,
                _ => return Err("the type is peer, friend or user".into()),
            },
            "host" => self.host = Some(setting.clone()),
            "port" => self.port = Some(number(value, 1, 65_535)? as u16),
            "call-limit" | "calllimit" | "incominglimit" => {
                self.calls_max = Some(number(value, 0, 50_000_000)?).filter(|max| *max > 0);
            }
            "busylevel" | "busy-level" => {
                self.busy_at = Some(number(value, 0, 50_000_000)?).filter(|max| *max > 0);
            }
            "allow" | "disallow" => self.codecs.take(&setting.key, value)?,
            "qualify" => self.qualify = Some(setting.clone()),
            "qualifyfreq" => self.qualify_s = Some(number(value, 1, 3_600)?),
            "session-expires" => self.session_s = Some(number(value, 90, 86_400)?),
            "session-timers" => self.asks_for_timers = value == "originate",
            "context" => self.context = Some(setting.clone()),
            "permit" => self.permits.push(block(value)?),
            "deny" if matches!(value, "0.0.0.0/0.0.0.0" | "0.0.0.0/0" | "all" | "::/0") => {}
            "deny" => return Err("whoever is not in `match` is denied already".into()),
            // A source is known by its address, whatever its port, and is asked for no password.
            "insecure" => {}
            "transport" if value.split(',').all(|word| word.trim() == "udp") => {}
            "transport" => self.other_transport = Some(setting.clone()),
            "outboundproxy" => return Err("calls go to the peer's own address".into()),
            "defaultip" => return Err("there is no registrar that it would stand in for".into()),
            key => return Err(why_not(key)),
        }
        Ok(())
    }

    /// The trunk, or a line about why there is none.
    fn trunk(&self, section: &Section, draft: &mut Draft) -> Option<Trunk> {
        let heading = format!("[{}]", section.name);
        if !self.has_type {
            draft.leave(section.line, &heading, "it has no type: no peer");
            return None;
        }
        if let Some(transport) = &self.other_transport {
            let only_other = transport.value.split(',').all(|word| word.trim() != "udp");
            leave(draft, transport, format!("{heading}: only UDP is carried"));
            if only_other {
                return None;
            }
        }
        let mut sources = self.permits.clone();
        let mut addresses = Vec::new();
        match &self.host {
            Some(host) if host.value.eq_ignore_ascii_case("dynamic") => {
                if sources.is_empty() {
                    let why = "it registers, and there is no registrar yet";
                    leave(draft, host, format!("{heading}: {why}"));
                    return None;
                }
                let why = "it registers: calls come from its `permit` blocks, none go to it";
                leave(draft, host, format!("{heading}: {why}"));
            }
            Some(host) => match address::socket(&host.value, address::SIP_PORT) {
                Ok(at) if at.ip().is_unspecified() || at.ip().is_multicast() => {
                    leave(
                        draft,
                        host,
                        format!("{heading}: no address of a single host"),
                    );
                    return None;
                }
                Ok(at) if self.is_user => sources.insert(0, at.ip().to_string()),
                Ok(at) => addresses.push(SocketAddr::new(at.ip(), self.port.unwrap_or(at.port()))),
                Err(fault) => {
                    let hint = fault
                        .hint
                        .map_or_else(String::new, |hint| format!("; {hint}"));
                    leave(draft, host, format!("{heading}: {}{hint}", fault.what));
                    return None;
                }
            },
            None if sources.is_empty() => {
                let why = "it has neither `host` nor `permit`: nothing tells its calls";
                draft.leave(section.line, &heading, why);
                return None;
            }
            None => {}
        }
        let name = draft.free_name(&section.name);
        let keys = self.keys(draft, section.line, &heading, !addresses.is_empty());
        sources.dedup();
        Some(Trunk {
            name,
            remark: format!("line {}", section.line),
            addresses,
            sources,
            keys,
        })
    }

    fn keys(&self, draft: &mut Draft, line: u32, heading: &str, has_address: bool) -> Vec<String> {
        let mut keys = Vec::new();
        keys.extend(self.calls_max.map(|max| format!("calls_max = {max}")));
        // More than all calls together is never reached.
        let busy_at = self
            .busy_at
            .filter(|at| self.calls_max.is_none_or(|max| *at <= max));
        keys.extend(busy_at.map(|at| format!("calls_out_max = {at}")));
        match self.codecs.names() {
            Some([]) => {
                let why = "no codec is left: every call would be refused, so any is allowed";
                draft.leave(line, heading, why);
            }
            Some(names) => {
                let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
                keys.push(format!("codecs = [{}]", names.join(", ")));
            }
            None => {}
        }
        let is_probed = self.qualify.as_ref().is_some_and(|setting| {
            is_yes(&setting.value) || setting.value.parse::<u32>().is_ok_and(|ms| ms > 0)
        });
        if is_probed && has_address {
            let every = self.qualify_s.unwrap_or(60);
            keys.push(format!("probe = \"{every}s\""));
        }
        if self.asks_for_timers {
            let expires = self.session_s.unwrap_or(1_800);
            keys.push(format!("session_expires = \"{expires}s\""));
        }
        keys
    }
}

/// Comments in place of route lines: what a context does is not in this file.
fn write_contexts(draft: &mut Draft, contexts: &[(Setting, Vec<String>)]) {
    for (context, names) in contexts {
        let why = "where its calls go stands in extensions.conf: write a [[route]]";
        leave(draft, context, why);
        let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
        draft.routes.push(format!(
            "[[route]]  from = [{}]  to = \"…\"  context {}",
            names.join(", "),
            context.value
        ));
    }
}

/// `allow` and `disallow` in the order in which they stand; `None` = any.
#[derive(Clone, Default)]
struct Codecs {
    is_limited: bool,
    names: Vec<&'static str>,
}

impl Codecs {
    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
        let mut unknown = Vec::new();
        for word in value
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
        {
            let (bans, word) = match word.strip_prefix('!') {
                Some(word) => (true, word),
                None => (key == "disallow", word),
            };
            // `ulaw:20` asks for a packet time, which is between the two ends.
            let word = word.split(':').next().unwrap_or(word).to_ascii_lowercase();
            match (codec(&word), bans) {
                _ if word == "all" => {
                    self.names.clear();
                    self.is_limited = bans;
                }
                (Some(name), true) => self.names.retain(|other| *other != name),
                (Some(name), false) if self.is_limited && !self.names.contains(&name) => {
                    self.names.push(name);
                }
                (Some(_), false) => {}
                (None, _) => unknown.push(word),
            }
        }
        match unknown.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "{}: no audio codec that is known here",
                unknown.join(", ")
            )),
        }
    }

    /// The codecs that are left; `None` = any.
    fn names(&self) -> Option<&[&'static str]> {
        self.is_limited.then_some(self.names.as_slice())
    }
}

/// Asterisk's name of a codec to that of RFC 3551 and its successors.
fn codec(word: &str) -> Option<&'static str> {
    CODECS
        .iter()
        .find(|(asterisk, _)| *asterisk == word)
        .map(|(_, name)| *name)
}

const CODECS: &[(&str, &str)] = &[
    ("ulaw", "PCMU"),
    ("alaw", "PCMA"),
    ("g722", "G722"),
    ("g729", "G729"),
    ("g729a", "G729"),
    ("g723", "G723"),
    ("g723.1", "G723"),
    ("g726", "G726-32"),
    ("g726aal2", "G726-32"),
    ("g719", "G719"),
    ("gsm", "GSM"),
    ("ilbc", "iLBC"),
    ("speex", "speex"),
    ("speex16", "speex"),
    ("opus", "opus"),
    ("silk", "SILK"),
    ("slin", "L16"),
    ("slin16", "L16"),
    ("adpcm", "DVI4"),
    ("lpc10", "LPC"),
    ("siren7", "G7221"),
    ("siren14", "G7221"),
];

fn is_yes(value: &str) -> bool {
    ["yes", "true", "on", "y", "t", "1"]
        .iter()
        .any(|yes| value.eq_ignore_ascii_case(yes))
}

fn number(value: &str, least: u32, most: u32) -> Result<u32, String> {
    let number = value.parse::<u32>().ok();
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("must be a number from {least} to {most}"))
}

fn address_alone(value: &str) -> Result<IpAddr, String> {
    let bare = value.trim_start_matches('[').trim_end_matches(']');
    bare.parse().map_err(|_| "that is no IP address".to_owned())
}

/// `network`, `network/length` or `network/mask` as a block of ours.
fn block(value: &str) -> Result<String, String> {
    let (network, mask) = value.split_once('/').unwrap_or((value, ""));
    let network = address_alone(network)?;
    let width: u8 = if network.is_ipv4() { 32 } else { 128 };
    let length = match (
        mask,
        mask.parse::<u8>(),
        mask.parse::<core::net::Ipv4Addr>(),
    ) {
        ("", ..) => width,
        (_, Ok(length), _) if length <= width => length,
        (_, _, Ok(mask)) if mask.to_bits().leading_ones() == mask.to_bits().count_ones() => {
            mask.to_bits().count_ones() as u8
        }
        _ => return Err("the mask is none that a block can have".into()),
    };
    let text = format!("{}/{length}", address::masked(network, length));
    Ok(text)
}

/// Why a key means nothing here: by what it is about.
fn why_not(key: &str) -> String {
    let about = |keys: &[&str]| keys.iter().any(|part| key.contains(part));
    if key.starts_with("tcp")
        || key.starts_with("tls")
        || key.starts_with("websocket")
        || key == "encryption"
    {
        "only UDP is carried, without encryption of its own".into()
    } else if about(&[
        "secret",
        "auth",
        "user",
        "realm",
        "callbackextension",
        "regexten",
        "remotesecret",
    ]) {
        AUTHENTICATION.into()
    } else if about(&[
        "regist",
        "expir",
        "defaultexp",
        "rtcache",
        "rtupdate",
        "rtauto",
    ]) {
        "there is no registrar and there are no registrations yet".into()
    } else if about(&[
        "rtp",
        "media",
        "reinvite",
        "nat",
        "dtmf",
        "t38",
        "fax",
        "jb",
        "ice",
        "codec",
        "video",
        "bandwidth",
        "localnet",
        "directrtp",
        "g726",
        "progressinband",
        "silence",
        "avpf",
        "stun",
        "extern",
    ]) {
        "media are between the two ends: SDP passes unchanged".into()
    } else if about(&[
        "mailbox",
        "callerid",
        "fullname",
        "cid_",
        "group",
        "language",
        "moh",
        "music",
        "voicemail",
        "vmext",
        "parking",
        "subscribe",
        "notify",
        "hold",
        "accountcode",
        "amaflags",
        "setvar",
        "tonezone",
        "transfer",
        "trust",
        "rpid",
        "call-forward",
        "callcounter",
        "pickup",
        "hint",
        "blf",
        "presence",
        "event",
        "mwi",
        "description",
        "promisc",
        "useragent",
        "sdp",
    ]) {
        "a matter of the PBX behind the node".into()
    } else if about(&["acl", "deny", "permit"]) {
        "only `permit` blocks of a peer are taken, as `match`".into()
    } else if about(&["domain"]) {
        "write the names of this node into [node] aliases".into()
    } else {
        "no key that is known here".into()
    }
}

const AUTHENTICATION: &str = "the node asks for no password and has none: 401 and 407 pass through";
