//! Checks the pages of InnoDB's files while they are copied.
//!
//! Each page carries a checksum and its own number, and most carry the number of their tablespace.
//! How they are checked stands in the first page of each tablespace. What each file is:
//!
//! | file | |
//! |---|---|
//! | `<schema>/<table>.ibd`, `*.ibd` | a tablespace of its own |
//! | `ibdata1`, `ibdata2`, ... | the files of one tablespace, which only begins in the first; holds the doublewrite buffer |
//! | `undo001`, ... (`undo_001`, `*.ibu` with MySQL) | a tablespace of its own, with the same pages |
//! | `ib_logfile0`, `#ib_redo*` | redo log: no pages; the server checks it when it starts |
//! | `ibtmp1`, `#innodb_temp/`, `#sql*.ibd` | made anew by the server, or left over: never read again |
//! | `#ib_*.dblwr` | MySQL's doublewrite buffer: empty of meaning after a clean end |

mod checksum;
mod extents;
mod format;
mod page;
mod system;
mod tablespace;
#[cfg(test)]
mod tests;

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, sync::Arc};

use seawall_common::{
    Error, Result,
    repository::{FilePages, PageCheck, PageFile},
};

use self::{format::Format, system::SystemTablespace, tablespace::Tablespace};
use super::{MariaDb, copy_set};
use crate::engine::CopyRoot;

/// The page size of a server that was not told another one.
const PAGE_BYTES_DEFAULT: usize = 16 << 10;

#[derive(Debug)]
struct InnoDbPages {
    /// Where each root lies.
    roots: Vec<CopyRoot>,
    system: SystemTablespace,
    /// Of this server's tablespaces, but for compressed ones.
    page_bytes: usize,
}

impl PageCheck for InnoDbPages {
    fn concerns(&self, root: &str, path: &[u8]) -> bool {
        self.system.file(root, path).is_some() || is_tablespace(path)
    }

    fn open(&self, file: &PageFile<'_>) -> Option<Box<dyn FilePages>> {
        let tablespace = match self.system.file(file.root, file.path) {
            Some(part) => self.system.open(part, file.bytes)?,
            None => {
                let root = self.roots.iter().find(|root| root.name == file.root)?;
                let path = root.path.join(OsStr::from_bytes(file.path));
                Tablespace::read(path, file.first, file.bytes, self.page_bytes)
            }
        };
        Some(Box::new(tablespace))
    }
}

/// Whether a file of this name holds a tablespace of its own.
fn is_tablespace(path: &[u8]) -> bool {
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or(path);
    let is_undo = |name: &[u8]| {
        let number = name.strip_prefix(b"undo").unwrap_or_default();
        let number = number.strip_prefix(b"_").unwrap_or(number);
        !number.is_empty() && number.iter().all(u8::is_ascii_digit)
    };
    let is_left_over = name.starts_with(b"#sql");
    (name.ends_with(b".ibd") && !is_left_over) || name.ends_with(b".ibu") || is_undo(name)
}

impl MariaDb {
    /// Looks at the system tablespace; to be called while the server stands still.
    pub(super) async fn look_at_pages(&self) -> Result<Arc<dyn PageCheck>> {
        let configuration = self.configuration().await?;
        let roots = copy_set::roots(&configuration, &self.settings.data_dir)?;
        let page_bytes = configuration
            .value("innodb-page-size")
            .and_then(|text| text.parse().ok())
            .filter(|bytes| Format::PAGE_SIZES.contains(bytes))
            .unwrap_or(PAGE_BYTES_DEFAULT);
        let files = configuration.system_tablespace();
        let survey = move || {
            let system = SystemTablespace::survey(&files, &roots, page_bytes)?;
            Ok(Arc::new(InnoDbPages {
                roots,
                system,
                page_bytes,
            }))
        };
        let pages: Result<Arc<InnoDbPages>> = tokio::task::spawn_blocking(survey)
            .await
            .map_err(|e| Error::internal(format!("cannot look at the pages: {e}")))?;
        Ok(pages?)
    }
}
