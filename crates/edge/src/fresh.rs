//! How fresh the policy is: when a newer one is looked for, which one may replace it, and what is done when nothing confirms it any more.
//!
//! A key-value store that is copied around the world may give an older value than it gave before. What it gives is measured against the
//! newest bundle that was ever accepted here: an older one is refused, and does not count as a confirmation either.

use lockgate_package::Digest;
use lockgate_package::signing::{Accepted, Demands, TrustError};
use lockgate_shell::BundleId;
use serde::{Deserialize, Serialize};

use crate::Settings;
use crate::settings::WhenStale;

/// A refresh that said nothing for so long was cut off, and another may begin.
const LONGEST_REFRESH_MS: i64 = 30_000;
/// The first pause after a refresh that failed; it doubles with each further one, up to the usual interval.
const FIRST_PAUSE_MS: i64 = 2_000;

/// What a shell knows about the age of its policy. It is data: kept as bytes where the shell itself may be lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freshness {
    /// The newest bundle that was ever accepted.
    newest: Option<BundleId>,
    /// When the source last gave what serves.
    confirmed_ms: Option<i64>,
    /// When the refresh that is under way began.
    began_ms: Option<i64>,
    /// When the next one is due.
    next_ms: i64,
    /// How many in a row failed.
    failures: u32,
    /// Why the latest failed.
    error: Option<RefreshError>,
    /// Everything is baked in, so that nothing is ever looked for.
    baked: bool,
}

/// Why a refresh failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RefreshError {
    /// A stable word.
    pub(crate) code: String,
    /// What happened, and what to do.
    pub(crate) message: String,
}

/// What the source gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// What serves already: nothing to load.
    Same,
    /// Another bundle, to be loaded; then [`Freshness::installed`] is called.
    Newer,
}

/// How a policy may serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It is fresh enough.
    Serve,
    /// It is older than it may be, and goes on.
    FailStatic,
    /// It is older than it may be, and every route serves its baseline.
    FailDefault,
}

impl Mode {
    /// What `/health` calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::FailStatic => "fail_static",
            Self::FailDefault => "fail_default",
        }
    }
}

impl Freshness {
    /// Of a policy that is baked into the modules.
    pub fn baked(bundle: BundleId) -> Self {
        Self { newest: Some(bundle), baked: true, ..Self::default() }
    }

    /// What a shell kept; bytes that make no sense are forgotten.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// What a shell keeps.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Numbers and texts alone; writing them into a vector cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The newest bundle that was ever accepted, which a shell may keep longer than anything else.
    pub fn newest(&self) -> Option<Accepted> {
        self.newest.map(|BundleId { version, digest }| Accepted { version, digest })
    }

    /// Remembers a bundle that was accepted earlier, elsewhere or before a restart.
    pub fn remember(&mut self, version: u64, digest: Digest) {
        if self.newest.is_none_or(|newest| newest.version < version) {
            self.newest = Some(BundleId { version, digest });
        }
    }

    /// Whether a refresh should begin now.
    pub fn is_due(&self, now_ms: i64) -> bool {
        !self.baked && !self.is_under_way(now_ms) && now_ms >= self.next_ms
    }

    /// Whether a refresh has begun that has not come to its end, nor was cut off.
    fn is_under_way(&self, now_ms: i64) -> bool {
        self.began_ms.is_some_and(|began| (0..LONGEST_REFRESH_MS).contains(&now_ms.saturating_sub(began)))
    }

    /// When the refresh began that is under way, if one is.
    pub fn under_way_since(&self, now_ms: i64) -> Option<i64> {
        self.began_ms.filter(|_| self.is_under_way(now_ms))
    }

    /// What served is gone, and must be fetched again; which bundle was the newest stays known.
    pub fn lost(&mut self) {
        *self = Self { newest: self.newest, baked: self.baked, ..Self::default() };
    }

    /// A refresh begins.
    pub fn begin(&mut self, now_ms: i64) {
        self.began_ms = Some(now_ms);
    }

    /// Judges the bundle that the source gave. `serving` is what serves; the demands are [`crate::trust::demands`] of [`newest`](Self::newest).
    ///
    /// # Errors
    /// A bundle that may not serve: an older one, another of the same version, one below `min_version`.
    pub fn judge(
        &self,
        demands: &Demands,
        found: BundleId,
        parent: Option<Digest>,
        serving: Option<BundleId>,
    ) -> Result<Found, TrustError> {
        let demands = Demands { newest: self.newest(), ..demands.clone() };
        demands.check_version(Accepted { version: found.version, digest: found.digest }, parent)?;
        Ok(if serving == Some(found) { Found::Same } else { Found::Newer })
    }

    /// The source gave what serves now: it was there already, or has just been loaded.
    pub fn installed(&mut self, settings: &Settings, bundle: BundleId, now_ms: i64) {
        self.remember(bundle.version, bundle.digest);
        self.confirmed_ms = Some(now_ms);
        self.began_ms = None;
        self.failures = 0;
        self.error = None;
        self.next_ms = now_ms.saturating_add(interval(settings));
    }

    /// A refresh gave nothing that can serve. What served goes on.
    pub fn failed(&mut self, settings: &Settings, code: &str, message: &str, now_ms: i64) {
        self.began_ms = None;
        self.failures = self.failures.saturating_add(1);
        self.error = Some(RefreshError { code: code.to_owned(), message: message.to_owned() });
        let pause = FIRST_PAUSE_MS.saturating_mul(1 << self.failures.saturating_sub(1).min(10));
        self.next_ms = now_ms.saturating_add(pause.min(interval(settings)));
    }

