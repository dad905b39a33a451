//! The flags of the settings, made from their table.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use crate::config::{Config, Sources, TABLE};
use crate::failure::Failure;

/// One flag per setting, and the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct SettingsArgs {
    file: Option<PathBuf>,
    flags: BTreeMap<&'static str, String>,
}

impl SettingsArgs {
    /// The configuration in force with these flags.
    pub(crate) fn load(self) -> Result<Config, Failure> {
        Config::load(&Sources::of_process(self.file, self.flags))
    }
}

impl Args for SettingsArgs {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .help("The configuration file [env: LOCKGATE_CONFIG] [default: lockgate.toml, if there is one]")
            .value_parser(clap::value_parser!(PathBuf))
            .help_heading("Configuration");
        let defaults = crate::config::Settings::default();
        TABLE.iter().fold(command.arg(file), |command, setting| {
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

impl FromArgMatches for SettingsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flags = TABLE
            .iter()
            .filter_map(|setting| Some((setting.key, matches.get_one::<String>(setting.key)?.clone())))
            .collect();
        Ok(Self { file: matches.get_one("config").cloned(), flags })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
