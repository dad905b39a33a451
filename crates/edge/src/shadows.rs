//! Shadows: versions that get a copy of a request after it was answered, and whose outputs are compared with what was served. What
//! bounds them comes from the policy; a copy beyond a bound is dropped, and the drop is counted by its cause.

use std::collections::BTreeMap;
use std::time::Duration;

use lockgate_package::Tensor;
use lockgate_package::plan::explain::Contributions;
use lockgate_policy::{Placement, ShadowLimits};
use lockgate_shell::{Context, Differences, ServedVersion, compare, rows, versions};
use serde::Serialize;

use crate::core::Core;
use crate::edge::{Edge, Loaded, Serving, Step};
use crate::forward::{self, Came, FetchError, Fetched, Told};
use crate::infer::Infer;
use crate::predict;

/// A copy of a request for one shadow, to be run once the answer is sent.
pub struct ShadowRun {
    key: String,
    name: String,
    route: String,
    decision_id: String,
    version: ServedVersion,
    contexts: Vec<Context>,
    inputs: Vec<Tensor>,
    /// What was served to the same rows.
    outputs: Vec<Tensor>,
    deadline_ms: i64,
}

/// What was counted for each shadow.
#[derive(Default)]
pub(crate) struct Shadows(BTreeMap<String, Shadow>);

#[derive(Default)]
struct Shadow {
    /// Tokens of the bucket that bounds the rate, and when it was filled.
    bucket: Option<(f64, i64)>,
    /// When each copy that is under way is given up, so that one that was cut off takes no place for long.
    in_flight: Vec<i64>,
    runs: u64,
    failed: u64,
    incomparable: u64,
    dropped: BTreeMap<&'static str, u64>,
    differences: Differences,
}

/// What `/health` says of one shadow.
#[derive(Serialize)]
pub(crate) struct ShadowReport<'a> {
    runs: u64,
    failed: u64,
    incomparable: u64,
    dropped: &'a BTreeMap<&'static str, u64>,
    values: u64,
    difference_sum: f64,
    difference_max: f64,
    labels: u64,
    label_mismatches: u64,
}

impl Shadow {
    /// Lets a copy through, or says why not.
    fn admit(&mut self, limits: ShadowLimits, bytes: usize, now_ms: i64) -> Result<i64, &'static str> {
        let ShadowLimits { rate, concurrency, bytes: most, deadline_ms } = limits;
        if u32::try_from(bytes).map_or(true, |bytes| bytes > most) {
            return Err("bytes");
        }
        let rate = f64::from(rate);
        let (tokens, filled) = self.bucket.unwrap_or((rate, now_ms));
        let passed = u32::try_from(now_ms.saturating_sub(filled).clamp(0, 1_000_000)).unwrap_or(0);
        let tokens = (tokens + f64::from(passed) / 1e3 * rate).min(rate);
        let has_token = tokens >= 1.0;
        self.bucket = Some((if has_token { tokens - 1.0 } else { tokens }, now_ms));
        if !has_token {
            return Err("rate");
        }
        self.in_flight.retain(|deadline| *deadline > now_ms);
        if self.in_flight.len() >= usize::try_from(concurrency).unwrap_or(usize::MAX) {
            return Err("concurrency");
        }
        let deadline = now_ms.saturating_add(i64::from(deadline_ms));
        self.in_flight.push(deadline);
        Ok(deadline)
    }

    fn drop_for(&mut self, cause: &'static str) {
        *self.dropped.entry(cause).or_default() += 1;
    }
}

impl Shadows {
    /// What `/health` says of them.
    pub(crate) fn report(&self) -> BTreeMap<&str, ShadowReport<'_>> {
        // Inserting takes less code than collecting, which sorts first.
        let mut report = BTreeMap::new();
        for (key, shadow) in &self.0 {
            let Differences { values, sum, max, labels, label_mismatches } = shadow.differences;
            let one = ShadowReport {
                runs: shadow.runs,
                failed: shadow.failed,
                incomparable: shadow.incomparable,
                dropped: &shadow.dropped,
                values,
                difference_sum: sum,
                difference_max: max,
                labels,
                label_mismatches,
            };
            report.insert(key.as_str(), one);
        }
        report
    }
}

