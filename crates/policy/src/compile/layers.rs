//! Layers whose buckets several parties share: experiments, their holdouts, and the policy's named holdouts.

use std::collections::BTreeMap;

use super::base::{Base, LayerOwner};
use super::writer::Writer;
use super::{BUCKETS, by_name};
use crate::bundle::format::{
    HOLDOUT_NAMED, HOLDOUT_OF_LAYER, Holdout as HoldoutRecord, Interval, NONE, Split as SplitRecord,
};
use crate::intervals::{Intervals, Old, ranges, split};
use crate::policy::{Experiment, Layer, NamedLayer, Policy, Route, RouteKey, Rule, Serve, Share, Unit};

/// The layers that have experiments, laid out, and the places of all holdouts.
#[derive(Default)]
pub(super) struct SharedLayers<'p> {
    layers: BTreeMap<&'p str, Intervals<LayerOwner<'p>>>,
    layer_holdouts: BTreeMap<&'p str, u32>,
    named_holdouts: BTreeMap<&'p str, u32>,
}

/// Lays out the layers with experiments and the holdouts, and writes the holdouts.
pub(super) fn write<'p>(
    writer: &mut Writer,
    policy: &'p Policy,
    base: Option<&Base<'p>>,
) -> SharedLayers<'p> {
    let mut shared = SharedLayers::default();
    for (name, holdout) in &policy.holdouts {
        let widths = [(true, holdout.share.buckets()), (false, rest(holdout.share.buckets()))];
        let old = base.and_then(|base| base.holdout(name)).map(Old::Split);
        let intervals = split(old.as_ref(), &widths);
        let place = write_holdout(writer, HOLDOUT_NAMED, &holdout.layer, &holdout.unit, &intervals);
        shared.named_holdouts.insert(name, place);
    }
    let mut old_layers = base.map(Base::layers).unwrap_or_default();
    for (name, experiments) in experiments(policy) {
        let Some(layer) = policy.layers.get(name) else { continue };
        let mut widths = owners(layer, &experiments);
        let taken: u32 = widths.iter().map(|(_, width)| width).sum();
        widths.push((LayerOwner::Nobody, rest(taken)));
        let old = old_layers.remove(name).map(Old::Split);
        let intervals = split(old.as_ref(), &widths);
        if layer.holdout > Share::default() {
            let held_out: Intervals<bool> =
                intervals.iter().map(|(end, owner)| (*end, *owner == LayerOwner::Holdout)).collect();
            let place = write_holdout(writer, HOLDOUT_OF_LAYER, &layer.layer, &layer.unit, &held_out);
            shared.layer_holdouts.insert(name, place);
        }
        shared.layers.insert(name, intervals);
    }
    shared
}

/// The buckets that nobody has. Shares of more than everything are refused by the check.
fn rest(taken: u32) -> u32 {
    BUCKETS.saturating_sub(taken)
}

pub(crate) type Experiments<'p> = Vec<(String, &'p Rule, &'p Experiment, &'p Route)>;

/// The experiments of each layer, in the order in which they lie.
pub(crate) fn experiments(policy: &Policy) -> BTreeMap<&str, Experiments<'_>> {
    let mut layers: BTreeMap<&str, Experiments<'_>> = BTreeMap::new();
    for (key, route) in &policy.routes {
        for rule in &route.rules {
            if let Serve::Experiment(experiment) = &rule.serve {
                let entry = (key.layer_name(), rule, experiment, route);
                layers.entry(&experiment.layer).or_default().push(entry);
            }
        }
    }
    for experiments in layers.values_mut() {
        experiments.sort_by(|(layer, rule, ..), (other, other_rule, ..)| {
            (layer, &rule.name).cmp(&(other, &other_rule.name))
        });
    }
    layers
}

/// Who owns how much of a layer, in the order in which they lie: its holdout, then its experiments.
pub(crate) fn owners<'p>(layer: &NamedLayer, experiments: &Experiments<'p>) -> Vec<(LayerOwner<'p>, u32)> {
    let mut owners = vec![(LayerOwner::Holdout, layer.holdout.buckets())];
    for (name, rule, experiment, route) in experiments {
        let mut shares: Vec<(&str, u32)> =
            experiment.shares.iter().map(|(name, share)| (name.as_str(), share.buckets())).collect();
        by_name(&mut shares, &route.baseline);
        let owner = |variant| LayerOwner::Experiment(name.clone(), &rule.name, variant);
        owners.extend(shares.into_iter().map(|(variant, width)| (owner(variant), width)));
    }
    owners
}

fn write_holdout(
    writer: &mut Writer,
    kind: u32,
    layer: &Layer,
    unit: &Unit,
    held_out: &Intervals<bool>,
) -> u32 {
    let intervals: Vec<Interval> = held_out
        .iter()
        .map(|(end, held_out)| Interval { end: *end, variant: if *held_out { 0 } else { NONE } })
        .collect();
    let place = writer.layer(layer);
    let split = SplitRecord {
        layer: place,
        unit: writer.unit(unit),
        scale: BUCKETS,
        intervals: writer.push_all(&merged(intervals)),
    };
    let record =
        HoldoutRecord { kind, label: writer.label(Some(&layer.name), place), split: writer.push(&split) };
    writer.push(&record)
}

/// Neighbours of one owner as one interval.
fn merged(intervals: Vec<Interval>) -> Vec<Interval> {
    let mut merged: Vec<Interval> = Vec::with_capacity(intervals.len());
    for interval in intervals {
        match merged.last_mut() {
            Some(last) if last.variant == interval.variant => last.end = interval.end,
            _ => merged.push(interval),
        }
    }
    merged
}

impl SharedLayers<'_> {
    /// The intervals of the whole layer of which the experiment's own belong to its variants.
    pub(super) fn experiment(
        &self,
        key: &RouteKey,
        rule: &str,
        layer: &str,
        variant: impl Fn(&str) -> u32,
    ) -> Vec<Interval> {
        let own = key.layer_name();
        let owner = |owner: &LayerOwner<'_>| match owner {
            LayerOwner::Experiment(layer, name, served) if *layer == own && *name == rule => variant(served),
            _ => NONE,
        };
        let Some(intervals) = self.layers.get(layer) else { return Vec::new() };
        merged(ranges(intervals).map(|(_, end, who)| Interval { end, variant: owner(who) }).collect())
    }

    /// The holdouts of a route, in the order in which they are looked at.
    pub(super) fn holdouts(&self, policy: &Policy, key: &RouteKey, route: &Route) -> Vec<u32> {
        let named = policy
            .holdouts
            .iter()
            .filter(|(_, holdout)| holdout.routes.as_ref().is_none_or(|routes| routes.contains(&key.name)));
        let named = named.filter_map(|(name, _)| self.named_holdouts.get(name.as_str()));
        let mut layers: Vec<&str> = route
            .rules
            .iter()
            .filter_map(|rule| match &rule.serve {
                Serve::Experiment(experiment) => Some(experiment.layer.as_str()),
                _ => None,
            })
            .collect();
        layers.sort_unstable();
        layers.dedup();
        let of_layers = layers.iter().filter_map(|layer| self.layer_holdouts.get(layer));
        named.chain(of_layers).copied().collect()
    }
}
