//! The engines there are, by the name that configurations and manifests give them.

use std::{path::Path, sync::Arc};

use seawall_common::{Error, Result};

use super::{Engine, EngineSettings, files::Files, mariadb::MariaDb};

const KINDS: &str = "mariadb, files";

/// The engine that the settings ask for, its own settings checked. `state_dir` is the agent's.
pub fn open(settings: &EngineSettings, state_dir: &Path) -> Result<Arc<dyn Engine>> {
    match settings.kind.as_str() {
        "mariadb" => Ok(Arc::new(MariaDb::open(settings, state_dir)?)),
        "files" => Ok(Arc::new(Files::open(settings, state_dir)?)),
        other => Err(Error::invalid(format!("unknown engine.kind {other:?}"))
            .hint(format!("It is one of: {KINDS}."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_engine_is_named_with_those_there_are() {
        let settings: EngineSettings = toml::from_str("kind = 'mariadv'").unwrap();
        let error = open(&settings, Path::new("/")).err().unwrap().to_string();
        assert_eq!(
            error,
            "unknown engine.kind \"mariadv\". It is one of: mariadb, files."
        );
    }
}
