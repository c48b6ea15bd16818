//! The settings of the server: from flags, the environment and a file, each only once described.
//!
//! All are optional where they come from; [`Settings::or`] puts sources over each other, and
//! [`Settings::in_force`] fills in the defaults.

use std::{
    fmt::{self, Display},
    num::NonZeroU32,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use clap::{Args, ValueEnum, builder::FalseyValueParser};
use flowmesh_server::{
    FsyncPolicy,
    limits::Limits,
    net::{Address, CertificateFiles},
    operator_file,
    services::DEFAULT_MAX_MESSAGE_BYTES,
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, SeqAccess, Visitor, value::SeqAccessDeserializer},
};
use tracing::level_filters::LevelFilter;

/// A name costs a few hundred bytes of memory.
const DEFAULT_MAX_RESOURCES: u32 = 100_000;
/// A commit takes a few hundred bytes of the disk, 2 KiB when its names are as long as they may be.
const DEFAULT_MAX_GROUPS: u32 = 100_000;

/// What can be set.
#[derive(Debug, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where to listen: IP:PORT, localhost:PORT or unix:PATH. May be repeated; in the environment,
    /// several are separated by commas, in the file they are a list. Default 127.0.0.1:50051.
    #[arg(long, value_name = "ADDRESS", env = "FLOWMESH_LISTEN", value_delimiter = ',')]
    #[serde(deserialize_with = "from_texts")]
    pub listen: Option<Vec<Address>>,

    /// Directory that holds everything; made when missing. Default flowmesh-data.
    #[arg(long, value_name = "DIR", env = "FLOWMESH_DATA_DIR")]
    pub data_dir: Option<PathBuf>,

    /// When an acknowledged write is on disk: `always` before its reply (the default),
    /// `interval[:MS]` at most that many milliseconds after it (100), `none` when the system likes.
    #[arg(long, value_name = "POLICY", env = "FLOWMESH_FSYNC")]
    #[serde(deserialize_with = "from_text")]
    pub fsync: Option<FsyncPolicy>,

    /// Largest request message in bytes. Default 4194304.
    #[arg(
        long,
        value_name = "BYTES",
        env = "FLOWMESH_MAX_MESSAGE_BYTES",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub max_message_bytes: Option<u32>,

    /// Largest head of a request, in bytes, 32 per field beside its text. Default 16384.
    #[arg(long, value_name = "BYTES", env = "FLOWMESH_MAX_HEADER_BYTES")]
    pub max_header_bytes: Option<NonZeroU32>,

    /// Open connections; one more is told so and closed. Default 10000.
    #[arg(long, value_name = "NUMBER", env = "FLOWMESH_MAX_CONNECTIONS")]
    pub max_connections: Option<NonZeroU32>,

    /// Calls of one connection at a time, subscriptions and long polls among them; clients keep further
    /// ones back. Default 1024.
    #[arg(long, value_name = "NUMBER", env = "FLOWMESH_MAX_CALLS")]
    pub max_calls: Option<NonZeroU32>,

    /// Open subscriptions of one tenant. Default 10000.
    #[arg(long, value_name = "NUMBER", env = "FLOWMESH_MAX_SUBSCRIPTIONS")]
    pub max_subscriptions: Option<NonZeroU32>,

    /// Waiting long polls of one tenant. Default 10000.
    #[arg(long, value_name = "NUMBER", env = "FLOWMESH_MAX_WAITERS")]
    pub max_waiters: Option<NonZeroU32>,

    /// Streams, queues and stores, each, that a tenant may have. Default 100000.
    #[arg(long, value_name = "NUMBER", env = "FLOWMESH_MAX_RESOURCES")]
    pub max_resources: Option<NonZeroU32>,

    /// Consumer groups of one tenant, counted once for each stream they commit to. Default 100000.
    #[arg(long, value_name = "NUMBER", env = "FLOWMESH_MAX_GROUPS")]
    pub max_groups: Option<NonZeroU32>,

    /// Memory for replies that are not read and requests that are not finished; above it, those who
    /// hold the most lose theirs. Default 268435456.
    #[arg(long, value_name = "BYTES", env = "FLOWMESH_MAX_BUFFERED_BYTES")]
    pub max_buffered_bytes: Option<NonZeroU32>,

    /// HTTP/2 frames without content (pings, resets, settings ...) per second of one connection; one
    /// that sends more is closed. Default 1000.
    #[arg(long, value_name = "NUMBER", env = "FLOWMESH_MAX_CONTROL_FRAMES")]
    pub max_control_frames: Option<NonZeroU32>,

    /// Time for a new connection to get ready for calls. Default 10.
    #[arg(long, value_name = "SECONDS", env = "FLOWMESH_HANDSHAKE_TIMEOUT")]
    pub handshake_timeout: Option<NonZeroU32>,

    /// After this long without a call a connection is closed; 0 for never. Default 3600.
    #[arg(long, value_name = "SECONDS", env = "FLOWMESH_IDLE_TIMEOUT")]
    pub idle_timeout: Option<u32>,

    /// After this long without a word a peer is asked whether it lives, and cut off unless it answers
    /// within 20 seconds; 0 for never. Default 120.
    #[arg(long, value_name = "SECONDS", env = "FLOWMESH_KEEPALIVE")]
    pub keepalive: Option<u32>,

    /// Do not create streams, queues and stores on first use; calls that need one answer NOT_FOUND.
    #[arg(
        long,
        env = "FLOWMESH_NO_CREATE",
        value_name = "YES",
        value_parser = FalseyValueParser::new(),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub no_create: Option<bool>,

    /// Who may call: a file of tokens, as `flowmesh-server token new` makes them. Read again when it
    /// changes and on SIGHUP. Without it, anybody may call.
    #[arg(long, value_name = "FILE", env = "FLOWMESH_TOKENS")]
    pub tokens: Option<PathBuf>,

    /// Certificate of the server, PEM, followed by those that lead to its authority: TCP connections
    /// then need TLS (unix sockets have none). Read again, with the key and the authorities, when it
    /// changes and on SIGHUP.
    #[arg(long, value_name = "FILE", env = "FLOWMESH_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the certificate, PEM.
    #[arg(long, value_name = "FILE", env = "FLOWMESH_TLS_KEY")]
    pub tls_key: Option<PathBuf>,

    /// Authorities of clients, PEM: a client must then show a certificate by one of them.
    #[arg(long, value_name = "FILE", env = "FLOWMESH_TLS_CLIENT_CA")]
    pub tls_client_ca: Option<PathBuf>,

    /// Listen beyond this machine although callers are not authenticated.
    #[arg(
        long,
        env = "FLOWMESH_INSECURE",
        value_name = "YES",
        value_parser = FalseyValueParser::new(),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub insecure: Option<bool>,

    /// How much to log, to stderr. Default info.
    #[arg(long, value_name = "LEVEL", env = "FLOWMESH_LOG_LEVEL")]
    pub log_level: Option<LogLevel>,

    /// Form of log lines. Default text.
    #[arg(long, value_name = "FORMAT", env = "FLOWMESH_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// Takes every field from `self` where it is set, else from the other.
