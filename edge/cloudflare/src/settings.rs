//! The Worker's variables and secrets.

use lockgate_edge::{Problem, Response, Settings};
use worker::Env;

use crate::glue;

/// What stands before a setting's name in capitals.
const PREFIX: &str = "LOCKGATE_";

/// Settings that only a Worker has.
pub(crate) const ORIGIN: &str = "LOCKGATE_ORIGIN";
pub(crate) const POLICY_KEY: &str = "LOCKGATE_POLICY_KEY";
const OWN: [&str; 2] = [ORIGIN, POLICY_KEY];

/// Reads all settings. The errors are sentences, one for each setting that cannot be used.
pub(crate) fn read(env: &Env) -> Result<Settings, Vec<String>> {
    let mut problems: Vec<String> =
        glue::setting_names(env).lines().filter(|name| !is_known(name)).map(unknown).collect();
    let look_up = |name: &str| glue::setting(env, &variable(name));
    let settings = Settings::read(&look_up);
    match settings {
        Ok(settings) if problems.is_empty() => Ok(settings),
        Ok(_) => Err(problems),
        Err(errors) => {
            let sentence = |error: &lockgate_edge::SettingError| {
                format!("{}: expected {}, found {}", variable(error.name), error.expected, error.found)
            };
            problems.extend(errors.iter().map(sentence));
            Err(problems)
        }
    }
}

fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.to_ascii_uppercase())
}

fn is_known(variable: &&str) -> bool {
    OWN.contains(variable) || Settings::TABLE.iter().any(|setting| self::variable(setting.name) == **variable)
}

fn unknown(variable: &str) -> String {
    format!("{variable}: there is no such setting; docs/cloudflare.md lists them")
}

/// What everybody is told while a setting cannot be used: nothing is served by guessing. What is wrong is in the log; it names no secret.
pub(crate) fn refusal(problems: &[String]) -> Response {
    let problem = Problem::new(
        500,
        "invalid_settings",
        format!("the Worker's settings cannot be used: {}", problems.join("; ")),
    )
    .hint("change them in wrangler.toml or with `wrangler secret put`, and deploy again");
    Response::problem(&problem, None)
}
