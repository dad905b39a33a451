//! The context of a request: request parameters and headers on one side, the verified identity on the other.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use lockgate_oip::{Parameter, Parameters};
use lockgate_runtime::{Attribute, Context};

use super::error::ApiError;
use super::identity::{Caller, text};
use crate::config::Settings;

/// Parameters with a meaning of their own in the protocol or its known extensions. Every other one is an attribute.
const RESERVED: [&str; 8] = [
    "binary_data_output",
    "timeout",
    "priority",
    "sequence_id",
    "sequence_start",
    "sequence_end",
    "content_type",
    "headers",
];
const RESERVED_PREFIX: &str = "triton_";

/// The contexts of a request with `rows` rows: one that stands for all of them, or one each when any parameter is an array.
pub(crate) fn contexts(
    settings: &Settings,
    headers: &HeaderMap,
    caller: &Caller,
    parameters: &Parameters,
    rows: Option<usize>,
) -> Result<Vec<Context>, ApiError> {
    let mut shared = Context {
        user: header(headers, &settings.user_header)?,
        symbol: header(headers, &settings.symbol_header)?,
        tenant: header(headers, &settings.tenant_header)?,
        session: header(headers, &settings.session_header)?,
        variant: header(headers, &settings.variant_header)?,
        attributes: BTreeMap::new(),
    };
    let context: Vec<(&str, &Parameter)> = parameters
        .iter()
        .map(|(name, value)| (name.as_str(), value))
        .filter(|(name, _)| !RESERVED.contains(name) && !name.starts_with(RESERVED_PREFIX))
        .collect();
    let mut per_row = false;
    for (name, value) in &context {
        match value {
            Parameter::List(values) => {
                per_row = true;
                if Some(values.len()) != rows {
                    let rows = rows.map_or("no rows".to_owned(), |rows| format!("{rows} rows"));
                    return Err(ApiError::bad_request(
                        "invalid_parameter",
                        format!("parameter `{name}` has {} values, the request has {rows}", values.len()),
                    )
                    .hint("send one value for all rows, or an array with one value per row"));
                }
            }
            value => set(&mut shared, name, value, None)?,
        }
    }
    let mut contexts = vec![shared];
    if per_row {
        contexts = vec![contexts.remove(0); rows.unwrap_or(0)];
        for (name, value) in &context {
            let Parameter::List(values) = value else { continue };
            for (row, (context, value)) in contexts.iter_mut().zip(values).enumerate() {
                set(context, name, value, Some(row))?;
            }
        }
    }
    for context in &mut contexts {
        verify(context, caller);
    }
    Ok(contexts)
}

/// What is verified replaces what was claimed. A verified caller has no tenant but a verified one: claiming another's would be
/// all it takes to cross over.
fn verify(context: &mut Context, caller: &Caller) {
    if !caller.verified {
        return;
    }
    context.tenant.clone_from(&caller.tenant);
    if caller.user.is_some() {
        context.user.clone_from(&caller.user);
    }
}

fn header(headers: &HeaderMap, name: &crate::config::HeaderName) -> Result<Option<String>, ApiError> {
    name.0.as_ref().map_or(Ok(None), |name| text(headers, name))
}

fn set(context: &mut Context, name: &str, value: &Parameter, row: Option<usize>) -> Result<(), ApiError> {
    // A null says nothing, so a header or another source may still speak.
    if *value == Parameter::Null {
        return Ok(());
    }
    let field = match name {
        "user" => &mut context.user,
        "symbol" => &mut context.symbol,
        "tenant" => &mut context.tenant,
        "session" => &mut context.session,
        "variant" => &mut context.variant,
        _ => {
            let value = match value {
                Parameter::Text(text) => Attribute::Text(text.clone()),
                Parameter::Boolean(value) => Attribute::Boolean(*value),
                #[expect(clippy::cast_precision_loss, reason = "policies compare numbers as f64")]
                Parameter::Integer(number) => Attribute::Number(*number as f64),
                Parameter::Number(number) => Attribute::Number(*number),
                other => return Err(wrong(name, "a string, a number or a boolean", other, row)),
            };
            context.attributes.insert(name.to_owned(), value);
            return Ok(());
        }
    };
    *field = Some(match value {
        Parameter::Text(text) => text.clone(),
        // Many systems number their users.
        Parameter::Integer(number) => number.to_string(),
        other => return Err(wrong(name, "a string", other, row)),
    });
    Ok(())
}

