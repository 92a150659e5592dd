//! The configurations of a simulated node: trunks, groups, limits and routes thrown from the seed,
//! and the variants that its operators reload.

use std::fmt::Write as _;
use std::net::SocketAddr;

use callgate::config::{InOrder, load};
use callgate::limit::{Cps, Limits, Maxima, SlotId};
use callgate::route::LimitMaxima;
use callgate::shard::NodePlan;

use crate::dice::Dice;

/// Where the gate listens: one address of each family.
pub const GATES: [&str; 2] = ["192.0.2.1:5060", "[2001:db8::1]:5060"];

/// Trunks by name with their addresses.
pub const TRUNKS: [(&str, &[&str]); 5] = [
    ("carrier", &["198.51.100.10:5060"]),
    ("six", &["[2001:db8:1::10]:5060"]),
    ("pbx1", &["203.0.113.1:5060", "203.0.113.2:5060"]),
    ("pbx2", &["203.0.113.3:5060"]),
    ("pbx3", &["203.0.113.4:5060"]),
];

/// First digit of what is dialled, and the trunks that may then be called.
pub const DIALLED: [(&str, &[usize]); 7] = [
    ("1", &[2]),
    ("2", &[3]),
    ("3", &[2, 3, 4]),
    ("4", &[1]),
    ("5", &[0]),
    ("8", &[]),
    ("9", &[]),
];

/// The configurations of one node.
pub struct Plans {
    /// The one it starts with comes first.
    pub variants: Vec<NodePlan>,
    /// The last one: as the first, but without probes, so that a node without calls falls silent.
    pub silent: NodePlan,
}

impl Plans {
    pub fn throw(dice: &mut Dice) -> Plans {
        let mut names = InOrder::default();
        let thrown = Knobs::throw(dice);
        let mut build = |knobs: &Knobs, without: Option<&str>| {
            let text = knobs.text(without);
            match load(&text, "simulated.toml", &mut names) {
                Ok(config) => config.plan,
                Err(report) => panic!("{report}\n{text}"),
            }
        };
        let first = build(&thrown, None);
        let mut variants = vec![first];
        for _ in 0..2 {
            let without = dice.chance(300).then_some("pbx3");
            variants.push(build(&Knobs::throw(dice), without));
        }
        let silent = build(
            &Knobs {
                probe: None,
                ..thrown
            },
            None,
        );
        Plans { variants, silent }
    }
}

/// What differs between two configurations.
struct Knobs {
    policy: &'static str,
    calls_max: [Option<u32>; 5],
    calls_in_max: Option<u32>,
    calls_out_max: Option<u32>,
    farm_max: Option<u32>,
    cps: Option<(u32, u32)>,
    probe: Option<&'static str>,
    auto_congest: Option<&'static str>,
    session_expires: Option<&'static str>,
    call_time_max: &'static str,
    codecs: bool,
}

impl Knobs {
    fn throw(dice: &mut Dice) -> Knobs {
        let tight = dice.chance(500);
        let mut max =
            |permille: u32| (tight && dice.chance(permille)).then(|| 1 + dice.below(6) as u32);
        Knobs {
            calls_max: [max(300), max(300), max(500), max(500), max(500)],
            calls_in_max: max(300),
            calls_out_max: max(300),
            farm_max: max(500),
            policy: dice.pick(&[
                "priority",
                "round-robin",
                "weighted",
                "least-calls",
                "call-id-hash",
            ]),
            cps: dice.chance(200).then(|| (1, 1 + dice.below(3) as u32)),
            probe: dice.pick(&[None, Some("10s"), Some("60s")]),
            auto_congest: dice.pick(&[None, Some("2s"), Some("10s")]),
            session_expires: dice.pick(&[None, Some("2m"), Some("10m")]),
            call_time_max: dice.pick(&["3m", "30m"]),
            codecs: dice.chance(300),
        }
    }

