//! The report as PDF/A-3a and PDF/UA-1, set by typst.
//!
//! The template reads the report as JSON, so that no word of it is ever taken for markup. The world that typst sees
//! holds the template, that JSON, the drawings and the embedded fonts: no files, no packages, no clock.

use std::collections::{BTreeMap, HashMap};

use typst::diag::{FileError, FileResult, SourceDiagnostic};
use typst::foundations::{Bytes, Datetime, Duration, Smart};
use typst::syntax::{FileId, RootedPath, Source, VirtualPath, VirtualRoot};
use typst::text::{Font, FontBook};
use typst::utils::LazyHash;
use typst::{Library, LibraryExt, World};
use typst_kit::fonts::{FontStore, embedded};
use typst_layout::PagedDocument;
use typst_pdf::{PdfOptions, PdfStandard, PdfStandards, Timestamp};

use crate::chart::mark_image;
use crate::report::Report;
use crate::status::Status;

const TEMPLATE: &str = include_str!("../../templates/report.typ");

/// Why no PDF came about.
#[derive(Debug, thiserror::Error)]
pub enum PdfError {
    /// The report cannot be written as JSON.
    #[error("the report cannot be handed to the typesetter: {0}")]
    Data(#[from] serde_json::Error),
    /// The typesetter refused.
    #[error("the typesetter refused the report: {0}")]
    Typeset(String),
}

/// The report as a PDF file.
pub fn pdf(report: &Report) -> Result<Vec<u8>, PdfError> {
    let json = report.to_json()?;
    let date = datetime(report);
    let ident = format!("{}/{}/{}", report.framework, report.framework_version, report.lang);
    let world = Desk::new(files(report, json))?;
    let document: PagedDocument = typst::compile(&world).output.map_err(|errors| refuse(&errors))?;
    let standards = PdfStandards::new(&[PdfStandard::A_3a, PdfStandard::Ua_1])
        .map_err(|error| PdfError::Typeset(error.message().to_string()))?;
    let options = PdfOptions {
        ident: Smart::Custom(ident),
        creator: Smart::Custom(Some("writ-report".to_owned())),
        timestamp: date.map(Timestamp::new_utc),
        standards,
        ..PdfOptions::default()
    };
    typst_pdf::pdf(&document, &options).map_err(|errors| refuse(&errors))
}

fn datetime(report: &Report) -> Option<Datetime> {
    let at = report.date;
    let part = |n: i8| u8::try_from(n).ok();
    Datetime::from_ymd_hms(
        at.year.into(),
        part(at.month)?,
        part(at.day)?,
        part(at.hour)?,
        part(at.minute)?,
        part(at.second)?,
    )
}

fn files(report: &Report, json: Vec<u8>) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::from([("report.json".to_owned(), json)]);
    for status in Status::ALL {
        files.insert(format!("mark-{}.svg", status.slug()), mark_image(status).into_bytes());
    }
    for figure in &report.figures {
        if let Some(svg) = &figure.svg {
            files.insert(format!("figure-{}.svg", figure.id), svg.clone().into_bytes());
        }
    }
    files
}

fn refuse(errors: &[SourceDiagnostic]) -> PdfError {
    let messages: Vec<String> = errors
        .iter()
        .map(|error| {
            let hints: Vec<String> = error.hints.iter().map(|hint| hint.v.to_string()).collect();
            format!("{} {}", error.message, hints.join(" "))
        })
        .collect();
    PdfError::Typeset(messages.join("; "))
}

/// All that the typesetter can see.
struct Desk {
    library: LazyHash<Library>,
    fonts: FontStore,
    main: Source,
    files: HashMap<FileId, Bytes>,
}

impl Desk {
    fn new(files: BTreeMap<String, Vec<u8>>) -> Result<Self, PdfError> {
        let mut fonts = FontStore::new();
        fonts.extend(embedded());
        let main = Source::new(file_id("main.typ")?, TEMPLATE.to_owned());
        let files = files
            .into_iter()
            .map(|(name, content)| Ok((file_id(&name)?, Bytes::new(content))))
            .collect::<Result<_, PdfError>>()?;
        Ok(Self { library: LazyHash::new(Library::default()), fonts, main, files })
    }
}

fn file_id(name: &str) -> Result<FileId, PdfError> {
    let path = VirtualPath::new(name).map_err(|error| PdfError::Typeset(format!("{name}: {error:?}")))?;
    Ok(FileId::new(RootedPath::new(VirtualRoot::Project, path)))
}

impl World for Desk {
    fn library(&self) -> &LazyHash<Library> {
        &self.library
    }

    fn book(&self) -> &LazyHash<FontBook> {
        self.fonts.book()
    }

    fn main(&self) -> FileId {
        self.main.id()
    }

    fn source(&self, id: FileId) -> FileResult<Source> {
        if id == self.main.id() { Ok(self.main.clone()) } else { Err(FileError::AccessDenied) }
    }

    fn file(&self, id: FileId) -> FileResult<Bytes> {
        self.files.get(&id).cloned().ok_or(FileError::AccessDenied)
    }

    fn font(&self, index: usize) -> Option<Font> {
        self.fonts.font(index)
    }

    fn today(&self, _offset: Option<Duration>) -> Option<Datetime> {
        None
    }
}
