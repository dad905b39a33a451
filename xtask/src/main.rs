//! `cargo xtask`: builds, tests, demonstrates and measures Lockgate.
//!
//! Each command sets up what it needs and says what it is doing. Nothing here is needed to build the native crates.
#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a command line program talks to its user")]

mod bench;
mod component;
mod core;
mod demo;
mod js;
mod lint;
mod setup;
mod test;

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
        /// With the graph flavour as tests use it: quick to compile, slower to run
        #[arg(long)]
        fast_core: bool,
        /// A few short turns, to see that everything runs; writes to target/bench only
        #[arg(long)]
        quick: bool,
    },
    /// Builds the core modules and components into target/core
    Build {
        /// The graph flavour as it is released: smaller and faster, but minutes to compile
        #[arg(long)]
        ship: bool,
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
    /// Sets up what is missing and runs all tests
    Test,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Bench { fast_core, quick } => bench::bench(bench::BenchOptions { fast_core, quick }),
        Command::Build { ship } => core::build(core::BuildOptions { ship, fault: true }),
        Command::Demo { once, listen } => demo::demo(once, listen.as_deref()),
        Command::Lint => lint::lint(),
        Command::Npm => js::npm(),
        Command::Test => test::test(),
    }
}
