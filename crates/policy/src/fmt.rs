//! Policy source in one layout. Comments, blank lines between groups, the order of keys and the meaning stay.
//!
//! The layout is decided from the events of the YAML parser and from what lies between them: comments, brackets and
//! line breaks. What comes out is parsed again and compared, so a layout that would change a value is never handed out.

use jsonc_parser::ast;
use jsonc_parser::common::Ranged as _;
use jsonc_parser::{CollectOptions, parse_to_ast};
use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::source::{Node, Position, STRICT_JSON, Value, is_json, parse, read};

/// Lines are at most this long where the layout has a choice.
const WIDTH: usize = 110;
/// Comments behind values are lined up so long as the values are no longer than this.
const ALIGNED: usize = 80;

/// Lays policy source out in the one way that `lockgate policy fmt` knows: two blanks a level, collections in brackets on one
/// line where they fit, at most one blank line between entries, plain double quotes. Reads as [`parse`] does.
///
/// # Errors
/// What [`read`] refuses, and anchors, aliases and directives, which a layout of values cannot keep.
pub fn format_source(file_name: &str, text: &str) -> Result<String, Diagnostics> {
    let before = read(file_name, text)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let refuse = |position: Position, message: &str, hint: Option<&str>| {
        let Position { line, column } = position;
        let hint = hint.map(str::to_owned);
        Diagnostics::from(Diagnostic { line, column, hint, ..Diagnostic::of_document(file_name, message) })
    };
    let out = if is_json(file_name) {
        json(text).ok_or_else(|| refuse(Position::START, "the JSON cannot be laid out", None))?
    } else {
        let document = Reader::new(text).document().map_err(|Refused { position, what, hint }| {
            refuse(position, &format!("{what} cannot be kept by the formatter"), Some(hint))
        })?;
        let comments: Vec<String> = document.comments.iter().map(|comment| comment.text.clone()).collect();
        let out = Printer::new(document.comments).print(&document.root);
        let again = Reader::new(&out).document().ok();
        let kept =
            again.is_some_and(|again| again.comments.iter().map(|comment| &comment.text).eq(comments.iter()));
        if !kept {
            return Err(refuse(
                Position::START,
                "the layout would lose a comment: a defect of Lockgate",
                None,
            ));
        }
        out
    };
    let after = parse(file_name, &out)?;
    if !same(&before, &after.tree.0) {
        return Err(refuse(Position::START, "the layout would change a value: a defect of Lockgate", None));
    }
    Ok(out)
}

