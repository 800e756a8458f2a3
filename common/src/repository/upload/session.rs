//! One writing session: its id, its data key, and that key wrapped for each recipient.

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    ids::{BackupName, ShardId},
    repository::{
        header::Repository,
        keys::{DataKey, note_recipient},
        layout,
        object::{ObjectKind, Prefix},
        seal::Sealer,
    },
};

pub(super) struct Session {
    pub id: Uuid,
    repository: Uuid,
    /// `None`: not encrypted.
    key: Option<DataKey>,
}

impl Session {
    /// A new one, of which nothing is in the repository yet.
    pub fn new(repository: &Repository) -> Self {
        let key = repository.is_encrypting().then(DataKey::generate);
        Self::again(repository.uuid(), Uuid::new_v4(), key)
    }

    /// One that was begun before.
    pub fn again(repository: Uuid, id: Uuid, key: Option<DataKey>) -> Self {
        Self {
            id,
            repository,
            key,
        }
    }

    /// Puts the wrapped keys: they are in the repository before anything that they open.
    pub async fn begin(
        &self,
        repository: &Repository,
        shard: &ShardId,
        name: &BackupName,
    ) -> Result<()> {
        let Some(key) = &self.key else {
            return Ok(());
        };
        for recipient in repository.recipients().iter() {
            let wrapped = recipient.wrap(key, repository.uuid(), self.id)?;
            let object = layout::key(shard, name, self.id, &recipient.fingerprint);
            repository
                .store()
                .put_create(&object, Bytes::from(wrapped))
                .await?;
            note_recipient(repository, recipient).await?;
        }
        Ok(())
    }

    pub fn repository(&self) -> Uuid {
        self.repository
    }

    pub fn key(&self) -> Option<&DataKey> {
        self.key.as_ref()
    }

    pub fn is_encrypted(&self) -> bool {
        self.key.is_some()
    }

    /// The beginning and the sealer of a new object.
    pub fn object(&self, kind: ObjectKind) -> Result<(Prefix, Sealer)> {
        let prefix = Prefix {
            kind,
            encrypted: self.is_encrypted() && kind != ObjectKind::PackList,
            repository: self.repository,
            session: self.id,
            id: Uuid::new_v4(),
        };
        let sealer = Sealer::new(&prefix, self.key.as_ref())?;
        Ok((prefix, sealer))
    }

    /// A whole part: prefix, payload, tag.
    pub fn part(&self, kind: ObjectKind, number: u32, payload: &[u8]) -> Result<Vec<u8>> {
        let (prefix, sealer) = self.object(kind)?;
        let start = prefix.encode();
        let mut object = Vec::with_capacity(start.len() + payload.len() + 16);
        object.extend_from_slice(&start);
        object.extend_from_slice(payload);
        let tag = sealer.seal(u64::from(number), &[], &mut object[start.len()..])?;
        object.extend_from_slice(&tag);
        u32::try_from(object.len()).map_err(|_| Error::internal("a part is larger than 4 GiB"))?;
        Ok(object)
    }
}
