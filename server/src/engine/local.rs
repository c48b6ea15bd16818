//! The local engine: the segment log for streams beside SQLite for everything else.
//!
//! The two share a directory and nothing more. A damaged database leaves streams in service;
//! only consumer group commits, which live in the database, bring the two together.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Engine, EngineOptions, Follow, Lifecycle, StreamStore, directory::DataDirectory};
use crate::{
    database::{Database, DatabaseOptions, Place},
    disk::{Disk, FileSystem, Memory},
    error::{Error, Result},
    resource::ResourceName,
    streams::{LogOptions, StreamLog},
};

impl Engine {
    /// Opens the data directory (or memory) that `options` names, recovering what a crash left.
    /// Blocks for the recovery.
    pub fn open(options: &EngineOptions) -> Result<Self> {
        let directory = options.data_dir.as_deref().map(DataDirectory::open).transpose()?;
        let (disk, streams): (Arc<dyn Disk>, PathBuf) = match &directory {
            Some(directory) => (Arc::new(FileSystem), directory.streams()),
            None => (Arc::new(Memory::new()), Path::new("streams").to_owned()),
        };
        let log = LogOptions {
            fsync: options.fsync,
            create: options.create,
            max_streams: options.max_resources,
            clock: options.clock.clone(),
            ..LogOptions::default()
        };
        let database = DatabaseOptions {
            place: directory.as_ref().map(|directory| Place::file(directory.database())),
            fsync: options.fsync,
            create: options.create,
            max_resources: options.max_resources,
            max_groups: options.max_groups,
            clock: options.clock.clone(),
            ..DatabaseOptions::default()
        };
        let log = StreamLog::open(disk, &streams, log)?;
        let local = Local::of(log, Database::open(database)?, directory);
        Ok(Self::of(&Arc::new(local)))
    }

    pub(crate) fn of(local: &Arc<Local>) -> Self {
        Self {
            streams: local.clone(),
            queues: local.database.clone(),
            kv: local.database.clone(),
            lifecycle: local.clone(),
        }
    }
}

/// The stream log and the database of one place.
pub(crate) struct Local {
    pub(crate) log: StreamLog,
    pub(crate) database: Arc<Database>,
    /// Last, so that the directory is given up after all else is closed.
    directory: Mutex<Option<DataDirectory>>,
}

impl Lifecycle for Local {
    fn is_ready(&self) -> bool {
        self.database.is_ready()
    }

    fn close(&self) {
        self.log.close();
        self.database.close();
        self.directory.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.close();
    }
}

impl Local {
    pub(crate) fn of(log: StreamLog, database: Database, directory: Option<DataDirectory>) -> Self {
        Self { log, database: Arc::new(database), directory: Mutex::new(directory) }
    }

    /// Commits are in the database, which does not know which streams there are.
    fn must_exist(&self, stream: &ResourceName) -> Result<()> {
        if self.log.exists(stream) { Ok(()) } else { Err(Error::not_found(format!("no stream {stream}"))) }
    }
}

#[async_trait]
impl StreamStore for Local {
    async fn append(&self, stream: &ResourceName, events: Vec<Bytes>) -> Result<i64> {
        self.log.append(stream, events).await
    }

    async fn read(
        &self,
        stream: &ResourceName,
        offset: i64,
        max_messages: usize,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>> {
        self.log.read(stream, offset, max_messages, max_bytes)
    }

    async fn latest(&self, stream: &ResourceName) -> Result<i64> {
        self.log.latest(stream)
    }

    async fn follow(&self, stream: &ResourceName) -> Result<Box<dyn Follow>> {
        Ok(Box::new(self.log.follow(stream).await?))
    }

    async fn commit(&self, stream: &ResourceName, group: &str, offset: i64) -> Result<()> {
        self.must_exist(stream)?;
        self.database.commit_offset(stream, group, offset).await
    }

    async fn committed(&self, stream: &ResourceName, group: &str) -> Result<i64> {
        self.must_exist(stream)?;
        self.database.committed_offset(stream, group).await
    }
}
