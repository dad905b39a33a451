//! The types of settings: how each is written in an environment variable, a flag or a TOML file.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use lockgate_package::Digest;
use lockgate_shell::Environment;
use lockgate_shell::quantities::{parse_duration, parse_size};
use toml::de::DeValue;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};

use crate::records::{Durability, WhenFull};

/// A type that a setting can have.
pub(crate) trait Value: Sized {
    /// What people may write, for error messages and the reference page.
    const EXPECTED: &'static str;

    /// Reads what stands in an environment variable or behind a flag.
    fn parse(text: &str) -> Option<Self>;

    /// Reads a TOML value: the text form, or the TOML type that fits better.
    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        match value {
            DeValue::String(text) => Self::parse(text),
            DeValue::Integer(number) if number.radix() == 10 => Self::parse(number.as_str()),
            DeValue::Boolean(value) => Self::parse(if *value { "true" } else { "false" }),
            _ => None,
        }
    }

    /// How people write it; empty for "not set".
    fn show(&self) -> String;
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) usize);

impl Value for Size {
    const EXPECTED: &'static str = "a size like `512KiB` or `16MiB`";

    fn parse(text: &str) -> Option<Self> {
        parse_size(text).map(Self)
    }

    fn show(&self) -> String {
        let (unit, name) = match self.0 {
            0 => (1, "B"),
            size if size.is_multiple_of(1 << 30) => (1 << 30, "GiB"),
            size if size.is_multiple_of(1 << 20) => (1 << 20, "MiB"),
            size if size.is_multiple_of(1 << 10) => (1 << 10, "KiB"),
            _ => (1, "B"),
        };
        format!("{}{name}", self.0 / unit)
    }
}

impl Value for Duration {
    const EXPECTED: &'static str = "a duration like `250ms`, `5s` or `2m`";

    fn parse(text: &str) -> Option<Self> {
        parse_duration(text)
    }

    fn show(&self) -> String {
        let millis = self.as_millis();
        if millis > 0 && millis.is_multiple_of(60_000) {
            format!("{}m", millis / 60_000)
        } else if millis.is_multiple_of(1000) {
            format!("{}s", millis / 1000)
        } else {
            format!("{millis}ms")
        }
    }
}

impl Value for usize {
    const EXPECTED: &'static str = "a whole number, 1 or more";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|number| *number > 0)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for bool {
    const EXPECTED: &'static str = "`true` or `false`";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    const EXPECTED: &'static str = "text";

    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Value for PathBuf {
    const EXPECTED: &'static str = "a path";

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self::from(text))
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

/// The name of an HTTP header; the empty text switches off what depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeaderName(pub(crate) Option<axum::http::HeaderName>);

impl HeaderName {
    pub(crate) fn name(&self) -> Option<&str> {
        self.0.as_ref().map(axum::http::HeaderName::as_str)
    }
}

impl Value for HeaderName {
    const EXPECTED: &'static str = "the name of an HTTP header, or nothing to switch it off";

    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(None));
        }
        text.parse().ok().map(|name| Self(Some(name)))
    }

    fn show(&self) -> String {
        self.0.as_ref().map(ToString::to_string).unwrap_or_default()
    }
}

/// A setting that may be left open.
impl<T: Value> Value for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() { Some(None) } else { T::parse(text).map(Some) }
    }

    fn show(&self) -> String {
        self.as_ref().map(Value::show).unwrap_or_default()
    }
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    address: u128,
    bits: u32,
    shown: (IpAddr, u32),
}

impl Network {
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let mask = if self.bits == 0 { 0 } else { u128::MAX << (128 - self.bits) };
        (as_v6(address) ^ self.address) & mask == 0
    }
}

/// IPv4 addresses as the IPv6 addresses that a socket for both shows them as.
fn as_v6(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl std::str::FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(drop)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(width), str::parse).map_err(drop)?;
        if bits > width {
            return Err(());
        }
        Ok(Self { address: as_v6(address), bits: bits + (128 - width), shown: (address, bits) })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.shown.0, self.shown.1)
    }
}

/// Addresses of proxies whose headers are believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Networks(pub(crate) Vec<Network>);

impl Value for Networks {
    const EXPECTED: &'static str = "addresses or ranges, separated by commas: `127.0.0.1,10.0.0.0/8`";

    fn parse(text: &str) -> Option<Self> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| part.parse().ok()).collect::<Option<_>>().map(Self)
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        match value {
            DeValue::String(text) => Self::parse(text),
            DeValue::Array(items) => items
                .iter()
                .map(|item| item.get_ref().as_str().and_then(|text| text.parse().ok()))
                .collect::<Option<_>>()
                .map(Self),
            _ => None,
        }
    }

    fn show(&self) -> String {
        self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

impl Value for u64 {
    const EXPECTED: &'static str = "a whole number";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for Digest {
    const EXPECTED: &'static str =
        "the 64 hexadecimal digits of a SHA-256 digest, optionally after `sha256:`";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        format!("sha256:{self}")
    }
}

/// What must be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequiredSignatures {
    /// The bundle and every package.
    All,
    /// The bundle alone.
    Bundle,
}

