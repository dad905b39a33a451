use std::fmt;

use serde::{Deserialize, Serialize};

use crate::bundle::format::NONE;
use crate::bundle::{Bundle, RouteView, ShadowView, VariantView};
use crate::evaluate::Choice;

/// Which variant serves a request, and why. Deciding finds places only; the methods read what lies there in the bundle.
#[derive(Clone, Copy)]
pub struct Decision<'b> {
    bundle: &'b Bundle,
    /// The place of the route's definition among those of the bundle.
    pub route_index: u32,
    /// The variant's place among the route's variants, in the order of the source.
    pub variant_index: u32,
    /// Why this variant, in OpenFeature's words.
    pub reason: Reason,
    /// The step of the precedence that decided.
    pub step: Step,
    /// The unit's bucket in the layer that decided.
    pub bucket: Option<u32>,
    /// The stage of the ramp that is in force.
    pub stage: Option<u32>,
    /// The number of the switchback's window.
    pub window: Option<u32>,
    /// Whether the unit that the split sticks to was missing, so that the baseline serves.
    pub unit_missing: bool,
    /// Whether the unit is held out, so that the baseline serves.
    pub holdout: bool,
    /// Whether a window of a switchback has only begun, so that the baseline serves.
    pub washout: bool,
    /// Whether the variant cannot serve, and none that could have stood in for it.
    pub unavailable: bool,
    /// The place of the variant that this one stands in for.
    pub intended_index: Option<u32>,
    /// The place of [`rule`](Self::rule) and [`layer`](Self::layer) in the bundle: decisions of one bundle that have it in
    /// common have these in common.
    pub target_index: Option<u32>,
    /// Which of the route's shadows run; bit 0 is the first one.
    pub shadow_mask: u32,
}

impl<'b> Decision<'b> {
    #[inline]
    pub(crate) fn new(bundle: &'b Bundle, choice: &Choice) -> Self {
        let some = |number: u32| (number != NONE).then_some(number);
        Self {
            bundle,
            route_index: choice.route,
            variant_index: choice.variant,
            reason: choice.reason,
            step: Step::from_number(choice.step).unwrap_or(Step::Default),
            bucket: some(choice.bucket),
            stage: some(choice.stage),
            window: some(choice.window),
            unit_missing: choice.flags & Choice::UNIT_MISSING != 0,
            holdout: choice.flags & Choice::HOLDOUT != 0,
            washout: choice.flags & Choice::WASHOUT != 0,
            unavailable: choice.flags & Choice::UNAVAILABLE != 0,
            intended_index: some(choice.intended),
            target_index: some(choice.target),
            shadow_mask: choice.shadows,
        }
    }

    /// The route, in the definition that decided.
    #[inline]
    pub fn route(&self) -> RouteView<'b> {
        RouteView::new(self.bundle.reader(), self.route_index)
    }

    /// The variant that serves.
    #[inline]
    pub fn variant(&self) -> VariantView<'b> {
        self.route().variant_at(self.variant_index)
    }

    /// The variant that should have served but is unavailable.
    pub fn intended(&self) -> Option<VariantView<'b>> {
        self.intended_index.map(|index| self.route().variant_at(index))
    }

    /// The permitted request, holdout, test group, symbol rollout or rule that matched.
    pub fn rule(&self) -> Option<&'b str> {
        self.names().0
    }

    /// The layer whose hash space a bucket was looked up in.
    pub fn layer(&self) -> Option<&'b str> {
        self.names().1
    }

    /// [`rule`](Self::rule) and [`layer`](Self::layer).
    pub fn names(&self) -> (Option<&'b str>, Option<&'b str>) {
        self.target_index.and_then(|index| self.bundle.target_names(index)).unwrap_or_default()
    }

    /// The shadows that run.
    pub fn shadows(&self) -> impl Iterator<Item = ShadowView<'b>> + use<'b> {
        let (route, mask) = (self.route(), self.shadow_mask);
        (0..u32::BITS)
            .filter(move |index| mask >> index & 1 != 0)
            .filter_map(move |index| route.shadow(index))
    }
}

