//! What a population gets: at one time, or over the days of a ramp.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::diff::percent_words;
use crate::missing::{MissingUnit, MissingUnits};
use crate::moment;
use crate::policy::{Millis, Policy, Serve};
use crate::steps::{Partition, RouteStep, Served, steps};
use crate::{Bundle, Decision, RequestContext, Step};

/// The share of each variant in a population.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Simulation {
    /// The route.
    pub route: String,
    /// How many contexts were decided at each time.
    pub units: usize,
    /// The variants, in the order of the source; then, if some contexts may not see the route, `(unknown route)`.
    pub variants: Vec<String>,
    /// One entry for each time.
    pub points: Vec<Point>,
}

/// The shares at one time.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Point {
    /// The time.
    pub now: Millis,
    /// How many contexts each variant serves.
    pub counts: Vec<usize>,
    /// How many each variant is expected to serve, given the steps that match: a split counts with its shares. To a millionth.
    pub expected: Vec<f64>,
    /// How many contexts each step decided, in the order of precedence.
    pub steps: Vec<StepCount>,
    /// How many contexts lacked the unit of a step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<MissingUnit>,
}

/// How many contexts a step decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StepCount {
    /// Which step.
    pub step: Step,
    /// The holdout, test group, symbol rollout or rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The stage of a ramp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<u32>,
    /// How many.
    pub units: usize,
}

const UNKNOWN: &str = "(unknown route)";

/// Decides every context at every time. All ask for `route`, whatever they say themselves.
pub fn simulate(
    bundle: &Bundle,
    route: &str,
    contexts: &[RequestContext],
    times: &[Millis],
    unavailable: &[[u8; 32]],
) -> Simulation {
    let mut variants: Vec<String> = Vec::new();
    for definition in bundle.routes().filter(|definition| definition.name() == route) {
        for variant in definition.variants() {
            if !variants.iter().any(|name| name == variant.name) {
                variants.push(variant.name.to_owned());
            }
        }
    }
    let known = variants.len();
    variants.push(UNKNOWN.to_owned());
    let mut simulation =
        Simulation { route: route.to_owned(), units: contexts.len(), variants, points: Vec::new() };
    let mut contexts = contexts.to_vec();
    contexts.iter_mut().for_each(|context| route.clone_into(&mut context.route));
    for now in times {
        let point = point(bundle, &simulation.variants, &contexts, *now, unavailable);
        simulation.points.push(point);
    }
    if simulation.points.iter().all(|point| point.counts.get(known) == Some(&0)) {
        simulation.variants.truncate(known);
        for point in &mut simulation.points {
            point.counts.truncate(known);
            point.expected.truncate(known);
        }
    }
    simulation
}

/// What chose by bucket: the route, step, names and stage of a decision.
type Chooser = (u32, Step, Option<u32>, Option<u32>);

/// The contexts that a chooser chose for, and the buckets of each variant in it.
struct Chosen {
    contexts: u64,
    /// By the variant's place.
    widths: Vec<u64>,
}

fn point(
    bundle: &Bundle,
    variants: &[String],
    contexts: &[RequestContext],
    now: Millis,
    unavailable: &[[u8; 32]],
) -> Point {
    let mut counts = vec![0_usize; variants.len()];
    // What is certain.
    let mut certain = vec![0_u64; variants.len()];
    let mut by_step: BTreeMap<(Step, u32, Option<u32>, Option<String>), usize> = BTreeMap::new();
    let mut routes: BTreeMap<u32, Vec<RouteStep<'_>>> = BTreeMap::new();
    let mut chosen: BTreeMap<Chooser, Chosen> = BTreeMap::new();
    let mut missing = MissingUnits::default();
    let index = |name: &str| variants.iter().position(|variant| variant == name);
    for context in contexts {
        let Ok(decision) = missing.decide(bundle, context, now, unavailable) else {
            if let (Some(count), Some(sure)) = (counts.last_mut(), certain.last_mut()) {
                *count = count.saturating_add(1);
                *sure = sure.saturating_add(1);
            }
            continue;
        };
        let place = index(decision.variant().name).unwrap_or_default();
        if let Some(count) = counts.get_mut(place) {
            *count = count.saturating_add(1);
        }
        let name = decision.rule().map(str::to_owned);
        let order = decision.target_index.unwrap_or(u32::MAX);
        let count = by_step.entry((decision.step, order, decision.stage, name)).or_default();
        *count = count.saturating_add(1);

        // A bucket that did not choose freely leaves nothing to expect: what serves, serves.
        let free = decision.bucket.is_some() && !decision.holdout && decision.step != Step::Fallback;
        let Some(route) = bundle.route_at(decision.route_index).filter(|_| free) else {
            if let Some(sure) = certain.get_mut(place) {
                *sure = sure.saturating_add(1);
            }
            continue;
        };
        let key = (decision.route_index, decision.step, decision.target_index, decision.stage);
        let chosen = chosen.entry(key).or_insert_with(|| {
            let steps = routes.entry(decision.route_index).or_insert_with(|| steps(bundle.reader(), &route));
            let mut of = Chosen { contexts: 0, widths: vec![0; variants.len()] };
            for (name, width) in widths(steps, &decision) {
                if let Some(sum) = index(&name).and_then(|place| of.widths.get_mut(place)) {
                    *sum = sum.saturating_add(width);
                }
            }
            of
        });
        chosen.contexts = chosen.contexts.saturating_add(1);
    }
    let expected = (0..variants.len()).map(|place| expected(place, &certain, chosen.values())).collect();
    let steps =
        by_step.into_iter().map(|((step, _, stage, name), units)| StepCount { step, name, stage, units });
    Point { now, counts, expected, steps: steps.collect(), missing: missing.of(bundle) }
}

