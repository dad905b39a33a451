//! Records: what is acknowledged is in the files once, whatever happens to the server, its disk or its senders.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, POLICY, Server, core, packages};

fn record(id: &str) -> Value {
    json!({
        "schema": 1, "kind": "decision", "id": id, "time_ms": 1_795_271_400_123_i64, "shell": "cloudflare", "shell_version": "0.1.0",
        "emitter": "isolate-1", "route": "direction", "pinned": false, "sample_rate": 0.5, "row_count": 1,
        "versions": [{ "variant": "stable", "model": "eurusd_lr", "version": "1.0.0" }],
        "rows": [{ "version": 0, "reason": "SPLIT", "outputs": { "output_probability": [0.4, 0.6] } }],
        "latency_us": { "total": 812 },
    })
}

fn lines(ids: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<u8> {
    ids.into_iter().map(|id| record(id.as_ref()).to_string() + "\n").collect::<String>().into_bytes()
}

fn send(server: &Server, body: &[u8]) -> Answer {
    server.post("/v1/records", &[("content-type", "application/x-ndjson")], body)
}

fn counts(answer: &Answer) -> (u64, u64, usize) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    let refused = body["refused"].as_array().unwrap().len();
    (body["received"].as_u64().unwrap(), body["duplicates"].as_u64().unwrap(), refused)
}

fn start(folder: &Path, flags: &[&str]) -> Server {
    Server::start(&[&["--records", folder.to_str().unwrap()], flags].concat())
}

/// The files of a folder, oldest first, the one that is being written included.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.file_name().unwrap() != "records.lock").collect();
    files.sort();
    files
}

/// How often each id stands in the files; every line must be whole.
fn written(folder: &Path) -> BTreeMap<String, usize> {
    let mut ids = BTreeMap::new();
    for file in files(folder) {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{} ends within a line", file.display());
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(line["received"]["time_ms"].as_i64().unwrap() > 1_700_000_000_000);
            *ids.entry(line["id"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    ids
}

#[test]
fn records_are_written_once_and_refused_line_by_line() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("a/b");
    let server = start(&folder, &[]);
    let drops = json!({
        "schema": 1, "kind": "drops", "id": "drops-1", "time_ms": 1, "shell": "cloudflare", "shell_version": "0", "emitter": "isolate-1",
        "dropped": { "buffer_full": 3, "undelivered": 5, "by\nme": 1 },
    });
    let mut newer = record("newer");
    newer["schema"] = json!(2);
    let body = format!("{}\n{}\n\nhalf a li\n{newer}\n{}\n{drops}", record("a"), record("b"), record("a"));
    let answer = send(&server, body.as_bytes());
    assert_eq!(counts(&answer), (3, 1, 2));
    let refused = answer.json()["refused"].clone();
    assert_eq!((&refused[0]["line"], &refused[0]["code"]), (&json!(4), &json!("not_json")));
    assert_eq!((&refused[1]["line"], &refused[1]["code"]), (&json!(5), &json!("unsupported_schema")));
    assert_eq!(counts(&send(&server, body.as_bytes())), (0, 4, 2));
    let once = BTreeMap::from(["a", "b", "drops-1"].map(|id| (id.to_owned(), 1)));
    assert_eq!(written(&folder), once);
    // What was sent stands in the file as it came, with its arrival behind it.
    let text = std::fs::read_to_string(&files(&folder)[0]).unwrap();
    let mut first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(first["received"].get("by"), None);
    first.as_object_mut().unwrap().remove("received");
    assert_eq!(first, record("a"));

    for (name, value) in [
        ("lockgate_records_received_total", 3.0),
        ("lockgate_records_duplicates_total", 5.0),
        ("lockgate_records_refused_total{code=\"not_json\"}", 2.0),
        ("lockgate_records_lost_total{cause=\"buffer_full\",shell=\"cloudflare\"}", 3.0),
        ("lockgate_records_lost_total{cause=\"other\",shell=\"cloudflare\"}", 1.0),
        ("lockgate_record_folder_bytes", text.len() as f64),
        ("lockgate_records_written_bytes_total", text.len() as f64),
    ] {
        assert_eq!(server.metric(name), Some(value), "{name}");
    }
    assert_eq!(server.get("/health").json()["parts"]["records"]["status"], "healthy");
    assert_eq!(server.get("/v1/records").error(), (405, "method_not_allowed".to_owned()));
}

#[test]
fn whoever_may_ask_may_not_make_up_evidence() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("lockgate.toml");
    let key = |name: &str, sha256: &str, more: &str| {
        format!("[[api_keys]]\nname = \"{name}\"\nsha256 = \"{sha256}\"\n{more}\n")
    };
    let (secret, other) = (
        "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b",
        "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa",
    );
    let text = key("edge", secret, "records = true\nroutes = [\"direction\"]") + &key("edge", other, "");
    std::fs::write(&config, text).unwrap();
    let folder = home.path().join("records");
    let server = start(&folder, &["--config", config.to_str().unwrap(), "--allow-anonymous", "true"]);
    let send = |key: &str, body: &[u8]| {
        let headers = [("authorization", format!("Bearer {key}"))];
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        server.post("/v1/records", if key.is_empty() { &[] } else { &headers }, body)
    };
    assert_eq!(send("", &lines(["a"])).error(), (403, "records_not_allowed".to_owned()));
    assert_eq!(send("other", &lines(["a"])).error(), (403, "records_not_allowed".to_owned()));
    assert_eq!(send("wrong", &lines(["a"])).error(), (401, "unknown_key".to_owned()));
    let mut foreign = record("b");
    foreign["route"] = json!("missing");
    let body = [lines(["a"]), foreign.to_string().into_bytes()].concat();
    let answer = send("secret", &body);
    assert_eq!(counts(&answer), (1, 0, 1));
    assert_eq!(answer.json()["refused"][0]["code"], "forbidden_route");
    let text = std::fs::read_to_string(&files(&folder)[0]).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["received"]["by"], "edge");

    let without = Server::start(&[]);
    assert_eq!(self::send(&without, b"").error(), (404, "records_disabled".to_owned()));
}

