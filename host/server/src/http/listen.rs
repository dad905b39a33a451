//! Connections: how they are taken, and for how long one may say nothing.

use std::convert::Infallible;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tower_service::Service as _;

/// What a connection of HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long to wait before a connection is taken again where that failed: mostly there are too many.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How long to wait for the rest of what a connection begins with.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Serves until it is stopped, then finishes what is in progress. A connection that has no request in progress is closed after `idle`.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    idle: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let connections = GracefulShutdown::new();
    loop {
        let taken = tokio::select! {
            () = stopped(&mut stop) => break,
            taken = listener.accept() => taken,
        };
        match taken {
            Ok((stream, peer)) => {
                // Small answers should leave at once.
                stream.set_nodelay(true).ok();
                let (router, watcher, stop) = (router.clone(), connections.watcher(), stop.clone());
                tokio::spawn(async move { converse(stream, peer, router, idle, watcher, stop).await });
            }
            Err(error) if concerns_one(&error) => {}
            Err(error) => {
                tracing::error!(%error, "cannot take connections");
                tokio::select! {
                    () = stopped(&mut stop) => break,
                    () = sleep(AFTER_FAILURE) => {}
                }
            }
        }
    }
    connections.shutdown().await;
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// Whether an error is of the connection that was about to be taken, not of all.
fn concerns_one(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    )
}

async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    idle: Duration,
    watcher: Watcher,
    mut stop: watch::Receiver<bool>,
) {
    // The library waits for the first bytes however long they take.
    let is_http2 = tokio::select! {
        () = stopped(&mut stop) => return,
        begun = timeout(idle, begins_http2(&stream)) => match begun {
            Ok(Ok(is_http2)) => is_http2,
            Ok(Err(_)) | Err(_) => return,
        },
    };
    let builder = Builder::new(TokioExecutor::new());
    let mut builder = if is_http2 { builder.http2_only() } else { builder.http1_only() };
    builder.http1().timer(TokioTimer::new()).header_read_timeout(idle);
    // A peer of HTTP/2 may keep its connection for as long as it answers.
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(idle).keep_alive_timeout(idle);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let mut router = router.clone();
        async move { Ok::<_, Infallible>(router.call(request).await.unwrap_or_else(|never| match never {})) }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%peer, error, "a connection broke");
    }
}

/// Whether a connection begins as one of HTTP/2; an error if it ends before that can be told.
async fn begins_http2(stream: &TcpStream) -> std::io::Result<bool> {
    let mut begun = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut begun).await?;
        let begun = begun.get(..count).unwrap_or_default();
        if begun.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if !PREFACE.starts_with(begun) {
            return Ok(false);
        }
        if begun.len() == PREFACE.len() {
            return Ok(true);
        }
        sleep(BETWEEN_LOOKS).await;
    }
}
