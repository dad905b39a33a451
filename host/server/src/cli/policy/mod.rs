//! `lockgate policy`: its commands, one module each.

mod check;
mod compile;
mod diff;
mod explain;
mod fmt;
mod import;
mod report;
mod schema;
mod simulate;
mod source;
mod test;

use clap::Subcommand;

use crate::failure::Failure;

#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Check a policy source and say everything that is wrong with it.
    Check(check::CheckArgs),
    /// Compile a policy source to a bundle.
    Compile(compile::CompileArgs),
    /// Say step by step why a request is served by which version.
    Explain(explain::ExplainArgs),
    /// Run the test cases beside a policy.
    ///
    /// Exits with 1 when a case fails.
    Test(test::TestArgs),
    /// Say what changes from one policy to another, and who moves.
    ///
    /// Exits with 0, whatever changes, unless `--exit-code` is given.
    Diff(diff::DiffArgs),
    /// Show what a population gets, now or over the days of a ramp.
    Simulate(simulate::SimulateArgs),
    /// Lay policy sources out in one way; comments stay.
    Fmt(fmt::FmtArgs),
    /// Write policy source for the flags of flagd, Unleash or GrowthBook, so that every unit keeps its variant.
    ///
    /// What cannot be kept is listed, and stands at the head of the source.
    Import(import::ImportArgs),
    /// Show the source that a bundle was compiled from.
    Source(source::SourceArgs),
    /// Print the JSON Schema of policy sources, from which editors complete keys and show what they mean.
    Schema,
}

pub(crate) fn run(command: PolicyCommand, json: bool) -> Result<(), Failure> {
    match command {
        PolicyCommand::Check(args) => check::run(&args, json),
        PolicyCommand::Compile(args) => compile::run(&args, json),
        PolicyCommand::Explain(args) => explain::run(&args, json),
        PolicyCommand::Test(args) => test::run(&args, json),
        PolicyCommand::Diff(args) => diff::run(&args, json),
        PolicyCommand::Simulate(args) => simulate::run(&args, json),
        PolicyCommand::Fmt(args) => fmt::run(&args, json),
        PolicyCommand::Import(args) => import::run(&args, json),
        PolicyCommand::Source(args) => source::run(&args, json),
        PolicyCommand::Schema => schema::run(),
    }
}
