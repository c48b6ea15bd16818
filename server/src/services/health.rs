//! HealthService: whether the process serves calls, and whether storage can take work.

use flowmesh_proto::{
    server::health_service_server::HealthService,
    v1::{self, HealthCheckRequest, HealthCheckResponse, ReadinessCheckRequest, ReadinessCheckResponse},
};
use tonic::{Request, Response, Result, async_trait};

use super::ok;
use crate::Engine;

/// `status.code` of the readiness reply while storage cannot take work.
const NOT_READY: i32 = 503;

pub struct Health {
    engine: Engine,
}

impl Health {
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

#[async_trait]
impl HealthService for Health {
    async fn health_check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>> {
        Ok(Response::new(HealthCheckResponse { status: ok() }))
    }

    async fn readiness_check(
        &self,
        _: Request<ReadinessCheckRequest>,
    ) -> Result<Response<ReadinessCheckResponse>> {
        let ready = self.engine.is_ready();
        let status = if ready {
            ok()
        } else {
            let message = "storage cannot take work".into();
            Some(v1::Status { code: NOT_READY, message, ..Default::default() })
        };
        Ok(Response::new(ReadinessCheckResponse { status, ready }))
    }
}
