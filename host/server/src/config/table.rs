//! The one table of settings. The file's keys, the environment variables, the flags, the defaults and the reference page all
//! come from here.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use lockgate_package::Digest;
use lockgate_shell::Environment;

use super::value::{
    CompileCache, HeaderName, LogFilter, LogFormat, Networks, RequiredSignatures, Size, Value,
};
use crate::records::{Durability, WhenFull};

/// One row of the table.
pub(crate) struct Setting {
    /// The key in the file; the flag is `--key` with dashes, the variable `LOCKGATE_KEY` in capitals.
    pub(crate) key: &'static str,
    /// The heading it stands under.
    pub(crate) group: &'static str,
    /// What it does.
    pub(crate) help: &'static str,
    /// What may be written.
    pub(crate) expected: &'static str,
    pub(crate) set_text: fn(&mut Settings, &str) -> bool,
    pub(crate) set_toml: fn(&mut Settings, &DeValue<'_>) -> bool,
    pub(crate) show: fn(&Settings) -> String,
}

impl Setting {
    pub(crate) fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    pub(crate) fn variable(&self) -> String {
        format!("LOCKGATE_{}", self.key.to_ascii_uppercase())
    }
}

macro_rules! settings {
    ($($group:literal { $($key:ident: $type:ty = $default:expr, $help:literal;)* })*) => {
        /// What the table's settings are set to.
        #[derive(Debug, Clone, PartialEq)]
        pub(crate) struct Settings {
            $($(#[doc = $help] pub(crate) $key: $type,)*)*
        }

        impl Default for Settings {
            fn default() -> Self {
                let runtime = lockgate_runtime::Settings::default();
                let _ = &runtime;
                Self { $($($key: ($default)(&runtime),)*)* }
            }
        }

        /// Every setting, in the order of the reference page.
        pub(crate) const TABLE: &[Setting] = &[$($(Setting {
            key: stringify!($key),
            group: $group,
            help: $help,
            expected: <$type as Value>::EXPECTED,
            set_text: |settings, text| match <$type as Value>::parse(text) {
                Some(value) => {
                    settings.$key = value;
                    true
                }
                None => false,
            },
            set_toml: |settings, value| match <$type as Value>::from_toml(value) {
                Some(value) => {
                    settings.$key = value;
                    true
                }
                None => false,
            },
            show: |settings| settings.$key.show(),
        },)*)*];
    };
}

type Runtime = lockgate_runtime::Settings;

fn header(name: &'static str) -> HeaderName {
    HeaderName(Some(axum::http::HeaderName::from_static(name)))
}

settings! {
    "What is served" {
        policy: Option<PathBuf> = |_: &Runtime| None,
            "The policy: a source (`.yaml`, `.yml`, `.json`), which is compiled in memory, or a compiled bundle.";
        packages: Option<PathBuf> = |_: &Runtime| None,
            "The folder of model packages. Every package in it is loaded; subfolders are not read.";
        allow_pinned: bool = |_: &Runtime| true,
            "Whether a request may name a version in its path, past the policy's rules and its `requests`. What the policy disables is refused in any case.";
        environment: Environment = |_: &Runtime| Environment::default(),
            "Where this runs. In `production`, a policy that needs a mock (`lockgate package --mock`) is refused.";
        core: Option<PathBuf> = |_: &Runtime| None,
            "The folder of the core modules (with `manifest.json`). Without it, the core built into this program.";
    }
    "Trust" {
        trust: Option<PathBuf> = |_: &Runtime| None,
            "Whose signatures are demanded: a public key (`.pem`), a trust file (`.toml`), or a folder with either. Read again on every load.";
        require_signatures: RequiredSignatures = |_: &Runtime| RequiredSignatures::All,
            "What must be signed by a key of `trust`: `all`, the bundle and every package, or `bundle`, as it names the packages by digest.";
        trust_state: Option<PathBuf> = |_: &Runtime| None,
            "The file that remembers the newest bundle ever accepted, so that an older one is refused after a restart too.";
        pin: Option<Digest> = |_: &Runtime| None,
            "The digest of the only bundle that may be served.";
        min_version: Option<u64> = |_: &Runtime| None,
            "The lowest version of a bundle that may be served.";
        require_parent: bool = |_: &Runtime| false,
            "Whether a new bundle must name the newest accepted one as its parent.";
    }
    "HTTP" {
        listen: String = |_: &Runtime| "127.0.0.1:8080".to_owned(),
            "Address and port to listen on; port 0 takes a free one.";
        max_body: Size = |_: &Runtime| Size(16 << 20),
            "The largest request body; a larger one is answered with 413.";
        idle_timeout: Duration = |_: &Runtime| Duration::from_secs(75),
            "How long a connection may take to send the head of its next request; then it is closed. Longer than what proxies in front keep idle connections for.";
        drain_timeout: Duration = |_: &Runtime| Duration::from_secs(30),
            "How long requests in progress may take to finish after SIGTERM or SIGINT.";
    }
    "Running" {
        workers: usize = |runtime: &Runtime| runtime.workers,
            "Threads that run the core, each with instances of its own.";
        queue: usize = |runtime: &Runtime| runtime.queue,
            "Requests that may wait for a worker; one more is answered with 503 and `Retry-After`.";
        timeout: Duration = |runtime: &Runtime| runtime.deadline,
            "Time for a request that names none, from its arrival to its answer; past it the answer is 504.";
        max_timeout: Duration = |_: &Runtime| Duration::from_secs(60),
            "The most time that a request may ask for.";
        policy_memory: Size = |runtime: &Runtime| Size(runtime.policy_memory),
            "Memory that one instance of the policy module may use; the module is linked for 64 MiB and takes no more.";
        inference_memory: Size = |runtime: &Runtime| Size(runtime.inference_memory),
            "Memory that one instance of the inference module may use; the modules are linked for 128 MiB and take no more.";
        worker_memory: Size = |runtime: &Runtime| Size(runtime.worker_memory),
            "Memory that the inference instances of one worker may use together; the least recently used go first.";
        fault_limit: usize = |runtime: &Runtime| runtime.fault_limit,
            "Faults of one package within `fault_window` that quarantine it.";
        fault_window: Duration = |runtime: &Runtime| runtime.fault_window,
            "The time in which faults of a package are counted.";
        quarantine: Duration = |runtime: &Runtime| runtime.quarantine,
            "How long a quarantined package is refused before it is tried again.";
        compile_cache: CompileCache = |runtime: &Runtime| CompileCache(runtime.cache.clone()),
            "Where compiled modules are kept between runs: `user` (the user's cache folder), `off`, or a folder.";
    }
    "Context" {
        user_header: HeaderName = |_: &Runtime| header("x-lockgate-user"),
            "The header with the user, for all rows of a request. The request parameter `user` takes precedence.";
        symbol_header: HeaderName = |_: &Runtime| header("x-lockgate-symbol"),
            "The same for `symbol`.";
        tenant_header: HeaderName = |_: &Runtime| header("x-lockgate-tenant"),
            "The same for `tenant`.";
        session_header: HeaderName = |_: &Runtime| header("x-lockgate-session"),
            "The same for `session`.";
        variant_header: HeaderName = |_: &Runtime| header("x-lockgate-variant"),
            "The same for `variant`, the variant that the caller asks for; it counts where the policy's `requests` permit it.";
    }
    "Identity" {
        trusted_proxies: Networks = |_: &Runtime| Networks::default(),
            "Peers that may set the trusted headers below. From any other peer these headers are refused.";
        trusted_user_header: HeaderName = |_: &Runtime| HeaderName(None),
            "A header in which a trusted proxy passes the verified user.";
        trusted_tenant_header: HeaderName = |_: &Runtime| HeaderName(None),
            "A header in which a trusted proxy passes the verified tenant.";
        allow_anonymous: Option<bool> = |_: &Runtime| None,
            "Whether requests without a verified identity are served. Without it: yes, unless API keys or trusted headers are configured.";
    }
    "Records" {
        records: Option<PathBuf> = |_: &Runtime| None,
            "The folder for the records that other shells send to `POST /v1/records`; without it there is no such endpoint. See [records.md](records.md).";
        records_batch: Size = |_: &Runtime| Size(1 << 20),
            "The largest body with records; a larger one is answered with 413.";
        records_sync: Durability = |_: &Runtime| Durability::Always,
            "When records are forced onto the disk: `always`, before they are acknowledged, or `never`, when the operating system sees fit.";
        records_window: usize = |_: &Runtime| 200_000,
            "Lines whose ids are remembered; one that comes again within them is dropped as a duplicate.";
        records_file_size: Size = |_: &Runtime| Size(64 << 20),
            "The size at which a file of records is completed and another one begun.";
        records_file_age: Duration = |_: &Runtime| Duration::from_secs(3600),
            "The age at which a file of records is completed.";
        records_total_size: Size = |_: &Runtime| Size(10 << 30),
            "The size of all files of records together that is never passed.";
        records_when_full: WhenFull = |_: &Runtime| WhenFull::Refuse,
            "What happens there: `refuse` more records with 503, or `remove-oldest`, complete files alone.";
    }
    "Logs and metrics" {
        log: LogFilter = |_: &Runtime| LogFilter("info".to_owned()),
            "Which log lines appear on the standard error.";
        log_format: LogFormat = |_: &Runtime| LogFormat::Text,
            "How log lines look: `text` for people, `json` for machines.";
        metric_routes: usize = |_: &Runtime| 200,
            "Routes that have metrics of their own; those beyond share the label `other`.";
    }
}
