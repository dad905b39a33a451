//! What the tests run: models, policies, cores, the application around them, an origin.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use lockgate_core::CoreModules;
use lockgate_package::{AlignedBytes, Digest, Package};
use lockgate_policy::{CompileOptions, Compiled, PackageRef};
use lockgate_runtime::{Contents, Demands};
use tempfile::TempDir;

use crate::host::Host;

/// Three models here, one at the origin with a fallback here.
pub(crate) const POLICY: &str = r#"
lockgate: 1
version: 5
models:
  eurusd_lr@1.0.0:
  eurusd_gb@1.1.0:
  eurusd_rf_a@1.0.0:
  eurusd_rf_b@1.0.0: { placement: host }
routes:
  direction:
    unit: user
    variants:
      stable: { model: eurusd_lr@1.0.0, payload: { threshold: 0.5 } }
      canary: { model: eurusd_gb@1.1.0 }
      forest: { model: eurusd_rf_a@1.0.0 }
    baseline: stable
    overrides:
      - { user: alice, serve: canary }
    test_groups:
      - { name: acme, tenants: [acme], serve: forest }
    rules:
      - { name: german, if: { attribute: country, eq: DE }, serve: forest }
    default:
      split: { stable: 50, canary: 50 }
  far:
    variants:
      heavy: { model: eurusd_rf_b@1.0.0, fallbacks: [light] }
      light: { model: eurusd_rf_a@1.0.0 }
    baseline: light
    default: { serve: heavy }
"#;

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The folder of the core, or of the fault core.
pub(crate) fn core_folder(fault: bool) -> PathBuf {
    let folder = std::env::var_os("LOCKGATE_CORE_DIR").map_or_else(|| target().join("core"), PathBuf::from);
    let folder = if fault { folder.join("fault") } else { folder };
    assert!(folder.join("manifest.json").exists(), "no core in {}: `cargo xtask build`", folder.display());
    folder
}

/// The application's component.
pub(crate) fn app() -> &'static [u8] {
    static APP: OnceLock<Vec<u8>> = OnceLock::new();
    APP.get_or_init(|| {
        let path = target().join("spin/lockgate.wasm");
        std::fs::read(&path).unwrap_or_else(|_| panic!("no {}: run `cargo xtask spin` first", path.display()))
    })
}

/// The components of a core, and the one about them.
pub(crate) struct Core {
    pub(crate) policy: Vec<u8>,
    pub(crate) inference: Vec<u8>,
    pub(crate) about: Vec<u8>,
}

impl Core {
    /// The application with this core inside.
    pub(crate) fn composed(&self) -> Vec<u8> {
        lockgate_compose::compose(app(), &self.policy, &self.inference, &self.about).unwrap()
    }

    fn host(&self) -> Host {
        Host::new(&self.composed())
    }
}

/// A core with nothing baked in.
pub(crate) fn plain_core() -> Core {
    let part = |name: &str| std::fs::read(core_folder(false).join(format!("{name}.component.wasm"))).unwrap();
    let (policy, inference) = (part("policy"), part("inference-tabular"));
    let about = lockgate_compose::about(&policy, &inference, None).unwrap();
    Core { policy, inference, about }
}

/// A core with this policy and the packages that it runs here.
pub(crate) fn baked_core(fault: bool, policy: &str) -> Core {
    let core = CoreModules::from_dir(&core_folder(fault)).unwrap();
    let packages = packages().iter().map(|package| package.bytes.clone()).collect();
    let contents = Contents::unnamed(Some(compile(policy).bundle), packages);
    let baked = lockgate_bake::bake(&core, contents, &Demands::default(), &Default::default()).unwrap();
    Core {
        policy: baked.policy.component.unwrap(),
        inference: baked.inference.component.unwrap(),
        about: baked.about.unwrap(),
    }
}

/// The application around [`POLICY`], baked.
pub(crate) fn baked() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| baked_core(false, POLICY).host())
}

/// The application around a plain core.
pub(crate) fn plain() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| plain_core().host())
}

/// The application around the fault core with [`POLICY`] baked in.
pub(crate) fn faulty() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| baked_core(true, POLICY).host())
}

/// A model package.
pub(crate) struct Packaged {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
    pub(crate) name: String,
    facts: PackageRef,
}

impl Packaged {
    /// Its key in a key-value store.
    pub(crate) fn key(&self) -> String {
        format!("packages/{}.lgp", self.digest)
    }
}

