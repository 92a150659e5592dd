//! What a thread of this process is doing, as the kernel sees it: the cause of a stall in one line.

use std::fs;

/// The kernel's number of the calling thread.
pub fn own_number() -> Option<u32> {
    let link = fs::read_link("/proc/thread-self").ok()?;
    link.file_name()?.to_str()?.parse().ok()
}

/// Whether a thread runs or waits, and for what.
pub fn doing(number: Option<u32>) -> String {
    let Some(number) = number else {
        return "what its thread does is not known".to_owned();
    };
    let read = |file: &str| fs::read_to_string(format!("/proc/self/task/{number}/{file}"));
    let Ok(stat) = read("stat") else {
        return "its thread is gone".to_owned();
    };
    let waits_in = read("wchan").unwrap_or_default();
    format!("its thread {}", describe(&stat, &waits_in))
}

/// The state stands behind the name, which is in parentheses and may contain anything (proc(5)).
fn describe(stat: &str, waits_in: &str) -> String {
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    let place = match waits_in.trim() {
        "" | "0" => String::new(),
        function => format!(" in {function}"),
    };
    match state {
        Some('R') => "runs: it is in a loop, or its CPU is taken by others".to_owned(),
        Some('S') => format!("waits{place}"),
        Some('D') => format!("waits for a device{place}"),
        Some('T' | 't') => "was stopped by a signal or a debugger".to_owned(),
        other => format!("is in state {}", other.unwrap_or('?')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_finds_itself_running() {
        let own = own_number().expect("proc is mounted");
        assert!(doing(Some(own)).contains("runs"), "{}", doing(Some(own)));
        assert_eq!(doing(Some(u32::MAX)), "its thread is gone");
    }

    #[test]
    fn the_state_is_found_behind_a_strange_name() {
        assert_eq!(
            describe("7 (a) R (b) S 1 2", "futex_wait"),
            "waits in futex_wait"
        );
        assert_eq!(describe("7 (a) D 1", "0"), "waits for a device");
        assert_eq!(describe("", ""), "is in state ?");
    }
}
