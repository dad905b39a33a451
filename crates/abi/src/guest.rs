//! What both modules write alike: the flat exports, and the errors of their WIT worlds.

/// Writes the flat exports of a module over the thread-local `STATE`, a `RefCell` of a state with the field `buffers` and the
/// methods `load`, `loaded` and `answer`, and a method called as the verb is: `flat_exports!(lockgate_decide => decide)`.
#[macro_export]
macro_rules! flat_exports {
    ($export:ident => $verb:ident) => {
        /// The version of the flat entry point.
        #[expect(unsafe_code, reason = "a shell finds the export by its name")]
        #[unsafe(no_mangle)]
        pub extern "C" fn lockgate_abi() -> u32 {
            $crate::VERSION
        }

        /// How often the module's allocator was asked for memory.
        #[expect(unsafe_code, reason = "a shell finds the export by its name")]
        #[unsafe(no_mangle)]
        pub extern "C" fn lockgate_allocations() -> u64 {
            $crate::allocations()
        }

        /// The address of the input buffer, of at least `len` bytes.
        #[expect(unsafe_code, reason = "a shell finds the export by its name")]
        #[unsafe(no_mangle)]
        pub extern "C" fn lockgate_reserve(len: usize) -> usize {
            STATE.with_borrow_mut(|state| state.buffers.reserve(len))
        }

        /// Takes what lies in the first `len` bytes of the input buffer.
        #[expect(unsafe_code, reason = "a shell finds the export by its name")]
        #[unsafe(no_mangle)]
        pub extern "C" fn lockgate_load(len: usize) -> usize {
            STATE.with_borrow_mut(|state| {
                state.load(len);
                state.buffers.response()
            })
        }

        /// Says again what was loaded as number `index`.
        #[expect(unsafe_code, reason = "a shell finds the export by its name")]
        #[unsafe(no_mangle)]
        pub extern "C" fn lockgate_loaded(index: usize) -> usize {
            STATE.with_borrow_mut(|state| {
                state.loaded(index);
                state.buffers.response()
            })
        }

        /// Answers a request of `len` bytes in the input buffer.
        #[expect(unsafe_code, reason = "a shell finds the export by its name")]
        #[unsafe(no_mangle)]
        pub extern "C" fn $export(len: usize) -> usize {
            STATE.with_borrow_mut(|state| {
                state.$verb(len);
                state.answer(len)
            })
        }
    };
}

/// Turns a [`Failure`](crate::Failure) into the error of a WIT world, whose codes are called as [`ErrorCode`](crate::ErrorCode)'s
/// are: `wit_errors!(Error, ErrorCode)`.
#[macro_export]
macro_rules! wit_errors {
    ($error:ident, $code:ident) => {
        impl From<$crate::Failure> for $error {
            fn from(failure: $crate::Failure) -> Self {
                use $crate::ErrorCode as Code;
                let code = match failure.code {
                    Code::MalformedRequest => $code::MalformedRequest,
                    Code::MalformedEnvelope => $code::MalformedEnvelope,
                    Code::DigestMismatch => $code::DigestMismatch,
                    Code::UnsupportedVersion => $code::UnsupportedVersion,
                    Code::WrongKind => $code::WrongKind,
                    Code::UnsupportedPlan => $code::UnsupportedPlan,
                    Code::NotLoaded => $code::NotLoaded,
                    Code::AlreadyLoaded => $code::AlreadyLoaded,
                    Code::UnknownRoute => $code::UnknownRoute,
                    Code::InvalidInput => $code::InvalidInput,
                    Code::LimitExceeded => $code::LimitExceeded,
                    Code::UnknownModel => $code::UnknownModel,
                    Code::MissingValue => $code::MissingValue,
                    Code::MalformedContent => $code::MalformedContent,
                    Code::Internal => $code::Internal,
                    Code::MissingObject => $code::MissingObject,
                };
                Self { code, message: failure.message, hint: failure.hint }
            }
        }
    };
}
