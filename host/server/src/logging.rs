//! Log lines on the standard error, so that the standard output carries answers alone.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::EnvFilter;

use crate::config::{LogFormat, Settings};

/// Sends log lines where and how the settings say. A second call changes nothing.
pub(crate) fn start(settings: &Settings) {
    let filter = EnvFilter::builder().parse_lossy(&settings.log.0);
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match settings.log_format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
    };
    drop(started);
}
