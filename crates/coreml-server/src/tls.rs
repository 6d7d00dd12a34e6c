//! Certificate and key.

use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::{ConfigError, Tls};

/// What makes connections of TLS; HTTP/1.1 and HTTP/2 over it.
///
/// # Errors
/// When certificate or key cannot be read, or do not belong together.
pub(crate) fn acceptor(config: &Tls) -> Result<TlsAcceptor, ConfigError> {
    let failed = |path: &std::path::Path, error: &dyn std::fmt::Display| {
        ConfigError::new(format!("{}: {error}", path.display()))
    };
    let certificates = CertificateDer::pem_file_iter(&config.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(&config.certificate, &error))?;
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(|error| failed(&config.key, &error))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&config.certificate, &error))?;
    let mut server = builder
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(|error| failed(&config.certificate, &error))?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}
