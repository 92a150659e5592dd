//! Reads a `.flow` file.

/// A whole flow.
#[derive(Debug, Default)]
pub struct Ladder {
    pub name: String,
    /// Elements from left to right, without what stands behind a proxy.
    pub path: Vec<String>,
    /// Elements of the test that act as a proxy for a phone behind them.
    pub proxies: Vec<String>,
    pub agents: Vec<String>,
    /// Lines of `[timers]`; empty means the RFC's.
    pub timers: String,
    pub routes: Vec<String>,
    pub config: Vec<String>,
    pub steps: Vec<Step>,
}

/// One arrow.
#[derive(Debug, Default)]
pub struct Step {
    pub line: usize,
    pub from: String,
    pub to: String,
    /// A method, or a status.
    pub kind: String,
    /// The method that a status answers, where it is said.
    pub method: Option<String>,
    pub with: Vec<String>,
    pub uri: Option<String>,
    pub has_sdp: bool,
    pub has: Vec<(String, String)>,
    pub is_again: bool,
}

impl Ladder {
    pub fn read(name: &str, text: &str) -> Ladder {
        let mut ladder = Ladder {
            name: name.to_owned(),
            ..Ladder::default()
        };
        for (at, line) in text.lines().enumerate() {
            let is_detail = line.starts_with(' ');
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let place = format!("{name}.flow:{}", at + 1);
            if is_detail {
                let step = ladder
                    .steps
                    .last_mut()
                    .unwrap_or_else(|| unreadable(&place, line));
                step.read_detail(line)
                    .unwrap_or_else(|| unreadable(&place, line));
            } else if let Some((from, rest)) = line.split_once("->") {
                let step = Step::read(at + 1, from.trim(), rest)
                    .unwrap_or_else(|| unreadable(&place, line));
                ladder.steps.push(step);
            } else {
                ladder
                    .read_setting(line)
                    .unwrap_or_else(|| unreadable(&place, line));
            }
        }
        ladder
    }

    fn read_setting(&mut self, line: &str) -> Option<()> {
        let (word, rest) = line.split_once(' ')?;
        match word {
            "path" => rest
                .split_whitespace()
                .for_each(|name| self.add_element(name)),
            "agent" => self.agents.push(rest.trim().to_owned()),
            "timers" => self.timers = rest.replace(" ; ", "\n"),
            "route" => self.routes.push(rest.to_owned()),
            "config" => self.config.push(rest.to_owned()),
            _ => return None,
        }
        Some(())
    }

    fn add_element(&mut self, name: &str) {
        let own = name.split('(').next().unwrap_or(name).to_owned();
        if own != name {
            self.proxies.push(own.clone());
        }
        if !is_gate(&own) {
            self.agents.push(own.clone());
        }
        self.path.push(own);
    }
}

impl Step {
    fn read(line: usize, from: &str, rest: &str) -> Option<Step> {
        let mut words = rest.split_whitespace();
        Some(Step {
            line,
            from: from.to_owned(),
            to: words.next()?.to_owned(),
            kind: words.next()?.to_owned(),
            method: words.next().map(str::to_owned),
            ..Step::default()
        })
    }

    fn read_detail(&mut self, line: &str) -> Option<()> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "with" => self.with.push(rest.to_owned()),
            "to" => self.uri = Some(rest.to_owned()),
            "sdp" => self.has_sdp = true,
            "again" => self.is_again = true,
            "has" => {
                let (name, text) = rest.split_once(':')?;
                self.has.push((name.to_owned(), text.trim().to_owned()));
            }
            _ => return None,
        }
        Some(())
    }
}

fn unreadable(place: &str, line: &str) -> ! {
    panic!("{place}: cannot read {line}")
}

/// Whether this element is a node under test.
pub fn is_gate(name: &str) -> bool {
    name.starts_with("gate")
}