/// Whether two trees hold the same values in the same order.
fn same(one: &Node, other: &Node) -> bool {
    match (&one.value, &other.value) {
        (Value::List(one), Value::List(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Mapping(one), Value::Mapping(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|(one, other)| one.key == other.key && same(&one.value, &other.value))
        }
        (one, other) => one == other,
    }
}

/// A value with its place in the text.
struct Item {
    /// Offset in characters, line from 1, column from 0.
    start: usize,
    line: u32,
    column: u32,
    /// Where its last character is.
    end: usize,
    end_line: u32,
    kind: Kind,
}

enum Kind {
    /// Nothing at all, as in `key:`.
    Empty,
    /// On one line, as it will be written.
    Scalar(String),
    /// `|` or `>` with what follows the sign, and the lines without their indentation.
    Block {
        header: String,
        lines: Vec<String>,
    },
    List {
        flow: bool,
        items: Vec<Item>,
    },
    Mapping {
        flow: bool,
        entries: Vec<(Item, Item)>,
    },
}

impl Item {
    /// How many scalars it holds that are written down.
    fn tokens(&self) -> usize {
        match &self.kind {
            Kind::Empty => 0,
            Kind::Scalar(_) | Kind::Block { .. } => 1,
            Kind::List { items, .. } => items.iter().map(Self::tokens).sum(),
            Kind::Mapping { entries, .. } => {
                entries.iter().map(|(key, value)| key.tokens() + value.tokens()).sum()
            }
        }
    }

    /// The text on one line, for what stood in brackets.
    fn inline(&self) -> Option<String> {
        match &self.kind {
            Kind::Empty => Some("null".to_owned()),
            Kind::Scalar(text) => Some(text.clone()),
            Kind::Block { .. } => None,
            Kind::List { items, .. } if items.is_empty() => Some("[]".to_owned()),
            Kind::Mapping { entries, .. } if entries.is_empty() => Some("{}".to_owned()),
            Kind::List { flow: false, .. } | Kind::Mapping { flow: false, .. } => None,
            Kind::List { items, .. } => {
                let items: Option<Vec<String>> = items.iter().map(Self::inline).collect();
                Some(format!("[{}]", items?.join(", ")))
            }
            Kind::Mapping { entries, .. } => {
                let entries: Option<Vec<String>> = entries
                    .iter()
                    .map(|(key, value)| Some(format!("{}: {}", key.inline()?, value.inline()?)))
                    .collect();
                Some(format!("{{ {} }}", entries?.join(", ")))
            }
        }
    }

    fn is_block_collection(&self) -> bool {
        matches!(self.kind, Kind::List { .. } | Kind::Mapping { .. })
    }
}

struct Comment {
    /// From `#` on.
    text: String,
    start: usize,
    line: u32,
    column: u32,
    /// Whether something stands before it on its line.
    trailing: bool,
    /// How many scalars stand before it.
    after: usize,
    /// How many dashes of lists stand before it.
    dashes: usize,
}

struct Document {
    root: Item,
    comments: Vec<Comment>,
}

/// What the layout cannot keep.
struct Refused {
    position: Position,
    what: &'static str,
    hint: &'static str,
}

/// Turns events into items and collects the comments between them.
struct Reader<'t> {
    chars: Vec<char>,
    events: Parser<'t, saphyr_parser::StrInput<'t>>,
    /// Up to here everything has been looked at.
    cursor: usize,
    line: u32,
    /// Where the line begins.
    line_start: usize,
    /// Whether something other than blanks has been seen on the line.
    occupied: bool,
    tokens: usize,
    dashes: usize,
    comments: Vec<Comment>,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            chars: text.chars().collect(),
            events: Parser::new_from_str(text),
            cursor: 0,
            line: 1,
            line_start: 0,
            occupied: false,
            tokens: 0,
            dashes: 0,
            comments: Vec::new(),
        }
    }

    fn document(mut self) -> Result<Document, Refused> {
        let mut root = None;
        while let Some(Ok((event, span))) = self.events.next_event() {
            if let Some(item) = self.item(event, span)? {
                root = Some(item);
            }
        }
        self.gap(self.chars.len(), false)?;
        let root = root.ok_or_else(|| self.refused("an empty document", "write a policy"))?;
        Ok(Document { root, comments: self.comments })
    }

    fn refused(&self, what: &'static str, hint: &'static str) -> Refused {
        let column = self.cursor.saturating_sub(self.line_start).saturating_add(1);
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Refused { position: Position { line: self.line, column: number(column) }, what, hint }
    }

    fn char(&self, at: usize) -> Option<char> {
        self.chars.get(at).copied()
    }

    fn column(&self) -> u32 {
        u32::try_from(self.cursor.saturating_sub(self.line_start)).unwrap_or(u32::MAX)
    }

    /// Moves over one character.
    fn step(&mut self) {
        match self.char(self.cursor) {
            Some('\n') => {
                self.line = self.line.saturating_add(1);
                self.line_start = self.cursor.saturating_add(1);
                self.occupied = false;
            }
            Some(' ' | '\t' | '\r') | None => {}
            Some(_) => self.occupied = true,
        }
        self.cursor = self.cursor.saturating_add(1);
    }

    fn advance(&mut self, to: usize) {
        while self.cursor < to {
            self.step();
        }
    }

    /// Looks through what lies between two scalars. With `block`, stops at the sign of a block scalar.
    fn gap(&mut self, to: usize, block: bool) -> Result<(), Refused> {
        while self.cursor < to {
            match self.char(self.cursor) {
                Some('#') => self.comment(),
                Some('|' | '>') if block => return Ok(()),
                Some('-') if self.is_dash() => {
                    self.dashes = self.dashes.saturating_add(1);
                    self.step();
                }
                Some('%') if !self.occupied => {
                    return Err(self.refused("a directive", "remove the line; the version of YAML is known"));
                }
                _ => self.step(),
            }
        }
        Ok(())
    }

    /// Whether this dash begins an item; the three that begin a document do not.
    fn is_dash(&self) -> bool {
        let blank = |c: Option<char>| c.is_none_or(char::is_whitespace);
        let before = self.cursor.checked_sub(1).and_then(|before| self.char(before));
        blank(before) && blank(self.char(self.cursor.saturating_add(1)))
    }

    fn comment(&mut self) {
        let (start, line, column, trailing) = (self.cursor, self.line, self.column(), self.occupied);
        while self.char(self.cursor).is_some_and(|c| c != '\n') {
            self.step();
        }
        let text: String = self.chars.get(start..self.cursor).unwrap_or_default().iter().collect();
        let text = text.trim_end().to_owned();
        self.comments.push(Comment {
            text,
            start,
            line,
            column,
            trailing,
            after: self.tokens,
            dashes: self.dashes,
        });
    }

    /// The item that begins with this event; `None` for events that begin none.
    fn item(&mut self, event: Event<'_>, span: Span) -> Result<Option<Item>, Refused> {
        let start = span.start.index();
        let anchored = match &event {
            Event::Scalar(_, _, anchor, _) => *anchor != 0,
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) => *anchor != 0,
            Event::Alias(_) => true,
            _ => false,
        };
        if anchored {
            self.gap(start, false)?;
            return Err(self.refused("an anchor or alias", "write the value out where it is used"));
        }
        let item = match event {
            Event::Scalar(text, style, ..) => self.scalar(&text, style, span)?,
            Event::SequenceStart(..) => {
                let (flow, mut item) = self.open(start, '[')?;
                let mut items = Vec::new();
                while let Some(Ok((event, span))) = self.events.next_event() {
                    if matches!(event, Event::SequenceEnd) {
                        self.close(&mut item, flow, span)?;
                        break;
                    }
                    items.extend(self.item(event, span)?);
                }
                item.kind = Kind::List { flow, items };
                item
            }
            Event::MappingStart(..) => {
                let (flow, mut item) = self.open(start, '{')?;
                let mut entries = Vec::new();
                while let Some(Ok((event, span))) = self.events.next_event() {
                    if matches!(event, Event::MappingEnd) {
                        self.close(&mut item, flow, span)?;
                        break;
                    }
                    let key = self.item(event, span)?;
                    let Some(Ok((event, span))) = self.events.next_event() else { break };
                    let value = self.item(event, span)?;
                    entries.extend(key.zip(value));
                }
                item.kind = Kind::Mapping { flow, entries };
                item
            }
            _ => return Ok(None),
        };
        Ok(Some(item))
    }

    /// An item without content that begins here.
    fn here(&self, kind: Kind) -> Item {
        let (start, line, column) = (self.cursor, self.line, self.column());
        Item { start, line, column, end: start, end_line: line, kind }
    }

    fn open(&mut self, start: usize, bracket: char) -> Result<(bool, Item), Refused> {
        let flow = self.char(start) == Some(bracket);
        // The place of a block list is that of its first item, with the dash still to be seen.
        self.gap(start, false)?;
        let item = self.here(Kind::Empty);
        if flow {
            self.step();
        }
        Ok((flow, item))
    }

    fn close(&mut self, item: &mut Item, flow: bool, span: Span) -> Result<(), Refused> {
        if flow {
            self.gap(span.start.index(), false)?;
            self.step();
        }
        item.end = self.cursor;
        item.end_line = self.line;
        Ok(())
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, span: Span) -> Result<Item, Refused> {
        let (start, end) = (span.start.index(), span.end.index());
        if style == ScalarStyle::Plain && text.is_empty() {
            self.gap(start, false)?;
            return Ok(self.here(Kind::Empty));
        }
        let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        self.gap(if block { self.chars.len() } else { start }, block)?;
        let mut item = self.here(Kind::Empty);
        self.tokens = self.tokens.saturating_add(1);
        if block {
            item.kind = self.block(text);
        } else {
            match style {
                ScalarStyle::SingleQuoted => self.quoted('\''),
                ScalarStyle::DoubleQuoted => self.quoted('"'),
                _ => self.advance(end),
            }
            let raw: String = self.chars.get(item.start..self.cursor).unwrap_or_default().iter().collect();
            item.kind = Kind::Scalar(scalar(text, style, raw.trim_end()));
        }
        item.end = self.cursor;
        item.end_line = self.line;
        Ok(item)
    }

    /// Moves behind the closing quote; the parser's span may reach further.
    fn quoted(&mut self, quote: char) {
        self.step();
        while let Some(c) = self.char(self.cursor) {
            self.step();
            if c == '\\' && quote == '"' {
                self.step();
            } else if c == quote {
                if quote == '"' || self.char(self.cursor) != Some('\'') {
                    return;
                }
                self.step();
            }
        }
    }

    /// A block scalar, from its sign on.
    fn block(&mut self, text: &str) -> Kind {
        let mut header = String::new();
        while let Some(c) = self.char(self.cursor).filter(|c| !c.is_whitespace() && *c != '#') {
            header.push(c);
            self.step();
        }
        while self.char(self.cursor).is_some_and(|c| c != '\n') {
            if self.char(self.cursor) == Some('#') {
                self.comment();
            } else {
                self.step();
            }
        }
        self.step();
        let mut lines: Vec<String> = Vec::new();
        let mut indentation = None;
        // Where the last line with content ends; blank lines behind it count only for `+`.
        while self.cursor < self.chars.len() {
            let rest = self.chars.get(self.cursor..).unwrap_or_default();
            let line: String = rest.iter().take_while(|c| **c != '\n').collect();
            let line = line.trim_end_matches('\r');
            let blank = line.trim_matches(' ').is_empty();
            let depth = line.chars().take_while(|c| *c == ' ').count();
            if !blank && depth < *indentation.get_or_insert(depth.max(1)) {
                break;
            }
            let indentation = indentation.unwrap_or(usize::MAX);
            lines.push(line.chars().skip(indentation).collect());
            let end = self.cursor.saturating_add(rest.iter().take_while(|c| **c != '\n').count());
            self.advance(end.saturating_add(1).min(self.chars.len()));
        }
        let blanks = lines.iter().rev().take_while(|line| line.is_empty()).count();
        // Whether a line of nothing but tabs belongs to the text depends on the indentation of what surrounds it.
        let tabs = lines.iter().any(|line| line.contains('\t') && line.trim().is_empty());
        let surroundings = tabs || header.contains('+') || header.chars().any(|c| c.is_ascii_digit());
        lines.truncate(lines.len().saturating_sub(blanks));
        // Blanks behind the last line break of the source can be more text than they look.
        let ending = if header.contains('-') { "" } else { "\n" };
        let content = text.trim_end_matches('\n');
        let ends = text.strip_prefix(content) == Some(ending);
        let kept = ends && (!header.starts_with('|') || content == lines.join("\n"));
        if surroundings || !kept || lines.is_empty() {
            // The text itself does not depend on them.
            return Kind::Scalar(double_quoted(text));
        }
        Kind::Block { header, lines }
    }
}