macro_rules! either {
    ($first:ident, $second:ident: $($field:ident),+) => {
        Settings { $($field: $first.$field.or($second.$field)),+ }
    };
}

impl Settings {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is not such a file; the text says where.
    pub fn read(file: &Path) -> Result<Self, String> {
        let text = operator_file::read_text(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let settings: Self = toml::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))?;
        if settings.max_message_bytes == Some(0) {
            return Err(format!("{}: max_message_bytes must be above 0", file.display()));
        }
        Ok(settings)
    }

    /// These, and where they say nothing, the others.
    pub fn or(self, other: Self) -> Self {
        either!(self, other: listen, data_dir, fsync, max_message_bytes, max_header_bytes, max_connections, max_calls, max_subscriptions, max_waiters, max_resources, max_groups, max_buffered_bytes, max_control_frames, handshake_timeout, idle_timeout, keepalive, no_create, tokens, tls_cert, tls_key, tls_client_ca, insecure, log_level, log_format)
    }

    /// With the defaults where nothing is said.
    pub fn in_force(self) -> InForce {
        let limits = Limits::default();
        let seconds = |time: Option<Duration>| time.map_or(0, |time| time.as_secs() as u32);
        InForce {
            listen: self.listen.unwrap_or_else(|| vec![Address::default()]),
            data_dir: self.data_dir.unwrap_or_else(|| "flowmesh-data".into()),
            fsync: self.fsync.unwrap_or_default(),
            max_message_bytes: self.max_message_bytes.unwrap_or(DEFAULT_MAX_MESSAGE_BYTES as u32),
            max_header_bytes: self.max_header_bytes.map_or(limits.max_header_bytes, NonZeroU32::get),
            max_connections: self.max_connections.map_or(limits.max_connections as u32, NonZeroU32::get),
            max_calls: self.max_calls.map_or(limits.max_calls, NonZeroU32::get),
            max_subscriptions: self
                .max_subscriptions
                .map_or(limits.max_subscriptions as u32, NonZeroU32::get),
            max_waiters: self.max_waiters.map_or(limits.max_waiters as u32, NonZeroU32::get),
            max_resources: self.max_resources.map_or(DEFAULT_MAX_RESOURCES, NonZeroU32::get),
            max_groups: self.max_groups.map_or(DEFAULT_MAX_GROUPS, NonZeroU32::get),
            max_buffered_bytes: self
                .max_buffered_bytes
                .map_or(limits.max_buffered_bytes as u32, NonZeroU32::get),
            max_control_frames: self.max_control_frames.map_or(limits.max_control_frames, NonZeroU32::get),
            handshake_timeout: self
                .handshake_timeout
                .map_or(seconds(Some(limits.handshake_timeout)), NonZeroU32::get),
            idle_timeout: self.idle_timeout.unwrap_or(seconds(limits.idle_timeout)),
            keepalive: self.keepalive.unwrap_or(seconds(limits.keepalive)),
            no_create: self.no_create.unwrap_or_default(),
            tokens: self.tokens,
            tls_cert: self.tls_cert,
            tls_key: self.tls_key,
            tls_client_ca: self.tls_client_ca,
            insecure: self.insecure.unwrap_or_default(),
            log_level: self.log_level.unwrap_or_default(),
            log_format: self.log_format.unwrap_or_default(),
        }
    }
}