/// How many contexts the variant at this place is expected to serve. Whole numbers are added up and divided last, so that nothing
/// but the last digits that are shown is rounded.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn expected<'c>(place: usize, certain: &[u64], chosen: impl Iterator<Item = &'c Chosen>) -> f64 {
    let mut by_scale: BTreeMap<u64, u64> = BTreeMap::new();
    for Chosen { contexts, widths } in chosen {
        let scale = widths.iter().sum::<u64>().max(1);
        let width = widths.get(place).copied().unwrap_or_default();
        let sum = by_scale.entry(scale).or_default();
        *sum = sum.saturating_add(contexts.saturating_mul(width));
    }
    let shares: f64 = by_scale.into_iter().map(|(scale, sum)| sum as f64 / scale as f64).sum();
    let sum = certain.get(place).copied().unwrap_or_default() as f64 + shares;
    (sum * 1e6).round() / 1e6
}

/// The widths of the variants in the partition that a decision was looked up in.
fn widths(steps: &[RouteStep<'_>], decision: &Decision<'_>) -> Vec<(String, u64)> {
    let twin = steps.iter().find(|step| {
        step.step == decision.step
            && (step.step == Step::Default || Some(step.label) == decision.target_index)
    });
    let partition = match (twin.map(|step| &step.serve), decision.stage) {
        (Some(Served::Split(partition)), _) => Some(partition),
        (Some(Served::Ramp { stages, .. }), stage) => stages.get(stage.unwrap_or_default() as usize),
        _ => None,
    };
    let widths = partition.map(Partition::widths).unwrap_or_default();
    let owned = widths.into_iter().filter_map(|(owner, width)| Some((owner?.to_owned(), u64::from(width))));
    owned.collect()
}

/// Lets every ramp of the policy go on to `stage`, as if somebody had approved it; what is approved already stays.
pub fn assume_approvals(policy: &mut Policy, stage: u32) {
    for route in policy.routes.values_mut() {
        for serve in route.serves_mut() {
            if let Serve::Ramp(ramp) = serve {
                let last = u32::try_from(ramp.stages.len()).unwrap_or(u32::MAX);
                ramp.approved_stage = ramp.approved_stage.max(stage.min(last));
            }
        }
    }
}

impl Simulation {
    /// The contexts that lacked the unit of a step, each kind once, with the highest number that there was at a time.
    pub fn missing(&self) -> Vec<MissingUnit> {
        let mut kinds: Vec<MissingUnit> = Vec::new();
        for found in self.points.iter().flat_map(|point| &point.missing) {
            let same =
                |kind: &&mut MissingUnit| MissingUnit { units: found.units, ..(**kind).clone() } == *found;
            match kinds.iter_mut().find(same) {
                Some(kind) => kind.units = kind.units.max(found.units),
                None => kinds.push(found.clone()),
            }
        }
        kinds
    }

    fn percent(&self, count: f64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let units = self.units.max(1) as f64;
        100.0 * count / units
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn float(count: usize) -> f64 {
    count as f64
}

fn time_words(now: Millis) -> String {
    moment::format(now).unwrap_or_else(|| now.to_string())
}

/// A table: at one time the variants and steps one under the other, else a line for each time.
impl fmt::Display for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route {}, {} units", self.route, self.units)?;
        if let [point] = self.points.as_slice() {
            return self.table_of(point, f);
        }
        let times: Vec<String> = self.points.iter().map(|point| time_words(point.now)).collect();
        let first = times.iter().map(|time| time.chars().count()).max().unwrap_or_default();
        let width = |name: &str| name.chars().count().max(17);
        write!(f, "\n{:first$}", "")?;
        for name in &self.variants {
            write!(f, "  {name:>width$}", width = width(name))?;
        }
        for (time, point) in times.iter().zip(&self.points) {
            write!(f, "\n{time:first$}")?;
            for ((name, count), expected) in self.variants.iter().zip(&point.counts).zip(&point.expected) {
                let (actual, expected) = (self.percent(float(*count)), self.percent(*expected));
                write!(f, "  {:>width$}", format!("{actual:.2} ({expected:.2}) %"), width = width(name))?;
            }
        }
        f.write_str("\nactual (expected) shares")?;
        self.notes(f)
    }
}

impl Simulation {
    /// The units that were decided without what a step sticks to.
    fn notes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = u64::try_from(self.units).unwrap_or(u64::MAX);
        let missing = self.missing();
        if !missing.is_empty() {
            f.write_str("\n")?;
        }
        missing.iter().try_for_each(|missing| write!(f, "\nnote: {}", missing.words(total)))
    }

    fn table_of(&self, point: &Point, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " at {}", time_words(point.now))?;
        let width = self.variants.iter().map(|name| name.chars().count()).max().unwrap_or_default().max(7);
        write!(f, "\n\n{:width$}  {:>10}  {:>8}  {:>8}", "variant", "units", "share", "expected")?;
        for ((name, count), expected) in self.variants.iter().zip(&point.counts).zip(&point.expected) {
            let (share, expected) = (self.percent(float(*count)), self.percent(*expected));
            write!(f, "\n{name:width$}  {count:>10}  {share:>6.2} %  {expected:>6.2} %")?;
        }
        let names: Vec<String> = point.steps.iter().map(StepCount::words).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or_default().max(4);
        write!(f, "\n\n{:width$}  {:>10}  {:>8}", "step", "units", "share")?;
        for (name, step) in names.iter().zip(&point.steps) {
            write!(f, "\n{name:width$}  {:>10}  {:>6.2} %", step.units, self.percent(float(step.units)))?;
        }
        self.notes(f)
    }
}

