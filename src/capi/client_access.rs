//! Options of clients: who calls, and whom to trust: tokens and TLS.

use std::ffi::c_char;

use super::{
    boundary::{guard, nullable::NullableError, view},
    client::{change, flowmesh_client_options_t},
    status::flowmesh_status_t,
    view::flowmesh_view_t,
};
use crate::client::{Error, Identity, Pem, Result, tls};

/// The bearer token sent with every call. Default: the environment's FLOWMESH_AUTH_TOKEN, or else
/// what is in the file that its FLOWMESH_AUTH_TOKEN_FILE names. "" means none. An embedded endpoint
/// takes no token: flowmesh_client_open refuses one set here and ignores the environment's. It also
/// refuses to send one unencrypted to another machine, see
/// flowmesh_client_options_set_allow_plaintext_token. Printable ASCII. Neither the log nor any
/// error repeats it.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_options_set_auth_token(
    options: Option<&flowmesh_client_options_t>,
    token: *const c_char,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let token = view::text(token, "token")?;
        if !token.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            return Err(Error::invalid("token must be printable ASCII"));
        }
        change(options, |o| (o.auth_token, o.auth_token_file) = (Some(token.into()), None))
    })
}

/// A file that holds the token, in place of flowmesh_client_options_set_auth_token. The first call
/// reads it, and a call whose token the server refuses reads it again: when it holds another one
/// by then, the call is repeated with that, and where it does not, the call fails. Subscriptions and
/// workers go on trying, as the file may be renewed at any time. FLOWMESH_FAILED_PRECONDITION ends
/// calls that need to read it when it cannot be read, or is no regular file.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_options_set_auth_token_file(
    options: Option<&flowmesh_client_options_t>,
    path: *const c_char,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let path = path_of(path, "path")?;
        change(options, |o| (o.auth_token, o.auth_token_file) = (None, Some(path.into())))
    })
}

/// Whether a token may go unencrypted to another machine, where everybody on the way can read it.
/// Default: false, unless the environment's FLOWMESH_ALLOW_PLAINTEXT_TOKEN is 1. "https://", unix
/// sockets and loopback addresses ("localhost" is one) need no such leave.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_options_set_allow_plaintext_token(
    options: Option<&flowmesh_client_options_t>,
    allow: bool,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || change(options, |o| o.allow_plaintext_token = allow))
}

/// "https://": a file of the authorities that may vouch for the server, PEM. Default: the
/// environment's FLOWMESH_TLS_CA_FILE, or else the authorities that the system trusts. Files for TLS
/// are read when a connection is made, so renewed ones count for the next one; what is wrong with
/// them ends calls with FLOWMESH_UNAVAILABLE.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_options_set_tls_ca_file(
    options: Option<&flowmesh_client_options_t>,
    path: *const c_char,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let path = path_of(path, "path")?;
        change(options, |o| o.tls.authorities = Some(Pem::File(path.into())))
    })
}

/// The same authorities from memory: at least one certificate, PEM. They are copied.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_options_set_tls_ca_pem(
    options: Option<&flowmesh_client_options_t>,
    pem: flowmesh_view_t,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let pem = view::bytes(pem, "pem")?;
        tls::check_authorities(pem).map_err(|rule| Error::invalid(format!("pem {rule}")))?;
        change(options, |o| o.tls.authorities = Some(Pem::Bytes(pem.to_vec())))
    })
}

/// "https://": how the client proves who it is to servers that ask for it: files of its certificate
/// (followed by those that lead to its authority) and of its private key, PEM, not encrypted.
/// Default: the environment's FLOWMESH_TLS_CERT_FILE and FLOWMESH_TLS_KEY_FILE, or else none.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_options_set_tls_certificate_file(
    options: Option<&flowmesh_client_options_t>,
    certificate_path: *const c_char,
    key_path: *const c_char,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let certificate = Pem::File(path_of(certificate_path, "certificate_path")?.into());
        let key = Pem::File(path_of(key_path, "key_path")?.into());
        change(options, |o| o.tls.identity = Some(Identity { certificate, key }))
    })
}

/// The same from memory. Both are copied; neither the log nor any error repeats the key.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_options_set_tls_certificate_pem(
    options: Option<&flowmesh_client_options_t>,
    certificate: flowmesh_view_t,
    key: flowmesh_view_t,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let (certificate, key) = (view::bytes(certificate, "certificate")?, view::bytes(key, "key")?);
        tls::check_identity(certificate, key)
            .map_err(|rule| Error::invalid(format!("certificate {rule}")))?;
        let (certificate, key) = (Pem::Bytes(certificate.to_vec()), Pem::Bytes(key.to_vec()));
        change(options, |o| o.tls.identity = Some(Identity { certificate, key }))
    })
}

/// "https://": the name, or address, that the server's certificate must have. Default: the
/// environment's FLOWMESH_TLS_SERVER_NAME, or else the endpoint's host.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_options_set_tls_server_name(
    options: Option<&flowmesh_client_options_t>,
    name: *const c_char,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let name = view::text(name, "name")?;
        tls::check_name(name).map_err(|rule| Error::invalid(format!("name {rule}")))?;
        change(options, |o| o.tls.server_name = Some(name.to_owned()))
    })
}

fn path_of<'a>(path: *const c_char, name: &str) -> Result<&'a str> {
    match view::text(path, name)? {
        "" => Err(Error::invalid(format!("{name} must not be empty"))),
        path => Ok(path),
    }
}
