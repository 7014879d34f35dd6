//! Holding our GraphQL documents to the published schema.

use std::collections::HashMap;
use std::fs;

use async_graphql_parser::types::{
    BaseType, DocumentOperations, ExecutableDocument, Field, FieldDefinition, FragmentDefinition,
    InputValueDefinition, OperationDefinition, OperationType, Selection, SelectionSet, Type, TypeDefinition,
    TypeKind, TypeSystemDefinition,
};
use async_graphql_parser::{Positioned, parse_query, parse_schema};

/// Fails unless the server's schema has everything that a document asks for.
pub fn assert_fits(document: &str) {
    let parsed = parse_query(document).unwrap_or_else(|error| panic!("{error}: {document}"));
    let operation = match &parsed.operations {
        DocumentOperations::Single(operation) => &operation.node,
        DocumentOperations::Multiple(operations) => &operations.values().next().unwrap().node,
    };
    let root = match operation.ty {
        OperationType::Query => "Query",
        OperationType::Mutation => "Mutation",
        OperationType::Subscription => "Subscription",
    };
    let check = Check { types: &published(), document: &parsed, operation };
    for variable in &operation.variable_definitions {
        let name = named(&variable.node.var_type.node.base);
        let is_known =
            ["Int", "String", "Boolean", "ID", "Float"].contains(&name) || check.types.contains_key(name);
        assert!(is_known, "the schema has no type {name}");
    }
    check.selections(root, &operation.selection_set.node);
}

fn published() -> HashMap<String, TypeDefinition> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schema/graphql.graphql");
    let schema = parse_schema(fs::read_to_string(path).unwrap()).unwrap();
    let of_types = |definition| match definition {
        TypeSystemDefinition::Type(definition) => {
            Some((definition.node.name.node.to_string(), definition.node))
        }
        _ => None,
    };
    schema.definitions.into_iter().filter_map(of_types).collect()
}

struct Check<'a> {
    types: &'a HashMap<String, TypeDefinition>,
    document: &'a ExecutableDocument,
    operation: &'a OperationDefinition,
}

impl Check<'_> {
    fn fields(&self, of: &str) -> Option<&[Positioned<FieldDefinition>]> {
        match &self.types.get(of)?.kind {
            TypeKind::Object(object) => Some(&object.fields),
            _ => None,
        }
    }

    fn selections(&self, of: &str, selections: &SelectionSet) {
        for selection in &selections.items {
            match &selection.node {
                Selection::Field(field) => self.field(of, &field.node),
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    let fragment: &FragmentDefinition = self
                        .document
                        .fragments
                        .get(name)
                        .map(|f| &f.node)
                        .unwrap_or_else(|| panic!("no fragment {name}"));
                    assert_eq!(fragment.type_condition.node.on.node, of, "fragment {name}");
                    self.selections(of, &fragment.selection_set.node);
                }
                Selection::InlineFragment(_) => panic!("inline fragments are not checked"),
            }
        }
    }

    fn field(&self, of: &str, field: &Field) {
        let name = &field.name.node;
        let known = self.fields(of).unwrap_or_else(|| panic!("{of} has no fields"));
        let definition = known
            .iter()
            .find(|f| f.node.name.node == *name)
            .unwrap_or_else(|| panic!("{of} has no field {name}"));
        for (argument, value) in &field.arguments {
            let expected = definition.node.arguments.iter().find(|a| a.node.name.node == argument.node);
            let expected = expected.unwrap_or_else(|| panic!("{of}.{name} has no argument {argument}"));
            self.argument(&expected.node, &value.node.to_string());
        }
        for expected in &definition.node.arguments {
            let expected = &expected.node;
            let is_given = field.arguments.iter().any(|(argument, _)| argument.node == expected.name.node);
            let is_optional = expected.ty.node.nullable || expected.default_value.is_some();
            assert!(is_given || is_optional, "{of}.{name} needs {}", expected.name.node);
        }
        let of = named(&definition.node.ty.node.base);
        let selections = &field.selection_set.node;
        assert_eq!(self.fields(of).is_some(), !selections.items.is_empty(), "{name} of type {of}");
        self.selections(of, selections);
    }

    /// A variable has the type of the argument, and is never absent where the argument may not be.
    fn argument(&self, expected: &InputValueDefinition, value: &str) {
        let Some(name) = value.strip_prefix('$') else { return };
        let variable = self.operation.variable_definitions.iter().find(|v| v.node.name.node.as_str() == name);
        let given = &variable.unwrap_or_else(|| panic!("${name} is not declared")).node.var_type.node;
        let expected_type: &Type = &expected.ty.node;
        assert_eq!(named(&given.base), named(&expected_type.base), "${name}");
        let may_be_absent = expected_type.nullable || expected.default_value.is_some();
        assert!(may_be_absent || !given.nullable, "${name} may be absent, {} may not", expected.name.node);
    }
}

fn named(base: &BaseType) -> &str {
    match base {
        BaseType::Named(name) => name,
        BaseType::List(inner) => named(&inner.base),
    }
}

#[test]
fn what_the_schema_does_not_have_is_found() {
    assert_fits("{ network { name } }");
    for bad in [
        "{ network { nmae } }",
        "{ network }",
        "{ record { seq } }",
        "query($s: String) { record(seq: $s) { seq } }",
        "query($s: UInt) { record(seq: $s) { seq } }",
        "{ network(x: 1) { name } }",
        "query($s: Nothing) { network { name } }",
    ] {
        assert!(std::panic::catch_unwind(|| assert_fits(bad)).is_err(), "{bad}");
    }
}
