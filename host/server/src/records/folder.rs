//! The folder of record files: names, completion by size and age, the limit on all of it, and what a sudden end leaves.
//!
//! Names are made here and never from anything that was sent. A file is `….jsonl.part` while it is written; completing it takes `.part` away, and
//! a complete file is never opened for writing again. [`Folder::append`] leaves a file with whole lines or as it was before.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lockgate_policy::moment;
use serde::Deserialize;

use super::seen::Fingerprint;
use crate::failure::Failure;

const PREFIX: &str = "records-";
const COMPLETE: &str = ".jsonl";
const PART: &str = ".jsonl.part";
const LOCK: &str = "records.lock";

/// When what is written is forced onto the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Before it is acknowledged.
    Always,
    /// When the operating system sees fit.
    Never,
}

/// What happens at the limit on all files together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// No more is taken until files are removed.
    Refuse,
    /// The oldest complete files go.
    RemoveOldest,
}

/// What files may become.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) file_size: u64,
    pub(crate) file_age: Duration,
    pub(crate) total_size: u64,
    pub(crate) when_full: WhenFull,
    pub(crate) sync: Durability,
}

/// Why nothing was written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The files have reached their limit.
    Full,
    /// The operating system said no.
    Failed(String),
}

/// The folder, owned by one writer.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    limits: Limits,
    part: Option<Part>,
    /// The complete files, oldest first.
    complete: Vec<Complete>,
    last_number: u64,
    /// Why lines that were appended and not yet synced are gone.
    gone: Option<String>,
    pub(super) completed: u64,
    pub(super) removed: u64,
    /// Held, and thereby locked, as long as the folder is written to.
    _lock: File,
}

/// The file that is being written.
#[derive(Debug)]
struct Part {
    file: File,
    name: Name,
    size: u64,
    /// How much of it is on the disk.
    synced: u64,
}

#[derive(Debug)]
struct Complete {
    name: Name,
    size: u64,
}

/// What a file is called: when it was begun, and a number that tells apart what began within a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    /// Seconds since 1970.
    begun: i64,
    number: u64,
}

impl Name {
    fn text(self, ending: &str) -> String {
        let time =
            moment::format(self.begun.saturating_mul(1000)).unwrap_or_default().replace(['-', ':'], "");
        format!("{PREFIX}{time}-{:06}{ending}", self.number)
    }

    /// The name and whether the file is complete; `None` for what is not ours.
    fn parse(text: &str) -> Option<(Self, bool)> {
        let (stem, complete) = match text.strip_suffix(PART) {
            Some(stem) => (stem, false),
            None => (text.strip_suffix(COMPLETE)?, true),
        };
        let (time, number) = stem.strip_prefix(PREFIX)?.split_once('-')?;
        let (day, time) = (time.get(..8)?, time.get(8..)?);
        let (year, month, day) = (day.get(..4)?, day.get(4..6)?, day.get(6..)?);
        let (hour, minute, rest) = (time.get(..3)?, time.get(3..5)?, time.get(5..)?);
        let begun = moment::parse(&format!("{year}-{month}-{day}{hour}:{minute}:{rest}"))? / 1000;
        let name = Self { begun, number: number.parse().ok()? };
        // What would be written otherwise is not ours: a thirteenth month, a sign, fewer digits.
        (name.text(if complete { COMPLETE } else { PART }) == text).then_some((name, complete))
    }
}

