//! The context of a request: request parameters and headers on one side, the verified identity on the other.

use std::collections::BTreeMap;

use lockgate_oip::{Parameter, Parameters};
use lockgate_package::plan::explain::{CONTRIBUTIONS, Contributions};
use lockgate_policy::Attribute;

use crate::headers::header_text;
use crate::{Caller, Context, Headers, Problem};

/// The headers that carry a context; `None` for one that nobody may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextHeaders<'a> {
    /// The user.
    pub user: Option<&'a str>,
    /// The instrument.
    pub symbol: Option<&'a str>,
    /// The tenant.
    pub tenant: Option<&'a str>,
    /// The session.
    pub session: Option<&'a str>,
    /// The variant that the caller asks for.
    pub variant: Option<&'a str>,
}

/// Parameters with a meaning of their own in the protocol or its known extensions. Every other one is an attribute.
const RESERVED: [&str; 9] = [
    CONTRIBUTIONS,
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

/// For whom a request asks.
#[derive(Debug, Clone, PartialEq)]
pub struct Contexts {
    /// One that stands for all rows, or one each; the caller's own where there are no rows. Never none: whoever asks is somebody.
    pub all: Vec<Context>,
    /// Whether there is no row to decide for. A version that is named can be run on none.
    pub no_rows: bool,
}

/// The contexts of a request with `rows` rows: one that stands for all of them, or one each when any parameter is an array.
///
/// # Errors
/// A parameter or header of the wrong form, or an array that has not one value per row.
pub fn contexts(
    names: &ContextHeaders<'_>,
    headers: &(impl Headers + ?Sized),
    caller: &Caller,
    parameters: &Parameters,
    rows: Option<usize>,
) -> Result<Contexts, Problem> {
    let mut shared = Context {
        user: header(headers, names.user)?,
        symbol: header(headers, names.symbol)?,
        tenant: header(headers, names.tenant)?,
        session: header(headers, names.session)?,
        variant: header(headers, names.variant)?,
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
                    return Err(Problem::bad_request(
                        "invalid_parameter",
                        format!("parameter `{name}` has {} values, the request has {rows}", values.len()),
                    )
                    .hint("send one value for all rows, or an array with one value per row"));
                }
            }
            value => set(&mut shared, name, value, None)?,
        }
    }
    let rows = if per_row { rows.unwrap_or(0) } else { 1 };
    let mut all = vec![shared; rows.max(1)];
    if per_row {
        for (name, value) in &context {
            let Parameter::List(values) = value else { continue };
            for (row, (context, value)) in all.iter_mut().zip(values).enumerate() {
                set(context, name, value, Some(row))?;
            }
        }
    }
    for context in &mut all {
        verify(context, caller);
    }
    Ok(Contexts { all, no_rows: rows == 0 })
}

/// The contributions that a request asks for.
///
/// # Errors
/// A parameter of another value than the option has.
pub fn contributions(parameters: &Parameters) -> Result<Contributions, Problem> {
    let asked = match parameters.get(CONTRIBUTIONS) {
        None | Some(Parameter::Null) => Some(Contributions::None),
        Some(Parameter::Boolean(asked)) => Contributions::of(if *asked { "true" } else { "false" }),
        Some(Parameter::Text(text)) => Contributions::of(text),
        Some(_) => None,
    };
    asked.ok_or_else(|| {
        let found = parameters.get(CONTRIBUTIONS).map_or_else(String::new, Parameter::describe);
        let expected = Contributions::EXPECTED;
        Problem::bad_request(
            "invalid_parameter",
            format!("parameter `{CONTRIBUTIONS}` is {found}, expected {expected}"),
        )
        .hint("one value for all rows")
    })
}

/// What is verified replaces what was claimed. A verified caller has no tenant but a verified one: claiming another's would be
/// all it takes to cross over. A caller who speaks for others has verified them itself.
fn verify(context: &mut Context, caller: &Caller) {
    if !caller.verified {
        return;
    }
    if caller.tenant.is_some() || !caller.forwards {
        context.tenant.clone_from(&caller.tenant);
    }
    if caller.user.is_some() {
        context.user.clone_from(&caller.user);
    }
}

fn header(headers: &(impl Headers + ?Sized), name: Option<&str>) -> Result<Option<String>, Problem> {
    name.map_or(Ok(None), |name| header_text(headers, name))
}

fn set(context: &mut Context, name: &str, value: &Parameter, row: Option<usize>) -> Result<(), Problem> {
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

fn wrong(name: &str, expected: &str, found: &Parameter, row: Option<usize>) -> Problem {
    let row = row.map(|row| format!(" in row {row}")).unwrap_or_default();
    Problem::bad_request(
        "invalid_parameter",
        format!("parameter `{name}`{row}: expected {expected}, found {}", found.describe()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HeaderList;

    const NAMES: ContextHeaders<'_> = ContextHeaders {
        user: Some("x-lockgate-user"),
        symbol: Some("x-lockgate-symbol"),
        tenant: Some("x-lockgate-tenant"),
        session: Some("x-lockgate-session"),
        variant: Some("x-lockgate-variant"),
    };

    fn check(
        parameters: &str,
        headers: &[(&'static str, &str)],
        caller: &Caller,
        rows: usize,
    ) -> Result<Vec<Context>, String> {
        let headers = HeaderList::from(headers);
        let parameters = serde_json::from_str(parameters).unwrap();
        contexts(&NAMES, &headers, caller, &parameters, Some(rows))
            .map(|contexts| contexts.all)
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
    fn a_request_without_rows_still_has_a_caller() {
        let parameters = serde_json::from_str(r#"{"user":[],"symbol":"EURUSD"}"#).unwrap();
        let headers = HeaderList::from(&[("x-lockgate-tenant", "acme")][..]);
        let asked = contexts(&NAMES, &headers, &Caller::default(), &parameters, Some(0)).unwrap();
        let [one] = asked.all.as_slice() else { panic!("{asked:?}") };
        let said = (one.tenant.as_deref(), one.symbol.as_deref(), one.user.as_deref());
        assert_eq!((asked.no_rows, said), (true, (Some("acme"), Some("EURUSD"), None)));
        let caller = Caller { tenant: Some("vt".to_owned()), verified: true, ..Caller::default() };
        let asked = contexts(&NAMES, &headers, &caller, &parameters, Some(0)).unwrap();
        assert_eq!(asked.all[0].tenant.as_deref(), Some("vt"));
        assert!(!contexts(&NAMES, &headers, &caller, &Parameters::new(), Some(0)).unwrap().no_rows);
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

    #[test]
    fn who_speaks_for_others_names_their_tenants() {
        let tenants = |caller: &Caller| -> Vec<Option<String>> {
            let rows = r#"{"user":["a","b","c"],"tenant":["x","y",null]}"#;
            check(rows, &[], caller, 3).unwrap().into_iter().map(|context| context.tenant).collect()
        };
        let edge = Caller { verified: true, forwards: true, ..Caller::default() };
        assert_eq!(tenants(&edge), [Some("x".to_owned()), Some("y".to_owned()), None]);
        let named = check("{}", &[("x-lockgate-tenant", "x")], &edge, 1).unwrap();
        assert_eq!(named[0].tenant.as_deref(), Some("x"));
        let plain = Caller { forwards: false, ..edge.clone() };
        assert_eq!(tenants(&plain), [None, None, None]);
        // What its own key says holds for all that it speaks for.
        let bound = Caller { tenant: Some("z".to_owned()), ..edge };
        assert_eq!(tenants(&bound), [Some("z".to_owned()), Some("z".to_owned()), Some("z".to_owned())]);
    }
}
