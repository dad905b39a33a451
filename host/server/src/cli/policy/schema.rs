use crate::failure::Failure;
use crate::output;

/// The schema is JSON whether or not answers should be.
pub(crate) fn run() -> Result<(), Failure> {
    output::print(&lockgate_policy::schema())
}
