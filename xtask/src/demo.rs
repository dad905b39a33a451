//! `cargo xtask demo`: real rows, a real policy, a real server, through HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use lockgate_policy::{Field, Policy, Route, RouteKey, Serve, UnitPart};
use serde_json::{Value, json};

use crate::setup::{cargo, output, root, run, say, target};

/// Requests per held-out row on the route `eurusd-direction`.
const REQUESTS_PER_ROW: usize = 10;
const CONNECTIONS: usize = 2;
/// Rows in one sequence of the LSTM.
const STEPS: usize = 20;

/// Packages, compiles, serves and asks; keeps serving unless `once`.
pub(crate) fn demo(once: bool, listen: Option<&str>) -> Result<()> {
    crate::core::build(crate::core::BuildOptions::default())?;
    say("building the lockgate program (the first time takes some minutes)");
    run(cargo()
        .args(["build", "--package", "lockgate-server"])
        .env("LOCKGATE_CORE_DIR", crate::core::directory()))?;
    let lockgate = target().join("debug/lockgate");

    let example = root().join("examples/eurusd");
    let out = target().join("demo");
    let packages = out.join("packages");
    std::fs::remove_dir_all(&out).ok();
    std::fs::create_dir_all(&packages)?;
    let models = models(&example)?;
    say(&format!("packaging {} models from examples/eurusd/models", models.len()));
    for model in &models {
        let onnx = example.join("models").join(format!("{model}.onnx"));
        output(
            Command::new(&lockgate)
                .arg("package")
                .arg(&onnx)
                .arg("--manifest")
                .arg(onnx.with_extension("manifest.yaml"))
                .arg("--output")
                .arg(packages.join(format!("{model}.lgp"))),
        )?;
    }
    say("compiling examples/eurusd/policy.yaml");
    let bundle = out.join("policy.lgb");
    output(
        Command::new(&lockgate)
            .args(["policy", "compile"])
            .arg(example.join("policy.yaml"))
            .arg("--packages")
            .arg(&packages)
            .arg("--output")
            .arg(&bundle),
    )?;
    let policy = read_policy(&example.join("policy.yaml"))?;

    let listen = listen.map_or_else(free_address, |address| Ok(address.to_owned()))?;
    say(&format!("starting lockgate serve on {listen}"));
    let mut server = Server::start(&lockgate, &bundle, &packages, &listen, &out.join("server.log"))?;
    let url = format!("http://{listen}");
    server.wait_until_ready(&url)?;

    let rows = Rows::read(&example)?;
    let requests = requests(&rows);
    say(&format!("sending {} requests over {CONNECTIONS} connections", requests.len()));
    let started = Instant::now();
    let answers = send(&url, &requests)?;
    let elapsed = started.elapsed();

    println!();
    let shares = print_shares(&policy, &requests, &answers);
    println!();
    let agreement = print_agreement(&example, &requests, &answers)?;
    println!();
    print_latency(&answers, elapsed);
    println!();
    print_core(&url)?;
    println!();
    print_next_steps(&url, &rows, &bundle);
    ensure!(shares, "a variant's share is further from its target than chance explains");
    ensure!(agreement, "the core's answers are not those that onnxruntime gave");
    if once {
        return server.stop();
    }
    println!("\nServing on {url} until interrupted (Ctrl-C). The log is in {}.", server.log.display());
    let status = server.process.wait()?;
    ensure!(status.success(), "the server ended with {status}");
    Ok(())
}

