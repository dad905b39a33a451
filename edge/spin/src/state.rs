//! What an instance keeps: settings, what serves, counters. All of it can be made again.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use lockgate_edge::fresh::Freshness;
use lockgate_edge::{BundleId, Catalog, Core, CoreFault, Edge, Identity, Settings};
use lockgate_package::Digest;

use crate::core::{About, Loaded};
use crate::platform;
use crate::store::{Content, Given, Refusal, Source};

/// Variables of this application alone; the others are those of `docs/edge-settings.md`.
const OWN: [&str; 4] = ["origin", "policy_key", "policy_source", "policy_store"];

/// How long a look into the store may take, all packages included.
const LONGEST_LOOK: Duration = Duration::from_secs(10);

/// How long a request waits before it sees again whether another one's look is over; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LAST_PAUSE: Duration = Duration::from_millis(64);

thread_local! {
    static APP: OnceCell<Rc<App>> = const { OnceCell::new() };
}

/// An instance of the application.
pub(crate) struct App {
    pub(crate) edge: RefCell<Edge>,
    /// Where versions are forwarded to, and records go: `http://host:port`.
    pub(crate) origin: Option<String>,
    settings: Settings,
    about: About,
    source: PolicySource,
    state: RefCell<State>,
    looks: Looks,
}

/// Where the policy comes from.
enum PolicySource {
    /// The core was baked with it.
    Baked,
    KeyValue {
        store: String,
        key: String,
    },
}

#[derive(Default)]
struct State {
    content: Option<Rc<RefCell<Content>>>,
    freshness: Freshness,
}

impl App {
    /// This instance's, made with its first request.
    pub(crate) async fn get() -> Result<Rc<Self>, String> {
        if let Some(app) = APP.with(|app| app.get().cloned()) {
            return Ok(app);
        }
        let app = Rc::new(Self::new().await?);
        // A request that came at the same time may have been quicker.
        Ok(APP.with(|place| place.get_or_init(|| app).clone()))
    }

