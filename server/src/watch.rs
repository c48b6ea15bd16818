//! Tells when files may have changed, or the operator asks by SIGHUP to read them again. What they
//! hold is its users' affair.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};

/// Watches files as long as it lives.
pub(crate) struct Watch {
    changed: Arc<Notify>,
    hangup: Signal,
    /// `None` where the system has no watch to give: SIGHUP is left.
    _watcher: Option<RecommendedWatcher>,
}

/// Why to read files again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Something has changed near them, perhaps in them.
    Change,
    /// The operator asked for it.
    Hangup,
}

impl Watch {
    /// Watches from now on: files that are read afterwards have no unseen change.
    ///
    /// # Errors
    /// The process has no runtime that handles signals.
    pub fn on<'a>(files: impl IntoIterator<Item = &'a Path>) -> io::Result<Self> {
        let changed = Arc::new(Notify::new());
        let watcher = watcher(&directories(files), changed.clone());
        Ok(Self { changed, hangup: signal(SignalKind::hangup())?, _watcher: watcher })
    }

    /// Waits for a reason to read the files again. Several changes may be one.
    pub async fn next(&mut self) -> Cause {
        tokio::select! {
            () = self.changed.notified() => Cause::Change,
            Some(()) = self.hangup.recv() => Cause::Hangup,
        }
    }
}

/// Editors and secret mounts replace a file or a link to it: only the directory sees that.
fn directories<'a>(files: impl IntoIterator<Item = &'a Path>) -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = files
        .into_iter()
        .map(|file| match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        })
        .collect();
    directories.sort();
    directories.dedup();
    directories
}

fn watcher(directories: &[PathBuf], changed: Arc<Notify>) -> Option<RecommendedWatcher> {
    let on_event = move |event: notify::Result<Event>| {
        if event.is_ok_and(|e| matters(&e)) {
            changed.notify_one();
        }
    };
    let watcher = notify::recommended_watcher(on_event).and_then(|mut watcher| {
        for directory in directories {
            watcher.watch(directory, RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    });
    watcher.inspect_err(|e| tracing::warn!("changes of files are not seen, send SIGHUP after them: {e}")).ok()
}

/// A file counts when its writer closes it: before, it may be empty, or half of what it will be.
fn matters(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(_))
        | EventKind::Remove(_) => true,
        EventKind::Create(CreateKind::Folder) => false,
        // Links are complete as soon as they are there.
        EventKind::Create(_) => event.paths.iter().any(|path| path.is_symlink()),
        // The queue of events ran over.
        _ => event.need_rescan(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, os::unix::fs::symlink, time::Duration};

    use super::*;

    async fn told(watch: &mut Watch) {
        let cause = tokio::time::timeout(Duration::from_secs(60), watch.next()).await;
        assert_eq!(cause, Ok(Cause::Change));
    }

    #[tokio::test]
    async fn every_way_to_replace_a_file_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let (file, other) = (dir.path().join("file"), dir.path().join("other"));
        fs::write(&other, "1").unwrap();
        symlink(&other, &file).unwrap();
        let mut watch = Watch::on([file.as_path()]).unwrap();
        let mut open = fs::File::create(&other).unwrap();
        open.write_all(b"2").unwrap();
        drop(open);
        told(&mut watch).await;
        fs::rename(&other, dir.path().join("third")).unwrap();
        told(&mut watch).await;
        fs::remove_file(&file).unwrap();
        told(&mut watch).await;
        symlink("third", &file).unwrap();
        told(&mut watch).await;
    }

    #[test]
    fn a_file_that_is_being_written_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log");
        fs::write(&file, "x").unwrap();
        let event = |kind| Event::new(kind).add_path(file.clone());
        assert!(!matters(&event(EventKind::Create(CreateKind::File))));
        assert!(!matters(&event(EventKind::Modify(ModifyKind::Any))));
        assert!(!matters(&event(EventKind::Access(AccessKind::Read))));
    }
}
