//! Reads the flags of flagd, Unleash and GrowthBook and writes policy source in which every unit keeps its variant.
//!
//! Each system's module turns its flags into a [`Draft`](draft::Draft): routes whose variants are the flag's, whose rules
//! stand in the order in which the other system asks, and whose splits lie in layers with that system's hash
//! (`docs/profiles.md`). What has no equal here is refused by a [`Loss`] that names the place, never guessed: a flag that
//! cannot be kept is left out as a whole, since a rule that is missing would change what later rules get to see. What was
//! written is checked like any other policy before it is handed out.

mod draft;
mod flagd;
mod growthbook;
mod unleash;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use self::draft::Draft;
use crate::check::check_name;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::source::Node;
use crate::{Algorithm, Field, check, parse, read};

/// A system whose flags can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum System {
    /// flagd's flag files.
    Flagd,
    /// Unleash: what a server tells its clients, and what an administrator exports.
    Unleash,
    /// GrowthBook: what the server tells its SDKs.
    GrowthBook,
}

impl System {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Flagd, Self::Unleash, Self::GrowthBook];

    /// The word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flagd => "flagd",
            Self::Unleash => "unleash",
            Self::GrowthBook => "growthbook",
        }
    }

    /// The system with this word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|system| system.name() == name)
    }

    /// The hashes that its assignments may have been made with; the first is that of its newest SDK for JavaScript.
    pub fn hashes(self) -> &'static [Algorithm] {
        use Algorithm::{
            Flagd, FlagdCbor, FlagdLegacy, FlagdLegacyUtf8, FlagdUtf8, GrowthBook, Unleash, UnleashUtf8,
        };
        match self {
            Self::Flagd => &[Flagd, FlagdUtf8, FlagdCbor, FlagdLegacy, FlagdLegacyUtf8],
            Self::Unleash => &[Unleash, UnleashUtf8],
            Self::GrowthBook => &[GrowthBook],
        }
    }

    /// Which attributes of the other system's contexts are fields here, unless the options say otherwise.
    fn fields(self) -> &'static [(&'static str, Field)] {
        match self {
            Self::Flagd => &[("targetingKey", Field::User)],
            Self::Unleash => &[("userId", Field::User), ("sessionId", Field::Session)],
            Self::GrowthBook => &[("id", Field::User)],
        }
    }
}

/// How to import.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Which model versions the variants run.
    pub models: Models,
    /// The hash that made the assignments, one of [`System::hashes`]; `None` means the first.
    pub hash: Option<Algorithm>,
    /// Attributes of the other system's contexts that are fields here. Such a field is no longer what it is by default.
    pub fields: BTreeMap<String, Field>,
}

/// Policy source, and what it does not keep.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// The source, YAML. It passes [`check`].
    pub source: String,
    /// The flags that became routes, and the routes' names.
    pub routes: BTreeMap<String, String>,
    /// Everything that the other system's flags say and the source does not, in the order of the input.
    pub losses: Vec<Loss>,
}

/// Something that could not be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// The flag's name, as the other system has it.
    pub flag: String,
    /// The place in the input, `flags.checkout.targeting`.
    pub path: String,
    /// How much is lost.
    pub extent: Extent,
    /// Why.
    pub reason: String,
    /// What to do about it.
    pub advice: String,
}

/// How much of a flag is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Extent {
    /// The flag has no route.
    Flag,
    /// The flag has a route; contexts or callers of the kind that is described are treated differently.
    Part,
    /// Every assignment is kept, under another name or with something left to fill in.
    Name,
}

impl Extent {
    /// The stable word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Part => "part",
            Self::Name => "name",
        }
    }
}

/// Stands where nobody said which model version a variant runs.
pub const PLACEHOLDER_MODEL: &str = "replace-me@0.0.0";

/// Which model version each variant of each flag runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Models {
    otherwise: Option<String>,
    /// By flag, and there by variant; the empty variant stands for all others.
    by_flag: BTreeMap<String, BTreeMap<String, String>>,
}

