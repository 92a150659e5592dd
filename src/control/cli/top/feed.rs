//! What the screen shows, asked of the node by a thread of its own.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::client::{Client, Failure};
use super::super::{trunk, why};
use crate::control::answers::{CallRow, CallsPage, Cursor, Status, TrunkRow};

/// Live calls that one look brings; the filter of a trunk narrows them at the node.
pub const CALLS_MAX: usize = 2000;

/// What is wanted besides the overview.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only calls over this trunk.
    pub trunk: Option<String>,
    pub detail: Detail,
}

/// What is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    #[default]
    Nothing,
    /// A call by its Call-ID.
    Call(String),
    /// A trunk by its name.
    Trunk(String),
}

/// One look at the node.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub status: Status,
    pub trunks: Vec<TrunkRow>,
    pub calls: Vec<CallRow>,
    /// Shards whose calls are missing, or more calls than [`CALLS_MAX`].
    pub calls_cut: bool,
    pub wanted: Wanted,
    /// What was opened, as text.
    pub detail: Option<String>,
}

impl Snapshot {
    /// For scripts.
    pub fn json(&self) -> Value {
        json!({ "status": self.status, "trunks": self.trunks, "calls": self.calls, "calls_cut": self.calls_cut })
    }
}

/// A look, or why there is none.
pub type News = Result<Snapshot, String>;

/// The thread that asks.
pub struct Feed {
    wants: Sender<Wanted>,
    pub news: Receiver<News>,
}

impl Feed {
    /// Starts to look every `interval`.
    pub fn start(socket: PathBuf, interval: Duration) -> io::Result<Feed> {
        let (wants, wanted) = unbounded();
        // Of what nobody has looked at yet, one look is enough.
        let (tell, news) = bounded(1);
        std::thread::Builder::new()
            .name("feed".into())
            .spawn(move || look(&socket, interval, &wanted, &tell))?;
        Ok(Feed { wants, news })
    }

    /// Asks for something else, at once.
    pub fn want(&self, wanted: Wanted) {
        // A thread that has ended is told by `news`.
        let _sent = self.wants.send(wanted);
    }
}

fn look(socket: &Path, interval: Duration, wants: &Receiver<Wanted>, tell: &Sender<News>) {
    let mut wanted = Wanted::default();
    loop {
        match wants.recv_timeout(interval) {
            Ok(latest) => wanted = wants.try_iter().last().unwrap_or(latest),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // A connection of its own for each look: one that is kept would keep a worker of the node busy.
        let looked = Client::connect(socket).and_then(|mut client| fetch(&mut client, &wanted));
        let news = looked.map_err(|failure| failure.to_string());
        if tell.send(news).is_err() {
            return;
        }
    }
}

/// Looks once.
pub fn fetch(client: &mut Client, wanted: &Wanted) -> Result<Snapshot, Failure> {
    let status = client.ask("status", &json!({}))?;
    let trunks = client.ask("trunk.list", &json!({}))?;
    let (calls, calls_cut) = calls(client, wanted.trunk.as_deref())?;
    let detail = match &wanted.detail {
        Detail::Nothing => None,
        Detail::Call(call_id) => {
            let params = json!({ "call_id": call_id });
            Some(opened(client, "why", &params, why::why)?)
        }
        Detail::Trunk(name) => {
            let params = json!({ "name": name });
            Some(opened(client, "trunk.show", &params, trunk::trunk)?)
        }
    };
    Ok(Snapshot {
        status,
        trunks,
        calls,
        calls_cut,
        wanted: wanted.clone(),
        detail,
    })
}

/// The text of what was opened; what the node refuses to say is a text as well.
fn opened<T: DeserializeOwned>(
    client: &mut Client,
    method: &str,
    params: &Value,
    text: impl FnOnce(&T) -> String,
) -> Result<String, Failure> {
    match client.ask(method, params) {
        Ok(answer) => Ok(text(&answer)),
        Err(Failure::Refused(fault)) => Ok(fault.message),
        Err(failure) => Err(failure),
    }
}

fn calls(client: &mut Client, trunk: Option<&str>) -> Result<(Vec<CallRow>, bool), Failure> {
    let (mut rows, mut is_cut) = (Vec::new(), false);
    let mut cursor = Some(Cursor::default());
    while let Some(at) = cursor {
        let params = json!({ "cursor": at, "trunk": trunk });
        let page: CallsPage = match client.ask("calls", &params) {
            // A trunk that a reload took away has no calls of its name.
            Err(Failure::Refused(_)) => break,
            page => page?,
        };
        is_cut |= page.missing.is_some();
        rows.extend(page.rows);
        cursor = page.next;
        if rows.len() >= CALLS_MAX {
            is_cut |= rows.len() > CALLS_MAX || cursor.is_some();
            rows.truncate(CALLS_MAX);
            break;
        }
    }
    Ok((rows, is_cut))
}
