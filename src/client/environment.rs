//! The process's environment. A variable that is empty is as one that is not set.

use std::{
    env::{self, VarError},
    path::PathBuf,
};

use super::error::{Error, Result};

/// A text.
pub(crate) fn text(name: &str) -> Result<Option<String>> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|v| !v.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => {
            Err(Error::invalid(format!("the environment's {name} must be UTF-8")))
        }
    }
}

/// The path of a file.
pub(crate) fn path(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

/// A yes or no; unset is no.
pub(crate) fn flag(name: &str) -> Result<bool> {
    match text(name)?.as_deref() {
        None | Some("0" | "false" | "no") => Ok(false),
        Some("1" | "true" | "yes") => Ok(true),
        Some(_) => Err(Error::invalid(format!("the environment's {name} must be 1 or 0"))),
    }
}