impl StepCount {
    fn words(&self) -> String {
        let mut text = self.step.name().replace('_', " ");
        if let Some(name) = &self.name {
            text.push(' ');
            text.push_str(name);
        }
        if let Some(stage) = self.stage {
            text.push_str(&format!(", stage {stage}"));
        }
        text
    }
}

/// Colours that people with any common colour vision tell apart (Okabe and Ito), in the order of the variants.
const COLOURS: [&str; 8] =
    ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999"];
const LEFT: f64 = 64.0;
const TOP: f64 = 56.0;
const PLOT_WIDTH: f64 = 720.0;
const PLOT_HEIGHT: f64 = 320.0;
const ROW: f64 = 22.0;
/// How many letters of a name are drawn, and how wide one is at most, about.
const NAME: usize = 32;
const LETTER: f64 = 7.8;

impl Simulation {
    /// A picture of the shares as a self-contained SVG document: bars at one time, stacked areas over several. Equal simulations
    /// give equal bytes.
    pub fn svg(&self) -> String {
        match self.points.as_slice() {
            [point] => self.bars(point),
            _ => self.areas(),
        }
    }

    /// The document around a picture; title and description are for readers that see no picture.
    fn document(&self, (width, height): (f64, f64), description: &str, content: &str) -> String {
        let mut title = format!("Shares of route {} over {} units", self.route, self.units);
        if let [point] = self.points.as_slice() {
            title.push_str(&format!(" at {}", time_words(point.now)));
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" \
             aria-labelledby=\"title description\" font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
             <title id=\"title\">{title}</title>\n<desc id=\"description\">{description}</desc>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
             <text x=\"{LEFT}\" y=\"28\" font-size=\"17\" font-weight=\"600\" fill=\"#1a1a1a\">{title}</text>\n{content}</svg>\n",
            title = escape(&title),
            description = escape(description),
        )
    }

    /// How much room the longest name needs, about.
    fn name_width(&self) -> f64 {
        let longest = self.variants.iter().map(|name| name.chars().count().min(NAME)).max();
        float(longest.unwrap_or_default()) * LETTER + 16.0
    }

