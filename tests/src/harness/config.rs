//! Configuration files, key by key, so that a test can say what is different about its own.

use std::path::Path;

use anyhow::{Context as _, Result};
use toml::{Table, Value};

#[derive(Clone, Debug, Default)]
pub struct Config(Table);

impl Config {
    /// Sets a dotted key: `engine.replication.port`.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
        let mut table = &mut self.0;
        for part in section.split('.').filter(|part| !part.is_empty()) {
            let entry = table
                .entry(part)
                .or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            match entry {
                Value::Table(inner) => table = inner,
                _ => return self,
            }
        }
        table.insert(name.to_owned(), value.into());
        self
    }

    pub fn unset(&mut self, key: &str) -> &mut Self {
        let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
        let mut table = Some(&mut self.0);
        for part in section.split('.').filter(|part| !part.is_empty()) {
            table = table
                .and_then(|t| t.get_mut(part))
                .and_then(Value::as_table_mut);
        }
        if let Some(table) = table {
            table.remove(name);
        }
        self
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let text = toml::to_string(&self.0)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A list of texts, as a value.
pub fn list<S: Into<String>>(items: impl IntoIterator<Item = S>) -> Value {
    Value::Array(items.into_iter().map(|i| Value::String(i.into())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_keys_become_sections() {
        let mut config = Config::default();
        config.set("alias", "zone1-101");
        config.set("engine.replication.port", 3306);
        config.set("engine.kind", "mariadb").unset("engine.kind");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.toml");
        config.write(&file).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(
            text,
            "alias = \"zone1-101\"\n\n[engine.replication]\nport = 3306\n"
        );
    }
}
