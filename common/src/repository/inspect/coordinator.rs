//! What a coordinator group keeps of its own: bounds of timestamps, and backups of its state.

use object_store::path::Path;

use super::{
    super::{group_state::check_group_backup_name, layout, store::Store},
    Inspection,
    key::is_key_file,
};
use crate::error::Result;

pub(super) async fn inspect(store: &Store, found: &mut Inspection) -> Result<()> {
    for listed in store.list(&layout::coordinator()).await? {
        if !is_known(&listed.key) {
            found.unknown.add(listed);
        }
    }
    Ok(())
}

fn is_known(key: &Path) -> bool {
    let parts: Vec<_> = key.parts().collect();
    let names: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
    match names[..] {
        ["coordinator", "bounds", number] => layout::number(number, 20).is_some(),
        ["coordinator", "backups", name, "state"] => check_group_backup_name(name).is_ok(),
        ["coordinator", "backups", name, "keys", file] => {
            check_group_backup_name(name).is_ok() && is_key_file(file)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_format_is_known_and_no_other() {
        assert!(is_known(&layout::bound(7)));
        for unknown in [
            "bounds/7",
            "bounds/x",
            "bounds",
            "x",
            "bounds/00000000000000000007/x",
        ] {
            let key = Path::from(format!("coordinator/{unknown}"));
            assert!(!is_known(&key), "{unknown}");
        }
    }
}
