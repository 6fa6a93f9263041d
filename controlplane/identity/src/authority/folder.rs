//! Files of the authority and of whom it names.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, chown},
    path::Path,
};

use super::error::{AuthorityError, Result};

/// Nobody else changes the authority meanwhile.
pub(super) fn lock(dir: &Path) -> Result<File> {
    let file = dir.join("lock");
    let opened = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&file);
    let locked = opened.and_then(|opened| opened.lock().map(|()| opened));
    locked.map_err(|source| AuthorityError::Write { file, source })
}

pub(super) fn make_dir(dir: &Path) -> Result<()> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir);
    made.map_err(|source| AuthorityError::Write {
        file: dir.to_owned(),
        source,
    })
}

/// Puts a file in place of the one that is there, for the same owner: nobody sees half of it.
pub(super) fn write(file: &Path, content: &[u8]) -> Result<()> {
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let written = (|| {
        // Left over if the machine stopped; another mode must not stay.
        if let Err(error) = fs::remove_file(&part)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut options = fs::OpenOptions::new();
        let mut opened = options
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&part)?;
        opened.write_all(content)?;
        opened.sync_all()?;
        if let Ok(former) = fs::metadata(file) {
            chown(&part, Some(former.uid()), Some(former.gid()))?;
        }
        fs::rename(&part, file)
    })();
    written.map_err(|source| AuthorityError::Write {
        file: file.to_owned(),
        source,
    })
}
