//! Paging through a stream.

use std::{pin::pin, sync::Arc};

use bytes::Bytes;
use flowmesh_proto::wire::MessageView;
use tokio::sync::Mutex;

use super::{
    error::{Error, Outcome, Result, Status},
    options::{CallOptions, Timeout},
    rules,
    streams::Stream,
};

/// Reads a stream page by page, each message once, up to its present end. Clones share the
/// position.
#[derive(Debug, Clone)]
pub struct Reader {
    stream: Stream,
    partition: i32,
    page: i32,
    /// The first offset not yet returned.
    next: Arc<Mutex<i64>>,
}

impl Reader {
    pub(crate) fn new(stream: Stream, partition: i32, offset: i64, page: i32) -> Result<Self> {
        rules::position("offset", offset, 0)?;
        Ok(Self { stream, partition, page, next: Arc::new(Mutex::new(offset)) })
    }

    /// The stream.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The next messages; none at the end of the stream, where a later call may find more. After
    /// an error the position is as before.
    pub async fn next_page(&self, options: &CallOptions) -> Result<Vec<Bytes>> {
        let client = self.stream.client();
        // The time and the tokens count for the wait behind other calls as well.
        let read =
            CallOptions { timeout: Timeout::Never, trace: options.trace.clone(), ..CallOptions::default() };
        let time = options.time(client.inner().options().timeout);
        let ended = client.until_ended(options, time, pin!(self.page_in_turn(&read))).await;
        ended.unwrap_or_else(|end| {
            let what = format!("read from {}", self.stream.canonical_path());
            Err(client.end_error(end, &what).with_outcome(Outcome::NotApplied))
        })
    }

    async fn page_in_turn(&self, options: &CallOptions) -> Result<Vec<Bytes>> {
        let mut next = self.next.lock().await;
        let page = self.stream.read(self.partition, *next, self.page, options).await?;
        if let Some(last) = page.last() {
            *next = offset_after(last, self.stream.canonical_path())?;
        }
        Ok(page)
    }
}

/// The offset that follows an encoded message.
pub(crate) fn offset_after(message: &[u8], stream: &str) -> Result<i64> {
    match MessageView::parse(message) {
        Ok(view) => Ok(view.offset.saturating_add(1)),
        Err(e) => Err(Error::local(
            Status::INTERNAL,
            format!("read from {stream}: the server sent a message that cannot be decoded: {e}"),
        )),
    }
}
