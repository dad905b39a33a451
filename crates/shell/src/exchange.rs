//! Between the types of a shell and the bytes of a module: contexts into requests, decisions and warnings out of responses.

use std::sync::Arc;

use lockgate_abi::{
    AttributeValue, CompactDecision, ContextFields, DecideRequestWriter, Malformed, Response, TooLarge,
};
use lockgate_policy::{Attribute, Reason, Step};

use crate::{Context, OutOfRange, RequestError, Why};

/// A decision names a place that the bundle does not have.
pub const UNKNOWN_PLACE: Malformed =
    Malformed { problem: "a decision names a place that the bundle does not have", at: 8 };
/// A decision has a number that stands for nothing.
pub const UNKNOWN_NUMBER: Malformed =
    Malformed { problem: "a decision's reason, placement or step is unknown", at: 8 };
/// The decisions are too many or too few.
pub const OTHER_COUNT: Malformed =
    Malformed { problem: "there are not as many decisions as contexts", at: 12 };

/// Writes contexts into a request for decisions.
///
/// # Errors
/// More than a request can hold.
pub fn write_contexts(
    writer: &mut DecideRequestWriter<'_>,
    route: &str,
    contexts: &[Context],
) -> Result<(), RequestError> {
    for context in contexts {
        let Context { user, symbol, tenant, session, variant, attributes } = context;
        let fields = ContextFields {
            route,
            user: user.as_deref(),
            symbol: symbol.as_deref(),
            tenant: tenant.as_deref(),
            session: session.as_deref(),
            variant: variant.as_deref(),
        };
        let attributes = attributes.iter().map(|(name, value)| (name.as_str(), attribute(value)));
        writer.context(&fields, attributes).map_err(too_many_contexts)?;
    }
    Ok(())
}

/// Contexts that a request cannot hold.
pub fn too_many_contexts(error: TooLarge) -> RequestError {
    let hint = "send fewer contexts at once".to_owned();
    RequestError::LimitExceeded { message: error.to_string(), hint }
}

fn attribute(value: &Attribute) -> AttributeValue<'_> {
    match value {
        Attribute::Text(text) => AttributeValue::Text(text),
        Attribute::Number(number) => AttributeValue::Number(*number),
        Attribute::Boolean(boolean) => AttributeValue::Boolean(*boolean),
    }
}

/// Texts that several rows have in common, each made once.
#[derive(Debug, Default)]
pub struct Texts(Vec<Arc<str>>);

impl Texts {
    fn share(&mut self, text: Option<&str>) -> Option<Arc<str>> {
        let text = text?;
        if let Some(known) = self.0.iter().find(|known| known.as_ref() == text) {
            return Some(Arc::clone(known));
        }
        let text: Arc<str> = text.into();
        self.0.push(Arc::clone(&text));
        Some(text)
    }
}

/// What the numbers of a decision are called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecisionNames<'a> {
    /// What matched.
    pub rule: Option<&'a str>,
    /// The layer whose hash space was used.
    pub layer: Option<&'a str>,
    /// The variant that was chosen, when a fallback serves in its place.
    pub intended: Option<&'a str>,
    /// The tenant whose definition of the route it is.
    pub tenant: Option<&'a str>,
    /// The user whose definition of the route it is.
    pub user: Option<&'a str>,
}

impl Why {
    /// Why a row got its version.
    ///
    /// # Errors
    /// A number that stands for nothing.
    pub fn read(
        decision: &CompactDecision,
        names: &DecisionNames<'_>,
        texts: &mut Texts,
    ) -> Result<Self, Malformed> {
        Ok(Self {
            reason: Reason::from_number(decision.reason).ok_or(UNKNOWN_NUMBER)?,
            step: Step::from_number(decision.step).ok_or(UNKNOWN_NUMBER)?,
            rule: texts.share(names.rule),
            layer: texts.share(names.layer),
            bucket: decision.bucket,
            stage: decision.stage,
            window: decision.window,
            unit_missing: decision.unit_missing,
            holdout: decision.holdout,
            washout: decision.washout,
            unavailable: decision.unavailable,
            intended: texts.share(names.intended),
            tenant: texts.share(names.tenant),
            user: texts.share(names.user),
        })
    }
}

impl OutOfRange {
    /// The warnings of a prediction; `feature` gives the name of a feature.
    ///
    /// # Errors
    /// A feature without a name, or warnings that cannot be read.
    pub fn read<'m>(
        response: &Response<'_>,
        feature: impl Fn(usize) -> Option<&'m str>,
    ) -> Result<Vec<Self>, Malformed> {
        let mut names: Vec<Option<Arc<str>>> = Vec::new();
        let mut name = |number: u32| {
            let index = usize::try_from(number).ok()?;
            let text = feature(index)?;
            if names.len() <= index {
                names.resize(index.checked_add(1)?, None);
            }
            Some(Arc::clone(names.get_mut(index)?.get_or_insert_with(|| text.into())))
        };
        let mut all = Vec::new();
        for warning in response.out_of_range()? {
            let problem = "a warning names a feature that the model does not have";
            let name = name(warning.feature).ok_or(Malformed { problem, at: 56 })?;
            all.push(Self { row: warning.row, feature: warning.feature, name, value: warning.value });
        }
        Ok(all)
    }
}
