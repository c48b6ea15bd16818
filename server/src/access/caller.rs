//! Who makes a call, and what that permits.

use std::sync::Arc;

use tokio::sync::watch;
use tonic::Status;

use super::{Entry, Permission};
use crate::resource::ResourceName;

/// A listed token while it is good.
pub(super) struct Grant {
    entry: Entry,
    /// True when the token was revoked or has expired.
    ended: watch::Sender<bool>,
}

#[cfg(feature = "net")]
impl Grant {
    pub fn new(entry: Entry) -> Self {
        Self { entry, ended: watch::Sender::new(false) }
    }

    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    pub fn lives_at(&self, unix_seconds: u64) -> bool {
        self.entry.expires_at == 0 || unix_seconds < self.entry.expires_at
    }

    /// Tells every call under way that its token is void.
    pub fn end(&self) {
        self.ended.send_replace(true);
    }
}

/// The maker of a call, known by its token; or anybody, where authentication is off.
#[derive(Clone)]
pub struct Caller(Option<Arc<Grant>>);

impl Caller {
    /// Anybody: may do everything.
    pub fn anybody() -> Self {
        Self(None)
    }

    #[cfg(feature = "net")]
    pub(super) fn holding(grant: Arc<Grant>) -> Self {
        Self(Some(grant))
    }

    /// PERMISSION_DENIED unless the caller may do that with `resource`.
    pub(crate) fn may(&self, permission: Permission, resource: &ResourceName) -> Result<(), Status> {
        let Some(grant) = &self.0 else { return Ok(()) };
        let entry = &grant.entry;
        let (tenant, namespace) = resource.tenant_and_namespace();
        if tenant != entry.tenant {
            return Err(Status::permission_denied("the token is not for this tenant"));
        }
        if !entry.namespaces.is_empty() && !entry.namespaces.contains(namespace) {
            return Err(Status::permission_denied("the token is not for this namespace"));
        }
        if !entry.permissions.contains(&permission) {
            return Err(Status::permission_denied(format!("the token lacks the permission {permission}")));
        }
        Ok(())
    }

    /// Resolves when the token is revoked or expires; never for anybody.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let watch = self.0.as_ref().map(|grant| grant.ended.subscribe());
        async move {
            if let Some(mut watch) = watch {
                // The sender lives as long as the grant does; its end ends the token too.
                let _ = watch.wait_for(|ended| *ended).await;
            } else {
                std::future::pending().await
            }
        }
    }

    /// Whether calls need no watching.
    pub(crate) fn is_anybody(&self) -> bool {
        self.0.is_none()
    }
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(grant) => write!(f, "a token of {}", grant.entry.tenant),
            None => f.write_str("anybody"),
        }
    }
}
