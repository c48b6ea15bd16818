//! How to open a client, and how to make one call.

use std::{path::PathBuf, time::Duration};

use super::{
    cancel::CancelToken,
    error::{Error, Result},
    secret::Secret,
    tls::TlsOptions,
    trace::TraceContext,
};

/// The endpoint when neither the options nor `FLOWMESH_ENDPOINT` name one.
pub const DEFAULT_ENDPOINT: &str = "localhost:50051";

/// When an embedded engine has a write on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fsync {
    /// Before the call returns: it survives a power cut.
    #[default]
    Always,
    /// At most this long afterwards; a crash of the process loses nothing.
    Interval(Duration),
    /// When the system likes; a crash of the process loses nothing.
    None,
}

/// How to open a [`Client`](super::Client).
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// `None`: the environment's `FLOWMESH_ENDPOINT`, else [`DEFAULT_ENDPOINT`].
    pub endpoint: Option<String>,
    /// `None`, and no `auth_token_file`: the environment's `FLOWMESH_AUTH_TOKEN`, else what is in
    /// the file that its `FLOWMESH_AUTH_TOKEN_FILE` names, else no token. Empty: no token. An
    /// embedded engine takes none, and the environment's does not count there.
    pub auth_token: Option<Secret>,
    /// In place of `auth_token`: a file that holds it. It is read by the first call, and again when
    /// the server refuses what it held.
    pub auth_token_file: Option<PathBuf>,
    /// Whether the token may go unencrypted to another machine. So it may too when the environment's
    /// `FLOWMESH_ALLOW_PLAINTEXT_TOKEN` is 1.
    pub allow_plaintext_token: bool,
    /// For `https://` endpoints only.
    pub tls: TlsOptions,
    /// Time for a call whose own options do not say; `None` for no limit.
    pub timeout: Option<Duration>,
    /// Time to make a connection.
    pub connect_timeout: Duration,
    /// Largest reply accepted, in bytes.
    pub max_message_bytes: usize,
    /// Whether a blocking call may look for its reply, for some microseconds, before it sleeps. See
    /// [`crate::client`].
    pub spin: bool,
    /// Embedded only: when writes are on disk. Who opens a directory first decides.
    pub fsync: Fsync,
    /// Embedded only: whether calls that need a stream, queue or store create it. Who opens a
    /// directory first decides.
    pub create: bool,
    /// `embedded:` in memory only: time stands still until
    /// [`advance_test_clock`](super::Client::advance_test_clock).
    pub test_clock: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            auth_token: None,
            auth_token_file: None,
            allow_plaintext_token: false,
            tls: TlsOptions::default(),
            timeout: Some(Duration::from_secs(30)),
            connect_timeout: Duration::from_secs(10),
            max_message_bytes: 256 << 20,
            spin: true,
            fsync: Fsync::Always,
            create: true,
            test_clock: false,
        }
    }
}

/// How long a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Timeout {
    /// As long as the client's options say.
    #[default]
    Default,
    /// As long as it takes.
    Never,
    /// This long.
    After(Duration),
}

impl Timeout {
    /// `timeout_ms` of call options: 0 is the client's default, -1 no limit.
    pub fn of_call_ms(ms: i64) -> Result<Self> {
        match u64::try_from(ms) {
            Ok(0) => Ok(Self::Default),
            Ok(ms) => Ok(Self::After(Duration::from_millis(ms))),
            Err(_) if ms == -1 => Ok(Self::Never),
            Err(_) => Err(Error::invalid(format!(
                "timeout_ms must be -1 (no limit), 0 (the client's default) or above, got {ms}"
            ))),
        }
    }

    /// `timeout_ms` of a wait: 0 does not wait, -1 waits for ever.
    pub fn of_wait_ms(ms: i64) -> Result<Self> {
        match u64::try_from(ms) {
            Ok(ms) => Ok(Self::After(Duration::from_millis(ms))),
            Err(_) if ms == -1 => Ok(Self::Never),
            Err(_) => Err(Error::invalid(format!(
                "timeout_ms must be -1 (for ever), 0 (do not wait) or above, got {ms}"
            ))),
        }
    }
}

/// How to make one call.
#[derive(Debug, Clone, Default)]
pub struct CallOptions {
    /// How long it may take; a call that waits for jobs may take this on top of its wait.
    pub timeout: Timeout,
    /// Ends the call from another thread.
    pub cancel: Option<CancelToken>,
    /// Ends this one call: what its handle cancels, where it was started asynchronously.
    pub operation: Option<CancelToken>,
    /// The trace that it belongs to: goes to the server with the call, and into the headers of
    /// what it stores unless the application named a trace there.
    pub trace: Option<TraceContext>,
}

impl CallOptions {
    /// Whether the caller has cancelled already.
    pub(crate) fn is_cancelled(&self) -> bool {
        [&self.cancel, &self.operation].into_iter().flatten().any(CancelToken::is_cancelled)
    }

    /// The time given, where `default` is the client's.
    pub(crate) fn time(&self, default: Option<Duration>) -> Option<Duration> {
        match self.timeout {
            Timeout::Default => default,
            Timeout::Never => None,
            Timeout::After(time) => Some(time),
        }
    }
}
