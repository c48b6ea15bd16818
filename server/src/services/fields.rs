//! The rules for the fields of requests, each once; as tests they are in
//! `tests/conformance/fields.rs`.
//!
//! A refusal names the argument and the rule, and never repeats the value: it may be long, or
//! nobody else's business.

use bytes::Bytes;
use flowmesh_proto::{
    v1::{ResourcePath, RetryPolicy},
    wire::EventView,
};
use tonic::Status;

use crate::resource::{ResourceKind, ResourceName};

const MAX_NAME_BYTES: usize = 255;
const MAX_KEY_BYTES: usize = 1024;
/// One year.
const MAX_SECONDS: i64 = 31_536_000;
const DEFAULT_VISIBILITY_SECONDS: i64 = 30;
const MAX_VISIBILITY_SECONDS: i64 = 43_200;
const MAX_LONG_POLL_SECONDS: i64 = 20;

type Checked<T = ()> = Result<T, Status>;

fn refuse<T>(rule: String) -> Checked<T> {
    Err(Status::invalid_argument(rule))
}

/// `resource_path` of a call to the service that works on `kind`.
pub fn resource(path: Option<ResourcePath>, kind: ResourceKind) -> Checked<ResourceName> {
    let Some(path) = path else { return refuse("resource_path must be set".into()) };
    for (argument, text) in [
        ("resource_path.tenant", &path.tenant),
        ("resource_path.namespace", &path.namespace),
        ("resource_path.name", &path.name),
    ] {
        length(argument, text, MAX_NAME_BYTES)?;
        no_control_characters(argument, text)?;
        if text.trim().is_empty() {
            return refuse(format!("{argument} must not be only white space"));
        }
    }
    for (argument, text) in
        [("resource_path.tenant", &path.tenant), ("resource_path.namespace", &path.namespace)]
    {
        if text.contains('/') {
            return refuse(format!("{argument} must not contain `/`"));
        }
    }
    if path.resource_type != kind.as_str() {
        return refuse(format!("resource_path.resource_type must be `{}` in this service", kind.as_str()));
    }
    Ok(ResourceName::new(&path.tenant, &path.namespace, kind, &path.name))
}

/// `consumer_group`.
pub fn group(group: &str) -> Checked {
    length("consumer_group", group, MAX_NAME_BYTES)?;
    no_control_characters("consumer_group", group)
}

/// `key` of a KV call.
pub fn key(key: &str) -> Checked {
    length("key", key, MAX_KEY_BYTES)
}

/// A field that must hold something: payloads, values, ids.
pub fn not_empty(argument: &str, value: &[u8]) -> Checked {
    if value.is_empty() { refuse(format!("{argument} must not be empty")) } else { Ok(()) }
}

/// `delay_seconds` and `ttl_seconds`.
pub fn seconds(argument: &str, seconds: i64) -> Checked {
    if (0..=MAX_SECONDS).contains(&seconds) {
        Ok(())
    } else {
        refuse(format!("{argument} must be 0 to {MAX_SECONDS} (1 year), got {seconds}"))
    }
}

/// `visibility_timeout_seconds`: the length of a lease.
pub fn visibility(seconds: i64) -> Checked<i64> {
    match seconds {
        ..=0 => Ok(DEFAULT_VISIBILITY_SECONDS),
        1..=MAX_VISIBILITY_SECONDS => Ok(seconds),
        _ => refuse(format!(
            "visibility_timeout_seconds must be at most {MAX_VISIBILITY_SECONDS} (12 hours), got {seconds}"
        )),
    }
}

/// `long_poll_timeout_seconds`, never refused.
pub fn long_poll(seconds: i64) -> i64 {
    seconds.clamp(0, MAX_LONG_POLL_SECONDS)
}

/// `max_messages` and `max_jobs`, never refused: `default` stands for zero and below.
pub fn page(items: i32, default: usize, max: usize) -> usize {
    match usize::try_from(items) {
        Ok(0) | Err(_) => default,
        Ok(n) => n.min(max),
    }
}

/// A position that is at least `min`: offsets to read, commit or start at.
pub fn offset(argument: &str, offset: i64, min: i64) -> Checked {
    if offset >= min { Ok(()) } else { refuse(format!("{argument} must be at least {min}, got {offset}")) }
}

/// `events`: at least one, each a whole `Event` with a payload.
pub fn events(events: &[Bytes]) -> Checked {
    if events.is_empty() {
        return refuse("events must not be empty".into());
    }
    for (i, event) in events.iter().enumerate() {
        match EventView::parse(event) {
            Ok(event) => not_empty("payload", event.payload)
                .map_err(|e| Status::invalid_argument(format!("events[{i}].{}", e.message())))?,
            Err(e) => return refuse(format!("events[{i}] cannot be decoded: {e}")),
        }
    }
    Ok(())
}

/// `policy` of a queue.
pub fn retry_policy(policy: Option<RetryPolicy>) -> Checked<RetryPolicy> {
    let Some(p) = policy else { return refuse("policy must be set".into()) };
    if p.max_attempts < 0 {
        return refuse(format!("policy.max_attempts must be at least 0, got {}", p.max_attempts));
    }
    if p.initial_backoff_seconds <= 0 {
        return refuse(format!(
            "policy.initial_backoff_seconds must be above 0, got {}",
            p.initial_backoff_seconds
        ));
    }
    if !(p.initial_backoff_seconds..=MAX_SECONDS).contains(&p.max_backoff_seconds) {
        return refuse(format!(
            "policy.max_backoff_seconds must be initial_backoff_seconds to {MAX_SECONDS} (1 year), got {}",
            p.max_backoff_seconds
        ));
    }
    // NaN is not above 0 either.
    if p.backoff_multiplier.is_nan() || p.backoff_multiplier <= 0.0 {
        return refuse(format!("policy.backoff_multiplier must be above 0, got {}", p.backoff_multiplier));
    }
    if !["fixed", "linear", "exponential"].contains(&p.backoff_strategy.as_str()) {
        return refuse("policy.backoff_strategy must be `fixed`, `linear` or `exponential`".into());
    }
    Ok(p)
}

fn length(argument: &str, text: &str, max: usize) -> Checked {
    if (1..=max).contains(&text.len()) {
        Ok(())
    } else {
        refuse(format!("{argument} must be 1 to {max} bytes, got {}", text.len()))
    }
}

fn no_control_characters(argument: &str, text: &str) -> Checked {
    if text.chars().any(char::is_control) {
        refuse(format!("{argument} must not contain control characters"))
    } else {
        Ok(())
    }
}
