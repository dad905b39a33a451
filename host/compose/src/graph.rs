//! Composition: who is instantiated, and who gives what to whom.

use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions, NodeId};

use crate::ComposeError;

/// What an application imports of the core, whom it is taken from, and the name of the export there.
const IMPORTS: [(&str, Giver, &str); 4] = [
    ("lockgate:core/types@", Giver::Policy, "lockgate:core/types@"),
    ("lockgate:core/policy@", Giver::Policy, "lockgate:core/policy@"),
    ("inference", Giver::Inference, "lockgate:core/inference@"),
    ("lockgate:about/about@", Giver::About, "lockgate:about/about@"),
];

#[derive(Clone, Copy)]
enum Giver {
    Policy,
    Inference,
    About,
}

/// The application with the core inside: its components, plain or baked, and [`about`](crate::about) them.
///
/// # Errors
/// Bytes that are no components, or an application that expects another core.
pub fn compose(app: &[u8], policy: &[u8], inference: &[u8], about: &[u8]) -> Result<Vec<u8>, ComposeError> {
    let mut graph = CompositionGraph::new();
    let policy = Part::add(&mut graph, "the policy component", "lockgate:policy", policy)?;
    let inference = Part::add(&mut graph, "the inference component", "lockgate:inference", inference)?;
    let about = Part::add(&mut graph, "the component about them", "lockgate:about", about)?;
    let app = Part::add(&mut graph, "the application", "lockgate:app", app)?;

    for (import, giver, export) in IMPORTS {
        let Some(import) = app.imports.iter().find(|name| name.starts_with(import)) else {
            return Err(ComposeError::unusable(
                app.name,
                format!("it does not import `{import}` of the core"),
            ));
        };
        let giver = match giver {
            Giver::Policy => &policy,
            Giver::Inference => &inference,
            Giver::About => &about,
        };
        let Some(export) = giver.exports.iter().find(|name| name.starts_with(export)) else {
            return Err(ComposeError::unusable(giver.name, format!("it does not export `{export}`")));
        };
        let given = giver.give(&mut graph, export)?;
        graph.set_instantiation_argument(app.node, import, given).map_err(|error| {
            ComposeError::Mismatch(format!(
                "the application cannot use `{export}` of {}: {error}",
                giver.name
            ))
        })?;
    }
    for name in &app.exports {
        let export = app.give(&mut graph, name)?;
        graph.export(export, name.as_str()).map_err(|error| ComposeError::Mismatch(error.to_string()))?;
    }
    graph.encode(EncodeOptions::default()).map_err(|error| ComposeError::Mismatch(error.to_string()))
}

/// An instance in a composition, and what it takes and gives.
struct Part {
    name: &'static str,
    node: NodeId,
    imports: Vec<String>,
    exports: Vec<String>,
}

impl Part {
    fn add(
        graph: &mut CompositionGraph,
        name: &'static str,
        key: &str,
        bytes: &[u8],
    ) -> Result<Self, ComposeError> {
        let package = Package::from_bytes(key, None, bytes.to_vec(), graph.types_mut())
            .map_err(|error| ComposeError::unusable(name, format!("{error:#}")))?;
        let world = &graph.types()[package.ty()];
        let imports = world.imports.keys().cloned().collect();
        let exports = world.exports.keys().cloned().collect();
        let package = graph.register_package(package).map_err(|error| ComposeError::unusable(name, error))?;
        Ok(Self { name, node: graph.instantiate(package), imports, exports })
    }

    fn give(&self, graph: &mut CompositionGraph, name: &str) -> Result<NodeId, ComposeError> {
        graph
            .alias_instance_export(self.node, name)
            .map_err(|error| ComposeError::Mismatch(format!("`{name}` of {}: {error}", self.name)))
    }
}
