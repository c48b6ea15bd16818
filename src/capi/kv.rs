//! Key-value stores.

use std::{ffi::c_char, mem::MaybeUninit, sync::Arc};

use bytes::Bytes;

use super::{
    boundary::{
        guard,
        handle::{self, Required as _},
        nullable::{
            NullableCallOptions, NullableDrop, NullableError, NullableKeyListBox, NullableKvBox,
            NullableOperation, NullableSetOptions, NullableUserData, NullableValueBox,
        },
        options, view,
    },
    cancel::flowmesh_cancel_t,
    client::flowmesh_client_t,
    operation::{
        self, Prepared, Work, flowmesh_bool_callback_t, flowmesh_done_callback_t,
        flowmesh_key_list_callback_t, flowmesh_value_callback_t,
    },
    status::flowmesh_status_t,
    view::flowmesh_view_t,
};
use crate::client::{CallOptions, CancelToken, Kv, Result};

/// A key-value store. Thread-safe. It keeps its client alive.
///
///     flowmesh_kv_t *settings = NULL;
///     flowmesh_value_t *value = NULL;
///     flowmesh_view_t key = FLOWMESH_VIEW_LITERAL("colour");
///     status = flowmesh_kv_open(client, "acme", "shop", "settings", &settings, &error);
///     if (status == FLOWMESH_OK) {
///         status = flowmesh_kv_set(settings, key, flowmesh_view_str("red"), NULL, &error);
///     }
///     if (status == FLOWMESH_OK) {
///         status = flowmesh_kv_get(settings, key, NULL, &value, &error);
///     }
///     if (status == FLOWMESH_OK) {
///         printf(FLOWMESH_VIEW_FMT "\n", FLOWMESH_VIEW_ARG(flowmesh_value_data(value)));
///     }
///     flowmesh_value_free(value);
///     flowmesh_kv_free(settings);
pub struct flowmesh_kv_t {
    kv: Arc<Kv>,
}

/// A value that was read. Immutable, thread-safe.
pub struct flowmesh_value_t {
    value: Bytes,
}

/// Keys that were listed. Immutable, thread-safe.
pub struct flowmesh_key_list_t {
    keys: Vec<String>,
}

/// Options of flowmesh_kv_set. Start from FLOWMESH_SET_OPTIONS_INIT.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct flowmesh_set_options_t {
    /// sizeof(flowmesh_set_options_t).
    pub size: usize,
    /// Deadline of the call: 0 is the client's default, -1 none.
    pub timeout_ms: i64,
    /// Ends the call from another thread; NULL for none.
    pub cancel: *const flowmesh_cancel_t,
    /// Trace that the call belongs to, a W3C `traceparent`; NULL for none.
    pub traceparent: *const c_char,
    /// Its `tracestate`; NULL for none.
    pub tracestate: *const c_char,
    /// How long the value lives, at most a year; 0 is for ever.
    pub ttl_ms: i64,
}

/// Names a store. Does no I/O and does not block; any thread. The first set creates the store. Free
/// the handle with flowmesh_kv_free.
///
/// FLOWMESH_INVALID_ARGUMENT: a name breaks the rules of the overview.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_kv_open(
    client: Option<&flowmesh_client_t>,
    tenant: *const c_char,
    name_space: *const c_char,
    name: *const c_char,
    kv: Option<&mut MaybeUninit<*mut flowmesh_kv_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let client = &client.required("client")?.client;
        let [tenant, name_space, name] = view::path(tenant, name_space, name)?;
        let out = kv.required("kv")?;
        let kv = Arc::new(client.kv(tenant, name_space, name)?);
        handle::give(out, flowmesh_kv_t { kv });
        Ok(())
    })
}

/// Frees the handle. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_kv_free(kv: NullableKvBox) {
    guard::plain((), || handle::free(kv));
}

