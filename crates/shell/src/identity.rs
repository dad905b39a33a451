//! Who asks, as far as it is verified.

use std::borrow::Cow;

use lockgate_package::Digest;
use serde::{Deserialize, Serialize};

use crate::{Headers, Problem};

/// An API key, known by its digest alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// What logs call it.
    pub name: String,
    /// SHA-256 of the secret.
    pub sha256: Digest,
    /// The tenant of every request with this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The user of every request with this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The routes that it may ask; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<Vec<String>>,
    /// Whether it may send records.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub records: bool,
    /// Whether its bearer speaks for others, and may say for which tenant it asks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forwards: bool,
}

/// What is known of a caller beyond doubt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// The name of the API key, for logs.
    pub key: Option<String>,
    /// The verified user.
    pub user: Option<String>,
    /// The verified tenant.
    pub tenant: Option<String>,
    /// Whether anything was verified.
    pub verified: bool,
    /// The routes that the caller may ask; `None` means all.
    pub routes: Option<Vec<String>>,
    /// Whether it may send records.
    pub records: bool,
    /// Whether it may say for which tenant it asks. What it says is not verified by that.
    pub forwards: bool,
}

impl Caller {
    /// Whether the caller may ask this route.
    pub fn may_ask(&self, route: &str) -> bool {
        self.routes.as_ref().is_none_or(|routes| routes.iter().any(|allowed| allowed == route))
    }

    /// The answer to a caller of whom nothing is known where something must be.
    pub fn unauthenticated() -> Problem {
        Problem::unauthorized("unauthenticated", "this server serves known callers alone")
            .hint("send your API key as `Authorization: Bearer …` or `X-API-Key: …`")
    }
}

impl From<&ApiKey> for Caller {
    fn from(key: &ApiKey) -> Self {
        Self {
            key: Some(key.name.clone()),
            user: key.user.clone(),
            tenant: key.tenant.clone(),
            verified: true,
            routes: key.routes.clone(),
            records: key.records,
            forwards: key.forwards,
        }
    }
}

/// The secret in `Authorization: Bearer` or `X-API-Key`.
///
/// # Errors
/// Another scheme, or two secrets.
pub fn bearer(headers: &(impl Headers + ?Sized)) -> Result<Option<Cow<'_, [u8]>>, Problem> {
    let bearer = headers.get("authorization").map(|value| match value.split_at_checked(7) {
        Some((scheme, secret)) if scheme.eq_ignore_ascii_case(b"bearer ") => {
            let secret = secret.trim_ascii().to_vec();
            Ok(Cow::Owned(secret))
        }
        _ => Err(Problem::unauthorized("unknown_key", "the Authorization header holds no bearer token")),
    });
    let bearer: Option<Cow<'_, [u8]>> = bearer.transpose()?;
    let key = headers.get("x-api-key");
    match (bearer, key) {
        (Some(bearer), Some(key)) if bearer != key => {
            Err(Problem::unauthorized("unknown_key", "Authorization and X-API-Key hold different keys"))
        }
        (bearer, key) => Ok(bearer.or(key)),
    }
}

/// The key with this secret. Every key is compared, all of each: how long it takes says nothing about how near a guess came.
///
/// # Errors
/// An unknown secret. It is refused rather than ignored: its bearer would otherwise be served as somebody else without a word.
pub fn key_of<'k>(keys: &'k [ApiKey], secret: &[u8]) -> Result<&'k ApiKey, Problem> {
    let digest = Digest::of(secret);
    let mut found = None;
    for key in keys {
        let difference = key.sha256.0.iter().zip(digest.0).fold(0, |all, (a, b)| all | (a ^ b));
        if std::hint::black_box(difference) == 0 && found.is_none() {
            found = Some(key);
        }
    }
    found.ok_or_else(|| Problem::unauthorized("unknown_key", "unknown API key"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HeaderList;

    #[test]
    fn a_secret_stands_in_one_of_two_headers() {
        let check = |given: &[(&str, &str)]| {
            let headers = HeaderList::from(given);
            bearer(&headers).map(|secret| secret.map(|secret| String::from_utf8_lossy(&secret).into_owned()))
        };
        for given in
            [("authorization", "Bearer secret"), ("authorization", "bearer  secret"), ("x-api-key", "secret")]
        {
            assert_eq!(check(&[given]), Ok(Some("secret".to_owned())));
        }
        assert_eq!(check(&[]), Ok(None));
        assert_eq!(check(&[("authorization", "Basic secret")]).unwrap_err().code, "unknown_key");
        let both = [("x-api-key", "secret"), ("authorization", "Bearer other")];
        assert_eq!(check(&both).unwrap_err().code, "unknown_key");
    }

    #[test]
    fn keys_are_known_or_refused() {
        let key = |name: &str, secret: &[u8]| ApiKey {
            name: name.to_owned(),
            sha256: Digest::of(secret),
            tenant: Some("acme".to_owned()),
            user: None,
            routes: Some(vec!["a".to_owned()]),
            records: false,
            forwards: name == "two",
        };
        let keys = [key("one", b"1"), key("two", b"2")];
        let caller = Caller::from(key_of(&keys, b"2").unwrap());
        assert_eq!((caller.key.as_deref(), caller.tenant.as_deref()), (Some("two"), Some("acme")));
        assert!(caller.verified && caller.may_ask("a") && !caller.may_ask("b"));
        assert!(caller.forwards && !Caller::from(&keys[0]).forwards);
        assert_eq!(key_of(&keys, b"3").unwrap_err().code, "unknown_key");
    }
}
