//! Where the policy comes from: KV, with its packages and unit lists in R2, or in KV where they are small.
//!
//! A refresh belongs to the request that began it, as all I/O of a Worker does: no other request may wait for its promise. A request that
//! finds nothing loaded looks again from time to time instead, and begins one itself when it is due.

use std::rc::Rc;
use std::time::Duration;

use lockgate_abi::Reply;
use lockgate_edge::trust::{self, Ed25519Check};
use lockgate_edge::{BundleId, Catalog, Found, Needs};
use lockgate_package::signing::{Demands, TrustError};
use lockgate_package::{Digest, Kind};
use worker::js_sys::{Promise, Uint8Array, futures::JsFuture};
use worker::{Context, Delay, Env};

use crate::core::{Cores, Handle, Held, Which};
use crate::isolate::{Isolate, Loaded};
use crate::{glue, is_true, now};

/// How long a request waits before it looks again whether another one has loaded the policy; twice as long each time.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(64);

/// A policy that was last confirmed so long ago is not served before KV was asked again.
const LATE_SECONDS: u64 = 60;
/// For so long, from the beginning of a refresh, requests wait for it then.
const LATE_PATIENCE_MS: i64 = 1000;

/// How long a value may come from the cache of KV at the place where the Worker runs; the least that KV takes.
const CACHE_SECONDS: u32 = 30;

/// Why a refresh gave nothing.
struct Failed {
    code: String,
    message: String,
}

impl Failed {
    fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}

