use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::{Entry, MAX_DEPTH, Node, Position, Tree, Value};
use crate::diagnostic::{Diagnostics, write_key};

pub(crate) const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

pub(super) fn read(tree: &mut Tree<'_>, text: &str) -> Result<Node, Diagnostics> {
    let parsed = parse_to_ast(text, &CollectOptions::default(), &STRICT).map_err(|error| {
        let position = Position::new(error.line_display(), error.column_display());
        let what = error.kind().to_string();
        if what.to_ascii_lowercase().contains("nesting depth") {
            return tree.too_deep(position);
        }
        let mut letters = what.chars();
        let what: String = letters.next().into_iter().flat_map(char::to_lowercase).chain(letters).collect();
        tree.fatal(position, format!("this is not JSON: {what}"))
    })?;
    let value = parsed.value.ok_or_else(|| tree.empty())?;
    let mut cursor = Cursor { text, offset: 0, position: Position::START };
    node(tree, &mut cursor, value, &mut String::new(), 0)
}

/// Converts a value; `path` is where it stands.
fn node(
    tree: &mut Tree<'_>,
    cursor: &mut Cursor<'_>,
    value: ast::Value<'_>,
    path: &mut String,
    depth: usize,
) -> Result<Node, Diagnostics> {
    let position = cursor.advance_to(value.start());
    if depth >= MAX_DEPTH {
        return Err(tree.too_deep(position));
    }
    let here = path.len();
    let value = match value {
        ast::Value::NullKeyword(_) => Value::Null,
        ast::Value::BooleanLit(literal) => Value::Boolean(literal.value),
        ast::Value::NumberLit(literal) => Value::Number(literal.value.to_owned()),
        ast::Value::StringLit(literal) => Value::Text(literal.value.into_owned()),
        ast::Value::Array(array) => {
            let mut items = Vec::with_capacity(array.elements.len());
            for (item, index) in array.elements.into_iter().zip(0..) {
                path.push_str(&format!("[{index}]"));
                items.push(node(tree, cursor, item, path, depth + 1)?);
                path.truncate(here);
            }
            Value::List(items)
        }
        ast::Value::Object(object) => {
            let mut entries = Vec::with_capacity(object.properties.len());
            for property in object.properties {
                let position = cursor.advance_to(property.name.start());
                let key = property.name.into_string();
                // Writing into a string cannot fail.
                let _ = write_key(path, here == 0, &key);
                let value = node(tree, cursor, property.value, path, depth + 1)?;
                path.truncate(here);
                entries.push(Entry { key, position, value });
            }
            Value::Mapping(tree.unique(entries, path))
        }
    };
    Ok(Node { position, value })
}

/// Turns byte offsets, asked for in rising order, into positions in one pass over the text.
struct Cursor<'t> {
    text: &'t str,
    offset: usize,
    position: Position,
}

impl Cursor<'_> {
    fn advance_to(&mut self, offset: usize) -> Position {
        let passed = self.text.get(self.offset..offset).unwrap_or_default();
        for character in passed.chars() {
            if character == '\n' {
                self.position = Position { line: self.position.line.saturating_add(1), column: 1 };
            } else {
                self.position.column = self.position.column.saturating_add(1);
            }
        }
        self.offset = self.offset.max(offset);
        self.position
    }
}
