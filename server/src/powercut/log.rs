//! What the streams may hold after a cut.

use std::collections::BTreeMap;

type Payload = Vec<u8>;
type Batch = Vec<Payload>;

/// The streams, by number.
#[derive(Default)]
pub struct Log(BTreeMap<usize, Stream>);

#[derive(Default)]
struct Stream {
    /// Its creation was acknowledged and synced.
    exists: bool,
    /// Acknowledged and synced.
    durable: Vec<Payload>,
    /// Acknowledged without a sync.
    soft: Vec<Batch>,
    /// What failed: batches that would have followed the first so many `soft`.
    maybe: Vec<(usize, Vec<Batch>)>,
}

impl Log {
    fn stream(&mut self, stream: usize) -> &mut Stream {
        self.0.entry(stream).or_default()
    }

    /// The offset that the next batch gets.
    pub fn next(&self, stream: usize) -> i64 {
        self.0.get(&stream).map_or(0, |s| s.durable.len() + s.soft.iter().map(Vec::len).sum::<usize>()) as i64
    }

    /// Whether the stream is certain to be there.
    pub fn exists(&self, stream: usize) -> bool {
        self.0.get(&stream).is_some_and(|stream| stream.exists || !stream.soft.is_empty())
    }

    /// A creation was acknowledged.
    pub fn created(&mut self, stream: usize, synced: bool) {
        self.stream(stream).exists |= synced;
        self.acknowledged(synced);
    }

    /// A batch was acknowledged.
    pub fn appended(&mut self, stream: usize, batch: Batch, synced: bool) {
        let known = self.stream(stream);
        if synced {
            known.durable.extend(batch);
            known.exists = true;
        } else {
            known.soft.push(batch);
        }
        self.acknowledged(synced);
    }

    /// What is acknowledged is behind all that failed before: that cannot come back.
    fn acknowledged(&mut self, synced: bool) {
        if synced {
            self.0.values_mut().for_each(|stream| stream.maybe.clear());
        }
    }

    /// Batches failed together: nobody knows which of them are on the disk.
    pub fn failed(&mut self, stream: usize, batches: Vec<Batch>) {
        let known = self.stream(stream);
        known.maybe.push((known.soft.len(), batches));
    }

    /// What readers see.
    pub fn live(&self, stream: usize) -> Vec<&Payload> {
        let Some(stream) = self.0.get(&stream) else { return Vec::new() };
        stream.durable.iter().chain(stream.soft.iter().flatten()).collect()
    }

    /// Takes what was found after the log was opened again; `None` where there is no such stream.
    pub fn reopened(
        &mut self,
        stream: usize,
        found: Option<Vec<Payload>>,
        after_cut: bool,
    ) -> Result<(), String> {
        let known = self.stream(stream);
        let Some(found) = found else {
            let lost = known.exists || (!after_cut && !known.soft.is_empty());
            *known = Stream::default();
            return if lost { Err("it is gone".to_owned()) } else { Ok(()) };
        };
        if !found.starts_with(&known.durable) {
            let wrong = known.durable.iter().zip(&found).position(|(a, b)| a != b);
            return Err(match wrong {
                Some(at) => format!("another message at offset {at}"),
                None => format!("{} of {} acknowledged messages", found.len(), known.durable.len()),
            });
        }
        let rest = &found[known.durable.len()..];
        let kept = if after_cut { 0 } else { known.soft.len() };
        let of_soft = (kept..=known.soft.len()).any(|n| is(rest, &[&known.soft[..n]]));
        let of_failed = known.maybe.iter().any(|(soft, batches)| {
            *soft >= kept && (0..=batches.len()).any(|n| is(rest, &[&known.soft[..*soft], &batches[..n]]))
        });
        if !of_soft && !of_failed {
            return Err(format!(
                "{} messages behind the {} acknowledged ones that are not whole batches ({} unsynced, {} failed)",
                rest.len(),
                known.durable.len(),
                known.soft.len(),
                known.maybe.len()
            ));
        }
        *known = Stream { exists: true, durable: found, ..Stream::default() };
        Ok(())
    }
}

fn is(rest: &[Payload], batches: &[&[Batch]]) -> bool {
    rest.iter().eq(batches.iter().flat_map(|batches| batches.iter()).flatten())
}