/// How a scalar will be written.
fn scalar(text: &str, style: ScalarStyle, raw: &str) -> String {
    let one_line = !raw.contains('\n');
    match style {
        ScalarStyle::Plain => match raw {
            "~" | "Null" | "NULL" => "null".to_owned(),
            "True" | "TRUE" => "true".to_owned(),
            "False" | "FALSE" => "false".to_owned(),
            // A control character at an end belongs to the value, and looks like a blank.
            _ if one_line && raw == text => raw.to_owned(),
            _ => double_quoted(text),
        },
        ScalarStyle::SingleQuoted => {
            let simple = !text.contains(['"', '\\']) && !text.chars().any(char::is_control);
            if one_line && !simple { raw.to_owned() } else { double_quoted(text) }
        }
        _ if one_line => raw.to_owned(),
        _ => double_quoted(text),
    }
}

fn double_quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Writes items line by line.
struct Printer {
    comments: std::iter::Peekable<std::vec::IntoIter<Comment>>,
    /// The lines so far, each with the comment behind it.
    lines: Vec<(String, Option<String>)>,
    /// The line that is being written.
    line: String,
    /// The last line of the source that has been written.
    source_line: u32,
    /// Whether a collection has just begun, where a blank line would separate nothing.
    fresh: bool,
    /// How many scalars and dashes of the source have been written.
    tokens: usize,
    dashes: usize,
}

