//! The report as files for people: HTML and PDF. Both arrange the same words and the same drawings.

mod html;
mod pdf;

pub use html::html;
pub use pdf::{PdfError, pdf};
