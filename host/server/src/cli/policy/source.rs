use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use clap::Args;
use lockgate_policy::{Bundle, check, parse, unit_lists, verify_source, write_source};

use super::check::count;
use crate::cli::settings::{SourcesRefused, TrustArgs};
use crate::failure::Failure;
use crate::{files, output, policy};

#[derive(Args)]
pub(crate) struct SourceArgs {
    /// A compiled bundle.
    bundle: PathBuf,
    /// Compile the source again and compare it with the bundle, section by section, before it is shown.
    #[arg(long)]
    verify: bool,
    /// Where the source goes, instead of the standard output. A file that exists with other content is never overwritten.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the units of the files that the source names into this folder, the one in which the source will lie. A file that exists
    /// with other content is never overwritten.
    #[arg(long, value_name = "FOLDER")]
    lists: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
}

pub(crate) fn run(args: &SourceArgs, json: bool) -> Result<(), Failure> {
    let bundle = policy::open_bundle(&args.bundle, &args.trust.gate(SourcesRefused::AsServed)?)?;
    let file = args.bundle.display();
    let source = bundle.source().ok_or_else(|| {
        Failure::new(format!("{file} carries no source")).hint("it was compiled with `--no-source`")
    })?;
    if args.verify {
        verify_source(&bundle)
            .map_err(|error| Failure::new(format!("{file}: {error}")).code("source_mismatch"))?;
        output::note(&format!("{file}: the source compiles to this bundle"));
    }
    let (source, lists) = match &args.lists {
        Some(folder) => {
            let lists = lists(&bundle, folder)?;
            (renamed(source, &lists)?, lists)
        }
        None => (Cow::Borrowed(source), Vec::new()),
    };
    // Written as one line; people read it laid out.
    let text = lockgate_policy::format_source("source.json", &source).map_err(policy::failure)?;
    for List { path, text, .. } in &lists {
        files::create_folder_of(path)?;
        files::write_immutable(path, text.as_bytes())
            .map_err(|failure| failure.hint("name another folder, or move the file out of the way"))?;
    }
    if let Some(path) = &args.output {
        files::write_immutable(path, text.as_bytes())?;
    }
    for List { name, place, .. } in lists.iter().filter(|list| list.place != list.name) {
        output::note(&format!("note: the list `{name}` is called `{place}` now, also in the source"));
    }
    if json {
        let value: serde_json::Value = serde_json::from_str(&source)
            .map_err(|error| Failure::new(format!("{file}: the source is no JSON: {error}")))?;
        let lists: Vec<_> = lists
            .iter()
            .map(|list| {
                let file = list.path.display().to_string();
                serde_json::json!({ "name": list.name, "file": file, "units": list.units })
            })
            .collect();
        let answer = serde_json::json!({ "verified": args.verify, "source": value, "lists": lists });
        return output::print_json(&answer);
    }
    let written = lists.iter().map(|list| (&list.path, count(list.units, "unit")));
    let mut lines: Vec<String> =
        written.map(|(path, units)| format!("{}: {units}", path.display())).collect();
    match &args.output {
        // The standard output is the source's alone.
        None => {
            lines.iter().for_each(|line| output::note(line));
            output::print_document(&text)
        }
        Some(path) => {
            lines.push(format!("{}: {} bytes", path.display(), text.len()));
            output::print(&lines.join("\n"))
        }
    }
}

/// A list of units on its way into a file.
struct List {
    /// What the source calls it.
    name: String,
    /// What it is called from now on.
    place: String,
    path: PathBuf,
    units: usize,
    text: String,
}

