//! The tablet types that an operator may give.

use seawall_proto::v1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TabletType {
    /// Serves reads, may become primary
    Replica,
    /// Serves batch reads, never becomes primary
    Rdonly,
    /// Replicates, serves nothing
    Spare,
    /// Taken out by hand
    Drained,
}

impl From<TabletType> for v1::TabletType {
    fn from(tablet_type: TabletType) -> Self {
        match tablet_type {
            TabletType::Replica => Self::Replica,
            TabletType::Rdonly => Self::Rdonly,
            TabletType::Spare => Self::Spare,
            TabletType::Drained => Self::Drained,
        }
    }
}