fn models(example: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(example.join("models"))? {
        if let Some(name) = entry?.file_name().to_str().and_then(|name| name.strip_suffix(".onnx")) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn read_policy(path: &Path) -> Result<Policy> {
    let text = std::fs::read_to_string(path)?;
    let source =
        lockgate_policy::parse("policy.yaml", &text).map_err(|errors| anyhow::anyhow!("{errors}"))?;
    lockgate_policy::check(&source).map_err(|errors| anyhow::anyhow!("{errors}"))
}

fn free_address() -> Result<String> {
    // The well-known port when it is free, so that the printed commands are the same each time.
    if TcpListener::bind("127.0.0.1:8080").is_ok() {
        return Ok("127.0.0.1:8080".to_owned());
    }
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// A running `lockgate serve`, ended with this value.
struct Server {
    process: Child,
    log: PathBuf,
}

impl Server {
    fn start(lockgate: &Path, bundle: &Path, packages: &Path, listen: &str, log: &Path) -> Result<Self> {
        let process = Command::new(lockgate)
            .arg("serve")
            .arg("--policy")
            .arg(bundle)
            .arg("--packages")
            .arg(packages)
            .args(["--listen", listen])
            .arg("--core")
            .arg(crate::core::directory())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(log)?)
            .spawn()
            .context("cannot start lockgate serve")?;
        Ok(Self { process, log: log.to_owned() })
    }

    fn wait_until_ready(&mut self, url: &str) -> Result<()> {
        say("waiting until it is ready (the first time, wasmtime compiles the core and keeps the result)");
        let agent = agent();
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(180) {
            if let Some(status) = self.process.try_wait()? {
                bail!("lockgate serve ended with {status}:\n{}", last_lines(&self.log));
            }
            if agent.get(format!("{url}/v2/health/ready")).call().is_ok_and(|answer| answer.status() == 200) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("lockgate serve was not ready after three minutes:\n{}", last_lines(&self.log))
    }

    /// Ends it as an operator would, and sees to it that it ends well.
    fn stop(&mut self) -> Result<()> {
        run(Command::new("kill").args(["-TERM", &self.process.id().to_string()]))?;
        let status = self.process.wait()?;
        ensure!(status.success(), "the server ended with {status}:\n{}", last_lines(&self.log));
        say("the server drained and ended");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(30)))
        .http_status_as_error(false)
        .build()
        .into()
}

/// The feature rows: some history, then the held-out ones.
struct Rows {
    features: Vec<Vec<f32>>,
    history: usize,
}

impl Rows {
    fn read(example: &Path) -> Result<Self> {
        let file = BufReader::new(std::fs::File::open(example.join("data/rows.csv"))?);
        let mut lines = file.lines();
        let header = lines.next().context("rows.csv is empty")??;
        let columns: Vec<_> = header.split(',').map(|name| name.starts_with("return_lag_")).collect();
        let (mut features, mut history) = (Vec::new(), 0);
        for line in lines {
            let line = line?;
            history += usize::from(line.split(',').nth(1) == Some("history"));
            let row = line.split(',').zip(&columns).filter(|(_, wanted)| **wanted);
            features.push(row.map(|(cell, _)| cell.parse()).collect::<Result<Vec<f32>, _>>()?);
        }
        Ok(Self { features, history })
    }

    fn held_out(&self) -> usize {
        self.features.len() - self.history
    }

    fn row(&self, index: usize) -> &[f32] {
        &self.features[self.history + index]
    }

    /// The rows that end with a held-out one.
    fn sequence(&self, index: usize) -> Vec<f32> {
        let end = self.history + index + 1;
        self.features[end - STEPS..end].concat()
    }
}

struct Request {
    route: &'static str,
    row: usize,
    user: String,
    symbol: String,
    body: String,
}

/// Every held-out row many times, each for another user and symbol; every third request comes from the desk that compares forests.
fn requests(rows: &Rows) -> Vec<Request> {
    const CURRENCIES: [&str; 20] = [
        "EUR", "USD", "GBP", "JPY", "CHF", "AUD", "NZD", "CAD", "SEK", "NOK", "DKK", "PLN", "CZK", "HUF",
        "TRY", "ZAR", "MXN", "SGD", "HKD", "CNH",
    ];
    let symbols: Vec<String> = CURRENCIES
        .iter()
        .flat_map(|base| {
            CURRENCIES.iter().filter(move |quote| *quote != base).map(move |quote| format!("{base}{quote}"))
        })
        .collect();
    let mut requests = Vec::new();
    for row in 0..rows.held_out() {
        for turn in 0..REQUESTS_PER_ROW {
            let number = row * REQUESTS_PER_ROW + turn;
            let user = match number % 97 {
                0 => "alice".to_owned(),
                1 => "desk-1".to_owned(),
                _ => format!("user-{number:05}"),
            };
            let symbol = symbols[number * 7 % symbols.len()].clone();
            let mut parameters = json!({ "user": user, "symbol": symbol });
            if number.is_multiple_of(3) {
                parameters["strategy"] = json!("forest-comparison");
            }
            let input =
                json!({ "name": "input", "datatype": "FP32", "shape": [1, 17], "data": rows.row(row) });
            let body =
                json!({ "id": number.to_string(), "parameters": parameters, "inputs": [input] }).to_string();
            requests.push(Request { route: "eurusd-direction", row, user, symbol, body });
        }
        let number = rows.held_out() * REQUESTS_PER_ROW + row;
        let (user, symbol) = (format!("user-{number:05}"), "EURUSD".to_owned());
        let input = json!({ "name": "input", "datatype": "FP32", "shape": [1, STEPS, 17], "data": rows.sequence(row) });
        let parameters = json!({ "user": user, "symbol": symbol });
        let body =
            json!({ "id": number.to_string(), "parameters": parameters, "inputs": [input] }).to_string();
        requests.push(Request { route: "eurusd-sequence", row, user, symbol, body });
    }
    requests
}

struct Answer {
    body: Value,
    took: Duration,
}

impl Answer {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.body["parameters"][name].as_str()
    }

    fn output(&self, name: &str) -> Option<&Value> {
        let outputs = self.body["outputs"].as_array()?;
        outputs.iter().find(|output| output["name"] == name).map(|output| &output["data"])
    }
}

fn send(url: &str, requests: &[Request]) -> Result<Vec<Answer>> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, Answer)>> {
        let agent = agent();
        let mut answers = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(request) = requests.get(index) else { return Ok(answers) };
            let started = Instant::now();
            let mut answer = agent
                .post(format!("{url}/v2/models/{}/infer", request.route))
                .header("content-type", "application/json")
                .send(request.body.as_bytes())?;
            let text = answer.body_mut().read_to_string()?;
            let took = started.elapsed();
            ensure!(answer.status() == 200, "request {index} got {}: {text}", answer.status());
            let body: Value = serde_json::from_str(&text)?;
            ensure!(body["id"] == index_id(request), "request {index} got the answer of another: {text}");
            answers.push((index, Answer { body, took }));
        }
    };
    let mut answers = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| anyhow::anyhow!("a sending thread panicked"))??);
        }
        Ok::<_, anyhow::Error>(all)
    })?;
    answers.sort_by_key(|(index, _)| *index);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

