//! The protocol over gRPC.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use axum::response::Response as HttpResponse;
use tonic::{Request, Response, Status, metadata::MetadataMap};

use self::generated::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use self::generated::*;
use crate::app::App;
use crate::http::{SERVER, aside, control};
use crate::protocol::EXTENSIONS;
use crate::protocol::metadata::{Metadata, TensorMetadata};
use crate::protocol::model_config::{self, TensorConfig};
use crate::refusal::{Refusal, Why};
use crate::statistics::{ModelStatistics as Told, Told as Span};

mod convert;
pub(crate) mod health;
// Generated code follows its generators' habits and not this workspace's.
#[allow(clippy::all, clippy::unwrap_used, clippy::use_self, unused_qualifications, missing_docs, reason = "generated")]
#[allow(unreachable_pub, dead_code, unnameable_types, missing_debug_implementations, reason = "generated")]
#[rustfmt::skip]
mod generated;

/// The route of the methods.
pub(crate) const PATHS: &str = "/inference.GRPCInferenceService/{method}";

/// Whether a request is one of gRPC's.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// The answer to a request that reaches no method.
pub(crate) fn refuse(refusal: Refusal) -> HttpResponse {
    Status::from(refusal).into_http()
}

/// The methods.
pub(crate) fn service(app: Arc<App>) -> GrpcInferenceServiceServer<Service> {
    let most = app.config.limits.body_bytes;
    GrpcInferenceServiceServer::new(Service(app)).max_decoding_message_size(most).max_encoding_message_size(usize::MAX)
}

/// The methods of the service.
#[derive(Debug)]
pub(crate) struct Service(Arc<App>);

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut status = Self::new(refusal.why.grpc(), refusal.message);
        if let Some(wait) = refusal.retry_after {
            let milliseconds = wait.as_millis().to_string();
            if let Ok(milliseconds) = milliseconds.parse() {
                status.metadata_mut().insert("grpc-retry-pushback-ms", milliseconds);
            }
        }
        status
    }
}

