//! The accepting end.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, DistinguishedName, ServerConfig,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, UnixTime},
    server::{
        NoServerSessionStorage, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use voicelane_types::with_causes;

use crate::{
    client::HTTP_2,
    files::{Files, FilesError, Loaded, content, no_pair, provider, revocations},
    leaf::{Leaf, describe},
    name::Role,
};

/// Whom a server trusts, and what it proves its own name with. Never changes: what changes is which
/// one new connections meet.
#[derive(Debug)]
pub struct Trust {
    certified: Arc<SingleCertAndKey>,
    verifier: Verifier,
    own: Leaf,
}

/// What is spoken over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    /// What ALPN (RFC 7301) calls it.
    fn name(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => HTTP_2,
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The name and validity of the certificate that it has shown.
    pub leaf: Arc<Leaf>,
    chain: Arc<[CertificateDer<'static>]>,
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Refusal {
    /// What its certificate says; absent: it has not shown one.
    pub who: Option<String>,
    /// The reason, in words for the log.
    pub why: String,
}

impl Trust {
    /// Reads the files, and the list of revoked certificates (CRL) if there is one.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or understood; if certificate and key do not go together, or the
    /// certificate is no server's, has expired or is not from the authority.
    pub fn load(files: &Files, crl: Option<&Path>) -> Result<Self, FilesError> {
        let Loaded {
            chain,
            key,
            roots,
            leaf,
        } = Loaded::read(files)?;
        if leaf.name.role() != Role::Server {
            let reason = format!("it is {}; a server's name is wanted", leaf.name);
            return Err(content(&files.cert, &reason));
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        if now.is_ok_and(|now| i128::from(now.as_secs()) >= i128::from(leaf.not_after)) {
            return Err(FilesError::Expired {
                file: files.cert.clone(),
                leaf: Box::new(leaf),
            });
        }
        let provider = provider();
        let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
        if let Some(file) = crl {
            verifier = verifier
                .with_crls(revocations(file)?)
                .only_check_end_entity_revocation()
                .allow_unknown_revocation_status();
        }
        let ca: PathBuf = crl.unwrap_or(&files.ca).to_owned();
        let verifier = verifier.build().map_err(|error| content(&ca, &error))?;
        let verifier = Verifier {
            inner: verifier,
            domain: leaf.name.domain().into(),
        };
        let certified = CertifiedKey::from_der(chain, key, &provider)
            .map_err(|error| no_pair(files, &error))?;
        Ok(Self {
            certified: Arc::new(SingleCertAndKey::from(certified)),
            verifier,
            own: leaf,
        })
    }

    fn config(
        &self,
        protocol: Protocol,
        verifier: Arc<Noted>,
    ) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.certified.clone());
        config.alpn_protocols = vec![protocol.name().to_vec()];
        // A session that goes on would not have its certificate looked at again.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }

    /// The server's own certificate.
    #[must_use]
    pub fn own(&self) -> &Leaf {
        &self.own
    }

    /// Makes the handshake.
    ///
    /// # Errors
    ///
    /// If the peer does not speak TLS 1.3, or has no certificate that is good here.
    pub async fn accept<S>(
        &self,
        stream: S,
        protocol: Protocol,
    ) -> Result<(TlsStream<S>, Identity), Refusal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let seen = Arc::new(Noted {
            verifier: self.verifier.clone(),
            seen: Mutex::new(None),
        });
        let config = self
            .config(protocol, seen.clone())
            .map_err(|error| Refusal {
                who: None,
                why: words(&error),
            })?;
        let accepted = TlsAcceptor::from(Arc::new(config)).accept(stream).await;
        let who = seen
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let stream = accepted.map_err(|error| Refusal {
            who: who.clone(),
            why: reason(&error),
        })?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let leaf = chain.first().map(|first| Leaf::read(first));
        let Some(Ok(leaf)) = leaf else {
            let why = "it has no certificate".to_owned();
            return Err(Refusal { who, why });
        };
        let identity = Identity {
            leaf: Arc::new(leaf),
            chain: chain.iter().cloned().collect(),
        };
        Ok((stream, identity))
    }

    /// Why somebody would not be let in now who was once.
    ///
    /// # Errors
    ///
    /// If its certificate has expired or is revoked, or its authority is not trusted any more.
    pub fn check(&self, identity: &Identity) -> Result<(), Refusal> {
        let [first, rest @ ..] = &*identity.chain else {
            return Err(Refusal {
                who: None,
                why: "it has no certificate".into(),
            });
        };
        let checked = self.verifier.verify(first, rest, UnixTime::now());
        checked.map(drop).map_err(|error| Refusal {
            who: Some(identity.leaf.to_string()),
            why: words(&error),
        })
    }
}

/// Who is trusted: holders of certificates from the authority, of the server's own domain.
#[derive(Clone, Debug)]
struct Verifier {
    inner: Arc<dyn ClientCertVerifier>,
    domain: Arc<str>,
}

impl Verifier {
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self
            .inner
            .verify_client_cert(certificate, intermediates, now)?;
        let refused = |reason: String| Err(rustls::Error::General(reason));
        match Leaf::read(certificate) {
            Err(error) => refused(format!("its certificate names nobody: {error}")),
            Ok(leaf) if leaf.name.domain() != &*self.domain => {
                refused(format!("its domain is not {}", self.domain))
            }
            Ok(_) => Ok(verified),
        }
    }
}

/// A verifier for one handshake, which keeps who was seen.
#[derive(Debug)]
struct Noted {
    verifier: Verifier,
    seen: Mutex<Option<String>>,
}

impl ClientCertVerifier for Noted {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(describe(certificate));
        self.verifier.verify(certificate, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier
            .inner
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier
            .inner
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.inner.supported_verify_schemes()
    }
}

/// Why a handshake failed.
fn reason(error: &io::Error) -> String {
    let tls = error
        .get_ref()
        .and_then(|it| it.downcast_ref::<rustls::Error>());
    match tls {
        Some(error) => words(error),
        None => with_causes(error),
    }
}

fn words(error: &rustls::Error) -> String {
    use rustls::Error as E;
    match error {
        E::NoCertificatesPresented => "it has no certificate".into(),
        // The second: of an authority with the same name and another key.
        E::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "its certificate is not from this server's authority (ca)".into()
        }
        E::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired".into(),
        E::InvalidCertificate(CertificateError::Revoked) => "its certificate is revoked".into(),
        E::InvalidMessage(_) => {
            "it does not speak TLS; https:// is wanted in place of http://".into()
        }
        E::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError,
        ) => format!("it does not trust this server's certificate ({error})"),
        other => other.to_string(),
    }
}
