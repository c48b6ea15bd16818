//! Who may call: tokens, what each is good for, and the file that lists them.
//!
//! [`Tokens`] is the list in force; it answers who presents a token and tells holders when theirs
//! ends. The gate asks it at the start of every call, and the services ask the [`Caller`] for
//! permission. Nothing here knows of sockets, and no token is ever stored, shown or logged: only
//! its hash is known. Inside a host's process there is no authentication, so only [`Caller`] is
//! there.

mod caller;
mod entry;
#[cfg(feature = "net")]
mod file;
#[cfg(feature = "net")]
mod keeper;
mod permission;
#[cfg(feature = "net")]
mod token;
#[cfg(feature = "net")]
mod tokens;

pub use caller::Caller;
pub use entry::Entry;
#[cfg(feature = "net")]
pub use file::{BadTokenFile, check, parse, to_toml};
#[cfg(feature = "net")]
pub use keeper::{keep, read};
pub use permission::Permission;
#[cfg(feature = "net")]
pub use token::NewToken;
#[cfg(feature = "net")]
pub use tokens::Tokens;

/// Who knows callers by their tokens.
pub trait Authority: Send + Sync {
    /// Who presents `token`; `None` for nobody that is known, or no longer.
    fn caller(&self, token: &[u8]) -> Option<Caller>;
}