#[test]
fn bodies_have_limits() {
    let home = tempfile::tempdir().unwrap();
    let server = start(home.path(), &["--records-batch", "200KiB"]);
    let large = send(&server, &vec![b' '; 201 << 10]);
    assert_eq!(large.error(), (413, "body_too_large".to_owned()));
    assert!(large.json()["hint"].as_str().unwrap().contains("records_batch"), "{}", large.text());
    assert_eq!(send(&server, "x\n".repeat(10_001).as_bytes()).error(), (413, "too_many_lines".to_owned()));
    let compressed = server.post("/v1/records", &[("content-encoding", "gzip")], b"x");
    assert_eq!(compressed.error(), (415, "unsupported_encoding".to_owned()));
    assert_eq!(counts(&send(&server, b"")), (0, 0, 0));
    assert!(files(home.path()).is_empty());
}

#[test]
fn files_are_rotated_and_their_limit_is_told() {
    let home = tempfile::tempdir().unwrap();
    let flags = ["--records-batch", "2KiB", "--records-file-size", "4KiB", "--records-total-size", "12KiB"];
    let server = start(home.path(), &flags);
    let mut taken = 0;
    let refused = loop {
        let answer = send(&server, &lines([format!("id-{taken}")]));
        if answer.status != 200 {
            break answer;
        }
        taken += 1;
        assert!(taken < 100, "there is no limit");
    };
    assert_eq!(refused.error(), (503, "records_full".to_owned()));
    assert!(refused.header("retry-after").is_some());
    let written_now = written(home.path());
    assert_eq!(written_now.len(), taken, "nothing of the refused batch is there");
    let size = |path: &PathBuf| std::fs::metadata(path).unwrap().len();
    let all = files(home.path());
    assert!(all.len() >= 3 && all.iter().all(|file| size(file) <= 4096), "{all:?}");
    assert!(all.iter().map(size).sum::<u64>() <= 12 << 10);
    let parts = all.iter().filter(|file| file.extension().is_some_and(|extension| extension == "part"));
    assert_eq!(parts.count(), 1);
    assert_eq!(server.get("/health").json()["parts"]["records"]["full"], true);
    assert_eq!(server.get("/health").json()["status"], "degraded");
    // Whoever ships records makes room.
    std::fs::remove_file(&all[0]).unwrap();
    assert_eq!(counts(&send(&server, &lines(["after"]))), (1, 0, 0));
    assert_eq!(server.get("/health").json()["status"], "healthy");
    drop(server);

    let server = start(home.path(), &[&flags[..], &["--records-when-full", "remove-oldest"]].concat());
    for n in 0..100 {
        assert_eq!(counts(&send(&server, &lines([format!("more-{n}")]))), (1, 0, 0));
    }
    assert!(server.metric("lockgate_record_files_removed_total").unwrap() > 5.0);
    let ids = written(home.path());
    assert!(ids.contains_key("more-99") && !ids.contains_key("more-0"), "{ids:?}");
}

