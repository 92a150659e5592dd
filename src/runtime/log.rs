//! The node's log: lines on stderr, as text or JSON, with a level that can be changed while it runs.

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::{Log, LogFormat};

/// Changes what is logged.
#[derive(Clone)]
pub struct LevelLever(reload::Handle<EnvFilter, Registry>);

/// Starts the log. `RUST_LOG` goes before the configured level.
pub fn start(wish: &Log) -> LevelLever {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_unset| EnvFilter::new(wish.level.word()));
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines: Box<dyn Layer<_> + Send + Sync> = match wish.format {
        LogFormat::Text => lines.with_ansi(is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let started = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
    if let Err(fault) = started {
        eprintln!("callgate: the log could not be started: {fault}");
    }
    LevelLever(handle)
}

fn is_terminal() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

impl LevelLever {
    /// Sets the level, or says what is wrong with the directive.
    pub fn set(&self, directive: &str) -> Result<(), String> {
        let filter =
            EnvFilter::try_new(directive).map_err(|fault| format!("`{directive}`: {fault}"))?;
        self.0.reload(filter).map_err(|fault| fault.to_string())
    }
}
