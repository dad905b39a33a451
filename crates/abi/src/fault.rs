//! The fault core: modules with the exports of the real ones that misbehave on marked inputs and are the real ones on
//! all others. Shells are tested with it, since the real core gives no such occasion.
//!
//! A decide request is marked by a context whose user is [`Mark::user`]; a predict request by a first `FP32` input
//! whose first element is [`Mark::value`], a finite number that no feature has. A component misbehaves on the first
//! three marks only: the component model leaves no room for malformed buffers.

/// How a module misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// Executes `unreachable`.
    Trap,
    /// Never returns.
    Loop,
    /// Allocates until there is no more.
    Allocate,
    /// Returns an address outside its memory.
    MalformedPointer,
    /// Returns a response that claims to be larger than the memory.
    MalformedSize,
    /// Returns a response whose first record points outside of it.
    MalformedOffset,
    /// Returns a response whose header claims to be smaller than a header is.
    MalformedHeader,
    /// Returns a response that ends within its first record.
    MalformedRecord,
}

impl Mark {
    /// Every mark, in the order of its value.
    pub const ALL: [Self; 8] = [
        Self::Trap,
        Self::Loop,
        Self::Allocate,
        Self::MalformedPointer,
        Self::MalformedSize,
        Self::MalformedOffset,
        Self::MalformedHeader,
        Self::MalformedRecord,
    ];

    /// The user that marks a decide request.
    pub fn user(self) -> &'static str {
        match self {
            Self::Trap => "lockgate-fault:trap",
            Self::Loop => "lockgate-fault:loop",
            Self::Allocate => "lockgate-fault:allocate",
            Self::MalformedPointer => "lockgate-fault:malformed-pointer",
            Self::MalformedSize => "lockgate-fault:malformed-size",
            Self::MalformedOffset => "lockgate-fault:malformed-offset",
            Self::MalformedHeader => "lockgate-fault:malformed-header",
            Self::MalformedRecord => "lockgate-fault:malformed-record",
        }
    }

    /// The number that marks a predict request.
    pub fn value(self) -> f32 {
        f32::from_bits(0x7F00_FA01 + self as u32)
    }

    /// The mark with this user.
    pub fn of_user(user: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mark| mark.user() == user)
    }

    /// The mark with this number.
    pub fn of_value(value: f32) -> Option<Self> {
        Self::ALL.into_iter().find(|mark| mark.value().to_bits() == value.to_bits())
    }

    /// Traps, loops or allocates; returns for the marks that concern a response.
    pub fn act(self) {
        match self {
            Self::Trap => std::process::abort(),
            Self::Loop => loop {
                std::hint::black_box(self);
            },
            Self::Allocate => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                }
            }
            _ => {}
        }
    }

    /// Damages the response in `output` and returns the address to claim instead of `address`.
    pub fn damage(self, output: &mut [u8], address: usize) -> usize {
        // Its form and the size of a compact decision.
        let compact = output.get(56) == Some(&1) && output.get(60) == Some(&32);
        let mut put = |at: usize, value: u32| crate::wire::put_u32(output, at, value);
        match self {
            Self::MalformedPointer => return 0xFFFF_FFC0,
            Self::MalformedSize => put(4, u32::MAX),
            Self::MalformedHeader => put(0, 8),
            Self::MalformedRecord => put(4, 72),
            // The first decision's `variant`, and the first tensor's `datatype` and `data`.
            Self::MalformedOffset => {
                if compact {
                    // Compact decisions have no offsets, but an index of the route.
                    put(64 + 4, 0x7FFF_FFF0);
                }
                put(64 + 16, 0x7FFF_FFF0);
                put(64 + 24, 0x7FFF_FFF0);
            }
            Self::Trap | Self::Loop | Self::Allocate => {}
        }
        address
    }
}