fn index_id(request: &Request) -> Value {
    serde_json::from_str::<Value>(&request.body).map(|body| body["id"].clone()).unwrap_or_default()
}

/// Prints each variant's share of the units against the policy's; false when chance does not explain the difference.
fn print_shares(policy: &Policy, requests: &[Request], answers: &[Answer]) -> bool {
    println!("WHO GOT WHAT (share of the units that a split sticks to, against the policy's share)\n");
    println!(
        "  {:<17} {:<28} {:<12} {:>8} {:>8} {:>9} {:>6}",
        "route", "decided by", "variant", "target", "share", "requests", "units"
    );
    let mut within_chance = true;
    for (RouteKey { name, .. }, route) in &policy.routes {
        for (step, rule, serve) in serves(route) {
            let matches = |answer: &Answer| {
                answer.parameter("step") == Some(step)
                    && (rule.is_none() || answer.parameter("rule") == rule.as_deref())
            };
            let rows: Vec<_> =
                requests.iter().zip(answers).filter(|(r, a)| r.route == *name && matches(a)).collect();
            let units = |variant: Option<&str>| {
                let of = rows.iter().filter(|(_, a)| variant.is_none() || a.parameter("variant") == variant);
                of.map(|(request, _)| unit(serve, request)).collect::<BTreeSet<_>>().len()
            };
            let total = units(None);
            for (variant, target) in targets(serve) {
                let have = units(Some(&variant));
                let share = have as f64 / total.max(1) as f64;
                let sent = rows.iter().filter(|(_, a)| a.parameter("variant") == Some(&variant)).count();
                let decided_by =
                    rule.as_ref().map_or_else(|| step.to_owned(), |rule| format!("{step} {rule}"));
                println!(
                    "  {name:<17} {decided_by:<28} {variant:<12} {:>6.1} % {:>6.1} % {sent:>9} {have:>6}",
                    target * 100.0,
                    share * 100.0
                );
                // Four standard deviations of a binomial share.
                let chance = 4.0 * (target * (1.0 - target) / total.max(1) as f64).sqrt();
                within_chance &= total == 0 || (share - target).abs() <= chance + 1e-9;
            }
        }
    }
    let by_step = |step: &str| answers.iter().filter(|answer| answer.parameter("step") == Some(step)).count();
    println!("\n  An override decided {} requests more.", by_step("override"));
    let decided = answers.iter().filter(|answer| answer.parameter("step").is_some()).count();
    within_chance && decided == answers.len()
}

