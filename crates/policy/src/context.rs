use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is known about one request.
///
/// Shells implement this over whatever they have at hand, so that deciding copies nothing. An empty text in one of the four
/// fields, or as requested variant, counts as absent.
pub trait Context {
    /// The route that the caller asks for.
    fn route(&self) -> &str;
    /// Who asks.
    fn user(&self) -> Option<&str>;
    /// What is asked about, `EURUSD`.
    fn symbol(&self) -> Option<&str>;
    /// On whose behalf.
    fn tenant(&self) -> Option<&str>;
    /// In which session.
    fn session(&self) -> Option<&str>;
    /// The attribute called `name`.
    fn attribute(&self, name: &str) -> Option<AttributeValue<'_>>;
    /// The variant that the caller asks for by name. It serves if the policy permits it.
    fn requested_variant(&self) -> Option<&str> {
        None
    }
}

/// The value of an attribute, borrowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AttributeValue<'a> {
    /// Text.
    Text(&'a str),
    /// A number.
    Number(f64),
    /// True or false.
    Boolean(bool),
}

/// One of the four context fields that a split can stick to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Field {
    /// Who asks.
    User,
    /// What is asked about.
    Symbol,
    /// On whose behalf.
    Tenant,
    /// In which session.
    Session,
}

impl Field {
    /// Every field, in the order of its number.
    pub const ALL: [Self; 4] = [Self::User, Self::Symbol, Self::Tenant, Self::Session];

    /// The word used in policies, `user`.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Symbol => "symbol",
            Self::Tenant => "tenant",
            Self::Session => "session",
        }
    }

    /// The key of a list of its values, `users`.
    #[cfg(feature = "compiler")]
    pub(crate) fn list_key(self) -> String {
        format!("{}s", self.name())
    }

    /// The number used in bundles.
    #[cfg(feature = "compiler")]
    pub(crate) fn number(self) -> u32 {
        self as u32
    }

    /// The field with this number.
    #[inline]
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::User),
            1 => Some(Self::Symbol),
            2 => Some(Self::Tenant),
            3 => Some(Self::Session),
            _ => None,
        }
    }

    /// The field's value in `context`; an empty text is absent.
    #[inline]
    pub(crate) fn of<C: Context + ?Sized>(self, context: &C) -> Option<&str> {
        let value = match self {
            Self::User => context.user(),
            Self::Symbol => context.symbol(),
            Self::Tenant => context.tenant(),
            Self::Session => context.session(),
        };
        value.filter(|text| !text.is_empty())
    }
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Attribute {
    /// True or false.
    Boolean(bool),
    /// A number.
    Number(f64),
    /// Text.
    Text(String),
}

/// A context that owns its parts, for hosts and tools.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestContext {
    /// The route that the caller asks for.
    #[serde(default)]
    pub route: String,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What is asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// On whose behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// In which session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The variant that the caller asks for by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Everything else, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Attribute>,
}

impl RequestContext {
    /// A context that names a route and nothing else.
    pub fn new(route: impl Into<String>) -> Self {
        Self { route: route.into(), ..Self::default() }
    }
}

impl Context for RequestContext {
    fn route(&self) -> &str {
        &self.route
    }

    fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    fn symbol(&self) -> Option<&str> {
        self.symbol.as_deref()
    }

    fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    fn requested_variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    fn attribute(&self, name: &str) -> Option<AttributeValue<'_>> {
        self.attributes.get(name).map(|attribute| match attribute {
            Attribute::Boolean(value) => AttributeValue::Boolean(*value),
            Attribute::Number(value) => AttributeValue::Number(*value),
            Attribute::Text(value) => AttributeValue::Text(value),
        })
    }
}
