//! Starts the program and talks to it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Three models on one route, two of them of one version, and one that accepts missing values on another.
pub(crate) const POLICY: &str = r#"
lockgate: 1
models:
  eurusd_lr@1.0.0:
  eurusd_gb@1.1.0:
  eurusd_rf_a@1.0.0:
  histogram_binary@0.1.0:
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
    symbol_rollouts:
      - { name: francs, symbols: [EURCHF], serve: canary }
    rules:
      - { name: german, if: { attribute: country, eq: DE }, serve: forest }
    default:
      split: { stable: 50, canary: 50 }
  missing:
    variants:
      only: { model: histogram_binary@0.1.0 }
    default: { serve: only }
"#;

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folder of the core, or of the fault core.
pub(crate) fn core(fault: bool) -> PathBuf {
    let folder =
        std::env::var_os("LOCKGATE_CORE_DIR").map_or_else(|| root().join("target/core"), PathBuf::from);
    let folder = if fault { folder.join("fault") } else { folder };
    assert!(
        folder.join("manifest.json").exists(),
        "{} holds no core: run `cargo xtask build` first",
        folder.display()
    );
    folder
}

/// Runs the program to its end.
pub(crate) fn lockgate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lockgate")).args(arguments).output().unwrap()
}

/// The packages of [`POLICY`], made once by the program itself.
pub(crate) fn packages() -> &'static str {
    static PACKAGES: OnceLock<(TempDir, String)> = OnceLock::new();
    let (_, folder) = PACKAGES.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        let example = root().join("examples/eurusd/models");
        for model in ["eurusd_lr", "eurusd_gb", "eurusd_rf_a"] {
            let (onnx, manifest) = (format!("{model}.onnx"), format!("{model}.manifest.yaml"));
            let (onnx, manifest) = (example.join(onnx), example.join(manifest));
            package(&[onnx.to_str().unwrap(), "--manifest", manifest.to_str().unwrap(), "--output", &path]);
        }
        let histogram = root().join("tests/models/histogram_binary.onnx");
        package(&[histogram.to_str().unwrap(), "--output", &path]);
        (folder, path)
    });
    folder
}

fn package(arguments: &[&str]) {
    let output = lockgate(&[&["package"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A running server, killed with this value.
pub(crate) struct Server {
    pub(crate) process: Child,
    pub(crate) url: String,
    pub(crate) folder: TempDir,
}

impl Server {
    /// A server of [`POLICY`] with these further flags.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::start_on(false, POLICY, flags)
    }

    /// The same on the fault core.
    pub(crate) fn start_faulty(flags: &[&str]) -> Self {
        Self::start_on(true, POLICY, flags)
    }

    /// A server of this policy, on the core or the fault core.
    pub(crate) fn start_on(fault: bool, policy: &str, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.yaml");
        std::fs::write(&file, policy).unwrap();
        let files = ["--policy", file.to_str().unwrap(), "--packages", packages()];
        Self::start_in(folder, &core(fault), &[&files[..], flags].concat())
    }

    /// A server on what these flags say, which keeps its log in `folder`.
    pub(crate) fn start_in(folder: TempDir, core: &Path, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockgate"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--core", core.to_str().unwrap()]);
        command.args(flags).stdin(Stdio::null());
        Self::spawn(folder, command)
    }

    /// A server that this command starts.
    pub(crate) fn spawn(folder: TempDir, mut command: Command) -> Self {
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut process = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").map(str::to_owned);
        let mut server = Self { process, url: url.unwrap_or_default(), folder };
        assert!(!server.url.is_empty(), "the server said `{line}`:\n{}", server.log());
        server.wait_for("readiness", |server| server.get("/v2/health/ready").status == 200);
        server
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until `condition` holds.
    pub(crate) fn wait_for(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !condition(self) {
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("waiting for {what}: the server ended with {status}:\n{}", self.log());
            }
            assert!(
                started.elapsed() < Duration::from_secs(120),
                "waiting for {what} took too long:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[])
    }

    pub(crate) fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = agent().get(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request.call())
    }

    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request = agent().post(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request.send(body))
    }

    /// Asks a route for predictions.
    pub(crate) fn infer(&self, route: &str, body: &Value) -> Answer {
        self.post(&format!("/v2/models/{route}/infer"), &[], body.to_string().as_bytes())
    }

    /// The value of a metric, labels included in its name.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let page = self.get("/metrics").text();
        page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .into()
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn of(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Self {
        let mut response = match result {
            Ok(response) => response,
            // A server that is not up yet.
            Err(error) => {
                return Self { status: 0, headers: Vec::new(), body: error.to_string().into_bytes() };
            }
        };
        let text = |value: &ureq::http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let headers =
            response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let status = response.status().as_u16();
        let body = response.body_mut().read_to_vec().unwrap();
        Self { status, headers, body }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// A parameter of an answer that must have come.
    #[track_caller]
    pub(crate) fn parameter(&self, name: &str) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()["parameters"][name].clone()
    }

    /// Status and code of an error, whose body must be complete.
    #[track_caller]
    pub(crate) fn error(&self) -> (u16, String) {
        let body = self.json();
        assert!(body["error"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
        (self.status, body["code"].as_str().unwrap_or_default().to_owned())
    }
}

/// The held-out rows of the example.
pub(crate) fn rows(count: usize) -> Vec<Vec<f64>> {
    let text = std::fs::read_to_string(root().join("examples/eurusd/data/rows.csv")).unwrap();
    let rows = text.lines().filter(|line| line.contains(",held_out,"));
    rows.take(count)
        .map(|line| line.split(',').skip(2).take(17).map(|cell| cell.parse().unwrap()).collect())
        .collect()
}

/// A request for the first rows of the example with these parameters.
pub(crate) fn request(count: usize, parameters: &Value) -> Value {
    json!({
        "parameters": parameters,
        "inputs": [{ "name": "input", "shape": [count, 17], "datatype": "FP32", "data": rows(count) }],
    })
}

/// The outputs of an answer by name.
pub(crate) fn output<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let outputs = answer["outputs"].as_array().unwrap();
    outputs
        .iter()
        .find(|output| output["name"] == name)
        .unwrap_or_else(|| panic!("no output {name}: {answer}"))
}