/// What a route can serve, with the step and the rule's name as answers give them.
fn serves(route: &Route) -> Vec<(&'static str, Option<String>, &Serve)> {
    let groups = route.groups.iter();
    let groups = groups.map(|group| (group.kind.step().name(), Some(group.name.clone()), &group.serve));
    let rules = route.rules.iter().map(|rule| ("rule", Some(rule.name.clone()), &rule.serve));
    groups.chain(rules).chain([("default", None, &route.default)]).collect()
}

fn targets(serve: &Serve) -> BTreeMap<String, f64> {
    match serve {
        Serve::Variant(variant) => BTreeMap::from([(variant.clone(), 1.0)]),
        Serve::Split(split) => {
            let scale = f64::from(split.shares.scale);
            split.shares.parts.iter().map(|(name, share)| (name.clone(), f64::from(*share) / scale)).collect()
        }
        _ => BTreeMap::new(),
    }
}

fn unit(serve: &Serve, request: &Request) -> String {
    let by_symbol = match serve {
        Serve::Split(split) => split.unit.parts() == [UnitPart::Field(Field::Symbol)],
        _ => false,
    };
    if by_symbol { request.symbol.clone() } else { request.user.clone() }
}

/// Compares every answer with the one that onnxruntime gave for the same row; false when one is not the same.
fn print_agreement(example: &Path, requests: &[Request], answers: &[Answer]) -> Result<bool> {
    println!("AGREEMENT WITH ONNXRUNTIME (its answers were recorded when the models were trained)\n");
    println!("  {:<14} {:>8} {:>14} {:>20}", "model", "answers", "labels equal", "largest difference");
    let mut by_model = BTreeMap::<&str, Vec<(&Request, &Answer)>>::new();
    for (request, answer) in requests.iter().zip(answers) {
        let model = answer.parameter("model").context("an answer names no model")?;
        by_model.entry(model).or_default().push((request, answer));
    }
    let mut agree = true;
    for (model, pairs) in by_model {
        let expected = read_answers(&example.join("data/answers").join(format!("{model}.csv")))?;
        let (mut equal, mut largest) = (0, 0.0_f64);
        for (request, answer) in &pairs {
            let (label, scores) = expected.get(request.row).context("fewer recorded answers than rows")?;
            let (have_label, have_scores) = label_and_scores(answer)?;
            ensure!(
                have_scores.len() == scores.len(),
                "{model} gave {} scores, onnxruntime {}",
                have_scores.len(),
                scores.len()
            );
            let difference = have_scores.iter().zip(scores).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            // A tie within the tolerance may fall either way.
            let mut sorted = scores.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let tie = sorted.len() > 1 && sorted[0] - sorted[1] <= 1e-5;
            equal += usize::from(have_label == *label || tie);
            largest = largest.max(difference);
        }
        println!(
            "  {model:<14} {:>8} {:>14} {:>20}",
            pairs.len(),
            format!("{equal}/{}", pairs.len()),
            format!("{largest:.1e}")
        );
        agree &= equal == pairs.len() && largest <= 1e-5;
    }
    Ok(agree)
}

