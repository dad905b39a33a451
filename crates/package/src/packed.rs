//! Reads what serde's derived writers wrote as MessagePack with named fields: structs as maps, enums as the variant's name or as a
//! map from it. A derived reader does the same at many times the code size, which the core cannot afford.

use std::collections::BTreeMap;

use crate::{
    Digest, Engine, Feature, Manifest, MessagePackReader, Scope, Signature, TensorSpec, UnexpectedMessagePack,
};

/// A type that can be read from MessagePack.
pub(crate) trait Packed: Sized {
    /// Reads the value that is next.
    fn read(reader: &mut MessagePackReader<'_>) -> Result<Self, UnexpectedMessagePack>;

    /// The value of a field that is not there.
    fn absent() -> Result<Self, UnexpectedMessagePack> {
        Err(UnexpectedMessagePack)
    }
}

/// Structs: a map from the fields' names. Unknown fields are passed over.
macro_rules! packed_structs {
    ($($type:ident { $($field:ident),* $(,)? $(; $rest:ident)? })*) => {$(
        impl $crate::packed::Packed for $type {
            fn read(reader: &mut $crate::MessagePackReader<'_>) -> Result<Self, $crate::UnexpectedMessagePack> {
                #[expect(non_camel_case_types, reason = "the fields' names")]
                enum Field { $($field),* }
                $(let mut $field = None;)*
                for _ in 0..reader.map()? {
                    match reader.one_of(&[$(stringify!($field)),*])? {
                        $(at if at == Field::$field as usize => {
                            $field = Some($crate::packed::Packed::read(reader)?);
                        })*
                        _ => reader.skip()?,
                    }
                }
                Ok(Self {
                    $($field: match $field {
                        Some(value) => value,
                        None => $crate::packed::Packed::absent()?,
                    },)*
                    $($rest: Default::default(),)?
                })
            }
        }
    )*};
}

/// Enums whose variants hold nothing: the variant's name.
macro_rules! packed_names {
    ($($type:ident { $($variant:ident),* $(,)? })*) => {$(
        impl $crate::packed::Packed for $type {
            fn read(reader: &mut $crate::MessagePackReader<'_>) -> Result<Self, $crate::UnexpectedMessagePack> {
                enum Name { $($variant),* }
                match reader.one_of(&[$(stringify!($variant)),*])? {
                    $(at if at == Name::$variant as usize => Ok(Self::$variant),)*
                    _ => Err($crate::UnexpectedMessagePack),
                }
            }
        }
    )*};
}

pub(crate) use {packed_names, packed_structs};

impl Packed for String {
    fn read(reader: &mut MessagePackReader<'_>) -> Result<Self, UnexpectedMessagePack> {
        reader.text().map(str::to_owned)
    }

    fn absent() -> Result<Self, UnexpectedMessagePack> {
        Ok(Self::new())
    }
}

impl Packed for bool {
    fn read(reader: &mut MessagePackReader<'_>) -> Result<Self, UnexpectedMessagePack> {
        reader.boolean()
    }

    fn absent() -> Result<Self, UnexpectedMessagePack> {
        Ok(false)
    }
}

impl Packed for u32 {
    fn read(reader: &mut MessagePackReader<'_>) -> Result<Self, UnexpectedMessagePack> {
        Self::try_from(reader.unsigned()?).map_err(|_| UnexpectedMessagePack)
    }
}

impl Packed for u64 {
    fn read(reader: &mut MessagePackReader<'_>) -> Result<Self, UnexpectedMessagePack> {
        reader.unsigned()
    }

