//! In place of the engine in a library built without the feature `embedded`: says so.

use std::{convert::Infallible, future::Ready, sync::Arc, time::Duration};

use tokio::sync::Notify;
use tonic::body::Body;

use super::{
    endpoint::Endpoint,
    error::{Error, Result, Status},
    options::ClientOptions,
};

/// Never made.
#[derive(Clone)]
pub(crate) enum Services {}

/// Never made.
pub(crate) enum Embedded {}

/// Never made.
pub(crate) type Response = Ready<std::result::Result<http::Response<Body>, Infallible>>;

impl Services {
    pub fn call(&mut self, _: http::Request<Body>) -> Response {
        match *self {}
    }
}

impl Embedded {
    pub fn new(endpoint: &Endpoint, _: &ClientOptions) -> Result<Self> {
        Err(Error::local(
            Status::UNIMPLEMENTED,
            format!("endpoint `{endpoint}`: this library was built without the embedded engine"),
        ))
    }

    pub fn open(&self) -> Result<Services> {
        match *self {}
    }

    pub fn test_clock_ns(&self) -> Option<i64> {
        match *self {}
    }

    pub fn test_clock_moves(&self) -> Option<Arc<Notify>> {
        match *self {}
    }

    pub fn advance_clock(&self, _: Duration) -> Result<()> {
        match *self {}
    }
}

pub(crate) fn no_test_clock() -> Error {
    Error::local(Status::UNIMPLEMENTED, "this library was built without the embedded engine")
}

pub(crate) fn inline<R>(poll: impl FnOnce() -> R) -> R {
    poll()
}

pub(crate) fn gathered<R>(poll: impl FnOnce() -> R) -> R {
    poll()
}
