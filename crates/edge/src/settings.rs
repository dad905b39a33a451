//! The settings of a shell at an edge: one table for every platform. A Worker reads `LOCKGATE_MAX_STALE` from its variables and secrets,
//! a Spin app the variable `max_stale`.

use std::fmt;
use std::time::Duration;

use lockgate_package::Digest;
use lockgate_shell::quantities::{parse_duration, parse_size};
use lockgate_shell::{ApiKey, ContextHeaders, Environment};

use crate::jwt::{JwtKeys, JwtSettings};
use crate::trust::TrustKeys;

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("setting `{name}`: expected {expected}, found {found}")]
pub struct SettingError {
    /// The setting's name, as the table has it.
    pub name: &'static str,
    /// What it may be.
    pub expected: String,
    /// What it is; a secret is not repeated.
    pub found: String,
}

/// A line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettingInfo {
    /// Its name in lower case; a variable of a Worker is `LOCKGATE_` and the name in capitals.
    pub name: &'static str,
    /// What it is when it is not set; empty for nothing.
    pub default: &'static str,
    /// What it means.
    pub help: &'static str,
}

/// What is done once the policy is older than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenStale {
    /// The last good policy goes on serving.
    #[default]
    FailStatic,
    /// Every route serves its baseline.
    FailDefault,
}

/// Origins that a browser may ask from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Cors {
    /// None: no header says anything.
    #[default]
    Off,
    /// All.
    Any,
    /// These.
    Origins(Vec<String>),
}

macro_rules! settings {
    ($($name:ident: $type:ty = $default:literal, $help:literal;)*) => {
        /// What a shell is told to do.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Settings {
            $(#[doc = $help] pub $name: $type,)*
        }

        impl Settings {
            /// Every setting.
            pub const TABLE: &'static [SettingInfo] = &[
                $(SettingInfo {
                    name: stringify!($name),
                    default: $default,
                    // What people read takes no place in a module.
                    help: if cfg!(target_arch = "wasm32") { "" } else { $help },
                },)*
            ];

            /// Reads each setting with `look_up`, which is given a name of the table. An empty value counts as not set.
            ///
            /// # Errors
            /// Every setting that cannot be used.
            pub fn read(look_up: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<SettingError>> {
                let mut errors = Vec::new();
                let settings = Self { $($name: one::<$type>(stringify!($name), $default, look_up, &mut errors),)* };
                if errors.is_empty() { settings.checked() } else { Err(errors) }
            }
        }
    };
}