/// The example's models.
pub(crate) fn packages() -> &'static [Packaged] {
    static PACKAGES: OnceLock<Vec<Packaged>> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let folder = root().join("examples/eurusd/models");
        let output = tempfile::tempdir().unwrap();
        let package = |name: &str| {
            let path = output.path().join(format!("{name}.lgp"));
            let ran = Command::new(program())
                .arg("package")
                .arg(folder.join(format!("{name}.onnx")))
                .arg("--manifest")
                .arg(folder.join(format!("{name}.manifest.yaml")))
                .arg("--output")
                .arg(&path)
                .output()
                .unwrap();
            assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
            let bytes = std::fs::read(&path).unwrap();
            let opened = Package::open(AlignedBytes::copy_of(&bytes)).unwrap();
            let facts = PackageRef::new(opened.manifest(), opened.digest());
            Packaged { digest: opened.digest(), name: name.to_owned(), facts, bytes }
        };
        ["eurusd_lr", "eurusd_gb", "eurusd_rf_a", "eurusd_rf_b"].map(package).into()
    })
}

pub(crate) fn package(name: &str) -> &'static Packaged {
    packages().iter().find(|package| package.name == name).unwrap()
}

/// Compiles a policy with the example's models at hand.
pub(crate) fn compile(policy: &str) -> Compiled {
    let source = lockgate_policy::parse("policy.yaml", policy).unwrap_or_else(|errors| panic!("{errors}"));
    let policy = lockgate_policy::check(&source).unwrap_or_else(|errors| panic!("{errors}"));
    let refs: Vec<PackageRef> = packages().iter().map(|package| package.facts.clone()).collect();
    let options = CompileOptions { packages: &refs, ..CompileOptions::default() };
    lockgate_policy::compile(&policy, &options).unwrap_or_else(|errors| panic!("{errors}"))
}

/// [`POLICY`] with another version.
pub(crate) fn policy_of_version(version: u64) -> String {
    POLICY.replace("version: 5", &format!("version: {version}"))
}

/// A body of `rows` of the example's prices, from `first` on, with these parameters.
pub(crate) fn body(first: usize, rows: usize, parameters: &serde_json::Value) -> Vec<u8> {
    static ROWS: OnceLock<Vec<Vec<f32>>> = OnceLock::new();
    let all = ROWS.get_or_init(|| {
        let text = std::fs::read_to_string(root().join("examples/eurusd/data/rows.csv")).unwrap();
        let row = |line: &str| line.split(',').skip(2).take(17).map(|cell| cell.parse().unwrap()).collect();
        text.lines().skip(1).map(row).collect()
    });
    let data: Vec<f32> = all.iter().cycle().skip(first).take(rows).flatten().copied().collect();
    let request = serde_json::json!({
        "id": "7",
        "parameters": parameters,
        "inputs": [{ "name": "input", "datatype": "FP32", "shape": [rows, 17], "data": data }],
    });
    serde_json::to_vec(&request).unwrap()
}

/// A running `lockgate serve`, ended with this value.
pub(crate) struct Origin {
    process: Child,
    /// `127.0.0.1:port`
    pub(crate) address: String,
    _folder: TempDir,
}

impl Origin {
    /// A server of this policy with the example's packages.
    pub(crate) fn start(policy: &str, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("policy.yaml"), policy).unwrap();
        std::fs::create_dir(path("packages")).unwrap();
        for package in packages() {
            std::fs::write(
                folder.path().join("packages").join(format!("{}.lgp", package.name)),
                &package.bytes,
            )
            .unwrap();
        }
        let log = std::fs::File::create(path("log")).unwrap();
        let mut process = Command::new(program())
            .args(["serve", "--listen", "127.0.0.1:0", "--core", core_folder(false).to_str().unwrap()])
            .args(["--policy", &path("policy.yaml"), "--packages", &path("packages")])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap_or_default().to_owned();
        let log = std::fs::read_to_string(path("log")).unwrap();
        assert!(!address.is_empty(), "the origin said `{line}`:\n{log}");
        let origin = Self { process, address, _folder: folder };
        // It listens before it has loaded.
        for _ in 0..600 {
            if origin.is_ready() {
                return origin;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("the origin never became ready");
    }

    fn is_ready(&self) -> bool {
        let mut stream = std::net::TcpStream::connect(&self.address).unwrap();
        let request =
            format!("GET /v2/health/ready HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.starts_with("HTTP/1.1 200")
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program `lockgate`, which cargo builds with the workspace beside this test.
pub(crate) fn program() -> PathBuf {
    let built = || {
        let test = std::env::current_exe().unwrap();
        test.parent().unwrap().parent().unwrap().join("lockgate")
    };
    let program = std::env::var_os("LOCKGATE").map_or_else(built, PathBuf::from);
    assert!(
        program.exists(),
        "no {}: run `cargo build -p lockgate-server --all-features`",
        program.display()
    );
    program
}
