//! ONNX files and packages taken apart, changed at one place and put together again, so that a changed input gets past what reads bytes.

use lockgate_package::{AlignedBytes, EnvelopeBuilder, Kind, PACKAGE_FORMAT, Package};
use rmpv::Value;

/// A number below the given one.
pub type Below<'r> = &'r mut dyn FnMut(usize) -> usize;

/// The messages of the ONNX format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Opset,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Dimension,
}

#[derive(Debug, Clone)]
enum Part {
    Varint(u64),
    Four([u8; 4]),
    Eight([u8; 8]),
    Bytes(Vec<u8>),
    /// Integers one behind the other.
    Integers(Vec<u64>),
    Message(Message, Vec<Field>),
}

#[derive(Debug, Clone)]
struct Field {
    number: u64,
    content: Part,
}

fn inner(message: Message, number: u64) -> Option<Message> {
    Some(match (message, number) {
        (Message::Model, 7) | (Message::Attribute, 6 | 11) => Message::Graph,
        (Message::Model, 8) => Message::Opset,
        (Message::Graph, 1) => Message::Node,
        (Message::Graph, 5) | (Message::Attribute, 5 | 10) => Message::Tensor,
        (Message::Graph, 11..=13) => Message::ValueInfo,
        (Message::Node, 5) => Message::Attribute,
        (Message::ValueInfo, 2) => Message::Type,
        (Message::Type, 1) => Message::TensorType,
        (Message::TensorType, 2) => Message::Shape,
        (Message::Shape, 1) => Message::Dimension,
        _ => return None,
    })
}

fn holds_integers(message: Message, number: u64) -> bool {
    matches!((message, number), (Message::Attribute, 8) | (Message::Tensor, 1 | 5 | 7 | 11))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read(message: Message, mut bytes: &[u8], depth: usize) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let number = key >> 3;
        let content = match key & 7 {
            0 => Part::Varint(varint(&mut bytes)?),
            1 => {
                let (eight, rest) = bytes.split_first_chunk()?;
                bytes = rest;
                Part::Eight(*eight)
            }
            5 => {
                let (four, rest) = bytes.split_first_chunk()?;
                bytes = rest;
                Part::Four(*four)
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (mut part, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                match inner(message, number) {
                    Some(inner) if depth < 64 => Part::Message(inner, read(inner, part, depth + 1)?),
                    _ if holds_integers(message, number) => {
                        let mut all = Vec::new();
                        while !part.is_empty() {
                            all.push(varint(&mut part)?);
                        }
                        Part::Integers(all)
                    }
                    _ => Part::Bytes(part.to_vec()),
                }
            }
            _ => return None,
        };
        fields.push(Field { number, content });
    }
    Some(fields)
}

fn write(fields: &[Field], out: &mut Vec<u8>) {
    for Field { number, content } in fields {
        let mut delimited = |part: &[u8]| {
            put_varint(number << 3 | 2, out);
            put_varint(part.len() as u64, out);
            out.extend_from_slice(part);
        };
        match content {
            Part::Bytes(bytes) => delimited(bytes),
            Part::Integers(all) => {
                let mut part = Vec::new();
                all.iter().for_each(|&value| put_varint(value, &mut part));
                delimited(&part);
            }
            Part::Message(_, fields) => {
                let mut part = Vec::new();
                write(fields, &mut part);
                delimited(&part);
            }
            Part::Varint(value) => {
                put_varint(number << 3, out);
                put_varint(*value, out);
            }
            Part::Four(bytes) => {
                put_varint(number << 3 | 5, out);
                out.extend_from_slice(bytes);
            }
            Part::Eight(bytes) => {
                put_varint(number << 3 | 1, out);
                out.extend_from_slice(bytes);
            }
        }
    }
}

/// Visits a message and all below it, each with its fields.
fn walk(message: Message, fields: &mut Vec<Field>, visit: &mut dyn FnMut(Message, &mut Vec<Field>)) {
    visit(message, fields);
    for field in fields {
        if let Part::Message(inner, fields) = &mut field.content {
            walk(*inner, fields, visit);
        }
    }
}

