//! RE2's dialect.
//!
//! The syntax is read by `regex-syntax`, whose dialect is RE2's but for a few corners: `\d`, `\s`, `\w` and `\b` are ASCII here as in RE2, and what the two
//! dialects read differently is refused.

use regex_syntax::ast::{self, Ast, parse::ParserBuilder};
use regex_syntax::hir::Hir;
use regex_syntax::hir::translate::TranslatorBuilder;

/// How deep groups and repetitions may be nested.
const MAX_NESTING: u32 = 100;

/// What an expression matches.
///
/// # Errors
/// What is wrong with it, or beyond what is understood.
pub(super) fn read(pattern: &str) -> Result<Hir, String> {
    let pattern = &quoted(pattern);
    let mut ast = ParserBuilder::new()
        .nest_limit(MAX_NESTING)
        .build()
        .parse(pattern)
        .map_err(|error| error.kind().to_string())?;
    rewrite(&mut ast, &mut false)?;
    TranslatorBuilder::new().build().translate(pattern, &ast).map_err(|error| error.kind().to_string())
}

/// Writes out what stands between `\Q` and `\E` for itself.
fn quoted(pattern: &str) -> String {
    let mut written = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match (c, chars.clone().next()) {
            ('\\', Some('Q')) => {
                let rest = chars.as_str().get(1..).unwrap_or_default();
                let (literal, rest) = rest.split_once("\\E").unwrap_or((rest, ""));
                written.push_str(&regex_syntax::escape(literal));
                chars = rest.chars();
            }
            ('\\', Some(escaped)) => {
                written.extend([c, escaped]);
                chars.next();
            }
            _ => written.push(c),
        }
    }
    written
}

/// Writes classes and word boundaries as ASCII ones and spells out the letters of (?i), for which `fold` says whether it is on.
fn rewrite(ast: &mut Ast, fold: &mut bool) -> Result<(), String> {
    match ast {
        Ast::Empty(_) | Ast::Dot(_) => {}
        Ast::Flags(set) => *fold = flags(&mut set.flags, *fold)?,
        Ast::Literal(literal) if *fold => {
            let (span, c) = (literal.span, literal.c);
            let mut items = Vec::new();
            add_letters(&mut items, span, c, c)?;
            *ast = Ast::class_bracketed(class(span, false, items));
        }
        Ast::Literal(_) => {}
        Ast::Assertion(assertion) => match assertion.kind {
            ast::AssertionKind::StartLine
            | ast::AssertionKind::EndLine
            | ast::AssertionKind::StartText
            | ast::AssertionKind::EndText => {}
            ast::AssertionKind::WordBoundary | ast::AssertionKind::NotWordBoundary => {
                let span = assertion.span;
                let kind = ast::FlagsItemKind::Flag(ast::Flag::Unicode);
                let items = vec![
                    ast::FlagsItem { span, kind: ast::FlagsItemKind::Negation },
                    ast::FlagsItem { span, kind },
                ];
                *ast = Ast::group(ast::Group {
                    span,
                    kind: ast::GroupKind::NonCapturing(ast::Flags { span, items }),
                    ast: Box::new(ast.clone()),
                });
            }
            _ => return Err("half word boundaries are not supported".to_owned()),
        },
        Ast::ClassUnicode(_) => return Err("Unicode classes are not supported".to_owned()),
        Ast::ClassPerl(perl) => {
            let (span, negated) = (perl.span, perl.negated);
            *ast = Ast::class_bracketed(class(span, negated, perl_items(perl)));
        }
        Ast::ClassBracketed(bracketed) => {
            let ast::ClassSet::Item(item) = &bracketed.kind else {
                return Err(
                    "operations on sets are not supported; write `\\&\\&`, `\\-\\-` or `\\~\\~`".to_owned()
                );
            };
            let mut items = Vec::new();
            flatten(item, *fold, &mut items)?;
            *ast = Ast::class_bracketed(class(bracketed.span, bracketed.negated, items));
        }
        Ast::Repetition(repetition) => {
            if matches!(*repetition.ast, Ast::Repetition(_)) {
                return Err("a repetition of a repetition needs a group, `(?:a+)*`".to_owned());
            }
            rewrite(&mut repetition.ast, fold)?;
        }
        Ast::Group(group) => {
            // Flags end with the group that they stand in.
            let mut inside = *fold;
            if let ast::GroupKind::NonCapturing(set) = &mut group.kind {
                inside = flags(set, inside)?;
            }
            rewrite(&mut group.ast, &mut inside)?;
        }
        Ast::Alternation(alternation) => {
            for one in &mut alternation.asts {
                rewrite(one, fold)?;
            }
        }
        Ast::Concat(concat) => {
            for one in &mut concat.asts {
                rewrite(one, fold)?;
            }
        }
    }
    Ok(())
}

