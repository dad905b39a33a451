use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use lockgate_policy::{
    Bundle, RequestContext, Simulation, assume_approvals, check, parse, simulate, unit_lists,
};

use crate::cli::decide::{ContextArgs, unknown_route};
use crate::cli::settings::{SourcesRefused, TrustArgs};
use crate::cli::time::{Moment, Span};
use crate::cli::units;
use crate::failure::Failure;
use crate::{files, output, policy};

/// How many times a simulation looks at, and how many units it makes up, at most.
const MAX_POINTS: i64 = 10_000;
const MAX_UNITS: u32 = 10_000_000;

#[derive(Args)]
#[command(mut_arg("route", |route| route.required(true)))]
pub(crate) struct SimulateArgs {
    /// A policy source, which needs no packages for this, or a compiled bundle.
    policy: PathBuf,
    #[command(flatten)]
    context: ContextArgs,
    /// Decide for this many users, called `user-1`, `user-2` and so on. This is the default, with 10000.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_UNITS)))]
    users: Option<u32>,
    /// Decide for this many symbols, called `symbol-1` and so on; with `--users`, for each pair of the two.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_UNITS)))]
    symbols: Option<u32>,
    /// Decide for these units instead: CSV with a header, or one JSON context a line. What they do not say comes from the flags.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["users", "symbols"])]
    units: Option<PathBuf>,
    /// The first time to look at, for shares over time.
    #[arg(long, requires = "until", conflicts_with = "now")]
    from: Option<Moment>,
    /// The last time to look at.
    #[arg(long, requires = "from")]
    until: Option<Moment>,
    /// How far apart the times are, `6h`, `1d`. Without it: a sixtieth of the whole.
    #[arg(long, requires = "from")]
    step: Option<Span>,
    /// Assume that ramps are approved up to this stage.
    #[arg(long, value_name = "STAGE")]
    approve: Option<u32>,
    /// Draw the shares into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
}

pub(crate) fn run(args: &SimulateArgs, json: bool) -> Result<(), Failure> {
    let bundle = bundle(args)?;
    let contexts = contexts(args, &bundle)?;
    let route = args.context.route();
    if !bundle.routes().any(|definition| definition.name() == route) {
        return Err(unknown_route(&args.policy, &bundle, route));
    }
    let unavailable = args.context.unavailable(&bundle)?;
    let spinner = output::spinner(format!("deciding for {} units", contexts.len()));
    let simulation: Simulation = simulate(&bundle, route, &contexts, &times(args)?, &unavailable);
    spinner.finish_and_clear();
    if let Some(path) = &args.svg {
        files::replace(path, simulation.svg().as_bytes())?;
    }
    if json {
        return output::print_json(&simulation);
    }
    output::print(&simulation.to_string())?;
    hint_at_units(args, &simulation);
    Ok(())
}

/// How made-up units get what they lack.
fn hint_at_units(args: &SimulateArgs, simulation: &Simulation) {
    if args.units.is_some() {
        return;
    }
    let missing = simulation.missing();
    let parts = missing.iter().flat_map(|missing| &missing.parts);
    let flags = parts.map(|part| match part.name.as_str() {
        _ if part.attribute => "`--units FILE`",
        "symbol" => "`--symbols COUNT`",
        "user" => "`--users COUNT`",
        "tenant" => "`--tenant NAME`",
        _ => "`--session NAME`",
    });
    let flags: BTreeSet<&str> = flags.collect();
    if !flags.is_empty() {
        let flags: Vec<&str> = flags.into_iter().collect();
        output::note(&format!("hint: units get what they lack from {}", flags.join(" and ")));
    }
}

fn bundle(args: &SimulateArgs) -> Result<Bundle, Failure> {
    let gate = args.trust.gate(SourcesRefused::ByFlag)?;
    let packages = args.context.packages(&gate)?;
    let how = policy::How::tool(&packages);
    let Some(stage) = args.approve else { return policy::open(&args.policy, &how, &gate) };
    let bytes = files::read(&args.policy)?;
    if !bytes.starts_with(files::MAGIC) {
        gate.admit_source(&args.policy)?;
        let (mut policy, lists) = policy::read_source(&args.policy, bytes)?;
        assume_approvals(&mut policy, stage);
        return policy::load_compiled(&policy::compile_source(&policy, &lists, &how)?);
    }
    // The bundle's own source, laid out on the bundle itself, so that every stage keeps its buckets.
    let bundle = policy::open_bundle(&args.policy, &gate)?;
    let file = args.policy.display();
    let source = bundle.source().ok_or_else(|| {
        Failure::new(format!("{file} carries no source, so its approvals cannot be changed"))
            .hint("leave `--approve` away, or name the policy source instead")
    })?;
    let mut policy =
        parse("source.json", source).and_then(|source| check(&source)).map_err(policy::failure)?;
    assume_approvals(&mut policy, stage);
    let lists = unit_lists(&bundle);
    let how = policy::How { base: Some(&bundle), version: Some(bundle.version()), ..how };
    policy::load_compiled(&policy::compile_source(&policy, &lists, &how)?)
}

fn contexts(args: &SimulateArgs, bundle: &Bundle) -> Result<Vec<RequestContext>, Failure> {
    let base = args.context.context()?;
    if let Some(path) = &args.units {
        let mut contexts = units::read(path, &[bundle])?;
        units::complete(&mut contexts, &base);
        return Ok(contexts);
    }
    let users = args.users.or(args.symbols.is_none().then_some(10_000));
    let names = |count: Option<u32>, prefix: &str, given: &Option<String>| match count {
        Some(count) => (1..=count).map(|number| Some(format!("{prefix}-{number}"))).collect(),
        None => vec![given.clone()],
    };
    if u64::from(users.unwrap_or(1)) * u64::from(args.symbols.unwrap_or(1)) > u64::from(MAX_UNITS) {
        return Err(Failure::usage(format!("more than {MAX_UNITS} pairs of users and symbols")));
    }
    let symbols = names(args.symbols, "symbol", &base.symbol);
    let mut contexts = Vec::new();
    for user in names(users, "user", &base.user) {
        for symbol in &symbols {
            contexts.push(RequestContext { user: user.clone(), symbol: symbol.clone(), ..base.clone() });
        }
    }
    Ok(contexts)
}

fn times(args: &SimulateArgs) -> Result<Vec<i64>, Failure> {
    let (Some(Moment(from)), Some(Moment(until))) = (args.from, args.until) else {
        return Ok(vec![args.context.now()]);
    };
    let whole = until.checked_sub(from).filter(|whole| *whole > 0);
    let whole = whole.ok_or_else(|| Failure::usage("`--until` is not after `--from`"))?;
    let step = args.step.map_or_else(|| (whole / 60).max(1), |step| step.0);
    if whole / step >= MAX_POINTS {
        return Err(Failure::usage(format!("more than {MAX_POINTS} times; take a longer `--step`")));
    }
    let mut times: Vec<i64> = (0..=whole / step).map(|point| from + point * step).collect();
    if times.last() != Some(&until) {
        times.push(until);
    }
    Ok(times)
}