settings! {
    environment: Environment = "development", "Where this runs: `development`, `test`, `staging` or `production`. In production, mocks (`lockgate package --mock`) count as unavailable.";
    max_body: Size = "4MiB", "The largest request body; a larger one is answered with 413.";
    max_rows: Count = "10000", "The most rows of a request; more are answered with 400.";
    max_operations_per_row: Count = "50000000", "The most work that one row of a package may cost here, in the operations that its manifest counts. A package beyond it counts as unavailable.";
    timeout: Duration = "5s", "Time for a request that names none, from its arrival to its answer; past it the answer is 504.";
    max_timeout: Duration = "30s", "The most time that a request may ask for.";
    allow_pinned: Flag = "true", "Whether a request may name a version in its path, past the policy's rules and its `requests`.";
    user_header: Name = "x-lockgate-user", "The header with the user, for all rows of a request; `off` for none. The request parameter `user` takes precedence.";
    symbol_header: Name = "x-lockgate-symbol", "The same for `symbol`.";
    tenant_header: Name = "x-lockgate-tenant", "The same for `tenant`.";
    session_header: Name = "x-lockgate-session", "The same for `session`.";
    variant_header: Name = "x-lockgate-variant", "The same for `variant`, the variant that the caller asks for.";
    api_keys: ApiKeys = "", "A secret: the API keys, a JSON array of `{\"name\", \"sha256\", \"tenant\", \"user\", \"routes\", \"forwards\"}`; the last four are optional. With `forwards`, `true`, its bearer speaks for others and says for which tenant it asks.";
    allow_anonymous: Choice = "", "Whether requests without a verified identity are served. Without it: yes, unless API keys or JWT keys are set.";
    jwt_keys: JwtKeys = "", "The keys that sign JWTs, a JSON Web Key Set: `oct` (HS256), `RSA` (RS256), `EC` on P-256 (ES256), `OKP` on Ed25519 (EdDSA). With an `oct` key it is a secret.";
    jwt_issuer: Text = "", "What a JWT's `iss` must be. Without it: anything.";
    jwt_audience: Text = "", "What a JWT's `aud` must be or contain. Without it: anything.";
    jwt_header: Name = "authorization", "The header that brings the JWT; in `authorization` it stands behind `Bearer`.";
    jwt_user_claim: Name = "sub", "The claim that is the verified user; `off` for none.";
    jwt_tenant_claim: Name = "tenant", "The claim that is the verified tenant; `off` for none.";
    jwt_routes_claim: Name = "off", "The claim with the routes that the caller may ask, an array of strings; `off`: all.";
    jwt_leeway: Duration = "60s", "How far the clocks of whoever signs JWTs may be off.";
    cors_origins: Cors = "", "The origins that a browser may ask from, separated by commas, or `*`.";
    cors_max_age: Duration = "10m", "How long a browser may remember that it may ask.";
    origin_timeout: Duration = "2s", "Time for one attempt to forward to the origin.";
    origin_key: Text = "", "A secret: the API key with which this edge speaks to the origin. For it to believe who asks here, the key has `forwards = true` there, and for records `records = true`.";
    origin_retry: Flag = "true", "Whether a forwarded request is sent a second time when the first attempt gave no answer. Requests with a `sequence_id` never are.";
    fault_limit: Count = "5", "Faults of one package within `fault_window` that quarantine it; where it runs at the origin, failures to answer.";
    fault_window: Duration = "1m", "The time in which faults of a package are counted.";
    quarantine: Duration = "30s", "How long a quarantined package counts as unavailable before it is tried again.";
    refresh: Duration = "30s", "How often a newer policy is looked for, 60 s at most.";
    max_stale: Duration = "1h", "How long a policy serves that could not be confirmed to be the newest.";
    when_stale: WhenStale = "fail_static", "What happens then: `fail_static`, the last good policy goes on; or `fail_default`, every route serves its baseline.";
    trust: TrustKeys = "", "Public keys in PEM, one after the other: the bundle needs a good signature by one of them.";
    require_signatures: Signatures = "bundle", "`bundle`: its signature vouches for the packages whose digests it names. `all`: every package is signed as well.";
    pin: Pin = "", "The digest of the only bundle that may be served.";
    min_version: Version = "", "The lowest version of a bundle that may be served.";
    records: Flag = "true", "Whether records are sent to the origin, where there is one.";
    record_sample: Share = "1", "The share of requests that are recorded, from 0 to 1, where the policy says nothing (`records` of a route).";
    record_units_key: UnitsKey = "", "A secret: `name:key`, under which users and other units are hashed in records. Without it records name no units.";
    record_buffer: Count = "1000", "Records that may wait to be sent; further ones are dropped and counted.";
    shadows: Flag = "true", "Whether shadows run here.";
}

impl Settings {
    /// The settings that stand in the table.
    ///
    /// # Errors
    /// None; the table's own values can be used.
    pub fn defaults() -> Result<Self, Vec<SettingError>> {
        Self::read(&|_| None)
    }

    /// The headers that carry a context.
    pub(crate) fn context_headers(&self) -> ContextHeaders<'_> {
        ContextHeaders {
            user: self.user_header.as_deref(),
            symbol: self.symbol_header.as_deref(),
            tenant: self.tenant_header.as_deref(),
            session: self.session_header.as_deref(),
            variant: self.variant_header.as_deref(),
        }
    }

    /// Whether requests without a verified identity are served.
    pub(crate) fn allows_anonymous(&self) -> bool {
        self.allow_anonymous.unwrap_or(self.api_keys.is_empty() && self.jwt_keys.is_empty())
    }

    pub(crate) fn jwt(&self) -> JwtSettings<'_> {
        JwtSettings {
            keys: &self.jwt_keys,
            issuer: self.jwt_issuer.as_deref(),
            audience: self.jwt_audience.as_deref(),
            user: self.jwt_user_claim.as_deref(),
            tenant: self.jwt_tenant_claim.as_deref(),
            routes: self.jwt_routes_claim.as_deref(),
            leeway: self.jwt_leeway,
        }
    }

    /// Settings that contradict each other.
    fn checked(self) -> Result<Self, Vec<SettingError>> {
        let mut errors = Vec::new();
        if self.refresh > Duration::from_secs(60) || self.refresh.is_zero() {
            let (expected, found) = ("more than nothing and 60 s at most".to_owned(), show(self.refresh));
            errors.push(SettingError { name: "refresh", expected, found });
        }
        if self.max_stale < self.refresh {
            let expected = format!("`refresh`, {}, at least", show(self.refresh));
            errors.push(SettingError { name: "max_stale", expected, found: show(self.max_stale) });
        }
        if self.allow_anonymous == Some(false) && self.api_keys.is_empty() && self.jwt_keys.is_empty() {
            let expected =
                "`true`, or `api_keys` or `jwt_keys` besides: nobody could ask otherwise".to_owned();
            errors.push(SettingError { name: "allow_anonymous", expected, found: "`false`".to_owned() });
        }
        if errors.is_empty() { Ok(self) } else { Err(errors) }
    }

    /// The table as a page of the documentation has it.
    pub fn reference() -> String {
        let mut page = String::from("| setting | default | meaning |\n| --- | --- | --- |\n");
        for SettingInfo { name, default, help } in Self::TABLE {
            let default = if default.is_empty() { "not set".to_owned() } else { format!("`{default}`") };
            page.push_str(&format!("| `{name}` | {default} | {help} |\n"));
        }
        page
    }
}

