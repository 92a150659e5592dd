//! `callgate state`: looks at the state directory of a configuration and mends it, without a node.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::files::{self, Layout, Survey};
use super::{StateDir, key_of};
use crate::base::hash::HashKey;
use crate::config::{self, InOrder};
use crate::control::cli::Outcome;
use crate::dialog::Part;
use crate::dialog::store::{HeadFault, Record};

/// What to do with a state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Show { calls: bool },
    Repair,
    Reset,
}

/// Carries an order out on the state directory of a configuration file, and prints what came of it.
pub fn carry_out(file: &Path, order: Order, json: bool) -> Outcome {
    let done = state_dir_of(file).and_then(|path| match order {
        Order::Show { calls } => show(&path, calls, json),
        Order::Repair => repair(&path, json),
        Order::Reset => reset(&path, json),
    });
    match done {
        Ok(outcome) => outcome,
        Err(why) => {
            why.lines().for_each(|line| eprintln!("callgate: {line}"));
            Outcome::Refused
        }
    }
}

fn state_dir_of(file: &Path) -> Result<PathBuf, String> {
    let config = config::load_file(file, &mut InOrder::default()).map_err(|why| why.to_string())?;
    let none = || format!("{}: [node] has no `state_dir`", file.display());
    config.node.state_dir.ok_or_else(none)
}

/// Answer to `state show`.
#[derive(Debug, Serialize)]
struct Shown {
    state_dir: String,
    /// Where nothing was ever written: `null`.
    set: Option<u64>,
    calls: usize,
    /// Calls that are being set up.
    setups: usize,
    earlier: usize,
    unfinished: usize,
    damaged: usize,
    files: Vec<FileRow>,
    set_aside: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<Vec<CallRow>>,
}

/// One file of the set.
#[derive(Debug, Serialize)]
struct FileRow {
    file: String,
    /// `null` = its front is damaged.
    version: Option<u32>,
    positions: Option<u32>,
    missing_octets: usize,
    calls: usize,
    setups: usize,
    earlier: usize,
    unfinished: usize,
    damaged: usize,
}

/// One call as it is recorded.
#[derive(Debug, Serialize)]
struct CallRow {
    call_id: String,
    trunk_in: String,
    trunk_out: String,
    caller: String,
    callee: Option<String>,
    answered_unix_s: u64,
    session_due_unix_s: Option<u64>,
    ending: bool,
}

fn show(path: &Path, with_calls: bool, json: bool) -> Result<Outcome, String> {
    let fault = |why| format!("`state_dir` {}: {why}", path.display());
    let newest = files::all(path).map_err(fault)?.pop();
    let key = read_key(path);
    let survey = match &newest {
        Some(epoch) => Survey::of(epoch, &key).map_err(fault)?,
        None => Survey::default(),
    };
    let tally = survey.tally();
    let shown = Shown {
        state_dir: path.display().to_string(),
        set: newest.as_ref().map(|epoch| epoch.number),
        calls: tally.calls,
        setups: tally.setups,
        earlier: tally.earlier,
        unfinished: tally.unfinished,
        damaged: tally.damaged,
        files: survey.files.iter().map(file_row).collect(),
        set_aside: set_aside(path),
        rows: with_calls.then(|| survey.calls(&key).map(|record| call_row(&record)).collect()),
    };
    match json {
        true => println!("{}", as_json(&shown)?),
        false => print!("{}", text_of(&shown, &survey)),
    }
    Ok(match survey.is_whole() {
        true => Outcome::Done,
        false => Outcome::Refused,
    })
}

fn text_of(shown: &Shown, survey: &Survey) -> String {
    let mut text = match shown.set {
        Some(set) => format!(
            "{}: set {set}, {} calls, {} being set up\n",
            shown.state_dir, shown.calls, shown.setups
        ),
        None => format!("{}: nothing was ever recorded\n", shown.state_dir),
    };
    for file in &shown.files {
        let name = Path::new(&file.file).file_name().unwrap_or_default();
        text.push_str(&format!(
            "  {}: {} calls in {} positions\n",
            name.to_string_lossy(),
            file.calls,
            file.positions
                .map_or_else(|| "?".to_owned(), |count| count.to_string())
        ));
    }
    for (is_bad, line) in survey.lines(Some(&files::Epoch::new(Path::new(""), 0))) {
        let mark = if is_bad { "fault: " } else { "" };
        text.push_str(&format!("  {mark}{line}\n"));
    }
    for path in &shown.set_aside {
        text.push_str(&format!("  set aside: {path}\n"));
    }
    for row in shown.rows.iter().flatten() {
        text.push_str(&format!(
            "  {} {} -> {}{}\n",
            row.call_id,
            row.trunk_in,
            row.trunk_out,
            if row.ending { " (ending)" } else { "" }
        ));
    }
    text
}

