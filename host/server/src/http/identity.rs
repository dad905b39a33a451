//! Who asks, as far as it is verified.

use std::net::IpAddr;

use axum::http::HeaderMap;
use lockgate_shell::{Caller, Problem, bearer, header_text, key_of};

use super::headers::RequestHeaders;
use crate::config::Config;

/// Finds out who asks. A key or trusted header that does not hold is refused rather than ignored: its bearer would otherwise be
/// served as somebody else without a word.
pub(crate) fn identify(config: &Config, headers: &HeaderMap, peer: IpAddr) -> Result<Caller, Problem> {
    let headers = RequestHeaders(headers);
    let mut caller = Caller::default();
    if !config.api_keys.is_empty()
        && let Some(secret) = bearer(&headers)?
    {
        caller = key_of(&config.api_keys, &secret)?.into();
    }
    let settings = &config.settings;
    let trusted = settings.trusted_proxies.0.iter().any(|network| network.contains(peer));
    for (name, field) in [
        (&settings.trusted_user_header, &mut caller.user),
        (&settings.trusted_tenant_header, &mut caller.tenant),
    ] {
        let Some(name) = &name.0 else { continue };
        let Some(value) = header_text(&headers, name.as_str())? else { continue };
        if !trusted {
            let message = format!("the header {name} is believed from trusted proxies alone");
            let detail = format!("{message}, not from {peer}");
            return Err(Problem::unauthorized("untrusted_header", message).detail(detail));
        }
        // A key says more about the caller than the proxy in between.
        field.get_or_insert(value);
        caller.verified = true;
    }
    if !caller.verified && !config.allows_anonymous() {
        return Err(Caller::unauthenticated());
    }
    Ok(caller)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;
    use lockgate_package::Digest;
    use lockgate_shell::ApiKey;

    use super::*;

    fn config() -> Config {
        let mut config = Config::default();
        config.api_keys.push(ApiKey {
            name: "desk".to_owned(),
            sha256: Digest::of(b"secret"),
            user: None,
            tenant: Some("acme".to_owned()),
            routes: Some(vec!["a".to_owned()]),
            records: false,
            forwards: false,
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
