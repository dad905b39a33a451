//! Where a core module lies in its component. The build script reads this file too.

/// The first bytes of a section that holds a core module.
const CORE_MODULE: u8 = 1;

/// What stands in a component before the section that is `module`, and what stands behind it; `None` when it embeds another one.
pub(crate) fn split<'c>(component: &'c [u8], module: &[u8]) -> Option<(&'c [u8], &'c [u8])> {
    let start = component.windows(module.len().max(1)).position(|window| window == module)?;
    let (before, rest) = component.split_at_checked(start)?;
    let before = before.strip_suffix(header(module)?.as_slice())?;
    Some((before, rest.get(module.len()..)?))
}

/// The header of a section that is `module`: its kind, and its length in LEB128.
pub(crate) fn header(module: &[u8]) -> Option<Vec<u8>> {
    let mut header = vec![CORE_MODULE];
    let mut rest = u32::try_from(module.len()).ok()?;
    loop {
        let low = u8::try_from(rest & 0x7f).ok()?;
        rest >>= 7;
        if rest == 0 {
            header.push(low);
            return Some(header);
        }
        header.push(low | 0x80);
    }
}