#[test]
fn a_file_is_completed_by_age_while_nothing_comes() {
    let home = tempfile::tempdir().unwrap();
    let mut server = start(home.path(), &["--records-file-age", "1s"]);
    assert_eq!(counts(&send(&server, &lines(["a"]))), (1, 0, 0));
    server.wait_for("the file's completion", |_| {
        files(home.path())[0].extension().is_some_and(|extension| extension == "jsonl")
    });
    assert_eq!(counts(&send(&server, &lines(["a", "b"]))), (1, 1, 0));
    assert_eq!(files(home.path()).len(), 2);
}

/// Sends batches of new ids from several threads until the server is gone. Returns those that were acknowledged, and all that were sent.
fn send_until_killed(server: &mut Server, round: usize) -> (BTreeSet<String>, Vec<Vec<String>>) {
    let (acknowledged, sent) = (Mutex::new(BTreeSet::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (server, acknowledged, sent) = (&*server, &acknowledged, &sent);
            scope.spawn(move || {
                for batch in 0.. {
                    let ids: Vec<String> = (0..20).map(|n| format!("{round}-{thread}-{batch}-{n}")).collect();
                    sent.lock().unwrap().push(ids.clone());
                    let answer = send(server, &lines(&ids));
                    if answer.status != 200 {
                        return;
                    }
                    acknowledged.lock().unwrap().extend(ids);
                }
            });
        }
        while acknowledged.lock().unwrap().len() < 400 {
            std::thread::sleep(Duration::from_millis(1));
        }
        server.signal("-KILL");
    });
    server.process.wait().unwrap();
    (acknowledged.into_inner().unwrap(), sent.into_inner().unwrap())
}

#[test]
fn what_was_acknowledged_survives_a_kill_and_is_there_once() {
    let home = tempfile::tempdir().unwrap();
    let flags = ["--records-file-size", "64KiB", "--records-batch", "64KiB"];
    let (mut acknowledged, mut sent) = (BTreeSet::new(), Vec::new());
    let mut torn = false;
    for round in 0..3 {
        let mut server = start(home.path(), &flags);
        let (good, all) = send_until_killed(&mut server, round);
        acknowledged.extend(good);
        sent.extend(all);
        // What a sudden end may leave: half a line at the end of the file that was being written.
        let part = files(home.path()).into_iter().find(|file| file.extension().is_some_and(|e| e == "part"));
        // There is none if the end came right after a file was completed.
        torn = part.is_some();
        if let Some(part) = part {
            let mut file = std::fs::OpenOptions::new().append(true).open(part).unwrap();
            file.write_all(&lines(["torn"])[..100]).unwrap();
        }
    }
    let server = start(home.path(), &flags);
    assert_eq!(server.log().contains("cut off"), torn, "{}", server.log());
    let ids = written(home.path());
    let lost: Vec<_> = acknowledged.iter().filter(|id| !ids.contains_key(*id)).collect();
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged records are lost: {lost:?}",
        lost.len(),
        acknowledged.len()
    );
    // Senders do not know what became of the rest, so they send again.
    let (mut received, mut duplicates) = (0, 0);
    for batch in &sent {
        let (new, old, refused) = counts(&send(&server, &lines(batch)));
        assert_eq!(refused, 0);
        (received, duplicates) = (received + new, duplicates + old);
    }
    assert_eq!((received + duplicates) as usize, sent.iter().map(Vec::len).sum::<usize>());
    assert!(duplicates as usize >= acknowledged.len());
    let ids = written(home.path());
    assert!(ids.values().all(|count| *count == 1), "some are there twice");
    assert_eq!(ids.len(), sent.iter().map(Vec::len).sum::<usize>());
}

