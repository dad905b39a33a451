use lockgate_package::AlignedBytes;

use crate::{ErrorCode, write_failure};

/// The buffers of a module: requests come in through one, responses go out through the other.
#[derive(Debug, Default)]
pub struct Buffers {
    input: AlignedBytes,
    /// Where the response is written.
    pub output: Vec<u8>,
}

impl Buffers {
    const LEAST: usize = 64 * 1024;

    /// `lockgate_reserve`: the address of an input buffer of at least `len` bytes, 0 when there is no memory for it.
    pub fn reserve(&mut self, len: usize) -> usize {
        let len = len.max(Self::LEAST);
        if len > self.input.len() {
            // The old one goes first: a large bundle should not need room for both.
            self.input = AlignedBytes::default();
            let Some(input) = AlignedBytes::try_zeroed(len) else { return 0 };
            self.input = input;
        }
        self.input.as_slice().as_ptr().addr()
    }

    /// The first `len` bytes of the input buffer beside the output buffer; `None`, and a failure in the output, when
    /// fewer were reserved.
    pub fn request(&mut self, len: usize) -> Option<(&[u8], &mut Vec<u8>)> {
        if len > self.input.len() {
            self.beyond();
            return None;
        }
        Some((self.input.get(..len)?, &mut self.output))
    }

    /// Takes the first `len` bytes of the input buffer out of it; `None`, and a failure in the output, when fewer were
    /// reserved.
    pub fn take(&mut self, len: usize) -> Option<AlignedBytes> {
        if len > self.input.len() {
            self.beyond();
            return None;
        }
        let mut bytes = std::mem::take(&mut self.input);
        bytes.truncate(len);
        Some(bytes)
    }

    /// The address of the response in the output buffer.
    pub fn response(&self) -> usize {
        self.output.as_ptr().addr()
    }

    fn beyond(&mut self) {
        write_failure(
            &mut self.output,
            ErrorCode::MalformedRequest,
            "len is beyond the reserved input buffer",
            "call lockgate_reserve first",
        );
    }
}
