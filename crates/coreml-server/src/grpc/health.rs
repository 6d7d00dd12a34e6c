//! gRPC's own protocol for health checks.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use self::generated::health_check_response::ServingStatus;
use self::generated::health_server::{Health, HealthServer};
use self::generated::{HealthCheckRequest, HealthCheckResponse};
use crate::app::App;
use crate::refusal::Why;

// Generated code follows its generators' habits and not this workspace's.
#[allow(clippy::all, clippy::unwrap_used, clippy::use_self, unused_qualifications, missing_docs, reason = "generated")]
#[allow(unreachable_pub, dead_code, unnameable_types, missing_debug_implementations, reason = "generated")]
#[rustfmt::skip]
mod generated;

/// What the paths of its methods look like.
pub(crate) const PATHS: &str = "/grpc.health.v1.Health/{method}";

/// The name by which it is asked whether every model is ready.
const INFERENCE: &str = "inference.GRPCInferenceService";

pub(crate) fn service(app: Arc<App>) -> HealthServer<Service> {
    HealthServer::new(Service(app))
}

/// The methods of the service.
#[derive(Debug)]
pub(crate) struct Service(Arc<App>);

impl Service {
    /// The server as such serves until it is told to end: who restarts what does not serve must not do so for a broken model.
    /// `MODEL` and `MODEL/VERSION` are models.
    fn status(&self, service: &str) -> Result<ServingStatus, Status> {
        let serves = match service {
            "" => !self.0.is_draining(),
            INFERENCE => self.0.is_ready(),
            model => {
                let (name, version) = model.split_once('/').unwrap_or((model, ""));
                match self.0.repository.get(name, Some(version)) {
                    Ok(_) => !self.0.is_draining(),
                    Err(refusal) if refusal.why == Why::Unready => false,
                    Err(refusal) => return Err(refusal.into()),
                }
            }
        };
        Ok(if serves { ServingStatus::Serving } else { ServingStatus::NotServing })
    }
}

#[tonic::async_trait]
impl Health for Service {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let status = self.status(&request.into_inner().service)?.into();
        Ok(Response::new(HealthCheckResponse { status }))
    }

    type WatchStream = tonic::codegen::BoxStream<HealthCheckResponse>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("this server does not stream; use Check"))
    }
}