impl From<TrustError> for Failed {
    fn from(error: TrustError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// A refresh that a request had better wait for.
pub(crate) struct Wait {
    began_ms: i64,
}

/// What serves. Begins a refresh when one is due. It is waited for when nothing serves yet, and for a moment when what serves was last
/// confirmed too long ago, because nobody asked this isolate meanwhile.
pub(crate) fn ready(isolate: &Rc<Isolate>, env: &Env, context: &Context) -> Result<Option<Rc<Loaded>>, Wait> {
    let began_ms = now();
    begin_if_due(isolate, env, context);
    let loaded = isolate.loaded();
    if is_worth_waiting(isolate, loaded.is_some(), began_ms, now()) {
        return Err(Wait { began_ms });
    }
    Ok(loaded)
}

impl Wait {
    /// What serves once there is nothing more to wait for.
    pub(crate) async fn over(
        self,
        isolate: &Rc<Isolate>,
        env: &Env,
        context: &Context,
    ) -> Option<Rc<Loaded>> {
        let mut pause = FIRST_LOOK;
        loop {
            Delay::from(pause).await;
            pause = LAST_LOOK.min(pause * 2);
            begin_if_due(isolate, env, context);
            let loaded = isolate.loaded();
            if !is_worth_waiting(isolate, loaded.is_some(), self.began_ms, now()) {
                return loaded;
            }
        }
    }
}

fn is_worth_waiting(isolate: &Isolate, serves: bool, began_ms: i64, now_ms: i64) -> bool {
    let freshness = isolate.freshness.borrow();
    let Some(since_ms) = freshness.under_way_since(now_ms) else { return false };
    if serves {
        let is_late = freshness.age_seconds(now_ms).is_some_and(|age| age >= LATE_SECONDS);
        return is_late && now_ms.saturating_sub(since_ms) < LATE_PATIENCE_MS;
    }
    let patience = i64::try_from(isolate.settings.timeout.as_millis()).unwrap_or(i64::MAX);
    now_ms.saturating_sub(began_ms) < patience
}

fn begin_if_due(isolate: &Rc<Isolate>, env: &Env, context: &Context) {
    if isolate.freshness.borrow().is_due(now()) {
        isolate.change_freshness(|freshness| freshness.begin(now()));
        let (isolate, env) = (Rc::clone(isolate), env.clone());
        context.wait_until(async move { refresh(&isolate, &env).await });
    }
}

/// Refreshes within an event of its own.
pub(crate) async fn if_due(isolate: &Isolate, env: &Env) {
    if isolate.freshness.borrow().is_due(now()) {
        isolate.change_freshness(|freshness| freshness.begin(now()));
        refresh(isolate, env).await;
    }
}

async fn refresh(isolate: &Isolate, env: &Env) {
    let result = fetch(isolate, env).await;
    let settings = &isolate.settings;
    match result {
        Ok(bundle) => isolate.change_freshness(|freshness| freshness.installed(settings, bundle, now())),
        Err(Failed { code, message }) => {
            worker::console_error!("the policy was not refreshed: {code}: {message}");
            isolate.change_freshness(|freshness| freshness.failed(settings, &code, &message, now()));
        }
    }
}

/// Fetches the policy and, when it is another one, lets it serve.
async fn fetch(isolate: &Isolate, env: &Env) -> Result<BundleId, Failed> {
    let key = &isolate.policy_key;
    let bytes = read_kv(env, key).await?.ok_or_else(|| {
        Failed::new("missing_policy", format!("KV has no `{key}`; write it with `wrangler kv key put`"))
    })?;

    let demands = trust::demands(&isolate.settings, isolate.freshness.borrow().newest());
    check(&demands, &bytes, Kind::Bundle).await?;
    let needs = Needs::of(&bytes).map_err(|error| Failed::new("malformed", error.to_string()))?;
    let found = needs.bundle;
    let judge = || {
        let serving = isolate.loaded().map(|loaded| loaded.catalog.bundle);
        isolate.freshness.borrow().judge(&demands, found, needs.parent, serving)
    };
    if judge()? == Found::Same {
        return Ok(found);
    }

    let store = Store { env, has_bucket: glue::has_binding(env, "PACKAGES") };
    let mut contents = Vec::with_capacity(needs.lists.len() + 1);
    for digest in &needs.lists {
        contents.push(store.read(&format!("objects/{digest}.lgl"), &demands, Kind::UnitList).await?);
    }
    contents.push(bytes);
    let (inference, packages) = inference(isolate, &store, &demands, &needs.packages).await?;
    let policy = Handle::open(Which::Policy);
    let mut response = Vec::new();
    for content in &contents {
        load(&policy, "the policy", content, &mut response)?;
    }

    // Another refresh may have been quicker.
    if judge()? == Found::Newer {
        let bundle = contents.last().map(Vec::as_slice).unwrap_or_default();
        let packages: Vec<&[u8]> = packages.iter().map(Vec::as_slice).collect();
        let catalog =
            Catalog::of(bundle, &packages).map_err(|error| Failed::new("malformed", error.to_string()))?;
        isolate.install(Loaded { catalog, cores: Cores::new(Rc::new(policy), inference, &needs.packages) });
    }
    Ok(found)
}

/// The inference module with these packages: the one that serves when it holds just them, else a new one.
async fn inference(
    isolate: &Isolate,
    store: &Store<'_>,
    demands: &Demands,
    wanted: &[Digest],
) -> Result<(Rc<Handle>, Vec<Vec<u8>>), Failed> {
    let serving = isolate.loaded();
    let serving = serving.as_ref().map(|loaded| &loaded.cores);
    let held = serving.map(|cores| cores.inference.contents()).unwrap_or_default();
    if let Some(cores) = serving.filter(|cores| *cores.packages == *wanted) {
        return Ok((Rc::clone(&cores.inference), held));
    }
    let handle = Handle::open(Which::Inference);
    let mut response = Vec::new();
    let mut packages = Vec::with_capacity(wanted.len());
    for digest in wanted {
        let place = serving.and_then(|cores| cores.packages.iter().position(|have| have == digest));
        let package = match place.and_then(|place| held.get(place)) {
            Some(package) => package.clone(),
            None => store.read(&format!("packages/{digest}.lgp"), demands, Kind::Package).await?,
        };
        let loaded = load(&handle, &format!("the package {}", digest.short()), &package, &mut response)?;
        if loaded.digest != *digest {
            let (found, expected) = (loaded.digest.short(), digest.short());
            let message = format!("the package has the digest {found}, the policy pins {expected}");
            return Err(Failed::new("wrong_pin", message));
        }
        packages.push(package);
    }
    Ok((Rc::new(handle), packages))
}

/// Loads a content, and says why that was refused.
fn load(handle: &Handle, what: &str, content: &[u8], response: &mut Vec<u8>) -> Result<Held, Failed> {
    handle
        .load(content, response)
        .map_err(|fault| Failed::new("core", format!("{what} cannot be loaded: {fault:?}")))?;
    match Reply::read(response, 0) {
        Ok(Reply::Done(done)) => Ok(Held::of(&done)),
        Ok(Reply::Failed(failure)) => {
            Err(Failed::new(failure.code.name(), format!("{what} cannot be loaded: {}", failure.message)))
        }
        Err(malformed) => Err(Failed::new("core", format!("{what} cannot be loaded: {malformed}"))),
    }
}

/// Where packages and unit lists lie, named by their digests.
struct Store<'a> {
    env: &'a Env,
    has_bucket: bool,
}

impl Store<'_> {
    async fn read(&self, key: &str, demands: &Demands, kind: Kind) -> Result<Vec<u8>, Failed> {
        let found = if self.has_bucket { read_bucket(self.env, key).await? } else { None };
        let found = match found {
            Some(bytes) => Some(bytes),
            None => read_kv(self.env, key).await?,
        };
        let bytes = found.ok_or_else(|| {
            let place = if self.has_bucket { "neither R2 nor KV has" } else { "KV has no" };
            Failed::new("missing_object", format!("{place} `{key}`, which the policy needs"))
        })?;
        check(demands, &bytes, kind).await?;
        Ok(bytes)
    }
}

async fn read_kv(env: &Env, key: &str) -> Result<Option<Vec<u8>>, Failed> {
    read(glue::read_kv(env, key, CACHE_SECONDS), key, "KV").await
}

async fn read_bucket(env: &Env, key: &str) -> Result<Option<Vec<u8>>, Failed> {
    read(glue::read_bucket(env, key), key, "R2").await
}

async fn read(promise: Promise, key: &str, place: &str) -> Result<Option<Vec<u8>>, Failed> {
    let failed =
        |problem: String| Failed::new("store", format!("`{key}` cannot be read from {place}: {problem}"));
    let value = JsFuture::from(promise).await.map_err(|_| failed("it broke off".to_owned()))?;
    match value.as_string() {
        Some(problem) => Err(failed(problem)),
        None if value.is_undefined() => Ok(None),
        None => Ok(Some(Uint8Array::from(value).to_vec())),
    }
}

/// Verifies the signatures that are demanded.
async fn check(demands: &Demands, bytes: &[u8], kind: Kind) -> Result<(), Failed> {
    let mut good = Vec::new();
    for check in trust::checks(demands, bytes, kind)? {
        if verify_ed25519(&check).await {
            good.push(check);
        }
    }
    Ok(trust::judge(demands, bytes, kind, &good)?)
}

async fn verify_ed25519(check: &Ed25519Check) -> bool {
    is_true(glue::verify_ed25519(&check.key, &check.statement, &check.signature)).await
}
