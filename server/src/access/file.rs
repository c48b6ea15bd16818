//! The token file: TOML, one `[[token]]` table each.

use std::{collections::HashSet, io};

use serde::Deserialize;

use super::{Entry, token::Hash};

/// Why a token file is not taken. Never repeats what is in the file: a token could stand there by
/// mistake.
#[derive(Debug, thiserror::Error)]
pub enum BadTokenFile {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    /// It is not TOML, or has other tables or keys than it should.
    #[error("line {line}: {what}")]
    Malformed {
        /// Line of the file, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// An entry breaks a rule.
    #[error("token {number}: {rule}")]
    Refused {
        /// Which entry, from 1.
        number: usize,
        /// The key and its rule.
        rule: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<Entry>,
}

/// Reads the tokens that a file lists.
///
/// # Errors
/// It is malformed, or an entry breaks a rule: nothing of it is taken then.
pub fn parse(text: &str) -> Result<Vec<Entry>, BadTokenFile> {
    let file: File = toml::from_str(text).map_err(|e| BadTokenFile::Malformed {
        line: 1 + e.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count()),
        what: without_quotes(e.message()),
    })?;
    let mut seen = HashSet::new();
    for (entry, number) in file.token.iter().zip(1..) {
        let refuse = |rule| BadTokenFile::Refused { number, rule };
        check(entry).map_err(refuse)?;
        if !seen.insert(&entry.sha256) {
            return Err(refuse("sha256 must not be that of another token"));
        }
    }
    Ok(file.token)
}

/// What a parser says, without what it quotes from the file. What it expected is ours.
fn without_quotes(message: &str) -> String {
    let what = message.split(['`', '"', '\'', '\n']).next().unwrap_or_default().trim_end();
    match message.rsplit_once(", expected ") {
        Some((said, expected)) if said.len() >= what.len() => format!("{what}, expected {expected}"),
        _ => what.to_owned(),
    }
}

/// The rules for an entry; a refusal names the key and its rule.
///
/// # Errors
/// It breaks one.
pub fn check(entry: &Entry) -> Result<(), &'static str> {
    if Hash::parse(&entry.sha256).is_none() {
        return Err("sha256 must be 64 lowercase hex digits");
    }
    if !is_name(&entry.tenant) {
        return Err("tenant must be a name: 1 to 255 bytes, no `/`, no control characters");
    }
    if !entry.namespaces.iter().all(|name| is_name(name)) {
        return Err("namespaces must be names: 1 to 255 bytes, no `/`, no control characters");
    }
    if entry.permissions.is_empty() {
        return Err("permissions must name at least one");
    }
    Ok(())
}

/// An entry as the file has it, without its `[[token]]`.
pub fn to_toml(entry: &Entry) -> String {
    toml::to_string(entry).expect("texts, numbers and lists of texts are TOML")
}

fn is_name(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && !text.trim().is_empty()
        && !text.chars().any(|c| c == '/' || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Permission;

    const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn an_entry_is_read_whole() {
        let text = format!(
            "[[token]]\nsha256 = \"{HASH}\"\ntenant = \"acme\"\nnamespaces = [\"shop\"]\n\
             permissions = [\"stream.write\", \"kv.read\"]\ncreated_at = 1\nexpires_at = 2\n"
        );
        let entries = parse(&text).expect("a good file");
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].tenant, "acme");
        assert!(entries[0].permissions.contains(&Permission::StreamWrite));
        assert_eq!((entries[0].created_at, entries[0].expires_at), (1, 2));
        assert_eq!(parse("").map(|entries| entries.len()).ok(), Some(0));
    }

    #[test]
    fn a_bad_file_says_where_and_never_what() {
        let good =
            format!("[[token]]\nsha256 = \"{HASH}\"\ntenant = \"acme\"\npermissions = [\"kv.read\"]\n");
        for (bad, word) in [
            (good.replace(HASH, "fm_secret"), "token 1: sha256"),
            (good.replace("acme", "a/b"), "token 1: tenant"),
            (good.replace("\"kv.read\"", ""), "token 1: permissions"),
            (good.replace("tenant", "tenent"), "line 3"),
            (good.replace("kv.read", "kv.secret"), "line 4"),
            (format!("{good}{good}"), "token 2: sha256"),
            (format!("{good}secret\n"), "line 5"),
            // As a key, as a value of another type, and twice.
            (format!("{good}fm_secret = 1\n"), "line 5: unknown field, expected"),
            (good.replace("[\"kv.read\"]", "\"fm_secret\""), "line 4: invalid type: string, expected"),
            (good.replace("kv.read", "fm_secret"), "line 4: unknown variant, expected"),
            (format!("{good}\"a, expected fm_secret\\n\" = 1\n"), "line 5: unknown field, expected"),
            (format!("fm_secret = 1\nfm_secret = 2\n{good}"), "line 2"),
        ] {
            let error = parse(&bad).expect_err(&bad).to_string();
            assert!(error.contains(word), "{error}");
            assert!(!error.contains("fm_secret"), "{error}");
        }
    }
}
