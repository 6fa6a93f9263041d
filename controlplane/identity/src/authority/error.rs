use std::{io, path::PathBuf};

use crate::{
    files::FilesError,
    leaf::Leaf,
    name::{Name, NameError},
};

/// Why the authority cannot do it.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum AuthorityError {
    #[error("{} has an authority already", .0.display())]
    Exists(PathBuf),
    #[error("{} has no authority (voicelane pki init makes one)", .0.display())]
    None(PathBuf),
    #[error("{} has a certificate already; renew it, or give another folder", .0.display())]
    Issued(PathBuf),
    #[error("there is no certificate of {0} that counts")]
    Unknown(String),
    #[error("{name} is not of the authority's domain, {domain}")]
    Domain { name: Box<Name>, domain: String },
    #[error("{}: {leaf} was not issued here, or is revoked; issue another", file.display())]
    Foreign { file: PathBuf, leaf: Box<Leaf> },
    #[error("{0} days are not 1 to 3650")]
    Days(u64),
    #[error("{} cannot be written", file.display())]
    Write { file: PathBuf, source: io::Error },
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("a certificate cannot be made")]
    Make(#[from] rcgen::Error),
}

pub(super) type Result<T> = std::result::Result<T, AuthorityError>;
