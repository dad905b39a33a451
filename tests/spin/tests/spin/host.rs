//! A host with Spin's interfaces: key-value stores and variables of this test's making, outbound HTTP to where `allowed` says, and
//! instances that live as long as the test wants, from one request up. What it lacks of Spin: triggers and routes, `spin.toml`'s other
//! permissions, stores that outlive the process.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use wasmtime::component::{
    Accessor, Component, FutureReader, HasSelf, Linker, Resource, ResourceTable, StreamReader,
};
use wasmtime::{Config, Engine, Result, Store};
use wasmtime_wasi::{HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::p3::Request;
use wasmtime_wasi_http::p3::bindings::{Service, ServicePre};
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use bindings::spin::key_value::key_value as kv;
use bindings::spin::variables::variables;

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "lockgate:spin-host/host",
        with: { "spin:key-value/key-value.store": super::OpenStore },
        imports: { default: trappable },
    });
}

/// A key, and the values that another instance puts once it has been read.
pub(crate) type Meanwhile = (String, BTreeMap<String, Vec<u8>>);

/// What lies around the application and outlives its instances.
#[derive(Default)]
pub(crate) struct World {
    /// Key-value stores by label. One that is not here cannot be opened.
    pub(crate) stores: Mutex<BTreeMap<String, BTreeMap<String, Vec<u8>>>>,
    pub(crate) variables: Mutex<BTreeMap<String, String>>,
    /// `host:port` of those whom outbound HTTP may reach, as `allowed_outbound_hosts` has it.
    pub(crate) allowed: Mutex<Vec<String>>,
    /// Every key-value call fails, as when the backing store is down.
    pub(crate) store_is_down: AtomicBool,
    /// Reads are answered by nobody.
    pub(crate) store_hangs: AtomicBool,
    /// These reads fail, counted from the first one.
    pub(crate) failing_reads: Mutex<Range<usize>>,
    /// Whatever is written is refused.
    pub(crate) is_read_only: AtomicBool,
    /// Once this key has been read, these values are put, as by another instance.
    pub(crate) meanwhile: Mutex<Option<Meanwhile>>,
    /// Milliseconds that the application's clock is ahead of this machine's.
    pub(crate) clock_ahead_ms: Mutex<i64>,
    pub(crate) reads: AtomicUsize,
    pub(crate) writes: AtomicUsize,
    /// What the application sent out, `METHOD path`.
    pub(crate) sent: Mutex<Vec<String>>,
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        let world = Self::default();
        world.stores.lock().unwrap().insert("default".to_owned(), BTreeMap::new());
        Arc::new(world)
    }

    pub(crate) fn put(&self, key: &str, value: impl Into<Vec<u8>>) {
        self.stores.lock().unwrap().get_mut("default").unwrap().insert(key.to_owned(), value.into());
    }

    pub(crate) fn value(&self, key: &str) -> Option<Vec<u8>> {
        self.stores.lock().unwrap().get("default").unwrap().get(key).cloned()
    }

    pub(crate) fn remove(&self, key: &str) -> Option<Vec<u8>> {
        self.stores.lock().unwrap().get_mut("default").unwrap().remove(key)
    }

    pub(crate) fn set(&self, name: &str, value: &str) {
        self.variables.lock().unwrap().insert(name.to_owned(), value.to_owned());
    }

    pub(crate) fn allow(&self, address: &str) {
        self.allowed.lock().unwrap().push(address.to_owned());
    }

    pub(crate) fn sent(&self) -> Vec<String> {
        self.sent.lock().unwrap().clone()
    }
}

/// The application, compiled and linked.
pub(crate) struct Host {
    engine: Engine,
    pre: ServicePre<State>,
}

impl Host {
    /// Compiles a component in which everything but WASI and Spin's interfaces is composed.
    pub(crate) fn new(component: &[u8]) -> Self {
        Self::with_engine(component, &mut Self::config()).unwrap()
    }

    pub(crate) fn config() -> Config {
        let mut config = Config::new();
        config.wasm_component_model_async(true);
        // Tests end what loops.
        config.epoch_interruption(true);
        config
    }

    pub(crate) fn with_engine(component: &[u8], config: &mut Config) -> Result<Self> {
        let engine = Engine::new(config)?;
        let component = Component::new(&engine, component)?;
        let mut linker = Linker::<State>::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
        kv::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
        variables::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
        let pre = ServicePre::new(linker.instantiate_pre(&component)?)?;
        Ok(Self { engine, pre })
    }

    /// A new instance, with a memory and handles of its own.
    pub(crate) async fn instance(&self, world: &Arc<World>) -> Result<Instance> {
        let wasi = WasiCtxBuilder::new().wall_clock(Clock(Arc::clone(world))).inherit_stderr().build();
        let state = State {
            table: ResourceTable::new(),
            wasi,
            http: WasiHttpCtx::new(),
            hooks: Outbound(Arc::clone(world)),
            world: Arc::clone(world),
        };
        let mut store = Store::new(&self.engine, state);
        store.set_epoch_deadline(1);
        let service = self.pre.instantiate_async(&mut store).await?;
        Ok(Instance { store, service })
    }

