//! Where labs and manifests come from: files, directories, standard input, and the labs inside the program.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::Diagnostics;

/// Largest source, bytes.
const MAX_SOURCE: u64 = 32 << 20;

/// Labs that the program carries, by name.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("demo", include_str!("../../labs/demo.yaml")),
    ("kindnet-3", include_str!("../../labs/kindnet-3.yaml")),
    ("seed-000", include_str!("../../labs/seed-000.yaml")),
    ("seed-001", include_str!("../../labs/seed-001.yaml")),
    ("seed-002", include_str!("../../labs/seed-002.yaml")),
    ("seed-003", include_str!("../../labs/seed-003.yaml")),
    ("seed-004", include_str!("../../labs/seed-004.yaml")),
    (
        "seed-004-bridge",
        include_str!("../../labs/seed-004-bridge.yaml"),
    ),
    (
        "seed-004-namespaces",
        include_str!("../../labs/seed-004-namespaces.yaml"),
    ),
];

/// One text with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// As it is named in messages.
    pub name: String,
    /// YAML.
    pub text: String,
    /// Where files that it names are looked for.
    pub dir: Option<PathBuf>,
}

impl Source {
    /// A text that names no files.
    #[must_use]
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
            dir: None,
        }
    }

    /// What `-f` names: a file; a directory, whose `.yaml`, `.yml` and `.json` files are taken in the order of their names;
    /// `-`, standard input; or, where there is no such file, one of the [`BUILT_IN`] labs.
    ///
    /// # Errors
    /// What can't be read, and why.
    pub fn open(path: &str) -> Result<Vec<Self>, Diagnostics> {
        if path == "-" {
            let mut text = String::new();
            return match io::stdin()
                .lock()
                .take(MAX_SOURCE)
                .read_to_string(&mut text)
            {
                Ok(_) => Ok(vec![Self::new("<stdin>", text)]),
                Err(error) => Err(Diagnostics::single(format!("<stdin>: {error}"))),
            };
        }
        let file = Path::new(path);
        if file.is_dir() {
            return Self::directory(file);
        }
        if !file.exists()
            && let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| *name == path)
        {
            return Ok(vec![Self::new(format!("{name} (built in)"), *text)]);
        }
        Ok(vec![Self::file(file)?])
    }

    fn directory(dir: &Path) -> Result<Vec<Self>, Diagnostics> {
        let failed = |error: io::Error| Diagnostics::single(format!("{}: {error}", dir.display()));
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let wanted = path
                .extension()
                .is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known));
            if wanted && path.is_file() {
                files.push(path);
            }
        }
        if files.is_empty() {
            return Err(Diagnostics::single(format!(
                "{}: no .yaml, .yml or .json file in this directory",
                dir.display()
            )));
        }
        files.sort();
        files.iter().map(|path| Self::file(path)).collect()
    }

    /// One file.
    pub(super) fn file(path: &Path) -> Result<Self, Diagnostics> {
        let name = path.display().to_string();
        let failed = |error: io::Error| Diagnostics::single(format!("{name}: {error}"));
        let file = fs::File::open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(MAX_SOURCE + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if u64::try_from(bytes.len()).is_ok_and(|len| len > MAX_SOURCE) {
            return Err(Diagnostics::single(format!(
                "{name}: larger than {} MiB",
                MAX_SOURCE >> 20
            )));
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| Diagnostics::single(format!("{name}: not UTF-8 text")))?;
        Ok(Self {
            name,
            text,
            dir: path.parent().map(Path::to_path_buf),
        })
    }
}
