use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use lockgate_package::Digest;
use lockgate_policy::{
    Attribute, Bundle, PackageRef, RequestContext, Trace, TraceDecision, context_words, decimal,
    decision_words, explain, stand_ins,
};

use super::settings::{SourcesRefused, TrustArgs};
use super::time::Moment;
use super::units;
use crate::failure::Failure;
use crate::trust::Gate;
use crate::{output, policy};

#[derive(Args)]
#[command(mut_arg("route", |route| route.required_unless_present("units")))]
pub(crate) struct DecideArgs {
    /// A compiled bundle, or a policy source. Without `--packages`, versions that the source does not pin get made-up digests.
    policy: PathBuf,
    #[command(flatten)]
    context: ContextArgs,
    /// Decide for each of these units: CSV with a header, or one JSON context a line. What they do not say comes from the flags. Each
    /// decision is a line, with `--json` a JSON object with the unit as its `context`.
    #[arg(long, value_name = "FILE")]
    units: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
}

/// Whom to decide for.
#[derive(Args)]
pub(crate) struct ContextArgs {
    /// The route.
    #[arg(long)]
    route: Option<String>,
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
    /// A further attribute, `country=DE`. `true`, `false` and numbers are taken as such unless they stand in double quotes,
    /// `account="123"`: units and tests of texts need texts. May be repeated.
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
    let gate = args.trust.gate(SourcesRefused::AsServed)?;
    let packages = args.context.packages(&gate)?;
    // Whoever names packages wants to know that one is missing.
    let stand_in = args.context.packages.is_none();
    let how = policy::How { stand_ins: stand_in, ..policy::How::tool(&packages) };
    let bundle = policy::open(&args.policy, &how, &gate)?;
    note_stand_ins(&bundle);
    if let Some(path) = &args.units {
        return decide_units(args, &bundle, path, json);
    }
    let decision = trace(&args.policy, &bundle, &args.context)?.decision;
    if json {
        return output::print_json(&decision);
    }
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

/// Digests that mean nothing are shown like others, so it is said which they are.
fn note_stand_ins(bundle: &Bundle) {
    const SHOWN: usize = 3;
    let names = stand_ins(bundle);
    if names.is_empty() {
        return;
    }
    let mut list = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        list.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    output::note(&format!(
        "note: no package of {list} is at hand, so digests are made up; `--packages FOLDER` gives the real ones"
    ));
}

/// One line for each unit of a file.
fn decide_units(args: &DecideArgs, bundle: &Bundle, path: &Path, json: bool) -> Result<(), Failure> {
    let mut contexts = units::read(path, &[bundle])?;
    units::complete(&mut contexts, &args.context.context()?);
    if let Some(place) = contexts.iter().position(|context| context.route.is_empty()) {
        let message = format!("{}: unit {} names no route", path.display(), place + 1);
        return Err(Failure::new(message).hint("add a column `route`, or say it for all with `--route`"));
    }
    let unavailable = args.context.unavailable(bundle)?;
    let now = args.context.now();
    output::print_lines(contexts.iter().map(|context| {
        let decision = bundle.decide(context, now, &unavailable);
        if !json {
            let words =
                decision.map_or_else(|_| "unknown route".to_owned(), |decision| decision_words(&decision));
            return Ok(format!("{}: {words}", context_words(context)));
        }
        let line = match decision {
            Ok(decision) => serde_json::to_value(UnitDecision {
                context,
                decision: TraceDecision::new(&decision, bundle),
            }),
            Err(_) => Ok(serde_json::json!({
                "context": context,
                "route": context.route,
                "error": "unknown_route",
            })),
        };
        line.map(|line| line.to_string())
            .map_err(|error| Failure::new(format!("cannot write a decision as JSON: {error}")))
    }))
}

/// A line of `decide --units --json`: what `decide --json` says, and for whom.
#[derive(serde::Serialize)]
struct UnitDecision<'c> {
    context: &'c RequestContext,
    #[serde(flatten)]
    decision: TraceDecision,
}

impl ContextArgs {
    /// The context, without what the system's clock says.
    pub(crate) fn context(&self) -> Result<RequestContext, Failure> {
        let attributes: BTreeMap<String, Attribute> = self.attributes.iter().cloned().collect();
        if attributes.len() < self.attributes.len() {
            return Err(Failure::usage("an attribute is given twice"));
        }
        Ok(RequestContext {
            route: self.route.clone().unwrap_or_default(),
            user: self.user.clone(),
            symbol: self.symbol.clone(),
            tenant: self.tenant.clone(),
            session: self.session.clone(),
            variant: self.variant.clone(),
            attributes,
        })
    }

    pub(crate) fn route(&self) -> &str {
        self.route.as_deref().unwrap_or_default()
    }

    pub(crate) fn now(&self) -> i64 {
        self.now.unwrap_or_else(Moment::now).0
    }

    pub(crate) fn packages(&self, gate: &Gate) -> Result<Vec<PackageRef>, Failure> {
        policy::packages(self.packages.as_deref(), gate)
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

/// The decision of the policy at `path` for this context, step by step.
pub(crate) fn trace(path: &Path, bundle: &Bundle, args: &ContextArgs) -> Result<Trace, Failure> {
    let unavailable = args.unavailable(bundle)?;
    explain(bundle, &args.context()?, args.now(), &unavailable)
        .map_err(|_| unknown_route(path, bundle, args.route()))
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
    Ok((name.to_owned(), attribute_value(value)?))
}

/// `true`, `false` and numbers as such, everything else as text; double quotes around it are taken off.
fn attribute_value(value: &str) -> Result<Attribute, String> {
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    Ok(match (quoted, value, decimal(value)) {
        (Some(text), _, _) => Attribute::Text(text.to_owned()),
        (None, "true", _) => Attribute::Boolean(true),
        (None, "false", _) => Attribute::Boolean(false),
        (None, _, Some(number)) => {
            Attribute::Number(number.map_err(|inexact| format!("{inexact}; double quotes make it a text"))?)
        }
        _ => Attribute::Text(value.to_owned()),
    })
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
        check("a=-1e3", Attribute::Number(-1000.0));
        check("a=\"9007199254740993\"", Attribute::Text("9007199254740993".to_owned()));
        assert!(attribute("a=9007199254740993").unwrap_err().contains("cannot be kept exactly"));
        assert!(attribute("a").is_err() && attribute("=1").is_err());
    }
}
