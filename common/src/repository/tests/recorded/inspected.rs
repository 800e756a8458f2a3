//! A repository looked at as a whole, with backups that share packs.

use super::{super::line::Line, *};

const MIB: u64 = 1 << 20;

/// Three backups, of which the later ones need nearly every pack of the first.
async fn three(ground: Ground) -> Line {
    let file = ground.data().join("t.ibd");
    std::fs::write(&file, noise(48 << 20)).unwrap();
    let mut line = Line::new(ground);
    for page in 0..3_u64 {
        let file = std::fs::File::options().write(true).open(&file).unwrap();
        file.write_all_at(&[page as u8; 64], page * 20 * MIB)
            .unwrap();
        line.back_up("agent").await;
    }
    line
}

async fn checked(repository: &Repository) -> Inspection {
    let options = InspectOptions {
        read_data: true,
        concurrency: 2,
        ..InspectOptions::default()
    };
    let (progress, never) = (Progress::new(), CancellationToken::new());
    inspect(repository, &options, &progress, &never)
        .await
        .unwrap()
}

/// Everything that lies in a directory, as if it had been put.
fn stored(root: &Path) -> Vec<Change> {
    let objects = objects_below(root).into_iter();
    let put = |(key, path): (String, PathBuf)| {
        Change::Put(key.into(), std::fs::read(path).unwrap().into())
    };
    objects.map(put).collect()
}

fn reports(found: &Inspection) -> Vec<&VerifyReport> {
    let reports = found.backups.iter().map(|backup| backup.report.as_ref());
    reports.map(Option::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pack_is_read_once_however_many_backups_need_it() {
    for ground in [Ground::new().await, Ground::encrypted().await] {
        let line = three(ground).await;
        let names = line.complete.iter().map(|reference| &reference.name);
        let packs: u64 = names.map(|name| line.bytes_of(name)).sum();
        let store = Recorder::play_back(&stored(&line.ground.path("repository"))).await;
        let repository = open(&store, &line.ground.config).await;
        let before = store.bytes_read();
        let found = checked(&repository).await;
        let read = store.bytes_read() - before;
        assert!(found.is_clean(), "{found:?}");
        assert!(
            (packs..packs + MIB).contains(&read),
            "{read} bytes were read of packs of {packs} bytes"
        );
        for report in reports(&found) {
            assert!(report.chunks >= 48, "{report:?}");
            assert!(report.packs >= 2, "{report:?}");
            assert_eq!(report.packs_read, report.packs);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_damage_in_a_pack_counts_once_and_every_backup_that_needs_it_is_told_what_it_loses() {
    let line = three(Ground::new().await).await;
    let first = &line.complete[0].name;
    let pack = line
        .packs_of(first)
        .into_iter()
        .max_by_key(|pack| pack.metadata().unwrap().len())
        .unwrap();
    let file = std::fs::File::options().write(true).open(&pack).unwrap();
    file.write_all_at(&[0xff; 64], 10 * MIB).unwrap();
    let found = checked(&line.ground.repository).await;
    assert_eq!(found.damaged, 1, "{found:?}");
    let id = pack.file_name().unwrap().to_str().unwrap();
    assert!(found.damage[0].object.ends_with(id), "{found:?}");
    for report in reports(&found) {
        assert_eq!(report.lost_files, ["data/t.ibd"], "{report:?}");
    }
}
