//! The flags of the settings, made from their table.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use crate::config::{Config, Setting, Sources, TABLE};
use crate::failure::Failure;
use crate::output;
use crate::trust::{Gate, TrustSettings};

/// One flag for each setting that `W` wants, and the file. The environment and the file are read for all settings.
#[derive(Debug, Clone)]
pub(crate) struct SettingsArgs<W = Every> {
    file: Option<PathBuf>,
    flags: BTreeMap<&'static str, String>,
    wanted: PhantomData<W>,
}

/// The settings that a command has flags for.
pub(crate) trait Wanted {
    fn wants(setting: &Setting) -> bool;
}

/// All of them.
#[derive(Debug, Clone)]
pub(crate) enum Every {}

/// What is demanded of bundles and packages.
#[derive(Debug, Clone)]
pub(crate) enum Demanded {}

/// Whose signatures are demanded.
#[derive(Debug, Clone)]
pub(crate) enum Signers {}

impl Wanted for Every {
    fn wants(_: &Setting) -> bool {
        true
    }
}

impl Wanted for Demanded {
    fn wants(setting: &Setting) -> bool {
        setting.group == "Trust"
    }
}

impl Wanted for Signers {
    fn wants(setting: &Setting) -> bool {
        setting.key == "trust"
    }
}

/// The flags of a command that loads a bundle, or compiles a source, and decides with it.
pub(crate) type TrustArgs = SettingsArgs<Demanded>;

/// Which policy sources a command refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourcesRefused {
    /// Those that a server with the same settings refuses.
    AsServed,
    /// None, unless a flag demands what a source cannot meet: a source is the text that somebody is working on, and settings
    /// that lie about for a server should not stand in the way.
    ByFlag,
}

impl<W> SettingsArgs<W> {
    /// The configuration in force with these flags.
    pub(crate) fn load(&self) -> Result<Config, Failure> {
        Config::load(&Sources::of_process(self.file.clone(), self.flags.clone()))
    }

    /// The same for a command that is no server. A misspelt variable may have been meant as a demand; the other warnings are about
    /// what a server does later.
    fn load_trust(&self) -> Result<Config, Failure> {
        let config = self.load()?;
        for warning in config.warnings.iter().filter(|warning| warning.contains("LOCKGATE_")) {
            output::note(&format!("warning: {warning}"));
        }
        Ok(config)
    }
}

impl TrustArgs {
    /// What is demanded of the files that are loaded. The trust state is read and never written: looking is not accepting.
    pub(crate) fn gate(&self, refused: SourcesRefused) -> Result<Gate, Failure> {
        let config = self.load_trust()?;
        TrustSettings::new(&config.settings).gate(|setting| match refused {
            SourcesRefused::AsServed => true,
            SourcesRefused::ByFlag => self.flags.contains_key(setting),
        })
    }
}

impl SettingsArgs<Signers> {
    /// What is demanded of a package that no bundle vouches for.
    pub(crate) fn gate(&self, pin: Option<lockgate_package::Digest>) -> Result<Gate, Failure> {
        Gate::for_package(self.load_trust()?.settings.trust.as_deref(), pin)
    }
}

impl<W: Wanted> Args for SettingsArgs<W> {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .help("The configuration file [env: LOCKGATE_CONFIG] [default: lockgate.toml, if there is one]")
            .value_parser(clap::value_parser!(PathBuf))
            .help_heading("Configuration");
        let defaults = crate::config::Settings::default();
        TABLE.iter().filter(|setting| W::wants(setting)).fold(command.arg(file), |command, setting| {
            let default = (setting.show)(&defaults);
            let default = if default.is_empty() { String::new() } else { format!(" [default: {default}]") };
            command.arg(
                Arg::new(setting.key)
                    .long(setting.flag())
                    .value_name(setting.key.rsplit('_').next().unwrap_or_default().to_ascii_uppercase())
                    .help(format!("{} [env: {}]{default}", setting.help, setting.variable()))
                    .help_heading(setting.group),
            )
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<W: Wanted> FromArgMatches for SettingsArgs<W> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flags = TABLE
            .iter()
            .filter(|setting| W::wants(setting))
            .filter_map(|setting| Some((setting.key, matches.get_one::<String>(setting.key)?.clone())))
            .collect();
        Ok(Self { file: matches.get_one("config").cloned(), flags, wanted: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
