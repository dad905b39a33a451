//! JSON Web Tokens (RFC 7519): what stands in one, which key must have signed it, and what it verifies.
//!
//! A key allows one algorithm, which follows from its type: the token's `alg` chooses nothing. HS256 is checked here; for the others the
//! shell is given what to check, with WebCrypto or with a crate.

use std::fmt;
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use lockgate_shell::record::hmac_sha256;
use lockgate_shell::{Caller, Problem};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// A token is no longer than this.
const LONGEST: usize = 16 << 10;

/// A way of signing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// What tokens call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// A JSON Web Key (RFC 7517).
#[derive(Clone, PartialEq, Eq)]
pub struct Jwk {
    /// What tokens call it.
    pub id: Option<String>,
    /// The algorithm that it allows.
    pub algorithm: Algorithm,
    /// The key as it was given, JSON text, as WebCrypto imports it.
    pub json: String,
    /// The bytes of an `oct` key.
    secret: Vec<u8>,
}

impl fmt::Debug for Jwk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jwk({:?}, {})", self.id, self.algorithm.name())
    }
}

/// The keys whose tokens count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JwtKeys(Vec<Jwk>);

impl JwtKeys {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys.
    pub fn iter(&self) -> impl Iterator<Item = &Jwk> {
        self.0.iter()
    }
}

impl crate::settings::Value for JwtKeys {
    const EXPECTED: &'static str = "a JSON Web Key Set, `{\"keys\": [{\"kty\": …}]}`";
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, Option<String>> {
        #[derive(Deserialize)]
        struct Set<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        if text.is_empty() {
            return Ok(Self::default());
        }
        let set: Set<'_> =
            serde_json::from_slice(text.as_bytes()).map_err(|error| Some(error.to_string()))?;
        let keys: Result<Vec<Jwk>, String> =
            set.keys.iter().enumerate().map(|(index, key)| read_key(key.get(), index)).collect();
        let keys = keys.map_err(Some)?;
        if keys.is_empty() { Err(Some("a set without keys".to_owned())) } else { Ok(Self(keys)) }
    }
}

fn read_key(text: &str, index: usize) -> Result<Jwk, String> {
    #[derive(Deserialize)]
    struct Fields {
        kty: String,
        #[serde(default)]
        crv: Option<String>,
        #[serde(default)]
        kid: Option<String>,
        #[serde(default)]
        alg: Option<String>,
        #[serde(default)]
        k: Option<String>,
        #[serde(default)]
        d: Option<String>,
    }
    let at = |problem: &str| format!("keys[{index}]: {problem}");
    let fields: Fields = serde_json::from_slice(text.as_bytes()).map_err(|error| at(&error.to_string()))?;
    let algorithm = match (fields.kty.as_str(), fields.crv.as_deref()) {
        ("oct", _) => Algorithm::Hs256,
        ("RSA", _) => Algorithm::Rs256,
        ("EC", Some("P-256")) => Algorithm::Es256,
        ("OKP", Some("Ed25519")) => Algorithm::EdDsa,
        (kty, crv) => {
            let crv = crv.map(|crv| format!(" on {crv}")).unwrap_or_default();
            return Err(at(&format!("a key of type {kty}{crv}, which is not known")));
        }
    };
    if fields.d.is_some() {
        return Err(at("a private key; give the public one"));
    }
    if fields.alg.as_deref().is_some_and(|alg| alg != algorithm.name()) {
        return Err(at(&format!("`alg` is not {}", algorithm.name())));
    }
    let secret = match (algorithm, fields.k) {
        (Algorithm::Hs256, Some(k)) => decode64(&k).ok_or_else(|| at("`k` is not base64url"))?,
        (Algorithm::Hs256, None) => return Err(at("no `k`")),
        _ => Vec::new(),
    };
    if algorithm == Algorithm::Hs256 && secret.len() < 32 {
        return Err(at("`k` has fewer than 32 bytes"));
    }
    Ok(Jwk { id: fields.kid, algorithm, json: text.to_owned(), secret })
}

/// What tokens must say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JwtSettings<'a> {
    pub(crate) keys: &'a JwtKeys,
    pub(crate) issuer: Option<&'a str>,
    pub(crate) audience: Option<&'a str>,
    pub(crate) user: Option<&'a str>,
    pub(crate) tenant: Option<&'a str>,
    pub(crate) routes: Option<&'a str>,
    pub(crate) leeway: Duration,
}