/// Stores a value of at least 1 byte, in place of the one before and of its time to live; key and
/// value are copied before the call returns. Blocks until it is stored, up to the deadline; any
/// thread. Repeated by the library when the connection fails.
///
/// FLOWMESH_INVALID_ARGUMENT: bad key, empty value, negative or too long ttl_ms.
/// FLOWMESH_RESOURCE_EXHAUSTED: larger than the server allows (4 MiB), or its storage is full.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_kv_set(
    kv: Option<&flowmesh_kv_t>,
    key: flowmesh_view_t,
    value: flowmesh_view_t,
    options: NullableSetOptions,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || set(kv, key, value, options, None)?.wait())
}

/// Reads the value of a key. It belongs to the caller: flowmesh_value_free. Blocks up to the
/// deadline; any thread. Repeated by the library when the connection fails.
///
/// FLOWMESH_NOT_FOUND: no such key, or its time to live is over.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_kv_get(
    kv: Option<&flowmesh_kv_t>,
    key: flowmesh_view_t,
    options: NullableCallOptions,
    value: Option<&mut MaybeUninit<*mut flowmesh_value_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let out = value.required("value")?;
        handle::give(out, get(kv, key, options, None)?.wait()?);
        Ok(())
    })
}

/// Removes a key; one that is not there is no failure. Blocks until it is stored, up to the
/// deadline; any thread. Repeated by the library when the connection fails.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_kv_delete(
    kv: Option<&flowmesh_kv_t>,
    key: flowmesh_view_t,
    options: NullableCallOptions,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || delete(kv, key, options, None)?.wait())
}

/// Asks whether a key is there. Blocks up to the deadline; any thread. Repeated by the library when
/// the connection fails.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_kv_exists(
    kv: Option<&flowmesh_kv_t>,
    key: flowmesh_view_t,
    options: NullableCallOptions,
    exists: Option<&mut MaybeUninit<bool>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let out = exists.required("exists")?;
        out.write(look_for(kv, key, options, None)?.wait()?);
        Ok(())
    })
}

/// Lists every key that starts with `prefix` (all, when it is empty), in byte order. The list belongs
/// to the caller: flowmesh_key_list_free. Blocks up to the deadline; any thread. Repeated by the
/// library when the connection fails.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_kv_list_keys(
    kv: Option<&flowmesh_kv_t>,
    prefix: flowmesh_view_t,
    options: NullableCallOptions,
    keys: Option<&mut MaybeUninit<*mut flowmesh_key_list_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let out = keys.required("keys")?;
        handle::give(out, list_keys(kv, prefix, options, None)?.wait()?);
        Ok(())
    })
}

/// flowmesh_kv_set as an asynchronous call, see COMPLETIONS. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_kv_set_async(
    kv: Option<&flowmesh_kv_t>,
    key: flowmesh_view_t,
    value: flowmesh_view_t,
    options: NullableSetOptions,
    callback: flowmesh_done_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| set(kv, key, value, options, token))
}

/// flowmesh_kv_get as an asynchronous call, see COMPLETIONS. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_kv_get_async(
    kv: Option<&flowmesh_kv_t>,
    key: flowmesh_view_t,
    options: NullableCallOptions,
    callback: flowmesh_value_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| get(kv, key, options, token))
}

/// flowmesh_kv_delete as an asynchronous call, see COMPLETIONS. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_kv_delete_async(
    kv: Option<&flowmesh_kv_t>,
    key: flowmesh_view_t,
    options: NullableCallOptions,
    callback: flowmesh_done_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| delete(kv, key, options, token))
}

/// flowmesh_kv_exists as an asynchronous call, see COMPLETIONS. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_kv_exists_async(
    kv: Option<&flowmesh_kv_t>,
    key: flowmesh_view_t,
    options: NullableCallOptions,
    callback: flowmesh_bool_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| look_for(kv, key, options, token))
}

/// flowmesh_kv_list_keys as an asynchronous call, see COMPLETIONS. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_kv_list_keys_async(
    kv: Option<&flowmesh_kv_t>,
    prefix: flowmesh_view_t,
    options: NullableCallOptions,
    callback: flowmesh_key_list_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| list_keys(kv, prefix, options, token))
}

