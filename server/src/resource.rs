//! Names of streams, queues and KV stores.

use std::fmt;

/// The three kinds of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceKind {
    /// An ordered log.
    Stream,
    /// A job queue.
    Queue,
    /// A key-value store.
    Kv,
}

impl ResourceKind {
    /// The literal `resource_type` of the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Queue => "queue",
            Self::Kv => "kv",
        }
    }
}

/// A canonical path, `tenant/namespace/resource_type/name`: checked when it was made, compared
/// byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceName(String);

impl ResourceName {
    /// Joins parts that keep the rules of the contract (the services check them): no `/` in
    /// tenant and namespace, so the text is unambiguous.
    pub fn new(tenant: &str, namespace: &str, kind: ResourceKind, name: &str) -> Self {
        Self(format!("{tenant}/{namespace}/{}/{name}", kind.as_str()))
    }

    /// Takes a canonical path back from storage.
    pub fn from_stored(path: String) -> Self {
        Self(path)
    }

    /// The path of this queue's dead-letter queue.
    pub fn dead_letters(&self) -> Self {
        Self(format!("{}-dlq", self.0))
    }

    /// The path of the queue whose dead-letter queue this would be.
    pub fn source_of_dead_letters(&self) -> Option<Self> {
        Some(Self(self.0.strip_suffix("-dlq")?.to_owned()))
    }

    /// Its first two parts, which hold no `/`.
    pub fn tenant_and_namespace(&self) -> (&str, &str) {
        let mut parts = self.0.splitn(3, '/');
        (parts.next().unwrap_or(""), parts.next().unwrap_or(""))
    }

    /// The canonical path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