impl Models {
    /// The same model version for every variant that nothing else is said about.
    ///
    /// # Errors
    ///
    /// When the text is not `<model>@<version>`.
    pub fn otherwise(mut self, model: &str) -> Result<Self, String> {
        model_version_problem(model).map_or(Ok(()), Err)?;
        self.otherwise = Some(model.to_owned());
        Ok(self)
    }

    /// Reads a mapping: `flag: model@1.0.0`, `flag.variant: model@1.0.0`, or `flag: { variant: model@1.0.0 }`.
    ///
    /// # Errors
    ///
    /// Says where the text is no such mapping.
    pub fn read(mut self, file: &str, text: &str) -> Result<Self, Diagnostics> {
        let root = read(file, text)?;
        let mut problems = Vec::new();
        let mut refuse = |node: &Node, path: &str, message: String| {
            problems.push(Diagnostic::error(file, node.position, path.to_owned(), message));
        };
        match &root.value {
            crate::Value::Mapping(entries) => {
                for entry in entries {
                    match &entry.value.value {
                        crate::Value::Text(model) => match model_version_problem(model) {
                            None => {
                                self.by_flag
                                    .entry(entry.key.clone())
                                    .or_default()
                                    .insert(String::new(), model.clone());
                            }
                            Some(problem) => refuse(&entry.value, &entry.key, problem),
                        },
                        crate::Value::Mapping(variants) => {
                            for variant in variants {
                                let path = format!("{}.{}", entry.key, variant.key);
                                match &variant.value.value {
                                    crate::Value::Text(model) => match model_version_problem(model) {
                                        None => {
                                            let flag = self.by_flag.entry(entry.key.clone()).or_default();
                                            flag.insert(variant.key.clone(), model.clone());
                                        }
                                        Some(problem) => refuse(&variant.value, &path, problem),
                                    },
                                    _ => {
                                        refuse(
                                            &variant.value,
                                            &path,
                                            "this is no `model@version`".to_owned(),
                                        );
                                    }
                                }
                            }
                        }
                        _ => {
                            let message =
                                "this is neither `model@version` nor a mapping from variants to them";
                            refuse(&entry.value, &entry.key, message.to_owned());
                        }
                    }
                }
            }
            _ => refuse(&root, "", "a map of models is a mapping from flags".to_owned()),
        }
        Diagnostics::check(problems).map(|()| self)
    }

    /// The model version of a variant, and what was said about it: the entry's flag and variant.
    /// The variant's names are looked for in this order.
    fn get(&self, flag: &str, variant: [Option<&str>; 2]) -> (Option<&str>, Option<(String, String)>) {
        let all_others = "";
        let mut places = Vec::new();
        for variant in variant.into_iter().flatten().filter(|variant| !variant.is_empty()) {
            places.push((flag.to_owned(), variant.to_owned()));
            places.push((format!("{flag}.{variant}"), all_others.to_owned()));
        }
        places.push((flag.to_owned(), all_others.to_owned()));
        for (flag, variant) in places {
            if let Some(model) = self.by_flag.get(&flag).and_then(|variants| variants.get(&variant)) {
                return (Some(model), Some((flag, variant)));
            }
        }
        (self.otherwise.as_deref(), None)
    }
}

