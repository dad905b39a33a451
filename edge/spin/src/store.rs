//! The policy and its packages in a key-value store.
//!
//! | key | value |
//! | --- | --- |
//! | `policy` (the variable `policy_key`) | the bundle that shall serve; whoever releases a policy writes it, last |
//! | `packages/<digest>.lgp` | a model package |
//! | `lists/<digest>` | a unit list |
//! | `<policy_key>/good` | the last bundle that was accepted; written here |
//! | `<policy_key>/state` | the newest version that was ever accepted, and when the store last gave it, behind a digest of that; written here |
//!
//! A value may also be text, `base64:` and the bytes in Base64: `spin up --key-value` takes nothing else.
//!
//! An instance may serve one request or many, so it remembers nothing that matters: what must outlive it stands in the store beside the
//! policy.

use lockgate_edge::fresh::{Found, Freshness};
use lockgate_edge::{BundleId, Catalog, Needs, Settings, trust};
use lockgate_package::signing::{Demands, TrustError};
use lockgate_package::{AlignedBytes, Digest, Kind, Package};
use spin_sdk::key_value::Store;

use crate::core::{About, Loaded};
use crate::verify;

const BASE64: &[u8] = b"base64:";

/// Why nothing new serves: a stable word and a sentence.
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<TrustError> for Refusal {
    fn from(error: TrustError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// A bundle with everything that it needs, loaded.
pub(crate) struct Content {
    pub(crate) core: Loaded,
    pub(crate) catalog: Catalog,
}

/// An opened store.
pub(crate) struct Source<'a> {
    store: Store,
    key: &'a str,
    settings: &'a Settings,
    about: &'a About,
}

/// What the store gave.
pub(crate) enum Given {
    /// What serves already.
    Same(BundleId),
    /// What the core was baked with.
    Baked(BundleId),
    /// Another bundle.
    Newer(Box<Content>, Vec<u8>),
}

impl Given {
    pub(crate) fn bundle(&self) -> BundleId {
        match self {
            Self::Same(bundle) | Self::Baked(bundle) => *bundle,
            Self::Newer(content, _) => content.catalog.bundle,
        }
    }
}

impl<'a> Source<'a> {
    pub(crate) async fn open(
        label: &str,
        key: &'a str,
        settings: &'a Settings,
        about: &'a About,
    ) -> Result<Self, Refusal> {
        let store = Store::open(label).await.map_err(|error| {
            Refusal::new(
                "store_unreachable",
                format!("the key-value store `{label}` cannot be opened: {error}"),
            )
        })?;
        Ok(Self { store, key, settings, about })
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Refusal> {
        let value = self.store.get(key).await.map_err(|error| {
            Refusal::new(
                "store_unreachable",
                format!("`{key}` cannot be read from the key-value store: {error}"),
            )
        })?;
        let Some(text) = value.as_deref().and_then(|value| value.strip_prefix(BASE64)) else {
            return Ok(value);
        };
        let bytes = str::from_utf8(text).ok().and_then(verify::decode_base64);
        bytes.map(Some).ok_or_else(|| {
            Refusal::new("malformed", format!("`{key}` begins with `base64:`, and what follows is no Base64"))
        })
    }

    /// What earlier instances knew. Where that is lost or damaged, the bundle that was accepted last still says which version it was.
    pub(crate) async fn freshness(&self) -> Result<Freshness, Refusal> {
        let key = format!("{}/state", self.key);
        let bytes = self.get(&key).await?;
        if let Some(kept) = bytes.as_deref().and_then(unsealed) {
            return Ok(Freshness::from_bytes(kept));
        }
        if bytes.is_some() {
            crate::platform::log(&format!("`{key}` is damaged"));
        }
        let mut freshness = Freshness::default();
        let demands = trust::demands(self.settings, None);
        if let Some(good) = self.get(&format!("{}/good", self.key)).await?
            && let Ok(needs) = self.admit(&demands, &good)
        {
            freshness.remember(needs.bundle.version, needs.bundle.digest);
        }
        Ok(freshness)
    }

    /// Keeps what later instances must know.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub(crate) async fn keep(&self, freshness: &Freshness, good: Option<&[u8]>) -> Result<(), String> {
        // The bundle first: a state without it would refuse everything older and have nothing to serve.
        if let Some(good) = good {
            let key = format!("{}/good", self.key);
            self.store
                .set(&key, good)
                .await
                .map_err(|error| format!("`{key}` cannot be written: {error}"))?;
        }
        let key = format!("{}/state", self.key);
        let written = self.store.set(&key, sealed(&freshness.to_bytes())).await;
        written.map_err(|error| format!("`{key}` cannot be written: {error}"))
    }

    /// The bundle that shall serve, if it may.
    pub(crate) async fn policy(
        &self,
        freshness: &Freshness,
        serving: Option<BundleId>,
        baked: Option<(u64, Digest)>,
    ) -> Result<Given, Refusal> {
        let Some(bytes) = self.get(self.key).await? else {
            let message =
                format!("the key-value store has no key `{}`; put the compiled bundle there", self.key);
            return Err(Refusal::new("missing", message));
        };
        let demands = trust::demands(self.settings, freshness.newest());
        let needs = self.admit(&demands, &bytes)?;
        let found = freshness.judge(&demands, needs.bundle, needs.parent, serving)?;
        if found == Found::Same {
            return Ok(Given::Same(needs.bundle));
        }
        if baked == Some((needs.bundle.version, needs.bundle.digest)) {
            return Ok(Given::Baked(needs.bundle));
        }
        // What was accepted once goes on without a package that is gone; what is new comes whole or not at all.
        let is_known = freshness.newest().is_some_and(|newest| newest.digest == needs.bundle.digest);
        let content = self.load(&demands, &needs, &bytes, !is_known).await?;
        Ok(Given::Newer(Box::new(content), bytes))
    }

    /// The last bundle that was accepted.
    pub(crate) async fn good(&self, freshness: &Freshness) -> Result<Option<Content>, Refusal> {
        let Some(bytes) = self.get(&format!("{}/good", self.key)).await? else { return Ok(None) };
        let demands = trust::demands(self.settings, freshness.newest());
        let needs = self.admit(&demands, &bytes)?;
        freshness.judge(&demands, needs.bundle, needs.parent, None)?;
        self.load(&demands, &needs, &bytes, false).await.map(Some)
    }

    /// Checks a bundle's signatures, then what it names.
    fn admit(&self, demands: &Demands, bytes: &[u8]) -> Result<Needs, Refusal> {
        let good = verify::good(trust::checks(demands, bytes, Kind::Bundle)?);
        trust::judge(demands, bytes, Kind::Bundle, &good)?;
        Needs::of(bytes).map_err(|error| Refusal::new("malformed", format!("the bundle: {error}")))
    }

    async fn load(
        &self,
        demands: &Demands,
        needs: &Needs,
        bytes: &[u8],
        is_strict: bool,
    ) -> Result<Content, Refusal> {
        let mut lists = Vec::new();
        for digest in &needs.lists {
            let key = format!("lists/{digest}");
            let list = self.get(&key).await?;
            lists.push(list.ok_or_else(|| {
                Refusal::new("missing_list", format!("the key-value store has no unit list `{key}`"))
            })?);
        }
        let mut packages = Vec::new();
        for digest in &needs.packages {
            match self.package(demands, *digest).await {
                Ok(package) => packages.push((*digest, package)),
                Err(refusal) if is_strict || refusal.code == "store_unreachable" => return Err(refusal),
                Err(refusal) => crate::platform::log(&refusal.message),
            }
        }
        let views: Vec<&[u8]> = packages.iter().map(|(_, bytes)| bytes.as_slice()).collect();
        let catalog = Catalog::of(bytes, &views)
            .map_err(|error| Refusal::new("malformed", format!("the bundle's names: {error}")))?;
        let core = Loaded::load(self.about, bytes, &lists, packages).map_err(|problem| {
            Refusal::new("malformed", format!("the core refuses the bundle: {problem}"))
        })?;
        Ok(Content { core, catalog })
    }

    async fn package(&self, demands: &Demands, digest: Digest) -> Result<Vec<u8>, Refusal> {
        let key = format!("packages/{digest}.lgp");
        let bytes = self.get(&key).await?.ok_or_else(|| {
            Refusal::new("missing_package", format!("the key-value store has no package `{key}`"))
        })?;
        let good = verify::good(trust::checks(demands, &bytes, Kind::Package)?);
        trust::judge(demands, &bytes, Kind::Package, &good)?;
        let package = Package::open(AlignedBytes::copy_of(&bytes))
            .map_err(|error| Refusal::new("malformed", format!("`{key}`: {error}")))?;
        if package.digest() != digest {
            let message =
                format!("`{key}` holds the package {}, not the one that the bundle pins", package.digest());
            return Err(Refusal::new("wrong_digest", message));
        }
        Ok(bytes)
    }
}

/// Bytes behind a line with their digest.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    [Digest::of(bytes).to_string().as_bytes(), b"\n", bytes].concat()
}

fn unsealed(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (digest, rest) = bytes.split_at(end);
    let kept = rest.get(1..)?;
    (digest == Digest::of(kept).to_string().as_bytes()).then_some(kept)
}
