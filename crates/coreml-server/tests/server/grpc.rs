//! The protocol over gRPC, with the client that is generated from the same file as the server.

#[allow(clippy::all, clippy::unwrap_used, clippy::use_self, unused_qualifications, missing_docs, reason = "generated")]
#[allow(unreachable_pub, dead_code, unnameable_types, missing_debug_implementations, reason = "generated")]
#[rustfmt::skip]
#[path = "../../src/grpc/generated.rs"]
mod generated;

#[allow(clippy::all, clippy::unwrap_used, clippy::use_self, unused_qualifications, missing_docs, reason = "generated")]
#[allow(unreachable_pub, dead_code, unnameable_types, missing_debug_implementations, reason = "generated")]
#[rustfmt::skip]
#[path = "../../src/grpc/health/generated.rs"]
mod health;

use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use self::generated::grpc_inference_service_client::GrpcInferenceServiceClient;
use self::generated::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use self::generated::*;
use crate::client::get;
use crate::fixture::{config, folder, model, relu, start};
use crate::schedule::flexible;

type Client = GrpcInferenceServiceClient<Channel>;

fn run<T>(at: std::net::SocketAddr, test: impl AsyncFnOnce(Client) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let channel = Endpoint::from_shared(format!("http://{at}")).unwrap().connect().await.unwrap();
        test(GrpcInferenceServiceClient::new(channel)).await
    })
}

fn request() -> ModelInferRequest {
    let contents = InferTensorContents { fp32_contents: vec![-1.0, 0.5, 2.0], ..Default::default() };
    let input = InferInputTensor {
        name: "x".into(),
        datatype: "FP32".into(),
        shape: vec![1, 3],
        contents: Some(contents),
        ..Default::default()
    };
    ModelInferRequest { model_name: "relu".into(), id: "a".into(), inputs: vec![input], ..Default::default() }
}

