//! Lists of units that the source takes from files become objects beside the bundle.

use std::collections::{BTreeMap, BTreeSet};

use lockgate_package::{AlignedBytes, Digest};

use super::writer::Writer;
use super::{Object, Places, Problems};
use crate::LoadError;
use crate::bundle::format::{List, Object as ObjectRecord, Sha256, Shard as ShardRecord};
use crate::diagnostic::{list_of, suggestion};
use crate::lists::{ListObject, Shard, shards};
use crate::policy::{Members, Origin, Policy, Route};

/// The lists of a policy, cut into shards.
#[derive(Default)]
pub(super) struct Lists<'p> {
    files: BTreeMap<&'p str, Vec<(u32, Digest)>>,
    objects: BTreeMap<Digest, Vec<u8>>,
}

/// Takes every list that the policy names from those at hand.
pub(super) fn resolve<'p>(
    problems: &mut Problems<'_>,
    policy: &'p Policy,
    at_hand: &BTreeMap<String, Vec<String>>,
) -> Lists<'p> {
    let mut lists = Lists::default();
    let mut missing = BTreeSet::new();
    for (members, origin) in policy.members() {
        for file in members.files.values() {
            if lists.files.contains_key(file.as_str()) || !missing.insert(file) {
                continue;
            }
            let Some(units) = at_hand.get(file) else {
                let known = || at_hand.keys().map(String::as_str);
                let message = format!("the list `{file}` is not at hand");
                let expected = match at_hand.is_empty() {
                    true => "a file of this name beside the policy, one unit a line".to_owned(),
                    false => format!("one of {}", list_of(known())),
                };
                problems.report(origin, message, Some(expected), suggestion(file, known()));
                continue;
            };
            // An empty value is an absent one, which belongs to no list.
            let units = units.iter().map(String::as_str).filter(|unit| !unit.is_empty());
            if let Err(error) =
                shards(units).map_err(LoadError::from).and_then(|shards| lists.add(file, shards))
            {
                problems.report(origin, format!("the list `{file}`: {error}"), None, None);
            }
        }
    }
    lists
}

impl<'p> Lists<'p> {
    fn add(&mut self, file: &'p str, shards: Vec<Shard>) -> Result<(), LoadError> {
        let mut digests = Vec::with_capacity(shards.len());
        for Shard { depth, bytes } in shards {
            let digest = ListObject::open(AlignedBytes::copy_of(&bytes))?.digest();
            digests.push((depth, digest));
            self.objects.insert(digest, bytes);
        }
        self.files.insert(file, digests);
        Ok(())
    }

    pub(super) fn write(&self, writer: &mut Writer, places: &mut Places<'p>) {
        let mut objects = BTreeMap::new();
        for digest in self.objects.keys() {
            objects.insert(digest, writer.push(&ObjectRecord { digest: Sha256(digest.0) }));
        }
        for (file, shards) in &self.files {
            let bits = shards.iter().map(|(depth, _)| *depth).max().unwrap_or_default();
            // A shard that has been halved less often stands in the places of all that it could have become.
            let records: Vec<ShardRecord> = shards
                .iter()
                .flat_map(|(depth, digest)| {
                    let object = objects.get(digest).copied().unwrap_or_default();
                    std::iter::repeat_n(ShardRecord { object }, 1 << (bits - depth))
                })
                .collect();
            let list = List { name: writer.text(file), bits, shards: writer.push_all(&records) };
            places.lists.insert(file, writer.push(&list));
        }
    }

    /// The objects, in the order of their digests.
    pub(super) fn into_objects(self) -> Vec<Object> {
        self.objects.into_iter().map(|(digest, bytes)| Object { digest, bytes }).collect()
    }
}

impl Policy {
    /// Every group, and where it was written.
    fn members(&self) -> impl Iterator<Item = (&Members, &Origin)> {
        let tiers = self.tiers.iter().map(|tier| (&tier.members, &tier.origin));
        let segments = self.segments.values().flat_map(|segment| {
            [&segment.include, &segment.exclude].map(|members| (members, &segment.origin))
        });
        let routes = self.routes.values().flat_map(Route::members);
        tiers.chain(segments).chain(routes)
    }
}