/// The lengths, counts and indices that hurt.
const NUMBERS: [u64; 18] = [
    0,
    1,
    2,
    3,
    7,
    16,
    255,
    1 << 16,
    1 << 20,
    1 << 31,
    (1 << 31) - 1,
    1 << 32,
    1 << 40,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX,
    u64::MAX - 1,
];

const TEXTS: [&str; 44] = [
    "",
    "x",
    "If",
    "Loop",
    "Scan",
    "Constant",
    "ConstantOfShape",
    "Expand",
    "Tile",
    "Range",
    "Reshape",
    "Concat",
    "Split",
    "Gather",
    "Slice",
    "Pad",
    "Cast",
    "Shape",
    "MatMul",
    "Conv",
    "LSTM",
    "TreeEnsemble",
    "TreeEnsembleClassifier",
    "ZipMap",
    "LabelEncoder",
    "SVMClassifier",
    "Tokenizer",
    "StringSplit",
    "RegexFullMatch",
    "TfIdfVectorizer",
    "DequantizeLinear",
    "BRANCH_LEQ",
    "BRANCH_EQ",
    "LEAF",
    "SOFTMAX",
    "PROBIT",
    "AVERAGE",
    "MIN",
    "ai.onnx.ml",
    "com.microsoft",
    "axis",
    "(a|b){1,500}",
    "[^\\w]*",
    "\u{0}",
];

/// A file changed at one to three places; `None` when it is no file.
pub fn changed_file(below: Below<'_>, file: &[u8], other: &[u8]) -> Option<Vec<u8>> {
    let mut fields = read(Message::Model, file, 0)?;
    let mut grafts = read(Message::Model, other, 0).unwrap_or_default();
    for _ in 0..=below(3) {
        change_file(below, &mut fields, &mut grafts);
    }
    let mut bytes = Vec::new();
    write(&fields, &mut bytes);
    Some(bytes)
}

fn change_file(below: Below<'_>, fields: &mut Vec<Field>, grafts: &mut Vec<Field>) {
    let mut texts = Vec::new();
    let mut messages = 0;
    walk(Message::Model, fields, &mut |_, fields| {
        messages += 1;
        for field in fields.iter() {
            if let Part::Bytes(bytes) = &field.content
                && bytes.len() < 64
            {
                texts.push(bytes.clone());
            }
        }
    });
    let mut left = below(messages);
    let mut graft_messages = 0;
    walk(Message::Model, grafts, &mut |_, _| graft_messages += 1);
    let graft = below(graft_messages.max(1));
    walk(Message::Model, fields, &mut |message, fields| {
        if left > 0 {
            left -= 1;
            return;
        }
        left = usize::MAX;
        change_message(below, message, fields, &texts, grafts, graft);
    });
}

fn change_message(
    below: Below<'_>,
    message: Message,
    fields: &mut Vec<Field>,
    texts: &[Vec<u8>],
    grafts: &mut Vec<Field>,
    graft: usize,
) {
    let count = fields.len();
    let at = below(count.max(1));
    match below(12) {
        0 if count > 0 => drop(fields.remove(at)),
        1 if count > 0 => {
            let copy = fields[at].clone();
            fields.insert(below(count + 1), copy);
        }
        2 if count > 1 => {
            let other = below(count);
            fields.swap(at, other);
        }
        3 if count > 0 && below(4) == 0 => {
            let copy = fields[at].clone();
            let times = [3, 40, 400][below(3)];
            fields.extend(std::iter::repeat_n(copy, times));
        }
        // A message of the same kind from elsewhere.
        4 | 5 => {
            let (mut left, mut found) = (graft, None);
            walk(Message::Model, grafts, &mut |other, fields| {
                if found.is_none() && other == message {
                    if left == 0 {
                        found = Some(fields.clone());
                    }
                    left = left.saturating_sub(1);
                }
            });
            if let Some(found) = found {
                if below(2) == 0 {
                    fields.extend(found);
                } else {
                    *fields = found;
                }
            }
        }
        // A graph inside of itself.
        6 if message == Message::Graph && below(4) == 0 => {
            let text = |number, text: &str| Field { number, content: Part::Bytes(text.as_bytes().to_vec()) };
            let operator = ["If", "Loop", "Scan"][below(3)];
            let names: &[&str] = if operator == "If" { &["then_branch", "else_branch"] } else { &["body"] };
            let mut node = vec![text(4, operator), text(2, "nested")];
            if let Some(name) = texts.get(below(texts.len().max(1))) {
                node.push(Field { number: 1, content: Part::Bytes(name.clone()) });
            }
            for name in names {
                let attribute = vec![
                    text(1, name),
                    Field { number: 20, content: Part::Varint(5) },
                    Field { number: 6, content: Part::Message(Message::Graph, fields.clone()) },
                ];
                node.push(Field { number: 5, content: Part::Message(Message::Attribute, attribute) });
            }
            fields.push(Field { number: 1, content: Part::Message(Message::Node, node) });
        }
        7 => {
            let number = NUMBERS[below(NUMBERS.len())];
            fields.push(Field { number: 1 + below(21) as u64, content: Part::Varint(number) });
        }
        _ if count > 0 => change_part(below, &mut fields[at].content, texts),
        _ => {}
    }
}

