//! The connecting end.

use std::{
    future::Future,
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
    version::TLS13,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Status,
    codegen::Service,
    transport::{Channel, Endpoint, Error},
};
use voicelane_types::with_causes;

use crate::{
    files::{Files, FilesError, Loaded, no_pair, provider, roots, system_roots},
    leaf::Leaf,
    name::Role,
};

/// What ALPN (RFC 7301) calls HTTP/2.
pub(crate) const HTTP_2: &[u8] = b"h2";

/// Why a server's address and the files do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum AddressError {
    #[error("an https:// server wants cert, key and ca (voicelane pki issue makes them)")]
    NoFiles,
    #[error("cert, key and ca are for an https:// server")]
    PlainText,
    #[error("{0:?} is no URL such as https://192.0.2.10:7400 or http://127.0.0.1:7400")]
    Url(String),
}

/// Checks that a server's address is https where there are files, and http where there are none.
///
/// # Errors
///
/// If not.
pub fn check(server: &Uri, files: Option<&Files>) -> Result<(), AddressError> {
    match (server.scheme_str(), files) {
        (Some("https"), None) => Err(AddressError::NoFiles),
        (Some("http"), Some(_)) => Err(AddressError::PlainText),
        (Some("https" | "http"), _) if server.authority().is_some() => Ok(()),
        _ => Err(AddressError::Url(server.to_string())),
    }
}

/// Connects, by TLS where the endpoint is https. The files are read at each connecting, also when a
/// connection that was lost is made again, so that new ones count without a restart.
///
/// # Errors
///
/// If there is no connection; the innermost source says why.
pub async fn connect(endpoint: &Endpoint, files: Option<&Files>) -> Result<Channel, Error> {
    if endpoint.uri().scheme_str() != Some("https") {
        return endpoint.connect().await;
    }
    let connector = Connector {
        files: files.cloned(),
    };
    endpoint.connect_with_connector(connector).await
}

/// What a server said. If the connection broke: why; a certificate that is no good there is refused after
/// the connection is made (RFC 8446, section 4.4.2.4).
#[must_use]
pub fn words(status: &Status) -> String {
    let text = format!("{} ({})", status.message(), status.code());
    match std::error::Error::source(status) {
        Some(source) => format!("{text}: {}", with_causes(source)),
        None => text,
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error(transparent)]
    Connect(#[from] io::Error),
}

#[derive(Clone, Debug)]
struct Connector {
    files: Option<Files>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let files = self.files.clone();
        Box::pin(async move {
            let stream = handshake(&server, files.as_ref()).await?;
            Ok(TokioIo::new(stream))
        })
    }
}

async fn handshake(
    server: &Uri,
    files: Option<&Files>,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    check(server, files)?;
    let files = files.ok_or(AddressError::NoFiles)?;
    let config = config(files)?;
    let no_url = || AddressError::Url(server.to_string());
    let host = server.host().ok_or_else(no_url)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(|_| no_url())?;
    let stream = TcpStream::connect((host, server.port_u16().unwrap_or(443))).await?;
    stream.set_nodelay(true)?;
    let connector = TlsConnector::from(Arc::new(config));
    Ok(connector.connect(name, stream).await?)
}

/// What these files make of a client.
///
/// # Errors
///
/// If a file cannot be read or understood, or certificate and key do not go together.
pub fn config(files: &Files) -> Result<ClientConfig, FilesError> {
    let Loaded {
        chain,
        key,
        roots,
        leaf,
    } = Loaded::read(files)?;
    let provider = provider();
    let verifier = Servers {
        roots,
        algorithms: provider.signature_verification_algorithms,
        domain: leaf.name.domain().into(),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| no_pair(files, &error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key)
        .map_err(|error| no_pair(files, &error))?;
    config.alpn_protocols = vec![HTTP_2.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// A client without a certificate, for https to others than QoS servers: they prove the host's name by these
/// authorities (PEM), or without them by those of the system. TLS 1.3.
///
/// # Errors
///
/// If there is no authority in the file, or none in the system.
pub fn public(ca: Option<&Path>) -> Result<ClientConfig, FilesError> {
    let roots = match ca {
        Some(ca) => roots(ca)?,
        None => system_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| FilesError::Tls(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Takes a QoS server of the same domain for one, wherever it is: by its name, not its address.
#[derive(Debug)]
struct Servers {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    domain: Box<str>,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(certificate)?,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let refused = |reason: String| Err(rustls::Error::General(reason));
        match Leaf::read(certificate) {
            Err(error) => refused(format!("the server's certificate: {error}")),
            Ok(leaf) if leaf.name.role() != Role::Server => {
                refused(format!("it is no QoS server: {leaf}"))
            }
            Ok(leaf) if leaf.name.domain() != &*self.domain => {
                let domain = &self.domain;
                refused(format!(
                    "it is a server of another domain than {domain}: {leaf}"
                ))
            }
            Ok(_) => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
