//! What a network server offers beside the FlowMesh services: the standard health service and
//! server reflection.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use flowmesh_proto::server::{
    health_service_server, kv_service_server, queue_service_server, stream_service_server,
};
use http::{Request, Response};
use tonic::{body::Body, codegen::BoxFuture, server::NamedService};
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
    server::HealthReporter,
};
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};
use tower::Service;

use super::exchange::RequestBody;
use crate::services::{Routes, service_name};

/// Names that the standard health service knows; the empty one is the server as a whole.
pub const SERVICE_NAMES: [&str; 5] = [
    "",
    health_service_server::SERVICE_NAME,
    stream_service_server::SERVICE_NAME,
    queue_service_server::SERVICE_NAME,
    kv_service_server::SERVICE_NAME,
];

/// Calls by method path.
pub struct Dispatch<H, R> {
    routes: Routes,
    health: HealthServer<H>,
    reflection: ServerReflectionServer<R>,
}

impl<H, R> Dispatch<H, R> {
    pub fn new(routes: Routes, health: HealthServer<H>, reflection: ServerReflectionServer<R>) -> Self {
        Self { routes, health, reflection }
    }
}

/// The generated servers are shared, whatever they serve is not asked to be cloneable.
impl<H, R> Clone for Dispatch<H, R> {
    fn clone(&self) -> Self {
        Self { routes: self.routes.clone(), health: self.health.clone(), reflection: self.reflection.clone() }
    }
}

impl<H: Health, R: ServerReflection> Service<Request<RequestBody>> for Dispatch<H, R> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        match service_name(request.uri().path()) {
            name if name == HealthServer::<H>::NAME => self.health.call(request),
            name if name == ServerReflectionServer::<R>::NAME => self.reflection.call(request),
            _ => self.routes.call(request),
        }
    }
}

/// Reflection over our own descriptors.
pub fn reflection() -> ServerReflectionServer<impl ServerReflection> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(flowmesh_proto::DESCRIPTORS)
        .build_v1()
        .expect("the descriptors were made by our own build")
}

/// Tells those who watch the health service that this server goes, and ends their calls.
pub async fn retire(mut reporter: HealthReporter) {
    for service in SERVICE_NAMES {
        reporter.set_service_status(service, ServingStatus::NotServing).await;
        reporter.clear_service_status(service).await;
    }
}
