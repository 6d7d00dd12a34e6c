//! The server under TLS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coreml_server::{Config, ConfigError, Server};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::fixture::{INFER, REQUEST, folder, relu};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server/certificates").join(name)
}

/// Serves `relu` under TLS by a configuration's file.
fn serve(folder: &tempfile::TempDir, certificate: &str, key: &str) -> Result<Server, ConfigError> {
    let (certificate, key, model) = (file(certificate), file(key), relu(folder, &[1, 3]));
    let text = format!(
        "address = '127.0.0.1:0'\n[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n[models.relu]\npath = {model:?}"
    );
    let config = folder.path().join("config.toml");
    std::fs::write(&config, text).unwrap();
    Server::start(Config::read(&config)?)
}

/// The answer to a client that trusts this authority.
fn ask(at: SocketAddr, authority: &str, request: &str) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file(authority)).unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(client), "localhost".try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(at)?);
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
}

#[test]
fn who_trusts_the_authority_is_answered_and_who_trusts_another_leaves() {
    let folder = folder();
    let server = serve(&folder, "server.pem", "server.key").unwrap();
    let at = server.address();
    let answer = ask(at, "ca.pem", &post(INFER, REQUEST)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("[0.0,0.5,2.0]"), "{answer}");
    let error = ask(at, "other.pem", &post(INFER, REQUEST)).unwrap_err();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    // Whoever speaks without TLS is not answered, and keeps nobody else from it.
    let mut plain = crate::client::connect(at);
    crate::client::write(&mut plain, "POST", INFER, &[], REQUEST.as_bytes());
    assert!(crate::client::try_read(&mut plain).is_none());
    assert!(ask(at, "ca.pem", &post(INFER, REQUEST)).unwrap().starts_with("HTTP/1.1 200"));
}

#[test]
fn certificates_and_keys_that_do_not_suit_are_told() {
    for (certificate, key, told) in
        [("none.pem", "server.key", "none.pem"), ("server.pem", "ca.pem", "ca.pem"), ("ca.pem", "server.key", "ca.pem")]
    {
        let error = serve(&folder(), certificate, key).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
}