fn change_part(below: Below<'_>, part: &mut Part, texts: &[Vec<u8>]) {
    let number = NUMBERS[below(NUMBERS.len())];
    match part {
        Part::Varint(value) => *value = if below(2) == 0 { number } else { below(40) as u64 },
        Part::Four(bytes) => {
            let float = [0.0, -0.0, 1.0, f32::NAN, f32::INFINITY, 1e-45, 3e38, -1.5][below(8)];
            *bytes = if below(2) == 0 { float.to_le_bytes() } else { (number as u32).to_le_bytes() };
        }
        Part::Eight(bytes) => *bytes = number.to_le_bytes(),
        Part::Integers(all) => {
            let at = below(all.len().max(1));
            match (below(5), all.get_mut(at)) {
                (0 | 1, Some(value)) => *value = number,
                (2, Some(value)) => *value = below(12) as u64,
                (3, Some(_)) => drop(all.remove(at)),
                _ => all.insert(at.min(all.len()), number),
            }
        }
        Part::Bytes(bytes) => match below(6) {
            0 | 1 if !texts.is_empty() => bytes.clone_from(&texts[below(texts.len())]),
            2 => *bytes = TEXTS[below(TEXTS.len())].as_bytes().to_vec(),
            3 => bytes.truncate(below(bytes.len() + 1)),
            4 if !bytes.is_empty() => {
                let at = below(bytes.len());
                bytes[at] = [0, 1, 0x7F, 0x80, 0xFF, b'1'][below(6)];
            }
            _ => bytes.extend_from_slice(&number.to_le_bytes()[..1 + below(8)]),
        },
        Part::Message(..) => {}
    }
}

/// A package whose manifest, plan or arrays are changed at one to three places, with the digest that they want; `None` when it is no package.
pub fn changed_package(below: Below<'_>, package: &[u8], other: &[u8]) -> Option<Vec<u8>> {
    let package = Package::open(AlignedBytes::copy_of(package)).ok()?;
    let envelope = package.envelope();
    let parse = |bytes: &[u8]| rmpv::decode::read_value(&mut &*bytes).ok();
    let mut meta = parse(envelope.meta())?;
    let names: Vec<String> = envelope.section_names().map(str::to_owned).collect();
    let mut sections: Vec<Vec<u8>> = names
        .iter()
        .map(|name| envelope.section(name).map(|range| envelope.bytes_of(range).to_vec()))
        .collect::<Option<_>>()?;
    let plan = names.iter().position(|name| name == "plan")?;
    let mut tree = parse(&sections[plan])?;
    let other = Package::open(AlignedBytes::copy_of(other)).ok();
    let graft = other.and_then(|other| parse(other.envelope().bytes_of(other.envelope().section("plan")?)));
    for _ in 0..=below(3) {
        match below(8) {
            0 => change_tree(below, &mut meta, None),
            1 => {
                let at = below(sections.len());
                let section = &mut sections[at];
                let place = below(section.len().max(1)) & !3;
                match below(3) {
                    0 if section.len() >= place + 4 => {
                        let number = NUMBERS[below(NUMBERS.len())] as u32;
                        section[place..place + 4].copy_from_slice(&number.to_le_bytes());
                    }
                    1 if at != plan => section.truncate(place),
                    _ if at != plan => section.extend_from_slice(&[0; 8]),
                    _ => {}
                }
            }
            _ => change_tree(below, &mut tree, graft.as_ref()),
        }
    }
    let bytes = |tree: &Value| {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, tree).ok()?;
        Some(bytes)
    };
    sections[plan] = bytes(&tree)?;
    let mut builder = EnvelopeBuilder::new(Kind::Package, PACKAGE_FORMAT, bytes(&meta)?);
    for (name, section) in names.into_iter().zip(sections) {
        builder.section(name, section);
    }
    builder.seal().ok()
}