impl Printer {
    fn new(comments: Vec<Comment>) -> Self {
        Self {
            comments: comments.into_iter().peekable(),
            lines: Vec::new(),
            line: String::new(),
            source_line: 0,
            fresh: true,
            tokens: 0,
            dashes: 0,
        }
    }

    fn print(mut self, root: &Item) -> String {
        self.due(0, 0, usize::MAX);
        if root.is_block_collection()
            && root.inline().is_none_or(|_| matches!(root.kind, Kind::Mapping { .. }))
        {
            self.children(root, 0, 0);
        } else {
            self.value(root, 0, 0);
        }
        self.due(0, 0, usize::MAX);
        aligned(&self.lines)
    }

    fn end_line(&mut self, source_line: u32) {
        let line = std::mem::take(&mut self.line);
        self.lines.push((line, None));
        self.source_line = source_line;
        self.fresh = false;
    }

    /// Separates what stands at `line` from what was written last, if the source does.
    fn separate(&mut self, line: u32) {
        if !self.fresh && line > self.source_line.saturating_add(1) {
            self.lines.push((String::new(), None));
        }
        self.fresh = false;
    }

    /// Writes the comments at the end of a collection: those before the next scalar or dash that begin before `end` and, when on
    /// lines of their own, not left of `column`.
    fn due(&mut self, indent: usize, column: u32, end: usize) {
        self.due_before(indent, column, end, self.dashes);
    }

