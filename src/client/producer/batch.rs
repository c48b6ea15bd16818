//! Messages on their way into a request: in wire form, one behind the other.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use flowmesh_proto::{requests, wire::Header};

use super::{LARGEST_BATCH, REQUEST_LIMIT};
use crate::client::{
    error::{Error, Result},
    rules,
};

/// A message to send.
#[derive(Debug, Clone)]
pub struct NewMessage<'a, H> {
    /// At least one byte.
    pub payload: &'a [u8],
    /// Metadata.
    pub headers: H,
    /// Queues: time until the job is due, in ms; in effect whole seconds, rounded up.
    pub delay_ms: i64,
}

/// How much memory an idle producer keeps for its next batch.
const KEPT_BYTES: usize = 64 << 10;

/// How messages become bytes.
pub(super) enum Form {
    /// Events of one `WriteEventsRequest`.
    Events,
    /// An `EnqueueRequest` each.
    Jobs,
}

/// Puts messages for one resource into wire form.
pub(super) struct Encoder {
    pub form: Form,
    /// The field `resource_path` of its requests.
    path: Bytes,
    /// The largest request.
    limit: usize,
}

/// A message that was found good.
pub(super) struct Checked<'m, 'a, H> {
    message: &'m NewMessage<'a, H>,
    delay_seconds: i64,
    /// Its bytes in wire form.
    pub len: usize,
}

impl Encoder {
    pub fn new(form: Form, path: Bytes, max_batch_bytes: usize) -> Self {
        Self { form, path, limit: max_batch_bytes.max(REQUEST_LIMIT) }
    }

    /// Refuses what no server would take, so that one bad message does not take others down.
    pub fn check<'m, 'a, 'h, H>(&self, message: &'m NewMessage<'a, H>) -> Result<Checked<'m, 'a, H>>
    where
        H: Iterator<Item = Header<'h>> + Clone,
    {
        rules::not_empty("payload", message.payload)?;
        let delay_seconds = rules::delay_seconds("delay_ms", message.delay_ms)?;
        let headers = message.headers.clone();
        let (len, request) = match self.form {
            Form::Events if delay_seconds != 0 => {
                return Err(Error::invalid("delay_ms must be 0: a stream has no delays"));
            }
            Form::Events => {
                let len = requests::event_len(message.payload, headers);
                (len, self.path.len() + len)
            }
            Form::Jobs => {
                let len = requests::enqueue_len(&self.path, message.payload, delay_seconds, headers);
                (len, len)
            }
        };
        if request > self.limit {
            return Err(Error::invalid(format!(
                "payload and headers must fit into a request of {} bytes, but need {request}",
                self.limit
            )));
        }
        Ok(Checked { message, delay_seconds, len })
    }
}

/// Messages that wait together, in the order in which they were sent.
pub(super) struct Batch<T> {
    wire: BytesMut,
    /// Where each message ends in `wire`.
    ends: Vec<u32>,
    tags: Vec<T>,
    /// When the first was accepted.
    since: Instant,
}

// A position in a batch fits, whatever its last message is.
const _: () = assert!(LARGEST_BATCH + REQUEST_LIMIT < u32::MAX as usize);

impl<T> Batch<T> {
    pub fn new() -> Self {
        Self { wire: BytesMut::new(), ends: Vec::new(), tags: Vec::new(), since: Instant::now() }
    }