fn show(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

/// A setting, or its type's default and an error.
fn one<T: Value>(
    name: &'static str,
    default: &str,
    look_up: &dyn Fn(&str) -> Option<String>,
    errors: &mut Vec<SettingError>,
) -> T {
    let given = look_up(name).filter(|text| !text.trim().is_empty());
    let text = given.as_deref().map_or(default, str::trim);
    match T::parse(text) {
        Ok(value) => value,
        Err(problem) => {
            let found = if T::SECRET {
                problem.unwrap_or_else(|| "something else".to_owned())
            } else {
                problem.unwrap_or_else(|| format!("`{}`", excerpt(text)))
            };
            errors.push(SettingError { name, expected: T::EXPECTED.to_owned(), found });
            T::default()
        }
    }
}

fn excerpt(text: &str) -> &str {
    text.char_indices().nth(60).map_or(text, |(end, _)| text.get(..end).unwrap_or_default())
}

/// A type that a setting can have.
pub(crate) trait Value: Default {
    const EXPECTED: &'static str;
    /// Whether errors keep quiet about what was found.
    const SECRET: bool = false;

    /// Reads the text; the error says what is wrong with it where more is known than that it is not what was expected.
    fn parse(text: &str) -> Result<Self, Option<String>>;
}

// What the table calls the types of settings.
type Size = usize;
type Count = u64;
type Flag = bool;
type Choice = Option<bool>;
type Name = Option<String>;
type ApiKeys = Vec<ApiKey>;
type Pin = Option<Digest>;
type Version = Option<u64>;
type Share = f64;

/// A text that may be left out.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Text(Option<String>);

/// A key for hashing units, and what records call it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct UnitsKey(Option<(String, Vec<u8>)>);

/// What must be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Signatures {
    /// The bundle.
    #[default]
    Bundle,
    /// The bundle and every package.
    All,
}

impl Text {
    /// The text, if there is one.
    pub fn as_deref(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// Some texts are secrets.
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Text(…)" } else { "Text(none)" })
    }
}

impl UnitsKey {
    /// What records call the key, and the key.
    pub(crate) fn get(&self) -> Option<(&str, &[u8])> {
        self.0.as_ref().map(|(name, key)| (name.as_str(), key.as_slice()))
    }
}

impl fmt::Debug for UnitsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnitsKey({})", self.get().map_or("none", |(name, _)| name))
    }
}

macro_rules! value {
    ($type:ty, $expected:expr, $parse:expr) => {
        impl Value for $type {
            const EXPECTED: &'static str = $expected;

            fn parse(text: &str) -> Result<Self, Option<String>> {
                let parse: fn(&str) -> Option<Self> = $parse;
                parse(text).ok_or(None)
            }
        }
    };
}

value!(Environment, Environment::EXPECTED, Environment::parse);
value!(Size, "a size like `512KiB` or `4MiB`", parse_size);
value!(Count, "a whole number, 1 or more", |text| text.parse().ok().filter(|number| *number > 0));
value!(Flag, "`true` or `false`", |text| text.parse().ok());
value!(Duration, "a duration like `250ms`, `5s` or `2m`", parse_duration);
value!(Choice, "`true` or `false`", |text| if text.is_empty() {
    Some(None)
} else {
    text.parse().ok().map(Some)
});
value!(Text, "text", |text| Some(Text((!text.is_empty()).then(|| text.to_owned()))));
value!(Pin, "64 hexadecimal digits of a SHA-256 digest", |text| {
    if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
});
value!(Version, "a whole number, 1 or more", |text| {
    if text.is_empty() { Some(None) } else { text.parse().ok().filter(|number| *number > 0).map(Some) }
});
value!(Share, "a number from 0 to 1", |text| {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share))
});
value!(WhenStale, "`fail_static` or `fail_default`", |text| match text {
    "fail_static" => Some(WhenStale::FailStatic),
    "fail_default" => Some(WhenStale::FailDefault),
    _ => None,
});
value!(Signatures, "`bundle` or `all`", |text| match text {
    "bundle" => Some(Signatures::Bundle),
    "all" => Some(Signatures::All),
    _ => None,
});
value!(Name, "a name in visible ASCII, or `off`", |text| match text {
    "" | "off" => Some(None),
    name => name.bytes().all(|byte| byte.is_ascii_graphic()).then(|| Some(name.to_owned())),
});
value!(Cors, "`*`, or origins like `https://example.com` separated by commas", |text| match text {
    "" => Some(Cors::Off),
    "*" => Some(Cors::Any),
    list => {
        let origins: Vec<String> = list.split(',').map(|origin| origin.trim().to_owned()).collect();
        let is_origin = |origin: &String| {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', ' ']))
        };
        origins.iter().all(is_origin).then_some(Cors::Origins(origins))
    }
});