    fn absent() -> Result<Self, UnexpectedMessagePack> {
        Ok(0)
    }
}

impl Packed for i64 {
    fn read(reader: &mut MessagePackReader<'_>) -> Result<Self, UnexpectedMessagePack> {
        reader.signed()
    }
}

impl Packed for f32 {
    fn read(reader: &mut MessagePackReader<'_>) -> Result<Self, UnexpectedMessagePack> {
        // Written in single precision, so the way through double precision loses nothing.
        reader.float().map(|value| value as Self)
    }
}

impl Packed for f64 {
    fn read(reader: &mut MessagePackReader<'_>) -> Result<Self, UnexpectedMessagePack> {
        reader.float()
    }
}

impl Packed for (u16, u16) {
    fn read(reader: &mut MessagePackReader<'_>) -> Result<Self, UnexpectedMessagePack> {
        if reader.array()? != 2 {
            return Err(UnexpectedMessagePack);
        }
        let mut number = || u16::try_from(reader.unsigned()?).map_err(|_| UnexpectedMessagePack);
        Ok((number()?, number()?))
    }
}

impl<T: Packed> Packed for Option<T> {
    fn read(reader: &mut MessagePackReader<'_>) -> Result<Self, UnexpectedMessagePack> {
        if reader.nil() { Ok(None) } else { T::read(reader).map(Some) }
    }

    fn absent() -> Result<Self, UnexpectedMessagePack> {
        Ok(None)
    }
}

impl<T: Packed> Packed for Vec<T> {
    fn read(reader: &mut MessagePackReader<'_>) -> Result<Self, UnexpectedMessagePack> {
        // Not allocated ahead: the length is not to be believed before its elements are there.
        (0..reader.array()?).map(|_| T::read(reader)).collect()
    }

    fn absent() -> Result<Self, UnexpectedMessagePack> {
        Ok(Self::new())
    }
}

impl Packed for BTreeMap<String, f64> {
    fn read(reader: &mut MessagePackReader<'_>) -> Result<Self, UnexpectedMessagePack> {
        // Collecting would bring a sort along, which is several kilobytes.
        let mut map = Self::new();
        for _ in 0..reader.map()? {
            map.insert(String::read(reader)?, f64::read(reader)?);
        }
        Ok(map)
    }

    fn absent() -> Result<Self, UnexpectedMessagePack> {
        Ok(Self::new())
    }
}

impl Packed for Digest {
    fn read(reader: &mut MessagePackReader<'_>) -> Result<Self, UnexpectedMessagePack> {
        reader.bytes()?.try_into().map(Digest).map_err(|_| UnexpectedMessagePack)
    }
}

impl Packed for crate::Datatype {
    fn read(reader: &mut MessagePackReader<'_>) -> Result<Self, UnexpectedMessagePack> {
        let name = reader.text()?;
        Self::ALL.into_iter().find(|datatype| datatype.name() == name).ok_or(UnexpectedMessagePack)
    }
}

impl Packed for Engine {
    fn read(reader: &mut MessagePackReader<'_>) -> Result<Self, UnexpectedMessagePack> {
        match reader.text()? {
            "tabular" => Ok(Self::Tabular),
            "graph" => Ok(Self::Graph),
            _ => Err(UnexpectedMessagePack),
        }
    }
}

impl Packed for Scope {
    fn read(reader: &mut MessagePackReader<'_>) -> Result<Self, UnexpectedMessagePack> {
        let mut scope = Self::default();
        for _ in 0..reader.map()? {
            match reader.text()? {
                "symbols" => scope.symbols = Packed::read(reader)?,
                "tenants" => scope.tenants = Packed::read(reader)?,
                "timeframe" => scope.timeframe = Packed::read(reader)?,
                _ => reader.skip()?,
            }
        }
        Ok(scope)
    }

    fn absent() -> Result<Self, UnexpectedMessagePack> {
        Ok(Self::default())
    }
}

packed_structs! {
    Feature { name, min, max }
    TensorSpec { name, datatype, shape }
    Signature { inputs, outputs }
    Manifest {
        model, version, description, signature, features, feature_version, labels, scope, metrics, accepts_missing, engine,
        source_digest, producer, operations_per_row, memory_per_row, contributions, mock,
    }
}
