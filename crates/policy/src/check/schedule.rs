//! What depends on time or on a slice of a layer: ramps, switchbacks, experiments, pauses.

use std::collections::BTreeMap;

use super::reader::{Fields, Path, Reader};
use super::route::RouteScope;
use super::{scalar, split};
use crate::language::Mapping;
use crate::policy::{Experiment, Layer, Millis, Pause, Ramp, Share, Shares, Stage, Switchback, Unit};
use crate::source::{Node, Value};
use crate::{Algorithm, BUCKETS, language};

/// The most variants of a switchback.
const MAX_SWITCHBACK_VARIANTS: usize = 16;

/// Times in which clocks stand still, sorted.
pub(super) fn pauses(
    reader: &mut Reader<'_>,
    node: &Node,
    path: &Path<'_>,
    mapping: &'static Mapping,
) -> Option<Vec<Pause>> {
    let before = reader.problems.len();
    let mut pauses = Vec::new();
    for (item, index) in reader.list(node, path).iter().zip(0..) {
        let path = path.index(index);
        let Some(fields) = reader.fields(item, &path, mapping) else { continue };
        reader.missing(&fields, &path, "from", "`from: <moment>`, when it begins");
        let reason = reader
            .at(&fields, &path, "reason", |reader, node, path| reader.text(node, path).map(str::to_owned));
        let Some(window) = scalar::window(reader, &fields, &path) else { continue };
        let (until, reason) = (window.until, reason.flatten());
        pauses.extend(window.from.map(|from| Pause { from, until, reason }));
    }
    pauses.sort_by(|one, other| {
        let order = |pause: &Pause| (pause.from, pause.until.is_none(), pause.until);
        order(one).cmp(&order(other)).then_with(|| one.reason.cmp(&other.reason))
    });
    (reader.problems.len() == before).then_some(pauses)
}

pub(super) fn ramp(
    reader: &mut Reader<'_>,
    scope: &RouteScope<'_>,
    node: &Node,
    path: &Path<'_>,
    unit: Option<Unit>,
    layer: Option<Layer>,
) -> Option<Ramp> {
    let fields = reader.fields(node, path, &language::RAMP)?;
    let before = reader.problems.len();
    let name = |reader: &mut Reader<'_>, node: &Node, path: &Path<'_>| {
        reader.name_of(node, path, &scope.variants).map(str::to_owned)
    };
    let to = reader.at(&fields, path, "to", name);
    let from = reader.at(&fields, path, "from", name);
    let from = from.unwrap_or_else(|| scope.baseline.clone());
    if let (Some(Some(to)), Some(from)) = (&to, &from)
        && to == from
    {
        let message = format!("the ramp leads from `{from}` to `{to}`");
        let hint = "`from` is the baseline unless it says otherwise".to_owned();
        reader.problem(fields.position, path, message, None, Some(hint));
    }
    let start = reader.required(&fields, path, "start", "`start: <moment>`, when the first stage may begin");
    let start = start.and_then(|node| scalar::moment(reader, node, &path.key("start")));
    let automatic = reader.at(&fields, path, "automatic", Reader::boolean);
    let pauses =
        reader.at(&fields, path, "pauses", |reader, node, path| pauses(reader, node, path, &language::PAUSE));
    let expected = "`stages: [{ share: 10, hold: 24h }, { share: 100 }]`";
    let stages = reader.required(&fields, path, "stages", expected).and_then(|node| {
        let path = path.key("stages");
        let items = reader.filled_list(node, &path, "at least one stage")?;
        let algorithm = layer.as_ref().map(|layer| layer.algorithm).unwrap_or_default();
        let ramp = StageReader { scope, to: &to, from: from.as_deref(), start, algorithm };
        ramp.stages(reader, items, &path)
    });
    let approved = reader.at(&fields, path, "approved_stage", |reader, node, path| {
        let count =
            stages.as_ref().map_or(u32::MAX, |stages| u32::try_from(stages.len()).unwrap_or(u32::MAX));
        scalar::whole(reader, node, path, 0, count)
    });
    if let (Some(_), Some(stages)) = (to, fields.get("stages"))
        && let Value::List(items) = &stages.value
        && !items.is_empty()
        && items
            .iter()
            .all(|item| super::child(item, "split").is_some() && super::child(item, "share").is_none())
    {
        let message = "`to` has no meaning when every stage has a `split`";
        let hint = Some("remove it, or give the stages a `share`".to_owned());
        reader.problem(fields.position, path, message, None, hint);
    }
    if reader.problems.len() > before {
        return None;
    }
    Some(Ramp {
        unit: unit?,
        layer: layer?,
        from: from?,
        start: start?,
        stages: stages?,
        approved_stage: approved.flatten().unwrap_or_default(),
        automatic: automatic.flatten().unwrap_or_default(),
        pauses: pauses.flatten().unwrap_or_default(),
    })
}

/// What the stages of a ramp are read with.
struct StageReader<'a> {
    scope: &'a RouteScope<'a>,
    /// `None` without the key, `Some(None)` when it could not be read.
    to: &'a Option<Option<String>>,
    from: Option<&'a str>,
    start: Option<Millis>,
    algorithm: Algorithm,
}

