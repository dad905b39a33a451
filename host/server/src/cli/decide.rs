use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use lockgate_package::AlignedBytes;
use lockgate_policy::{Attribute, Bundle, CompileOptions, RequestContext, Trace, explain};

use super::time::Moment;
use crate::failure::Failure;
use crate::{output, policy};

#[derive(Args)]
pub(crate) struct DecideArgs {
    /// A compiled bundle, or a policy source.
    policy: PathBuf,
    #[command(flatten)]
    context: ContextArgs,
}

/// Whom to decide for.
#[derive(Args)]
pub(crate) struct ContextArgs {
    /// The route.
    #[arg(long)]
    route: String,
    /// The user.
    #[arg(long)]
    user: Option<String>,
    /// The instrument, `EURUSD`.
    #[arg(long)]
    symbol: Option<String>,
    /// The tenant.
    #[arg(long)]
    tenant: Option<String>,
    /// The session.
    #[arg(long)]
    session: Option<String>,
    /// A further attribute, `country=DE`. `true`, `false` and numbers are taken as such unless they stand in double quotes. May be
    /// repeated.
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    attributes: Vec<(String, Attribute)>,
    /// The time to decide at, milliseconds since 1970 or `2026-05-01T12:00:00Z`. Without it: now.
    #[arg(long)]
    now: Option<Moment>,
    /// The folder of packages that a policy source is compiled with.
    #[arg(long, value_name = "FOLDER")]
    packages: Option<PathBuf>,
}

pub(crate) fn run(args: &DecideArgs, json: bool) -> Result<(), Failure> {
    let trace = trace(&args.policy, &args.context)?;
    if json {
        return output::print_json(&trace.decision);
    }
    let decision = trace.decision;
    let mut lines = vec![
        format!("variant  {}", decision.variant),
        format!("model    {}@{} on {}", decision.model, decision.version, decision.placement),
        format!("package  sha256:{}", decision.package),
        format!("reason   {} at step {}", decision.reason, decision.step),
    ];
    let named = [
        ("rule", decision.rule),
        ("layer", decision.layer),
        ("bucket", decision.bucket.map(|b| b.to_string())),
    ];
    lines.extend(named.into_iter().filter_map(|(name, value)| Some(format!("{name:<9}{}", value?))));
    if decision.unit_missing {
        lines
            .push("note     the unit that the split sticks to is missing, so the baseline serves".to_owned());
    }
    if let Some(payload) = decision.payload {
        lines.push(format!("payload  {payload}"));
    }
    lines.push(format!("policy   version {}, sha256:{}", decision.bundle_version, decision.bundle));
    output::print(&lines.join("\n"))
}

/// The decision of a policy for this context, step by step.
pub(crate) fn trace(path: &Path, args: &ContextArgs) -> Result<Trace, Failure> {
    let packages = match &args.packages {
        Some(folder) => policy::open_packages(folder)?,
        None => Vec::new(),
    };
    let packages = policy::package_refs(&packages);
    let options = CompileOptions { packages: &packages, ..CompileOptions::default() };
    let bytes = policy::bundle_bytes(path, &options)?;
    let bundle = Bundle::load(AlignedBytes::copy_of(&bytes))
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    let attributes: BTreeMap<String, Attribute> = args.attributes.iter().cloned().collect();
    if attributes.len() < args.attributes.len() {
        return Err(Failure::usage("an attribute is given twice"));
    }
    let context = RequestContext {
        route: args.route.clone(),
        user: args.user.clone(),
        symbol: args.symbol.clone(),
        tenant: args.tenant.clone(),
        session: args.session.clone(),
        attributes,
    };
    let now = args.now.unwrap_or_else(Moment::now);
    explain(&bundle, &context, now.0, &[]).map_err(|_| {
        let failure = Failure::new(format!("{}: unknown route `{}`", path.display(), args.route));
        let names: Vec<&str> = bundle.routes().map(|route| route.name()).collect();
        match crate::config::nearest(&args.route, names.iter().copied()) {
            Some(near) => failure.hint(format!("did you mean `{near}`?")),
            None => failure
                .hint(format!("it has {}", names.iter().take(10).copied().collect::<Vec<_>>().join(", "))),
        }
    })
}

fn attribute(text: &str) -> Result<(String, Attribute), String> {
    let (name, value) =
        text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("expected NAME=VALUE")?;
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let value = match (quoted, value, value.parse::<f64>()) {
        (Some(text), _, _) => Attribute::Text(text.to_owned()),
        (None, "true", _) => Attribute::Boolean(true),
        (None, "false", _) => Attribute::Boolean(false),
        (None, _, Ok(number)) if number.is_finite() => Attribute::Number(number),
        _ => Attribute::Text(value.to_owned()),
    };
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_have_types() {
        let check =
            |text: &str, value: Attribute| assert_eq!(attribute(text), Ok(("a".to_owned(), value)), "{text}");
        check("a=DE", Attribute::Text("DE".to_owned()));
        check("a=1.5", Attribute::Number(1.5));
        check("a=true", Attribute::Boolean(true));
        check("a=\"1.5\"", Attribute::Text("1.5".to_owned()));
        check("a=nan", Attribute::Text("nan".to_owned()));
        check("a=x=y", Attribute::Text("x=y".to_owned()));
        assert!(attribute("a").is_err() && attribute("=1").is_err());
    }
}
