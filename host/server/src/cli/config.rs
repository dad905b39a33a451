use clap::Subcommand;
use serde::Serialize;

use super::settings::SettingsArgs;
use crate::config::{Settings, TABLE, reference};
use crate::failure::Failure;
use crate::output;

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every setting in force and where its value comes from. Takes the flags of `serve`.
    Show(SettingsArgs),
    /// Print the reference of all settings, Markdown.
    Reference,
}

#[derive(Serialize)]
struct Shown {
    setting: &'static str,
    value: String,
    origin: String,
}

pub(crate) fn run(command: &ConfigCommand, json: bool) -> Result<(), Failure> {
    match command {
        ConfigCommand::Show(args) => show(args, json),
        ConfigCommand::Reference if json => output::print_json(&table()),
        ConfigCommand::Reference => output::print(&reference()),
    }
}

fn show(args: &SettingsArgs, json: bool) -> Result<(), Failure> {
    let config = args.load()?;
    for warning in &config.warnings {
        output::note(&format!("warning: {warning}"));
    }
    let shown: Vec<Shown> = TABLE
        .iter()
        .map(|setting| Shown {
            setting: setting.key,
            value: (setting.show)(&config.settings),
            origin: config.origins.get(setting.key).cloned().unwrap_or_else(|| "default".to_owned()),
        })
        .collect();
    let keys: Vec<&str> = config.api_keys.iter().map(|key| key.name.as_str()).collect();
    if json {
        return output::print_json(&serde_json::json!({ "settings": shown, "api_keys": keys }));
    }
    let width = TABLE.iter().map(|setting| setting.key.len()).max().unwrap_or(0);
    let mut lines: Vec<String> = shown
        .iter()
        .map(|shown| format!("{:<width$}  {:<28} {}", shown.setting, shown.value, shown.origin))
        .collect();
    lines.extend(keys.iter().map(|name| format!("{:<width$}  {name}", "api_keys")));
    output::print(&lines.join("\n"))
}

fn table() -> serde_json::Value {
    let defaults = Settings::default();
    TABLE
        .iter()
        .map(|setting| {
            serde_json::json!({
                "setting": setting.key,
                "group": setting.group,
                "flag": format!("--{}", setting.flag()),
                "environment": setting.variable(),
                "default": (setting.show)(&defaults),
                "expected": setting.expected,
                "help": setting.help,
            })
        })
        .collect()
}
