//! What is there against what was promised.

use bytes::Bytes;

use super::{
    calls::{boxed, together},
    tables::{Queue, Tables},
    world::{Found, STREAMS, World},
};
use crate::resource::ResourceName;

impl World {
    /// Compares what callers see with what was promised, while the engine runs.
    pub(super) fn look(&mut self) -> Found<()> {
        let fired = self.disk.fired();
        let running = self.running()?;
        for stream in 0..STREAMS {
            match running.read(stream) {
                Ok(found) if found.iter().flatten().eq(self.streams.live(stream)) => {}
                Ok(found) => {
                    let (found, wanted) = (found.map_or(0, |f| f.len()), self.streams.live(stream).len());
                    return Err(format!("stream {stream} reads {found} messages, wanted {wanted}"));
                }
                Err(_) if self.disk.is_off() || self.disk.fired() > fired => return Ok(()),
                Err(e) => return Err(format!("stream {stream}: {e}")),
            }
        }
        if running.engine.is_ready() && self.refusals == 0 {
            let found = match running.local.database.look(Tables::read) {
                Ok(found) => found?,
                Err(_) if self.disk.is_off() || self.disk.fired() > fired => return Ok(()),
                Err(e) => return Err(e.to_string()),
            };
            same(&found.at(self.now()), &self.tables.live().at(self.now()))?;
        }
        Ok(())
    }

    /// Checks everything after the engine was opened.
    pub(super) fn check(&mut self, after_cut: bool) -> Found<()> {
        let now = self.now();
        self.refusals = 0;
        let running = self.running()?;
        if let Some(damage) = running.local.log.damage().first() {
            return Err(format!("damage is reported where none was done: {damage}"));
        }
        let mut streams = Vec::new();
        for stream in 0..STREAMS {
            streams.push(running.read(stream).map_err(|e| format!("stream {stream}: {e}"))?);
        }
        let database = &running.local.database;
        let sound =
            database.look(|conn| conn.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)));
        match sound {
            Ok(text) if text == "ok" => {}
            Ok(text) => return Err(format!("the database is damaged: {text}")),
            Err(e) => return Err(e.to_string()),
        }
        let found = database.look(Tables::read).map_err(|e| e.to_string())??;
        for ((store, key), (value, _)) in &found.at(now).values {
            let store = ResourceName::from_stored(store.clone());
            let read = together(
                vec![boxed({
                    let (engine, key) = (running.engine.clone(), key.clone());
                    async move { engine.kv.get(&store, &key).await }
                })],
                (),
            );
            if read != [Ok(Some(Bytes::copy_from_slice(value)))] {
                return Err(format!("key {key:?} reads {read:?}"));
            }
        }
        for (stream, found) in streams.into_iter().enumerate() {
            self.streams
                .reopened(stream, found, after_cut)
                .map_err(|e| format!("stream {stream} after {}: {e}", ending(after_cut)))?;
        }
        let wanted = self.tables.live().clone();
        if !self.tables.reopened(found.clone(), after_cut, now) {
            let difference = same(&found, &wanted.at(now)).err().unwrap_or_default();
            return Err(format!("the database after {}: {difference}", ending(after_cut)));
        }
        Ok(())
    }
}

fn ending(after_cut: bool) -> &'static str {
    if after_cut { "a cut" } else { "a restart" }
}

fn same(found: &Tables, wanted: &Tables) -> Found<()> {
    if found == wanted {
        return Ok(());
    }
    let mut differences = Vec::new();
    for id in found.queues.keys().chain(wanted.queues.keys()) {
        let (a, b) = (found.queues.get(id), wanted.queues.get(id));
        if a != b {
            differences.push(format!("queue {id} is {}, was {}", brief(a), brief(b)));
        }
    }
    for key in found.values.keys().chain(wanted.values.keys()) {
        let (a, b) = (found.values.get(key), wanted.values.get(key));
        if a != b {
            let brief = |v: Option<&(Vec<u8>, Option<i64>)>| v.map(|(v, at)| (v.len(), *at));
            differences.push(format!("{key:?} is {:?}, was {:?}", brief(a), brief(b)));
        }
    }
    if found.commits != wanted.commits {
        differences.push(format!("commits are {:?}, were {:?}", found.commits, wanted.commits));
    }
    differences.dedup();
    Err(differences.join("; "))
}

fn brief(queue: Option<&Queue>) -> String {
    let Some(queue) = queue else { return "missing".to_owned() };
    let jobs: Vec<String> =
        queue.jobs.iter().map(|(seq, job)| format!("{seq}:{}x {:?}", job.attempts, job.place)).collect();
    format!("next {} done {} failed {} [{}]", queue.next_seq, queue.completed, queue.failed, jobs.join(", "))
}
