//! A context as the evaluator sees it. Both entry points give it the same type, so the module holds one evaluator.

use lockgate_abi::{ContextFields, ContextRecord};
use lockgate_policy::{Attribute, AttributeValue, Context};

use crate::component::ContextParts;

pub(crate) struct View<'a> {
    fields: &'a ContextFields<'a>,
    attributes: Attributes<'a>,
}

enum Attributes<'a> {
    /// Where they lie in the request.
    Record(&'a ContextRecord<'a>),
    List(&'a [(String, Attribute)]),
}

impl<'a> View<'a> {
    #[inline]
    pub(crate) fn of_record(record: &'a ContextRecord<'a>) -> Self {
        Self { fields: &record.fields, attributes: Attributes::Record(record) }
    }

    /// `fields` are those of `context`.
    pub(crate) fn of_parts(fields: &'a ContextFields<'a>, context: &'a ContextParts) -> Self {
        Self { fields, attributes: Attributes::List(&context.attributes) }
    }
}

impl Context for View<'_> {
    #[inline]
    fn route(&self) -> &str {
        self.fields.route
    }

    #[inline]
    fn user(&self) -> Option<&str> {
        self.fields.user
    }

    #[inline]
    fn symbol(&self) -> Option<&str> {
        self.fields.symbol
    }

    #[inline]
    fn tenant(&self) -> Option<&str> {
        self.fields.tenant
    }

    #[inline]
    fn session(&self) -> Option<&str> {
        self.fields.session
    }

    #[inline]
    fn requested_variant(&self) -> Option<&str> {
        self.fields.variant
    }

    fn attribute(&self, name: &str) -> Option<AttributeValue<'_>> {
        use lockgate_abi::AttributeValue as Flat;
        match &self.attributes {
            Attributes::Record(record) => record.attribute(name).map(|value| match value {
                Flat::Text(text) => AttributeValue::Text(text),
                Flat::Number(number) => AttributeValue::Number(number),
                Flat::Boolean(value) => AttributeValue::Boolean(value),
            }),
            Attributes::List(list) => {
                list.iter().find(|(have, _)| have == name).map(|(_, value)| match value {
                    Attribute::Text(text) => AttributeValue::Text(text),
                    Attribute::Number(number) => AttributeValue::Number(*number),
                    Attribute::Boolean(value) => AttributeValue::Boolean(*value),
                })
            }
        }
    }
}
