//! The elements of a tensor as raw bytes: little-endian, row-major; a `BYTES` element is a u32 length and its bytes.

use lockgate_package::Datatype;

use crate::Error;
use crate::data::element_count;

/// Checks that `data` are the elements of such a tensor.
pub(crate) fn check(name: &str, datatype: Datatype, shape: &[i64], data: &[u8]) -> Result<(), Error> {
    let count = element_count(name, shape)?;
    let Some(size) = datatype.size() else { return check_byte_strings(name, shape, count, data) };
    let expected = count.saturating_mul(size);
    if data.len() != expected {
        return Err(Error::tensor(
            name,
            format!(
                "has {} bytes of binary data, {datatype} of shape {shape:?} needs {expected}",
                data.len()
            ),
        ));
    }
    if datatype == Datatype::Bool
        && let Some(index) = data.iter().position(|&byte| byte > 1)
    {
        return Err(Error::tensor(
            name,
            format!("element {index} is {}, expected BOOL, 0 or 1", data[index]),
        ));
    }
    Ok(())
}

fn check_byte_strings(name: &str, shape: &[i64], count: usize, data: &[u8]) -> Result<(), Error> {
    let mut found = 0_usize;
    for element in byte_strings(data) {
        if element.is_none() {
            return Err(Error::tensor_with_hint(
                name,
                format!("element {found} ends beyond the {} bytes of binary data", data.len()),
                "each BYTES element is a little-endian u32 length followed by that many bytes",
            ));
        }
        found += 1;
    }
    if found != count {
        return Err(Error::tensor(
            name,
            format!("has {found} elements of binary data, shape {shape:?} needs {count}"),
        ));
    }
    Ok(())
}

/// The elements of `BYTES` data; `None` once, and last, where the data end within an element.
pub(crate) fn byte_strings(data: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let element = rest
            .split_first_chunk::<4>()
            .and_then(|(len, tail)| tail.split_at_checked(u32::from_le_bytes(*len) as usize));
        rest = element.map_or(&[], |(_, tail)| tail);
        Some(element.map(|(element, _)| element))
    })
}
