//! Where a shell runs, as far as it matters to what it serves.

/// Where a shell runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Environment {
    /// On somebody's machine.
    #[default]
    Development,
    /// In automatic tests.
    Test,
    /// Where a release is tried.
    Staging,
    /// Where answers count: mocks are refused.
    Production,
}

impl Environment {
    /// What may be written.
    pub const EXPECTED: &'static str = "`development`, `test`, `staging` or `production`";

    /// The environment of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Development, Self::Test, Self::Staging, Self::Production]
            .into_iter()
            .find(|environment| environment.name() == name)
    }

    /// As settings call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Test => "test",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }

    /// Whether answers count here.
    pub fn is_production(self) -> bool {
        self == Self::Production
    }
}