fn wrong(name: &str, expected: &str, found: &Parameter, row: Option<usize>) -> ApiError {
    let row = row.map(|row| format!(" in row {row}")).unwrap_or_default();
    ApiError::bad_request(
        "invalid_parameter",
        format!("parameter `{name}`{row}: expected {expected}, found {}", found.describe()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        parameters: &str,
        headers: &[(&'static str, &str)],
        caller: &Caller,
        rows: usize,
    ) -> Result<Vec<Context>, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let parameters = serde_json::from_str(parameters).unwrap();
        contexts(&Settings::default(), &map, caller, &parameters, Some(rows))
            .map_err(|error| format!("{error:?}"))
    }

    fn users(contexts: &[Context]) -> Vec<Option<&str>> {
        contexts.iter().map(|context| context.user.as_deref()).collect()
    }

    #[test]
    fn one_context_or_one_per_row() {
        let nobody = Caller::default();
        let one = check(r#"{"user":"a","n":3,"b":true,"timeout":5,"triton_x":1}"#, &[], &nobody, 4).unwrap();
        assert_eq!(users(&one), [Some("a")]);
        assert_eq!(
            one[0].attributes,
            BTreeMap::from([
                ("b".to_owned(), Attribute::Boolean(true)),
                ("n".to_owned(), Attribute::Number(3.0))
            ])
        );
        let each = check(r#"{"user":["a",7,null],"symbol":"EURUSD"}"#, &[], &nobody, 3).unwrap();
        assert_eq!(users(&each), [Some("a"), Some("7"), None]);
        assert!(each.iter().all(|context| context.symbol.as_deref() == Some("EURUSD")));
        assert!(
            check(r#"{"user":["a"]}"#, &[], &nobody, 3)
                .unwrap_err()
                .contains("parameter `user` has 1 values, the request has 3 rows")
        );
        assert!(
            check(r#"{"user":["a",true]}"#, &[], &nobody, 2)
                .unwrap_err()
                .contains("parameter `user` in row 1: expected a string, found the boolean true")
        );
        assert!(check(r#"{"user":1.5}"#, &[], &nobody, 2).unwrap_err().contains("found the number 1.5"));
    }

    #[test]
    fn parameters_precede_headers_and_identity_precedes_both() {
        let headers = [("x-lockgate-user", "h"), ("x-lockgate-tenant", "ht")];
        let claimed = check("{}", &headers, &Caller::default(), 1).unwrap();
        assert_eq!((claimed[0].user.as_deref(), claimed[0].tenant.as_deref()), (Some("h"), Some("ht")));
        assert_eq!(
            users(&check(r#"{"user":["a",null]}"#, &headers, &Caller::default(), 2).unwrap()),
            [Some("a"), Some("h")]
        );
        let caller = Caller {
            user: Some("v".to_owned()),
            tenant: Some("vt".to_owned()),
            verified: true,
            ..Caller::default()
        };
        let verified = check(r#"{"user":["a","b"],"tenant":"t"}"#, &headers, &caller, 2).unwrap();
        assert!(
            verified.iter().all(
                |context| context.user.as_deref() == Some("v") && context.tenant.as_deref() == Some("vt")
            )
        );
        let keyed = Caller { verified: true, ..Caller::default() };
        let keyed = check(r#"{"user":"a","tenant":"t"}"#, &headers, &keyed, 1).unwrap();
        assert_eq!((keyed[0].user.as_deref(), keyed[0].tenant.as_deref()), (Some("a"), None));
    }
}