/// A signature that the shell must check before the request goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureCheck {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The key, JSON text.
    pub key: String,
    /// What was signed.
    pub input: Vec<u8>,
    /// The signature: of ES256 the 64 bytes of r and s.
    pub signature: Vec<u8>,
}

/// A token whose claims hold, if its signature does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) caller: Caller,
    /// What is left to check; `None` when the signature is good.
    pub(crate) check: Option<SignatureCheck>,
}

/// Whether a secret looks like a token rather than an API key.
pub(crate) fn is_token(secret: &[u8]) -> bool {
    secret.iter().filter(|byte| **byte == b'.').count() == 2 && secret.starts_with(b"eyJ")
}

/// Reads a token.
pub(crate) fn read(settings: &JwtSettings<'_>, token: &[u8], now_ms: i64) -> Result<Claimed, Problem> {
    #[derive(Deserialize)]
    struct Header {
        alg: String,
        #[serde(default)]
        kid: Option<String>,
        #[serde(default)]
        crit: Option<Value>,
    }
    let refused = |problem: &str| Problem::unauthorized("invalid_token", format!("the token {problem}"));
    let malformed = || refused("is no JSON Web Token");
    if token.len() > LONGEST {
        return Err(refused("is too long"));
    }
    let text = str::from_utf8(token).map_err(|_| malformed())?;
    let (input, signature) = text.rsplit_once('.').ok_or_else(malformed)?;
    let (header, claims) = input.split_once('.').ok_or_else(malformed)?;
    let part = |part: &str| decode64(part).ok_or_else(malformed);
    let header: Header = serde_json::from_slice(&part(header)?).map_err(|_| malformed())?;
    if header.crit.is_some() {
        return Err(refused("asks for an extension that is not known"));
    }
    let fits = |key: &&Jwk| {
        key.algorithm.name() == header.alg
            && (header.kid.is_none() || key.id.is_none() || key.id == header.kid)
    };
    // The key with the token's id before one without any.
    let (mut fitting, others): (Vec<&Jwk>, Vec<&Jwk>) =
        settings.keys.iter().filter(fits).partition(|key| key.id == header.kid);
    fitting.extend(others);
    let key = *fitting.first().ok_or_else(|| refused("is signed by a key that is not known"))?;
    let signature = part(signature)?;
    let check = if key.algorithm == Algorithm::Hs256 {
        // Without an id, each of the keys may have signed it.
        let unnamed = header.kid.is_none() || key.id.is_none();
        let tried = fitting.iter().take(if unnamed { usize::MAX } else { 1 });
        let mut good = false;
        for key in tried {
            good |= same(&hmac_sha256(&key.secret, &[input.as_bytes()]), &signature);
        }
        if !good {
            return Err(bad_signature());
        }
        None
    } else {
        if header.kid.is_none() && fitting.len() > 1 {
            return Err(refused("names no key, and several could have signed it; set `kid`"));
        }
        let (algorithm, key) = (key.algorithm, key.json.clone());
        Some(SignatureCheck { algorithm, key, input: input.as_bytes().to_vec(), signature })
    };
    let claims: Map<String, Value> = serde_json::from_slice(&part(claims)?).map_err(|_| malformed())?;
    check_claims(settings, &claims, now_ms)?;
    Ok(Claimed { caller: caller(settings, &claims)?, check })
}

/// The answer to a token whose signature does not hold.
pub(crate) fn bad_signature() -> Problem {
    Problem::unauthorized("invalid_token", "the token has a signature that does not hold")
}

