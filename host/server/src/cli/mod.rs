//! The command line: its shape here, one module per command below.

mod bake;
mod completions;
mod config;
mod decide;
mod init;
mod inspect;
mod keys;
mod package;
mod policy;
mod predict;
mod serve;
mod settings;
pub(crate) mod time;
mod units;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Failure;
use crate::output;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  it could not be done: a file, a policy, a model or the network stood in the way; or a check or test failed
  2  the command line is wrong
  3  `policy diff --exit-code`: something changes

Answers go to the standard output; notes, progress, logs and errors to the standard error.";

/// Routes requests to model versions and runs them in a WebAssembly core.
#[derive(Parser)]
#[command(name = "lockgate", version, after_help = EXIT_CODES, max_term_width = 110)]
struct Cli {
    /// Print answers and errors as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve routes over HTTP with the Open Inference Protocol v2.
    ///
    /// SIGHUP reads the policy and the packages again; if they cannot be used, what was served before goes on. SIGTERM and SIGINT
    /// end the server once requests in progress are answered; a second one ends it at once.
    Serve(serve::ServeArgs),
    /// Start a project: a policy, two small models and all that a platform wants, ready to run.
    ///
    /// The project builds and runs as it is. No file that exists is changed.
    Init(init::InitArgs),
    /// Make a package from an ONNX model.
    Package(package::PackageArgs),
    /// Show what a package or bundle holds.
    Inspect(inspect::InspectArgs),
    /// Make modules that wake up with a policy and packages in their memory, for Workers, Spin, browsers and hosts.
    ///
    /// Writes `policy.wasm` and `inference.wasm`, their components, and `manifest.json`, which says what they hold. What goes in must
    /// meet the same demands as what `serve` loads; the trust state is read and never written.
    Bake(bake::BakeArgs),
    /// Run a package on rows from a file, in the core.
    Predict(predict::PredictArgs),
    /// Check, test, compare, compile and explain policies.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Make keys, sign what is loaded with them, and check signatures.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Say which version serves a request.
    Decide(decide::DecideArgs),
    /// Show the configuration in force, or the reference of all settings.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print a completion script for a shell.
    Completions(completions::CompletionsArgs),
}

/// Does what the command line says.
pub(crate) fn run() -> ExitCode {
    // Wrong usage ends here with code 2, `--help` and `--version` with 0.
    let Cli { json, command } = Cli::parse();
    let result: Result<(), Failure> = match command {
        Command::Serve(args) => serve::run(&args, json),
        Command::Init(args) => init::run(&args, json),
        Command::Package(args) => package::run(&args, json),
        Command::Inspect(args) => inspect::run(&args, json),
        Command::Bake(args) => bake::run(&args, json),
        Command::Predict(args) => predict::run(&args, json),
        Command::Policy(command) => policy::run(command, json),
        Command::Keys(command) => keys::run(&command, json),
        Command::Decide(args) => decide::run(&args, json),
        Command::Config(command) => config::run(&command, json),
        Command::Completions(args) => completions::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output::fail(&failure, json),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
