//! `cargo xtask`: builds, tests, demonstrates and measures Lockgate.
//!
//! Each command sets up what it needs and says what it is doing. Nothing here is needed to build the native crates.
#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a command line program talks to its user")]

mod archive;
mod bench;
mod component;
mod conformance;
mod core;
mod demo;
mod dist;
mod js;
mod lint;
mod program;
mod setup;
mod shells;
mod spin;
mod test;
mod worker;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, tests, demonstrates and measures Lockgate")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures the core side by side with its peers and writes docs/benchmarks.md
    Bench {
        /// A few short turns, to see that everything runs; writes to target/bench only
        #[arg(long)]
        quick: bool,
        /// Measures the Cloudflare Worker in workerd instead, and rewrites its section of the page alone
        #[arg(long)]
        edge: bool,
    },
    /// Builds the core modules and components into target/core
    Build,
    /// Compares what the runners of the last test run left behind, and docs/conformance.md with it
    Conformance {
        /// Writes the page
        #[arg(long)]
        write: bool,
    },
    /// Puts the release together in target/dist, with a manifest of identities and checksums, and checks it
    Dist {
        /// The program as tests use it, to see that everything is there; not for a release
        #[arg(long)]
        quick: bool,
        /// Builds nothing: checks this folder against its manifest
        #[arg(long, value_name = "FOLDER")]
        verify: Option<std::path::PathBuf>,
    },
    /// Serves real models on real prices under a real policy, asks through HTTP and prints what happened
    Demo {
        /// Ends after the report instead of serving on
        #[arg(long)]
        once: bool,
        /// The address to serve on; default 127.0.0.1:8080, or a free port when that is taken
        #[arg(long)]
        listen: Option<String>,
    },
    /// Formatting, lints, licences, bans and sources
    Lint,
    /// Completes the npm package in edge/js with the core that `build` made, and the types
    Npm,
    /// Builds the lockgate program with the core and the shells inside: target/debug/lockgate
    Program,
    /// Builds the Worker's shell and the Spin application into target/shells, for programs that carry them
    Shells,
    /// Builds the Spin application into target/spin
    Spin,
    /// Sets up what is missing and runs all tests
    Test,
    /// Builds the Cloudflare Worker into edge/cloudflare/dist, with the core that `build` made
    Worker {
        /// With the graph flavour of the inference module, which runs LSTM and GRU models
        #[arg(long)]
        graph: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Bench { quick, edge } => {
            let options = bench::BenchOptions { quick };
            if edge { bench::edge::bench(options) } else { bench::bench(options) }
        }
        Command::Build => core::build(core::BuildOptions { fault: true }),
        Command::Conformance { write } => conformance::conformance(write),
        Command::Dist { verify: Some(folder), .. } => dist::verify(&folder),
        Command::Dist { quick, verify: None } => dist::dist(dist::DistOptions { quick }),
        Command::Demo { once, listen } => demo::demo(once, listen.as_deref()),
        Command::Program => program::program(),
        Command::Shells => shells::build(),
        Command::Lint => lint::lint(),
        Command::Npm => js::npm(),
        Command::Spin => spin::build(),
        Command::Test => test::test(),
        Command::Worker { graph } => worker::build(worker::WorkerOptions { graph }),
    }
}
