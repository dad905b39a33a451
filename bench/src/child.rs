//! Peers that run in a process of their own and speak JSON lines.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::case::{Case, Peer, Spent, THREE_RULES, Turn};

/// A started process.
pub(crate) struct Child {
    process: Rc<RefCell<Process>>,
    hello: Hello,
}

struct Process {
    what: &'static str,
    process: std::process::Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

/// The first line that a process says.
#[derive(Deserialize)]
struct Hello {
    /// Each peer it offers and the kinds of case that peer runs: `predict`, `decide`, `first`.
    peers: BTreeMap<String, Vec<String>>,
    versions: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Request<'a> {
    peer: &'a str,
    #[serde(flatten)]
    case: &'a Case,
    start: usize,
    calls: usize,
}

#[derive(Deserialize)]
struct Reply {
    nanoseconds: f64,
    answer: Option<f64>,
}

impl Child {
    /// Starts `node SCRIPT SETUP` and waits until it is ready.
    pub(crate) fn start(what: &'static str, script: &Path, setup: &Path) -> Result<Self> {
        let mut process = Command::new("node")
            .arg(script)
            .arg(setup)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `node {}`", script.display()))?;
        let (Some(stdin), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
            bail!("{what} has no pipes");
        };
        let mut process = Process { what, process, stdin, stdout: BufReader::new(stdout) };
        let hello =
            serde_json::from_str(&process.line()?).with_context(|| format!("{what} does not say hello"))?;
        Ok(Self { process: Rc::new(RefCell::new(process)), hello })
    }

    /// What it runs on.
    pub(crate) fn versions(&self) -> Vec<(String, String)> {
        self.hello.versions.clone().into_iter().collect()
    }

    /// The peers it offers.
    pub(crate) fn peers(self) -> Vec<Box<dyn Peer>> {
        let peer = |(name, kinds)| {
            Box::new(ChildPeer { name, kinds, process: Rc::clone(&self.process) }) as Box<dyn Peer>
        };
        self.hello.peers.into_iter().map(peer).collect()
    }
}

impl Process {
    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            bail!("{} ended; what it said stands above", self.what);
        }
        Ok(line)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

struct ChildPeer {
    name: String,
    kinds: Vec<String>,
    process: Rc<RefCell<Process>>,
}

impl Peer for ChildPeer {
    fn name(&self) -> &str {
        &self.name
    }

    fn can_run(&self, case: &Case) -> bool {
        let kind = match case {
            Case::Predict { .. } => "predict",
            // Other evaluators have these rules alone.
            Case::Decide { policy, .. } if policy == THREE_RULES => "decide",
            Case::Decide { .. } => "decide_any",
            Case::Load { .. } => "load",
            Case::First { .. } => "first",
        };
        self.kinds.iter().any(|have| have == kind)
    }

    fn run(&mut self, case: &Case, turn: Turn) -> Result<Spent> {
        let request = Request { peer: &self.name, case, start: turn.start, calls: turn.calls };
        let mut process = self.process.borrow_mut();
        let mut line = serde_json::to_string(&request)?;
        line.push('\n');
        process.stdin.write_all(line.as_bytes())?;
        let line = process.line()?;
        let reply: Reply =
            serde_json::from_str(&line).with_context(|| format!("{} says `{}`", self.name, line.trim()))?;
        Ok(Spent { nanoseconds: reply.nanoseconds, answer: reply.answer })
    }
}
