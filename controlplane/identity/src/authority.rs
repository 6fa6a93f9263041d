//! The authority: a folder with its certificate and key, all certificates that it has issued, and the
//! list of those that it has revoked.
//!
//! ```text
//! ca.pem              its certificate: P-256, 10 years
//! ca-key.pem          its key; whoever has it can be anybody
//! crl.pem             revoked certificates (RFC 5280, section 5)
//! issued/SERIAL.pem   every certificate that it has issued
//! ```
//!
//! Every file has mode 0600 and is replaced as a whole.

mod error;
mod folder;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber,
};
use rustls::{pki_types::CertificateDer, sign::CertifiedKey};
use time::OffsetDateTime;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer as _, ParsedExtension, X509Certificate},
    revocation_list::CertificateRevocationList,
};

pub use self::error::AuthorityError;
use self::{
    error::Result,
    folder::{lock, make_dir, write},
};
use crate::{
    files::{
        Files, FilesError, Loaded, certificates, content, no_pair, provider, read, revocations,
    },
    leaf::{Leaf, LeafError, hexadecimal},
    name::{Name, Role},
};

/// For how long an authority's certificate is good.
const AUTHORITY: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Clocks may differ by so much: a certificate is good a little before it was issued.
const SKEW: Duration = Duration::from_secs(300);
/// Until a list of revoked certificates says that there will be another one. Servers do not end then.
const LIST: Duration = Duration::from_secs(365 * 86_400);

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca-key.pem";
const REVOKED: &str = "crl.pem";
const ISSUED: &str = "issued";

/// A folder that issues.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    domain: Box<str>,
}

/// Whether a certificate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Good for at least a third of its time yet.
    Valid,
    /// Good, and to be renewed: two thirds of its time are over.
    Due,
    /// Past its notAfter.
    Expired,
    /// On the revocation list (CRL).
    Revoked,
}

impl State {
    /// As `voicelane pki show` has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Due => "due",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// A certificate that was issued.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Name and validity.
    pub leaf: Leaf,
    /// Validity at the time of asking.
    pub state: State,
}

/// From when to when a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Start of its validity.
    pub not_before: OffsetDateTime,
    /// End of its validity.
    pub not_after: OffsetDateTime,
}

impl Validity {
    /// From now on, and a little before.
    #[must_use]
    pub fn starting(now: OffsetDateTime, lifetime: Duration) -> Self {
        Self {
            not_before: now - SKEW,
            not_after: now + lifetime,
        }
    }

    /// The same of whole days.
    ///
    /// # Errors
    ///
    /// If there are none, or too many.
    pub fn days(now: OffsetDateTime, days: u64) -> Result<Self> {
        if !(1..=3_650).contains(&days) {
            return Err(AuthorityError::Days(days));
        }
        Ok(Self::starting(now, Duration::from_secs(days * 86_400)))
    }
}

impl Authority {
    /// Makes an authority of a domain, in a folder that has none.
    ///
    /// # Errors
    ///
    /// If it has one, the domain is none, or files cannot be written.
    pub fn init(dir: &Path, domain: &str, now: OffsetDateTime) -> Result<Self> {
        // What leaves are named by must be possible.
        Name::new(domain, Role::Server, "x")?;
        make_dir(dir)?;
        let _lock = lock(dir)?;
        if [CERTIFICATE, KEY]
            .iter()
            .any(|file| dir.join(file).exists())
        {
            return Err(AuthorityError::Exists(dir.to_owned()));
        }
        make_dir(&dir.join(ISSUED))?;
        let mut params = CertificateParams::default();
        let validity = Validity::starting(now, AUTHORITY);
        (params.not_before, params.not_after) = (validity.not_before, validity.not_after);
        let key = KeyPair::generate()?;
        // Another authority of the domain has another name: whose list of revoked certificates it is goes
        // by the name.
        let raw = key.public_key_raw();
        let id = hexadecimal(raw.get(raw.len().saturating_sub(4)..).unwrap_or_default());
        params.distinguished_name = common_name(&format!("Voicelane authority {id} of {domain}"));
        params.subject_alt_names = vec![uri(&format!("spiffe://{domain}"))?];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        write(&dir.join(KEY), key.serialize_pem().as_bytes())?;
        write(&dir.join(CERTIFICATE), certificate.pem().as_bytes())?;
        let authority = Self {
            dir: dir.to_owned(),
            domain: domain.into(),
        };
        authority.write_revoked(Vec::new(), now)?;
        Ok(authority)
    }

    /// An authority that was made.
    ///
    /// # Errors
    ///
    /// If there is none, or it cannot be read.
    pub fn open(dir: &Path) -> Result<Self> {
        let file = dir.join(CERTIFICATE);
        if !file.exists() {
            return Err(AuthorityError::None(dir.to_owned()));
        }
        let certificate = first(&file)?;
        let domain = domain(&certificate);
        let domain = domain.ok_or_else(|| content(&file, &"it names no domain"))?;
        Ok(Self {
            dir: dir.to_owned(),
            domain: domain.into(),
        })
    }