impl Value for ApiKeys {
    const EXPECTED: &'static str = "a JSON array of objects with `name`, `sha256` and, if wanted, `tenant`, `user`, `routes`, `forwards`";
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, Option<String>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Self = serde_json::from_slice(text.as_bytes()).map_err(|error| Some(error.to_string()))?;
        match keys.iter().find(|key| key.records) {
            Some(key) => Err(Some(format!("`records` of `{}`, which means nothing at an edge", key.name))),
            None => Ok(keys),
        }
    }
}

impl Value for UnitsKey {
    const EXPECTED: &'static str = "`name:key`, the key 16 characters at least";
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, Option<String>> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        match text.split_once(':') {
            Some((name, key)) if !name.is_empty() && key.len() >= 16 => {
                Ok(Self(Some((name.to_owned(), key.as_bytes().to_vec()))))
            }
            _ => Err(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(settings: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
        let look_up = |name: &str| {
            settings.iter().find(|(have, _)| *have == name).map(|(_, value)| (*value).to_owned())
        };
        Settings::read(&look_up).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_table_has_defaults_that_can_be_used() {
        let settings = check(&[]).unwrap();
        assert_eq!((settings.max_body, settings.timeout), (4 << 20, Duration::from_secs(5)));
        assert!(settings.allows_anonymous());
        assert_eq!(settings, check(&[("max_body", ""), ("origin_key", " ")]).unwrap());
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let errors = check(&[
            ("timeout", "5"),
            ("when_stale", "panic"),
            ("api_keys", "[{\"name\":\"a\",\"key\":\"s3\"}]"),
        ]);
        let errors = errors.unwrap_err();
        assert_eq!(errors.len(), 3);
        assert_eq!(
            errors[1],
            "setting `api_keys`: expected a JSON array of objects with `name`, `sha256` and, if wanted, `tenant`, `user`, `routes`, `forwards`, \
             found unknown field `key`, expected one of `name`, `sha256`, `tenant`, `user`, `routes`, `records`, `forwards` at line 1 column 18"
        );
        assert_eq!(errors[0], "setting `timeout`: expected a duration like `250ms`, `5s` or `2m`, found `5`");
        assert_eq!(
            errors[2],
            "setting `when_stale`: expected `fail_static` or `fail_default`, found `panic`"
        );
        for (name, value) in [
            ("refresh", "2m"),
            ("max_stale", "1s"),
            ("allow_anonymous", "false"),
            ("record_units_key", "short"),
            ("cors_origins", "https://a.example/path"),
            ("min_version", "0"),
            ("jwt_keys", "{}"),
            ("trust", "nothing"),
        ] {
            let errors = check(&[(name, value)]).unwrap_err();
            assert!(errors[0].starts_with(&format!("setting `{name}`: expected ")), "{errors:?}");
        }
        let keys = format!("[{{\"name\":\"a\",\"sha256\":\"{}\",\"records\":true}}]", Digest([1; 32]));
        let errors = check(&[("api_keys", &keys)]).unwrap_err();
        assert!(errors[0].ends_with("found `records` of `a`, which means nothing at an edge"), "{errors:?}");
    }

    #[test]
    fn a_secret_is_shown_nowhere() {
        let settings =
            check(&[("origin_key", "hush-hush"), ("record_units_key", "k1:0123456789abcdef")]).unwrap();
        let shown = format!("{settings:?}");
        assert!(!shown.contains("hush") && !shown.contains("0123456789"), "{shown}");
        assert_eq!(settings.record_units_key.get(), Some(("k1", &b"0123456789abcdef"[..])));
    }
}
