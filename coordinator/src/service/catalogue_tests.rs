//! What is listed, also while the repository does not answer.

use seawall_proto::v1::{self, catalogue_server::Catalogue as _};
use tonic::Request;

use super::catalogue::CatalogueService;
use crate::{
    operation::testing::{Does, Stage},
    state::testing::{Cluster, backup_of, shard},
};

#[tokio::test(start_paused = true)]
async fn a_backup_that_is_being_written_is_listed_last() {
    let mut cluster = Cluster::with_primary();
    let complete = cluster.backed_up("zone1-101", "0-100-1");
    let stage = Stage::new(cluster);
    stage.tell("copy", Does::Hang);
    let running = stage.start(backup_of("zone1-102")).await;
    stage.called("copy").await;
    let service = CatalogueService {
        context: stage.context.clone(),
    };
    let request = v1::ListBackupsRequest {
        shard: Some(shard().to_proto()),
        all: false,
    };
    let listed = service.list_backups(Request::new(request)).await;
    let listed = listed.unwrap().into_inner().backups;
    let names: Vec<_> = listed.into_iter().map(|backup| backup.name).collect();
    let written = stage.operation(running).backup.unwrap();
    assert_eq!(names, [complete.to_string(), written.to_string()]);
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_does_not_answer_keeps_nobody_from_seeing_what_is_known() {
    let mut cluster = Cluster::with_primary();
    let complete = cluster.backed_up("zone1-101", "0-100-1");
    let stage = Stage::new(cluster);
    let service = CatalogueService {
        context: stage.context.clone(),
    };
    let list = async || {
        let request = v1::ListBackupsRequest {
            shard: Some(shard().to_proto()),
            all: false,
        };
        let listed = service.list_backups(Request::new(request)).await;
        listed.unwrap().into_inner()
    };
    *stage.store.hang_scans.lock().unwrap() = true;
    let began = tokio::time::Instant::now();
    let listed = list().await;
    assert!(began.elapsed() < std::time::Duration::from_secs(30));
    assert_eq!(listed.backups[0].name, complete.as_str());
    assert_eq!(listed.not_read, "it has not been read within 20 seconds");
    let request = v1::GetBackupRequest {
        shard: Some(shard().to_proto()),
        name: complete.to_string(),
    };
    let got = service.get_backup(Request::new(request)).await;
    let got = got.unwrap().into_inner();
    assert_eq!(got.backup.unwrap().name, complete.as_str());
    assert_eq!(got.not_read, listed.not_read);
    // The reading went on meanwhile, and there was only this one.
    *stage.store.hang_scans.lock().unwrap() = false;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(list().await.not_read, "");
    assert_eq!(stage.store.scans.lock().unwrap().len(), 1);
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(list().await.not_read, "");
    assert_eq!(stage.store.scans.lock().unwrap().len(), 2);
}
