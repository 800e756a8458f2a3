//! What `--print-config` prints.

use toml::Value;

use super::{Setting, load::Source};

/// One line a setting, in the order of the table; a line can be pasted into the file.
pub(super) fn render(sources: &[(&Setting, Value, Source)]) -> String {
    let mut text = String::new();
    for (setting, value, source) in sources {
        let shown = if setting.secret {
            "\"********\"".to_owned()
        } else {
            value.to_string()
        };
        let from = match source {
            Source::Flag(name) => format!("flag {name}"),
            Source::Environment(name) => format!("environment {name}"),
            Source::File(path) => format!("file {}", path.display()),
            Source::Default => "default".to_owned(),
        };
        text.push_str(&format!("{} = {shown}  # {from}\n", setting.key));
    }
    text
}
