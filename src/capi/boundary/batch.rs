//! Messages as C reads them: structs that point into the bytes received.

use std::{collections::HashMap, ptr};

use bytes::Bytes;
use flowmesh_proto::wire::{Malformed, MessageView};

use super::view;
use crate::{
    capi::{message::flowmesh_message_t, view::flowmesh_header_t},
    client::{Error, Result, Status},
};

/// Messages, and the bytes and headers that they point to.
///
/// Invariant: every pointer in `messages` and `headers` leads into `wire`, whose bytes never move,
/// or into `headers`, which does not change between two calls of `refill`.
#[derive(Default)]
pub struct MessageBatch {
    messages: Vec<flowmesh_message_t>,
    headers: Vec<flowmesh_header_t>,
    wire: Vec<Bytes>,
}

// SAFETY: the pointers lead into what the batch owns and nobody changes while it is shared.
unsafe impl Send for MessageBatch {}
// SAFETY: as above.
unsafe impl Sync for MessageBatch {}

impl MessageBatch {
    /// Reads messages in wire form.
    pub fn parse(wire: Vec<Bytes>) -> Result<Self> {
        let mut wire = wire;
        let mut batch = Self::default();
        batch.refill(&mut wire)?;
        Ok(batch)
    }

    /// The messages.
    pub fn messages(&self) -> &[flowmesh_message_t] {
        &self.messages
    }

    /// Lets go of the messages; the memory of the list is kept.
    pub fn clear(&mut self) {
        self.messages.clear();
        self.headers.clear();
        self.wire.clear();
    }

    /// Takes the messages out of `wire` in place of the present ones; all memory is used again.
    pub fn refill(&mut self, wire: &mut Vec<Bytes>) -> Result<()> {
        self.clear();
        std::mem::swap(&mut self.wire, wire);
        self.messages.reserve(self.wire.len());
        for bytes in &self.wire {
            let message = MessageView::parse(bytes).map_err(|e| malformed(&e))?;
            let header_count = push_headers(&mut self.headers, &message);
            self.messages.push(flowmesh_message_t {
                offset: message.offset,
                created_at_ns: message.created_at,
                payload: view::of(message.payload),
                headers: ptr::null(),
                header_count,
                id: view::of(message.id.as_bytes()),
                resource_path: view::of(message.resource_path.as_bytes()),
                partition: message.partition,
                schema_version: message.schema_version,
            });
        }
        // Only now do the headers stay where they are.
        let mut rest = self.headers.as_slice();
        for message in &mut self.messages {
            let own;
            (own, rest) = rest.split_at(message.header_count);
            message.headers = own.as_ptr();
        }
        Ok(())
    }
}

/// Appends the headers of `message`, one per key; returns how many.
fn push_headers(headers: &mut Vec<flowmesh_header_t>, message: &MessageView<'_>) -> usize {
    /// From here on searching is left to a map: a hostile message could hold very many.
    const MANY: usize = 16;

    if message.header_entries == 0 {
        return 0;
    }
    let first = headers.len();
    let mut index: HashMap<&str, usize> = HashMap::new();
    for header in message.headers() {
        let value = view::of(header.value.as_bytes());
        let known = if message.header_entries > MANY {
            let next = headers.len();
            let at = *index.entry(header.key).or_insert(next);
            (at < next).then_some(at)
        } else {
            let same = |h: &flowmesh_header_t| view::bytes(h.key, "key") == Ok(header.key.as_bytes());
            headers[first..].iter().position(same).map(|at| first + at)
        };
        match known {
            Some(at) => headers[at].value = value,
            None => headers.push(flowmesh_header_t { key: view::of(header.key.as_bytes()), value }),
        }
    }
    headers.len() - first
}

fn malformed(e: &Malformed) -> Error {
    Error::local(Status::INTERNAL, format!("the server sent a message that cannot be read: {e}"))
}
