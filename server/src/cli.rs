//! The command line: what to do, and where settings come from.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use flowmesh_server::access::Permission;

use crate::settings::Settings;

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
        5  the token file cannot be used\n  \
        6  a file for TLS cannot be used\n  \
        7  the check of a data directory found damage",
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,

    /// File of settings, in TOML: keys are the long names below with `_` for `-`. The environment
    /// wins over it, and flags win over both.
    #[arg(long, value_name = "FILE", env = "FLOWMESH_CONFIG")]
    pub config: Option<PathBuf>,

    /// Print the settings in force, from wherever they come, and stop; the token file and those for
    /// TLS are read, as at a start.
    #[arg(long)]
    pub check_config: bool,

    #[command(flatten)]
    pub settings: Settings,
}

/// What to do instead of serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tokens for callers.
    #[command(subcommand)]
    Token(TokenCommand),

    /// Checks a data directory that no server has open, and changes nothing: every frame of the
    /// stream log, every row of the database, of which it makes a copy in TMPDIR. Prints what is wrong
    /// and where.
    Verify {
        /// The data directory.
        dir: PathBuf,
    },

    /// Copies a data directory, also while a server works in it, and checks the copy. It holds
    /// everything that was acknowledged when the copying began. To restore, stop the server and put
    /// a copy of the backup in the place of its data directory.
    Backup {
        /// Directory to make; it must not exist, nor be inside of the data directory.
        target: PathBuf,

        /// The data directory.
        #[arg(long, value_name = "DIR", env = "FLOWMESH_DATA_DIR", default_value = "flowmesh-data")]
        data_dir: PathBuf,
    },
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