impl Folder {
    /// Takes the folder for this program alone and repairs what a sudden end left. Also says what was repaired.
    pub(super) fn open(path: &Path, limits: Limits) -> Result<(Self, Vec<String>), Failure> {
        let cannot = |what: &str, error: &dyn std::fmt::Display| {
            Failure::new(format!("cannot {what} {}, the folder of records: {error}", path.display()))
                .hint("the setting `records` names it")
        };
        std::fs::create_dir_all(path).map_err(|error| cannot("create", &error))?;
        let lock = OpenOptions::new().create(true).append(true).open(path.join(LOCK));
        let lock = lock.map_err(|error| cannot("write to", &error))?;
        lock.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => {
                cannot("take", &"another server writes to it").hint("give each server a folder of its own")
            }
            std::fs::TryLockError::Error(error) => cannot("lock", &error),
        })?;
        let mut folder = Self {
            path: path.to_owned(),
            limits,
            part: None,
            complete: Vec::new(),
            last_number: 0,
            gone: None,
            completed: 0,
            removed: 0,
            _lock: lock,
        };
        let parts = folder.list().map_err(|error| cannot("read", &error))?;
        let mut notes = Vec::new();
        for (place, name) in parts.iter().enumerate() {
            let (part, cut) = folder.reopen(*name).map_err(|error| cannot("repair", &error))?;
            if cut > 0 {
                notes.push(format!("{}: cut off {cut} bytes of an unfinished line", name.text(PART)));
            }
            folder.part = Some(part);
            // A cut that failed leaves more than one; the newest is continued.
            if place + 1 < parts.len() {
                folder.complete_part().map_err(|error| cannot("complete a file in", &error))?;
            }
        }
        Ok((folder, notes))
    }

    /// Reads what lies there: takes over the complete files and returns the others, both oldest first.
    fn list(&mut self) -> std::io::Result<Vec<Name>> {
        let mut parts = Vec::new();
        self.complete.clear();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let Some((name, complete)) = entry.file_name().to_str().and_then(Name::parse) else { continue };
            let about = match entry.metadata() {
                Ok(about) => about,
                // Taken away by whoever ships records.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if !about.is_file() {
                continue;
            }
            self.last_number = self.last_number.max(name.number);
            if complete {
                self.complete.push(Complete { name, size: about.len() });
            } else {
                parts.push(name);
            }
        }
        self.complete.sort_by_key(|file| file.name);
        parts.sort();
        Ok(parts)
    }

    /// Opens a file that was being written, without what follows its last whole line; also says how many bytes that was.
    fn reopen(&self, name: Name) -> std::io::Result<(Part, u64)> {
        let mut file = OpenOptions::new().read(true).append(true).open(self.path.join(name.text(PART)))?;
        let length = file.metadata()?.len();
        let size = end_of_lines(&mut file, length)?;
        if size < length {
            file.set_len(size)?;
        }
        file.sync_all()?;
        Ok((Part { file, name, size, synced: size }, length - size))
    }

    /// The ids of the latest lines, oldest first, at most `limit`.
    pub(super) fn latest_ids(&self, limit: usize) -> Vec<Fingerprint> {
        let part = self.part.iter().map(|part| self.path.join(part.name.text(PART)));
        let complete = self.complete.iter().rev().map(|file| self.path.join(file.name.text(COMPLETE)));
        let mut files = Vec::new();
        let mut count = 0;
        for path in part.chain(complete) {
            if count >= limit {
                break;
            }
            let ids = match ids_of(&path) {
                Ok(ids) => ids,
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "cannot read which records it holds; they may be written twice");
                    continue;
                }
            };
            count += ids.len();
            files.push(ids);
        }
        let mut ids: Vec<Fingerprint> = files.into_iter().rev().flatten().collect();
        ids.split_off(ids.len().saturating_sub(limit))
    }

    /// How large all files are together.
    pub(super) fn size(&self) -> u64 {
        self.complete.iter().map(|file| file.size).sum::<u64>()
            + self.part.as_ref().map_or(0, |part| part.size)
    }

    /// Whether `bytes` more go into another file than the one that is being written.
    pub(super) fn wants_new_file(&self, bytes: usize, now_ms: i64) -> bool {
        self.part.as_ref().is_some_and(|part| {
            part.size > 0 && part.size + bytes as u64 > self.limits.file_size || self.is_old(part, now_ms)
        })
    }

    fn is_old(&self, part: &Part, now_ms: i64) -> bool {
        let age = u64::try_from(now_ms.saturating_sub(part.name.begun.saturating_mul(1000))).unwrap_or(0);
        part.size > 0 && u128::from(age) >= self.limits.file_age.as_millis()
    }

    /// How long until the file that is being written is old; `None` without one that holds anything.
    pub(super) fn until_old(&self, now_ms: i64) -> Option<Duration> {
        let part = self.part.as_ref().filter(|part| part.size > 0)?;
        let age = u64::try_from(now_ms.saturating_sub(part.name.begun.saturating_mul(1000))).unwrap_or(0);
        Some(self.limits.file_age.saturating_sub(Duration::from_millis(age)))
    }

    /// Completes the file that is being written if it is old enough.
    pub(super) fn complete_if_old(&mut self, now_ms: i64) -> Result<(), String> {
        match &self.part {
            Some(part) if self.is_old(part, now_ms) => {
                self.complete_part().map_err(|error| error.to_string())
            }
            _ => Ok(()),
        }
    }

    /// Writes whole lines behind the others, in a new file where that is due. What is there already must be synced in that case.
    pub(super) fn append(&mut self, lines: &[u8], now_ms: i64) -> Result<(), WriteError> {
        let failed = |error: std::io::Error| WriteError::Failed(error.to_string());
        self.make_room(lines.len() as u64)?;
        if self.wants_new_file(lines.len(), now_ms) {
            self.complete_part().map_err(failed)?;
        }
        self.check_part_is_there();
        let part = match &mut self.part {
            Some(part) => part,
            None => {
                let part = self.begin(now_ms).map_err(failed)?;
                self.part.insert(part)
            }
        };
        match part.file.write_all(lines) {
            Ok(()) => {
                part.size += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                let size = part.size;
                self.cut(size);
                Err(failed(error))
            }
        }
    }

    /// Forces what was appended onto the disk, where the settings ask for that; what cannot be forced is cut off.
    pub(super) fn sync(&mut self) -> Result<(), String> {
        if let Some(why) = self.gone.take() {
            return Err(why);
        }
        let Some(part) = &mut self.part else { return Ok(()) };
        if part.synced == part.size {
            return Ok(());
        }
        if self.limits.sync == Durability::Always
            && let Err(error) = part.file.sync_data()
        {
            let synced = part.synced;
            self.cut(synced);
            // What the system still holds of the file after a failed sync is unknown, so nothing more goes into it.
            self.abandon();
            return Err(error.to_string());
        }
        part.synced = part.size;
        Ok(())
    }

    /// Shortens the file that is being written.
    fn cut(&mut self, size: u64) {
        let Some(part) = &mut self.part else { return };
        match part.file.set_len(size) {
            Ok(()) => part.size = size,
            Err(error) => {
                tracing::error!(file = part.name.text(PART), %error, "cannot cut off what was not wholly written; going on in another file");
                self.abandon();
            }
        }
    }

    /// Goes on in another file. This one is completed if that is possible, else at the next start.
    fn abandon(&mut self) {
        if let Some(part) = self.part.take() {
            if part.synced < part.size
                && let Err(error) = part.file.sync_data()
            {
                self.gone = Some(error.to_string());
            }
            let size = part.file.metadata().map_or(part.size, |about| about.len());
            if std::fs::rename(self.path.join(part.name.text(PART)), self.path.join(part.name.text(COMPLETE)))
                .is_ok()
            {
                self.completed += 1;
            }
            self.complete.push(Complete { name: part.name, size });
        }
    }

    /// A file that somebody removed or replaced would swallow what is written to it.
    fn check_part_is_there(&mut self) {
        let Some(part) = &self.part else { return };
        let path = self.path.join(part.name.text(PART));
        let same = |there: std::fs::Metadata, held: std::fs::Metadata| {
            (there.dev(), there.ino()) == (held.dev(), held.ino())
        };
        let is_there = std::fs::symlink_metadata(&path)
            .is_ok_and(|there| part.file.metadata().is_ok_and(|held| same(there, held)));
        if !is_there {
            tracing::warn!(file = %path.display(), "somebody removed the file of records that was being written; going on in another one");
            if part.synced < part.size {
                self.gone = Some("the file that was being written was removed".to_owned());
            }
            self.part = None;
        }
    }

    /// Sees to it that `bytes` more stay within the limit on all files.
    fn make_room(&mut self, bytes: u64) -> Result<(), WriteError> {
        if self.size().saturating_add(bytes) <= self.limits.total_size {
            return Ok(());
        }
        // Whoever ships records may have removed files.
        self.list().map_err(|error| WriteError::Failed(error.to_string()))?;
        while self.size().saturating_add(bytes) > self.limits.total_size {
            if self.limits.when_full == WhenFull::Refuse || self.complete.is_empty() {
                return Err(WriteError::Full);
            }
            let file = self.complete.remove(0);
            match std::fs::remove_file(self.path.join(file.name.text(COMPLETE))) {
                Ok(()) => self.removed += 1,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    self.complete.insert(0, file);
                    return Err(WriteError::Failed(error.to_string()));
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, now_ms: i64) -> std::io::Result<Part> {
        loop {
            self.last_number += 1;
            let name = Name { begun: now_ms.div_euclid(1000), number: self.last_number };
            let path = self.path.join(name.text(PART));
            let file = OpenOptions::new().append(true).create_new(true).mode(0o640).open(path);
            match file {
                Ok(file) => {
                    self.sync_folder()?;
                    return Ok(Part { file, name, size: 0, synced: 0 });
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn complete_part(&mut self) -> std::io::Result<()> {
        let Some(part) = &self.part else { return Ok(()) };
        if self.limits.sync == Durability::Always {
            part.file.sync_data()?;
        }
        let (name, size) = (part.name, part.size);
        let (from, to) = (self.path.join(name.text(PART)), self.path.join(name.text(COMPLETE)));
        match std::fs::rename(from, to) {
            Ok(()) => {
                self.complete.push(Complete { name, size });
                self.completed += 1;
            }
            // Somebody took it away; there is nothing left to complete.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.part = None;
        self.sync_folder()
    }

    /// A new name is on the disk when its folder is.
    fn sync_folder(&self) -> std::io::Result<()> {
        if self.limits.sync == Durability::Always { File::open(&self.path)?.sync_all() } else { Ok(()) }
    }
}

/// Where the last whole line ends.
fn end_of_lines(file: &mut File, length: u64) -> std::io::Result<u64> {
    const BLOCK: u64 = 64 << 10;
    let mut end = length;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        (&*file).take(end - start).read_to_end(&mut block)?;
        if let Some(place) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + place as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

fn ids_of(path: &Path) -> std::io::Result<Vec<Fingerprint>> {
    #[derive(Deserialize)]
    struct Id {
        id: String,
    }
    let mut reader = BufReader::new(File::open(path)?);
    let (mut ids, mut line) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(ids);
        }
        if let Ok(line) = serde_json::from_slice::<Id>(&line) {
            ids.push(Fingerprint::of(&line.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        file_size: 10,
        file_age: Duration::from_secs(60),
        total_size: 25,
        when_full: WhenFull::Refuse,
        sync: Durability::Always,
    };

    fn open(path: &Path, limits: Limits) -> (Folder, Vec<String>) {
        Folder::open(path, limits).unwrap()
    }

    /// Every file with its content, by name.
    fn files(path: &Path) -> Vec<(String, String)> {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries
            .filter(|path| path.extension().is_some_and(|extension| extension != "lock"))
            .map(|path| {
                (
                    path.file_name().unwrap().to_str().unwrap().to_owned(),
                    std::fs::read_to_string(&path).unwrap(),
                )
            })
            .collect();
        files.sort();
        files
    }

    fn texts(path: &Path) -> Vec<String> {
        files(path)
            .into_iter()
            .map(|(name, text)| format!("{} {text}", if name.ends_with(PART) { "part" } else { "done" }))
            .collect()
    }

    #[test]
    fn names_are_read_back_and_others_are_not_ours() {
        let name = Name { begun: 1_795_271_400, number: 7 };
        assert_eq!(name.text(COMPLETE), "records-20261121T143000Z-000007.jsonl");
        assert_eq!(Name::parse(&name.text(COMPLETE)), Some((name, true)));
        assert_eq!(Name::parse(&name.text(PART)), Some((name, false)));
        for other in [
            "records-20261321T143000Z-000007.jsonl",
            "records-20261121T143000Z-7.jsonl",
            "records-20261121T143000Z-000007.jsonl.gz",
            "records-+0261121T143000Z-000007.jsonl",
            "records-.jsonl",
            "../records-20261121T143000Z-000007.jsonl",
        ] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }

    #[test]
    fn files_are_completed_by_size_and_by_age() {
        let home = tempfile::tempdir().unwrap();
        let (mut folder, _) = open(home.path(), LIMITS);
        folder.append(b"123456\n", 0).unwrap();
        folder.append(b"12\n", 0).unwrap();
        assert!(folder.wants_new_file(1, 0) && folder.until_old(59_000) == Some(Duration::from_secs(1)));
        folder.append(b"3\n", 0).unwrap();
        assert_eq!(texts(home.path()), ["done 123456\n12\n", "part 3\n"]);
        folder.complete_if_old(59_999).unwrap();
        assert_eq!(texts(home.path()).len(), 2);
        folder.complete_if_old(60_000).unwrap();
        assert_eq!(texts(home.path()), ["done 123456\n12\n", "done 3\n"]);
        // A batch that is larger than a file has one of its own.
        folder.append(b"123456789012\n", 1000).unwrap();
        assert_eq!(texts(home.path())[2], "part 123456789012\n");
        assert_eq!((folder.completed, folder.size()), (2, 25));
    }

    #[test]
    fn all_files_together_have_a_limit() {
        let home = tempfile::tempdir().unwrap();
        let (mut folder, _) = open(home.path(), LIMITS);
        for _ in 0..3 {
            folder.append(b"1234567\n", 0).unwrap();
        }
        assert!(matches!(folder.append(b"12\n", 0), Err(WriteError::Full)));
        let (oldest, _) = files(home.path()).remove(0);
        std::fs::remove_file(home.path().join(oldest)).unwrap();
        folder.append(b"12\n", 0).unwrap();
        assert_eq!(texts(home.path()), ["done 1234567\n", "done 1234567\n", "part 12\n"]);

        folder.limits.when_full = WhenFull::RemoveOldest;
        folder.append(b"7654321\n", 0).unwrap();
        assert_eq!(texts(home.path()), ["done 1234567\n", "done 12\n", "part 7654321\n"]);
        assert_eq!(folder.removed, 1);
        assert!(matches!(folder.append(&[b'x'; 26], 0), Err(WriteError::Full)));
    }

    #[test]
    fn what_a_sudden_end_leaves_is_repaired() {
        let home = tempfile::tempdir().unwrap();
        let (mut folder, _) = open(home.path(), LIMITS);
        folder.append(b"{\"id\":\"a\"}\n", 0).unwrap();
        folder.append(b"{\"id\":\"b\"}\n", 0).unwrap();
        drop(folder);
        let part = files(home.path()).pop().unwrap().0;
        let mut file = OpenOptions::new().append(true).open(home.path().join(&part)).unwrap();
        file.write_all(b"{\"id\":\"c\"").unwrap();
        // Far from the end, as a large batch would leave it.
        file.write_all(&vec![b' '; 100_000]).unwrap();
        let (mut folder, notes) = open(home.path(), LIMITS);
        assert_eq!(notes, [format!("{part}: cut off 100009 bytes of an unfinished line")]);
        assert_eq!(texts(home.path())[1], "part {\"id\":\"b\"}\n");
        assert_eq!(folder.latest_ids(9), ["a", "b"].map(Fingerprint::of));
        assert_eq!(folder.latest_ids(1), ["b"].map(Fingerprint::of));
        folder.limits.file_size = 100;
        folder.append(b"{}\n", 0).unwrap();
        assert_eq!(texts(home.path())[1], "part {\"id\":\"b\"}\n{}\n", "the file is continued");
    }

    #[test]
    fn a_folder_has_one_writer() {
        let home = tempfile::tempdir().unwrap();
        let (folder, _) = open(home.path(), LIMITS);
        let refused = Folder::open(home.path(), LIMITS).unwrap_err();
        assert!(
            refused.message().ends_with("the folder of records: another server writes to it"),
            "{refused}"
        );
        drop(folder);
        open(home.path(), LIMITS);
    }

    #[test]
    fn a_file_that_was_taken_away_swallows_nothing() {
        let home = tempfile::tempdir().unwrap();
        let (mut folder, _) = open(home.path(), LIMITS);
        folder.append(b"1\n", 0).unwrap();
        let (part, _) = files(home.path()).pop().unwrap();
        std::fs::remove_file(home.path().join(part)).unwrap();
        folder.append(b"2\n", 0).unwrap();
        assert_eq!(texts(home.path()), ["part 2\n"]);
    }
}
