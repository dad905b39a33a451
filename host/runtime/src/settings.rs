use std::path::PathBuf;
use std::time::Duration;

/// What a [`Runtime`](crate::Runtime) may use and how patient it is. Take the defaults and change what matters:
///
/// ```
/// use lockgate_runtime::Settings;
/// let settings = Settings { workers: 8, ..Settings::default() };
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Threads that run guest calls, each with instances of its own. Default: the number of cores, at least 2, so that
    /// one request that runs to its deadline never stops all others.
    pub workers: usize,
    /// Requests that may wait for a worker; one more is refused with [`Overloaded`](crate::RuntimeError::Overloaded).
    /// Default: 256.
    pub queue: usize,
    /// Time for a request that names no deadline, from submission to answer, waiting included. Default: 5 s.
    pub deadline: Duration,
    /// Time for loading a bundle or a package into an instance. Default: 30 s.
    pub load_deadline: Duration,
    /// Bytes of memory one policy instance may grow to. Default: 64 MiB, which is also what is linked into the module.
    pub policy_memory: usize,
    /// Bytes of memory one inference instance may grow to. Default: 128 MiB, which is also what is linked into the
    /// modules.
    pub inference_memory: usize,
    /// Bytes that the inference instances of one worker may hold together; beyond it the ones unused for longest go.
    /// The instance in use always stays. Default: 256 MiB.
    pub worker_memory: usize,
    /// Faults (traps, exhausted memory, malformed responses, calls cut off after [`slow_call`](Self::slow_call)) of one
    /// package within [`fault_window`](Self::fault_window) that quarantine it. Default: 5.
    pub fault_limit: usize,
    /// See [`fault_limit`](Self::fault_limit). Default: 60 s.
    pub fault_window: Duration,
    /// How long a quarantined package is refused before it is tried again. Default: 30 s.
    pub quarantine: Duration,
    /// A guest call that its deadline cuts off counts as a fault only if it had run this long, so that callers with
    /// short deadlines cannot quarantine a model that is merely slow. Default: 1 s.
    pub slow_call: Duration,
    /// How often running guest calls are checked against their deadline. Default: 5 ms.
    pub tick: Duration,
    /// Where compiled modules are kept between runs of the program. Default: [`CompileCache::User`].
    pub cache: CompileCache,
    /// Whether answers count here, so that mocks are refused. Default: `false`.
    pub production: bool,
}

/// Where compiled modules are kept between runs of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompileCache {
    /// wasmtime's folder in the user's cache directory; if it cannot be used, modules are compiled each time.
    User,
    /// This folder, an absolute path; it is made when missing.
    Folder(PathBuf),
    /// Nowhere.
    Off,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(2, std::num::NonZero::get).max(2),
            queue: 256,
            deadline: Duration::from_secs(5),
            load_deadline: Duration::from_secs(30),
            policy_memory: 64 << 20,
            inference_memory: 128 << 20,
            worker_memory: 256 << 20,
            fault_limit: 5,
            fault_window: Duration::from_secs(60),
            quarantine: Duration::from_secs(30),
            slow_call: Duration::from_secs(1),
            tick: Duration::from_millis(5),
            cache: CompileCache::User,
            production: false,
        }
    }
}
