//! The six permissions of the contract.

use std::{fmt, str::FromStr};

/// What a token may be good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "net", derive(serde::Deserialize, serde::Serialize))]
pub enum Permission {
    /// Read values and list keys.
    #[cfg_attr(feature = "net", serde(rename = "kv.read"))]
    KvRead,
    /// Set and delete values.
    #[cfg_attr(feature = "net", serde(rename = "kv.write"))]
    KvWrite,
    /// Lease jobs, give them back, look at queues.
    #[cfg_attr(feature = "net", serde(rename = "queue.read"))]
    QueueRead,
    /// Enqueue, set policies, replay dead letters.
    #[cfg_attr(feature = "net", serde(rename = "queue.write"))]
    QueueWrite,
    /// Read, subscribe and commit.
    #[cfg_attr(feature = "net", serde(rename = "stream.read"))]
    StreamRead,
    /// Write events.
    #[cfg_attr(feature = "net", serde(rename = "stream.write"))]
    StreamWrite,
}

impl Permission {
    /// Each of them.
    pub const ALL: [Self; 6] =
        [Self::KvRead, Self::KvWrite, Self::QueueRead, Self::QueueWrite, Self::StreamRead, Self::StreamWrite];

    /// As the contract writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KvRead => "kv.read",
            Self::KvWrite => "kv.write",
            Self::QueueRead => "queue.read",
            Self::QueueWrite => "queue.write",
            Self::StreamRead => "stream.read",
            Self::StreamWrite => "stream.write",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Permission {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|p| p.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            format!("unknown permission, want one of {names}")
        })
    }
}

#[cfg(all(test, feature = "net"))]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_a_file_is_that_of_the_contract() {
        for permission in Permission::ALL {
            let text = as_in_a_file(permission);
            assert_eq!(text, permission.as_str());
            assert_eq!(text.parse(), Ok(permission));
        }
        assert!("stream".parse::<Permission>().is_err());
    }

    fn as_in_a_file(permission: Permission) -> String {
        let list = toml::to_string(&std::collections::BTreeMap::from([("p", permission)])).expect("a table");
        list.trim().trim_start_matches("p = ").trim_matches('"').to_owned()
    }
}
