//! Keeps the list in force up to date: reads the file again when it changes or the operator says
//! so, and ends tokens when they expire. Between those, it sleeps.

use std::{io, path::Path, sync::Arc};

use super::{BadTokenFile, Entry, Tokens, file::parse};
use crate::{
    operator_file,
    watch::{Cause, Watch},
};

/// What `file` lists.
///
/// # Errors
/// The file is not good.
pub fn read(file: &Path) -> Result<Vec<Entry>, BadTokenFile> {
    parse(&operator_file::read_text(file)?)
}

/// Reads `file`, puts its tokens in force, and keeps them up to date in a task of the present
/// runtime.
///
/// # Errors
/// The file is not good at the start. Later, a bad one leaves the tokens as they are, and the log
/// says why.
pub fn keep(file: &Path) -> Result<Arc<Tokens>, BadTokenFile> {
    let mut watch = Watch::on([file])?;
    let tokens = Arc::new(Tokens::default());
    let text = operator_file::read_text(file)?;
    put_in_force(&tokens, parse(&text)?, file);
    let (kept, file) = (tokens.clone(), file.to_owned());
    tokio::spawn(async move {
        let mut last = Ok(text);
        loop {
            let next_end = kept.expire();
            let expires = async {
                match next_end {
                    Some(time) => tokio::time::sleep(time).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                cause = watch.next() => reload(&kept, &file, cause, &mut last),
                () = expires => {}
            }
        }
    });
    Ok(tokens)
}

/// Reads the file again. What has not changed since the `last` time is told only to who asked.
fn reload(tokens: &Tokens, file: &Path, cause: Cause, last: &mut Result<String, io::ErrorKind>) {
    let text = operator_file::read_text(file);
    let seen = text.as_ref().map(String::clone).map_err(io::Error::kind);
    if seen == *last && cause == Cause::Change {
        return;
    }
    *last = seen;
    match text.map_err(BadTokenFile::from).and_then(|text| parse(&text)) {
        Ok(entries) => {
            put_in_force(tokens, entries, file);
            tracing::info!("{} tokens are in force, from {}", tokens.len(), file.display());
        }
        Err(e) => tracing::error!("the tokens stay as they were, {} is not good: {e}", file.display()),
    }
}

fn put_in_force(tokens: &Tokens, entries: Vec<Entry>, file: &Path) {
    tokens.replace(entries);
    if tokens.is_empty() {
        tracing::warn!("nobody may call: {} lists no token", file.display());
    }
}