    /// Of all whom it names.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Where the list of revoked certificates is.
    #[must_use]
    pub fn crl(&self) -> PathBuf {
        self.dir.join(REVOKED)
    }

    /// Makes a key and a certificate, and writes both with the authority's certificate into a folder;
    /// a server's with the list of revoked certificates, too.
    ///
    /// # Errors
    ///
    /// If the name cannot be, the folder has a certificate, or files cannot be read or written.
    pub fn issue(&self, role: Role, id: &str, validity: Validity, out: &Path) -> Result<Leaf> {
        let name = Name::new(&self.domain, role, id)?;
        let files = Files::in_dir(out);
        if files.cert.exists() || files.key.exists() {
            return Err(AuthorityError::Issued(out.to_owned()));
        }
        let _lock = lock(&self.dir)?;
        self.write_leaf(&name, validity, &files)
    }

    /// Makes a new key and certificate in place of those in a folder, of the same name, and for as
    /// long. The ones before count until their time is over.
    ///
    /// `None`: two thirds of its time are not over, and it need not be.
    ///
    /// # Errors
    ///
    /// If the folder has no certificate that this authority has issued and not revoked, or not its
    /// private key; or if files cannot be written.
    pub fn renew(&self, dir: &Path, always: bool, now: OffsetDateTime) -> Result<Option<Leaf>> {
        let files = Files::in_dir(dir);
        let Loaded {
            chain, key, leaf, ..
        } = Loaded::read(&files)?;
        if leaf.name.domain() != &*self.domain {
            return Err(AuthorityError::Domain {
                name: Box::new(leaf.name),
                domain: self.domain.to_string(),
            });
        }
        if !always && now.unix_timestamp() < leaf.renewal() {
            return Ok(None);
        }
        let seconds = u64::try_from(leaf.not_after - leaf.not_before).unwrap_or_default();
        let lifetime = Duration::from_secs(seconds).saturating_sub(SKEW);
        let _lock = lock(&self.dir)?;
        let noted = self.dir.join(ISSUED).join(format!("{}.pem", leaf.serial));
        let is_ours = noted.exists() && chain.first() == Some(&first(&noted)?);
        let revoked = self.revoked()?;
        if !is_ours || revoked.iter().any(|it| hexadecimal(&it.0) == *leaf.serial) {
            return Err(AuthorityError::Foreign {
                file: files.cert,
                leaf: Box::new(leaf),
            });
        }
        // Everybody sees certificates: whoever can write to the folder could put another one's there, and
        // be given a key in its name. The key tells whose folder it is; it was read once, with the
        // certificate.
        CertifiedKey::from_der(chain, key, &provider()).map_err(|error| no_pair(&files, &error))?;
        let validity = Validity::starting(now, lifetime.max(Duration::from_secs(60)));
        self.write_leaf(&leaf.name, validity, &files).map(Some)
    }

