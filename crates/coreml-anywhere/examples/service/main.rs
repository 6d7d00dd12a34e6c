//! A service that classifies photographs, with axum: all requests share the sessions, a client who leaves frees the
//! processor, and a client who cannot be answered in time is told when to come back.
//!
//! ```console
//! $ cargo run --release --example service
//! $ curl --data-binary @tests/fixtures/images/coffee.png http://127.0.0.1:3000/classify
//! {"served_by":"cpu","classes":[{"label":"espresso","probability":0.951},…]}
//! $ curl http://127.0.0.1:3000/metrics
//! ```

#[cfg(test)]
mod tests;

use std::io::Write;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use clap::Parser;
use coreml_anywhere::telemetry::openmetrics;
use coreml_anywhere::{Error, ErrorKind, Image, Inputs, Prediction, Session};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The largest photograph that is read, in bytes.
const LARGEST: usize = 16 << 20;

/// Classifies the photographs that are posted to it.
#[derive(Debug, Parser)]
struct Arguments {
    /// The model, which has one image input
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/EfficientNetLite0.mlpackage"))]
    model: String,
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: String,
    /// Milliseconds within which every request is answered or refused
    #[arg(long, default_value_t = 1000)]
    deadline: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let session = open(&arguments.model, Duration::from_millis(arguments.deadline))?;
    let listener = TcpListener::bind(&arguments.listen).await?;
    writeln!(std::io::stdout(), "listening on http://{}", listener.local_addr()?)?;
    axum::serve(listener, service(session)).await?;
    Ok(())
}

/// One thread for each prediction, so that as many as there are processors run beside one another.
fn open(model: &str, deadline: Duration) -> Result<Session, Error> {
    Session::builder().threads(1).deadline(deadline).open(model)
}

fn service(session: Session) -> Router {
    Router::new()
        .route("/classify", post(classify))
        .route("/metrics", get(metrics))
        .layer(DefaultBodyLimit::max(LARGEST))
        .with_state(session)
}

async fn classify(State(session): State<Session>, photo: Bytes) -> Result<Response, Refusal> {
    let photo = Image::from_bytes(&photo)?;
    let input = session.interface().inputs.first().map_or("", |input| input.name.as_str());
    // axum drops this handler when its client has left, which drops the future, which stops the prediction.
    let answer = session.predict_async(&Inputs::new().image(input, &photo)).await?;
    Ok(as_json(StatusCode::OK, &classes(&answer)))
}

fn classes(answer: &Prediction) -> Value {
    let class = |(label, probability): (_, f64)| json!({"label": label, "probability": probability});
    let classes: Vec<_> = answer.top(5).into_iter().map(class).collect();
    json!({"served_by": answer.served_by(), "classes": classes})
}

async fn metrics(State(session): State<Session>) -> Response {
    ([(header::CONTENT_TYPE, openmetrics::CONTENT_TYPE)], coreml_anywhere::openmetrics([&session])).into_response()
}

fn as_json(status: StatusCode, value: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// At least `wait` in seconds, which is what HTTP counts in.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// An error as a client sees it.
struct Refusal(Error);

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self.0.kind() {
            ErrorKind::InvalidInput => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorKind::Overloaded | ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut response = as_json(status, &json!({"error": self.0.to_string()}));
        if let Some(wait) = self.0.retry_after() {
            response.headers_mut().insert(header::RETRY_AFTER, whole_seconds(wait).into());
        }
        response
    }
}
