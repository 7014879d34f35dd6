//! Limits of one request, checked before anything runs.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::extensions::{
    Extension, ExtensionContext, ExtensionFactory, NextParseQuery, NextPrepareRequest, NextValidation,
};
use async_graphql::parser::parse_query;
use async_graphql::parser::types::{ExecutableDocument, Selection, SelectionSet};
use async_graphql::{
    Name, Positioned, Request, ServerError, ServerResult, ValidationResult, Variables, async_trait,
};

use super::caller::Caller;
use super::error::Code;
use super::scope::Scope;

/// Deepest nesting of fields.
pub const MAX_DEPTH: usize = 12;

/// Most that the fields of a request may cost together: one each, times the rows of the pages they stand in.
pub const MAX_COMPLEXITY: usize = 10_000;

/// Longest document. Long texts such as policies are passed as variables.
pub const MAX_DOCUMENT_BYTES: usize = 16 * 1024;

/// Most fields that a document stands for, fragments written out.
const MAX_FIELDS: usize = 500;

/// Most fields that are renamed.
const MAX_ALIASES: usize = 32;

/// Most directives on one field.
pub(super) const MAX_DIRECTIVES: usize = 8;

/// Checks every request against the limits, and that somebody is signed in.
pub(super) struct Limits;

impl ExtensionFactory for Limits {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Limits)
    }
}

#[async_trait::async_trait]
impl Extension for Limits {
    async fn prepare_request(
        &self,
        ctx: &ExtensionContext<'_>,
        request: Request,
        next: NextPrepareRequest<'_>,
    ) -> ServerResult<Request> {
        let request = next.run(ctx, request.data(Scope::default())).await?;
        if request.query.len() > MAX_DOCUMENT_BYTES {
            return Err(too_large(format!(
                "the document has {} bytes and may have {MAX_DOCUMENT_BYTES}: split it, and pass long texts as variables",
                request.query.len()
            )));
        }
        Ok(request)
    }

    async fn parse_query(
        &self,
        ctx: &ExtensionContext<'_>,
        query: &str,
        variables: &Variables,
        next: NextParseQuery<'_>,
    ) -> ServerResult<ExecutableDocument> {
        if ctx.data_opt::<Caller>().is_none() {
            let mut error = ServerError::new("sign in first: no administrator is known", None);
            error.extensions.get_or_insert_default().set("code", Code::Unauthenticated.word());
            return Err(error);
        }
        // Read once more than needed, because all that follows walks fragments as often as they are spread.
        check_breadth(&parse_query(query)?)?;
        next.run(ctx, query, variables).await
    }

    async fn validation(
        &self,
        ctx: &ExtensionContext<'_>,
        next: NextValidation<'_>,
    ) -> Result<ValidationResult, Vec<ServerError>> {
        next.run(ctx).await.map_err(|errors| errors.into_iter().map(explain).collect())
    }
}

fn too_large(message: String) -> ServerError {
    let mut error = ServerError::new(message, None);
    error.extensions.get_or_insert_default().set("code", Code::TooLarge.word());
    error
}

/// The library's own words for its limits say neither the limit nor what to do.
fn explain(mut error: ServerError) -> ServerError {
    match error.message.as_str() {
        "Query is nested too deep." => too_large(format!(
            "the query is nested more than {MAX_DEPTH} fields deep: ask for the inner parts in a query of their own"
        )),
        "Query is too complex." => too_large(format!(
            "the query costs more than {MAX_COMPLEXITY} (its fields times the rows of their pages): ask for fewer rows \
             with `first`, or for fewer fields"
        )),
        _ => {
            error.extensions.get_or_insert_default().set("code", Code::BadInput.word());
            error
        }
    }
}

/// How much a set of fields stands for.
#[derive(Clone, Copy, Default)]
struct Breadth {
    fields: usize,
    aliases: usize,
}

/// A fragment costs a step even if it is empty, or many empty ones would be walked for nothing.
const STEP: Breadth = Breadth { fields: 1, aliases: 0 };

impl Breadth {
    fn plus(self, other: Self) -> Self {
        Self {
            fields: self.fields.saturating_add(other.fields),
            aliases: self.aliases.saturating_add(other.aliases),
        }
    }
}

/// Counts fields with fragments written out, each fragment once: a few short fragments can stand for billions of fields.
fn check_breadth(document: &ExecutableDocument) -> ServerResult<()> {
    let mut counter = Counter { document, known: HashMap::new() };
    let mut total = Breadth::default();
    for (_, operation) in document.operations.iter() {
        total = total.plus(counter.set(&operation.node.selection_set));
    }
    // Fragments that nothing spreads are walked by validation too.
    for fragment in document.fragments.keys() {
        total.fields = total.fields.max(counter.fragment(fragment).fields);
    }
    if total.fields > MAX_FIELDS {
        return Err(too_large(format!(
            "the query stands for {} fields and may for {MAX_FIELDS}: split it",
            total.fields
        )));
    }
    if total.aliases > MAX_ALIASES {
        return Err(too_large(format!(
            "the query renames {} fields and may {MAX_ALIASES}: split it",
            total.aliases
        )));
    }
    Ok(())
}

struct Counter<'a> {
    document: &'a ExecutableDocument,
    known: HashMap<Name, Breadth>,
}

impl Counter<'_> {
    fn set(&mut self, set: &Positioned<SelectionSet>) -> Breadth {
        let items = set.node.items.iter();
        items.fold(Breadth::default(), |sum, item| sum.plus(self.selection(&item.node)))
    }

    fn selection(&mut self, selection: &Selection) -> Breadth {
        match selection {
            Selection::Field(field) => {
                let own = Breadth { fields: 1, aliases: usize::from(field.node.alias.is_some()) };
                own.plus(self.set(&field.node.selection_set))
            }
            Selection::InlineFragment(fragment) => STEP.plus(self.set(&fragment.node.selection_set)),
            Selection::FragmentSpread(spread) => STEP.plus(self.fragment(&spread.node.fragment_name.node)),
        }
    }

    fn fragment(&mut self, name: &Name) -> Breadth {
        if let Some(known) = self.known.get(name) {
            return *known;
        }
        // A cycle counts as nothing here; validation refuses it.
        self.known.insert(name.clone(), Breadth::default());
        let document = self.document;
        let counted = document.fragments.get(name).map(|fragment| self.set(&fragment.node.selection_set));
        let counted = counted.unwrap_or_default();
        self.known.insert(name.clone(), counted);
        counted
    }
}
