//! Replies with leased jobs that the HTTP/2 library has taken: which of them reached their caller.
//!
//! A caller that takes its call back and a reply to it can cross each other. Then the reply is for
//! nobody, and its jobs are given back. A reset that comes before the reply has left tells so; and one
//! that comes after it, too: who has the end of a reply has nothing left to reset.

use std::{
    collections::VecDeque,
    task::{Context, Waker},
};

use bytes::Bytes;
use h2::SendStream;

use crate::engine::Delivery;

/// Replies of a connection that are remembered after they have left. They are forgotten in the order
/// in which they left: a reset that could still come is at most as late as the way there and back.
const REMEMBERED: usize = 128;

/// A reply with leased jobs, of which the HTTP/2 library has the end.
pub struct Handed {
    pub stream: SendStream<Bytes>,
    pub delivery: Delivery,
}

/// The replies of one connection. Those that have not left when it is dropped are given back.
#[derive(Default)]
pub struct Deliveries {
    handed: Vec<Handed>,
    /// Those that have left, by the number of their streams.
    left: VecDeque<(u32, Delivery)>,
}

impl Deliveries {
    pub fn add(&mut self, reply: Handed) {
        self.handed.push(reply);
    }

    /// To be called when the connection has read what had come in, `resets` among it, and then written
    /// what there was to write.
    pub fn settle(&mut self, resets: &mut Vec<u32>) {
        for Handed { mut stream, delivery } in self.handed.drain(..) {
            // One that was reset before it had left never leaves.
            if stream.poll_reset(&mut Context::from_waker(Waker::noop())).is_pending() {
                self.left.push_back((stream.stream_id().as_u32(), delivery));
            }
        }
        for reset in resets.drain(..) {
            self.left.retain(|(stream, _)| *stream != reset);
        }
        while self.left.len() > REMEMBERED {
            self.left.pop_front().inspect(|(_, delivery)| delivery.done());
        }
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        self.left.iter().for_each(|(_, delivery)| delivery.done());
    }
}
