//! The `tercet` command line: results on stdout, logs and progress on stderr, exit codes as documented in the README.

mod args;
mod bench;
mod cluster;
mod connect;
mod demo;
mod dev;
mod exit;
mod format;
mod interrupt;
mod log;
mod member;
mod node;
mod output;
mod pace;
mod processes;
mod publish;
mod status;
mod subscribe;
mod transfer;

use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command, LogCommand};

fn main() -> ExitCode {
    let code = run();
    output::last_words();
    code
}

fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return exit::refuse_arguments(&error),
    };
    let ended =
        output::init_logging().map_err(exit::Failure::usage).and_then(|()| carry_out(arguments.command));
    ended.unwrap_or_else(|failure| {
        output::note(format_args!("tercet: {}", failure.line));
        ExitCode::from(failure.code)
    })
}

fn carry_out(command: Command) -> exit::Outcome {
    match command {
        Command::Demo(options) => demo::run(&options),
        Command::Dev(options) => dev::run(&options),
        Command::Format(options) => format::run(&options),
        Command::Node(options) => node::run(&options),
        Command::Publish(options) => publish::run(&options),
        Command::Subscribe(options) => subscribe::run(&options),
        Command::Status(options) => status::run(&options),
        Command::Transfer(options) => transfer::run(&options),
        Command::Member { command } => member::run(&command),
        Command::Bench(options) => bench::run(&options),
        Command::Log { command: LogCommand::Verify(options) } => log::verify(&options),
        Command::Log { command: LogCommand::Dump(options) } => log::dump(&options),
    }
}