    fn due_before(&mut self, indent: usize, column: u32, end: usize, dashes: usize) {
        while let Some(comment) = self.comments.peek() {
            if comment.after > self.tokens || comment.dashes > dashes || comment.start >= end {
                return;
            }
            let behind = comment.trailing && comment.line == self.source_line;
            if !behind && comment.column < column {
                return;
            }
            let Some(comment) = self.comments.next() else { return };
            match self.lines.last_mut() {
                Some((_, behind_line @ None)) if behind => *behind_line = Some(comment.text),
                _ => {
                    self.separate(comment.line);
                    self.lines.push((format!("{:indent$}{}", "", comment.text), None));
                    self.source_line = comment.line;
                }
            }
        }
    }

    /// Whether comments stand within the item.
    fn holds_comments(&mut self, item: &Item) -> bool {
        self.comments.peek().is_some_and(|comment| comment.start < item.end && comment.start > item.start)
    }

    /// Writes a value behind what the line holds already, a key or a dash.
    fn value(&mut self, item: &Item, indent: usize, column: u32) {
        let room = WIDTH.saturating_sub(self.line.chars().count().saturating_add(1));
        match &item.kind {
            Kind::Empty => {
                if self.line.ends_with('-') {
                    self.line.push_str(" null");
                }
                self.end_line(self.source_line.max(item.line));
                return;
            }
            Kind::Block { header, lines } => {
                self.append(header);
                self.end_line(item.line);
                self.tokens = self.tokens.saturating_add(1);
                // The comment behind the sign, which lies before the lines.
                if let Some(comment) = self.comments.next_if(|comment| comment.line == item.line)
                    && let Some((_, behind)) = self.lines.last_mut()
                {
                    *behind = Some(comment.text);
                }
                for line in lines {
                    let line = if line.is_empty() { String::new() } else { format!("{:indent$}{line}", "") };
                    self.lines.push((line, None));
                }
                let count = u32::try_from(lines.len()).unwrap_or(u32::MAX);
                self.source_line = item.line.saturating_add(count);
                return;
            }
            _ => {}
        }
        let fits = |text: &String| !item.is_block_collection() || text.chars().count() <= room;
        if let Some(text) = item.inline().filter(fits)
            && !self.holds_comments(item)
        {
            self.append(&text);
            self.tokens = self.tokens.saturating_add(item.tokens());
            self.end_line(item.end_line);
            return;
        }
        if !self.line.ends_with('-') {
            self.end_line(self.source_line);
            self.fresh = true;
        }
        self.children(item, indent, column);
    }

