//! Keeps the list in force up to date: reads the file again when it changes or the operator says
//! so, and ends tokens when they expire. Between those, it sleeps.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use notify::{RecursiveMode, Watcher};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
};

use super::{BadTokenFile, Tokens, read};

/// Reads `file`, puts its tokens in force, and keeps them up to date in a task of the present
/// runtime.
///
/// # Errors
/// The file is not good at the start. Later, a bad one leaves the tokens as they are, and the log
/// says why.
pub fn keep(file: &Path) -> Result<Arc<Tokens>, BadTokenFile> {
    // Watched before it is read, so that no change in between is missed.
    let changed = Arc::new(Notify::new());
    let watcher = watch(file, changed.clone());
    let tokens = Arc::new(Tokens::default());
    tokens.replace(read(file)?);
    let mut hangup = signal(SignalKind::hangup())?;
    let (kept, file) = (tokens.clone(), file.to_owned());
    tokio::spawn(async move {
        // It watches as long as it lives.
        let _watcher = watcher;
        loop {
            let next_end = kept.expire();
            let expires = async {
                match next_end {
                    Some(time) => tokio::time::sleep(time).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed.notified() => reload(&kept, &file),
                Some(()) = hangup.recv() => reload(&kept, &file),
                () = expires => {}
            }
        }
    });
    Ok(tokens)
}

fn reload(tokens: &Tokens, file: &Path) {
    match read(file) {
        Ok(entries) => {
            tokens.replace(entries);
            tracing::info!("{} tokens are in force, from {}", tokens.len(), file.display());
        }
        Err(e) => tracing::error!("the tokens stay as they were, {} is not good: {e}", file.display()),
    }
}

/// Tells of every change. Editors and secret mounts replace a file or the link to it, so its
/// directory is watched. Without a watcher, SIGHUP is left.
fn watch(file: &Path, changed: Arc<Notify>) -> Option<impl Watcher + use<>> {
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let on_event = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|e| !e.kind.is_access()) {
            changed.notify_one();
        }
    };
    let watcher = notify::recommended_watcher(on_event).and_then(|mut watcher| {
        watcher.watch(&directory, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watcher
        .inspect_err(|e| {
            tracing::warn!("changes of {} are not seen, send SIGHUP: {e}", file.display());
        })
        .ok()
}
