//! What a run may take.

use crate::{Problem, Tensor};

/// What a place in an array counts as: the same on every target, so that a limit stops the same requests everywhere.
pub(crate) const PLACE: usize = 8;

/// Asking for less is not worth the time: what is left of an instance's memory is in larger pieces.
const WORTH_ASKING: usize = 1 << 20;

/// Counts what a run takes and stops it at a limit. Kernels ask for room before they allocate, and say what they are about to compute.
#[derive(Debug, Clone)]
pub struct Meter {
    memory_limit: u64,
    operations_limit: u64,
    /// Bytes of the values that live.
    live: u64,
    peak: u64,
    operations: u64,
}

impl Meter {
    /// A meter that stops a run at this many bytes of values in between, or at this many operations.
    pub fn new(memory_limit: u64, operations_limit: u64) -> Self {
        Self { memory_limit, operations_limit, live: 0, peak: 0, operations: 0 }
    }

    /// Room for elements of `size` bytes in this shape; how many elements these are.
    ///
    /// # Errors
    /// More than the limit allows.
    pub fn room(&mut self, shape: &[usize], size: usize) -> Result<usize, Problem> {
        let count = shape.iter().try_fold(1_usize, |count, &len| count.checked_mul(len));
        let bytes = count.and_then(|count| count.checked_mul(size));
        let with_living = |bytes: usize| self.live.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        let needed = bytes.map_or(u64::MAX, with_living);
        let mut limit = self.memory_limit;
        if let (Some(count), Some(bytes)) = (count, bytes)
            && needed <= limit
        {
            let there = there_are(bytes);
            if there >= bytes {
                self.peak = self.peak.max(needed);
                return Ok(count);
            }
            limit = with_living(there);
        }
        Err(Problem::Limit { what: "bytes of memory", needed, limit })
    }

    /// Counts multiplications, comparisons and the like that are about to be done.
    ///
    /// # Errors
    /// More than the limit allows.
    pub fn work(&mut self, operations: u64) -> Result<(), Problem> {
        self.operations = self.operations.saturating_add(operations);
        if self.operations <= self.operations_limit {
            return Ok(());
        }
        Err(Problem::Limit { what: "operations", needed: self.operations, limit: self.operations_limit })
    }

    /// The operations so far.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// The most bytes that lived at a time.
    pub fn peak(&self) -> u64 {
        self.peak
    }

    pub(crate) fn hold(&mut self, tensor: &Tensor) -> Result<(), Problem> {
        self.live = self.live.saturating_add(tensor.bytes());
        self.peak = self.peak.max(self.live);
        if self.live <= self.memory_limit {
            return Ok(());
        }
        Err(Problem::Limit { what: "bytes of memory", needed: self.live, limit: self.memory_limit })
    }

    pub(crate) fn release(&mut self, tensor: &Tensor) {
        self.live = self.live.saturating_sub(tensor.bytes());
    }
}

/// How many of these bytes can be had, roughly where it is not all of them: an instance may be allowed less memory than a run is, and
/// an allocation that fails would end the instance.
fn there_are(bytes: usize) -> usize {
    let mut there = bytes;
    while there >= WORTH_ASKING {
        let mut room = Vec::<u8>::new();
        let is_there = room.try_reserve_exact(there).is_ok();
        // Nothing may take this for an allocation that nobody needs.
        std::hint::black_box(&mut room);
        if is_there {
            break;
        }
        there /= 2;
    }
    there
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_more_room_than_the_machine_has() {
        let mut meter = Meter::new(u64::MAX, 0);
        assert_eq!(meter.room(&[1 << 20, 4], 8), Ok(1 << 22));
        let all = isize::MAX as usize;
        match meter.room(&[all], 1) {
            Err(Problem::Limit { what: "bytes of memory", needed, limit }) => {
                assert_eq!(needed, all as u64);
                assert!((1 << 25..needed).contains(&limit), "{limit}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(meter.peak(), 1 << 25);
    }
}
