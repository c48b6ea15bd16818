//! The workload: what is asked of the engine, and what it answers.

use std::time::Duration;

use bytes::Bytes;

use super::{
    calls::{boxed, event, perform, queue_name, store_name, stream_name, together},
    disk::{Armed, Class, Worker},
    random::Random,
    tables::{Operation, Place, Tables},
    world::{Found, STREAMS, World},
};
use crate::{ErrorKind, FsyncPolicy, error::Error};

impl World {
    /// Has something fail within the next `steps` of its kind.
    pub(super) fn arm(&mut self, steps: usize) {
        let classes = [Class::Sync, Class::Sync, Class::Write, Class::Space, Class::Read, Class::Name];
        let class = classes[self.random.below(classes.len())];
        let times = if self.random.chance(60) { 1 } else { self.random.between(1, 6) };
        let after = self.random.below(steps);
        self.disk.arm(Armed { class, after, times });
    }

    pub(super) fn act(&mut self) -> Found<()> {
        match self.random.below(100) {
            0..25 => self.append(1)?,
            25..35 => {
                let batches = self.random.between(2, 6);
                self.append(batches)?;
            }
            35..37 => self.create()?,
            37..65 => self.transact(1)?,
            65..75 => {
                let operations = self.random.between(2, 6);
                self.transact(operations)?;
            }
            75..80 => self.advance()?,
            80..95 => self.let_work()?,
            95..97 => self.arm(30),
            _ => self.look()?,
        }
        Ok(())
    }

    fn append(&mut self, batches: usize) -> Found<()> {
        let mut wanted = Vec::new();
        for _ in 0..batches {
            let events = if self.random.chance(80) { 1 } else { self.random.between(2, 12) };
            let batch: Vec<Vec<u8>> = (0..events).map(|_| self.payload()).collect();
            wanted.push((self.random.below(STREAMS), batch));
        }
        let fired = self.disk.fired();
        let running = self.running()?;
        let calls = wanted.iter().map(|(stream, batch)| {
            let events: Vec<Bytes> = batch.iter().map(|payload| event(payload)).collect();
            let engine = running.engine.clone();
            let name = stream_name(*stream);
            boxed(async move { engine.streams.append(&name, events).await })
        });
        let calls = calls.collect();
        let answers =
            if batches == 1 { together(calls, ()) } else { together(calls, running.local.log.hold()) };
        running.local.log.quiesce();
        let synced = self.fsync == FsyncPolicy::Always;
        // Batches that fail in a row may have been in one write, or each in one of its own.
        let mut chains: Vec<Vec<Vec<Vec<u8>>>> = vec![Vec::new(); STREAMS];
        for ((stream, batch), answer) in wanted.into_iter().zip(answers) {
            match answer {
                Ok(first) => {
                    let next = self.streams.next(stream);
                    if first != next {
                        return Err(format!("stream {stream}: a batch got offset {first}, wanted {next}"));
                    }
                    self.streams.appended(stream, batch, synced);
                    chains.iter_mut().for_each(Vec::clear);
                    self.succeeded();
                }
                Err(e) => {
                    self.failed(&e, fired)?;
                    chains[stream].push(batch.clone());
                    self.streams.failed(stream, vec![batch]);
                    self.streams.failed(stream, chains[stream].clone());
                }
            }
        }
        Ok(())
    }

    fn create(&mut self) -> Found<()> {
        let stream = self.random.below(STREAMS);
        let fired = self.disk.fired();
        let running = self.running()?;
        let known = self.streams.exists(stream);
        let engine = running.engine.clone();
        let name = stream_name(stream);
        let call = boxed(async move { engine.streams.follow(&name).await.map(drop) });
        match together(vec![call], ()).pop() {
            Some(Ok(())) if !known => {
                self.streams.created(stream, self.fsync == FsyncPolicy::Always);
                self.succeeded();
            }
            Some(Err(e)) => self.failed(&e, fired)?,
            _ => {}
        }
        Ok(())
    }

    fn transact(&mut self, count: usize) -> Found<()> {
        let now = self.now();
        let mut expected = self.tables.live().clone();
        expected.expire(now);
        let mut operations = Vec::new();
        let mut outcomes = Vec::new();
        for _ in 0..count {
            let operation = self.operation(&expected);
            outcomes.push(expected.apply(&operation, now));
            operations.push(operation);
        }
        let promises = operations.iter().any(|operation| match operation {
            Operation::Lease { queue, .. } => self.tables.live().id(queue).is_none(),
            _ => true,
        });
        let fired = self.disk.fired();
        let running = self.running()?;
        let database = running.local.database.clone();
        let calls = operations.iter().map(|operation| {
            boxed(perform(running.engine.clone(), running.local.clone(), operation.clone()))
        });
        let calls = calls.collect();
        let answers = if count == 1 { together(calls, ()) } else { together(calls, database.hold()) };
        database.quiesce();
        self.disk.say(|| format!("{operations:?}: {answers:?}"));
        let mut failures = 0;
        for ((answer, outcome), operation) in answers.iter().zip(&outcomes).zip(&operations) {
            match answer {
                Ok(answer) if answer == outcome => {}
                Ok(answer) => {
                    return Err(format!("{operation:?} was answered {answer:?}, wanted {outcome:?}"));
                }
                Err(e) => {
                    failures += 1;
                    self.failed(e, fired)?;
                }
            }
        }
        if failures == 0 {
            self.succeeded();
            self.tables.stored(expected, promises && self.fsync == FsyncPolicy::Always);
        } else if failures == count {
            self.tables.failed(expected);
        } else {
            return Err(format!(
                "{failures} of {count} operations of one transaction failed: {operations:?}"
            ));
        }
        Ok(())
    }

