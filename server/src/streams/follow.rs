//! Following a stream: a follower sleeps until an append wakes it, then reads from the log.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;

use super::{
    catalogue::{Catalogue, Stream},
    reader::{self, Limits},
};
use crate::{
    engine::Follow,
    error::{Error, Result},
};

/// A stream held open. Idle, it costs nothing but its memory.
pub struct StreamFollower {
    stream: Arc<Stream>,
    catalogue: Arc<Catalogue>,
}

impl StreamFollower {
    pub(super) fn new(stream: Arc<Stream>, catalogue: Arc<Catalogue>) -> Self {
        Self { stream, catalogue }
    }
}

#[async_trait::async_trait]
impl Follow for StreamFollower {
    fn latest(&self) -> i64 {
        self.stream.next() - 1
    }

    async fn next(&mut self, offset: i64, max_bytes: usize) -> Result<Vec<Bytes>> {
        loop {
            let changed = self.stream.changed.notified();
            tokio::pin!(changed);
            // From here on a publication is not missed, whenever it comes.
            changed.as_mut().enable();
            if self.catalogue.closed.load(Ordering::SeqCst) {
                return Err(Error::closing());
            }
            let limits = Limits { messages: usize::MAX, bytes: max_bytes, stop_at_damage: true };
            let messages = reader::read(&self.stream, offset, limits)?;
            if !messages.is_empty() {
                return Ok(messages);
            }
            changed.await;
        }
    }
}
