//! Clients of a coordinator group that note what they ask and are answered, and the proof that it
//! was right, one file for each invariant. They work on a simulated group and on real processes.

pub mod group;
pub mod history;
pub mod locks;
pub mod search;
pub mod timestamps;
pub mod verdict;