/// Writes policy source for the flags in `text`, JSON or YAML.
///
/// # Errors
///
/// When `text` cannot be read, is no document of this system, or when the options do not fit it.
pub fn import(
    system: System,
    file: &str,
    text: &str,
    options: &ImportOptions,
) -> Result<Imported, Diagnostics> {
    let root = read(file, text)?;
    let at = |node: &Node, path: &str, message: String| {
        Diagnostics::from(Diagnostic::error(file, node.position, path.to_owned(), message))
    };
    let json = root.to_json().map_err(|(position, number)| {
        let message = format!("`{number}` is no number of JSON");
        Diagnostics::from(Diagnostic::error(file, position, String::new(), message))
    })?;
    let document: Value = serde_json::from_str(&json)
        .map_err(|error| at(&root, "", format!("this cannot be read: {error}")))?;
    let hash = options.hash.or_else(|| system.hashes().first().copied()).unwrap_or_default();
    if !system.hashes().contains(&hash) {
        let known: Vec<&str> = system.hashes().iter().map(|hash| hash.name()).collect();
        let message = format!("{} never had the hash `{}`", system.name(), hash.name());
        let mut problem = Diagnostic::error(file, root.position, String::new(), message);
        problem.expected = Some(format!("one of {}", known.join(", ")));
        return Err(problem.into());
    }
    let mut fields: BTreeMap<String, Field> = system
        .fields()
        .iter()
        .filter(|(_, field)| !options.fields.values().any(|taken| taken == field))
        .map(|(name, field)| ((*name).to_owned(), *field))
        .collect();
    fields.extend(options.fields.iter().map(|(name, field)| (name.clone(), *field)));
    let mut draft = Draft::new(hash, fields, &document);
    let imported = match system {
        System::Flagd => flagd::import(&document, &mut draft),
        System::Unleash => unleash::import(&document, &mut draft),
        System::GrowthBook => growthbook::import(&document, &mut draft),
    };
    imported.map_err(|message| at(&root, "", message))?;
    finish(system, file, draft, &options.models)
}

/// Writes the draft, and takes out what the checker refuses until it refuses nothing.
fn finish(system: System, file: &str, mut draft: Draft, models: &Models) -> Result<Imported, Diagnostics> {
    let used = draft.assign_models(models);
    let unused = models.by_flag.iter().flat_map(|(flag, variants)| {
        variants
            .keys()
            .map(move |variant| (flag.clone(), variant.clone()))
            .filter(|entry| !used.contains(entry))
    });
    for (flag, variant) in unused {
        let name = if variant.is_empty() { flag.clone() } else { format!("{flag}.{variant}") };
        draft.losses.push(Loss {
            path: name,
            flag,
            extent: Extent::Name,
            reason: "the map of models names it, and no flag or variant is called so".to_owned(),
            advice: "correct the name in the map".to_owned(),
        });
    }
    loop {
        let text = draft.write(system, file);
        let problems = match parse("imported.yaml", &text).and_then(|source| check(&source)) {
            Ok(_) => {
                let routes = draft.routes.iter().map(|route| (route.flag.clone(), route.name.clone()));
                return Ok(Imported { routes: routes.collect(), losses: draft.losses, source: text });
            }
            Err(problems) => problems,
        };
        let mut refused: BTreeMap<String, String> = BTreeMap::new();
        for problem in problems.as_slice() {
            if let Some(name) = draft.route_at(&problem.path) {
                refused.entry(name).or_insert_with(|| {
                    let expected = problem.expected.as_ref().map(|expected| format!("; expected {expected}"));
                    format!("{}{}", problem.message, expected.unwrap_or_default())
                });
            }
        }
        if refused.is_empty() {
            return Err(problems);
        }
        draft.refuse(&refused);
    }
}

/// What is wrong with `<model>@<version>`.
fn model_version_problem(text: &str) -> Option<String> {
    let Some((model, version)) = text.rsplit_once('@') else {
        return Some(format!("`{text}` names no version; expected `<model>@<version>`"));
    };
    if let Err(problem) = check_name(model) {
        return Some(format!("the model name `{model}` {problem}"));
    }
    semver::Version::parse(version).err().map(|error| format!("`{version}` is no semantic version: {error}"))
}

/// The keys of `value` that are not among these, which nobody here has an opinion about.
fn unknown_keys<'v>(value: &'v Value, known: &[&str]) -> BTreeSet<&'v str> {
    let keys = value.as_object().into_iter().flat_map(|object| object.keys());
    keys.map(String::as_str).filter(|key| !known.contains(key)).collect()
}

/// What a value is, for people.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}