    fn append(&mut self, text: &str) {
        if !self.line.is_empty() && !self.line.ends_with(' ') {
            self.line.push(' ');
        }
        self.line.push_str(text);
    }

    /// Writes the entries of a collection, each on lines of its own.
    fn children(&mut self, item: &Item, indent: usize, column: u32) {
        match &item.kind {
            Kind::List { flow, items } => {
                for item in items {
                    self.begin(item, indent);
                    self.append("-");
                    self.dashes = self.dashes.saturating_add(usize::from(!flow));
                    self.source_line = self.source_line.max(item.line);
                    self.value(item, indent.saturating_add(2), item.column);
                }
            }
            Kind::Mapping { entries, .. } => {
                for (key, value) in entries {
                    self.begin(key, indent);
                    self.append(&key.inline().unwrap_or_default());
                    self.line.push(':');
                    self.tokens = self.tokens.saturating_add(1);
                    self.source_line = key.end_line;
                    self.value(value, indent.saturating_add(2), key.column.saturating_add(1));
                }
            }
            _ => {}
        }
        let flow = matches!(item.kind, Kind::List { flow: true, .. } | Kind::Mapping { flow: true, .. });
        let (column, end) = if flow { (0, item.end) } else { (column, usize::MAX) };
        self.due(indent, column, end);
        if flow {
            self.source_line = item.end_line;
        }
    }

    /// Begins a line for an entry, after the comments before it; the first one of a list's item stands behind the dash.
    fn begin(&mut self, first: &Item, indent: usize) {
        if self.line.is_empty() {
            self.due_before(indent, 0, usize::MAX, usize::MAX);
            self.separate(first.line);
            self.line.push_str(&" ".repeat(indent));
        }
    }
}

/// The text of all lines. Comments behind neighbouring lines are lined up.
fn aligned(lines: &[(String, Option<String>)]) -> String {
    let mut out = String::new();
    let mut rest = lines;
    while let Some((line, comment)) = rest.first() {
        let Some(_) = comment else {
            out.push_str(line);
            out.push('\n');
            rest = rest.get(1..).unwrap_or_default();
            continue;
        };
        let depth = |line: &str| line.len().saturating_sub(line.trim_start_matches([' ', '-']).len());
        let run = rest
            .iter()
            .take_while(|(other, comment)| comment.is_some() && depth(other) == depth(line))
            .count();
        let (group, others) = rest.split_at(run);
        let width = |line: &str| line.chars().count();
        let widest = group.iter().map(|(line, _)| width(line)).filter(|width| *width <= ALIGNED).max();
        for (line, comment) in group {
            let blanks = widest.unwrap_or(0).saturating_sub(width(line)).saturating_add(2);
            out.push_str(&format!("{line}{:blanks$}{}\n", "", comment.as_deref().unwrap_or_default()));
        }
        rest = others;
    }
    out
}

/// The layout of JSON text, which has no comments.
fn json(text: &str) -> Option<String> {
    let parsed = parse_to_ast(text, &CollectOptions::default(), &STRICT_JSON).ok()?;
    let mut printer = JsonPrinter { text, offset: 0, line: 1, out: String::new() };
    printer.value(&parsed.value?, 0, true);
    printer.out.push('\n');
    Some(printer.out)
}

