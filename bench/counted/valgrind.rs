//! Counts instructions with valgrind: a program runs itself again under callgrind and says there
//! between which two points it wants them counted.
//!
//! What lies outside costs a fifth of what it would if it were counted too, so a run can prepare
//! a hundred thousand calls first.

use std::arch::asm;
use std::env;
use std::process::Command;

/// From here on [`counted`] counts. Only under valgrind; anywhere else it is just done.
pub fn begin() {
    request(START_INSTRUMENTATION);
}

/// Counts what `work` does.
pub fn counted<R>(work: impl FnOnce() -> R) -> R {
    request(TOGGLE_COLLECT);
    let done = work();
    request(TOGGLE_COLLECT);
    done
}

/// Runs this program again with `arguments` under callgrind, and gives what it counted.
/// `CALLGRIND_OUT=FILE` keeps the profile.
pub fn count_self(arguments: &[String]) -> Result<u64, String> {
    let program = env::current_exe().map_err(|fault| fault.to_string())?;
    let out_file = env::var("CALLGRIND_OUT").unwrap_or_else(|_| "/dev/null".to_owned());
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--instr-atstart=no",
            "--collect-atstart=no",
        ])
        .arg(format!("--callgrind-out-file={out_file}"))
        .arg(program)
        .args(arguments)
        .output()
        .map_err(|fault| format!("valgrind: {fault}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines()
        .find_map(|line| line.split_once("Collected : "))
        .and_then(|(_, number)| number.trim().parse().ok())
        .ok_or_else(|| format!("valgrind said:\n{text}"))
}

// Of valgrind's header callgrind.h: the tool's letters above, the number of the request below.
const TOOL: u64 = (b'C' as u64) << 24 | (b'T' as u64) << 16;
const TOGGLE_COLLECT: u64 = TOOL + 2;
const START_INSTRUMENTATION: u64 = TOOL + 4;

/// Asks valgrind for something; a processor that runs this by itself does nothing at all.
fn request(number: u64) {
    let arguments: [u64; 6] = [number, 0, 0, 0, 0, 0];
    // SAFETY: four rotations by 128 bits together and an exchange of a register with itself
    // change nothing. Valgrind knows the sequence, reads `arguments` and writes to rdx.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            in("rax") arguments.as_ptr(),
            inout("rdx") 0u64 => _,
            in("rdi") 0u64,
        );
    }
    // SAFETY: the same with rotations of a scratch register.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "ror x12, x12, #3", "ror x12, x12, #13", "ror x12, x12, #51", "ror x12, x12, #61",
            "orr x10, x10, x10",
            in("x4") arguments.as_ptr(),
            inout("x3") 0u64 => _,
            inout("x12") 0u64 => _,
        );
    }
}