/// The lists of a bundle, each with a file in `folder`. One that the source looks for elsewhere is called otherwise: nothing in a bundle
/// says where on this machine a file is written.
fn lists(bundle: &Bundle, folder: &Path) -> Result<Vec<List>, Failure> {
    let (inside, outside): (Vec<_>, Vec<_>) =
        unit_lists(bundle).into_iter().partition(|(name, _)| is_inside(name));
    let mut taken: BTreeSet<PathBuf> = BTreeSet::new();
    let mut lists = Vec::new();
    for (name, units) in inside.into_iter().chain(outside) {
        let place = match is_inside(&name) && taken.insert(Path::new(&name).components().collect()) {
            true => name.clone(),
            false => free(&name, &mut taken),
        };
        let text = text(&name, &units)?;
        lists.push(List { path: folder.join(&place), units: units.len(), name, place, text });
    }
    Ok(lists)
}

/// Whether a file of this name lies below the folder that it is looked for in.
fn is_inside(name: &str) -> bool {
    let mut parts = Path::new(name).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// A name that no other list has: the last part of `name`, with a number if need be.
fn free(name: &str, taken: &mut BTreeSet<PathBuf>) -> String {
    let name = Path::new(name).file_name().and_then(|name| name.to_str()).unwrap_or("list.txt");
    let (stem, ending) = match name.rsplit_once('.') {
        Some((stem, ending)) if !stem.is_empty() => (stem, format!(".{ending}")),
        _ => (name, String::new()),
    };
    let mut candidate = name.to_owned();
    let mut number = 1_u64;
    while !taken.insert(PathBuf::from(&candidate)) {
        number += 1;
        candidate = format!("{stem}-{number}{ending}");
    }
    candidate
}

/// Units as a file holds them, one a line.
fn text(name: &str, units: &[String]) -> Result<String, Failure> {
    let mut text = String::new();
    for unit in units {
        if unit.is_empty() || unit.contains('\n') || unit.trim() != unit {
            let message = format!("the list `{name}` has the unit {unit:?}, which a file cannot hold");
            return Err(
                Failure::new(message).hint("a file has one unit a line, without white space around it")
            );
        }
        // A file's first such mark is not part of its text.
        if text.is_empty() && unit.starts_with('\u{feff}') {
            text.push('\u{feff}');
        }
        text.push_str(unit);
        text.push('\n');
    }
    Ok(text)
}

/// The source with the names that the lists have from now on.
fn renamed<'s>(source: &'s str, lists: &[List]) -> Result<Cow<'s, str>, Failure> {
    let names: BTreeMap<&str, &str> = lists
        .iter()
        .filter(|list| list.place != list.name)
        .map(|list| (list.name.as_str(), list.place.as_str()))
        .collect();
    if names.is_empty() {
        return Ok(Cow::Borrowed(source));
    }
    let mut policy =
        parse("source.json", source).and_then(|source| check(&source)).map_err(policy::failure)?;
    policy.rename_list_files(|name| names.get(name).map(|name| (*name).to_owned()));
    Ok(Cow::Owned(write_source(&policy)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_stay_in_their_folder() {
        for inside in ["a.txt", "lists/a.txt"] {
            assert!(is_inside(inside), "{inside}");
        }
        for outside in ["", "../a.txt", "/etc/passwd", "./a.txt", "a/../../b", ".."] {
            assert!(!is_inside(outside), "{outside}");
        }
        let mut taken = BTreeSet::from([PathBuf::from("a.txt")]);
        let mut check = |name: &str, expected: &str| assert_eq!(free(name, &mut taken), expected, "{name}");
        check("../a.txt", "a-2.txt");
        check("/b/a.txt", "a-3.txt");
        check("../.hidden", ".hidden");
        check("../.hidden", ".hidden-2");
        check("..", "list.txt");
    }

    #[test]
    fn what_a_file_cannot_hold_is_refused() {
        let units =
            |units: &[&str]| text("l", &units.iter().map(|unit| (*unit).to_owned()).collect::<Vec<_>>());
        assert_eq!(units(&["a", "Zo\u{eb} b"]).unwrap(), "a\nZo\u{eb} b\n");
        assert_eq!(units(&["\u{feff}a"]).unwrap(), "\u{feff}\u{feff}a\n");
        for wrong in ["", "a\nb", " a", "a\r"] {
            assert!(units(&["x", wrong]).is_err(), "{wrong:?}");
        }
    }
}