impl StageReader<'_> {
    fn stages(&self, reader: &mut Reader<'_>, items: &[Node], path: &Path<'_>) -> Option<Vec<Stage>> {
        let mut stages = Vec::new();
        // When the stage that is being read begins by what the stages before it hold; `None` when one does not say.
        let mut held = Some(0_u64);
        for (item, index) in items.iter().zip(0..) {
            let path = path.index(index);
            let Some(fields) = reader.fields(item, &path, &language::STAGE) else {
                held = None;
                continue;
            };
            let shares = self.shares(reader, &fields, &path);
            let start = self.start(reader, &fields, &path, index, held);
            let offset = start.or(held);
            if let (Some(shares), Some(offset)) = (shares, offset) {
                stages.push(Stage { shares, offset });
            }
            let next = items.get(index + 1);
            let hold = reader.at(&fields, &path, "hold", scalar::positive_duration);
            if hold.is_none()
                && let Some(next) = next
                && super::child(next, "start").is_none()
                && fields.lacks("hold")
            {
                let message = "the key `hold` is missing";
                let expected = Some("`hold: <duration>`, how long this stage lasts at least".to_owned());
                let hint = Some("or the next stage says its `start`".to_owned());
                reader.problem(fields.position, &path, message, expected, hint);
            }
            if let (Some(node), None) = (fields.get("hold"), next) {
                let message = "the last stage has nothing to hold for";
                let hint = Some("remove `hold`, or add a stage".to_owned());
                reader.problem(node.position, &path.key("hold"), message, None, hint);
            }
            held = match hold {
                Some(hold) => offset.zip(hold).map(|(offset, hold)| offset.saturating_add(hold)),
                // Whatever is after this stage begins a moment later at least.
                None => offset.map(|offset| offset.saturating_add(1)),
            };
        }
        (stages.len() == items.len()).then_some(stages)
    }

    /// The offset of a stage that says its `start`.
    fn start(
        &self,
        reader: &mut Reader<'_>,
        fields: &Fields<'_>,
        path: &Path<'_>,
        index: usize,
        held: Option<u64>,
    ) -> Option<u64> {
        let node = fields.get("start")?;
        let path = path.key("start");
        let moment = scalar::moment(reader, node, &path)?;
        if index == 0 {
            let message = "the first stage starts with the ramp";
            let hint = Some("write `start` beside `stages`".to_owned());
            reader.problem(node.position, &path, message, None, hint);
            return None;
        }
        let offset = moment.checked_sub(self.start?).and_then(|offset| u64::try_from(offset).ok());
        if offset.is_none_or(|offset| held.is_some_and(|held| offset < held)) {
            let message = "this stage would start before the stage before it has been held";
            let earliest = held.and_then(|held| i64::try_from(held).ok()).zip(self.start);
            let earliest =
                earliest.and_then(|(held, start)| crate::moment::format(start.saturating_add(held)));
            let expected = earliest.map(|earliest| format!("`{earliest}` or later"));
            reader.problem(node.position, &path, message, expected, None);
            return None;
        }
        offset
    }

    fn shares(&self, reader: &mut Reader<'_>, fields: &Fields<'_>, path: &Path<'_>) -> Option<Shares> {
        let (share, split) = (fields.get("share"), fields.get("split"));
        match (share, split) {
            (Some(node), None) => {
                let path = path.key("share");
                let share = scalar::share(reader, node, &path)?;
                let scale = self.algorithm.scale();
                let width = split::whole_buckets(reader, share, scale, node, &path)?;
                let Some(to) = self.to else {
                    let message = "the ramp does not say which variant's share this is";
                    let expected = Some("`to: <variant>` beside `stages`".to_owned());
                    reader.problem(node.position, &path, message, expected, None);
                    return None;
                };
                let (to, from) = (to.clone()?, self.from?.to_owned());
                let parts = vec![(from, scale.checked_sub(width)?), (to, width)];
                Some(split::arranged(self.algorithm, scale, parts))
            }
            (None, Some(node)) => split::shares(reader, self.scope, node, &path.key("split"), self.algorithm),
            (share, _) => {
                let message = match share {
                    Some(_) => "`share` and `split` exclude each other",
                    None if !fields.lacks_all(&["share", "split"]) => return None,
                    None => "the stage says no share",
                };
                let expected = "`share: <percent>` of `to`, or `split: { <variant>: <percent>, … }`";
                reader.problem(fields.position, path, message, Some(expected.to_owned()), None);
                None
            }
        }
    }
}

