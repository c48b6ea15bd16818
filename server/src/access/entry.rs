//! What is known of a token.

use std::collections::BTreeSet;

use super::Permission;

/// A token as a token file lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "net", derive(serde::Deserialize, serde::Serialize), serde(deny_unknown_fields))]
pub struct Entry {
    /// SHA-256 of the token, 64 lowercase hex digits.
    pub sha256: String,
    /// The tenant whose resources it reaches.
    pub tenant: String,
    /// The namespaces it reaches; empty for all of the tenant's.
    #[cfg_attr(feature = "net", serde(default))]
    pub namespaces: BTreeSet<String>,
    /// What it may do there.
    pub permissions: BTreeSet<Permission>,
    /// When it was made, in unix seconds.
    #[cfg_attr(feature = "net", serde(default))]
    pub created_at: u64,
    /// From when on it is void, in unix seconds; 0 for never.
    #[cfg_attr(feature = "net", serde(default))]
    pub expires_at: u64,
}