    fn write_leaf(&self, name: &Name, validity: Validity, files: &Files) -> Result<Leaf> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (validity.not_before, validity.not_after);
        params.distinguished_name = common_name(&format!("{} {}", name.role(), name.id()));
        params.subject_alt_names = vec![uri(&name.to_string())?];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match name.role() {
            Role::Server => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
            _ => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        let certificate = params.signed_by(&key, &self.issuer()?)?;
        let leaf = Leaf::read(certificate.der()).map_err(|error| content(&files.cert, &error))?;
        // Noted first, so that whatever was written can be revoked.
        let noted = self.dir.join(ISSUED).join(format!("{}.pem", leaf.serial));
        write(&noted, certificate.pem().as_bytes())?;
        if let Some(dir) = files.cert.parent() {
            make_dir(dir)?;
        }
        write(&files.ca, &read(&self.dir.join(CERTIFICATE))?)?;
        if name.role() == Role::Server {
            let list = files.cert.with_file_name(REVOKED);
            write(&list, &read(&self.crl())?)?;
        }
        write(&files.key, key.serialize_pem().as_bytes())?;
        write(&files.cert, certificate.pem().as_bytes())?;
        Ok(leaf)
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>> {
        let file = self.dir.join(KEY);
        let key = String::from_utf8(read(&file)?).unwrap_or_default();
        // The reason could quote the file.
        let no_key = |_| content(&file, &"it has no private key in PEM");
        let key = KeyPair::from_pem(&key).map_err(no_key)?;
        let certificate = first(&self.dir.join(CERTIFICATE))?;
        Ok(Issuer::from_ca_cert_der(&certificate, key)?)
    }

    /// Takes back all certificates of a name that count; tells which.
    ///
    /// # Errors
    ///
    /// If there are none, or files cannot be read or written.
    pub fn revoke(&self, role: Role, id: &str, now: OffsetDateTime) -> Result<Vec<Leaf>> {
        let name = Name::new(&self.domain, role, id)?;
        self.revoke_those(&name.to_string(), now, |leaf| leaf.name == name)
    }

    /// Takes back the certificate with a serial number.
    ///
    /// # Errors
    ///
    /// If there is none, or files cannot be read or written.
    pub fn revoke_serial(&self, serial: &str, now: OffsetDateTime) -> Result<Vec<Leaf>> {
        let what = format!("serial number {serial}");
        self.revoke_those(&what, now, |leaf| *leaf.serial == *serial)
    }

    fn revoke_those(
        &self,
        what: &str,
        now: OffsetDateTime,
        is_wanted: impl Fn(&Leaf) -> bool,
    ) -> Result<Vec<Leaf>> {
        let _lock = lock(&self.dir)?;
        let issued = self.issued(now)?.into_iter();
        let wanted: Vec<Leaf> = issued
            .filter(|it| matches!(it.state, State::Valid | State::Due) && is_wanted(&it.leaf))
            .map(|it| it.leaf)
            .collect();
        if wanted.is_empty() {
            return Err(AuthorityError::Unknown(what.to_owned()));
        }
        let mut revoked = self.revoked()?;
        revoked.extend(wanted.iter().map(|leaf| (bytes_of(&leaf.serial), now)));
        self.write_revoked(revoked, now)?;
        Ok(wanted)
    }

    /// All certificates that were issued, in the order of name and time.
    ///
    /// # Errors
    ///
    /// If files cannot be read.
    pub fn issued(&self, now: OffsetDateTime) -> Result<Vec<Issued>> {
        let revoked: BTreeSet<String> = self
            .revoked()?
            .iter()
            .map(|it| hexadecimal(&it.0))
            .collect();
        let dir = self.dir.join(ISSUED);
        let unread = |source| FilesError::Read {
            file: dir.clone(),
            source,
        };
        let mut issued = Vec::new();
        for entry in fs::read_dir(&dir).map_err(unread)? {
            let file = entry.map_err(unread)?.path();
            if file.extension().is_none_or(|it| it != "pem") {
                continue;
            }
            let leaf = leaf_of(&file)?;
            let state = if revoked.contains(&*leaf.serial) {
                State::Revoked
            } else {
                state(&leaf, now)
            };
            issued.push(Issued { leaf, state });
        }
        issued.sort_by_cached_key(|it| (it.leaf.name.to_string(), it.leaf.not_before));
        Ok(issued)
    }

    /// Serial numbers, and since when.
    fn revoked(&self) -> Result<Vec<(Vec<u8>, OffsetDateTime)>> {
        let file = self.crl();
        let mut all = Vec::new();
        for list in revocations(&file)? {
            let parsed = CertificateRevocationList::from_der(&list);
            let (_, list) = parsed.map_err(|error| content(&file, &error))?;
            all.extend(
                list.iter_revoked_certificates()
                    .map(|it| (it.raw_serial().to_vec(), it.revocation_date.to_datetime())),
            );
        }
        Ok(all)
    }

    fn write_revoked(
        &self,
        revoked: Vec<(Vec<u8>, OffsetDateTime)>,
        now: OffsetDateTime,
    ) -> Result<()> {
        let params = CertificateRevocationListParams {
            this_update: now - SKEW,
            next_update: now + LIST,
            crl_number: SerialNumber::from(u64::try_from(now.unix_timestamp()).unwrap_or_default()),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .into_iter()
                .map(|(serial, since)| RevokedCertParams {
                    serial_number: SerialNumber::from(serial),
                    revocation_time: since,
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer()?)?;
        write(&self.crl(), list.pem()?.as_bytes())
    }
}

/// What a certificate's time says of it.
#[must_use]
pub fn state(leaf: &Leaf, now: OffsetDateTime) -> State {
    match now.unix_timestamp() {
        now if now >= leaf.not_after => State::Expired,
        now if now >= leaf.renewal() => State::Due,
        _ => State::Valid,
    }
}

/// Whether two thirds of a certificate's time are over.
#[must_use]
pub fn is_due(leaf: &Leaf) -> bool {
    state(leaf, OffsetDateTime::now_utc()) != State::Valid
}

/// The certificate in a file.
///
/// # Errors
///
/// If there is none, or it names nobody.
pub fn leaf_of(file: &Path) -> std::result::Result<Leaf, FilesError> {
    let leaf = Leaf::read(&first(file)?);
    leaf.map_err(|error: LeafError| content(file, &error))
}

fn first(file: &Path) -> std::result::Result<CertificateDer<'static>, FilesError> {
    let first = certificates(file)?.into_iter().next();
    first.ok_or_else(|| content(file, &LeafError::Certificate))
}

/// What an authority's certificate says.
fn domain(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut names = certificate
        .extensions()
        .iter()
        .filter_map(|it| match it.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(names),
            _ => None,
        });
    names
        .next()?
        .general_names
        .iter()
        .find_map(|name| match name {
            GeneralName::URI(uri) => Some(uri.strip_prefix("spiffe://")?.to_owned()),
            _ => None,
        })
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

fn uri(text: &str) -> Result<SanType> {
    Ok(SanType::URI(text.try_into()?))
}

/// Hexadecimal digits as bytes.
fn bytes_of(serial: &str) -> Vec<u8> {
    let digits = serial.as_bytes().chunks(2);
    let bytes = digits.map(|pair| std::str::from_utf8(pair).map(|it| u8::from_str_radix(it, 16)));
    bytes.flatten().flatten().collect()
}

#[cfg(test)]
mod tests;
