use serde::Deserialize;

use crate::Error;

/// How many levels of arrays and objects a body may nest. A message needs five, and each dimension of a tensor one more.
pub const MAX_DEPTH: usize = 64;

/// Reads `bytes` as the JSON message called `message`.
pub(crate) fn read<'de, T: Deserialize<'de>>(bytes: &'de [u8], message: &'static str) -> Result<T, Error> {
    // The parser skips what it does not need without counting levels, hence a pass of our own.
    check_depth(bytes)?;
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'[') {
        // Which the derived readers would take for the fields in their order.
        return Err(Error::NotTheMessage { message, problem: "expected an object".to_owned() });
    }
    serde_json::from_slice(bytes).map_err(|error| {
        if error.is_data() {
            return Error::NotTheMessage { message, problem: error.to_string() };
        }
        Error::NotJson { message: error.to_string(), hint: hint_at(bytes, &error) }
    })
}

/// Many encoders write NaN bare, which is not JSON.
fn hint_at(bytes: &[u8], error: &serde_json::Error) -> Option<&'static str> {
    let line = bytes.split(|&byte| byte == b'\n').nth(error.line().checked_sub(1)?)?;
    let from = error.column().saturating_sub(2);
    let near = line.get(from..)?;
    let near = near.get(..12).unwrap_or(near);
    (near.contains(&b'N') || near.contains(&b'I')).then_some(
        "JSON has no NaN and no infinities; write the strings \"NaN\", \"Infinity\", \"-Infinity\"",
    )
}

fn check_depth(bytes: &[u8]) -> Result<(), Error> {
    let opened = bytes.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    if opened <= MAX_DEPTH {
        return Ok(());
    }
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for (offset, &byte) in bytes.iter().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' if depth == MAX_DEPTH => return Err(Error::TooDeep { limit: MAX_DEPTH, offset }),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}