impl Value for RequiredSignatures {
    const EXPECTED: &'static str = "`all` or `bundle`";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "all" => Some(Self::All),
            "bundle" => Some(Self::Bundle),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::All => "all".to_owned(),
            Self::Bundle => "bundle".to_owned(),
        }
    }
}

impl Value for Environment {
    const EXPECTED: &'static str = Self::EXPECTED;

    fn parse(text: &str) -> Option<Self> {
        Self::parse(text)
    }

    fn show(&self) -> String {
        self.name().to_owned()
    }
}

impl Value for Durability {
    const EXPECTED: &'static str = "`always` or `never`";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "always" => Some(Self::Always),
            "never" => Some(Self::Never),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Always => "always".to_owned(),
            Self::Never => "never".to_owned(),
        }
    }
}

impl Value for WhenFull {
    const EXPECTED: &'static str = "`refuse` or `remove-oldest`";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "refuse" => Some(Self::Refuse),
            "remove-oldest" => Some(Self::RemoveOldest),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Refuse => "refuse".to_owned(),
            Self::RemoveOldest => "remove-oldest".to_owned(),
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Value for LogFormat {
    const EXPECTED: &'static str = "`text` or `json`";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Json => "json".to_owned(),
        }
    }
}

/// Which log lines appear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogFilter(pub(crate) String);

impl Value for LogFilter {
    const EXPECTED: &'static str =
        "`error`, `warn`, `info`, `debug`, `trace`, or `target=level` pairs separated by commas";

    fn parse(text: &str) -> Option<Self> {
        // A bare word that is no level would be taken for a target's name, and switch everything else off.
        let part_is_sound = |part: &str| part.contains(['=', '[']) || part.parse::<LevelFilter>().is_ok();
        let is_sound =
            text.split(',').all(|part| part_is_sound(part.trim())) && text.parse::<EnvFilter>().is_ok();
        (!text.is_empty() && is_sound).then(|| Self(text.to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// Where compiled modules are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CompileCache(pub(crate) lockgate_runtime::CompileCache);

impl Value for CompileCache {
    const EXPECTED: &'static str = "`user`, `off` or the path of a folder";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "" => None,
            "user" => Some(Self(lockgate_runtime::CompileCache::User)),
            "off" => Some(Self(lockgate_runtime::CompileCache::Off)),
            // The runtime wants an absolute path, people write relative ones.
            path => {
                std::path::absolute(path).ok().map(|path| Self(lockgate_runtime::CompileCache::Folder(path)))
            }
        }
    }

    fn show(&self) -> String {
        match &self.0 {
            lockgate_runtime::CompileCache::User => "user".to_owned(),
            lockgate_runtime::CompileCache::Off => "off".to_owned(),
            lockgate_runtime::CompileCache::Folder(path) => path.display().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round<T: Value>(text: &str) -> Option<String> {
        T::parse(text).map(|value| value.show())
    }

    #[test]
    fn values_are_read_and_shown() {
        assert_eq!(round::<Size>("16MiB").as_deref(), Some("16MiB"));
        assert_eq!(round::<Size>("1024").as_deref(), Some("1KiB"));
        assert_eq!(round::<Size>("10MB"), None);
        assert_eq!(round::<Size>("99999999999GiB"), None);
        assert_eq!(round::<Duration>("90s").as_deref(), Some("90s"));
        assert_eq!(round::<Duration>("120s").as_deref(), Some("2m"));
        assert_eq!(round::<Duration>("1500ms").as_deref(), Some("1500ms"));
        assert_eq!(round::<Duration>("5"), None);
        assert_eq!(round::<usize>("0"), None);
        assert_eq!(round::<Option<usize>>("").as_deref(), Some(""));
        assert_eq!(round::<HeaderName>("X-User").as_deref(), Some("x-user"));
        assert_eq!(round::<HeaderName>("a b"), None);
        assert_eq!(round::<LogFilter>("info,lockgate=debug").as_deref(), Some("info,lockgate=debug"));
        assert_eq!(round::<LogFilter>("loud"), None);
    }

    #[test]
    fn networks_hold_their_addresses_in_both_families() {
        let networks = Networks::parse("127.0.0.1, 10.0.0.0/8,::1").unwrap();
        assert_eq!(networks.show(), "127.0.0.1/32,10.0.0.0/8,::1/128");
        let contains = |text: &str| networks.0.iter().any(|network| network.contains(text.parse().unwrap()));
        for inside in ["127.0.0.1", "10.255.0.1", "::1", "::ffff:10.1.2.3"] {
            assert!(contains(inside), "{inside}");
        }
        for outside in ["127.0.0.2", "11.0.0.1", "::2", "::ffff:11.0.0.1"] {
            assert!(!contains(outside), "{outside}");
        }
        assert!("0.0.0.0/0".parse::<Network>().unwrap().contains("1.2.3.4".parse().unwrap()));
        assert!(!"0.0.0.0/0".parse::<Network>().unwrap().contains("::1".parse().unwrap()));
        assert!("::/0".parse::<Network>().unwrap().contains("::1".parse().unwrap()));
        assert_eq!(Networks::parse("10.0.0.0/33"), None);
    }
}