    /// One request in an instance of its own, which is dropped after what the application goes on doing when it has answered.
    pub(crate) async fn send(&self, world: &Arc<World>, request: Ask) -> Result<Answer> {
        let mut instance = self.instance(world).await?;
        let answers = instance.send_all(vec![request]).await?;
        Ok(answers.into_iter().next().unwrap())
    }

    /// Makes everything that runs on this engine trap.
    pub(crate) fn interrupt(&self) {
        self.engine.increment_epoch();
    }
}

/// An instance of the application. After an error it is of no more use.
pub(crate) struct Instance {
    store: Store<State>,
    service: Service,
}

impl Instance {
    pub(crate) async fn send(&mut self, request: Ask) -> Result<Answer> {
        Ok(self.send_all(vec![request]).await?.into_iter().next().unwrap())
    }

    /// Several requests at once, and whatever the application goes on doing afterwards.
    pub(crate) async fn send_all(&mut self, requests: Vec<Ask>) -> Result<Vec<Answer>> {
        let Self { store, service } = self;
        store
            .run_concurrent(async |accessor| -> Result<Vec<Answer>> {
                let handled = requests.into_iter().map(|request| handle(accessor, service, request));
                let answers = try_join_all(handled.collect()).await?;
                std::future::poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
                Ok(answers)
            })
            .await?
    }
}

async fn handle(accessor: &Accessor<State>, service: &Service, request: Ask) -> Result<Answer> {
    let world = accessor.with(|mut state| Arc::clone(&state.get().world));
    let mut builder =
        http::Request::builder().method(request.method).uri(format!("http://localhost{}", request.path));
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    let body = Full::new(Bytes::from(request.body)).map_err(|never| -> HttpError { match never {} });
    let (request, written) = Request::from_http(&mut Outbound(world), builder.body(body)?);
    let answered = async {
        let response =
            service.handle(accessor, request).await?.map_err(|error| wasmtime::format_err!("{error:?}"))?;
        let response = accessor.with(|mut store| response.into_http(&mut store, async { Ok(()) }))?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| wasmtime::format_err!("{error:?}"))?;
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body: body.to_bytes() })
    };
    // The application may answer without having read all of a body.
    let (answer, _) = tokio::join!(answered, async {
        let _: Result<(), HttpError> = written.await;
    });
    answer
}

