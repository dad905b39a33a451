//! The policy language as one table: every mapping with its keys, what may stand there, and what it means.
//!
//! The checker takes the keys that it knows from here, and `docs/policy-reference.md` and `docs/policy.schema.json` are written
//! from here, so none of the three can know a key that the others do not.

mod reference;
mod schema;
mod table;

pub use reference::reference;
pub use schema::schema;
pub(crate) use table::*;

/// A mapping of the language.
pub(crate) struct Mapping {
    /// What it is called in the schema and in links, `symbol-rollout`.
    pub(crate) name: &'static str,
    /// Its heading.
    pub(crate) title: &'static str,
    /// What it is.
    pub(crate) doc: &'static str,
    /// Its keys, in groups that several mappings may share.
    pub(crate) keys: &'static [&'static [Key]],
    /// Of each of these groups exactly one key is there.
    pub(crate) one_of: &'static [&'static [&'static str]],
    /// Of each of these groups at least one key is there.
    pub(crate) some_of: &'static [&'static [&'static str]],
    /// The first key needs the second beside it.
    pub(crate) needs: &'static [(&'static str, &'static str)],
}

impl Mapping {
    /// Every key, in the order of the table.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'static Key> {
        self.keys.iter().copied().flatten()
    }

    /// The names of the keys.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys().map(|key| key.name)
    }

    /// Whether there is such a key.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }
}

/// A key of a mapping.
pub(crate) struct Key {
    /// The key as it is written.
    pub(crate) name: &'static str,
    /// What may stand there.
    pub(crate) kind: Kind,
    /// Whether it may be left out.
    pub(crate) presence: Presence,
    /// What it means, in Markdown.
    pub(crate) doc: &'static str,
}

/// Whether a key may be left out.
pub(crate) enum Presence {
    /// It may not.
    Required,
    /// It may.
    Optional,
    /// It may, and this is what then holds, in Markdown.
    Default(&'static str),
}

/// What may stand somewhere.
pub(crate) enum Kind {
    /// A text or number with a form of its own.
    Form(&'static Form),
    /// `true` or `false`.
    Boolean,
    /// A whole number within bounds.
    Whole {
        /// The lowest.
        min: u64,
        /// The highest.
        max: u64,
    },
    /// One of these words, each with what it means.
    Words(&'static [(&'static str, &'static str)]),
    /// The name of something that stands elsewhere, `variant`.
    NameOf(&'static str),
    /// A mapping with known keys.
    Mapping(&'static Mapping),
    /// A mapping with known keys, or nothing.
    MappingOrNothing(&'static Mapping),
    /// A mapping from names to values.
    Named {
        /// What the names are of, `the variant's name`.
        what: &'static str,
        /// How names are written.
        name: &'static Form,
        /// The values.
        value: &'static Kind,
    },
    /// A list.
    List {
        /// The items.
        of: &'static Kind,
        /// How many there must be.
        min: usize,
        /// How many there may be.
        max: Option<usize>,
    },
    /// One of several.
    Either(&'static [Kind]),
    /// What stands in many places and has a definition of its own.
    Shared(&'static Shared),
}

/// What stands in many places.
pub(crate) struct Shared {
    /// What it is called in the schema, `unit`.
    pub(crate) name: &'static str,
    /// What it is called in a sentence, `a unit`.
    pub(crate) title: &'static str,
    /// The name of the mapping whose section explains it.
    pub(crate) section: &'static str,
    /// What it is.
    pub(crate) kind: Kind,
}

/// How a text or number is written.
pub(crate) struct Form {
    /// What it is called in the schema, `duration`.
    pub(crate) name: &'static str,
    /// What it is called in a sentence, `a duration`.
    pub(crate) title: &'static str,
    /// How it is written, in Markdown.
    pub(crate) doc: &'static str,
    /// What JSON calls its type.
    pub(crate) json: Json,
    /// One that is right, as JSON.
    pub(crate) example: &'static str,
}

/// A type of JSON, with what narrows it.
pub(crate) enum Json {
    /// A text that this regular expression matches (ECMA-262); empty for any.
    Text(&'static str),
    /// A number within bounds.
    Number(Option<(u32, u32)>),
    /// A whole number from this on.
    Whole(i32),
    /// Text, number or boolean.
    Scalar,
    /// A number of bytes or a text that this regular expression matches.
    WholeOrText(&'static str),
    /// Anything.
    Any,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{Algorithm, Field, Placement};
    use lockgate_package::Datatype;

    fn words(mapping: &Mapping, key: &str) -> Vec<&'static str> {
        let key = mapping.keys().find(|known| known.name == key).unwrap();
        let Kind::Words(words) = key.kind else { panic!("{} has no words", key.name) };
        words.iter().map(|(word, _)| *word).collect()
    }

    /// The words of the table are those of the types that hold them.
    #[test]
    fn words_are_complete() {
        assert_eq!(words(&LAYER, "hash"), Algorithm::ALL.map(Algorithm::name));
        let placements: Vec<&str> = Placement::ALL.iter().map(|placement| placement.name()).collect();
        assert_eq!(words(&MODEL, "placement"), placements);
        assert_eq!(words(&TENSOR, "datatype"), Datatype::ALL.map(Datatype::name));
        for field in Field::ALL {
            for mapping in [&CONDITION, &OVERRIDE] {
                assert!(mapping.knows(field.name()));
            }
            assert!(SEGMENT.knows(&format!("{}s", field.name())));
        }
    }

    /// Every mapping that a key refers to has a section of its own, and keys that go together exist.
    #[test]
    fn the_table_is_closed() {
        fn visit(kind: &Kind, found: &mut BTreeSet<&'static str>) {
            match kind {
                Kind::Mapping(mapping) | Kind::MappingOrNothing(mapping) => {
                    found.insert(mapping.name);
                }
                Kind::Named { value, .. } => visit(value, found),
                Kind::List { of, .. } => visit(of, found),
                Kind::Either(kinds) => kinds.iter().for_each(|kind| visit(kind, found)),
                Kind::Shared(shared) => visit(&shared.kind, found),
                _ => {}
            }
        }
        let mut found: BTreeSet<&str> = [DOCUMENT.name].into();
        for mapping in MAPPINGS {
            mapping.keys().for_each(|key| visit(&key.kind, &mut found));
            let groups = mapping.one_of.iter().chain(mapping.some_of).copied().flatten();
            let needs = mapping.needs.iter().flat_map(|(key, needed)| [key, needed]);
            for key in groups.chain(needs) {
                assert!(mapping.knows(key), "{}: {key}", mapping.name);
            }
            let unique: BTreeSet<&str> = mapping.names().collect();
            assert_eq!(unique.len(), mapping.names().count(), "{}", mapping.name);
            assert!(mapping.keys().all(|key| key.doc.ends_with(['.', '…', 's'])), "{}", mapping.name);
        }
        let listed: BTreeSet<&str> = MAPPINGS.iter().map(|mapping| mapping.name).collect();
        assert_eq!(found, listed);
    }
}
