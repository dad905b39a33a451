use lockgate_package::{AlignedBytes, Digest};
use lockgate_policy::{Bundle, LoadError, Placement};
use lockgate_shell::BundleId;

/// What must be fetched besides a bundle before it can serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// The bundle.
    pub bundle: BundleId,
    /// The bundle that it replaces.
    pub parent: Option<Digest>,
    /// The unit lists, to be loaded before it.
    pub lists: Vec<Digest>,
    /// The packages that run at an edge, each once, in the bundle's order.
    pub packages: Vec<Digest>,
}

impl Needs {
    /// Reads what a bundle names. Nothing it says is checked but the envelope: the policy module checks it when it loads the bytes.
    ///
    /// # Errors
    /// Bytes that are no bundle, or are damaged.
    pub fn of(bundle: &[u8]) -> Result<Self, LoadError> {
        let lists = Bundle::required_objects(bundle)?;
        let bundle = Bundle::outline(AlignedBytes::copy_of(bundle))?;
        let mut packages: Vec<Digest> = Vec::new();
        for model in bundle.models().filter(|model| model.placement == Placement::Edge) {
            if !packages.contains(&model.digest) {
                packages.push(model.digest);
            }
        }
        let id = BundleId { version: bundle.version(), digest: bundle.digest() };
        Ok(Self { bundle: id, parent: bundle.parent(), lists, packages })
    }
}
