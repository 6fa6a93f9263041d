//! The files that a program proves its name with.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject},
};

use crate::leaf::{Leaf, LeafError};

/// Where certificate, key and authority are: PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Its certificate, and any between it and the authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority's certificate; several while one takes the place of another.
    pub ca: PathBuf,
}

/// What is wrong with them. Never has anything of a key.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum FilesError {
    #[error("{}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("{}: {reason}", file.display())]
    Content { file: PathBuf, reason: String },
    #[error("{} and {} are not a pair: {reason}", cert.display(), key.display())]
    Pair {
        cert: PathBuf,
        key: PathBuf,
        reason: String,
    },
    #[error(
        "{}: {leaf} has expired, at {}; issue another: voicelane pki renew",
        file.display(), crate::leaf::utc(leaf.not_after)
    )]
    Expired { file: PathBuf, leaf: Box<Leaf> },
    #[error("give cert, key and ca, or none of them; {missing} is missing")]
    Some { missing: &'static str },
    #[error(
        "the system has no certificate authorities; install them (ca-certificates), or name one"
    )]
    NoSystemRoots,
    #[error("TLS cannot be spoken: {0}")]
    Tls(String),
}

impl Files {
    /// The files of a folder that [`crate::Authority::issue`] has filled.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            cert: dir.join("cert.pem"),
            key: dir.join("key.pem"),
            ca: dir.join("ca.pem"),
        }
    }

    /// All three, or none.
    ///
    /// # Errors
    ///
    /// If there are one or two.
    pub fn of(
        cert: Option<PathBuf>,
        key: Option<PathBuf>,
        ca: Option<PathBuf>,
    ) -> Result<Option<Self>, FilesError> {
        let missing = match (cert, key, ca) {
            (None, None, None) => return Ok(None),
            (Some(cert), Some(key), Some(ca)) => return Ok(Some(Self { cert, key, ca })),
            (None, ..) => "cert",
            (_, None, _) => "key",
            _ => "ca",
        };
        Err(FilesError::Some { missing })
    }
}

/// What the files have.
pub(crate) struct Loaded {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) leaf: Leaf,
}

impl Loaded {
    pub(crate) fn read(files: &Files) -> Result<Self, FilesError> {
        let chain = certificates(&files.cert)?;
        let leaf = chain.first().map(|first| Leaf::read(first));
        let leaf = leaf.unwrap_or(Err(LeafError::Certificate));
        let leaf = leaf.map_err(|error| content(&files.cert, &error))?;
        let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?);
        // The reason could quote the file.
        let key = key.map_err(|_| content(&files.key, &"it has no private key in PEM"))?;
        Ok(Self {
            chain,
            key,
            roots: Arc::new(roots(&files.ca)?),
            leaf,
        })
    }
}

/// Where distributions have the authorities that they trust, all in one file: Debian, Red Hat, Alpine.
const SYSTEM_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// The system's authorities: those in the file that `SSL_CERT_FILE` names, or in the distribution's.
pub(crate) fn system_roots() -> Result<RootCertStore, FilesError> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let mut usual = SYSTEM_ROOTS.into_iter().map(PathBuf::from);
    let file = named.or_else(|| usual.find(|file| file.exists()));
    let file = file.ok_or(FilesError::NoSystemRoots)?;
    let mut roots = RootCertStore::empty();
    // Some may be of kinds that nobody uses any more.
    match roots.add_parsable_certificates(certificates(&file)?) {
        (0, _) => Err(content(&file, &"it has no certificate authority")),
        _ => Ok(roots),
    }
}

/// The authorities in a file.
pub(crate) fn roots(file: &Path) -> Result<RootCertStore, FilesError> {
    let mut roots = RootCertStore::empty();
    for root in certificates(file)? {
        roots.add(root).map_err(|error| content(file, &error))?;
    }
    Ok(roots)
}

/// Why certificate and key are no pair.
pub(crate) fn no_pair(files: &Files, error: &rustls::Error) -> FilesError {
    FilesError::Pair {
        cert: files.cert.clone(),
        key: files.key.clone(),
        reason: error.to_string(),
    }
}

/// The lists of revoked certificates in a file.
pub(crate) fn revocations(
    file: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, FilesError> {
    all(file, "it has no list of revoked certificates (CRL) in PEM")
}

pub(crate) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, FilesError> {
    all(file, "it has no certificate in PEM")
}

/// All of a kind in a file; without any, or with one that is broken, what is said.
fn all<T: PemObject>(file: &Path, none: &str) -> Result<Vec<T>, FilesError> {
    match T::pem_slice_iter(&read(file)?).collect::<Result<Vec<_>, _>>() {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(content(file, &none)),
    }
}

pub(crate) fn read(file: &Path) -> Result<Vec<u8>, FilesError> {
    fs::read(file).map_err(|source| FilesError::Read {
        file: file.to_owned(),
        source,
    })
}

pub(crate) fn content(file: &Path, reason: &dyn std::fmt::Display) -> FilesError {
    FilesError::Content {
        file: file.to_owned(),
        reason: reason.to_string(),
    }
}

/// What encrypts and signs: ring.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
