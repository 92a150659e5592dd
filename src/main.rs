//! The `callgate` program: hands the command line to the library.

use std::process::ExitCode;

use callgate::control::cli::{
    self, CheckArgs, Command, CommandLine, ImportCommand, NodeCommand, Outcome, RunArgs, StateArgs,
    StateCommand,
};
use callgate::runtime::{self, StateOrder};
use clap::Parser;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    carry_out(line.command.unwrap_or(Command::Run(line.run))).into()
}

fn carry_out(command: Command) -> Outcome {
    match command {
        Command::Run(RunArgs { config, takeover }) => runtime::run(config, takeover),
        Command::Check(CheckArgs {
            file: Some(file),
            host: false,
            json,
        }) => runtime::check_file(&file, json),
        Command::Check(CheckArgs { file, json, .. }) => runtime::check_host(file.as_deref(), json),
        Command::State(command) => keep_state(command),
        Command::Import(ImportCommand::Dispatcher {
            file,
            opensips,
            json,
        }) => runtime::import_dispatcher(&file, opensips, json),
        Command::Import(ImportCommand::SipConf { file, json }) => {
            runtime::import_sip_conf(&file, json)
        }
        Command::Completion { shell } => cli::completion(&shell),
        Command::Man { directory } => cli::man(&directory),
        Command::Node(command) => ask_node(command),
    }
}

fn keep_state(command: StateCommand) -> Outcome {
    let (StateArgs { config, json }, order) = match command {
        StateCommand::Show { calls, state } => (state, StateOrder::Show { calls }),
        StateCommand::Repair(state) => (state, StateOrder::Repair),
        StateCommand::Reset(state) => (state, StateOrder::Reset),
    };
    runtime::state_command(&config, order, json)
}

fn ask_node(command: NodeCommand) -> Outcome {
    match runtime::socket_for(command.remote()) {
        Ok(socket) => cli::execute(&socket, &command),
        Err(why) => {
            eprintln!("callgate: {why}");
            Outcome::Refused
        }
    }
}