/// All values of a tree.
fn visit<'t>(tree: &'t Value, found: &mut Vec<&'t Value>) {
    found.push(tree);
    match tree {
        Value::Array(all) => all.iter().for_each(|value| visit(value, found)),
        Value::Map(all) => all.iter().for_each(|(_, value)| visit(value, found)),
        _ => {}
    }
}

fn change_tree(below: Below<'_>, tree: &mut Value, graft: Option<&Value>) {
    let mut all = Vec::new();
    visit(tree, &mut all);
    let mut left = below(all.len());
    let mut others = Vec::new();
    if let Some(graft) = graft {
        visit(graft, &mut others);
    }
    // A value of the same kind, from here or from elsewhere.
    let same = |one: &Value, other: &Value| std::mem::discriminant(one) == std::mem::discriminant(other);
    let chosen = all[left];
    let pool = if below(2) == 0 && !others.is_empty() { &others } else { &all };
    let fitting: Vec<&&Value> = pool.iter().filter(|value| same(value, chosen)).collect();
    let replacement = (!fitting.is_empty()).then(|| (**fitting[below(fitting.len())]).clone());
    let place = nth(tree, &mut left);
    let Some(place) = place else { return };
    let number = NUMBERS[below(NUMBERS.len())];
    match (below(6), place) {
        (0 | 1, place) => {
            if let Some(replacement) = replacement {
                *place = replacement;
            }
        }
        (_, Value::Integer(value)) => {
            *value = match below(3) {
                0 => number.into(),
                1 => (number as i64).into(),
                _ => (below(12) as u64).into(),
            }
        }
        (_, Value::Boolean(value)) => *value = !*value,
        (_, Value::F32(value)) => *value = [0.0, f32::NAN, f32::INFINITY, -1.0, 1e38][below(5)],
        (_, Value::F64(value)) => *value = [0.0, f64::NAN, f64::INFINITY, -1.0, 1e300][below(5)],
        (_, Value::String(value)) => *value = TEXTS[below(TEXTS.len())].into(),
        (2 | 3, Value::Binary(bytes)) if !bytes.is_empty() => {
            let at = below(bytes.len());
            bytes[at] = below(12) as u8;
        }
        (_, Value::Binary(bytes)) => bytes.truncate(below(bytes.len() + 1)),
        (2 | 3, Value::Array(all)) if !all.is_empty() => drop(all.remove(below(all.len()))),
        (4, Value::Array(all)) if !all.is_empty() => {
            let copy = all[below(all.len())].clone();
            let times = [1, 1, 30][below(3)];
            all.extend(std::iter::repeat_n(copy, times));
        }
        (_, Value::Array(all)) if all.len() > 1 => {
            let other = below(all.len());
            all.swap(0, other);
        }
        (2, Value::Map(all)) if !all.is_empty() => drop(all.remove(below(all.len()))),
        (_, place @ Value::Nil) => *place = number.into(),
        _ => {}
    }
}

/// The value at a place of the order in which [`visit`] finds them.
fn nth<'t>(tree: &'t mut Value, left: &mut usize) -> Option<&'t mut Value> {
    if *left == 0 {
        return Some(tree);
    }
    *left -= 1;
    match tree {
        Value::Array(all) => all.iter_mut().find_map(|value| nth(value, left)),
        Value::Map(all) => all.iter_mut().find_map(|(_, value)| nth(value, left)),
        _ => None,
    }
}
