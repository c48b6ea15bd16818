//! Flags and environment of the server.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::FalseyValueParser};
use flowmesh_server::{FsyncPolicy, access::Permission, net::Address, services::DEFAULT_MAX_MESSAGE_BYTES};
use tracing::level_filters::LevelFilter;

/// Streams, queues and KV over gRPC, stored in one directory.
#[derive(Debug, Parser)]
#[command(
    name = "flowmesh-server",
    version,
    after_help = "SIGTERM or SIGINT stops in order within 5 seconds, a second one at once.\n\n\
        Exit codes:\n  \
        0  stopped in order\n  \
        1  failed while running, or was stopped at once\n  \
        2  wrong usage\n  \
        3  the data directory cannot be used: in use, not writable, unknown format\n  \
        4  cannot listen on an address\n  \
        5  the token file cannot be used",
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Where to listen: IP:PORT, localhost:PORT or unix:PATH; may be repeated.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "FLOWMESH_LISTEN",
        default_value = "127.0.0.1:50051",
        value_delimiter = ','
    )]
    pub listen: Vec<Address>,

    /// Directory that holds everything; made when missing.
    #[arg(long, value_name = "DIR", env = "FLOWMESH_DATA_DIR", default_value = "flowmesh-data")]
    pub data_dir: PathBuf,

    /// When an acknowledged write is on disk: `always` before its reply, `interval[:MS]` at most
    /// that many milliseconds after it (100), `none` when the system likes.
    #[arg(long, value_name = "POLICY", env = "FLOWMESH_FSYNC", default_value = "always", value_parser = fsync)]
    pub fsync: FsyncPolicy,

    /// Largest request message in bytes.
    #[arg(
        long,
        value_name = "BYTES",
        env = "FLOWMESH_MAX_MESSAGE_BYTES",
        default_value_t = DEFAULT_MAX_MESSAGE_BYTES as u32,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub max_message_bytes: u32,

    /// Do not create streams, queues and stores on first use; calls that need one answer NOT_FOUND.
    #[arg(long, env = "FLOWMESH_NO_CREATE", value_parser = FalseyValueParser::new())]
    pub no_create: bool,

    /// Who may call: a file of tokens, as `flowmesh-server token new` makes them. Read again when it
    /// changes and on SIGHUP. Without it, anybody may call.
    #[arg(long, value_name = "FILE", env = "FLOWMESH_TOKENS")]
    pub tokens: Option<PathBuf>,

    /// Listen beyond this machine although callers are not authenticated.
    #[arg(long, env = "FLOWMESH_INSECURE", value_parser = FalseyValueParser::new())]
    pub insecure: bool,

    /// How much to log, to stderr.
    #[arg(long, value_name = "LEVEL", env = "FLOWMESH_LOG_LEVEL", default_value = "info")]
    pub log_level: LogLevel,

    /// Form of log lines.
    #[arg(long, value_name = "FORMAT", env = "FLOWMESH_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// What to do instead of serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tokens for callers.
    #[command(subcommand)]
    Token(TokenCommand),
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Makes a token: prints it, once, and the entry to append to the token file.
    New(NewToken),
}

/// What the token is to be good for.
#[derive(Debug, Args)]
pub struct NewToken {
    /// The tenant whose resources it reaches.
    #[arg(long, value_name = "NAME")]
    pub tenant: String,

    /// A namespace that it reaches; may be repeated. Without any: all of the tenant's.
    #[arg(long = "namespace", value_name = "NAME")]
    pub namespaces: Vec<String>,

    /// What it may do; may be repeated: kv.read, kv.write, queue.read, queue.write, stream.read,
    /// stream.write.
    #[arg(long = "permission", value_name = "NAME", required = true, num_args = 1..)]
    pub permissions: Vec<Permission>,

    /// How long it is good: a number with s, m, h or d. Without it: until it is revoked.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub expires: Option<Duration>,
}

/// Levels of the log.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LogLevel {
    Error,
    Warn,
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
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Interval of `--fsync interval` without a number.
const DEFAULT_INTERVAL: Duration = Duration::from_millis(100);

fn fsync(text: &str) -> Result<FsyncPolicy, String> {
    match text.split_once(':') {
        None if text == "always" => Ok(FsyncPolicy::Always),
        None if text == "none" => Ok(FsyncPolicy::None),
        None if text == "interval" => Ok(FsyncPolicy::Interval(DEFAULT_INTERVAL)),
        Some(("interval", ms)) => match ms.parse() {
            Ok(ms @ 1..=60_000) => Ok(FsyncPolicy::Interval(Duration::from_millis(ms))),
            _ => Err("the interval must be 1 to 60000 milliseconds".into()),
        },
        _ => Err("want always, interval, interval:MS or none".into()),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "want a number above 0 with s, m, h or d, such as 90d".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).filter(|&s| s > 0).map(Duration::from_secs).ok_or_else(wrong)
}
