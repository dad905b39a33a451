use crate::wire::{Bytes, len32, put_digest, put_u32, put_u64, seal};
use crate::{ErrorCode, Failure, Malformed, TooLarge};

pub(crate) const HEADER: usize = 64;

/// What a module answered.
#[derive(Debug)]
pub enum Reply<'a> {
    /// A result.
    Done(Response<'a>),
    /// The module reports an error.
    Failed(Failure),
}

/// A successful response, its header checked.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    pub(crate) bytes: Bytes<'a>,
    pub(crate) header_size: usize,
    /// Decisions or outputs; after loading a package, the model's handle.
    pub count: u32,
    /// The bundle's version; 0 from an inference module.
    pub bundle_version: u64,
    /// The digest of the loaded bundle or of the package that ran.
    pub digest: [u8; 32],
    pub(crate) warning_count: usize,
}

impl<'a> Reply<'a> {
    /// Reads the response at `address` of the module's memory.
    ///
    /// # Errors
    /// A response that lies outside the memory or makes no sense.
    pub fn read(memory: &'a [u8], address: u32) -> Result<Self, Malformed> {
        let address = address as usize;
        let outside = |problem| Malformed { problem, at: address };
        let rest = memory.get(address..).ok_or(outside("the response lies outside the memory"))?;
        let rest = Bytes::new(rest, address);
        if rest.len() < HEADER {
            return Err(outside("the response lies outside the memory"));
        }
        let (header_size, total_size) = (rest.size(0)?, rest.size(4)?);
        if header_size < HEADER || !header_size.is_multiple_of(8) || total_size < header_size {
            return Err(outside("the response's header_size or total_size is too small"));
        }
        let bytes = rest
            .part(0, total_size)
            .map_err(|_| outside("the response's total_size reaches beyond the memory"))?;
        let status = bytes.u32(8)?;
        if status != 0 {
            let code = ErrorCode::from_number(status)
                .ok_or_else(|| bytes.fail(8, "the status is no error code of this ABI"))?;
            let (message, end) = lossy(bytes, header_size)?;
            let (hint, _) = lossy(bytes, end)?;
            return Ok(Self::Failed(Failure { code, message, hint }));
        }
        Ok(Self::Done(Response {
            bytes,
            header_size,
            count: bytes.u32(12)?,
            bundle_version: bytes.u64(16)?,
            digest: bytes.digest(24)?,
            warning_count: bytes.size(56)?,
        }))
    }
}

/// A u32 length and so many bytes of text, and where they end.
fn lossy(bytes: Bytes<'_>, at: usize) -> Result<(String, usize), Malformed> {
    let len = bytes.size(at)?;
    let text = bytes.part(at + 4, len)?;
    Ok((String::from_utf8_lossy(text.slice()).into_owned(), at + 4 + len))
}

/// Starts a response: the header, its length still open.
pub(crate) fn begin(out: &mut Vec<u8>, bundle_version: u64, digest: &[u8; 32]) {
    out.clear();
    out.extend_from_slice(&header(bundle_version, digest));
}

/// A response's header.
#[inline]
pub(crate) fn header(bundle_version: u64, digest: &[u8; 32]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    put_u32(&mut header, 0, len32(HEADER));
    put_u64(&mut header, 16, bundle_version);
    put_digest(&mut header, 24, digest);
    header
}

/// Writes the response of a successful load: a bundle with its version, or a package with the handle it got.
pub fn write_loaded(out: &mut Vec<u8>, handle: u32, bundle_version: u64, digest: &[u8; 32]) {
    begin(out, bundle_version, digest);
    put_u32(out, 4, len32(HEADER));
    put_u32(out, 12, handle);
}

/// Writes the response that reports an error. Texts are cut after 4 KiB each.
pub fn write_failure(out: &mut Vec<u8>, code: ErrorCode, message: &str, hint: &str) {
    const LONGEST: usize = 4096;
    begin(out, 0, &[0; 32]);
    put_u32(out, 8, code.number());
    for text in [message, hint] {
        let text = text.get(..text.floor_char_boundary(LONGEST)).unwrap_or_default();
        out.extend_from_slice(&len32(text.len()).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    // Two short texts always fit a u32.
    let _: Result<(), TooLarge> = seal(out);
}