    fn operation(&mut self, tables: &Tables) -> Operation {
        let random = &mut self.random;
        let queue = queue_name(random.below(2));
        let leased: Vec<(i64, i64)> = jobs(tables, |place| matches!(place, Place::Leased(_)));
        let all: Vec<(i64, i64)> = jobs(tables, |_| true);
        let any = |random: &mut Random, jobs: &[(i64, i64)]| {
            jobs.get(random.below(jobs.len())).copied().unwrap_or((1, 0))
        };
        let choice = random.below(100);
        let (store, key) = (store_name(random.below(2)), format!("key {}", random.below(12)));
        match choice {
            0..28 => {
                let delay = if random.chance(80) { 0 } else { random.between(1, 20) as i64 };
                let payload = self.payload();
                Operation::Enqueue { queue, payload, delay }
            }
            28..48 => {
                let queue = if random.chance(20) { format!("{queue}-dlq") } else { queue };
                let (max, seconds) = (random.between(1, 5), random.between(1, 30) as i64);
                Operation::Lease { queue, max, seconds }
            }
            48..60 => {
                let job = if random.chance(90) { any(random, &leased) } else { any(random, &all) };
                let queue = tables.queues.get(&job.0).map_or(queue, |queue| queue.name.clone());
                Operation::Ack { queue, job }
            }
            60..70 => {
                let job = if random.chance(90) { any(random, &leased) } else { any(random, &all) };
                let queue = tables.queues.get(&job.0).map_or(queue, |queue| queue.name.clone());
                let delay = if random.chance(50) { 0 } else { random.between(1, 9) as i64 };
                Operation::Nack { queue, job, delay }
            }
            70..72 => Operation::Policy { queue, max_attempts: random.below(4) as i32 },
            72..75 => {
                let dead: Vec<_> = all
                    .into_iter()
                    .filter(|(id, _)| tables.queues.get(id).is_some_and(|q| q.name == format!("{queue}-dlq")))
                    .collect();
                let job = any(random, &dead);
                Operation::Replay { queue, job }
            }
            75..90 => {
                let ttl = if random.chance(70) { 0 } else { random.between(1, 20) as i64 };
                let value = self.payload();
                Operation::Set { store, key, value, ttl }
            }
            // A store that is not there yet has nothing to remove: such a call does not wait for
            // those made with it.
            90..94 if self.tables.live().values.keys().any(|(known, _)| *known == store) => {
                Operation::Delete { store, key }
            }
            _ => {
                let stream = random.below(STREAMS);
                if !self.streams.exists(stream) {
                    return Operation::Enqueue { queue, payload: vec![1], delay: 0 };
                }
                let offset = random.below(50) as i64 - 1;
                let group = format!("group {}", random.below(3));
                Operation::Commit { stream: stream_name(stream).as_str().to_owned(), group, offset }
            }
        }
    }

    fn advance(&mut self) -> Found<()> {
        let by = Duration::from_millis(self.random.between(100, 15_000) as u64);
        self.disk.say(|| format!("{by:?} go by"));
        self.clock.advance(by);
        self.running()?.quiesce();
        let mut expected = self.tables.live().clone();
        expected.expire(self.now());
        // Nobody is told whether the transaction was stored; if it failed, the next one does it.
        match self.running()?.local.database.look(Tables::read) {
            Ok(found) if found.clone()?.at(self.now()) == expected.at(self.now()) => {
                self.tables.stored(expected, false);
            }
            _ if self.disk.is_off() || self.disk.fired() > 0 => self.tables.failed(expected),
            _ => return Err("leases do not end when their time has come".to_owned()),
        }
        Ok(())
    }

    fn let_work(&mut self) -> Found<()> {
        let steps = if self.random.chance(30) { 100_000 } else { self.random.between(1, 12) };
        let worker = if self.random.chance(50) { Worker::Keeper } else { Worker::Checkpointer };
        if matches!(worker, Worker::Checkpointer) && self.random.chance(20) {
            // One of the few syncs of this thread fails.
            self.disk.arm(Armed { class: Class::Sync, after: 0, times: 1 });
        }
        self.disk.say(|| format!("{worker:?} works, {steps} steps"));
        self.running()?.let_work(&self.disk, worker, steps);
        Ok(())
    }

    fn payload(&mut self) -> Vec<u8> {
        let len = match self.random.below(20) {
            0 => self.random.between(2_000, 20_000),
            1..4 => self.random.between(300, 2_000),
            _ => self.random.between(8, 200),
        };
        let mut payload = vec![0; len];
        for chunk in payload.chunks_mut(8) {
            chunk.copy_from_slice(&self.random.next().to_le_bytes()[..chunk.len()]);
        }
        payload
    }

    fn succeeded(&mut self) {
        self.counts.acknowledged += 1;
        self.refusals = 0;
    }

    /// An error is fine when something has failed; the first one must have its cause at hand.
    fn failed(&mut self, e: &Error, fired: u64) -> Found<()> {
        self.counts.failed += 1;
        self.refusals += 1;
        let cause = self.disk.is_off() || self.disk.fired() > 0;
        let is_storage = matches!(e.kind(), ErrorKind::Internal | ErrorKind::ResourceExhausted);
        if !cause || !is_storage {
            return Err(format!("{e} ({:?}) without a fault ({fired} so far)", e.kind()));
        }
        Ok(())
    }
}

fn jobs(tables: &Tables, wanted: impl Fn(Place) -> bool) -> Vec<(i64, i64)> {
    let all = tables.queues.iter().flat_map(|(id, queue)| queue.jobs.iter().map(move |job| (*id, job)));
    all.filter(|(_, (_, job))| wanted(job.place)).map(|(id, (seq, _))| (id, *seq)).collect()
}
