//! The counts and batches of a producer, and what follows from them. Always behind its lock.

use std::{collections::VecDeque, task::Waker};

use flowmesh_proto::wire::Header;

use super::{
    ProducerOptions,
    batch::{Batch, Checked, Encoder},
    reports::{Delivery, ProducerEvents},
};
use crate::client::error::Error;

pub(super) struct State<T> {
    /// The batch that grows.
    gathering: Batch<T>,
    /// Batches before it that are full.
    full: VecDeque<Batch<T>>,
    /// Memory of a batch that was sent.
    spare: Option<Batch<T>>,
    /// Messages without an outcome, and their bytes.
    pub messages: usize,
    pub bytes: usize,
    /// How many of them were there when the producer gave up.
    pub given_up: usize,
    /// Messages accepted, and those reported, since the producer was made.
    pub accepted: u64,
    pub reported: u64,
    /// Why nothing more is accepted.
    pub refusal: Option<Error>,
    /// The sending task is there.
    pub sending: bool,
    /// Wakes it when it waits for messages.
    pub wants_messages: Option<Waker>,
    /// Wakes it when it waits for reports to be delivered.
    pub wants_delivery: Option<Waker>,
    /// Somebody was told that there is no room, and has not been told otherwise.
    pub turned_away: bool,
    /// Threads that wait on `room` and on `progress`.
    pub senders_waiting: usize,
    pub watchers: usize,
    /// What the application is to be told.
    pub delivery: Delivery<T>,
}

impl<T> State<T> {
    pub fn new(events: Option<Box<dyn ProducerEvents<T>>>) -> Self {
        Self {
            gathering: Batch::new(),
            full: VecDeque::new(),
            spare: None,
            messages: 0,
            bytes: 0,
            given_up: 0,
            accepted: 0,
            reported: 0,
            refusal: None,
            sending: false,
            wants_messages: None,
            wants_delivery: None,
            turned_away: false,
            senders_waiting: 0,
            watchers: 0,
            delivery: Delivery::new(events),
        }
    }

    pub fn has_room(&self, options: &ProducerOptions, len: usize) -> bool {
        self.messages == 0
            || (self.messages < options.max_buffered_messages
                && self.bytes.saturating_add(len) <= options.max_buffered_bytes)
    }

    /// Whether there is room for more than a few again.
    pub fn is_half_empty(&self, options: &ProducerOptions) -> bool {
        self.messages <= options.max_buffered_messages / 2 && self.bytes <= options.max_buffered_bytes / 2
    }

    /// Whether so many reports wait that no request is begun.
    pub fn is_held_up(&self, options: &ProducerOptions) -> bool {
        self.delivery.waiting >= options.max_buffered_messages && self.refusal.is_none()
    }

    /// The sending task, if it waits for reports to be delivered and need not any more.
    pub fn take_held_up(&mut self, options: &ProducerOptions) -> Option<Waker> {
        if self.is_held_up(options) { None } else { self.wants_delivery.take() }
    }

    /// Whether there is something to tell, or the callbacks are to be released.
    pub fn is_due(&self) -> bool {
        self.delivery.is_free() && (self.delivery.has_items() || self.is_over())
    }

    pub fn push<'h, H>(
        &mut self,
        encoder: &Encoder,
        options: &ProducerOptions,
        checked: &Checked<'_, '_, H>,
        tag: T,
    ) where
        H: Iterator<Item = Header<'h>> + Clone,
    {
        let batch = &self.gathering;
        if batch.len() >= options.max_batch_messages
            || (!batch.is_empty() && batch.bytes() + checked.len > options.max_batch_bytes)
        {
            let next = self.spare.take().unwrap_or_else(Batch::new);
            self.full.push_back(std::mem::replace(&mut self.gathering, next));
        }
        self.gathering.push(encoder, checked, tag);
        self.messages += 1;
        self.bytes += checked.len;
        self.accepted += 1;
    }

    /// The oldest batch.
    pub fn take(&mut self) -> Option<Batch<T>> {
        if let Some(batch) = self.full.pop_front() {
            return Some(batch);
        }
        if self.gathering.is_empty() {
            return None;
        }
        let next = self.spare.take().unwrap_or_else(Batch::new);
        Some(std::mem::replace(&mut self.gathering, next))
    }

    /// Keeps the memory of a batch that was sent.
    pub fn recycle(&mut self, batch: Batch<T>) {
        self.spare = Some(batch);
    }

    /// An idle producer keeps little memory.
    pub fn trim(&mut self) {
        self.spare.take_if(|batch| batch.is_large());
        if self.gathering.is_large() {
            self.gathering = Batch::new();
        }
    }

    /// Whether the first `count` messages have been reported.
    pub fn has_reported(&self, count: u64) -> bool {
        self.reported >= count
    }

    /// Whether nothing will happen any more.
    pub fn is_over(&self) -> bool {
        self.refusal.is_some() && !self.sending && self.reported == self.accepted
    }

    /// Whether it is over, and the application's callbacks are released.
    pub fn has_finished(&self) -> bool {
        self.is_over() && self.delivery.is_released()
    }
}
