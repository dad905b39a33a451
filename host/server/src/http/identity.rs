//! Who asks, as far as it is verified.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use lockgate_package::Digest;

use super::error::ApiError;
use crate::config::Config;

/// What is known of a caller beyond doubt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The name of the API key, for logs.
    pub(crate) key: Option<String>,
    /// The verified user.
    pub(crate) user: Option<String>,
    /// The verified tenant.
    pub(crate) tenant: Option<String>,
    /// Whether anything was verified.
    pub(crate) verified: bool,
    /// The routes that the caller may ask; `None` means all.
    pub(crate) routes: Option<Vec<String>>,
}

impl Caller {
    /// Whether the caller may ask this route.
    pub(crate) fn may_ask(&self, route: &str) -> bool {
        self.routes.as_ref().is_none_or(|routes| routes.iter().any(|allowed| allowed == route))
    }
}

/// Finds out who asks. A key or trusted header that does not hold is refused rather than ignored: its bearer would otherwise be
/// served as somebody else without a word.
pub(crate) fn identify(config: &Config, headers: &HeaderMap, peer: IpAddr) -> Result<Caller, ApiError> {
    let mut caller = Caller::default();
    if !config.api_keys.is_empty()
        && let Some(secret) = secret(headers)?
    {
        let digest = Digest::of(secret);
        let Some(key) = config.api_keys.iter().find(|key| key.sha256 == digest) else {
            return Err(unauthorized("unknown_key", "unknown API key"));
        };
        caller = Caller {
            key: Some(key.name.clone()),
            user: key.user.clone(),
            tenant: key.tenant.clone(),
            verified: true,
            routes: key.routes.clone(),
        };
    }
    let settings = &config.settings;
    let trusted = settings.trusted_proxies.0.iter().any(|network| network.contains(peer));
    for (name, field) in [
        (&settings.trusted_user_header, &mut caller.user),
        (&settings.trusted_tenant_header, &mut caller.tenant),
    ] {
        let Some(name) = &name.0 else { continue };
        let Some(value) = text(headers, name)? else { continue };
        if !trusted {
            let message = format!("the header {name} is believed from trusted proxies alone");
            return Err(
                unauthorized("untrusted_header", &message).detail(format!("{message}, not from {peer}"))
            );
        }
        // A key says more about the caller than the proxy in between.
        field.get_or_insert(value);
        caller.verified = true;
    }
    if !caller.verified && !config.allows_anonymous() {
        return Err(unauthorized("unauthenticated", "this server serves known callers alone")
            .hint("send your API key as `Authorization: Bearer …` or `X-API-Key: …`"));
    }
    Ok(caller)
}

fn unauthorized(code: &'static str, message: &str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, code, message)
}

/// The secret in `Authorization: Bearer` or `X-API-Key`.
fn secret(headers: &HeaderMap) -> Result<Option<&[u8]>, ApiError> {
    let bearer = headers.get(header::AUTHORIZATION).map(|value| {
        let value = value.as_bytes();
        match value.split_at_checked(7) {
            Some((scheme, secret)) if scheme.eq_ignore_ascii_case(b"bearer ") => Ok(secret.trim_ascii()),
            _ => Err(unauthorized("unknown_key", "the Authorization header holds no bearer token")),
        }
    });
    let bearer = bearer.transpose()?;
    let key = headers.get("x-api-key").map(axum::http::HeaderValue::as_bytes);
    match (bearer, key) {
        (Some(bearer), Some(key)) if bearer != key => {
            Err(unauthorized("unknown_key", "Authorization and X-API-Key hold different keys"))
        }
        (bearer, key) => Ok(bearer.or(key)),
    }
}

/// The text of a header; an empty one counts as absent.
pub(crate) fn text(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = str::from_utf8(value.as_bytes())
        .map_err(|_| ApiError::bad_request("invalid_header", format!("the header {name} is not UTF-8")))?;
    if values.next().is_some() {
        return Err(ApiError::bad_request("invalid_header", format!("the header {name} is given twice")));
    }
    Ok(Some(text.trim()).filter(|text| !text.is_empty()).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ApiKey;

    fn config() -> Config {
        let mut config = Config::default();
        config.api_keys.push(ApiKey {
            name: "desk".to_owned(),
            sha256: Digest::of(b"secret"),
            user: None,
            tenant: Some("acme".to_owned()),
            routes: Some(vec!["a".to_owned()]),
        });
        config.settings.trusted_proxies.0.push("10.0.0.0/8".parse().unwrap());
        config.settings.trusted_user_header.0 = Some(HeaderName::from_static("x-user"));
        config
    }

    fn check(
        config: &Config,
        peer: &str,
        headers: &[(&'static str, &'static str)],
    ) -> Result<Caller, &'static str> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        identify(config, &map, peer.parse().unwrap()).map_err(|error| error.code)
    }

    #[test]
    fn keys_are_known_or_refused() {
        let config = config();
        for headers in
            [("authorization", "Bearer secret"), ("authorization", "bearer  secret"), ("x-api-key", "secret")]
        {
            let caller = check(&config, "1.1.1.1", &[headers]).unwrap();
            assert_eq!((caller.key.as_deref(), caller.tenant.as_deref()), (Some("desk"), Some("acme")));
            assert!(caller.verified && caller.may_ask("a") && !caller.may_ask("b"));
        }
        assert_eq!(check(&config, "1.1.1.1", &[("x-api-key", "Secret")]), Err("unknown_key"));
        assert_eq!(check(&config, "1.1.1.1", &[("authorization", "Basic secret")]), Err("unknown_key"));
        let both = [("x-api-key", "secret"), ("authorization", "Bearer other")];
        assert_eq!(check(&config, "1.1.1.1", &both), Err("unknown_key"));
        assert_eq!(check(&config, "1.1.1.1", &[]), Err("unauthenticated"));
    }

    #[test]
    fn trusted_headers_are_believed_from_proxies_alone() {
        let config = config();
        let caller = check(&config, "10.1.1.1", &[("x-user", "alice")]).unwrap();
        assert_eq!((caller.user.as_deref(), caller.tenant.as_deref()), (Some("alice"), None));
        assert!(caller.may_ask("b"));
        assert_eq!(check(&config, "11.1.1.1", &[("x-user", "alice")]), Err("untrusted_header"));
        assert_eq!(check(&config, "10.1.1.1", &[("x-user", "a"), ("x-user", "b")]), Err("invalid_header"));
        let caller = check(&config, "10.1.1.1", &[("x-user", "alice"), ("x-api-key", "secret")]).unwrap();
        assert_eq!((caller.user.as_deref(), caller.tenant.as_deref()), (Some("alice"), Some("acme")));
    }

    #[test]
    fn without_configuration_everyone_is_anonymous() {
        let caller = check(&Config::default(), "1.1.1.1", &[("authorization", "Basic x")]).unwrap();
        assert_eq!(caller, Caller::default());
    }
}
