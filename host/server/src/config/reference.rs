use std::fmt::Write as _;

use super::{Settings, TABLE};

/// The reference page, Markdown.
pub(crate) fn reference() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         <!-- Written by `lockgate config reference`; change host/server/src/config/table.rs instead. -->\n\n\
         `lockgate serve` takes each setting from four places, later ones stronger: its default, a file, the environment, a flag.\n\n\
         - The file is TOML: the one that `--config` or `LOCKGATE_CONFIG` names, else `lockgate.toml` in the working folder if there is one. \
         Its keys are the names below. An unknown key is an error.\n\
         - The environment variable of a setting is its name in capitals after `LOCKGATE_`: `LOCKGATE_MAX_BODY`.\n\
         - The flag of a setting is its name with dashes: `--max-body`.\n\n\
         `lockgate config show` prints what is in force and where each value comes from. Commands that load bundles or packages take the settings of \
         [Trust](#trust) from the same places; [trust.md](trust.md#what-other-commands-demand) says which.\n\n\
         Sizes are written like `512KiB` or `16MiB`, durations like `250ms`, `5s` or `2m`. Whatever is relative to the machine is marked *machine*.\n",
    );
    let defaults = Settings::default();
    let mut group = "";
    for setting in TABLE {
        if setting.group != group {
            group = setting.group;
            let _ = write!(page, "\n## {group}\n\n| setting | default | meaning |\n| --- | --- | --- |\n");
        }
        let default = match (setting.key, (setting.show)(&defaults)) {
            ("workers", _) => "*machine:* one per core, at least 2".to_owned(),
            (_, text) if text.is_empty() => "not set".to_owned(),
            (_, text) => format!("`{text}`"),
        };
        let _ = writeln!(page, "| `{}` | {default} | {} |", setting.key, setting.help);
    }
    page.push_str(
        "\n## API keys\n\n\
         API keys stand in the file alone, one table each:\n\n\
         ```toml\n\
         [[api_keys]]\n\
         name = \"research\"                # what logs call it\n\
         sha256 = \"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\"  # printf %s SECRET | sha256sum\n\
         tenant = \"acme\"                  # optional: the tenant of every request with this key\n\
         user = \"research-bot\"            # optional: the user of every request with this key\n\
         routes = [\"eurusd-direction\"]    # optional: the routes it may ask; all without it\n\
         records = true                   # optional: it may send records to `POST /v1/records`\n\
         forwards = true                  # optional: it speaks for others, and says for which tenant it asks\n\
         ```\n\n\
         A request brings the secret as `Authorization: Bearer SECRET` or `X-API-Key: SECRET`. What a key or a trusted header says is never overridden \
         by anything else in the request, and a request with a verified identity has no tenant but a verified one. \
         A route that a key may not ask is answered like one that does not exist.\n\n\
         A key with `forwards = true` is for an edge, or another service that has verified its own callers: the tenant that its requests name is \
         believed, and so is the id under which an edge decided ([http-api.md](http-api.md#forwarded-requests)). Who has it can ask as any tenant; with a `tenant` of its own, as that one alone.\n",
    );
    page
}
