//! Where our own programs are.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// The folder that cargo puts programs in: that of this one, or for a test program the one above.
///
/// # Errors
/// When the system does not say where this program is.
pub fn built() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("the system does not say where this program is")?;
    let directory = own.parent().context("this program has no folder")?;
    let is_deps = directory.file_name().is_some_and(|name| name == "deps");
    Ok(directory.parent().filter(|_| is_deps).unwrap_or(directory).to_owned())
}

/// The file of one of our programs.
///
/// # Errors
/// When it has not been built: `cargo test` alone does not build other crates' programs.
pub fn find(directory: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let path = directory.join(name);
    ensure!(path.is_file(), "{} is missing: run `cargo build --workspace --bins` first", path.display());
    Ok(path)
}
