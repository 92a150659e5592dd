//! What is generated from the command line's own description: completion scripts and man pages.

use std::io::{self, Write as _};
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use super::{CommandLine, Outcome};

/// Writes a completion script to stdout; the names of trunks and groups come from the node.
pub fn completion(shell: &str) -> Outcome {
    let (kind, names) = match shell {
        "bash" => (Shell::Bash, BASH_NAMES),
        "zsh" => (Shell::Zsh, ZSH_NAMES),
        _ => (Shell::Fish, FISH_NAMES),
    };
    let mut script = Vec::new();
    generate(kind, &mut CommandLine::command(), "callgate", &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if kind == Shell::Zsh {
        // The words after which a trunk is named.
        script = script
            .replace(":NAME:_default", ":NAME:_callgate_trunks")
            .replace("[trunk.NAME]:_default", "[trunk.NAME]:_callgate_trunks");
        let end = "if [ \"$funcstack[1]\" = \"_callgate\" ]";
        script = script.replace(end, &format!("{names}\n{end}"));
    } else {
        script.push_str(names);
    }
    let written = io::stdout().lock().write_all(script.as_bytes());
    written.map_or_else(|fault| output_lost(&fault), |()| Outcome::Done)
}

/// Writes a man page for each command into a directory.
pub fn man(directory: &Path) -> Outcome {
    let mut command = CommandLine::command().disable_help_subcommand(true);
    command.build();
    match clap_mangen::generate_to(command, directory) {
        Ok(()) => Outcome::Done,
        Err(fault) => {
            eprintln!(
                "callgate: man pages not written to {}: {fault}",
                directory.display()
            );
            Outcome::Refused
        }
    }
}

fn output_lost(fault: &io::Error) -> Outcome {
    if fault.kind() == io::ErrorKind::BrokenPipe {
        return Outcome::Done;
    }
    eprintln!("callgate: output not written: {fault}");
    Outcome::Refused
}

const BASH_NAMES: &str = r#"
_callgate_or_names() {
    local kind=
    case "${COMP_WORDS[COMP_CWORD-2]} ${COMP_WORDS[COMP_CWORD-1]}" in
        *" --trunk" | "trunk show" | "trunk probe" | "trunk drain" | "trunk enable" | "trunk disable" | "qualify peer") kind=trunks ;;
    esac
    if [ -n "$kind" ]; then
        COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" names "$kind" 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}"))
    else
        _callgate "$@"
    fi
}
complete -F _callgate_or_names -o bashdefault -o default callgate
"#;

const ZSH_NAMES: &str = r#"_callgate_trunks() {
    local -a names
    names=(${(f)"$(_call_program trunks callgate names trunks 2>/dev/null)"})
    _describe -t trunks 'trunk' names
}
"#;

const FISH_NAMES: &str = r#"
complete -c callgate -n "__fish_seen_subcommand_from trunk; and __fish_seen_subcommand_from show probe drain enable disable" -f -a "(callgate names trunks 2>/dev/null)"
complete -c callgate -n "__fish_seen_subcommand_from calls" -l trunk -x -a "(callgate names trunks 2>/dev/null)"
complete -c callgate -n "__fish_seen_subcommand_from sip; and __fish_seen_subcommand_from peer" -f -a "(callgate names trunks 2>/dev/null)"
"#;
