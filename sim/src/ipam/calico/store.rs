//! The files of calico-ipam: one JSON object each, written to a `.temp` file that is renamed, so that nobody reads half of one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use ipnet::Ipv4Net;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::CalicoIpamError;

/// Directory of the blocks.
pub(super) const BLOCKS: &str = "ipamblocks";
/// Directory of the affinities.
pub(super) const AFFINITIES: &str = "blockaffinities";

/// Everything in a directory; none that isn't there.
pub(super) fn read<T: DeserializeOwned>(
    dir: &Path,
    key: impl Fn(&T) -> Ipv4Net,
) -> Result<BTreeMap<Ipv4Net, T>, CalicoIpamError> {
    let mut all = BTreeMap::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(all),
        Err(error) => return Err(failed(dir)(error)),
    };
    for entry in entries {
        let path = entry.map_err(failed(dir))?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = fs::read(&path).map_err(failed(&path))?;
        let value = serde_json::from_slice(&text).map_err(|error| failed(&path)(error.into()))?;
        all.insert(key(&value), value);
    }
    Ok(all)
}

/// Writes an object, or removes it where there is none.
pub(super) fn write<T: Serialize>(
    dir: &Path,
    name: &str,
    value: Option<&T>,
) -> Result<(), CalicoIpamError> {
    let path = dir.join(format!("{name}.json"));
    let Some(value) = value else {
        return match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path)(error)),
            _ => Ok(()),
        };
    };
    fs::create_dir_all(dir).map_err(failed(dir))?;
    let temp = dir.join(format!("{name}.temp"));
    let text = serde_json::to_vec(value).map_err(|error| failed(&path)(error.into()))?;
    fs::write(&temp, text).map_err(failed(&temp))?;
    fs::rename(&temp, &path).map_err(failed(&path))
}

/// Removes a directory with all that is in it.
pub(super) fn clear(dir: &Path) -> Result<(), CalicoIpamError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(dir)(error)),
        _ => Ok(()),
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CalicoIpamError + use<> {
    let path = path.to_owned();
    move |source| CalicoIpamError::Io { path, source }
}
