//! What a start says about its configuration: where it listens, what it knows, how to try it.

use core::fmt::Write as _;

use super::{Config, DEFAULT_NAME};

/// Lines for a person; for the embedded default also two SIPp commands to paste.
pub fn summary(config: &Config) -> String {
    let mut text = format!("configuration: {}\n", config.source_name);
    for listener in &config.plan.listeners {
        let name = match listener.advertise_host.as_str() {
            "" => "the address towards the first trunk".to_owned(),
            host => format!("{host}:{}", listener.advertise_port),
        };
        line(
            &mut text,
            format_args!("listens on udp {} as {name}", listener.bind),
        );
    }
    if let Some(socket) = &config.control.socket {
        line(
            &mut text,
            format_args!("control socket {}", socket.display()),
        );
    }
    if let Some(http) = config.control.http {
        line(
            &mut text,
            format_args!("http://{http}/metrics /healthz /readyz"),
        );
    }
    trunk_lines(config, &mut text);
    if config.source_name == DEFAULT_NAME {
        text.push_str(TRY_IT);
    }
    text
}

fn line(text: &mut String, arguments: core::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("a String takes any text");
}

/// One line per trunk up to a screenful, then the count.
fn trunk_lines(config: &Config, text: &mut String) {
    let routing = &config.plan.routing;
    for trunk in routing.trunks.iter().take(TRUNKS_SHOWN_MAX) {
        let to: Vec<String> = trunk.addresses.iter().map(ToString::to_string).collect();
        let from: Vec<String> = trunk
            .sources
            .iter()
            .map(|block| format!("{}/{}", block.network, block.prefix_len))
            .collect();
        let mut says = format!("trunk {}", trunk.name);
        if !to.is_empty() {
            says.push_str(&format!(", calls go to {}", to.join(" ")));
        }
        if !from.is_empty() {
            says.push_str(&format!(", calls come from {}", from.join(" ")));
        }
        line(text, format_args!("{says}"));
    }
    let (trunks, groups, routes) = (
        routing.trunks.len(),
        routing.groups.len(),
        routing.routes.len(),
    );
    line(
        text,
        format_args!("{trunks} trunks, {groups} groups, {routes} route lines"),
    );
}

/// Tried SIPp to SIPp with version 3.6.1.
const TRY_IT: &str = "\
try it with SIPp, each in a terminal of its own:
  sipp -sn uas -i 127.0.0.1 -p 5080
  sipp -sn uac 127.0.0.1:5060 -i 127.0.0.1 -p 5070 -s 1234 -r 100 -m 1000
";
const TRUNKS_SHOWN_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_says_where_it_listens_and_how_to_try_it() {
        let text = summary(&super::super::default_config());
        assert!(
            text.contains("listens on udp 127.0.0.1:5060 as 127.0.0.1:5060\n"),
            "{text}"
        );
        assert!(
            text.contains("listens on udp [::1]:5060 as [::1]:5060\n"),
            "{text}"
        );
        assert!(
            text.contains("trunk uas, calls go to 127.0.0.1:5080\n"),
            "{text}"
        );
        assert!(
            text.contains("sipp -sn uas -i 127.0.0.1 -p 5080\n"),
            "{text}"
        );
    }
}
