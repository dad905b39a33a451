use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use lockgate_package::Digest;
use lockgate_policy::{Attribute, Bundle, PackageRef, RequestContext, Trace, explain};

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
    /// The variant that the caller asks for.
    #[arg(long)]
    variant: Option<String>,
    /// A further attribute, `country=DE`. `true`, `false` and numbers are taken as such unless they stand in double quotes. May be
    /// repeated.
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    attributes: Vec<(String, Attribute)>,
    /// The time to decide at, milliseconds since 1970 or `2026-05-01T12:00:00Z`. Without it: now.
    #[arg(long)]
    now: Option<Moment>,
    /// A package that cannot serve, `eurusd_gb@1.1.0` or its digest. May be repeated.
    #[arg(long = "unavailable", value_name = "VERSION")]
    unavailable: Vec<String>,
    /// The folder of packages that a policy source is compiled with.
    #[arg(long, value_name = "FOLDER")]
    packages: Option<PathBuf>,
}

pub(crate) fn run(args: &DecideArgs, json: bool) -> Result<(), Failure> {
    let trace = trace(&args.policy, &args.context, false)?;
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
    let shadows: Vec<String> = decision
        .shadows
        .iter()
        .map(|shadow| format!("{} ({}@{})", shadow.name, shadow.model, shadow.version))
        .collect();
    let named = [
        ("tenant", decision.tenant),
        ("user", decision.user),
        ("rule", decision.rule),
        ("layer", decision.layer),
        ("bucket", decision.bucket.map(|bucket| bucket.to_string())),
        ("stage", decision.stage.map(|stage| stage.to_string())),
        ("window", decision.window.map(|window| window.to_string())),
        ("instead", decision.intended.map(|intended| format!("of {intended}, which is unavailable"))),
        ("shadows", (!shadows.is_empty()).then(|| shadows.join(", "))),
        ("payload", decision.payload.map(|payload| payload.to_string())),
    ];
    lines.extend(named.into_iter().filter_map(|(name, value)| Some(format!("{name:<9}{}", value?))));
    let notes = [
        (decision.unit_missing, "the unit that the split sticks to is missing, so the baseline serves"),
        (decision.holdout, "the unit is held out, so the baseline serves"),
        (decision.washout, "the window has only begun, so the baseline serves"),
        (decision.unavailable, "neither the variant nor a fallback is available"),
    ];
    lines.extend(notes.into_iter().filter(|(holds, _)| *holds).map(|(_, note)| format!("note     {note}")));
    lines.push(format!("policy   version {}, sha256:{}", decision.bundle_version, decision.bundle));
    output::print(&lines.join("\n"))
}

impl ContextArgs {
    /// The context, without what the system's clock says.
    pub(crate) fn context(&self) -> Result<RequestContext, Failure> {
        let attributes: BTreeMap<String, Attribute> = self.attributes.iter().cloned().collect();
        if attributes.len() < self.attributes.len() {
            return Err(Failure::usage("an attribute is given twice"));
        }
        Ok(RequestContext {
            route: self.route.clone(),
            user: self.user.clone(),
            symbol: self.symbol.clone(),
            tenant: self.tenant.clone(),
            session: self.session.clone(),
            variant: self.variant.clone(),
            attributes,
        })
    }

    pub(crate) fn route(&self) -> &str {
        &self.route
    }

    pub(crate) fn now(&self) -> i64 {
        self.now.unwrap_or_else(Moment::now).0
    }

    pub(crate) fn packages(&self) -> Result<Vec<PackageRef>, Failure> {
        policy::packages(self.packages.as_deref())
    }

    /// The digests of what cannot serve.
    pub(crate) fn unavailable(&self, bundle: &Bundle) -> Result<Vec<[u8; 32]>, Failure> {
        let names: Vec<String> =
            bundle.models().map(|model| format!("{}@{}", model.name, model.version)).collect();
        let digest = |text: &String| {
            if let Ok(digest) = text.parse::<Digest>() {
                return Ok(digest.0);
            }
            let model = names.iter().zip(bundle.models()).find(|(name, _)| *name == text);
            model.map(|(_, model)| model.digest.0).ok_or_else(|| {
                let failure = Failure::new(format!("the policy has no model version `{text}`"));
                match crate::config::nearest(text, names.iter().map(String::as_str)) {
                    Some(near) => failure.hint(format!("did you mean `{near}`?")),
                    None => failure.hint(format!("it has {}", names.join(", "))),
                }
            })
        };
        self.unavailable.iter().map(digest).collect()
    }
}

/// The decision of a policy for this context, step by step. With `stand_ins`, a source needs no packages.
pub(crate) fn trace(path: &Path, args: &ContextArgs, stand_ins: bool) -> Result<Trace, Failure> {
    let packages = args.packages()?;
    let bundle = policy::open(path, &policy::How { stand_ins, ..policy::How::tool(&packages) })?;
    let unavailable = args.unavailable(&bundle)?;
    explain(&bundle, &args.context()?, args.now(), &unavailable)
        .map_err(|_| unknown_route(path, &bundle, &args.route))
}

/// Nobody by this context may see such a route.
pub(crate) fn unknown_route(path: &Path, bundle: &Bundle, route: &str) -> Failure {
    let failure = Failure::new(format!("{}: unknown route `{route}`", path.display()));
    let mut names: Vec<&str> = bundle.routes().map(|route| route.name()).collect();
    names.dedup();
    if names.contains(&route) {
        return failure.hint("there is one, but not for this tenant and user, or its `access` does not hold");
    }
    match crate::config::nearest(route, names.iter().copied()) {
        Some(near) => failure.hint(format!("did you mean `{near}`?")),
        None => {
            failure.hint(format!("it has {}", names.iter().take(10).copied().collect::<Vec<_>>().join(", ")))
        }
    }
}

fn attribute(text: &str) -> Result<(String, Attribute), String> {
    let (name, value) =
        text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), attribute_value(value)))
}

/// `true`, `false` and numbers as such, everything else as text; double quotes around it are taken off.
pub(crate) fn attribute_value(value: &str) -> Attribute {
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    match (quoted, value, value.parse::<f64>()) {
        (Some(text), _, _) => Attribute::Text(text.to_owned()),
        (None, "true", _) => Attribute::Boolean(true),
        (None, "false", _) => Attribute::Boolean(false),
        (None, _, Ok(number)) if number.is_finite() => Attribute::Number(number),
        _ => Attribute::Text(value.to_owned()),
    }
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
