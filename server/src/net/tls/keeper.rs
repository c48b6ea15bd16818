//! Keeps certificates up to date: reads their files again when they change or the operator says so.

use std::{sync::Arc, time::Duration};

use super::{BadCertificates, CertificateFiles, Certificates};
use crate::watch::{Cause, Watch};

/// A certificate and its key are replaced one after the other; half of a pair is no good.
const SETTLING: Duration = Duration::from_millis(200);

/// Reads `files`, and puts later versions of them in force from a task of the present runtime.
///
/// # Errors
/// They are not good at the start. Later, bad ones leave the certificates as they are, and the log
/// says why.
pub fn keep(files: CertificateFiles) -> Result<Arc<Certificates>, BadCertificates> {
    let mut watch = Watch::on(files.paths())?;
    let contents = files.read()?;
    let certificates = Arc::new(Certificates::new(files.config(&contents)?));
    let kept = certificates.clone();
    tokio::spawn(async move {
        let mut last = Some(contents);
        let mut complaint = None;
        loop {
            let cause = watch.next().await;
            if cause == Cause::Change {
                tokio::time::sleep(SETTLING).await;
            }
            let read = files.read();
            if cause == Cause::Change && last.is_some() && read.as_ref().ok() == last.as_ref() {
                continue;
            }
            let result = read.and_then(|contents| {
                let contents = last.insert(contents);
                files.config(contents)
            });
            match result {
                Ok(config) => {
                    kept.replace(config);
                    complaint = None;
                    tracing::info!("the certificate of {} is in force", files.certificate.display());
                }
                Err(e) => {
                    let text = e.to_string();
                    // Whatever else happens in its directory, a missing file is told once.
                    if cause == Cause::Hangup || complaint.as_ref() != Some(&text) {
                        tracing::error!("the certificates stay as they were: {text}");
                    }
                    complaint = Some(text);
                }
            }
        }
    });
    Ok(certificates)
}
