//! The evaluator compiled to machine code, without WebAssembly.

use std::time::Instant;

use anyhow::{Context as _, Result};
use lockgate_package::AlignedBytes;
use lockgate_policy::{AttributeValue, Bundle, Context};

use crate::case::{Case, Peer, Spent, Turn};
use crate::setup::{Caller, PolicyFiles, Setup};
use crate::wasm::callers;

pub(crate) struct NativeEvaluator {
    policies: Vec<(PolicyFiles, Bundle)>,
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

    fn attribute(&self, _name: &str) -> Option<AttributeValue<'_>> {
        None
    }
}

impl NativeEvaluator {
    pub(crate) fn new(setup: &Setup) -> Result<Self> {
        let policies = setup.policies.iter().map(|policy| Ok((policy.clone(), policy.native()?)));
        let policies = policies.collect::<Result<_>>()?;
        Ok(Self { policies, callers: setup.callers()?, route: setup.route.clone() })
    }
}

impl Peer for NativeEvaluator {
    fn name(&self) -> &str {
        "evaluator, native"
    }

    fn can_run(&self, case: &Case) -> bool {
        matches!(case, Case::Decide { .. } | Case::Load { .. })
    }

    fn run(&mut self, case: &Case, turn: Turn) -> Result<Spent> {
        let (Case::Decide { policy, .. } | Case::Load { policy }) = case else {
            anyhow::bail!("the evaluator only decides")
        };
        let named = self.policies.iter().find(|(files, _)| files.name == *policy);
        let (files, bundle) = named.with_context(|| format!("no policy {policy}"))?;
        let Case::Decide { contexts, .. } = case else {
            let (bundle, lists) = files.read()?;
            let started = Instant::now();
            for _ in 0..turn.calls {
                let lists = lists.iter().map(|list| AlignedBytes::copy_of(list)).collect();
                let loaded = Bundle::load_with(AlignedBytes::copy_of(&bundle), lists);
                std::hint::black_box(loaded.map_err(|error| anyhow::anyhow!("{error}"))?);
            }
            return Ok(Spent { nanoseconds: started.elapsed().as_nanos() as f64, answer: None });
        };
        let started = Instant::now();
        let mut answer = None;
        for call in turn.start..turn.start + turn.calls {
            let mut sum = 0.0;
            for caller in callers(&self.callers, call, *contexts) {
                let view = View { route: &self.route, caller };
                let decision = bundle.decide(&view, 0, &[]).ok().context("the bundle lacks the route")?;
                sum += f64::from(decision.variant_index + 1);
                std::hint::black_box((decision.variant(), decision.names()));
            }
            answer.get_or_insert(sum);
        }
        Ok(Spent { nanoseconds: started.elapsed().as_nanos() as f64, answer })
    }
}