    fn text(&self, without: Option<&str>) -> String {
        let mut text = String::from("[node]\nname = \"gate\"\n");
        for gate in GATES {
            let _ = writeln!(text, "[[listen]]\nudp = \"{gate}\"");
        }
        for (at, (name, addresses)) in TRUNKS.iter().enumerate() {
            if Some(*name) != without {
                self.put_trunk(&mut text, at, name, addresses);
            }
        }
        let _ = writeln!(text, "[group.farm]\npolicy = \"{}\"", self.policy);
        let members: Vec<String> = ["pbx1", "pbx2", "pbx3"]
            .iter()
            .filter(|name| Some(**name) != without)
            .map(|name| format!("\"{name}\""))
            .collect();
        let _ = writeln!(text, "members = [{}]", members.join(", "));
        put(&mut text, "calls_max", self.farm_max);
        for (digit, to) in [
            ("1", "pbx1"),
            ("2", "pbx2"),
            ("3", "farm"),
            ("4", "six"),
            ("5", "carrier"),
        ] {
            let _ = writeln!(text, "[[route]]\nuser = \"^{digit}\"\nto = \"{to}\"");
        }
        text += "[[route]]\nuser = \"^8\"\nto = \"reject 404\"\n";
        text += "[[route]]\nuser = \"^9\"\nto = \"redirect sip:203.0.113.99\"\n";
        text
    }

    fn put_trunk(&self, text: &mut String, at: usize, name: &str, addresses: &[&str]) {
        let quoted: Vec<String> = addresses.iter().map(|one| format!("\"{one}\"")).collect();
        let _ = writeln!(text, "[trunk.{name}]\naddress = [{}]", quoted.join(", "));
        let _ = writeln!(text, "call_time_max = \"{}\"", self.call_time_max);
        put(text, "calls_max", self.calls_max[at]);
        if at == 0 {
            put(text, "calls_in_max", self.calls_in_max);
            if let Some((sustain, burst)) = self.cps {
                let _ = writeln!(text, "cps = {{ sustain = {sustain}, burst = {burst} }}");
            }
        }
        if at == 3 {
            put(text, "calls_out_max", self.calls_out_max);
            if let Some(span) = self.session_expires {
                let _ = writeln!(text, "session_expires = \"{span}\"");
            }
            if self.codecs {
                text.push_str("codecs = [\"PCMA\", \"PCMU\"]\n");
            }
        }
        if let Some(span) = self.auto_congest {
            let _ = writeln!(text, "auto_congest = \"{span}\"");
        }
        if let Some(span) = self.probe.filter(|_| at >= 2) {
            let _ = writeln!(text, "probe = \"{span}\"");
        }
    }
}

fn put(text: &mut String, key: &str, value: Option<u32>) {
    if let Some(value) = value {
        let _ = writeln!(text, "{key} = {value}");
    }
}

/// Sets the maxima of a plan.
pub fn set_limits(limits: &Limits, plan: &NodePlan) {
    for trunk in &plan.routing.trunks {
        limits.set(SlotId(trunk.slot), &maxima(&trunk.limits));
    }
    for group in &plan.routing.groups {
        limits.set(SlotId(group.slot), &maxima(&group.limits));
    }
}

fn maxima(limits: &LimitMaxima) -> Maxima {
    Maxima {
        calls_max: limits.calls_max,
        calls_in_max: limits.calls_in_max,
        calls_out_max: limits.calls_out_max,
        cps: limits.cps.map(|cps| Cps {
            sustain: cps.sustain,
            burst: cps.burst,
        }),
    }
}

/// All addresses of all trunks.
pub fn trunk_addresses() -> Vec<SocketAddr> {
    let all = TRUNKS.iter().flat_map(|(_, addresses)| *addresses);
    all.map(|one| one.parse().expect("a literal address"))
        .collect()
}

/// The addresses that a call to `user` may be sent to.
pub fn allowed(user: &str) -> Vec<SocketAddr> {
    let row = DIALLED.iter().find(|(digit, _)| user.starts_with(digit));
    let trunks = row.map_or(&[][..], |(_, trunks)| *trunks);
    let addresses = trunks.iter().flat_map(|at| TRUNKS[*at].1);
    addresses
        .map(|one| one.parse().expect("a literal address"))
        .collect()
}