/// How long the client waits, from the header `grpc-timeout`: a number and a letter for its unit.
fn patience(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Result<Response<ServerReadyResponse>, Status> {
        Ok(Response::new(ServerReadyResponse { ready: self.0.is_ready() }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Result<Response<ModelReadyResponse>, Status> {
        let ModelReadyRequest { name, version } = request.into_inner();
        match self.0.repository.get(&name, Some(&version)) {
            Ok(_) => Ok(Response::new(ModelReadyResponse { ready: true })),
            Err(refusal) if refusal.why == Why::Unready => Ok(Response::new(ModelReadyResponse { ready: false })),
            Err(refusal) => Err(refusal.into()),
        }
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        let extensions = EXTENSIONS.map(str::to_owned).to_vec();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Response::new(ServerMetadataResponse { name: SERVER.to_owned(), version, extensions }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let ModelMetadataRequest { name, version } = request.into_inner();
        let found = self.0.repository.get(&name, Some(&version))?;
        let versions = self.0.repository.versions(&name);
        let Metadata { name, versions, platform, inputs, outputs } =
            Metadata::of(&name, versions, found.core.session.interface());
        let tensor = |TensorMetadata { name, datatype, shape }| model_metadata_response::TensorMetadata {
            name,
            datatype: datatype.to_owned(),
            shape,
        };
        Ok(Response::new(ModelMetadataResponse {
            name,
            versions,
            platform: platform.to_owned(),
            inputs: inputs.into_iter().map(tensor).collect(),
            outputs: outputs.into_iter().map(tensor).collect(),
        }))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Result<Response<ModelConfigResponse>, Status> {
        let ModelConfigRequest { name, version } = request.into_inner();
        let config = self.0.repository.get(&name, Some(&version))?.config();
        Ok(Response::new(ModelConfigResponse { config: Some(configuration(config)) }))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Result<Response<ModelInferResponse>, Status> {
        let start = Instant::now();
        let patience = patience(request.metadata());
        let request = request.into_inner();
        let version = self.0.repository.get(&request.model_name, Some(&request.model_version))?;
        let response = version.infer(convert::request(request)?, start, patience).await?;
        Ok(Response::new(convert::response(response)))
    }

    type ModelStreamInferStream = tonic::codegen::BoxStream<ModelStreamInferResponse>;

    async fn model_stream_infer(
        &self,
        _: Request<tonic::Streaming<ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        Err(Status::unimplemented("this server does not stream; use ModelInfer"))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Result<Response<ModelStatisticsResponse>, Status> {
        let ModelStatisticsRequest { name, version } = request.into_inner();
        let versions = if name.is_empty() {
            self.0.repository.serving()
        } else {
            vec![self.0.repository.get(&name, Some(&version))?]
        };
        let told = |version: &Arc<crate::version::Version>| {
            statistics(version.core.statistics.tell(&version.model, &version.told()))
        };
        Ok(Response::new(ModelStatisticsResponse { model_stats: versions.iter().map(told).collect() }))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Result<Response<RepositoryIndexResponse>, Status> {
        let lines = self.0.repository.index(request.into_inner().ready).into_iter();
        let models = lines.map(|line| repository_index_response::ModelIndex {
            name: line.name,
            version: line.version,
            state: line.state.to_owned(),
            reason: line.reason,
        });
        Ok(Response::new(RepositoryIndexResponse { models: models.collect() }))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Result<Response<RepositoryModelLoadResponse>, Status> {
        let RepositoryModelLoadRequest { model_name, parameters, .. } = request.into_inner();
        control(&self.0)?;
        if let Some(parameter) = parameters.keys().next() {
            let message = format!("models are loaded as they are; the parameter {parameter:?} is not heeded here");
            return Err(Refusal::invalid(message).into());
        }
        let repository = self.0.repository.clone();
        aside(move || repository.load(&model_name)).await?;
        Ok(Response::new(RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Result<Response<RepositoryModelUnloadResponse>, Status> {
        let name = request.into_inner().model_name;
        control(&self.0)?;
        let repository = self.0.repository.clone();
        aside(move || repository.unload(&name)).await?;
        Ok(Response::new(RepositoryModelUnloadResponse {}))
    }
}

fn configuration(told: model_config::ModelConfig) -> ModelConfig {
    let data_type = |name: &str| DataType::from_str_name(name).unwrap_or_default().into();
    let input = |TensorConfig { name, data_type: told, dims, optional }| ModelInput {
        name,
        data_type: data_type(&told),
        dims,
        optional,
    };
    let output =
        |TensorConfig { name, data_type: told, dims, .. }| ModelOutput { name, data_type: data_type(&told), dims };
    ModelConfig {
        name: told.name,
        platform: told.platform.to_owned(),
        backend: told.backend.to_owned(),
        max_batch_size: told.max_batch_size,
        input: told.input.into_iter().map(input).collect(),
        output: told.output.into_iter().map(output).collect(),
        dynamic_batching: told.dynamic_batching.map(|batching| ModelDynamicBatching {
            max_queue_delay_microseconds: batching.max_queue_delay_microseconds,
        }),
    }
}

fn statistics(told: Told) -> ModelStatistics {
    let span = |Span { count, ns }| Some(StatisticDuration { count, ns });
    let spans = told.inference_stats;
    ModelStatistics {
        name: told.name,
        version: told.version,
        last_inference: told.last_inference,
        inference_count: told.inference_count,
        execution_count: told.execution_count,
        inference_stats: Some(InferStatistics {
            success: span(spans.success),
            fail: span(spans.fail),
            queue: span(spans.queue),
            compute_input: span(spans.compute_input),
            compute_infer: span(spans.compute_infer),
            compute_output: span(spans.compute_output),
            cache_hit: span(spans.cache_hit),
            cache_miss: span(spans.cache_miss),
        }),
        batch_stats: told
            .batch_stats
            .into_iter()
            .map(|batch| InferBatchStatistics {
                batch_size: batch.batch_size,
                compute_input: span(batch.compute_input),
                compute_infer: span(batch.compute_infer),
                compute_output: span(batch.compute_output),
            })
            .collect(),
        memory_usage: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_units() {
        let of = |text: &'static str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            patience(&metadata)
        };
        assert_eq!(of("250m"), Some(Duration::from_millis(250)));
        assert_eq!(of("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for wrong in ["", "m", "1", "1x", "-1S", "123456789S"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
