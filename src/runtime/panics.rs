//! What a panicking shard said and where: the hook keeps it for the one who catches the panic.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Notes message and place of every panic for its thread, and logs it.
pub fn install_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let message = message_of(panic.payload());
        let place = panic
            .location()
            .map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        let text = format!("panicked at {place}: {message}");
        let thread = std::thread::current();
        tracing::error!(thread = thread.name().unwrap_or("unnamed"), "{text}");
        // Only where RUST_BACKTRACE asks for it: names cost some hundred milliseconds.
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            tracing::error!("{backtrace}");
        }
        LAST.with(|last| *last.borrow_mut() = Some(text));
    }));
}

fn message_of(payload: &dyn std::any::Any) -> &str {
    let literal = payload.downcast_ref::<&str>().copied();
    literal
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// Takes what the last panic of this thread said.
pub fn take_last() -> String {
    LAST.with(|last| last.borrow_mut().take())
        .unwrap_or_else(|| "panicked".to_owned())
}
