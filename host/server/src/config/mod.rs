//! Settings from a file, the environment and flags, in rising strength.
//!
//! [`table`] is the one list of settings. API keys are the only thing beside it: they are a list of tables and stand in the
//! file alone.

mod reference;
mod table;
mod value;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use lockgate_shell::{ApiKey, ContextHeaders};
use toml::de::{DeTable, DeValue};

pub(crate) use reference::reference;
pub(crate) use table::{Setting, Settings, TABLE};
pub(crate) use value::{LogFormat, RequiredSignatures};

use crate::failure::Failure;

/// The file that is read when none is named and it exists.
pub(crate) const DEFAULT_FILE: &str = "lockgate.toml";
const FILE_VARIABLE: &str = "LOCKGATE_CONFIG";
const API_KEYS: &str = "api_keys";
const API_KEY_FIELDS: [&str; 7] = ["name", "sha256", "user", "tenant", "routes", "records", "forwards"];

/// Everything that can be configured.
#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    /// The settings of the table.
    pub(crate) settings: Settings,
    /// Callers known by a secret.
    pub(crate) api_keys: Vec<ApiKey>,
    /// Where each setting that is not a default comes from.
    pub(crate) origins: BTreeMap<&'static str, String>,
    /// Things that are probably not what somebody meant.
    pub(crate) warnings: Vec<String>,
}

/// Where settings come from.
pub(crate) struct Sources<'a> {
    /// The file that a flag named.
    pub(crate) file: Option<PathBuf>,
    /// The environment.
    pub(crate) environment: &'a dyn Fn(&str) -> Option<String>,
    /// The names of all environment variables, to notice misspelt ones.
    pub(crate) environment_names: Vec<String>,
    /// Flags that were given, by key.
    pub(crate) flags: BTreeMap<&'static str, String>,
}

impl Sources<'_> {
    /// The program's environment with these flags.
    pub(crate) fn of_process(file: Option<PathBuf>, flags: BTreeMap<&'static str, String>) -> Self {
        Sources {
            file,
            environment: &|name| std::env::var(name).ok(),
            environment_names: std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect(),
            flags,
        }
    }
}

impl Config {
    /// Reads the sources, weakest first.
    pub(crate) fn load(sources: &Sources<'_>) -> Result<Self, Failure> {
        let mut config = Self::default();
        let named = sources.file.clone().or_else(|| (sources.environment)(FILE_VARIABLE).map(PathBuf::from));
        let file = named.or_else(|| Path::new(DEFAULT_FILE).exists().then(|| PathBuf::from(DEFAULT_FILE)));
        if let Some(file) = file {
            let text = std::fs::read_to_string(&file).map_err(|error| {
                Failure::new(format!("cannot read the configuration {}: {error}", file.display()))
            })?;
            config.read_file(&file.display().to_string(), &text)?;
        }
        for setting in TABLE {
            let variable = setting.variable();
            if let Some(text) = (sources.environment)(&variable) {
                config.set_text(setting, &text, &variable)?;
            }
        }
        for setting in TABLE {
            if let Some(text) = sources.flags.get(setting.key) {
                config.set_text(setting, text, &format!("--{}", setting.flag()))?;
            }
        }
        config.warn_of_misspelt_variables(&sources.environment_names);
        config.warn_of_half_trust();
        config.check()?;
        Ok(config)
    }

    fn set_text(&mut self, setting: &'static Setting, text: &str, origin: &str) -> Result<(), Failure> {
        if !(setting.set_text)(&mut self.settings, text) {
            return Err(Failure::new(format!("{origin}: `{text}` is not {}", setting.expected)));
        }
        self.origins.insert(setting.key, origin.to_owned());
        Ok(())
    }