fn file_row(file: &files::FileFound) -> FileRow {
    FileRow {
        file: file.path.display().to_string(),
        version: match file.head {
            Ok(_) => Some(crate::dialog::store::VERSION),
            Err(HeadFault::Version(version)) => Some(version),
            Err(HeadFault::Damaged) => None,
        },
        positions: file.head.ok().map(|head| head.positions),
        missing_octets: file.missing,
        calls: file.tally.calls,
        setups: file.tally.setups,
        earlier: file.tally.earlier,
        unfinished: file.tally.unfinished,
        damaged: file.tally.damaged,
    }
}

fn call_row(record: &Record<'_>) -> CallRow {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    CallRow {
        call_id: text(record.word(Part::CallId)),
        trunk_in: text(record.trunk_in),
        trunk_out: text(record.trunk_out),
        caller: record.caller.remote.to_string(),
        callee: record.callee.map(|callee| callee.remote.to_string()),
        answered_unix_s: record.answered_us / 1_000_000,
        session_due_unix_s: record.session_due_us.map(|due_us| due_us / 1_000_000),
        ending: record.ending,
    }
}

/// Answer to `state repair` and `state reset`.
#[derive(Debug, Serialize)]
struct Done {
    /// Calls that are there afterwards.
    calls: usize,
    lines: Vec<String>,
}

fn repair(path: &Path, json: bool) -> Result<Outcome, String> {
    let directory = StateDir::open(path)?;
    let key = directory.key()?;
    let fault = |why| format!("`state_dir` {}: {why}", path.display());
    let Some(epoch) = files::newest(path).map_err(fault)? else {
        return tell(json, 0, vec!["nothing was ever recorded".to_owned()]);
    };
    let survey = Survey::of(&epoch, &key).map_err(fault)?;
    let heads = survey.files.iter().filter_map(|file| file.head.ok());
    let layout = Layout {
        shards: survey.files.len().max(1),
        dialogs_each: heads.map(|head| head.positions as usize).max().unwrap_or(0),
    };
    drop(survey);
    let prepared = directory.prepare(&key, layout)?;
    let lines = prepared.lines.into_iter().map(|(_, line)| line);
    tell(json, prepared.calls, lines.collect())
}

fn reset(path: &Path, json: bool) -> Result<Outcome, String> {
    let _held = StateDir::open(path)?;
    let fault = |why| format!("`state_dir` {}: {why}", path.display());
    let mut lines = Vec::new();
    let sets = files::all(path).map_err(fault)?;
    let sets = sets
        .into_iter()
        .map(|epoch| epoch.path.display().to_string());
    for set in sets.chain(set_aside(path)) {
        fs::remove_dir_all(&set).map_err(fault)?;
        lines.push(format!("removed {set}"));
    }
    tell(json, 0, lines)
}

fn tell(json: bool, calls: usize, lines: Vec<String>) -> Result<Outcome, String> {
    let done = Done { calls, lines };
    if json {
        println!("{}", as_json(&done)?);
    } else {
        done.lines.iter().for_each(|line| println!("{line}"));
        println!("{calls} calls are recorded");
    }
    Ok(Outcome::Done)
}

fn as_json(answer: &impl Serialize) -> Result<String, String> {
    serde_json::to_string(answer).map_err(|why| why.to_string())
}

fn set_aside(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut found: Vec<String> = entries
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with("set-aside-")
        })
        .map(|entry| entry.path().display().to_string())
        .collect();
    found.sort();
    found
}

/// The key without a lock and without making one: a node may be at work.
fn read_key(path: &Path) -> HashKey {
    let text = fs::read_to_string(path.join("secret")).unwrap_or_default();
    key_of(&text).unwrap_or(HashKey::new([0, 0]))
}