fn label_and_scores(answer: &Answer) -> Result<(i64, Vec<f64>)> {
    let label = answer.output("output_label").or_else(|| answer.output("label"));
    let scores = answer.output("output_probability").or_else(|| answer.output("probabilities"));
    let label = label.and_then(|data| data[0].as_i64()).context("an answer has no label")?;
    let scores = scores.and_then(Value::as_array).context("an answer has no probabilities")?;
    Ok((label, scores.iter().filter_map(Value::as_f64).collect()))
}

fn read_answers(path: &Path) -> Result<Vec<(i64, Vec<f64>)>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut answers = Vec::new();
    for line in text.lines().skip(1) {
        let (label, scores) = line.split_once(',').context("an answer without scores")?;
        answers.push((label.parse()?, scores.split(',').map(str::parse).collect::<Result<_, _>>()?));
    }
    Ok(answers)
}

fn print_latency(answers: &[Answer], elapsed: Duration) {
    let mut times: Vec<_> = answers.iter().map(|answer| answer.took).collect();
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "LATENCY (one row a request, HTTP and JSON included; not a benchmark: `cargo xtask bench` is)\n"
    );
    println!(
        "  p50 {:.2} ms   p90 {:.2} ms   p99 {:.2} ms   max {:.2} ms   {:.0} requests per second over {CONNECTIONS} connections",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
        answers.len() as f64 / elapsed.as_secs_f64()
    );
}

fn print_core(url: &str) -> Result<()> {
    println!("THE CORE (the same bytes for every platform; they import nothing)\n");
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(crate::core::directory().join("manifest.json"))?)?;
    for module in manifest["modules"].as_array().into_iter().flatten() {
        println!(
            "  {:<18} {:>8.1} KB {:>8.1} KB gzipped   {}",
            module["name"].as_str().unwrap_or_default(),
            module["bytes"].as_f64().unwrap_or_default() / 1e3,
            module["gzip_bytes"].as_f64().unwrap_or_default() / 1e3,
            module["identity"].as_str().unwrap_or_default(),
        );
    }
    let health = agent().get(format!("{url}/health")).call()?.body_mut().read_to_string()?;
    let health: Value = serde_json::from_str(&health)?;
    println!("\n  The server says it is {}.", health["status"].as_str().unwrap_or("of unknown health"));
    Ok(())
}

fn print_next_steps(url: &str, rows: &Rows, bundle: &Path) {
    let row: Vec<_> = rows.row(0).iter().map(f32::to_string).collect();
    println!("TRY NEXT\n");
    println!("  A prediction, and why this version made it:\n");
    println!(
        "    curl -s {url}/v2/models/eurusd-direction/infer -d '{{\"parameters\": {{\"user\": \"bob\"}}, \"inputs\": [{{\"name\": \"input\", \"datatype\": \"FP32\", \"shape\": [1, 17], \"data\": [{}]}}]}}'\n",
        row.join(", ")
    );
    println!("  What the server knows about the route, its health, its metrics:\n");
    println!("    curl -s {url}/v2/models/eurusd-direction");
    println!("    curl -s {url}/health");
    println!("    curl -s {url}/metrics\n");
    println!("  The same decision without a server, in words:\n");
    println!(
        "    {} policy explain {} --route eurusd-direction --user bob",
        relative(&target().join("debug/lockgate")),
        relative(bundle)
    );
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
