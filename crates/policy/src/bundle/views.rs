//! What a bundle holds, for people and shells.

use lockgate_package::{Digest, Signature};

use super::format::{
    Label, Layer, Model, NONE, ROUTE_ENABLED, Route, RouteText, Section, Shadow, VARIANT_DISABLED, Variant,
};
use super::{LoadError, Reader};
use crate::decision::{Placement, ShadowLimits};

/// A definition of a route.
#[derive(Clone, Copy)]
pub struct RouteView<'b> {
    reader: Reader<'b>,
    index: u32,
}

impl<'b> RouteView<'b> {
    #[inline]
    pub(crate) fn new(reader: Reader<'b>, index: u32) -> Self {
        Self { reader, index }
    }

    fn texts(&self) -> RouteText {
        self.reader.get(self.index)
    }

    pub(crate) fn record(&self) -> Route {
        self.reader.get(self.index)
    }

    /// The name that callers ask for.
    pub fn name(&self) -> &'b str {
        self.reader.text(self.texts().name)
    }

    /// The tenant whose definition it is, if it is one's.
    pub fn tenant(&self) -> Option<&'b str> {
        self.reader.optional(self.texts().tenant)
    }

    /// The user whose definition it is, of the tenant if there is one.
    pub fn user(&self) -> Option<&'b str> {
        self.reader.optional(self.texts().user)
    }

    /// Name, tenant and user.
    pub(crate) fn scope(&self) -> (&'b str, Option<&'b str>, Option<&'b str>) {
        (self.name(), self.tenant(), self.user())
    }

    /// The definition's place among those of the bundle.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// What the route is for, in words.
    pub fn description(&self) -> Option<&'b str> {
        self.reader.optional(self.texts().description)
    }

    /// Whether the route is enabled; a disabled one serves its baseline to everyone.
    pub fn enabled(&self) -> bool {
        self.record().flags & ROUTE_ENABLED != 0
    }

    /// The share of requests that are recorded, out of [`BUCKETS`](crate::BUCKETS); `None` leaves it to the shell.
    pub fn records(&self) -> Option<u32> {
        Some(self.texts().records).filter(|records| *records != NONE)
    }

    /// What goes into the route's models and what comes out. Decoded on each call.
    ///
    /// # Errors
    /// A signature that cannot be decoded.
    pub fn signature(&self) -> Result<Signature, LoadError> {
        let span = self.texts().signature;
        let bytes = self.reader.section(Section::Signatures).get(span.start as usize..);
        let bytes = bytes.and_then(|rest| rest.get(..span.count as usize)).unwrap_or_default();
        rmp_serde::from_slice(bytes).map_err(|_| LoadError::Malformed {
            section: Section::Signatures.name(),
            problem: "a signature cannot be read",
        })
    }

    /// The variant that serves when the route is disabled or a split's unit is missing.
    pub fn baseline(&self) -> VariantView<'b> {
        self.variant_at(self.record().baseline)
    }

    /// The route's variants, in the order of the source.
    pub fn variants(&self) -> impl Iterator<Item = VariantView<'b>> + use<'b> {
        let (route, reader) = (self.record(), self.reader);
        route.variants.places().map(move |place| VariantView::new(reader, place))
    }

    /// The variant at this place in the order of the source.
    pub fn variant(&self, index: u32) -> Option<VariantView<'b>> {
        (index < self.record().variants.count).then(|| self.variant_at(index))
    }

    /// The variant at a place that exists.
    #[inline]
    pub(crate) fn variant_at(&self, index: u32) -> VariantView<'b> {
        VariantView::new(self.reader, self.record().variants.start.wrapping_add(index))
    }

    /// The shadow at this place in the order of the source.
    pub fn shadow(&self, index: u32) -> Option<ShadowView<'b>> {
        let shadows = self.record().shadows;
        (index < shadows.count).then(|| {
            let shadow: Shadow = self.reader.get(shadows.start.wrapping_add(index));
            let Shadow { name, variant, rate, concurrency, bytes, deadline_ms, .. } = shadow;
            ShadowView {
                name: self.reader.text(name),
                variant: self.variant_at(variant),
                variant_index: variant,
                limits: ShadowLimits { rate, concurrency, bytes, deadline_ms },
            }
        })
    }

    /// The route's shadows, in the order of the source.
    pub fn shadows(&self) -> impl Iterator<Item = ShadowView<'b>> + use<'b> {
        let view = *self;
        (0..view.record().shadows.count).filter_map(move |index| view.shadow(index))
    }
}

impl std::fmt::Debug for RouteView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RouteView({})", self.name())
    }
}

/// A variant of a route.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VariantView<'b> {
    /// The variant's name.
    pub name: &'b str,
    /// Its model.
    pub model: &'b str,
    /// The model's version.
    pub version: &'b str,
    /// The package that the bundle pins for this model version.
    pub digest: Digest,
    /// Where the version runs.
    pub placement: Placement,
    /// What the caller receives beside the prediction, JSON text.
    pub payload: Option<&'b str>,
    /// Whether it is enabled; instead of a disabled one its fallbacks serve.
    pub enabled: bool,
}

impl<'b> VariantView<'b> {
    #[inline]
    fn new(reader: Reader<'b>, place: u32) -> Self {
        let Variant { name, model, payload, flags, .. } = reader.get(place);
        let ModelView { name: model, version, digest, placement } = ModelView::new(reader, model);
        let (name, payload) = (reader.text(name), reader.optional(payload));
        Self { name, model, version, digest, placement, payload, enabled: flags & VARIANT_DISABLED == 0 }
    }
}

/// A variant that runs beside the one that serves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShadowView<'b> {
    /// The shadow's name.
    pub name: &'b str,
    /// The variant.
    pub variant: VariantView<'b>,
    /// The variant's place among the route's variants.
    pub variant_index: u32,
    /// What the shell may spend on it.
    pub limits: ShadowLimits,
}

/// A model version that the bundle pins to a package.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ModelView<'b> {
    /// The model.
    pub name: &'b str,
    /// Its version.
    pub version: &'b str,
    /// SHA-256 of the package's content.
    pub digest: Digest,
    /// Where the version runs.
    pub placement: Placement,
}

impl<'b> ModelView<'b> {
    #[inline]
    pub(super) fn new(reader: Reader<'b>, index: u32) -> Self {
        let Model { name, version, placement, digest } = reader.get(index);
        Self {
            name: reader.text(name),
            version: reader.text(version),
            digest: Digest(digest.0),
            placement: super::placement(placement).unwrap_or_default(),
        }
    }
}

/// The name and the layer of a label.
pub(super) fn names_of(reader: Reader<'_>, label: u32) -> (Option<&str>, Option<&str>) {
    let Label { name, layer } = reader.get(label);
    let layer = (layer != NONE).then(|| reader.text(reader.get::<Layer>(layer).name));
    (reader.optional(name), layer)
}