/// Decisions are equal when they say the same; those of two bundles may.
impl PartialEq for Decision<'_> {
    fn eq(&self, other: &Self) -> bool {
        let said = |decision: &Self| {
            let Decision { reason, step, bucket, stage, window, .. } = *decision;
            let flags = (decision.unit_missing, decision.holdout, decision.washout, decision.unavailable);
            (reason, step, bucket, stage, window, flags)
        };
        said(self) == said(other)
            && self.route().scope() == other.route().scope()
            && self.variant() == other.variant()
            && self.intended() == other.intended()
            && self.names() == other.names()
            && self.shadows().eq(other.shadows())
    }
}

impl fmt::Debug for Decision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rule, layer) = self.names();
        f.debug_struct("Decision")
            .field("route", &self.route())
            .field("variant", &self.variant().name)
            .field("reason", &self.reason)
            .field("step", &self.step)
            .field("rule", &rule)
            .field("layer", &layer)
            .field("bucket", &self.bucket)
            .field("stage", &self.stage)
            .field("window", &self.window)
            .field("unit_missing", &self.unit_missing)
            .field("holdout", &self.holdout)
            .field("washout", &self.washout)
            .field("unavailable", &self.unavailable)
            .field("intended", &self.intended().map(|variant| variant.name))
            .field("shadows", &self.shadows().map(|shadow| shadow.name).collect::<Vec<_>>())
            .finish()
    }
}

/// What the shell may spend on a shadow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ShadowLimits {
    /// Requests per second.
    pub rate: u32,
    /// Requests at once.
    pub concurrency: u32,
    /// Bytes of a request; a larger one is not copied.
    pub bytes: u32,
    /// Milliseconds until its answer is no longer waited for.
    pub deadline_ms: u32,
}

impl Default for ShadowLimits {
    fn default() -> Self {
        Self { rate: 10, concurrency: 2, bytes: 1 << 20, deadline_ms: 1000 }
    }
}

/// The bundle has no route of this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bundle has no such route")]
pub struct UnknownRoute;

/// Why a variant was chosen, in OpenFeature's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(u8)]
pub enum Reason {
    /// The route serves one variant to everyone.
    Static = 1,
    /// Nothing matched, or the split's unit was missing.
    Default = 2,
    /// An override, test group, symbol rollout or rule matched and serves one variant.
    TargetingMatch = 3,
    /// A split chose by bucket.
    Split = 4,
    /// The route is disabled and serves its baseline.
    Disabled = 5,
    /// No decision could be made. The evaluator never gives this; shells do, for what fails around it.
    Error = 6,
}

/// Where a model version runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Placement {
    /// In the core.
    #[default]
    Edge = 1,
    /// On a server node.
    Host = 2,
    /// On a remote node.
    Gpu = 3,
}

/// A step of the precedence, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Step {
    /// The route is disabled.
    Disabled = 1,
    /// The caller is outside the route's scope.
    Scope = 2,
    /// An override names the caller.
    Override = 3,
    /// The unit is held out.
    Holdout = 4,
    /// A test group contains the caller.
    TestGroup = 5,
    /// A symbol rollout contains the symbol.
    SymbolRollout = 6,
    /// A rule matches.
    Rule = 7,
    /// Nothing before matched.
    Default = 8,
    /// The chosen version is unavailable.
    Fallback = 9,
}

macro_rules! numbered {
    ($type:ident { $($variant:ident => $name:literal),* $(,)? }) => {
        impl $type {
            /// Every value, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The number used by the flat entry point and in bundles.
            pub fn number(self) -> u8 {
                self as u8
            }

            /// The value with this number.
            pub fn from_number(number: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.number() == number)
            }

            /// The word for people and protocols.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

numbered!(Reason {
    Static => "STATIC",
    Default => "DEFAULT",
    TargetingMatch => "TARGETING_MATCH",
    Split => "SPLIT",
    Disabled => "DISABLED",
    Error => "ERROR",
});

numbered!(Placement {
    Edge => "edge",
    Host => "host",
    Gpu => "gpu",
});

numbered!(Step {
    Disabled => "disabled",
    Scope => "scope",
    Override => "override",
    Holdout => "holdout",
    TestGroup => "test_group",
    SymbolRollout => "symbol_rollout",
    Rule => "rule",
    Default => "default",
    Fallback => "fallback",
});
