//! The tables of an automaton that finds the longest match from a place of a text, and the search in them.
//!
//! Little-endian, one part behind the other:
//!
//! | bytes | what they hold |
//! | --- | --- |
//! | 2 | the number of states |
//! | 2 | the number of classes, 1 to 256 |
//! | 2 | the state in which a search begins at the start of a text |
//! | 2 | 0 |
//! | 256 | the class of each byte |
//! | 1 for each state | its mark |
//! | 0 or 1 | 0, so that what follows has an even place |
//! | 2 for each state and class | the state that a byte of the class leads to, state by state |
//!
//! State 0 is the one that nothing leads out of. State 1 is no state of a search: a byte leads from it to where a search begins behind that byte, which is how
//! line starts and word boundaries are known. That a match has ended is known one byte later, because what follows may decide; the end of the text
//! counts as a byte.

/// The state in which no match can come any more.
pub(crate) const DEAD: u16 = 0;
/// The state from which a byte leads to where a search behind it begins.
pub(crate) const BEHIND: u16 = 1;

/// The mark of a state in which a match has ended before the byte that led there.
pub(crate) const MATCHED: u8 = 1;
/// The mark of a state in which a match ends if the text does.
pub(crate) const MATCHES_AT_END: u8 = 2;
/// The mark of [`BEHIND`], which has no other.
pub(crate) const IS_BEHIND: u8 = 4;

/// The length of what stands before the states.
const HEAD: usize = 8 + 256;

/// Tables that were read and hold together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Automaton {
    start: u16,
    classes: usize,
    class: [u8; 256],
    marks: Vec<u8>,
    rows: Vec<u16>,
}

/// Why bytes are no automaton.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// They end too early.
    #[error("{needed} bytes are needed, {found} are there")]
    Short {
        /// How many it takes.
        needed: usize,
        /// How many there are.
        found: usize,
    },
    /// A number that cannot be.
    #[error("{what} is {found}, expected {expected}")]
    Number {
        /// What the number stands for, and of what.
        what: String,
        /// The number.
        found: usize,
        /// Which ones it could be.
        expected: String,
    },
}

fn number(what: impl Into<String>, found: impl Into<usize>, expected: impl Into<String>) -> Damage {
    Damage::Number { what: what.into(), found: found.into(), expected: expected.into() }
}

impl Automaton {
    /// The automaton that `bytes` begin with, and the bytes behind it.
    ///
    /// # Errors
    /// Bytes that are no such tables.
    pub fn read(bytes: &[u8]) -> Result<(Self, &[u8]), Damage> {
        let short = |needed| Damage::Short { needed, found: bytes.len() };
        let head = bytes.get(..HEAD).ok_or_else(|| short(HEAD))?;
        let (numbers, class) = head.split_first_chunk::<8>().ok_or_else(|| short(HEAD))?;
        let mut numbers = words(numbers);
        let mut next = || numbers.next().unwrap_or_default();
        let (states, classes, start, unused) = (next(), next(), next(), next());
        if states <= BEHIND {
            return Err(number("the number of states", states, "2 and more"));
        }
        if !(1..=256).contains(&classes) {
            return Err(number("the number of classes", classes, "1 to 256"));
        }
        if start >= states || start == BEHIND {
            return Err(number("the first state", start, format!("0, or 2 to {}", states - 1)));
        }
        if unused != 0 {
            return Err(number("an unused number", unused, "0"));
        }
        let (count, width) = (usize::from(states), usize::from(classes));
        let needed = HEAD + count.next_multiple_of(2) + 2 * count * width;
        let (tables, rest) = bytes.split_at_checked(needed).ok_or_else(|| short(needed))?;
        let (marks, rows) = tables
            .get(HEAD..)
            .and_then(|t| t.split_at_checked(count.next_multiple_of(2)))
            .unwrap_or_default();
        let automaton = Self {
            start,
            classes: width,
            class: *class.first_chunk().ok_or_else(|| short(HEAD))?,
            marks: marks.get(..count).unwrap_or_default().to_vec(),
            rows: words(rows).collect(),
        };
        automaton.check(states)?;
        if let Some(padding) = marks.get(count).filter(|padding| **padding != 0) {
            return Err(number("the byte behind the marks", *padding, "0"));
        }
        Ok((automaton, rest))
    }

