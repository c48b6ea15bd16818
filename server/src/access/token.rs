//! One token: its hash, and how a new one is made.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Entry;

/// Random bytes in a new token.
const SECRET_BYTES: usize = 32;
/// What a token starts with, so that scanners for leaked secrets find it.
const PREFIX: &str = "fm_";

/// SHA-256 of a token. Not secret, and compared in constant time all the same.
#[derive(Clone, Copy)]
pub(super) struct Hash([u8; 32]);

impl Hash {
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// From 64 hex digits.
    pub fn parse(hex: &str) -> Option<Self> {
        let digits = hex.as_bytes();
        if digits.len() != 64 || !digits.iter().all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// Where entries of this hash are looked up.
    pub fn shard(self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }

    pub fn is(self, other: Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A token that was just made. Shown once, then only its hash is left.
pub struct NewToken {
    /// What the client presents.
    pub secret: String,
    /// What goes into the token file.
    pub entry: Entry,
}

impl NewToken {
    /// Makes one; `entry` says what for, and its hash is filled in.
    ///
    /// # Errors
    /// The system's source of random bytes failed.
    pub fn make(mut entry: Entry) -> Result<Self, getrandom::Error> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes)?;
        let mut secret = PREFIX.to_owned();
        for byte in bytes {
            secret.push_str(&format!("{byte:02x}"));
        }
        entry.sha256 = Hash::of(secret.as_bytes()).to_string();
        Ok(Self { secret, entry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_as_it_is_written() {
        let hash = Hash::of(b"abc");
        let text = hash.to_string();
        assert_eq!(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(Hash::parse(&text).is_some_and(|same| same.is(hash)));
        assert!(!Hash::of(b"abd").is(hash));
        for bad in ["", &text[1..], &text.to_uppercase(), &text.replace('b', "g")] {
            assert!(Hash::parse(bad).is_none(), "{bad}");
        }
    }
}