pub(super) fn experiment(
    reader: &mut Reader<'_>,
    scope: &RouteScope<'_>,
    node: &Node,
    path: &Path<'_>,
) -> Option<Experiment> {
    let fields = reader.fields(node, path, &language::EXPERIMENT)?;
    let expected = "`{ layer: <name>, share: <percent>, split: { <variant>: <percent>, … } }`";
    let layer = reader.required(&fields, path, "layer", expected);
    let layer = layer.and_then(|node| {
        let path = path.key("layer");
        let layer = split::layer(reader, scope.names, node, &path)?;
        if layer.layer.algorithm != Algorithm::Lockgate {
            let message = format!("the layer `{}` has the hash of another system", layer.layer.name);
            let hint = "experiments need a layer with the hash `lockgate`".to_owned();
            reader.problem(node.position, &path, message, None, Some(hint));
            return None;
        }
        Some(layer)
    });
    let share_node = reader.required(&fields, path, "share", expected);
    let share = share_node.and_then(|node| scalar::share(reader, node, &path.key("share")));
    if let (Some(share), Some(node)) = (share, share_node)
        && share.buckets() == 0
    {
        let hint = Some("to end the experiment, remove the rule".to_owned());
        reader.problem(node.position, &path.key("share"), "the experiment has no share", None, hint);
        return None;
    }
    let split = reader.required(&fields, path, "split", expected);
    let split_path = path.key("split");
    let split_shares =
        split.and_then(|node| split::shares(reader, scope, node, &split_path, Algorithm::Lockgate));
    let (layer, share, split, parts) = (layer?, share?, split?, split_shares?.parts);
    // What the share must be a multiple of, so that each variant's part of it is a whole number.
    let step = BUCKETS / parts.iter().fold(BUCKETS, |common, (_, part)| greatest_divisor(common, *part));
    let mut shares = BTreeMap::new();
    let mut left = share.buckets();
    for (variant, part) in parts {
        let product = u64::from(share.buckets()) * u64::from(part);
        let (width, rest) = (product / u64::from(BUCKETS), product % u64::from(BUCKETS));
        if rest != 0 {
            let path = split_path.key(&variant);
            let message = format!("{} % of {share} % is no whole number of buckets", Share(part));
            let expected = format!("a share of the layer that is a multiple of {} %", Share(step));
            let position = super::entries_of(Some(split))
                .iter()
                .find(|entry| entry.key == variant)
                .map_or(split.position, |entry| entry.value.position);
            reader.problem(position, &path, message, Some(expected), None);
        }
        // At most the share, which is one.
        let width = u32::try_from(width).ok()?;
        left = left.saturating_sub(width);
        shares.insert(variant, Share(width));
    }
    // What is left is reported above; it still counts when the experiments of the layer are added up.
    if let Some(mut last) = shares.last_entry() {
        last.get_mut().0 += left;
    }
    Some(Experiment { layer: layer.layer.name.clone(), shares })
}

fn greatest_divisor(one: u32, other: u32) -> u32 {
    if other == 0 { one } else { greatest_divisor(other, one % other) }
}

pub(super) fn switchback(
    reader: &mut Reader<'_>,
    scope: &RouteScope<'_>,
    node: &Node,
    path: &Path<'_>,
    name: &str,
    unit: Option<Unit>,
) -> Option<Switchback> {
    let fields = reader.fields(node, path, &language::SWITCHBACK)?;
    let before = reader.problems.len();
    let expected = "`{ variants: [a, b], start: <moment>, window: <duration> }`";
    let variants = reader.required(&fields, path, "variants", expected).and_then(|node| {
        let path = path.key("variants");
        let variants = reader.names_in(node, &path, &scope.variants)?;
        if !(2..=MAX_SWITCHBACK_VARIANTS).contains(&variants.len()) {
            let message = format!("a switchback of {} variants", variants.len());
            let expected = Some(format!("2 to {MAX_SWITCHBACK_VARIANTS} variants"));
            reader.problem(node.position, &path, message, expected, None);
        }
        Some(variants)
    });
    let start = reader.required(&fields, path, "start", expected);
    let start = start.and_then(|node| scalar::moment(reader, node, &path.key("start")));
    let end = reader.at(&fields, path, "end", scalar::moment);
    if let (Some(start), Some(Some(end)), Some(node)) = (start, end, fields.get("end"))
        && end <= start
    {
        reader.problem(node.position, &path.key("end"), "`end` is not after `start`", None, None);
    }
    let window = reader.required(&fields, path, "window", expected);
    let window = window.and_then(|node| scalar::positive_duration(reader, node, &path.key("window")));
    let washout = reader.at(&fields, path, "washout", scalar::duration);
    if let (Some(window), Some(Some(washout)), Some(node)) = (window, washout, fields.get("washout"))
        && washout >= window
    {
        let message = "the washout leaves nothing of the window";
        let expected = Some(format!("less than the window, {}", scalar::write_duration(window)));
        reader.problem(node.position, &path.key("washout"), message, expected, None);
    }
    let seed = reader
        .at(&fields, path, "seed", |reader, node, path| reader.filled_text(node, path).map(str::to_owned));
    if reader.problems.len() > before {
        return None;
    }
    Some(Switchback {
        unit: unit?,
        variants: variants?,
        start: start?,
        end: end.flatten(),
        window: window?,
        washout: washout.flatten().unwrap_or_default(),
        seed: seed.flatten().unwrap_or_else(|| format!("{}/{name}", scope.own.name)),
    })
}
