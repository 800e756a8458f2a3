//! A reader written from `FORMAT.md` alone, with nothing of this module: when it fails, the format
//! has changed.

use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::{Aead, Payload, array::Array},
};

use super::*;

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// Opens the sealed piece, with its tag, at `range` of an object.
fn open(
    data_key: &[u8],
    object: &[u8],
    place: u64,
    range: std::ops::Range<usize>,
    also: &[u8],
) -> Vec<u8> {
    let mut derive =
        blake3::Hasher::new_derive_key("seawall repository format 2: key of one object");
    derive.update(data_key);
    derive.update(&object[..64]);
    let mut nonce = place.to_le_bytes().to_vec();
    nonce.extend([0; 4]);
    let mut covered = object[..64].to_vec();
    covered.extend(place.to_le_bytes());
    covered.extend(also);
    Aes256Gcm::new(&Array(*derive.finalize().as_bytes()))
        .decrypt(
            &Array::try_from(&nonce[..]).unwrap(),
            Payload {
                msg: &object[range],
                aad: &covered,
            },
        )
        .unwrap()
}

fn data_key(ground: &Ground) -> Vec<u8> {
    let text = std::fs::read_to_string(ground.path("identity.txt")).unwrap();
    let identity: age::x25519::Identity = text.lines().last().unwrap().parse().unwrap();
    let file = &files_in(&ground.objects("packs").join("keys"))[0];
    let wrapped = age::decrypt(&identity, &std::fs::read(file).unwrap()).unwrap();
    assert_eq!((wrapped.len(), &wrapped[..8]), (72, &b"SWLLKEY1"[..]));
    let session = file.file_name().unwrap().to_str().unwrap();
    let id = uuid::Uuid::from_slice(&wrapped[24..40]).unwrap();
    assert!(session.starts_with(&id.simple().to_string()));
    wrapped[40..].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_written_from_the_description_reads_what_was_written() {
    let ground = Ground::encrypted().await;
    std::fs::write(ground.data().join("t.frm"), b"one small table").unwrap();
    ground.back_up().await;
    let key = data_key(&ground);

    let pack_file = &ground.packs()[0];
    let pack = std::fs::read(pack_file).unwrap();
    assert_eq!(
        (&pack[..8], pack[8], pack[9], pack[10]),
        (&b"SEAWALL1"[..], 2, 1, 1)
    );
    let trailer = pack.len() - 24;
    assert_eq!(&pack[trailer + 16..], b"SWALLEND");
    let (index_at, index_bytes) = (u32_at(&pack, trailer), u32_at(&pack, trailer + 4));
    assert_eq!(
        (u32_at(&pack, trailer + 8), u32_at(&pack, trailer + 12)),
        (1, 0)
    );
    assert_eq!(index_at + index_bytes, trailer);
    let index = open(&key, &pack, 1, index_at..trailer, &[]);
    let (body_hash, index) = index.split_at(32);
    assert_eq!(blake3::hash(&pack[..index_at]).as_bytes()[..], *body_hash);
    let (offset, stored) = (u32_at(index, 32), u32_at(index, 36));
    assert_eq!(
        (index.len(), offset, u32_at(index, 40), index[44]),
        (45, 64, 15, 0)
    );
    let chunk = open(&key, &pack, 0, offset..offset + stored + 16, &[]);
    assert_eq!(chunk, b"one small table");
    assert_eq!(blake3::hash(&chunk).as_bytes()[..], index[..32]);

    let backup = ground.objects("backups");
    let list = std::fs::read(backup.join("parts/000000")).unwrap();
    let records = open(&key, &list, 0, 64..list.len(), &[]);
    let mut expected = vec![2, 0, 0, 5, 0];
    expected.extend(b"t.frm");
    assert!(records.starts_with(&expected));
    let chunks = expected.len() + 24 + 8;
    assert_eq!((records[chunks], u32_at(&records, chunks + 1)), (5, 1));
    assert_eq!(records[chunks + 5..chunks + 37], index[..32]);
    let end = chunks + 5 + 49;
    assert_eq!((records[end], records.len()), (6, end + 33));
    assert_eq!(
        records[end + 1..],
        blake3::hash(&index[..32]).as_bytes()[..]
    );

    let packs = std::fs::read(backup.join("parts/000001")).unwrap();
    let (payload, tag) = packs[64..].split_at(packs.len() - 64 - 16);
    let mut tagged = packs[..64].to_vec();
    tagged.extend(1_u64.to_le_bytes());
    tagged.extend(payload);
    assert_eq!(blake3::hash(&tagged).as_bytes()[..16], *tag);
    let entry = payload.len() - 54;
    assert_eq!(payload[entry + 2..entry + 18], pack[48..64]);
    assert_eq!(u32_at(payload, entry + 18), pack.len());
    let hash = blake3::hash(&[body_hash, &pack[index_at..]].concat());
    assert_eq!(payload[entry + 22..], hash.as_bytes()[..]);

    let manifest = std::fs::read(backup.join("manifest")).unwrap();
    let header_end = 68 + u32_at(&manifest, 64);
    let header_hash = &manifest[header_end..header_end + 32];
    assert_eq!(
        blake3::hash(&manifest[68..header_end]).as_bytes()[..],
        *header_hash
    );
    let body_at = header_end + 36;
    let body_end = body_at + u32_at(&manifest, header_end + 32);
    assert_eq!(manifest.len(), body_end + 100);
    let body = open(&key, &manifest, 0, body_at..body_end, header_hash);
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["roots"][0]["name"], "data");
    assert!(body["roots"][0]["attributes"]["mode"].is_u64());
}
