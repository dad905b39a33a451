//! The `lockgate` program: packages models, compiles policies, and serves routed predictions over the Open Inference Protocol.
//!
//! Reading order: [`cli`] (the commands and what each does), [`config`] (settings from file, environment and flags), [`repository`]
//! (policy and packages, from files into the runtime), [`http`] (the server), [`records`] (what other shells report), [`metrics`]. What decides and what predicts is
//! in the core; this program holds neither.

mod cli;
mod config;
mod core;
mod failure;
mod files;
mod http;
mod logging;
mod metrics;
mod output;
mod policy;
mod records;
mod repository;
mod trust;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