/// All results, or the first error.
async fn try_join_all<F: Future<Output = Result<Answer>>>(futures: Vec<F>) -> Result<Vec<Answer>> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut answers: Vec<Option<Answer>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, answer) in futures.iter_mut().zip(&mut answers) {
            if answer.is_none()
                && let std::task::Poll::Ready(result) = future.as_mut().poll(context)
            {
                match result {
                    Ok(done) => *answer = Some(done),
                    Err(error) => return std::task::Poll::Ready(Err(error)),
                }
            }
        }
        match answers.iter().all(Option::is_some) {
            true => std::task::Poll::Ready(Ok(())),
            false => std::task::Poll::Pending,
        }
    })
    .await?;
    Ok(answers.into_iter().flatten().collect())
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Ask {
    pub(crate) fn get(path: &str) -> Self {
        Self { method: "GET", path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn post(path: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { method: "POST", path: path.to_owned(), headers: Vec::new(), body: body.into() }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// What the application answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Status and stable code of an error.
    pub(crate) fn problem(&self) -> (u16, String) {
        (self.status, self.json()["code"].as_str().unwrap_or_default().to_owned())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

pub(crate) struct State {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Outbound,
    world: Arc<World>,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

struct Clock(Arc<World>);

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let ahead = *self.0.clock_ahead_ms.lock().unwrap();
        Duration::from_millis((now.as_millis() as i64 + ahead) as u64)
    }
}

/// Outbound HTTP/1.1 without TLS.
struct Outbound(Arc<World>);

type Sent = Result<(http::Response<WasiBody>, Written), HttpError>;
type Written = Box<dyn Future<Output = Result<(), HttpError>> + Send>;

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Written,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let world = Arc::clone(&self.0);
        Box::new(async move {
            let authority = request.uri().authority().ok_or(HttpError::HttpRequestUriInvalid)?.to_string();
            world.sent.lock().unwrap().push(format!("{} {}", request.method(), request.uri().path()));
            if !world.allowed.lock().unwrap().contains(&authority) {
                return Err(HttpError::HttpRequestDenied);
            }
            let wait =
                options.and_then(|options| options.first_byte_timeout).unwrap_or(Duration::from_secs(600));
            let stream = tokio::net::TcpStream::connect(&authority).await.map_err(HttpError::Connect)?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            let (mut parts, body) = request.into_parts();
            let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
            parts.uri = path.parse().map_err(|_| HttpError::HttpRequestUriInvalid)?;
            let answered = sender.send_request(http::Request::from_parts(parts, body));
            let response =
                tokio::time::timeout(wait, answered).await.map_err(|_| HttpError::HttpResponseTimeout)??;
            let response = response.map(|body| body.map_err(HttpError::from).boxed_unsync());
            let written: Written = Box::new(async { Ok(()) });
            Ok((response, written))
        })
    }
}

/// An opened store: its label.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct OpenStore(String);

impl State {
    /// The content of an opened store.
    fn content<R>(
        &mut self,
        store: &Resource<OpenStore>,
        ask: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> R,
    ) -> Result<Result<R, kv::Error>> {
        if self.world.store_is_down.load(Ordering::Relaxed) {
            return Ok(Err(kv::Error::Other("the store is down".to_owned())));
        }
        let label = &self.table.get(store)?.0;
        let mut stores = self.world.stores.lock().unwrap();
        Ok(stores.get_mut(label).map(ask).ok_or(kv::Error::NoSuchStore))
    }
}

impl kv::Host for State {}

impl kv::HostStore for State {
    fn drop(&mut self, store: Resource<OpenStore>) -> Result<()> {
        self.table.delete(store)?;
        Ok(())
    }
}

impl<T: Send + 'static> kv::HostStoreWithStore<T> for HasSelf<State> {
    async fn open(
        accessor: &Accessor<T, Self>,
        label: String,
    ) -> Result<Result<Resource<OpenStore>, kv::Error>> {
        accessor.with(|mut state| {
            let state = state.get();
            if !state.world.stores.lock().unwrap().contains_key(&label) {
                return Ok(Err(kv::Error::NoSuchStore));
            }
            Ok(Ok(state.table.push(OpenStore(label))?))
        })
    }

    async fn get(
        accessor: &Accessor<T, Self>,
        store: Resource<OpenStore>,
        key: String,
    ) -> Result<Result<Option<Vec<u8>>, kv::Error>> {
        let world = accessor.with(|mut state| Arc::clone(&state.get().world));
        let number = world.reads.fetch_add(1, Ordering::Relaxed);
        // A store takes its time, in which the instance goes on with other requests.
        tokio::task::yield_now().await;
        if world.store_hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if world.failing_reads.lock().unwrap().contains(&number) {
            return Ok(Err(kv::Error::Other("the connection broke".to_owned())));
        }
        let value =
            accessor.with(|mut state| state.get().content(&store, |content| content.get(&key).cloned()));
        let mut meanwhile = world.meanwhile.lock().unwrap();
        if let Some((_, values)) = meanwhile.take_if(|(awaited, _)| *awaited == key) {
            values.iter().for_each(|(key, value)| world.put(key, value.as_slice()));
        }
        value
    }

    async fn set(
        accessor: &Accessor<T, Self>,
        store: Resource<OpenStore>,
        key: String,
        value: Vec<u8>,
    ) -> Result<Result<(), kv::Error>> {
        accessor.with(|mut state| {
            let state = state.get();
            state.world.writes.fetch_add(1, Ordering::Relaxed);
            if state.world.is_read_only.load(Ordering::Relaxed) {
                return Ok(Err(kv::Error::AccessDenied));
            }
            state.content(&store, |content| {
                content.insert(key, value);
            })
        })
    }

    async fn delete(
        accessor: &Accessor<T, Self>,
        store: Resource<OpenStore>,
        key: String,
    ) -> Result<Result<(), kv::Error>> {
        accessor.with(|mut state| {
            state.get().content(&store, |content| {
                content.remove(&key);
            })
        })
    }

    async fn exists(
        accessor: &Accessor<T, Self>,
        store: Resource<OpenStore>,
        key: String,
    ) -> Result<Result<bool, kv::Error>> {
        accessor.with(|mut state| state.get().content(&store, |content| content.contains_key(&key)))
    }

    async fn get_keys(
        accessor: &Accessor<T, Self>,
        store: Resource<OpenStore>,
    ) -> Result<(StreamReader<String>, FutureReader<Result<(), kv::Error>>)> {
        accessor.with(|mut state| {
            let keys: Vec<String> =
                state.get().content(&store, |content| content.keys().cloned().collect())?.unwrap_or_default();
            let done = async { wasmtime::error::Ok(Ok(())) };
            Ok((StreamReader::new(&mut state, keys)?, FutureReader::new(&mut state, done)?))
        })
    }
}

impl variables::Host for State {}

impl<T: Send + 'static> variables::HostWithStore<T> for HasSelf<State> {
    async fn get(accessor: &Accessor<T, Self>, name: String) -> Result<Result<String, variables::Error>> {
        // As Spin has it: lower case letters, digits and underscores, a letter first.
        let is_valid = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !is_valid {
            return Ok(Err(variables::Error::InvalidName(name)));
        }
        accessor.with(|mut state| {
            let value = state.get().world.variables.lock().unwrap().get(&name).cloned();
            Ok(value.ok_or(variables::Error::Undefined(name)))
        })
    }
}