    async fn new() -> Result<Self, String> {
        let mut variables = BTreeMap::new();
        for name in Settings::TABLE.iter().map(|setting| setting.name).chain(OWN) {
            if let Some(value) = platform::variable(name).await? {
                variables.insert(name, value);
            }
        }
        let settings = Settings::read(&|name| variables.get(name).cloned()).map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            errors.join("; ")
        })?;
        let text =
            |name: &str, default: &str| variables.get(name).map_or(default, |text| text.trim()).to_owned();
        let source = match text("policy_source", "baked").as_str() {
            "baked" => PolicySource::Baked,
            "key-value" => PolicySource::KeyValue {
                store: text("policy_store", "default"),
                key: text("policy_key", "policy"),
            },
            other => {
                return Err(format!(
                    "setting `policy_source`: expected `baked` or `key-value`, found `{other}`"
                ));
            }
        };
        let origin = Some(text("origin", "")).filter(|origin| !origin.is_empty());
        let origin = origin.map(|origin| read_origin(&origin)).transpose()?;
        let about = crate::core::about()?;
        let identity = Identity {
            shell: "spin",
            emitter: platform::random_bytes().iter().map(|byte| format!("{byte:02x}")).collect(),
            has_origin: origin.is_some(),
            started_ms: platform::now_ms(),
        };
        let edge = RefCell::new(Edge::new(settings.clone(), identity));
        Ok(Self { edge, origin, settings, about, source, state: RefCell::default(), looks: Looks::default() })
    }

    /// What serves now. Looks for a newer policy when that is due, or when there is none yet.
    pub(crate) async fn serving(&self, now_ms: i64) -> Serving {
        match &self.source {
            PolicySource::Baked => {
                if self.state.borrow().content.is_none() {
                    self.take_baked();
                }
            }
            PolicySource::KeyValue { store, key } => {
                self.look(store, key, now_ms).await;
            }
        }
        let state = self.state.borrow();
        let image = matches!(self.source, PolicySource::Baked).then_some(self.about.policy.image);
        Serving {
            content: state.content.clone(),
            nothing: Nothing([self.about.policy.identity, self.about.inference.identity]),
            freshness: state.freshness.clone(),
            image,
        }
    }

    /// Looks into the store when that is due, or when nothing serves yet. Requests that come meanwhile share the look: those that have
    /// something to go on with do not wait for it.
    async fn look(&self, store: &str, key: &str, now_ms: i64) {
        let looks = &self.looks;
        let before = looks.ended.get();
        while looks.ended.get() == before {
            let has_content = {
                let state = self.state.borrow();
                if state.content.is_some() && !state.freshness.is_due(now_ms) {
                    return;
                }
                state.content.is_some()
            };
            if let Some(look) = looks.begin() {
                let looked = platform::within(LONGEST_LOOK, self.refresh(store, key, now_ms)).await;
                let too_slow = || {
                    let seconds = LONGEST_LOOK.as_secs();
                    let message = format!("the key-value store `{store}` gave no policy within {seconds} s");
                    Err(Refusal::new("store_unreachable", message))
                };
                if let Err(refusal) = looked.unwrap_or_else(too_slow) {
                    platform::log(&format!("{}: {}", refusal.code, refusal.message));
                    let mut state = self.state.borrow_mut();
                    state.freshness.failed(&self.settings, refusal.code, &refusal.message, now_ms);
                }
                look.end();
            } else if has_content {
                return;
            } else {
                looks.over().await;
            }
        }
    }

    fn take_baked(&self) {
        match self.baked() {
            Ok(Some(content)) => {
                let bundle = content.catalog.bundle;
                let mut state = self.state.borrow_mut();
                state.freshness = Freshness::baked(bundle);
                state.content = Some(Rc::new(RefCell::new(content)));
            }
            Ok(None) => platform::log(
                "the core holds no policy: bake one (`lockgate bake`), or set the variable `policy_source` to `key-value`",
            ),
            Err(problem) => platform::log(&problem),
        }
    }

    fn baked(&self) -> Result<Option<Content>, String> {
        let Some(catalog) = &self.about.catalog else { return Ok(None) };
        let Some(core) = Loaded::baked(&self.about) else { return Ok(None) };
        let catalog = Catalog::from_json(catalog.get().as_bytes()).map_err(|error| error.to_string())?;
        let (version, digest) = core.bundle();
        if catalog.bundle != (BundleId { version, digest }) {
            return Err("the baked policy is not the one that its catalogue names; bake again".to_owned());
        }
        Ok(Some(Content { core, catalog }))
    }

    /// One look into the store.
    async fn refresh(&self, store: &str, key: &str, now_ms: i64) -> Result<(), Refusal> {
        let source = Source::open(store, key, &self.settings, &self.about).await?;
        let baked = self.about.catalog.is_some().then(|| Loaded::baked(&self.about)).flatten();
        let baked = baked.map(|core| core.bundle());
        let serving = self.state.borrow().content.as_ref().map(|content| content.borrow().catalog.bundle);
        let mut freshness = source.freshness().await?;
        loop {
            if let Some((version, digest)) = baked {
                freshness.remember(version, digest);
            }
            // What another instance was told a moment ago need not be written again.
            let is_due = freshness.is_due(now_ms);
            let known = freshness.newest();
            let given = source.policy(&freshness, serving, baked).await;
            let found = given.as_ref().ok().map(Given::bundle);
            let is_new = found.is_some_and(|found| known.is_none_or(|known| known.digest != found.digest));
            // Loading takes its time. What another instance accepted meanwhile must not be forgotten.
            if (is_due || is_new)
                && let Ok(now) = source.freshness().await
                && let Some(newest) = now.newest()
            {
                let is_overtaken =
                    |found: BundleId| found.digest != newest.digest && found.version <= newest.version;
                if found.is_some_and(is_overtaken) {
                    freshness = now;
                    continue;
                }
                freshness.remember(newest.version, newest.digest);
            }
            match given {
                Ok(given) => self.install(&source, freshness, given, is_due, is_new, now_ms).await,
                Err(refusal) => self.go_on_without(&source, freshness, &refusal, is_due, now_ms).await,
            }
            return Ok(());
        }
    }

    /// What the store gave serves.
    async fn install(
        &self,
        source: &Source<'_>,
        mut freshness: Freshness,
        given: Given,
        is_due: bool,
        is_new: bool,
        now_ms: i64,
    ) {
        let (bundle, content, bytes) = match given {
            Given::Same(bundle) => (bundle, None, None),
            Given::Baked(bundle) => (bundle, self.logged_baked(), None),
            Given::Newer(content, bytes) => (content.catalog.bundle, Some(*content), Some(bytes)),
        };
        freshness.installed(&self.settings, bundle, now_ms);
        if is_due || is_new {
            let good = bytes.as_deref().filter(|_| is_new);
            if let Err(problem) = source.keep(&freshness, good).await {
                // It serves all the same, but a lower version could come back: say so.
                platform::log(&problem);
                freshness.failed(&self.settings, "state_not_kept", &problem, now_ms);
            }
        }
        let mut state = self.state.borrow_mut();
        if let Some(content) = content {
            state.content = Some(Rc::new(RefCell::new(content)));
        }
        state.freshness = freshness;
    }

    /// What serves goes on; an instance in which nothing serves takes what was accepted last.
    async fn go_on_without(
        &self,
        source: &Source<'_>,
        mut freshness: Freshness,
        refusal: &Refusal,
        is_due: bool,
        now_ms: i64,
    ) {
        platform::log(&format!("{}: {}", refusal.code, refusal.message));
        freshness.failed(&self.settings, refusal.code, &refusal.message, now_ms);
        if is_due && let Err(problem) = source.keep(&freshness, None).await {
            platform::log(&problem);
        }
        if self.state.borrow().content.is_none() {
            let good = source.good(&freshness).await.unwrap_or_else(|other| {
                platform::log(&format!("the last good policy: {}: {}", other.code, other.message));
                None
            });
            let good = good.or_else(|| self.baked_if_newest(&freshness));
            self.state.borrow_mut().content = good.map(|content| Rc::new(RefCell::new(content)));
        }
        self.state.borrow_mut().freshness = freshness;
    }

    fn logged_baked(&self) -> Option<Content> {
        self.baked().unwrap_or_else(|problem| {
            platform::log(&problem);
            None
        })
    }

    /// The baked policy, unless a newer one was ever accepted.
    fn baked_if_newest(&self, freshness: &Freshness) -> Option<Content> {
        let content = self.logged_baked()?;
        let newest = freshness.newest()?;
        (newest.digest == content.catalog.bundle.digest).then_some(content)
    }
}

