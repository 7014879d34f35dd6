//! A log as a static directory in the format of C2SP tlog-tiles: any web server can publish it, any tool can check it.
//!
//! ```text
//! DIR/log.vkey                       the key that verifies the checkpoint
//! DIR/rotations                      changes of the key, if there were any: a JSON object a line
//! DIR/checkpoint                     the newest signed checkpoint; replaced last, and at once
//! DIR/tile/<level>/<n>[.p/<width>]   hashes of the tree
//! DIR/tile/entries/<n>[.p/<width>]   records
//! ```

mod export;
mod read;

pub use export::{ExportError, Exported, export};
pub use read::{FileError, TilesDirectory};

const CHECKPOINT: &str = "checkpoint";
const VKEY: &str = "log.vkey";