    fn read_file(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        let at = |span: Range<usize>| format!("{name}:{}", line_of(text, span.start));
        let table = DeTable::parse(text).map_err(|error| {
            let place = error.span().map_or_else(|| name.to_owned(), at);
            Failure::new(format!("{place}: {}", error.message()))
        })?;
        for (key, value) in table.get_ref() {
            let place = at(key.span());
            if key.get_ref() == API_KEYS {
                let items = value.get_ref().as_array().ok_or_else(|| {
                    Failure::new(format!("{place}: `{API_KEYS}` is a list: `[[{API_KEYS}]]`"))
                })?;
                for item in items {
                    let key = read_api_key(item.get_ref(), &at(item.span()), &at)?;
                    if self.api_keys.iter().any(|have| have.sha256 == key.sha256) {
                        return Err(Failure::new(format!(
                            "{}: two API keys have this `sha256`",
                            at(item.span())
                        )));
                    }
                    self.api_keys.push(key);
                }
                continue;
            }
            let Some(setting) = TABLE.iter().find(|setting| setting.key == key.get_ref()) else {
                let known = TABLE.iter().map(|setting| setting.key).chain([API_KEYS]);
                return Err(unknown_key(&place, key.get_ref(), known));
            };
            if !(setting.set_toml)(&mut self.settings, value.get_ref()) {
                let text = text.get(value.span()).unwrap_or_default();
                return Err(Failure::new(format!(
                    "{}: `{}` is {text}, expected {}",
                    at(value.span()),
                    setting.key,
                    setting.expected
                )));
            }
            self.origins.insert(setting.key, place);
        }
        Ok(())
    }

    /// Variables of this prefix may belong to others (orchestrators make some from service names), so only those that
    /// look like one of ours are worth a word.
    fn warn_of_misspelt_variables(&mut self, names: &[String]) {
        let known: Vec<String> =
            TABLE.iter().map(Setting::variable).chain([FILE_VARIABLE.to_owned()]).collect();
        for name in names.iter().filter(|name| name.starts_with("LOCKGATE_") && !known.contains(name)) {
            if let Some(near) = nearest(name, known.iter().map(String::as_str)) {
                self.warnings
                    .push(format!("the environment variable {name} is not used; did you mean {near}?"));
            }
        }
    }

    fn warn_of_half_trust(&mut self) {
        let settings = &self.settings;
        if settings.trust.is_some() && settings.trust_state.is_none() && settings.pin.is_none() {
            self.warnings.push(
                "`trust` is set without `trust_state`: after a restart, an older signed bundle is accepted again".to_owned(),
            );
        }
        if settings.trust.is_none() && self.origins.contains_key("require_signatures") {
            self.warnings.push("`require_signatures` does nothing without `trust`".to_owned());
        }
    }

    fn check(&self) -> Result<(), Failure> {
        let settings = &self.settings;
        let trusted_headers =
            settings.trusted_user_header.0.is_some() || settings.trusted_tenant_header.0.is_some();
        let trusted_proxies = !settings.trusted_proxies.0.is_empty();
        if trusted_headers && !trusted_proxies {
            return Err(Failure::new("a trusted header is configured, but no `trusted_proxies` may set it")
                .hint("set `trusted_proxies` to the addresses of your proxies"));
        }
        if trusted_proxies && !trusted_headers {
            return Err(Failure::new("`trusted_proxies` is set, but no trusted header is configured")
                .hint("set `trusted_user_header`, `trusted_tenant_header` or both"));
        }
        for (name, size, above, limit) in [
            ("records_batch", &settings.records_batch, "records_file_size", &settings.records_file_size),
            (
                "records_file_size",
                &settings.records_file_size,
                "records_total_size",
                &settings.records_total_size,
            ),
        ] {
            if size.0 > limit.0 {
                let (size, limit) = (value::Value::show(size), value::Value::show(limit));
                return Err(Failure::new(format!("`{name}` ({size}) is larger than `{above}` ({limit})")));
            }
        }
        if settings.timeout > settings.max_timeout {
            return Err(Failure::new(format!(
                "`timeout` ({}) is longer than `max_timeout` ({})",
                value::Value::show(&settings.timeout),
                value::Value::show(&settings.max_timeout)
            )));
        }
        Ok(())
    }

