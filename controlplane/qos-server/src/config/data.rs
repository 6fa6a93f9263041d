//! Where sessions are kept.

use std::{convert::Infallible, env, path::PathBuf, str::FromStr};

use serde::Deserialize;

/// The store's directory unless systemd says another one (StateDirectory=).
const DATA_DIR: &str = "/var/lib/voicelane-server";

/// Where sessions are kept.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(from = "PathBuf")]
pub enum Data {
    /// In memory: they end with the process.
    None,
    /// In a store in this directory.
    Dir(PathBuf),
}

impl From<PathBuf> for Data {
    fn from(path: PathBuf) -> Self {
        if path.as_os_str() == "none" {
            Self::None
        } else {
            Self::Dir(path)
        }
    }
}

impl FromStr for Data {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(PathBuf::from(text).into())
    }
}

impl Default for Data {
    fn default() -> Self {
        let of_unit = env::var_os("STATE_DIRECTORY").filter(|dirs| !dirs.is_empty());
        // There may be several, with colons between.
        let first = of_unit.and_then(|dirs| env::split_paths(&dirs).next());
        Self::Dir(first.unwrap_or_else(|| DATA_DIR.into()))
    }
}
