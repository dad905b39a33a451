//! Sending records to the origin, off the path of any request: one promise to send at a time, kept by the request that made it.

use std::rc::Rc;
use std::time::Duration;

use lockgate_edge::{Fetch, records};
use worker::{Context, Delay, Env};

use crate::isolate::Isolate;
use crate::{moment, now, origin};

/// How long records gather before they are sent.
const GATHER: Duration = Duration::from_secs(1);
/// Time for one batch.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A promise that was not kept for so long never will be: what follows an answer may take 30 s.
const BROKEN_AFTER_MS: i64 = 30_000;

/// Promises to send what waits, unless somebody has.
pub(crate) fn send_later(isolate: &Rc<Isolate>, env: &Env, context: &Context, time: i64) {
    let is_promised = time.saturating_sub(isolate.sending_since.get()) < BROKEN_AFTER_MS;
    if is_promised || !isolate.edge.borrow().records.is_due(time) {
        return;
    }
    isolate.sending_since.set(time);
    let (isolate, env) = (Rc::clone(isolate), env.clone());
    context.wait_until(async move {
        Delay::from(GATHER).await;
        send(&isolate, &env).await;
        isolate.sending_since.set(0);
    });
}

/// Sends what waits, until nothing does or the origin takes no more.
pub(crate) async fn send(isolate: &Isolate, env: &Env) {
    loop {
        let batch = isolate.edge.borrow_mut().records.batch(moment());
        let Some(batch) = batch else { return };
        let mut headers = vec![("content-type".to_owned(), records::CONTENT_TYPE.to_owned())];
        if let Some(key) = isolate.settings.origin_key.as_deref() {
            headers.push(("authorization".to_owned(), format!("Bearer {key}")));
        }
        let fetch =
            Fetch { path: records::PATH.to_owned(), headers, body: batch.body.clone(), timeout: TIMEOUT };
        let answer = origin::fetch_all(isolate, env, std::slice::from_ref(&fetch)).await.pop();
        let answer = answer.and_then(Result::ok);
        let answer = answer.as_ref().map(|answer| (answer.status, answer.body.as_slice()));
        if !matches!(answer, Some((200..=299, _))) {
            worker::console_error!(
                "the origin did not take a batch of records: {:?}",
                answer.map(|(status, _)| status)
            );
        }
        isolate.edge.borrow_mut().records.settle(batch, answer, now());
    }
}
