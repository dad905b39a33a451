//! What an isolate holds between requests.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use lockgate_edge::{Catalog, Core, Edge, Freshness, Identity, Serving};
use lockgate_package::Digest;
use wasm_bindgen::JsValue;
use worker::Env;

use crate::core::{Cores, Handle, Which, identity};
use crate::{glue, now, settings};

/// What `glue.js` keeps for the next shell.
#[cfg(feature = "fetched")]
const KEPT_FRESHNESS: &str = "freshness";
#[cfg(feature = "fetched")]
const KEPT_CORES: &str = "cores";

/// An isolate that is set up, or what is wrong with its settings.
type SetUp = Result<Rc<Isolate>, Rc<[String]>>;

thread_local! {
    static ISOLATE: RefCell<Option<SetUp>> = const { RefCell::new(None) };
}

/// A policy with its packages, at work.
pub(crate) struct Loaded {
    pub(crate) catalog: Catalog,
    pub(crate) cores: Cores,
}

/// What every request of an isolate shares. Nothing in it is borrowed across an `await`.
pub(crate) struct Isolate {
    pub(crate) edge: RefCell<Edge>,
    pub(crate) freshness: RefCell<Freshness>,
    pub(crate) settings: lockgate_edge::Settings,
    /// The origin's address, without a slash at its end; empty with a service binding.
    pub(crate) origin: Option<String>,
    /// The key of the policy in KV.
    #[cfg(feature = "fetched")]
    pub(crate) policy_key: String,
    /// When records were last promised to be sent.
    pub(crate) sending_since: Cell<i64>,
    loaded: RefCell<Option<Rc<Loaded>>>,
    /// What answers while nothing is loaded.
    plain: Cores,
    /// The digest of a baked inference module.
    image: Option<Digest>,
}

impl Isolate {
    /// The isolate, set up by its first request; or what is wrong with its settings.
    pub(crate) fn get(env: &Env) -> SetUp {
        ISOLATE.with_borrow_mut(|isolate| {
            isolate
                .get_or_insert_with(|| {
                    Self::new(env).map(Rc::new).map_err(|problems| {
                        for problem in &problems {
                            worker::console_error!("{problem}");
                        }
                        problems.into()
                    })
                })
                .clone()
        })
    }

    fn new(env: &Env) -> Result<Self, Vec<String>> {
        let settings = settings::read(env)?;
        let origin = origin(env)?;
        for which in [Which::Policy, Which::Inference] {
            if identity(which).is_none() {
                return Err(vec![format!(
                    "{}: it is no module of Lockgate: it names no identity",
                    which.file()
                )]);
            }
        }
        let mut random = [0; 16];
        glue::random(&mut random);
        let identity = Identity {
            shell: "cloudflare",
            emitter: Digest::of(&random).short(),
            has_origin: origin.is_some(),
            started_ms: now(),
        };
        let mut isolate = Self {
            edge: RefCell::new(Edge::new(settings.clone(), identity)),
            freshness: RefCell::new(Freshness::default()),
            settings,
            origin,
            #[cfg(feature = "fetched")]
            policy_key: glue::setting(env, settings::POLICY_KEY).unwrap_or_else(|| "policy".to_owned()),
            sending_since: Cell::new(0),
            loaded: RefCell::new(None),
            plain: Cores::plain(),
            image: None,
        };
        match baked().map_err(|problem| vec![problem])? {
            Some((loaded, image)) => {
                *isolate.freshness.get_mut() = Freshness::baked(loaded.catalog.bundle);
                isolate.image = image;
                *isolate.loaded.get_mut() = Some(Rc::new(loaded));
            }
            None => isolate.find_store(env)?,
        }
        Ok(isolate)
    }

    /// Takes over what the shell before this one has loaded; everything else will come from KV.
    #[cfg(feature = "fetched")]
    fn find_store(&mut self, env: &Env) -> Result<(), Vec<String>> {
        *self.freshness.get_mut() = kept_freshness();
        let left = left_behind();
        if left.is_none() {
            // Without cores there is nothing that a refresh could confirm.
            self.freshness.get_mut().lost();
        }
        *self.loaded.get_mut() = left.map(Rc::new);
        if glue::has_binding(env, "POLICY") {
            return Ok(());
        }
        let hint = "bind one in wrangler.toml, or run `lockgate bake`";
        Err(vec![format!("POLICY: there is no KV namespace of this name, and no policy is baked in; {hint}")])
    }

    #[cfg(not(feature = "fetched"))]
    fn find_store(&mut self, _env: &Env) -> Result<(), Vec<String>> {
        let hint = "run `lockgate bake` into this folder, or take the Worker that fetches its policy";
        Err(vec![format!("catalog.json: no policy is baked in, and this Worker fetches none; {hint}")])
    }

    /// What serves.
    pub(crate) fn loaded(&self) -> Option<Rc<Loaded>> {
        self.loaded.borrow().clone()
    }

    /// Lets a policy serve. Requests that are under way end with the one that they began with.
    #[cfg(feature = "fetched")]
    pub(crate) fn install(&self, loaded: Loaded) {
        let Cores { policy, inference, .. } = &loaded.cores;
        glue::keep(KEPT_CORES, format!("{} {}", policy.id(), inference.id()).as_bytes());
        *self.loaded.borrow_mut() = Some(Rc::new(loaded));
    }