    pub fn len(&self) -> usize {
        self.tags.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// Whether it holds more memory than is worth keeping.
    pub fn is_large(&self) -> bool {
        self.wire.capacity() > KEPT_BYTES
    }

    /// Bytes in wire form, the path at the front of an events request included.
    pub fn bytes(&self) -> usize {
        self.wire.len()
    }

    /// Bytes of its messages alone.
    pub fn weight(&self, encoder: &Encoder) -> usize {
        match encoder.form {
            Form::Events => self.bytes().saturating_sub(encoder.path.len()),
            Form::Jobs => self.bytes(),
        }
    }

    pub fn since(&self) -> Instant {
        self.since
    }

    pub fn push<'h, H>(&mut self, encoder: &Encoder, checked: &Checked<'_, '_, H>, tag: T)
    where
        H: Iterator<Item = Header<'h>> + Clone,
    {
        if self.is_empty() {
            self.since = Instant::now();
        }
        let message = checked.message;
        match encoder.form {
            Form::Events => {
                if self.is_empty() {
                    self.wire.extend_from_slice(&encoder.path);
                }
                requests::put_event(&mut self.wire, message.payload, message.headers.clone());
            }
            Form::Jobs => requests::put_enqueue(
                &mut self.wire,
                &encoder.path,
                message.payload,
                checked.delay_seconds,
                message.headers.clone(),
            ),
        }
        self.ends.push(u32::try_from(self.wire.len()).expect("batches stay far below 4 GiB"));
        self.tags.push(tag);
    }

    /// Keeps the first half and returns the rest, as requests to a stream.
    pub fn split_half(&mut self, encoder: &Encoder) -> Self {
        let half = self.len() / 2;
        let at = self.ends[half - 1];
        let head = u32::try_from(encoder.path.len()).expect("a path is short");
        let mut rest = BytesMut::with_capacity(encoder.path.len() + self.wire.len() - at as usize);
        rest.extend_from_slice(&encoder.path);
        rest.extend_from_slice(&self.wire[at as usize..]);
        self.wire.truncate(at as usize);
        Self {
            wire: rest,
            ends: self.ends.split_off(half).into_iter().map(|end| end - at + head).collect(),
            tags: self.tags.split_off(half),
            since: self.since,
        }
    }

    /// The whole as one request, lent: [`Batch::restore`] takes it back.
    pub fn request(&mut self) -> Bytes {
        std::mem::take(&mut self.wire).freeze()
    }

    pub fn restore(&mut self, request: Bytes) {
        // Whoever still reads it keeps his own; then this is a copy.
        self.wire = request.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    }

    /// Every message with its own bytes.
    pub fn into_messages(self) -> impl Iterator<Item = (T, Bytes)> {
        let mut wire = self.wire.freeze();
        let mut start = 0;
        self.tags.into_iter().zip(self.ends).map(move |(tag, end)| {
            let message = wire.split_to((end - start) as usize);
            start = end;
            (tag, message)
        })
    }

    /// The tags; what is left, empty, keeps the memory for another batch.
    pub fn take_tags(&mut self) -> Vec<T> {
        self.wire.clear();
        self.ends.clear();
        let room = self.tags.len();
        std::mem::replace(&mut self.tags, Vec::with_capacity(room))
    }
}

#[cfg(test)]
mod tests {
    use flowmesh_proto::v1::{ResourcePath, WriteEventsRequest};
    use prost::Message as _;

    use super::*;

    #[test]
    fn halves_are_requests_of_their_own() {
        let encoder = Encoder::new(Form::Events, requests::path(ResourcePath::default()), 1 << 20);
        let mut batch = Batch::new();
        for number in 0_u8..5 {
            let payload = [number + 1; 3];
            let message = NewMessage { payload: &payload, headers: std::iter::empty(), delay_ms: 0 };
            let checked = encoder.check(&message).expect("a good message");
            batch.push(&encoder, &checked, number);
        }
        let mut rest = batch.split_half(&encoder);
        let mut last = rest.split_half(&encoder);
        for (half, tags) in [(&mut batch, vec![0, 1]), (&mut rest, vec![2]), (&mut last, vec![3, 4])] {
            let request = WriteEventsRequest::decode(half.request()).expect("a request");
            assert!(request.resource_path.is_some());
            let payloads: Vec<_> = request.events.iter().map(|event| event[2] - 1).collect();
            assert_eq!(payloads, tags);
            assert_eq!(half.take_tags(), tags);
        }
    }
}
