//! Archives whose bytes depend on nothing but their content: POSIX `ustar`, files alone, sorted, no times and no owners, then gzip.

use std::io::{Read as _, Write as _};

use anyhow::{Context, Result, bail, ensure};

const BLOCK: usize = 512;

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its path, with `/` between folders.
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) executable: bool,
}

impl Entry {
    pub(crate) fn new(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), bytes: bytes.into(), executable: false }
    }

    pub(crate) fn program(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { executable: true, ..Self::new(path, bytes) }
    }
}

/// Packs files, in the order of their paths.
pub(crate) fn pack(mut entries: Vec<Entry>) -> Result<Vec<u8>> {
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let mut tar = Vec::new();
    for entry in &entries {
        tar.extend_from_slice(&header(entry)?);
        tar.extend_from_slice(&entry.bytes);
        tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    }
    tar.resize(tar.len() + 2 * BLOCK, 0);
    let mut gzip = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::best());
    gzip.write_all(&tar)?;
    Ok(gzip.finish()?)
}

/// The files of an archive, of ours or of npm's.
pub(crate) fn unpack(archive: &[u8]) -> Result<Vec<Entry>> {
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(archive).read_to_end(&mut tar).context("the archive is no gzip file")?;
    let mut entries = Vec::new();
    let mut rest = tar.as_slice();
    while let Some((header, behind)) = rest.split_at_checked(BLOCK) {
        if header.iter().all(|byte| *byte == 0) {
            return Ok(entries);
        }
        ensure!(octal(&header[148..156])? == checksum(header), "a header of the archive is damaged");
        let size = usize::try_from(octal(&header[124..136])?)?;
        let (bytes, behind) = behind.split_at_checked(size).context("the archive ends within a file")?;
        let path = match text(&header[345..500])? {
            "" => text(&header[..100])?.to_owned(),
            prefix => format!("{prefix}/{}", text(&header[..100])?),
        };
        match header[156] {
            0 | b'0' => {
                let executable = octal(&header[100..108])? & 0o100 != 0;
                entries.push(Entry { path, bytes: bytes.to_vec(), executable });
            }
            b'5' => {}
            other => bail!("{path} is no plain file (type {})", char::from(other)),
        }
        rest = behind.get(size.next_multiple_of(BLOCK) - size..).unwrap_or_default();
    }
    bail!("the archive has no end")
}

fn header(entry: &Entry) -> Result<[u8; BLOCK]> {
    let mut header = [0; BLOCK];
    ensure!(entry.path.len() <= 100, "{} is too long a path for an archive", entry.path);
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, &entry.path);
    put(100, if entry.executable { "0000755\0" } else { "0000644\0" });
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", entry.bytes.len()));
    put(136, "00000000000\0");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum = checksum(&header);
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(header)
}

/// The sum of a header's bytes, with spaces in the place of the sum itself.
fn checksum(header: &[u8]) -> u64 {
    header
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) })
        .sum()
}

fn octal(field: &[u8]) -> Result<u64> {
    let text = text(field)?.trim();
    u64::from_str_radix(text, 8).with_context(|| format!("`{text}` is no octal number"))
}

fn text(field: &[u8]) -> Result<&str> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    Ok(std::str::from_utf8(&field[..end])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let entries = vec![
            Entry::new("b/c.wasm", [7; 1000]),
            Entry::program("a", b"#!".as_slice()),
            Entry::new("d", []),
        ];
        let archive = pack(entries.clone()).unwrap();
        let mut sorted = entries.clone();
        sorted.sort_by(|a, b| a.path.cmp(&b.path));
        assert_eq!(unpack(&archive).unwrap(), sorted);
        let reversed = entries.into_iter().rev().collect();
        assert_eq!(pack(reversed).unwrap(), archive, "the bytes depend on the content alone");
        assert!(unpack(&archive[..archive.len() - 20]).is_err());
    }
}