fn check_claims(settings: &JwtSettings<'_>, claims: &Map<String, Value>, now_ms: i64) -> Result<(), Problem> {
    let refused = |problem: &str| Problem::unauthorized("invalid_token", format!("the token {problem}"));
    let seconds =
        |name: &str| claims.get(name).map(|value| value.as_f64().ok_or(name.to_owned())).transpose();
    let number = |name: &str| seconds(name).map_err(|name| refused(&format!("has no number in `{name}`")));
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of any calendar fit an f64")]
    let now = now_ms as f64 / 1e3;
    let leeway = settings.leeway.as_secs_f64();
    let expires = number("exp")?.ok_or_else(|| refused("has no `exp`"))?;
    if now >= expires + leeway {
        return Err(refused("has expired"));
    }
    if number("nbf")?.is_some_and(|from| now < from - leeway) {
        return Err(refused("is not valid yet"));
    }
    if let Some(issuer) = settings.issuer
        && claims.get("iss").and_then(Value::as_str) != Some(issuer)
    {
        return Err(refused("is of another issuer"));
    }
    if let Some(audience) = settings.audience {
        let is_it = |value: &Value| value.as_str() == Some(audience);
        let meant = match claims.get("aud") {
            Some(Value::Array(all)) => all.iter().any(is_it),
            Some(one) => is_it(one),
            None => false,
        };
        if !meant {
            return Err(refused("is meant for another audience"));
        }
    }
    Ok(())
}

fn caller(settings: &JwtSettings<'_>, claims: &Map<String, Value>) -> Result<Caller, Problem> {
    let wrong = |name: &str, expected: &str| {
        Problem::unauthorized("invalid_token", format!("the token has no {expected} in `{name}`"))
    };
    let text = |name: Option<&str>| match name.and_then(|name| Some((name, claims.get(name)?))) {
        None | Some((_, Value::Null)) => Ok(None),
        Some((_, Value::String(text))) if !text.is_empty() => Ok(Some(text.clone())),
        Some((_, Value::Number(number))) if number.is_i64() || number.is_u64() => {
            Ok(Some(number.to_string()))
        }
        Some((name, _)) => Err(wrong(name, "text")),
    };
    let routes = match settings.routes {
        None => None,
        Some(name) => {
            let all = claims.get(name).and_then(Value::as_array).ok_or_else(|| wrong(name, "array"))?;
            let routes: Option<Vec<String>> = all.iter().map(|one| one.as_str().map(str::to_owned)).collect();
            Some(routes.ok_or_else(|| wrong(name, "array of strings"))?)
        }
    };
    Ok(Caller {
        key: None,
        user: text(settings.user)?,
        tenant: text(settings.tenant)?,
        verified: true,
        routes,
        ..Caller::default()
    })
}

/// Compares all bytes, however early they differ.
fn same(one: &[u8; 32], other: &[u8]) -> bool {
    let difference = one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b));
    other.len() == one.len() && std::hint::black_box(difference) == 0
}