struct JsonPrinter<'t> {
    text: &'t str,
    offset: usize,
    /// The line of `offset`.
    line: usize,
    out: String,
}

impl JsonPrinter<'_> {
    fn raw(&self, start: usize, end: usize) -> &str {
        self.text.get(start..end).unwrap_or_default()
    }

    /// The line of an offset; offsets are asked for in rising order.
    fn line_of(&mut self, offset: usize) -> usize {
        let passed = self.text.get(self.offset..offset).unwrap_or_default();
        self.line = self.line.saturating_add(passed.matches('\n').count());
        self.offset = self.offset.max(offset);
        self.line
    }

    fn inline(&self, value: &ast::Value<'_>) -> String {
        match value {
            ast::Value::Array(array) => {
                let items: Vec<String> = array.elements.iter().map(|item| self.inline(item)).collect();
                format!("[{}]", items.join(", "))
            }
            ast::Value::Object(object) if object.properties.is_empty() => "{}".to_owned(),
            ast::Value::Object(object) => {
                let entries: Vec<String> = object
                    .properties
                    .iter()
                    .map(|entry| {
                        let key = self.raw(entry.name.start(), entry.name.end());
                        format!("{key}: {}", self.inline(&entry.value))
                    })
                    .collect();
                format!("{{ {} }}", entries.join(", "))
            }
            scalar => self.raw(scalar.start(), scalar.end()).to_owned(),
        }
    }

    fn value(&mut self, value: &ast::Value<'_>, indent: usize, root: bool) {
        let column = self.out.rsplit('\n').next().unwrap_or_default().chars().count();
        let one_line = !self.raw(value.start(), value.end()).contains('\n');
        let empty = match value {
            ast::Value::Array(array) => array.elements.is_empty(),
            ast::Value::Object(object) => object.properties.is_empty(),
            _ => true,
        };
        if empty || one_line && !root {
            let text = self.inline(value);
            // The comma behind it needs a place, too.
            if empty || column + text.chars().count() < WIDTH {
                self.out.push_str(&text);
                self.line_of(value.end());
                return;
            }
        }
        let inner = indent + 2;
        match value {
            ast::Value::Array(array) => {
                self.out.push('[');
                let mut first = true;
                for item in &array.elements {
                    self.begin(item.start(), inner, first);
                    self.value(item, inner, false);
                    first = false;
                }
                self.out.push_str(&format!("\n{:indent$}]", ""));
            }
            ast::Value::Object(object) => {
                self.out.push('{');
                let mut first = true;
                for entry in &object.properties {
                    self.begin(entry.name.start(), inner, first);
                    let key = self.raw(entry.name.start(), entry.name.end()).to_owned();
                    self.out.push_str(&key);
                    self.out.push_str(": ");
                    self.value(&entry.value, inner, false);
                    first = false;
                }
                self.out.push_str(&format!("\n{:indent$}}}", ""));
            }
            _ => {}
        }
        self.line_of(value.end());
    }

    fn begin(&mut self, start: usize, indent: usize, first: bool) {
        let before = self.line;
        let line = self.line_of(start);
        if !first {
            self.out.push(',');
            if line > before + 1 {
                self.out.push('\n');
            }
        }
        self.out.push_str(&format!("\n{:indent$}", ""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, expected: &str) {
        let out = format_source("p.yaml", source).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(out, expected);
        assert_eq!(format_source("p.yaml", &out).unwrap(), out, "a second time");
    }

    #[test]
    fn comments_and_groups_stay() {
        check(
            "---\n# head\n\n\n# of a\na:   1 # one\nbb: 2   # two\n\n\n\nc:\n\n- x # of x\n# within\n\n# below c\nd: 4\n# the end",
            "# head\n\n# of a\na: 1   # one\nbb: 2  # two\n\nc:\n  - x  # of x\n# within\n\n# below c\nd: 4\n# the end\n",
        );
        check(
            "a:\n    b: 1\n    # within\n  # within, too\n# not\nc: 1\n",
            "a:\n  b: 1\n  # within\n  # within, too\n# not\nc: 1\n",
        );
        check("- # first\n  a: 1\n- # second\n  a: 2\n", "# first\n- a: 1\n# second\n- a: 2\n");
    }

    #[test]
    fn brackets_are_kept_where_they_fit() {
        check("a: {b: [ 1,2 ],c: {}}\n", "a: { b: [1, 2], c: {} }\n");
        check("a: [\n  x, y\n]\n", "a: [x, y]\n");
        check("a: [ # why\n  x, # ex\n  y\n]\nb: 1", "a:  # why\n  - x  # ex\n  - y\nb: 1\n");
        let long = "z".repeat(60);
        check(
            &format!("a: [{long}, {long}]\nb:\n- {{name: {long}, x: {long}}}\n"),
            &format!("a:\n  - {long}\n  - {long}\nb:\n  - name: {long}\n    x: {long}\n"),
        );
        check(
            "a: { m@1.0.0: , b }\nc:\nd: ~\ne:\n-\n- y\n",
            "a: { m@1.0.0: null, b: null }\nc:\nd: null\ne:\n  - null\n  - y\n",
        );
    }

    #[test]
    fn texts_keep_their_value() {
        check(
            "a: 'x'\nb: 'it''s'\nc: '\\d'\nd: \"q\\n\"\n",
            "a: \"x\"\nb: \"it's\"\nc: '\\d'\nd: \"q\\n\"\n",
        );
        check("a: one\n  two # c\nb: \"x\n\n  y\"\n", "a: \"one two\"  # c\nb: \"x\\ny\"\n");
        check(
            "a: |  # lines\n      one\n       two\n\n      three\n\n\nb: >-\n    # text\n    more\nc: |+\n  x\n\nd: True\n",
            "a: |  # lines\n  one\n   two\n\n  three\n\nb: >-\n  # text\n  more\nc: \"x\\n\\n\"\nd: true\n",
        );
        for (source, laid_out) in [
            ("a: |\n \t", "a: \"\\t\\n\"\n"),
            ("a: |\n x\n \t\n", "a: \"x\\n\\t\\n\"\n"),
            ("a: |\n x", "a: |\n  x\n"),
            ("a:\n    b: |\n \t", "a:\n  b: \"\"\n"),
        ] {
            check(source, laid_out);
        }
        check("a: 1\u{b}\nb: 2\n", "a: \"1\\u000b\"\nb: 2\n");
        check("\u{feff}a: 1\r\nb: \"#\"\r\n\r\n# c\r\nc: a#b\r\n", "a: 1\nb: \"#\"\n\n# c\nc: a#b\n");
    }

    #[test]
    fn what_cannot_be_kept_is_refused_with_its_place() {
        let refused = |source: &str| format_source("p.yaml", source).unwrap_err().to_string();
        insta::assert_snapshot!(refused("a: &x [1]\nb: *x\n"), @r"
        p.yaml:1:4: an anchor or alias cannot be kept by the formatter
          hint: write the value out where it is used
        ");
        insta::assert_snapshot!(refused("%YAML 1.2\n---\na: 1\n"), @r"
        p.yaml:1:1: a directive cannot be kept by the formatter
          hint: remove the line; the version of YAML is known
        ");
        assert!(refused("a: 1\na: 2\n").contains("occurs twice"));
        assert!(refused("a: [").contains("this is not YAML"));
    }

    #[test]
    fn json_keeps_its_lines_and_its_groups() {
        let source = "{\"a\":[1,2.50],\n\n\"b\":{\n\"c\":\"\\u00e9\"},\"d\":{\"e\":null}, \"f\": [] }";
        let expected = "{\n  \"a\": [1, 2.50],\n\n  \"b\": {\n    \"c\": \"\\u00e9\"\n  },\n  \"d\": { \"e\": null },\n  \"f\": []\n}\n";
        assert_eq!(format_source("p.json", source).unwrap(), expected);
        assert_eq!(format_source("p.json", expected).unwrap(), expected);
        assert!(format_source("p.json", "{} // no").is_err());
    }
}
