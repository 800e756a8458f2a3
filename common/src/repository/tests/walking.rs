//! What is, and what is not, let into a backup.

use std::{os::unix::fs::symlink, time::Duration};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_link_out_of_every_root_fails_the_backup_and_is_named() {
    for target in ["/etc/hostname", "../outside", "d/../../outside", "loop"] {
        let ground = Ground::new().await;
        std::fs::write(ground.path("outside"), b"x").unwrap();
        std::fs::create_dir(ground.data().join("d")).unwrap();
        // What looks inside by its text and is not.
        symlink("/etc", ground.data().join("d/etc")).unwrap();
        if target == "loop" {
            symlink("d/etc/hostname", ground.data().join("bad")).unwrap();
        } else {
            std::fs::remove_file(ground.data().join("d/etc")).unwrap();
            symlink(target, ground.data().join("bad")).unwrap();
        }
        let error = ground.upload(&ground.source()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.message().contains("data/bad"), "{error}");
        assert!(error.message().contains("outside every root"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_goes_up_behind_a_name_fails_the_backup_and_is_named() {
    let ground = Ground::new().await;
    let data = ground.data();
    std::fs::create_dir(data.join("d")).unwrap();
    std::fs::write(data.join("t"), b"rows").unwrap();
    for target in ["d/../t".into(), data.join("d/../t")] {
        symlink(target, data.join("bad")).unwrap();
        let error = ground.upload(&ground.source()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.message().contains("data/bad"), "{error}");
        assert!(error.message().contains("behind a name"), "{error}");
        std::fs::remove_file(data.join("bad")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_inside_a_root_come_back_relative() {
    let ground = Ground::new().await;
    let data = ground.data();
    std::fs::create_dir_all(data.join("a/b")).unwrap();
    std::fs::write(data.join("t"), b"rows").unwrap();
    symlink(data.join("t"), data.join("a/b/absolute")).unwrap();
    symlink("nothing-there", data.join("a/dangling")).unwrap();
    ground.back_up().await;
    let target = ground.restore().await.unwrap();
    let link = target.join("a/b/absolute");
    assert_eq!(link.read_link().unwrap(), Path::new("../../t"));
    assert_eq!(std::fs::read(link).unwrap(), b"rows");
    let dangling = target.join("a/dangling").read_link().unwrap();
    assert_eq!(dangling, Path::new("nothing-there"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_into_another_root_is_refused_by_its_name() {
    let ground = Ground::new().await;
    std::fs::create_dir(ground.path("redo")).unwrap();
    std::fs::write(ground.path("redo/log"), b"x").unwrap();
    symlink(ground.path("redo/log"), ground.data().join("log")).unwrap();
    let mut source = ground.source();
    source.roots.push(SourceRoot {
        name: "redo".into(),
        path: ground.path("redo"),
        exclude: vec![],
    });
    let error = ground.upload(&source).await.unwrap_err();
    assert!(error.message().contains("another root (redo)"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_while_it_is_read_fails_the_backup() {
    let ground = Ground::new().await;
    let path = ground.data().join("t.ibd");
    std::fs::write(&path, noise(60 << 20)).unwrap();
    let progress = Progress::new();
    let (source, never) = (ground.source(), CancellationToken::new());
    let transfer = upload(&ground.repository, &source, 1, &progress, &never);
    let writer = async {
        while progress.snapshot().bytes_done == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let file = std::fs::File::options().append(true).open(&path).unwrap();
        file.set_len((60 << 20) + 1).unwrap();
    };
    let (ended, ()) = tokio::join!(transfer, writer);
    let error = ended.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.message().contains("changed while"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_sources_are_refused() {
    let ground = Ground::new().await;
    let refused = async |change: &dyn Fn(&mut BackupSource)| {
        let mut source = ground.source();
        change(&mut source);
        ground.upload(&source).await.unwrap_err()
    };
    refused(&|source| source.roots.clear()).await;
    refused(&|source| source.roots[0].name = "../x".into()).await;
    refused(&|source| source.roots.push(source.roots[0].clone())).await;
    let error = refused(&|source| source.roots[0].path = "/nowhere/data".into()).await;
    assert!(error.message().contains("/nowhere/data"), "{error}");
    let error = upload(
        &ground.repository,
        &ground.source(),
        0,
        &Progress::new(),
        &CancellationToken::new(),
    )
    .await
    .unwrap_err();
    assert!(error.message().contains("concurrency 0"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_repository_says_so() {
    let ground = Ground::new().await;
    std::fs::write(ground.data().join("t"), b"rows").unwrap();
    // A file where a directory is needed: no retry would help, and none lasts long here.
    let config = RepositoryConfig {
        retry_limit: "300ms".into(),
        ..ground.config.clone()
    };
    std::fs::write(ground.path("repository/keyspaces"), b"").unwrap();
    let repository = Repository::open(&config).await.unwrap();
    let ended = upload(
        &repository,
        &ground.source(),
        1,
        &Progress::new(),
        &CancellationToken::new(),
    )
    .await;
    assert!(ended.is_err());
}