/// Reads base64url without padding, as tokens and keys have it.
fn decode64(text: &str) -> Option<Vec<u8>> {
    Base64UrlUnpadded::decode_vec(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Value as _;

    /// RFC 7515, appendix A.1.
    const RFC_KEY: &str = r#"{"keys":[{"kty":"oct","kid":"a1","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}]}"#;
    const RFC_TOKEN: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

    fn settings(keys: &JwtKeys) -> JwtSettings<'_> {
        JwtSettings {
            keys,
            issuer: Some("joe"),
            audience: None,
            user: Some("sub"),
            tenant: Some("tenant"),
            routes: None,
            leeway: Duration::from_secs(60),
        }
    }

    fn encode64(bytes: &[u8]) -> String {
        Base64UrlUnpadded::encode_string(bytes)
    }

    fn token(header: &str, claims: &str, key: &[u8]) -> String {
        let input = format!("{}.{}", encode64(header.as_bytes()), encode64(claims.as_bytes()));
        format!("{input}.{}", encode64(&hmac_sha256(key, &[input.as_bytes()])))
    }

    #[test]
    fn the_token_of_the_rfc_is_good_until_it_expires() {
        let keys = JwtKeys::parse(RFC_KEY).unwrap();
        let at = |seconds: i64| read(&settings(&keys), RFC_TOKEN.as_bytes(), seconds * 1000);
        let claimed = at(1_300_819_379).unwrap();
        assert!(claimed.check.is_none() && claimed.caller.verified && claimed.caller.user.is_none());
        assert!(at(1_300_819_380 + 59).is_ok());
        assert_eq!(at(1_300_819_380 + 60).unwrap_err().message, "the token has expired");
        let changed = RFC_TOKEN.replace(".dBjf", ".eBjf");
        assert_eq!(read(&settings(&keys), changed.as_bytes(), 0).unwrap_err(), bad_signature());
    }

    #[test]
    fn claims_say_who_asks() {
        let key = [7; 32];
        let keys = format!(r#"{{"keys":[{{"kty":"oct","k":"{}"}}]}}"#, encode64(&key));
        let keys = JwtKeys::parse(&keys).unwrap();
        let mut settings = settings(&keys);
        settings.audience = Some("edge");
        settings.routes = Some("routes");
        let check = |claims: &str| {
            let token = token(r#"{"alg":"HS256"}"#, claims, &key);
            read(&settings, token.as_bytes(), 1_000_000)
                .map(|claimed| claimed.caller)
                .map_err(|problem| problem.message)
        };
        let good = r#"{"iss":"joe","aud":["x","edge"],"exp":2000,"sub":"alice","tenant":7,"routes":["a"]}"#;
        let caller = check(good).unwrap();
        assert_eq!((caller.user.as_deref(), caller.tenant.as_deref()), (Some("alice"), Some("7")));
        assert!(caller.may_ask("a") && !caller.may_ask("b"));
        for (from, to, expected) in [
            ("joe", "jim", "is of another issuer"),
            ("\"edge\"", "\"hedge\"", "is meant for another audience"),
            ("\"exp\":2000,", "", "has no `exp`"),
            ("\"exp\":2000", "\"exp\":\"2000\"", "has no number in `exp`"),
            ("\"exp\":2000", "\"exp\":2000,\"nbf\":1500", "is not valid yet"),
            ("\"alice\"", "true", "has no text in `sub`"),
            ("[\"a\"]", "[1]", "has no array of strings in `routes`"),
        ] {
            assert_eq!(check(&good.replace(from, to)), Err(format!("the token {expected}")), "{to}");
        }
    }

    #[test]
    fn the_key_says_which_algorithm_counts() {
        let public = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"e","x":"AA"},{"kty":"RSA","kid":"r","n":"AA","e":"AQAB"}]}"#;
        let keys = JwtKeys::parse(public).unwrap();
        let mut settings = settings(&keys);
        settings.issuer = None;
        let check = |header: &str| read(&settings, token(header, r#"{"exp":9}"#, b"x").as_bytes(), 0);
        let claimed = check(r#"{"alg":"EdDSA","kid":"e"}"#).unwrap();
        let wanted = claimed.check.unwrap();
        assert_eq!((wanted.algorithm, wanted.key.contains("\"e\"")), (Algorithm::EdDsa, true));
        assert_eq!(wanted.signature.len(), 32);
        // A public key is no secret for an HMAC, and `none` is no algorithm.
        for header in [
            r#"{"alg":"HS256","kid":"e"}"#,
            r#"{"alg":"none"}"#,
            r#"{"alg":"RS256","kid":"e"}"#,
            r#"{"alg":"ES256"}"#,
        ] {
            let error = check(header).unwrap_err();
            assert_eq!(error.message, "the token is signed by a key that is not known", "{header}");
        }
        assert!(check(r#"{"alg":"EdDSA","kid":"e","crit":["x"]}"#).is_err());
        for token in ["", "a", "a.b", "a.b.c", "eyJ.eyJ.", "..", "\u{fc}.b.c"] {
            assert!(read(&settings, token.as_bytes(), 0).is_err(), "{token}");
        }
    }

    #[test]
    fn keys_that_cannot_be_used_are_named() {
        for (keys, expected) in [
            (r#"{"keys":[]}"#, "a set without keys"),
            (
                r#"{"keys":[{"kty":"EC","crv":"P-521"}]}"#,
                "keys[0]: a key of type EC on P-521, which is not known",
            ),
            (r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#, "keys[0]: `k` has fewer than 32 bytes"),
            (r#"{"keys":[{"kty":"RSA","alg":"RS512"}]}"#, "keys[0]: `alg` is not RS256"),
            (r#"{"keys":[{"kty":"RSA","d":"AA"}]}"#, "keys[0]: a private key; give the public one"),
        ] {
            assert_eq!(JwtKeys::parse(keys).unwrap_err().as_deref(), Some(expected));
        }
    }

    #[test]
    fn base64_has_one_text_for_some_bytes() {
        for len in 0..20_u8 {
            let bytes: Vec<u8> = (0..len).map(|byte| byte.wrapping_mul(83)).collect();
            assert_eq!(decode64(&encode64(&bytes)), Some(bytes));
        }
        for text in ["A", "AB", "AAAAA", "A+", "AA=="] {
            assert_eq!(decode64(text), None, "{text}");
        }
    }
}