/// A server whose files may not pass `kib` KiB: what a full disk does to a write, without filling one.
fn start_with_small_files(folder: &Path, kib: u32) -> Server {
    let home = tempfile::tempdir().unwrap();
    let policy = home.path().join("policy.yaml");
    std::fs::write(&policy, POLICY).unwrap();
    // POSIX counts the limit in blocks of 512 bytes, and `trap ''` makes a write past it an error rather than a deadly signal.
    let script = format!("ulimit -f {} && trap '' XFSZ && exec \"$@\"", kib * 2);
    let flags = ["--policy", policy.to_str().unwrap(), "--packages", packages(), "--compile-cache", "off"];
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_lockgate"), "serve", "--listen", "127.0.0.1:0"]);
    command
        .args(["--core", core(false).to_str().unwrap(), "--records", folder.to_str().unwrap()])
        .args(flags);
    command.env("POSIXLY_CORRECT", "1").stdin(Stdio::null());
    Server::spawn(home, command)
}

#[test]
fn a_disk_that_takes_no_more_is_told_and_leaves_whole_lines() {
    let home = tempfile::tempdir().unwrap();
    let server = start_with_small_files(home.path(), 64);
    let fits = |n: usize| lines((0..20).map(|k| format!("fits-{n}-{k}")));
    let mut taken = 0;
    let refused = loop {
        let answer = send(&server, &fits(taken));
        if answer.status != 200 {
            break answer;
        }
        taken += 1;
        assert!(taken < 100, "the limit does not hold");
    };
    assert!(taken >= 3, "{taken}");
    assert_eq!(refused.error(), (503, "records_not_written".to_owned()));
    assert!(refused.header("retry-after").is_some());
    assert!(!refused.text().contains("os error"), "the cause is for the log: {}", refused.text());
    assert!(server.log().contains("File too large"), "{}", server.log());
    assert_eq!(server.get("/health").json()["parts"]["records"]["status"], "degraded");
    let ids = written(home.path());
    assert_eq!(ids.len(), 20 * taken, "nothing of the refused batch is left");
    assert!(ids.values().all(|count| *count == 1));
    // What is smaller still fits, and the refused batch is no duplicate when it comes again.
    assert_eq!(counts(&send(&server, &lines(["small"]))), (1, 0, 0));
    assert_eq!(server.get("/health").json()["parts"]["records"]["status"], "healthy");
    assert_eq!(server.metric("lockgate_records_unwritten_total{code=\"records_not_written\"}"), Some(1.0));
    drop(server);
    let server = start(home.path(), &[]);
    assert_eq!(counts(&send(&server, &fits(taken))), (20, 0, 0));
    assert_eq!(counts(&send(&server, &fits(0))), (0, 20, 0), "ids are remembered over a restart");
}

#[test]
fn many_senders_at_once_lose_nothing() {
    let home = tempfile::tempdir().unwrap();
    let server = start(home.path(), &["--records-file-size", "64KiB", "--records-batch", "64KiB"]);
    let (received, duplicates) = (Mutex::new(0), Mutex::new(0));
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let (server, received, duplicates) = (&server, &received, &duplicates);
            scope.spawn(move || {
                for batch in 0..20 {
                    // Every id is sent by two threads.
                    let body = lines((0..5).map(|n| format!("{}-{batch}-{n}", thread / 2)));
                    let answer = loop {
                        let answer = send(server, &body);
                        if answer.status == 200 {
                            break answer;
                        }
                        assert_eq!(answer.error(), (503, "overloaded".to_owned()));
                        std::thread::sleep(Duration::from_millis(10));
                    };
                    let (new, old, _) = counts(&answer);
                    *received.lock().unwrap() += new;
                    *duplicates.lock().unwrap() += old;
                }
            });
        }
    });
    assert_eq!((received.into_inner().unwrap(), duplicates.into_inner().unwrap()), (800, 800));
    let ids = written(home.path());
    assert_eq!((ids.len(), ids.values().max()), (800, Some(&1)));
    assert!(server.metric("lockgate_record_files_completed_total").unwrap() >= 2.0);
}

#[test]
fn a_folder_that_another_server_writes_to_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let _server = start(home.path(), &[]);
    let policy = home.path().join("policy.yaml");
    std::fs::write(&policy, POLICY).unwrap();
    let second = crate::harness::lockgate(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--core",
        core(false).to_str().unwrap(),
        "--policy",
        policy.to_str().unwrap(),
        "--packages",
        packages(),
        "--records",
        home.path().to_str().unwrap(),
    ]);
    assert_eq!(second.status.code(), Some(1));
    let message = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(message.contains("another server writes to it"), "{message}");
}