/// Looks into the store, of which there is one at a time.
#[derive(Default)]
struct Looks {
    is_on: Cell<bool>,
    /// How many have come to their end.
    ended: Cell<u64>,
}

/// A look that is under way until this is dropped, as it is when its request is given up.
struct Look<'a>(&'a Looks);

impl Looks {
    /// One that is made ends the look when it is dropped, so none may be made in vain.
    fn begin(&self) -> Option<Look<'_>> {
        (!self.is_on.replace(true)).then(|| Look(self))
    }

    /// Waits until no look is under way. It sees for itself from time to time: a request cannot wake another one of its instance.
    async fn over(&self) {
        let mut pause = FIRST_PAUSE;
        while self.is_on.get() {
            spin_sdk::time::sleep(pause).await;
            pause = LAST_PAUSE.min(pause * 2);
        }
    }
}

impl Look<'_> {
    fn end(self) {
        self.0.ended.set(self.0.ended.get().wrapping_add(1));
    }
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        self.0.is_on.set(false);
    }
}

/// The origin's address: scheme and authority, without a path.
fn read_origin(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']) => Ok(text.to_owned()),
        _ => Err(format!(
            "setting `origin`: expected an address like `https://models.example.com`, found `{text}`"
        )),
    }
}

/// What serves a request from its beginning to its end, whatever is loaded meanwhile.
pub(crate) struct Serving {
    content: Option<Rc<RefCell<Content>>>,
    nothing: Nothing,
    freshness: Freshness,
    image: Option<Digest>,
}

impl Serving {
    /// Calls `ask` with the core and what describes it.
    pub(crate) fn with<R>(&self, ask: impl FnOnce(&mut dyn Core, lockgate_edge::Serving<'_>) -> R) -> R {
        let (freshness, image) = (&self.freshness, self.image);
        match &self.content {
            Some(content) => {
                let mut content = content.borrow_mut();
                let Content { core, catalog } = &mut *content;
                ask(core, lockgate_edge::Serving { catalog: Some(catalog), freshness, image })
            }
            None => {
                let mut nothing = self.nothing;
                ask(&mut nothing, lockgate_edge::Serving { catalog: None, freshness, image })
            }
        }
    }
}

/// A core without a bundle: it has its identities.
#[derive(Clone, Copy)]
struct Nothing([Digest; 2]);

impl Nothing {
    fn fault() -> CoreFault {
        CoreFault::Unavailable("no policy is loaded".to_owned())
    }
}

impl Core for Nothing {
    fn decide(&mut self, _: &[u8], _: &mut Vec<u8>) -> Result<(), CoreFault> {
        Err(Self::fault())
    }

    fn predict(&mut self, _: &[u8], _: &mut Vec<u8>) -> Result<(), CoreFault> {
        Err(Self::fault())
    }

    fn handle(&mut self, _: &Digest) -> Option<u32> {
        None
    }

    fn drop_policy(&mut self) {}

    fn drop_inference(&mut self) {}

    fn policy_identity(&self) -> Digest {
        let [policy, _] = self.0;
        policy
    }

    fn inference_identity(&self) -> Digest {
        let [_, inference] = self.0;
        inference
    }
}
