use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::Args;
use lockgate_runtime::Settings as RuntimeSettings;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::settings::SettingsArgs;
use crate::config::{Config, Settings};
use crate::failure::Failure;
use crate::http::{self, App, router};
use crate::metrics::Metrics;
use crate::records::{Limits, Records};
use crate::repository::Repository;
use crate::trust::TrustSettings;
use crate::{logging, output};

#[derive(Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(crate) fn run(args: &ServeArgs, json: bool) -> Result<(), Failure> {
    let config = args.settings.load()?;
    logging::start(&config.settings);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let policy = config.settings.policy.clone().ok_or_else(|| {
        Failure::usage("there is no policy to serve")
            .hint("pass `--policy FILE`, a policy source or a compiled bundle")
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("http")
        .build()
        .map_err(|error| Failure::new(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(serve(config, policy, json));
    // Work that nobody waits for any more must not keep the program.
    runtime.shutdown_background();
    result
}

async fn serve(config: Config, policy: PathBuf, json: bool) -> Result<(), Failure> {
    let settings = &config.settings;
    let cannot_listen = |error: std::io::Error| {
        Failure::new(format!("cannot listen on {}: {error}", settings.listen))
            .hint("`--listen` takes an address and a port, such as `127.0.0.1:8080`")
    };
    let listener = TcpListener::bind(&settings.listen).await.map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    let (drain_timeout, idle_timeout) = (settings.drain_timeout, settings.idle_timeout);
    let app = Arc::new(start(config, policy)?);
    announce(address, json)?;

    let (stop, stopped) = watch::channel(false);
    let mut server = tokio::spawn(http::serve(listener, router(Arc::clone(&app)), idle_timeout, stopped));

    // From here on a hangup is a wish to reload and no longer ends the program, also while the first load is under way.
    let hangups = signal(SignalKind::hangup()).map_err(no_signals)?;
    let loading = Arc::clone(&app);
    let first = tokio::task::spawn_blocking(move || load(&loading));
    tokio::select! {
        loaded = first => loaded.map_err(|error| Failure::new(error.to_string()))??,
        // Whoever ends a server that is still loading does not want it to finish that first.
        signal = termination() => return signal.map(drop),
    }
    reload_on_hangup(&app, hangups);

    let signal = termination().await?;
    tracing::info!(signal, "draining: finishing requests in progress");
    app.draining.store(true, Ordering::Relaxed);
    stop.send_replace(true);
    tokio::select! {
        ended = &mut server => {
            ended.map_err(|error| Failure::new(format!("the server failed: {error}")))?;
            tracing::info!("ended");
            Ok(())
        }
        () = tokio::time::sleep(drain_timeout) => {
            let left = app.metrics.in_flight.get();
            if left == 0 {
                tracing::info!("ended, with requests that were still being sent");
                return Ok(());
            }
            Err(Failure::new(format!("{left} requests were cut off: they did not finish within the drain timeout")))
        }
        signal = termination() => signal.and_then(|_| Err(Failure::new("ended at once: requests in progress were cut off"))),
    }
}

fn start(config: Config, policy: PathBuf) -> Result<App, Failure> {
    let settings = &config.settings;
    let runtime = crate::core::runtime(settings.core.as_deref(), runtime_settings(settings))?;
    let core = runtime.status();
    let mut build = vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("policy_core", core.policy_core.to_string()),
        ("tabular_core", core.tabular_core.to_string()),
    ];
    build.extend(core.graph_core.map(|graph| ("graph_core", graph.to_string())));
    let metrics = Metrics::new(settings.metric_routes, &build)
        .map_err(|error| Failure::new(format!("the metrics cannot be set up: {error}")))?;
    let records = match &settings.records {
        Some(folder) => {
            let limits = record_limits(settings);
            Some(Records::start(folder, limits, settings.records_window, metrics.records.clone())?)
        }
        None => None,
    };
    Ok(App {
        records,
        repository: Repository::new(policy, settings.packages.clone(), TrustSettings::new(settings)),
        runtime: Arc::new(runtime),
        metrics,
        started: Instant::now(),
        draining: AtomicBool::new(false),
        config,
    })
}

fn record_limits(settings: &Settings) -> Limits {
    Limits {
        file_size: settings.records_file_size.0 as u64,
        file_age: settings.records_file_age,
        total_size: settings.records_total_size.0 as u64,
        when_full: settings.records_when_full,
        sync: settings.records_sync,
    }
}

fn runtime_settings(settings: &Settings) -> RuntimeSettings {
    RuntimeSettings {
        workers: settings.workers,
        queue: settings.queue,
        deadline: settings.timeout,
        policy_memory: settings.policy_memory.0,
        inference_memory: settings.inference_memory.0,
        worker_memory: settings.worker_memory.0,
        fault_limit: settings.fault_limit,
        fault_window: settings.fault_window,
        quarantine: settings.quarantine,
        cache: settings.compile_cache.0.clone(),
        production: settings.environment.is_production(),
        ..RuntimeSettings::default()
    }
}

/// One line on the standard output, so that whoever chose port 0 learns the port.
fn announce(address: SocketAddr, json: bool) -> Result<(), Failure> {
    let url = format!("http://{address}");
    tracing::info!(url, "listening");
    if json {
        output::print(&serde_json::json!({ "listening": url }).to_string())
    } else {
        output::print(&format!("listening on {url}"))
    }
}

/// Reads and installs what is served, and says how it went.
fn load(app: &App) -> Result<(), Failure> {
    let result = app.repository.load(&app.runtime);
    app.metrics.reload(result.is_ok());
    match result {
        Ok(installed) => {
            let policy = installed.bundle;
            tracing::info!(
                policy_version = policy.map(|policy| policy.version),
                policy_digest = policy.map(|policy| policy.digest.to_string()),
                packages = installed.models,
                "loaded"
            );
            if !installed.unused.is_empty() {
                tracing::info!(
                    packages = installed.unused.join(", "),
                    "packages that the policy does not use"
                );
            }
            Ok(())
        }
        Err(failure) => {
            tracing::error!(
                code = failure.code_text(),
                error = %failure,
                "cannot load the policy and packages"
            );
            Err(failure)
        }
    }
}

fn reload_on_hangup(app: &Arc<App>, mut hangups: Signal) {
    let app = Arc::clone(app);
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            let app = Arc::clone(&app);
            // What went wrong is in the log, in /health and in the metrics; what was installed stays.
            let _ = tokio::task::spawn_blocking(move || load(&app)).await;
        }
    });
}

/// Waits for SIGTERM or SIGINT.
async fn termination() -> Result<&'static str, Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` calls")]
fn no_signals(error: std::io::Error) -> Failure {
    Failure::new(format!("cannot listen for signals: {error}"))
}