    /// Whether requests without a verified identity are served.
    pub(crate) fn allows_anonymous(&self) -> bool {
        self.settings.allow_anonymous.unwrap_or(!self.identifies_callers())
    }

    /// Whether anybody's identity is verified at all.
    pub(crate) fn identifies_callers(&self) -> bool {
        !self.api_keys.is_empty() || !self.settings.trusted_proxies.0.is_empty()
    }
}

impl Settings {
    /// The headers that carry a context.
    pub(crate) fn context_headers(&self) -> ContextHeaders<'_> {
        ContextHeaders {
            user: self.user_header.name(),
            symbol: self.symbol_header.name(),
            tenant: self.tenant_header.name(),
            session: self.session_header.name(),
            variant: self.variant_header.name(),
        }
    }
}

fn read_api_key(
    item: &DeValue<'_>,
    place: &str,
    at: &dyn Fn(Range<usize>) -> String,
) -> Result<ApiKey, Failure> {
    let table = item
        .as_table()
        .ok_or_else(|| Failure::new(format!("{place}: an API key is a table: `[[{API_KEYS}]]`")))?;
    for key in table.keys() {
        if !API_KEY_FIELDS.contains(&key.get_ref().as_ref()) {
            return Err(unknown_key(&at(key.span()), key.get_ref(), API_KEY_FIELDS.into_iter()));
        }
    }
    let text = |field: &str| match table.get(field) {
        None => Ok(None),
        Some(value) => match value.get_ref().as_str() {
            Some(text) if !text.is_empty() => Ok(Some(text.to_owned())),
            _ => Err(Failure::new(format!("{}: `{field}` is not text, or is empty", at(value.span())))),
        },
    };
    let required = |field: &str| {
        text(field)?.ok_or_else(|| Failure::new(format!("{place}: this API key has no `{field}`")))
    };
    let name = required("name")?;
    let sha256 = required("sha256")?.parse().map_err(|error| {
        Failure::new(format!("{place}: `sha256`: {error}"))
            .hint("it is the digest of the secret: `printf %s SECRET | sha256sum`")
    })?;
    let routes = match table.get("routes") {
        None => None,
        Some(value) => {
            let names = value.get_ref().as_array().and_then(|items| {
                items
                    .iter()
                    .map(|item| item.get_ref().as_str().map(str::to_owned))
                    .collect::<Option<Vec<_>>>()
            });
            Some(names.ok_or_else(|| {
                Failure::new(format!("{}: `routes` is not a list of names", at(value.span())))
            })?)
        }
    };
    let flag = |field: &str| match table.get(field) {
        None => Ok(false),
        Some(value) => value
            .get_ref()
            .as_bool()
            .ok_or_else(|| Failure::new(format!("{}: `{field}` is not `true` or `false`", at(value.span())))),
    };
    Ok(ApiKey {
        name,
        sha256,
        user: text("user")?,
        tenant: text("tenant")?,
        routes,
        records: flag("records")?,
        forwards: flag("forwards")?,
    })
}

fn unknown_key<'a>(place: &str, key: &str, known: impl Iterator<Item = &'a str>) -> Failure {
    let failure = Failure::new(format!("{place}: unknown setting `{key}`"));
    match nearest(key, known) {
        Some(near) => failure.hint(format!("did you mean `{near}`?")),
        None => failure.hint("`lockgate config reference` lists all settings"),
    }
}

