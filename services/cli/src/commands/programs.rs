//! Finding the other programs of Writ.

use std::env;
use std::path::PathBuf;

/// The program beside this one, or its bare name, which is then looked up in `PATH`.
pub fn find(name: &str) -> PathBuf {
    let beside = env::current_exe().ok().and_then(|own| own.parent().map(|folder| folder.join(name)));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(name))
}