    /// Whether every look-up stays within the tables and the two states that are none of a search are what they must be.
    fn check(&self, states: u16) -> Result<(), Damage> {
        if let Some((byte, class)) =
            self.class.iter().enumerate().find(|(_, class)| usize::from(**class) >= self.classes)
        {
            let expected = format!("0 to {}", self.classes - 1);
            return Err(number(format!("the class of byte {byte}"), *class, expected));
        }
        for (state, (mark, row)) in self.marks.iter().zip(self.rows.chunks(self.classes)).enumerate() {
            let (marks, is_dead) = match u16::try_from(state) {
                Ok(DEAD) => (0..=0, true),
                Ok(BEHIND) => (IS_BEHIND..=IS_BEHIND, false),
                _ => (0..=(MATCHED | MATCHES_AT_END), false),
            };
            if !marks.contains(mark) {
                let expected = format!("{} to {}", marks.start(), marks.end());
                return Err(number(format!("the mark of state {state}"), *mark, expected));
            }
            let wrong = |to: &&u16| **to >= states || **to == BEHIND || (is_dead && **to != DEAD);
            if let Some(to) = row.iter().find(wrong) {
                let expected = if is_dead { "0".to_owned() } else { format!("0, or 2 to {}", states - 1) };
                return Err(number(format!("a state behind state {state}"), *to, expected));
            }
        }
        Ok(())
    }

    /// The tables as bytes, which [`Automaton::read`] reads as the same.
    pub fn to_bytes(&self) -> Vec<u8> {
        let numbers = [self.marks.len(), self.classes, usize::from(self.start), 0];
        let mut bytes: Vec<u8> = numbers
            .iter()
            .flat_map(|number| u16::try_from(*number).unwrap_or(u16::MAX).to_le_bytes())
            .collect();
        bytes.extend_from_slice(&self.class);
        bytes.extend_from_slice(&self.marks);
        bytes.resize(bytes.len().next_multiple_of(2), 0);
        bytes.extend(self.rows.iter().flat_map(|to| to.to_le_bytes()));
        bytes
    }

    /// The end of the longest match that begins at the place `start` of a text, and how many bytes were looked at to find it. Beyond the
    /// text nothing begins.
    pub fn longest(&self, text: &[u8], start: usize) -> (Option<usize>, usize) {
        if start > text.len() {
            return (None, 0);
        }
        let mut found = None;
        let mut state = self.begin(text, start);
        for (steps, (at, &byte)) in text.iter().enumerate().skip(start).enumerate() {
            if state == DEAD {
                return (found, steps);
            }
            state = self.next(state, byte);
            if self.has(state, MATCHED) {
                found = Some(at);
            }
        }
        if self.has(state, MATCHES_AT_END) {
            found = Some(text.len());
        }
        (found, text.len() - start)
    }

    /// Whether the empty text is a match somewhere, at whatever place of whatever text.
    pub fn matches_nothing(&self) -> bool {
        let behind = self.row(BEHIND).iter().chain([&self.start]);
        behind.copied().any(|state| {
            self.has(state, MATCHES_AT_END) || self.row(state).iter().any(|next| self.has(*next, MATCHED))
        })
    }

    /// Where a search at a place of a text begins.
    fn begin(&self, text: &[u8], start: usize) -> u16 {
        let before = start.checked_sub(1).and_then(|before| text.get(before));
        before.map_or(self.start, |byte| self.next(BEHIND, *byte))
    }

    fn next(&self, state: u16, byte: u8) -> u16 {
        let class = self.class.get(usize::from(byte)).copied().unwrap_or_default();
        self.rows.get(usize::from(state) * self.classes + usize::from(class)).copied().unwrap_or(DEAD)
    }

    fn has(&self, state: u16, mark: u8) -> bool {
        self.marks.get(usize::from(state)).is_some_and(|marks| marks & mark != 0)
    }

    fn row(&self, state: u16) -> &[u16] {
        let first = usize::from(state) * self.classes;
        self.rows.get(first..first + self.classes).unwrap_or_default()
    }
}

#[cfg(feature = "compile")]
impl Automaton {
    /// Tables of another form; `None` when they are too many.
    pub(crate) fn of(machine: &crate::compile::Machine) -> Option<Self> {
        let rows = machine.rows().iter().map(|to| u16::try_from(*to).ok()).collect::<Option<_>>()?;
        u16::try_from(machine.states()).ok()?;
        Some(Self {
            start: u16::try_from(machine.start()).ok()?,
            classes: machine.classes(),
            class: *machine.map(),
            marks: machine.marks().to_vec(),
            rows,
        })
    }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.as_chunks::<2>().0.iter().map(|word| u16::from_le_bytes(*word))
}