/// The bytes of a value, borrowed until it is freed; an empty view for NULL. Does not block; any
/// thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_value_data(value: Option<&flowmesh_value_t>) -> flowmesh_view_t {
    guard::plain(view::EMPTY, || value.map_or(view::EMPTY, |v| view::of(&v.value)))
}

/// Frees a value. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_value_free(value: NullableValueBox) {
    guard::plain((), || handle::free(value));
}

/// Number of keys; 0 for NULL. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_key_list_count(keys: Option<&flowmesh_key_list_t>) -> usize {
    guard::plain(0, || keys.map_or(0, |k| k.keys.len()))
}

/// Key `index`, counted from 0, borrowed until the list is freed; an empty view when there is none.
/// Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_key_list_at(keys: Option<&flowmesh_key_list_t>, index: usize) -> flowmesh_view_t {
    guard::plain(view::EMPTY, || {
        keys.and_then(|k| k.keys.get(index)).map_or(view::EMPTY, |key| view::of(key.as_bytes()))
    })
}

/// Frees a list of keys. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_key_list_free(keys: NullableKeyListBox) {
    guard::plain((), || handle::free(keys));
}

// The operations, for both forms of each call.

fn set(
    kv: Option<&flowmesh_kv_t>,
    key: flowmesh_view_t,
    value: flowmesh_view_t,
    options: NullableSetOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<()>>> {
    let kv = Arc::clone(&kv.required("kv")?.kv);
    let key = view::utf8(key, "key")?.to_owned();
    let value = view::copy(value, "value")?;
    let options = options::read(options, "options")?;
    let (call, ttl_ms) = (CallOptions { operation: token, ..options.call()? }, options.ttl_ms);
    Ok(Prepared::new(kv.client().clone(), async move { kv.set(&key, value, ttl_ms, &call).await }))
}

fn get(
    kv: Option<&flowmesh_kv_t>,
    key: flowmesh_view_t,
    options: NullableCallOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<flowmesh_value_t>>> {
    let (kv, key, call) = with_key(kv, key, options, token)?;
    Ok(Prepared::new(kv.client().clone(), async move {
        Ok(flowmesh_value_t { value: kv.get(&key, &call).await? })
    }))
}

fn delete(
    kv: Option<&flowmesh_kv_t>,
    key: flowmesh_view_t,
    options: NullableCallOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<()>>> {
    let (kv, key, call) = with_key(kv, key, options, token)?;
    Ok(Prepared::new(kv.client().clone(), async move { kv.delete(&key, &call).await }))
}

fn look_for(
    kv: Option<&flowmesh_kv_t>,
    key: flowmesh_view_t,
    options: NullableCallOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<bool>>> {
    let (kv, key, call) = with_key(kv, key, options, token)?;
    Ok(Prepared::new(kv.client().clone(), async move { kv.exists(&key, &call).await }))
}

fn list_keys(
    kv: Option<&flowmesh_kv_t>,
    prefix: flowmesh_view_t,
    options: NullableCallOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<flowmesh_key_list_t>>> {
    let kv = Arc::clone(&kv.required("kv")?.kv);
    let prefix = view::utf8(prefix, "prefix")?.to_owned();
    let call = CallOptions { operation: token, ..options::read(options, "options")?.call()? };
    Ok(Prepared::new(kv.client().clone(), async move {
        Ok(flowmesh_key_list_t { keys: kv.list_keys(&prefix, &call).await? })
    }))
}

/// What the calls about one key have in common.
fn with_key(
    kv: Option<&flowmesh_kv_t>,
    key: flowmesh_view_t,
    options: NullableCallOptions,
    token: Option<CancelToken>,
) -> Result<(Arc<Kv>, String, CallOptions)> {
    let kv = Arc::clone(&kv.required("kv")?.kv);
    let key = view::utf8(key, "key")?.to_owned();
    let call = CallOptions { operation: token, ..options::read(options, "options")?.call()? };
    Ok((kv, key, call))
}
