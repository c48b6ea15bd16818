//! The task that sends, and how it writes to a stream: one request at a time, which keeps the
//! order over every repeat; what comes meanwhile is the next.

use std::{sync::Arc, thread};

use super::{
    attempts::Attempts,
    batch::Batch,
    buffer::Shared,
    reports::{Outcomes, Reports},
};
use crate::{
    client::{
        client::UnderWay,
        error::{Error, Outcome, Status},
        streams::Stream,
    },
    runtime::lock,
};

/// The right, and the duty, to send what waits in a producer. One that is dropped before
/// [`Sending::end`], because the runtime ends or by a panic, reports what it leaves behind.
pub(super) struct Sending<T: Send + 'static> {
    pub shared: Arc<Shared<T>>,
    ended: bool,
    /// A close of the client waits for it: when it goes, every report has been handed over.
    _under_way: UnderWay,
}

impl<T: Send + 'static> Sending<T> {
    pub fn new(shared: Arc<Shared<T>>, under_way: UnderWay) -> Self {
        Self { shared, ended: false, _under_way: under_way }
    }

    /// Nothing is left to send.
    pub fn end(mut self) {
        self.ended = true;
    }
}

impl<T: Send + 'static> Drop for Sending<T> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let error = cut_short(&self.shared);
        Shared::refuse(&self.shared, error.clone());
        loop {
            let batch = {
                let mut state = lock(&self.shared.state);
                let batch = state.take();
                state.sending = batch.is_some();
                if batch.is_none() {
                    return Shared::settle(&self.shared, state);
                }
                batch
            };
            if let Some(batch) = batch {
                fail(&self.shared, batch, error.clone(), 0);
            }
        }
    }
}

/// What the messages of a task come to that did not get to its end.
pub(super) fn cut_short<T: Send + 'static>(shared: &Shared<T>) -> Error {
    let (status, why) = if thread::panicking() {
        (Status::INTERNAL, "a defect of libflowmesh ended it, please report it")
    } else {
        (Status::CLOSED, "the library was shut down")
    };
    Error::local(status, format!("{}: {why}", shared.what()))
}

fn fail<T: Send + 'static>(shared: &Arc<Shared<T>>, mut batch: Batch<T>, error: Error, attempts: u32) {
    let bytes = batch.weight(&shared.encoder);
    let reports = Reports::new(batch.take_tags(), Outcomes::Failed { error, attempts });
    Shared::report(shared, reports, bytes);
}

/// Writes to `stream` until nothing is left.
pub(super) async fn run<T: Send + 'static>(sending: Sending<T>, stream: Arc<Stream>) {
    let mut hand = Hand { shared: sending.shared.clone(), parcels: Vec::new() };
    while let Some(batch) = Shared::next_batch(&sending.shared).await {
        let attempts = Attempts::new(batch.since(), sending.shared.options.delivery_timeout);
        hand.parcels.push(Parcel { weight: batch.weight(&sending.shared.encoder), batch, attempts });
        while hand.write(&stream).await {}
    }
    sending.end();
}

/// What was taken and has no outcome yet; the last is to be written first.
struct Hand<T: Send + 'static> {
    shared: Arc<Shared<T>>,
    parcels: Vec<Parcel<T>>,
}

struct Parcel<T> {
    batch: Batch<T>,
    weight: usize,
    attempts: Attempts,
}

impl<T: Send + 'static> Hand<T> {
    /// Writes one parcel; false when there is none. One that the server refuses for what is in
    /// it is halved, until only the messages fail that the server does not want.
    async fn write(&mut self, stream: &Arc<Stream>) -> bool {
        let shared = &self.shared;
        let Some(parcel) = self.parcels.last_mut() else { return false };
        let count = parcel.batch.len();
        let result = match shared.stop_error() {
            Some(stopped) => Err(stopped),
            None => {
                let request = parcel.batch.request();
                let write = |options| {
                    let (stream, request) = (stream.clone(), request.clone());
                    async move { stream.write_encoded(request, count, &options).await }
                };
                let is_final = |error: &Error| count > 1 && is_of_content(error);
                let written = parcel.attempts.run(shared, is_final, write).await;
                parcel.batch.restore(request);
                written
            }
        };
        let attempts = parcel.attempts.count;
        let outcomes = match result {
            Ok(offsets) => Outcomes::Written { offsets, attempts },
            Err(error) if count > 1 && is_of_content(&error) => {
                let batch = parcel.batch.split_half(&shared.encoder);
                parcel.weight = parcel.batch.weight(&shared.encoder);
                let rest = Parcel {
                    weight: batch.weight(&shared.encoder),
                    batch,
                    attempts: parcel.attempts.of_part(),
                };
                let last = self.parcels.len() - 1;
                self.parcels.insert(last, rest);
                return true;
            }
            Err(error) => Outcomes::Failed { error, attempts },
        };
        if let Some(mut parcel) = self.parcels.pop() {
            let reports = Reports::new(parcel.batch.take_tags(), outcomes);
            lock(&self.shared.state).recycle(parcel.batch);
            Shared::report(&self.shared, reports, parcel.weight);
        }
        true
    }
}

impl<T: Send + 'static> Drop for Hand<T> {
    fn drop(&mut self) {
        // The first may be on the wire.
        let mut outcome = Outcome::Unknown;
        while let Some(mut parcel) = self.parcels.pop() {
            let error = cut_short(&self.shared).with_outcome(outcome);
            let failed = Outcomes::Failed { error, attempts: parcel.attempts.count };
            Shared::report(&self.shared, Reports::new(parcel.batch.take_tags(), failed), parcel.weight);
            outcome = Outcome::NotApplied;
        }
    }
}

/// Whether the server refused a request for what is in it, or for its size: parts of it may pass.
fn is_of_content(error: &Error) -> bool {
    error.is_from_server()
        && error.outcome() == Outcome::NotApplied
        && matches!(error.status(), Status::INVALID_ARGUMENT | Status::RESOURCE_EXHAUSTED)
}
