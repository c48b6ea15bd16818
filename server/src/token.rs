//! `flowmesh-server token`: tokens for callers.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use flowmesh_server::access::{Entry, NewToken, check, to_toml};

use crate::{cli, usage::refuse};

/// Makes a token and prints what the two sides need: the secret for the caller, its entry for the
/// server.
pub fn new(wanted: cli::NewToken) -> ExitCode {
    match print(wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("flowmesh-server: {e}");
            ExitCode::FAILURE
        }
    }
}

fn print(wanted: cli::NewToken) -> Result<(), Box<dyn std::error::Error>> {
    let created_at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let expires_at = wanted.expires.map_or(0, |time| created_at.saturating_add(time.as_secs()));
    let made = NewToken::make(Entry {
        sha256: String::new(),
        tenant: wanted.tenant,
        namespaces: wanted.namespaces.into_iter().collect(),
        permissions: wanted.permissions.into_iter().collect(),
        created_at,
        expires_at,
    })?;
    if let Err(rule) = check(&made.entry) {
        refuse(rule.to_owned());
    }
    let mut out = io::stdout().lock();
    writeln!(out, "# The token, shown only now; give it to the caller:")?;
    writeln!(out, "# {}", made.secret)?;
    writeln!(out, "# Append the following to the server's token file.")?;
    writeln!(out, "[[token]]\n{}", to_toml(&made.entry))?;
    Ok(())
}