    /// Changes what is known about freshness, and keeps it.
    #[cfg(feature = "fetched")]
    pub(crate) fn change_freshness<T>(&self, change: impl FnOnce(&mut Freshness) -> T) -> T {
        let mut freshness = self.freshness.borrow_mut();
        let result = change(&mut freshness);
        glue::keep(KEPT_FRESHNESS, &freshness.to_bytes());
        result
    }

    /// Calls the state machine with what serves. `act` calls modules and nothing else, so it never comes back here.
    pub(crate) fn with<T>(
        &self,
        loaded: Option<&Loaded>,
        act: impl FnOnce(&mut Edge, &mut dyn Core, Serving<'_>) -> T,
    ) -> T {
        let mut cores = loaded.map_or(&self.plain, |loaded| &loaded.cores).clone();
        let freshness = self.freshness.borrow();
        let catalog = loaded.map(|loaded| &loaded.catalog);
        let serving = Serving { catalog, freshness: &freshness, image: self.image };
        act(&mut self.edge.borrow_mut(), &mut cores, serving)
    }

    /// The service binding to the origin, or nothing.
    pub(crate) fn service(env: &Env) -> JsValue {
        worker::js_sys::Reflect::get(env, &"ORIGIN".into()).unwrap_or(JsValue::UNDEFINED)
    }
}

impl Which {
    fn file(self) -> &'static str {
        match self {
            Self::Policy => "policy.wasm",
            Self::Inference => "inference.wasm",
        }
    }
}

#[cfg(feature = "fetched")]
fn kept_freshness() -> Freshness {
    glue::recall(KEPT_FRESHNESS).map_or_else(Freshness::default, |kept| Freshness::from_bytes(&kept.to_vec()))
}

/// The address of the origin: of a service binding it is only a name.
fn origin(env: &Env) -> Result<Option<String>, Vec<String>> {
    if glue::has_binding(env, "ORIGIN") {
        return Ok(Some("http://origin".to_owned()));
    }
    let Some(text) = glue::setting(env, settings::ORIGIN).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    if glue::is_address(&text) {
        return Ok(Some(text.trim_end_matches('/').to_owned()));
    }
    Err(vec![format!(
        "{}: expected an address like `https://origin.example`, without a query, found `{text}`",
        settings::ORIGIN
    )])
}

#[cfg(not(feature = "baked"))]
fn baked() -> Result<Option<(Loaded, Option<Digest>)>, String> {
    match glue::baked_catalog().trim() {
        "null" => Ok(None),
        _ => Err("catalog.json: a policy is baked in, and this Worker fetches its own; take the baked one"
            .to_owned()),
    }
}

/// What the modules were baked with, if they were, and the digest of the image.
#[cfg(feature = "baked")]
fn baked() -> Result<Option<(Loaded, Option<Digest>)>, String> {
    let text = glue::baked_catalog();
    if text.trim() == "null" {
        return Ok(None);
    }
    let catalog = Catalog::from_json(text.as_bytes()).map_err(|error| format!("catalog.json: {error}"))?;
    let mut response = Vec::new();
    let policy = Handle::open(Which::Policy);
    let fault = |which: Which| move |fault| format!("{}: {fault:?}", which.file());
    let held = policy.loaded(0, &mut response).map_err(fault(Which::Policy))?;
    if held.map(|held| held.digest) != Some(catalog.bundle.digest) {
        return Err("policy.wasm: it does not hold the bundle that catalog.json names; put all files of one `lockgate bake` here".to_owned());
    }
    let inference = Handle::open(Which::Inference);
    let mut packages = Vec::new();
    for index in 0.. {
        match inference.loaded(index, &mut response).map_err(fault(Which::Inference))? {
            Some(held) => packages.push(held.digest),
            None => break,
        }
    }
    let image = baked_image().filter(|_| !packages.is_empty());
    let cores = Cores::new(Rc::new(policy), Rc::new(inference), &packages);
    Ok(Some((Loaded { catalog, cores }, image)))
}

#[cfg(feature = "baked")]
fn baked_image() -> Option<Digest> {
    let manifest: serde_json::Value = serde_json::from_str(&glue::module_manifest()).ok()?;
    manifest.get("inference")?.get("image")?.as_str()?.parse().ok()
}

/// The cores of a shell before this one, which trapped. All others that it had are forgotten.
#[cfg(feature = "fetched")]
fn left_behind() -> Option<Loaded> {
    let text = glue::recall(KEPT_CORES).map(|kept| kept.to_vec())?;
    let (policy, inference) = str::from_utf8(&text).ok()?.split_once(' ')?;
    let (policy, inference) = (policy.parse().ok()?, inference.parse().ok()?);
    glue::keep_cores(policy, inference);
    let (policy, inference) =
        (Handle::found(Which::Policy, policy), Handle::found(Which::Inference, inference));
    // The bundle is loaded last, behind its lists.
    let bundle = policy.contents().pop()?;
    let contents = inference.contents();
    let packages: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    let catalog = Catalog::of(&bundle, &packages).ok()?;
    let mut response = Vec::new();
    let mut digests = Vec::new();
    for index in 0..u32::try_from(contents.len()).ok()? {
        digests.push(inference.loaded(index, &mut response).ok()??.digest);
    }
    Some(Loaded { catalog, cores: Cores::new(Rc::new(policy), Rc::new(inference), &digests) })
}