#[test]
fn requests_are_answered_as_over_http() {
    let folder = folder();
    let server = start(config().model("relu", relu(&folder, &[1, 3])));
    run(server.address(), async |mut client: Client| {
        assert!(client.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
        assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
        let named = ModelReadyRequest { name: "relu".into(), version: "1".into() };
        assert!(client.model_ready(named).await.unwrap().into_inner().ready);
        let server = client.server_metadata(ServerMetadataRequest {}).await.unwrap().into_inner();
        assert_eq!(server.name, "coreml-anywhere");
        let named = ModelMetadataRequest { name: "relu".into(), version: String::new() };
        let metadata = client.model_metadata(named).await.unwrap().into_inner();
        assert_eq!((metadata.inputs[0].name.as_str(), metadata.inputs[0].shape.as_slice()), ("x", &[1, 3][..]));

        let expected: Vec<u8> = [0.0f32, 0.5, 2.0].into_iter().flat_map(f32::to_le_bytes).collect();
        let answer = client.model_infer(request()).await.unwrap().into_inner();
        assert_eq!((answer.id.as_str(), answer.model_version.as_str()), ("a", "1"));
        assert_eq!(answer.raw_output_contents[0], expected);
        let mut raw = request();
        raw.inputs[0].contents = None;
        raw.raw_input_contents =
            vec![[-1.0f32, 0.5, 2.0].into_iter().flat_map(f32::to_le_bytes).collect::<Vec<_>>().into()];
        assert_eq!(client.model_infer(raw).await.unwrap().into_inner().raw_output_contents[0], expected);

        let stats = client.model_statistics(ModelStatisticsRequest::default()).await.unwrap().into_inner();
        assert_eq!(stats.model_stats[0].inference_count, 2);
        let index = client.repository_index(RepositoryIndexRequest::default()).await.unwrap().into_inner();
        assert_eq!(index.models[0].state, "READY");
    });
}

#[test]
fn a_configuration_is_the_interface_in_tritons_words() {
    let folder = folder();
    let mut config = config().model("relu", relu(&folder, &[1, 3])).model("rows", flexible(&folder));
    config.models.get_mut("rows").unwrap().max_batch = Some(8);
    config.models.get_mut("rows").unwrap().batch_microseconds = Some(250);
    let server = start(config);
    let at = server.address();
    run(at, async |mut client: Client| {
        let mut ask = async |name: &str| {
            let named = ModelConfigRequest { name: name.into(), version: "1".into() };
            client.model_config(named).await.map(|config| config.into_inner().config.unwrap())
        };
        let relu = ask("relu").await.unwrap();
        assert_eq!((relu.name.as_str(), relu.platform.as_str(), relu.max_batch_size), ("relu", "coreml", 0));
        let x =
            ModelInput { name: "x".into(), data_type: DataType::TypeFp32.into(), dims: vec![1, 3], optional: false };
        assert_eq!(relu.input, [x]);
        assert_eq!((relu.output[0].name.as_str(), relu.dynamic_batching), ("y", None));
        // Where requests share a prediction, the batch's dimension is not told.
        let rows = ask("rows").await.unwrap();
        assert_eq!((rows.max_batch_size, &rows.input[0].dims, &rows.output[0].dims), (8, &vec![4], &vec![4]));
        assert_eq!(rows.dynamic_batching.unwrap().max_queue_delay_microseconds, 250);
        assert_eq!(ask("none").await.unwrap_err().code(), Code::NotFound);
    });
    let told = get(at, "/v2/models/rows/versions/1/config").json();
    let dims = serde_json::json!({"name": "x", "data_type": "TYPE_FP32", "dims": [4]});
    assert_eq!((&told["input"][0], &told["max_batch_size"]), (&dims, &serde_json::json!(8)));
    assert_eq!(get(at, "/v2/models/none/config").status, 404);
}

#[test]
fn health_is_told_of_the_server_and_of_each_model() {
    use health::health_check_response::ServingStatus::{self, NotServing, Serving};

    let folder = folder();
    model(&folder, "models/relu.mlmodel", &[1, 3], "relu");
    let token = folder.path().join("token");
    std::fs::write(&token, "secret").unwrap();
    let mut config = config();
    (config.repository, config.token_file) = (Some(folder.path().join("models")), Some(token));
    let server = start(config);
    run(server.address(), async |mut client: Client| {
        let channel = Endpoint::from_shared(format!("http://{}", server.address())).unwrap().connect().await.unwrap();
        // Probes have no token, and need none.
        let health = health::health_client::HealthClient::new(channel);
        let check = async |service: &str| {
            let request = health::HealthCheckRequest { service: service.into() };
            health.clone().check(request).await.map(|answer| answer.into_inner().status())
        };
        let all = async || -> Vec<ServingStatus> {
            let mut told = Vec::new();
            for service in ["", "inference.GRPCInferenceService", "relu", "relu/1"] {
                told.push(check(service).await.unwrap());
            }
            told
        };
        assert_eq!(all().await, [Serving; 4]);
        assert_eq!(check("none").await.unwrap_err().code(), Code::NotFound);
        assert_eq!(check("relu/2").await.unwrap_err().code(), Code::NotFound);
        let watched = health.clone().watch(health::HealthCheckRequest::default()).await.unwrap_err();
        assert_eq!(watched.code(), Code::Unimplemented);
        let unload = RepositoryModelUnloadRequest { model_name: "relu".into(), ..Default::default() };
        let refused = client.repository_model_unload(unload.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        let mut unload = tonic::Request::new(unload);
        unload.metadata_mut().insert("authorization", "Bearer secret".parse().unwrap());
        client.repository_model_unload(unload).await.unwrap();
        assert_eq!([check("").await.unwrap(), check("relu").await.unwrap()], [Serving, NotServing]);
    });
}

#[test]
fn errors_have_the_codes_of_grpc() {
    let folder = folder();
    let server = start(config().model("relu", relu(&folder, &[1, 3])));
    run(server.address(), async |mut client: Client| {
        let mut cases = Vec::new();
        let mut case = |code, change: &dyn Fn(&mut ModelInferRequest)| {
            let mut request = request();
            change(&mut request);
            cases.push((code, request));
        };
        case(Code::NotFound, &|request| request.model_name = "none".into());
        case(Code::NotFound, &|request| request.model_version = "2".into());
        case(Code::InvalidArgument, &|request| request.inputs.clear());
        case(Code::InvalidArgument, &|request| request.inputs[0].shape = vec![-1, 3]);
        case(Code::InvalidArgument, &|request| request.inputs[0].shape = vec![i64::MAX, 3]);
        case(Code::InvalidArgument, &|request| request.inputs[0].datatype = "FP99".into());
        case(Code::InvalidArgument, &|request| request.inputs[0].datatype = "FP16".into());
        case(Code::InvalidArgument, &|request| request.inputs[0].contents = None);
        case(Code::InvalidArgument, &|request| request.raw_input_contents = vec![vec![0; 12].into(); 2]);
        case(Code::InvalidArgument, &|request| request.raw_input_contents = vec![vec![0; 12].into()]);
        case(Code::InvalidArgument, &|request| {
            request.outputs = vec![InferRequestedOutputTensor { name: "z".into(), ..Default::default() }];
        });
        for (code, request) in cases {
            let status = client.model_infer(request.clone()).await.unwrap_err();
            assert_eq!(status.code(), code, "{status} {request:?}");
        }
        let stream = client.model_stream_infer(tokio_stream(request())).await.unwrap_err();
        assert_eq!(stream.code(), Code::Unimplemented);
    });
}

fn tokio_stream(
    request: ModelInferRequest,
) -> tonic::Request<impl tonic::codegen::tokio_stream::Stream<Item = ModelInferRequest>> {
    tonic::Request::new(tonic::codegen::tokio_stream::iter([request]))
}

#[test]
fn models_are_loaded_and_unloaded() {
    let folder = folder();
    model(&folder, "relu.mlmodel", &[1, 3], "relu");
    let mut config = config();
    config.repository = Some(folder.path().into());
    config.limits.body_bytes = 10_000;
    let server = start(config);
    run(server.address(), async |mut client: Client| {
        let unload = RepositoryModelUnloadRequest { model_name: "relu".into(), ..Default::default() };
        client.repository_model_unload(unload).await.unwrap();
        assert_eq!(client.model_infer(request()).await.unwrap_err().code(), Code::Unavailable);
        let load = RepositoryModelLoadRequest { model_name: "relu".into(), ..Default::default() };
        client.repository_model_load(load).await.unwrap();
        client.model_infer(request()).await.unwrap();
        let none = RepositoryModelLoadRequest { model_name: "none".into(), ..Default::default() };
        assert_eq!(client.repository_model_load(none).await.unwrap_err().code(), Code::NotFound);
        let mut large = request();
        large.id = "a".repeat(20_000);
        assert!(client.model_infer(large).await.is_err());
        client.model_infer(request()).await.unwrap();
    });
}