impl Edge {
    /// Which shadows get a copy. Tensors are copied only when one does.
    pub(crate) fn admit_shadows(
        &mut self,
        infer: &Infer,
        loaded: Loaded<'_>,
        outputs: &[Tensor],
        now_ms: i64,
    ) -> Vec<ShadowRun> {
        let mut runs = Vec::new();
        if !self.settings.shadows {
            return runs;
        }
        let total = if infer.contexts.len() > 1 { infer.contexts.len() } else { 0 };
        let bytes: usize = infer.inputs.iter().map(|input| input.data.len()).sum();
        for wanted in &infer.asked.shadows {
            let catalog = loaded.catalog;
            let Some(route) = catalog.routes.get(wanted.route) else { continue };
            let Some(entry) = route.shadows.get(wanted.shadow) else { continue };
            let Some(variant) = catalog.variant(route, entry.variant) else { continue };
            let name = versions::model_name(variant.model, variant.version);
            let key = format!("{}/{} {name}", route.name, entry.name);
            let all = total == 0 || wanted.rows.len() == total;
            let share = if all { bytes } else { bytes / total.max(1) * wanted.rows.len() };
            let shadow = self.shadows.0.entry(key.clone()).or_default();
            if variant.placement != Placement::Edge && !self.identity.has_origin {
                shadow.drop_for("elsewhere");
                continue;
            }
            let deadline_ms = match shadow.admit(entry.limits, share, now_ms) {
                Ok(deadline) => deadline,
                Err(cause) => {
                    shadow.drop_for(cause);
                    continue;
                }
            };
            let taken = |tensors: &[Tensor]| {
                if all { Ok(tensors.to_vec()) } else { rows::take(tensors, total, &wanted.rows) }
            };
            let (Ok(inputs), Ok(outputs)) = (taken(&infer.inputs), taken(outputs)) else {
                shadow.incomparable += 1;
                continue;
            };
            let contexts = if all {
                infer.contexts.clone()
            } else {
                wanted.rows.iter().filter_map(|row| infer.contexts.get(*row)).cloned().collect()
            };
            runs.push(ShadowRun {
                key,
                name: entry.name.clone(),
                route: infer.name.route.clone(),
                decision_id: infer.decision_id.clone(),
                version: (&variant).into(),
                contexts,
                inputs,
                outputs,
                deadline_ms,
            });
        }
        runs
    }

    /// Runs a shadow: here, or at the origin, which takes a [`Step::Fetch`]. The answer of [`Step::Done`] is nobody's.
    pub fn run_shadow(
        &mut self,
        core: &mut dyn Core,
        serving: Serving<'_>,
        run: ShadowRun,
        now_ms: i64,
    ) -> Step {
        let left = run.deadline_ms.saturating_sub(now_ms);
        let shadow = self.shadows.0.entry(run.key.clone()).or_default();
        let Some(left) = u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_millis) else {
            shadow.drop_for("deadline");
            return Step::Done(Box::default());
        };
        let Some(catalog) = serving.catalog else { return Step::Done(Box::default()) };
        if run.version.placement == Placement::Edge {
            let outputs = predict::run(
                core,
                &mut self.buffers,
                catalog,
                &run.version.package,
                &run.inputs,
                Contributions::None,
            );
            self.compare(&run, outputs.map(|predicted| predicted.outputs).ok());
            return Step::Done(Box::default());
        }
        let contexts: Vec<&Context> = run.contexts.iter().collect();
        let told = Told {
            route: &run.route,
            decision_id: &run.decision_id,
            request_id: &run.decision_id,
            bundle: catalog.bundle,
            policy_core: core.policy_identity(),
            key: self.settings.origin_key.as_deref(),
            shadow: Some(&run.name),
            contributions: Contributions::None,
        };
        match forward::fetch(&told, &run.version, &contexts, run.inputs.clone(), left) {
            Ok(fetch) => Step::Fetch(vec![fetch], Self::shadowing(run)),
            Err(_) => {
                self.compare(&run, None);
                Step::Done(Box::default())
            }
        }
    }

    /// Takes what the origin said to a shadow's copy.
    pub(crate) fn shadow_came(
        &mut self,
        run: ShadowRun,
        results: Vec<Result<Fetched, FetchError>>,
        now_ms: i64,
    ) {
        let result = results.into_iter().next().unwrap_or(Err(FetchError::NoOrigin));
        let came = forward::came(result, &run.version, None);
        if now_ms > run.deadline_ms || matches!(came, Came::Failed { timed_out: true, .. }) {
            self.shadows.0.entry(run.key).or_default().drop_for("deadline");
            return;
        }
        let outputs = match came {
            Came::Predicted(predicted) => Some(predicted.outputs),
            Came::Refused(_) | Came::Failed { .. } => None,
        };
        self.compare(&run, outputs);
    }

    fn compare(&mut self, run: &ShadowRun, outputs: Option<Vec<Tensor>>) {
        let shadow = self.shadows.0.entry(run.key.clone()).or_default();
        if let Some(place) = shadow.in_flight.iter().position(|deadline| *deadline == run.deadline_ms) {
            shadow.in_flight.swap_remove(place);
        }
        let Some(outputs) = outputs else {
            shadow.failed += 1;
            return;
        };
        match compare(&run.outputs, &outputs) {
            None => shadow.incomparable += 1,
            Some(differences) => {
                shadow.runs += 1;
                shadow.differences.add(&differences);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shadow_takes_so_many_a_second_and_at_once() {
        let limits = ShadowLimits { rate: 2, concurrency: 100, bytes: 10, deadline_ms: 1000 };
        let mut shadow = Shadow::default();
        let taken: Vec<bool> = [0, 0, 0, 400, 500, 500, 10_000, 10_000, 10_000]
            .into_iter()
            .map(|now| shadow.admit(limits, 1, now).is_ok())
            .collect();
        assert_eq!(taken, [true, true, false, false, true, false, true, true, false]);
        assert_eq!(shadow.admit(limits, 11, 0), Err("bytes"));

        let limits = ShadowLimits { rate: 1000, concurrency: 2, ..limits };
        let mut shadow = Shadow::default();
        let mut at = |now| shadow.admit(limits, 1, now);
        assert_eq!([at(0), at(1), at(2)], [Ok(1000), Ok(1001), Err("concurrency")]);
        assert_eq!(at(1000), Ok(2000), "one that was cut off gives its place back");
    }
}
