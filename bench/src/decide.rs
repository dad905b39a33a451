//! The evaluator compiled to machine code, without WebAssembly.

use std::time::Instant;

use anyhow::{Context as _, Result};
use lockgate_abi::AttributeValue as FlatValue;
use lockgate_package::AlignedBytes;
use lockgate_policy::{AttributeValue, Bundle, Context};

use crate::case::{Case, Peer, Spent, Turn};
use crate::setup::{Caller, Setup};
use crate::wasm::callers;

pub(crate) struct NativeEvaluator {
    bundle: Bundle,
    callers: Vec<Caller>,
    route: String,
}

struct View<'a> {
    route: &'a str,
    caller: &'a Caller,
}

impl Context for View<'_> {
    fn route(&self) -> &str {
        self.route
    }

    fn user(&self) -> Option<&str> {
        Some(&self.caller.user)
    }

    fn symbol(&self) -> Option<&str> {
        Some(&self.caller.symbol)
    }

    fn tenant(&self) -> Option<&str> {
        None
    }

    fn session(&self) -> Option<&str> {
        None
    }

    fn attribute(&self, name: &str) -> Option<AttributeValue<'_>> {
        let strategy = self.caller.strategy.as_deref().filter(|_| name == "strategy")?;
        Some(AttributeValue::Text(strategy))
    }
}

/// A caller's attributes for the flat entry point.
pub(crate) fn attributes(caller: &Caller) -> impl Iterator<Item = (&str, FlatValue<'_>)> + Clone {
    caller.strategy.iter().map(|strategy| ("strategy", FlatValue::Text(strategy)))
}

impl NativeEvaluator {
    pub(crate) fn new(setup: &Setup) -> Result<Self> {
        let bytes = AlignedBytes::copy_of(&std::fs::read(&setup.bundle)?);
        let bundle =
            Bundle::load(bytes).map_err(|error| anyhow::anyhow!("the bundle does not load: {error}"))?;
        Ok(Self { bundle, callers: setup.callers()?, route: setup.route.clone() })
    }
}

impl Peer for NativeEvaluator {
    fn name(&self) -> &str {
        "evaluator, native"
    }

    fn can_run(&self, case: &Case) -> bool {
        matches!(case, Case::Decide { .. })
    }

    fn run(&mut self, case: &Case, turn: Turn) -> Result<Spent> {
        let Case::Decide { contexts } = case else { anyhow::bail!("the evaluator only decides") };
        let started = Instant::now();
        let mut answer = None;
        for call in turn.start..turn.start + turn.calls {
            let mut sum = 0.0;
            for caller in callers(&self.callers, call, *contexts) {
                let view = View { route: &self.route, caller };
                let decision =
                    self.bundle.decide(&view, 0, &[]).ok().context("the bundle lacks the route")?;
                sum += f64::from(decision.variant_index + 1);
                std::hint::black_box((decision.variant, decision.model, decision.version, decision.rule));
            }
            answer.get_or_insert(sum);
        }
        Ok(Spent { nanoseconds: started.elapsed().as_nanos() as f64, answer })
    }
}
