//! Where a client connects to, as text and parsed.

use std::path::PathBuf;

use super::error::{Error, Result};

/// A parsed endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `host:port` or `http://host:port`: gRPC in clear text over TCP.
    Tcp {
        /// A name or an address; IPv6 without its brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// `https://host:port`: gRPC over TLS.
    Tls {
        /// A name or an address; IPv6 without its brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// `unix:/path`: gRPC over a Unix socket.
    Unix(PathBuf),
    /// `embedded:/dir` or `embedded:./dir`: the engine in this process, stored in a directory.
    Directory(PathBuf),
    /// `embedded:`: the engine in this process, in memory.
    Memory,
}

const FORMS: &str = "host:port, http://host:port, https://host:port, unix:/path, embedded:/dir or embedded:";

impl Endpoint {
    /// Reads an endpoint; a relative `embedded:` directory stays relative.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::invalid(format!("endpoint must not be empty: it is {FORMS}")));
        }
        if text.chars().any(char::is_control) {
            return Err(Error::invalid("endpoint must not contain control characters"));
        }
        if let Some(path) = text.strip_prefix("embedded:") {
            return Ok(if path.is_empty() { Self::Memory } else { Self::Directory(path.into()) });
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err(Error::invalid(format!("endpoint `{text}`: unix: needs the path of a socket")))
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        if let Some(authority) = text.strip_prefix("https://") {
            let (host, port) = authority_of(text, authority.strip_suffix('/').unwrap_or(authority))?;
            return Ok(Self::Tls { host, port });
        }
        if let Some(authority) = text.strip_prefix("http://") {
            let (host, port) = authority_of(text, authority.strip_suffix('/').unwrap_or(authority))?;
            return Ok(Self::Tcp { host, port });
        }
        if text.contains("://") {
            return Err(Error::invalid(format!("endpoint `{text}`: unknown scheme; it is {FORMS}")));
        }
        let (host, port) = authority_of(text, text)?;
        Ok(Self::Tcp { host, port })
    }

    /// Whether the engine runs in this process.
    pub fn is_embedded(&self) -> bool {
        matches!(self, Self::Directory(_) | Self::Memory)
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // Hosts of these names would read as something else.
            Self::Tcp { host, port } if host == "embedded" || host == "unix" => {
                write!(f, "http://{host}:{port}")
            }
            Self::Tcp { host, port } => write_authority(f, host, *port),
            Self::Tls { host, port } => {
                f.write_str("https://")?;
                write_authority(f, host, *port)
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Directory(path) => write!(f, "embedded:{}", path.display()),
            Self::Memory => f.write_str("embedded:"),
        }
    }
}

/// Writes host and port as an endpoint has them.
pub(super) fn write_authority(f: &mut impl std::fmt::Write, host: &str, port: u16) -> std::fmt::Result {
    if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
}

/// Host and port of `authority`, a part of the endpoint `text`.
fn authority_of(text: &str, authority: &str) -> Result<(String, u16)> {
    let malformed = |rule: &str| Error::invalid(format!("endpoint `{text}`: {rule}"));
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once("]:").ok_or_else(|| {
                malformed("an IPv6 address is written in brackets, with a port: [::1]:50051")
            })?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(malformed("what is in brackets must be an IPv6 address"));
            }
            (host, port)
        }
        None => {
            let (host, port) =
                authority.rsplit_once(':').ok_or_else(|| malformed("a port is missing: host:port"))?;
            if host.contains(':') {
                return Err(malformed("an IPv6 address is written in brackets: [::1]:50051"));
            }
            (host, port)
        }
    };
    let name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || !host.chars().all(name) {
        return Err(malformed("the host must be a name or an address"));
    }
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    match port.parse() {
        Ok(port) if digits && port != 0 => Ok((host.to_owned(), port)),
        _ => Err(malformed("the port must be a number from 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Status;

    fn tls(host: &str, port: u16) -> Endpoint {
        Endpoint::Tls { host: host.into(), port }
    }

    fn tcp(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp { host: host.into(), port }
    }

    #[test]
    fn every_form_is_read() {
        for (text, endpoint) in [
            ("localhost:50051", tcp("localhost", 50051)),
            ("http://10.0.0.1:80", tcp("10.0.0.1", 80)),
            ("http://host:1/", tcp("host", 1)),
            ("[::1]:50051", tcp("::1", 50051)),
            ("https://host:443", tls("host", 443)),
            ("https://[::1]:443/", tls("::1", 443)),
            ("unix:/run/fm.sock", Endpoint::Unix("/run/fm.sock".into())),
            ("embedded:", Endpoint::Memory),
            ("embedded:./data", Endpoint::Directory("./data".into())),
            ("embedded:/var/lib/fm", Endpoint::Directory("/var/lib/fm".into())),
        ] {
            assert_eq!(Endpoint::parse(text).as_ref(), Ok(&endpoint), "{text}");
        }
        assert_eq!(tcp("::1", 5).to_string(), "[::1]:5");
        assert_eq!(tls("::1", 5).to_string(), "https://[::1]:5");
        for host in ["embedded", "unix"] {
            assert_eq!(Endpoint::parse(&tcp(host, 80).to_string()), Ok(tcp(host, 80)));
        }
    }

    #[test]
    fn malformed_ones_are_refused_by_rule() {
        for (text, rule) in [
            ("", "must not be empty"),
            ("localhost", "port is missing"),
            ("localhost:", "1 to 65535"),
            ("localhost:0", "1 to 65535"),
            ("localhost:65536", "1 to 65535"),
            ("localhost:+80", "1 to 65535"),
            (":50051", "host must be"),
            ("a b:1", "host must be"),
            ("user@host:1", "host must be"),
            ("http://host:1/path", "1 to 65535"),
            ("https://host", "port is missing"),
            ("https://user@host:1", "host must be"),
            ("::1:50051", "in brackets"),
            ("[::1]", "in brackets"),
            ("[host]:1", "IPv6 address"),
            ("ftp://host:1", "unknown scheme"),
            ("unix:", "path of a socket"),
            ("a\n:1", "control characters"),
        ] {
            let error = Endpoint::parse(text).expect_err(text);
            assert_eq!(error.status(), Status::INVALID_ARGUMENT, "{text}");
            assert!(error.message().contains(rule), "{text}: {error}");
        }
    }
}