    /// Seconds since the source last gave what serves; `None` where nothing was ever given, or all is baked.
    pub fn age_seconds(&self, now_ms: i64) -> Option<u64> {
        u64::try_from(now_ms.saturating_sub(self.confirmed_ms?).max(0) / 1000).ok()
    }

    /// Why the latest refresh failed, if it did.
    pub(crate) fn error(&self) -> Option<&RefreshError> {
        self.error.as_ref()
    }

    /// Whether all is baked.
    pub(crate) fn is_baked(&self) -> bool {
        self.baked
    }

    /// How what serves may serve.
    pub(crate) fn mode(&self, settings: &Settings, now_ms: i64) -> Mode {
        let limit = i64::try_from(settings.max_stale.as_millis()).unwrap_or(i64::MAX);
        let is_stale = self.confirmed_ms.is_none_or(|confirmed| now_ms.saturating_sub(confirmed) > limit);
        match (self.baked || !is_stale, settings.when_stale) {
            (true, _) => Mode::Serve,
            (false, WhenStale::FailStatic) => Mode::FailStatic,
            (false, WhenStale::FailDefault) => Mode::FailDefault,
        }
    }
}

fn interval(settings: &Settings) -> i64 {
    i64::try_from(settings.refresh.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(version: u64) -> BundleId {
        BundleId { version, digest: Digest([version as u8; 32]) }
    }

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let look_up =
            |name: &str| pairs.iter().find(|(have, _)| *have == name).map(|(_, value)| (*value).to_owned());
        Settings::read(&look_up).unwrap()
    }

    #[test]
    fn an_older_bundle_never_comes_back() {
        let settings = settings(&[("min_version", "2")]);
        let mut fresh = Freshness::default();
        let judge = |fresh: &Freshness, found: BundleId, serving: Option<BundleId>| {
            let demands = crate::trust::demands(&settings, fresh.newest());
            fresh.judge(&demands, found, None, serving).map_err(|error| error.code())
        };
        assert_eq!(judge(&fresh, bundle(1), None), Err("below_min_version"));
        assert_eq!(judge(&fresh, bundle(3), None), Ok(Found::Newer));
        fresh.installed(&settings, bundle(3), 0);
        assert_eq!(judge(&fresh, bundle(3), Some(bundle(3))), Ok(Found::Same));
        assert_eq!(judge(&fresh, bundle(2), Some(bundle(3))), Err("older_version"));
        let other = BundleId { digest: Digest([9; 32]), ..bundle(3) };
        assert_eq!(judge(&fresh, other, Some(bundle(3))), Err("version_conflict"));
        assert_eq!(judge(&fresh, bundle(4), Some(bundle(3))), Ok(Found::Newer));
        // The same after the shell was lost, with or without its state.
        let kept = Freshness::from_bytes(&fresh.to_bytes());
        assert_eq!(kept, fresh);
        assert_eq!(judge(&kept, bundle(2), None), Err("older_version"));
        assert_eq!(judge(&kept, bundle(3), None), Ok(Found::Newer), "the newest one may be loaded again");
        let mut told = Freshness::from_bytes(b"not json");
        told.remember(3, bundle(3).digest);
        assert_eq!(judge(&told, bundle(2), None), Err("older_version"));
    }

    #[test]
    fn a_refresh_comes_in_time_and_not_twice() {
        let settings = settings(&[("refresh", "30s")]);
        let mut fresh = Freshness::default();
        assert!(fresh.is_due(0));
        fresh.begin(0);
        assert!(!fresh.is_due(29_999), "one is under way");
        assert!(fresh.is_due(30_000), "and was cut off");
        fresh.installed(&settings, bundle(1), 1000);
        assert!(!fresh.is_due(30_999) && fresh.is_due(31_000));
        let mut pauses = Vec::new();
        for _ in 0..6 {
            fresh.failed(&settings, "missing", "there is no policy", 100_000);
            pauses.push((100_000..200_000).step_by(1000).find(|now| fresh.is_due(*now)).unwrap() - 100_000);
        }
        assert_eq!(pauses, [2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(fresh.error().unwrap().code, "missing");
        assert!(!Freshness::baked(bundle(1)).is_due(i64::MAX));
    }

    #[test]
    fn what_is_too_old_serves_as_it_is_told() {
        for (when, mode) in [("fail_static", Mode::FailStatic), ("fail_default", Mode::FailDefault)] {
            let settings = settings(&[("max_stale", "60s"), ("when_stale", when)]);
            let mut fresh = Freshness::default();
            assert_eq!(fresh.mode(&settings, 0), mode, "nothing ever confirmed it");
            fresh.installed(&settings, bundle(1), 0);
            fresh.failed(&settings, "unreachable", "", 30_000);
            assert_eq!(fresh.mode(&settings, 60_000), Mode::Serve);
            assert_eq!((fresh.mode(&settings, 60_001), fresh.age_seconds(61_000)), (mode, Some(61)));
            fresh.installed(&settings, bundle(1), 70_000);
            assert_eq!(fresh.mode(&settings, 70_000), Mode::Serve);
            assert_eq!(Freshness::baked(bundle(1)).mode(&settings, i64::MAX), Mode::Serve);
        }
    }
}