    fn bars(&self, point: &Point) -> String {
        let mut content = String::new();
        let label = (self.name_width() - LEFT).max(80.0);
        let scale = PLOT_WIDTH - 140.0;
        let (left, rows) = (LEFT + label, float(self.variants.len()) * 34.0);
        for tick in [0.0, 25.0, 50.0, 75.0, 100.0] {
            let x = left + scale * tick / 100.0;
            content.push_str(&format!(
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\" stroke=\"#d9d9d9\"/>\n\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#4d4d4d\">{tick} %</text>\n",
                TOP + rows,
                TOP + rows + 18.0
            ));
        }
        let mut words = Vec::new();
        for (place, ((name, count), expected)) in
            self.variants.iter().zip(&point.counts).zip(&point.expected).enumerate()
        {
            let (share, expected) = (self.percent(float(*count)), self.percent(*expected));
            let y = TOP + float(place) * 34.0 + 6.0;
            let mark = left + scale * expected / 100.0;
            content.push_str(&format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#1a1a1a\">{}</text>\n\
                 <rect x=\"{left:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"22\" {}><title>{}</title></rect>\n\
                 <line x1=\"{mark:.1}\" x2=\"{mark:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#1a1a1a\" stroke-width=\"2\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#1a1a1a\">{share:.2} % (expected {expected:.2} %)</text>\n",
                left - 10.0,
                y + 16.0,
                escape(&shown(name)),
                scale * share / 100.0,
                fill(place),
                escape(name),
                y - 3.0,
                y + 25.0,
                left + scale * share.max(expected) / 100.0 + 8.0,
                y + 16.0,
            ));
            words.push(format!("{name} {share:.2} %, expected {expected:.2} %"));
        }
        let description = format!(
            "Bars: the share of each variant at {}; a black line marks the expected share. {}.",
            time_words(point.now),
            words.join("; ")
        );
        let (middle, below) = (left + scale / 2.0, TOP + rows + 40.0);
        content.push_str(&format!(
            "<text x=\"{middle:.1}\" y=\"{below:.1}\" text-anchor=\"middle\" fill=\"#4d4d4d\">share of units</text>\n\
             <line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{1:.1}\" y2=\"{2:.1}\" stroke=\"#1a1a1a\" stroke-width=\"2\"/>\n\
             <text x=\"{3:.1}\" y=\"{below:.1}\" fill=\"#1a1a1a\">expected</text>\n",
            left + scale + 60.0,
            below - 12.0,
            below + 2.0,
            left + scale + 68.0,
        ));
        self.document((left + scale + 216.0, TOP + rows + 56.0), &description, &content)
    }

    fn areas(&self) -> String {
        let (first, last) = match (self.points.first(), self.points.last()) {
            (Some(first), Some(last)) => (first.now, last.now),
            _ => (0, 0),
        };
        #[expect(clippy::cast_precision_loss, reason = "a picture is coarser than that")]
        let x = |now: Millis| {
            LEFT + PLOT_WIDTH * (now.saturating_sub(first)) as f64
                / (last.saturating_sub(first)).max(1) as f64
        };
        let y = |percent: f64| TOP + PLOT_HEIGHT * (1.0 - percent / 100.0);
        let mut content = self.stacks(&x, &y);
        for tick in [0.0, 25.0, 50.0, 75.0, 100.0] {
            content.push_str(&format!(
                "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ffffff\" stroke-opacity=\"0.5\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#4d4d4d\">{tick} %</text>\n",
                LEFT + PLOT_WIDTH,
                LEFT - 8.0,
                y(tick) + 4.0,
                at = y(tick)
            ));
        }
        // At most six dates have room.
        let every = self.points.len().saturating_sub(1).div_ceil(6).max(1);
        for point in self.points.iter().step_by(every) {
            let at = x(point.now);
            let words = time_words(point.now);
            let (date, time) = words.split_once('T').unwrap_or((&words, ""));
            content.push_str(&format!(
                "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#4d4d4d\"/>\n\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#4d4d4d\">{}</text>\n\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#4d4d4d\">{}</text>\n",
                TOP + PLOT_HEIGHT,
                TOP + PLOT_HEIGHT + 6.0,
                TOP + PLOT_HEIGHT + 22.0,
                escape(date),
                TOP + PLOT_HEIGHT + 38.0,
                escape(time.trim_end_matches(":00Z").trim_end_matches('Z')),
            ));
        }
        let legend = LEFT + PLOT_WIDTH + 24.0;
        for (place, name) in self.variants.iter().enumerate() {
            let at = TOP + float(place) * ROW;
            content.push_str(&format!(
                "<rect x=\"{legend:.1}\" y=\"{at:.1}\" width=\"14\" height=\"14\" {}/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#1a1a1a\">{}</text>\n",
                fill(place),
                legend + 22.0,
                at + 12.0,
                escape(&shown(name))
            ));
        }
        let at = TOP + float(self.variants.len()) * ROW;
        content.push_str(&format!(
            "<line x1=\"{legend:.1}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#1a1a1a\" stroke-width=\"1.5\" stroke-dasharray=\"4 3\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#1a1a1a\">expected</text>\n",
            legend + 14.0,
            at + 7.0,
            at + 7.0,
            legend + 22.0,
            at + 12.0
        ));
        let words: Vec<String> = self
            .points
            .iter()
            .step_by(every)
            .map(|point| {
                let shares: Vec<String> = self
                    .variants
                    .iter()
                    .zip(&point.counts)
                    .map(|(name, count)| format!("{name} {}", percent_words(self.percent(float(*count)))))
                    .collect();
                format!("{}: {}", time_words(point.now), shares.join(", "))
            })
            .collect();
        let description = format!(
            "Stacked areas: the share of each variant over time, in steps; dashed lines mark the expected shares. {}.",
            words.join("; ")
        );
        let (middle, below) = (TOP + PLOT_HEIGHT / 2.0, TOP + PLOT_HEIGHT + 60.0);
        content.push_str(&format!(
            "<text x=\"14\" y=\"{middle:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {middle:.1})\" fill=\"#4d4d4d\">share of units</text>\n\
             <text x=\"{:.1}\" y=\"{below:.1}\" text-anchor=\"middle\" fill=\"#4d4d4d\">time (UTC)</text>\n",
            LEFT + PLOT_WIDTH / 2.0,
        ));
        // The legend may be higher than the plot.
        let rows = float(self.variants.len()) * ROW + ROW;
        let height = (TOP + PLOT_HEIGHT + 76.0).max(TOP + rows + 16.0);
        let width = (legend + 22.0 + self.name_width()).max(LEFT + PLOT_WIDTH + 200.0);
        self.document((width, height), &description, &content)
    }

    /// The areas of all variants, the first one at the bottom, and the expected bounds between them.
    fn stacks(&self, x: &impl Fn(Millis) -> f64, y: &impl Fn(f64) -> f64) -> String {
        let below = |point: &Point, place: usize, expected: bool| -> f64 {
            let sum: f64 = match expected {
                true => point.expected.iter().take(place).sum(),
                false => point.counts.iter().take(place).map(|count| float(*count)).sum(),
            };
            self.percent(sum)
        };
        // What holds at a time holds until the next one: a line of steps.
        let line = |place: usize, expected: bool| -> Vec<(f64, f64)> {
            let mut corners: Vec<(f64, f64)> = Vec::new();
            for point in &self.points {
                let (at, height) = (x(point.now), y(below(point, place, expected)));
                if let Some((_, before)) = corners.last().copied() {
                    corners.push((at, before));
                }
                corners.push((at, height));
            }
            corners
        };
        let path = |corners: &[(f64, f64)]| {
            let points: Vec<String> = corners.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            points.join(" ")
        };
        let mut out = String::new();
        for (place, name) in self.variants.iter().enumerate() {
            let mut corners = line(place, false);
            corners.extend(line(place.saturating_add(1), false).into_iter().rev());
            out.push_str(&format!(
                "<polygon points=\"{}\" {}><title>{}</title></polygon>\n",
                path(&corners),
                fill(place),
                escape(name)
            ));
        }
        for place in 1..self.variants.len() {
            out.push_str(&format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"#1a1a1a\" stroke-width=\"1.5\" stroke-dasharray=\"4 3\"/>\n",
                path(&line(place, true))
            ));
        }
        out
    }
}

/// The fill of a variant; those beyond the colours have the same ones again, lighter.
fn fill(place: usize) -> String {
    let colour = COLOURS.get(place % COLOURS.len()).copied().unwrap_or("#999999");
    match place / COLOURS.len() {
        0 => format!("fill=\"{colour}\""),
        1 => format!("fill=\"{colour}\" fill-opacity=\"0.6\""),
        _ => format!("fill=\"{colour}\" fill-opacity=\"0.3\""),
    }
}

/// A name as it is drawn.
fn shown(name: &str) -> String {
    match name.char_indices().nth(NAME) {
        Some(_) => name.chars().take(NAME.saturating_sub(1)).chain(['…']).collect(),
        None => name.to_owned(),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