/// The known word that a misspelt one most likely stands for.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= 2.max(candidate.len() / 5))
        .map(|(_, candidate)| candidate)
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use lockgate_package::Digest;

    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let mut config = Config::default();
        config.read_file("lockgate.toml", text).map_err(|failure| failure.to_string())?;
        config.check().map_err(|failure| failure.to_string())?;
        Ok(config)
    }

    #[test]
    fn later_sources_are_stronger() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        std::fs::write(&file, "listen = \"file:1\"\nqueue = 7\ntimeout = \"3s\"\n").unwrap();
        let sources = Sources {
            file: Some(file),
            environment: &|name| match name {
                "LOCKGATE_LISTEN" => Some("variable:2".to_owned()),
                "LOCKGATE_QUEUE" => Some("8".to_owned()),
                _ => None,
            },
            environment_names: vec!["LOCKGATE_QUEU".to_owned(), "LOCKGATE_SERVICE_HOST".to_owned()],
            flags: BTreeMap::from([("listen", "flag:3".to_owned())]),
        };
        let config = Config::load(&sources).unwrap();
        assert_eq!(config.settings.listen, "flag:3");
        assert_eq!(config.settings.queue, 8);
        assert_eq!(config.settings.timeout.as_secs(), 3);
        assert_eq!(config.origins["listen"], "--listen");
        assert_eq!(config.origins["queue"], "LOCKGATE_QUEUE");
        assert!(config.origins["timeout"].ends_with("config.toml:3"));
        assert_eq!(
            config.warnings,
            ["the environment variable LOCKGATE_QUEU is not used; did you mean LOCKGATE_QUEUE?"]
        );
    }

    #[test]
    fn wrong_files_are_refused_by_line() {
        let check = |text: &str, expected: &str| assert_eq!(read(text).unwrap_err(), expected);
        check("\nlisen = \"x\"\n", "lockgate.toml:2: unknown setting `lisen`\nhint: did you mean `listen`?");
        check(
            "colour = 1",
            "lockgate.toml:1: unknown setting `colour`\nhint: `lockgate config reference` lists all settings",
        );
        check("queue = 0", "lockgate.toml:1: `queue` is 0, expected a whole number, 1 or more");
        check(
            "timeout = 5",
            "lockgate.toml:1: `timeout` is 5, expected a duration like `250ms`, `5s` or `2m`",
        );
        check("queue = 1\nqueue = 2", "lockgate.toml:2: duplicate key");
        check("timeout = \"2m\"", "`timeout` (2m) is longer than `max_timeout` (1m)");
        check(
            "trusted_user_header = \"x-user\"",
            "a trusted header is configured, but no `trusted_proxies` may set it\n\
             hint: set `trusted_proxies` to the addresses of your proxies",
        );
        check(
            "[[api_keys]]\nname = \"a\"\nsha256 = \"secret\"",
            "lockgate.toml:1: `sha256`: expected 64 hexadecimal digits of a SHA-256 digest, optionally after `sha256:`, found `secret`\n\
             hint: it is the digest of the secret: `printf %s SECRET | sha256sum`",
        );
        check("[[api_keys]]\nname = \"a\"", "lockgate.toml:1: this API key has no `sha256`");
        check(
            "[[api_keys]]\nnaem = \"a\"",
            "lockgate.toml:2: unknown setting `naem`\nhint: did you mean `name`?",
        );
    }

    #[test]
    fn api_keys_are_read() {
        let config = read(&format!(
            "[[api_keys]]\nname = \"desk\"\nsha256 = \"{}\"\ntenant = \"acme\"\nroutes = [\"a\"]\nforwards = true\n",
            Digest::of(b"secret")
        ))
        .unwrap();
        let key = ApiKey {
            name: "desk".to_owned(),
            sha256: Digest::of(b"secret"),
            user: None,
            tenant: Some("acme".to_owned()),
            routes: Some(vec!["a".to_owned()]),
            records: false,
            forwards: true,
        };
        assert_eq!(config.api_keys, [key]);
        assert!(!config.allows_anonymous());
        assert!(Config::default().allows_anonymous());
    }

    #[test]
    fn every_default_reads_back() {
        let defaults = Settings::default();
        for setting in TABLE {
            let mut settings = defaults.clone();
            let shown = (setting.show)(&defaults);
            assert!((setting.set_text)(&mut settings, &shown), "{}: {shown}", setting.key);
            assert_eq!(settings, defaults, "{}", setting.key);
        }
    }

    #[test]
    fn the_reference_page_is_current() {
        let committed = include_str!("../../../../docs/configuration.md");
        assert_eq!(committed, reference(), "run `lockgate config reference > docs/configuration.md`");
    }
}