/// Takes `i` out of flags; whether it is on after them.
fn flags(set: &mut ast::Flags, mut fold: bool) -> Result<bool, String> {
    let mut on = true;
    for item in &set.items {
        match item.kind {
            ast::FlagsItemKind::Negation => on = false,
            ast::FlagsItemKind::Flag(ast::Flag::CaseInsensitive) => fold = on,
            ast::FlagsItemKind::Flag(
                ast::Flag::MultiLine | ast::Flag::DotMatchesNewLine | ast::Flag::SwapGreed,
            ) => {}
            ast::FlagsItemKind::Flag(_) => {
                return Err("only the flags i, m, s and U are supported".to_owned());
            }
        }
    }
    set.items.retain(|item| item.kind != ast::FlagsItemKind::Flag(ast::Flag::CaseInsensitive));
    if set.items.last().is_some_and(|item| item.kind == ast::FlagsItemKind::Negation) {
        set.items.pop();
    }
    Ok(fold)
}

fn class(span: ast::Span, negated: bool, items: Vec<ast::ClassSetItem>) -> ast::ClassBracketed {
    let union = ast::ClassSetItem::Union(ast::ClassSetUnion { span, items });
    ast::ClassBracketed { span, negated, kind: ast::ClassSet::Item(union) }
}

/// The items of a bracketed class one after the other.
fn flatten(item: &ast::ClassSetItem, fold: bool, items: &mut Vec<ast::ClassSetItem>) -> Result<(), String> {
    match item {
        ast::ClassSetItem::Union(union) => {
            union.items.iter().try_for_each(|item| flatten(item, fold, items))?;
        }
        ast::ClassSetItem::Literal(literal) if fold => {
            add_letters(items, literal.span, literal.c, literal.c)?;
        }
        ast::ClassSetItem::Range(range) if fold => {
            add_letters(items, range.span, range.start.c, range.end.c)?;
        }
        ast::ClassSetItem::Perl(perl) => {
            let inner = class(perl.span, perl.negated, perl_items(perl));
            items.push(ast::ClassSetItem::Bracketed(Box::new(inner)));
        }
        ast::ClassSetItem::Unicode(_) => return Err("Unicode classes are not supported".to_owned()),
        ast::ClassSetItem::Bracketed(_) => {
            return Err("sets within sets are not supported; write `\\[`".to_owned());
        }
        ast::ClassSetItem::Empty(_)
        | ast::ClassSetItem::Literal(_)
        | ast::ClassSetItem::Range(_)
        | ast::ClassSetItem::Ascii(_) => items.push(item.clone()),
    }
    Ok(())
}

fn range(span: ast::Span, first: char, last: char) -> ast::ClassSetItem {
    let literal = |c| ast::Literal { span, kind: ast::LiteralKind::Verbatim, c };
    ast::ClassSetItem::Range(ast::ClassSetRange { span, start: literal(first), end: literal(last) })
}

/// RE2's ASCII classes; its `\s` has no vertical tab.
fn perl_items(perl: &ast::ClassPerl) -> Vec<ast::ClassSetItem> {
    let ranges: &[(char, char)] = match perl.kind {
        ast::ClassPerlKind::Digit => &[('0', '9')],
        ast::ClassPerlKind::Word => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        ast::ClassPerlKind::Space => &[('\t', '\n'), ('\x0c', '\r'), (' ', ' ')],
    };
    ranges.iter().map(|&(first, last)| range(perl.span, first, last)).collect()
}

/// A range and the other cases of its ASCII letters. Two letters beyond ASCII fold to ASCII ones; others that have two cases are refused.
fn add_letters(
    items: &mut Vec<ast::ClassSetItem>,
    span: ast::Span,
    first: char,
    last: char,
) -> Result<(), String> {
    items.push(range(span, first, last));
    let has = |c: char| (first..=last).contains(&c);
    for lower in 'a'..='z' {
        let upper = lower.to_ascii_uppercase();
        let beyond = match lower {
            'k' => Some('\u{212a}'),
            's' => Some('\u{17f}'),
            _ => None,
        };
        if has(lower) || has(upper) || beyond.is_some_and(has) {
            items.push(range(span, lower, lower));
            items.push(range(span, upper, upper));
            items.extend(beyond.map(|c| range(span, c, c)));
        }
    }
    let everything_beyond = last == char::MAX && first <= '\u{80}';
    let cased = |c: char| {
        !matches!(c, '\u{212a}' | '\u{17f}') && (!c.to_lowercase().eq([c]) || !c.to_uppercase().eq([c]))
    };
    if !everything_beyond && (first.max('\u{80}')..=last).any(cased) {
        return Err("(?i) of letters beyond ASCII is not supported".to_owned());
    }
    Ok(())
}
