use std::fmt;

use lockgate_package::Digest;
use serde::{Deserialize, Serialize};

/// Which model version serves a request, and why. The texts borrow from the bundle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision<'b> {
    /// The route that was asked for.
    pub route: &'b str,
    /// The route's place among the bundle's routes, which are sorted by name.
    pub route_index: u32,
    /// The chosen variant.
    pub variant: &'b str,
    /// The variant's place among the route's variants, in the order of the source.
    pub variant_index: u32,
    /// The variant's payload, JSON text.
    pub payload: Option<&'b str>,
    /// The variant's model.
    pub model: &'b str,
    /// The model's version.
    pub version: &'b str,
    /// The package that the bundle pins for this model version.
    pub package: Digest,
    /// Where the version runs.
    pub placement: Placement,
    /// Why this variant, in OpenFeature's words.
    pub reason: Reason,
    /// The step of the precedence that decided.
    pub step: Step,
    /// The test group, symbol rollout or rule that matched.
    pub rule: Option<&'b str>,
    /// The layer whose hash space a split was looked up in.
    pub layer: Option<&'b str>,
    /// The unit's bucket in that layer, 0 … 99 999.
    pub bucket: Option<u32>,
    /// Whether the unit that the split sticks to was missing, so that the baseline serves.
    pub unit_missing: bool,
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
