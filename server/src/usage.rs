//! Wrong usage: what is refused before anything is done, with exit code 2.

use clap::{
    CommandFactory, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::cli::Cli;

/// What this process was started with.
pub fn read() -> Cli {
    Cli::try_parse().map_err(blame_variable).unwrap_or_else(|e| e.exit())
}

/// Ends with the exit code of wrong usage.
pub fn refuse(message: String) -> ! {
    Cli::command().error(ErrorKind::ValueValidation, message).exit()
}

/// Names the environment's variable, not the flag, where a value that is refused came from there.
fn blame_variable(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(blamed)) = error.get(ContextKind::InvalidArg) else { return error };
    let mut command = Cli::command();
    command.build();
    let Some(arg) = command.get_arguments().find(|arg| arg.to_string() == *blamed) else { return error };
    let flag = format!("--{}", arg.get_long().unwrap_or_default());
    let is_given = std::env::args_os().skip(1).any(|given| {
        let given = given.to_string_lossy();
        given.strip_prefix(flag.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    });
    if let Some(variable) = arg.get_env().filter(|variable| !is_given && std::env::var_os(variable).is_some())
    {
        let variable = variable.to_string_lossy().into_owned();
        error.insert(ContextKind::InvalidArg, ContextValue::String(variable));
    }
    error
}