/// The settings in force; see [`Settings`].
#[derive(Debug, Serialize)]
pub struct InForce {
    #[serde(serialize_with = "to_texts")]
    pub listen: Vec<Address>,
    pub data_dir: PathBuf,
    #[serde(serialize_with = "to_text")]
    pub fsync: FsyncPolicy,
    pub max_message_bytes: u32,
    pub max_header_bytes: u32,
    pub max_connections: u32,
    pub max_calls: u32,
    pub max_subscriptions: u32,
    pub max_waiters: u32,
    pub max_resources: u32,
    pub max_groups: u32,
    pub max_buffered_bytes: u32,
    pub max_control_frames: u32,
    pub handshake_timeout: u32,
    pub idle_timeout: u32,
    pub keepalive: u32,
    pub no_create: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_client_ca: Option<PathBuf>,
    pub insecure: bool,
    pub log_level: LogLevel,
    pub log_format: LogFormat,
}

impl InForce {
    /// The limits of the network server.
    pub fn limits(&self) -> Limits {
        let unless_zero = |seconds: u32| (seconds > 0).then(|| Duration::from_secs(seconds.into()));
        Limits {
            max_message_bytes: self.max_message_bytes as usize,
            max_header_bytes: self.max_header_bytes,
            max_connections: self.max_connections as usize,
            max_calls: self.max_calls,
            max_subscriptions: self.max_subscriptions as usize,
            max_waiters: self.max_waiters as usize,
            max_buffered_bytes: self.max_buffered_bytes as usize,
            max_control_frames: self.max_control_frames,
            handshake_timeout: Duration::from_secs(self.handshake_timeout.into()),
            idle_timeout: unless_zero(self.idle_timeout),
            keepalive: unless_zero(self.keepalive),
        }
    }

    /// As a file would have them.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("texts, numbers and lists of texts are TOML")
    }

    /// The files for TLS; `None` without it.
    ///
    /// # Errors
    /// Some are named and others that they need are not; the text is the rule.
    pub fn certificates(&self) -> Result<Option<CertificateFiles>, &'static str> {
        let client_authorities = self.tls_client_ca.clone();
        match (self.tls_cert.clone(), self.tls_key.clone()) {
            (Some(certificate), Some(key)) => {
                Ok(Some(CertificateFiles { certificate, key, client_authorities }))
            }
            (None, None) if client_authorities.is_none() => Ok(None),
            _ => Err("TLS needs both --tls-cert and --tls-key; --tls-client-ca comes on top of them"),
        }
    }

    /// The address that other machines can reach although nobody is asked who they are.
    pub fn exposed(&self) -> Option<&Address> {
        if self.insecure || self.tokens.is_some() || self.tls_client_ca.is_some() {
            return None;
        }
        self.listen.iter().find(|address| !address.is_local())
    }

    /// The address at which tokens can be read on their way.
    pub fn unencrypted(&self) -> Option<&Address> {
        if self.tokens.is_none() || self.tls_cert.is_some() {
            return None;
        }
        self.listen.iter().find(|address| !address.is_local())
    }
}

/// Levels of the log.
#[derive(Debug, Clone, Copy, Default, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// Forms of log lines.
#[derive(Debug, Clone, Copy, Default, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// A value that a file has as its text.
fn from_text<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(from: D) -> Result<Option<T>, D::Error> {
    String::deserialize(from)?.parse().map(Some).map_err(D::Error::custom)
}

fn from_texts<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(
    from: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let parse = |text: String| text.parse().map_err(D::Error::custom);
    from.deserialize_any(Texts)?.into_iter().map(parse).collect::<Result<_, _>>().map(Some)
}

/// One text, or a list of them.
struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(vec![text.to_owned()])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list))
    }
}

fn to_text<S: Serializer, T: Display>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

fn to_texts<S: Serializer, T: Display>(values: &[T], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(values.iter().map(ToString::to_string))
}
