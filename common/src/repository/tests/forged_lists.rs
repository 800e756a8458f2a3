//! A list that fits its manifest and its seal, and names chunks that its packs lack: by a writer that
//! is broken, or that lies. Neither a verification nor a restore believes it.

use uuid::Uuid;

use super::super::{
    compress::Encoding,
    keys::DataKey,
    list::{FileHasher, Record, Records},
    manifest::{decode_header, encode_manifest, get_part, load_key, open_body},
    object::{ObjectKind, Prefix},
    pack::StoredChunk,
    seal::Sealer,
};
use super::*;

/// Two files of two chunks each, all in one pack.
async fn backed_up(encrypted: bool) -> Ground {
    let ground = match encrypted {
        true => Ground::encrypted().await,
        false => Ground::new().await,
    };
    for (file, bytes) in [("a.ibd", 1_100_000), ("b.ibd", 1_200_000)] {
        std::fs::write(ground.data().join(file), noise(bytes)).unwrap();
    }
    ground.back_up().await;
    ground
}

/// Puts list and manifest anew, with the first chunk of the first file as `lie` leaves it.
async fn forge(ground: &Ground, lie: Lie) {
    let repository = &ground.repository;
    let manifest = ground.objects("backups").join("manifest");
    let object = std::fs::read(&manifest).unwrap();
    let decoded = decode_header(&object, repository.uuid(), &shard(), &name(0));
    let (prefix, mut header, sealed) = decoded.unwrap();
    let key = match prefix.encrypted {
        true => Some(load_key(repository, &shard(), &name(0), prefix.session).await),
        false => None,
    };
    let key = key.map(|key| key.unwrap());
    let body = open_body(&prefix, key.as_ref(), sealed).unwrap().unwrap();
    let session = (prefix.session, key.clone());
    let part = header.lists[0].clone();
    let payload = get_part(repository, &header, &part, ObjectKind::List, session).await;
    let list = with_first_chunk(&payload.unwrap(), lie);

    let (list_prefix, sealer) = anew(&prefix, ObjectKind::List, key.as_ref());
    let mut object = list_prefix.encode().to_vec();
    let start = object.len();
    object.extend_from_slice(&list);
    let tag = sealer.seal(u64::from(part.number), &[], &mut object[start..]);
    object.extend_from_slice(&tag.unwrap());
    header.lists[0].bytes = object.len() as u64;
    header.lists[0].hash = blake3::hash(&object).to_hex().to_string();
    let parts = files_in(&ground.objects("backups").join("parts"));
    std::fs::write(&parts[part.number as usize], object).unwrap();

    let (prefix, sealer) = anew(&prefix, ObjectKind::Manifest, key.as_ref());
    let object = encode_manifest(&prefix, &sealer, &header, &body, None).unwrap();
    std::fs::write(&manifest, object).unwrap();
}

/// Of the same session.
fn anew(prefix: &Prefix, kind: ObjectKind, key: Option<&DataKey>) -> (Prefix, Sealer) {
    let prefix = Prefix {
        kind,
        id: Uuid::new_v4(),
        ..*prefix
    };
    let sealer = Sealer::new(&prefix, key).unwrap();
    (prefix, sealer)
}

/// The list with one chunk altered, and the hash of its file fitting again.
fn with_first_chunk(payload: &[u8], lie: Lie) -> Vec<u8> {
    let mut list = Vec::new();
    let mut hasher = FileHasher::default();
    let mut is_first = true;
    for record in Records::new(payload) {
        let mut record = record.unwrap();
        match &mut record {
            Record::Chunks(chunks) => {
                if std::mem::take(&mut is_first) {
                    let next = chunks[1];
                    lie(&mut chunks[0], &next);
                }
                chunks.iter().for_each(|chunk| hasher.add(&chunk.id));
            }
            Record::EndOfFile { hash } => *hash = std::mem::take(&mut hasher).hash(),
            _ => {}
        }
        record.encode(&mut list);
    }
    list
}

/// Alters a chunk; it is given the next one as well.
type Lie = fn(&mut StoredChunk, &StoredChunk);

const LIES: [(&str, Lie); 6] = [
    ("another id", |chunk, _| chunk.id[0] ^= 1),
    ("the id of another chunk", |chunk, next| chunk.id = next.id),
    ("a place that is not there", |chunk, _| chunk.place += 1000),
    ("another place", |chunk, next| chunk.place = next.place),
    ("another offset", |chunk, _| chunk.offset += 1),
    ("another encoding", |chunk, _| {
        (chunk.encoding, chunk.stored_bytes) = (Encoding::Zstd, chunk.stored_bytes - 1);
    }),
];

#[tokio::test(flavor = "multi_thread")]
async fn i8_a_forged_list_that_names_what_its_pack_lacks_is_noticed_by_verify_and_by_restore() {
    for encrypted in [false, true] {
        for (what, lie) in LIES {
            let ground = backed_up(encrypted).await;
            forge(&ground, lie).await;
            let report = verify(
                &ground.repository,
                &shard(),
                &name(0),
                None,
                &VerifyOptions::full(2),
                &Progress::new(),
                &CancellationToken::new(),
            )
            .await
            .unwrap();
            let named = report.damage.iter().any(|damage| {
                damage.object.contains("/parts/") && damage.what.contains("does not hold")
            });
            assert!(named, "{what}: {}", report.summary());
            assert_eq!(report.lost_files, ["data/a.ibd"], "{what}");

            let error = ground.restore().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
            assert!(error.message().contains("/packs/"), "{what}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_anew_and_tells_no_lie_is_believed() {
    for encrypted in [false, true] {
        let ground = backed_up(encrypted).await;
        forge(&ground, |_, _| {}).await;
        let target = ground.restore().await.unwrap();
        assert_eq!(
            std::fs::read(target.join("a.ibd")).unwrap(),
            noise(1_100_000)
        );
    }
}
