//! Reads SIP messages as the simulated peers and the judge see them. Written apart from the
//! product's parser, so that the two cannot share a mistake.

/// One message as text.
#[derive(Clone, Copy)]
pub struct Text<'t> {
    whole: &'t str,
}

impl<'t> Text<'t> {
    pub fn new(whole: &'t str) -> Text<'t> {
        Text { whole }
    }

    pub fn whole(&self) -> &'t str {
        self.whole
    }

    pub fn start_line(&self) -> &'t str {
        self.whole.lines().next().unwrap_or_default()
    }

    /// The code of a response.
    pub fn status(&self) -> Option<u16> {
        let rest = self.whole.strip_prefix("SIP/2.0 ")?;
        rest.get(..3)?.parse().ok()
    }

    /// The method of a request, or the one that a response answers.
    pub fn method(&self) -> &'t str {
        match self.status() {
            Some(_) => self.cseq().map_or("", |(_, method)| method),
            None => self.whole.split(' ').next().unwrap_or_default(),
        }
    }

    pub fn request_uri(&self) -> &'t str {
        self.whole.split(' ').nth(1).unwrap_or_default()
    }

    pub fn values(&self, name: &'static str) -> impl Iterator<Item = &'t str> + use<'t> {
        let short = short_name(name);
        self.whole
            .lines()
            .skip(1)
            .take_while(|line| !line.is_empty())
            .filter_map(move |line| {
                let (is, value) = line.split_once(':')?;
                let is = is.trim_end();
                (is.eq_ignore_ascii_case(name) || is.eq_ignore_ascii_case(short))
                    .then(|| value.trim())
            })
    }

    pub fn value(&self, name: &'static str) -> Option<&'t str> {
        self.values(name).next()
    }

    pub fn call_id(&self) -> &'t str {
        self.value("Call-ID").unwrap_or_default()
    }

    pub fn cseq(&self) -> Option<(u32, &'t str)> {
        let (number, method) = self.value("CSeq")?.split_once(' ')?;
        Some((number.parse().ok()?, method))
    }

    /// The branch of the top Via.
    pub fn branch(&self) -> Option<&'t str> {
        param(self.value("Via")?, "branch")
    }

    pub fn tag_of_from(&self) -> Option<&'t str> {
        param(self.value("From")?, "tag")
    }

    pub fn tag_of_to(&self) -> Option<&'t str> {
        param(self.value("To")?, "tag")
    }

    /// The URI of the first Contact.
    pub fn contact(&self) -> Option<&'t str> {
        self.value("Contact").map(uri_of)
    }
}

/// A parameter behind the URI of a name-addr, or of a Via.
pub fn param<'t>(value: &'t str, name: &str) -> Option<&'t str> {
    let tail = value.rfind('>').map_or(value, |at| &value[at..]);
    tail.split(';').skip(1).find_map(|one| {
        let (is, value) = one.split_once('=')?;
        (is.trim() == name).then(|| value.trim())
    })
}

/// The URI inside `<…>`, or the whole value.
pub fn uri_of(value: &str) -> &str {
    match (value.find('<'), value.find('>')) {
        (Some(open), Some(close)) if open < close => &value[open + 1..close],
        _ => value,
    }
}

/// Host and port of a SIP URI with a literal address.
pub fn address_of(uri: &str) -> Option<std::net::SocketAddr> {
    let rest = uri.strip_prefix("sip:")?;
    let rest = rest.rfind('@').map_or(rest, |at| &rest[at + 1..]);
    let end = rest.find([';', '?']).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

fn short_name(name: &str) -> &'static str {
    match name {
        "Via" => "v",
        "From" => "f",
        "To" => "t",
        "Call-ID" => "i",
        "Contact" => "m",
        _ => "",
    }
}
