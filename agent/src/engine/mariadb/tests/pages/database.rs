//! A server with tables of every kind.

use std::{fs, process::Command, sync::Arc};

use seawall_common::repository::PageCheck;

use super::files::{DataFile, Layout};
use crate::engine::{Engine, mariadb::tests::harness::Server};

/// 16 bytes in hexadecimal.
const KEYS: &str = "1;0123456789abcdef0123456789abcdef\n";

pub struct Database {
    server: Server,
    page_bytes: usize,
}

impl Database {
    pub async fn start(page_bytes: usize, more: &[&str]) -> Self {
        let mut layout = vec![
            format!("--innodb-page-size={page_bytes}"),
            "--innodb-undo-tablespaces=3".to_owned(),
            "--innodb-data-file-path=ibdata1:12M;ibdata2:4M;ibdata3:3M:autoextend".to_owned(),
        ];
        layout.extend(more.iter().map(|option| (*option).to_owned()));
        let mut server = Server::laid_out(1, &layout);
        let keys = server.path("keys");
        fs::write(&keys, KEYS).unwrap();
        server.settings.start_command.extend([
            "--plugin-load-add=file_key_management".to_owned(),
            format!("--file-key-management-filename={}", keys.display()),
        ]);
        server.reopen();
        server.engine.start().await.unwrap();
        server.engine.open_for_writes().await.unwrap();
        Self { server, page_bytes }
    }

    pub fn fill(&self) {
        let server = &self.server;
        server.sql("CREATE DATABASE shop");
        for (name, options) in self.tables() {
            server.sql(&format!(
                "USE shop; \
                 CREATE TABLE {name} (id INT PRIMARY KEY, a CHAR(40) NOT NULL, b BLOB, c TEXT, KEY (a)) {options}; \
                 INSERT INTO {name} SELECT seq, SHA1(seq), \
                     IF(seq % 100, NULL, REPEAT(SHA1(seq), 700)), REPEAT(CHAR(97 + seq % 26), 50) \
                     FROM seq_1_to_3000; \
                 DELETE FROM {name} WHERE id % 7 = 0; \
                 UPDATE {name} SET a = SHA1(a) WHERE id % 5 = 0"
            ));
        }
        server.sql(
            "USE shop; \
             SET GLOBAL innodb_checksum_algorithm = crc32; \
             CREATE TABLE older LIKE dynamic; INSERT INTO older SELECT * FROM dynamic; \
             CREATE TABLE older_encrypted LIKE encrypted; INSERT INTO older_encrypted SELECT * FROM dynamic; \
             CREATE TABLE older_compressed LIKE compressed; INSERT INTO older_compressed SELECT * FROM dynamic; \
             CREATE TABLE older_both LIKE both_of_them; INSERT INTO older_both SELECT * FROM dynamic; \
             CREATE TABLE older_places (id INT PRIMARY KEY, p POINT NOT NULL, SPATIAL KEY (p)); \
             INSERT INTO older_places SELECT seq, POINT(seq % 100, seq / 100) FROM seq_1_to_3000; \
             SET GLOBAL innodb_checksum_algorithm = DEFAULT; \
             CREATE TABLE places LIKE older_places; INSERT INTO places SELECT * FROM older_places; \
             CREATE TABLE words (id INT PRIMARY KEY, t TEXT, FULLTEXT KEY (t)); \
             INSERT INTO words SELECT seq, CONCAT_WS(' ', SHA1(seq), MD5(seq), 'wind and weather') FROM seq_1_to_2000; \
             CREATE TABLE parts (id INT PRIMARY KEY, a CHAR(40)) PARTITION BY HASH (id) PARTITIONS 4; \
             INSERT INTO parts SELECT seq, SHA1(seq) FROM seq_1_to_4000; \
             ALTER TABLE dynamic ADD COLUMN later INT DEFAULT 7, ALGORITHM=INSTANT; \
             CREATE TABLE dropped LIKE dynamic; INSERT INTO dropped SELECT * FROM dynamic; DROP TABLE dropped; \
             CREATE TABLE truncated LIKE dynamic; INSERT INTO truncated SELECT * FROM dynamic; TRUNCATE truncated; \
             CREATE TABLE emptied LIKE dynamic; INSERT INTO emptied SELECT * FROM dynamic; DELETE FROM emptied; \
             CREATE TABLE rebuilt LIKE dynamic; INSERT INTO rebuilt SELECT * FROM dynamic; \
             DELETE FROM rebuilt WHERE id % 2; ALTER TABLE rebuilt FORCE; OPTIMIZE TABLE rebuilt; \
             CREATE TABLE unindexed LIKE dynamic; INSERT INTO unindexed SELECT * FROM dynamic; \
             ALTER TABLE unindexed DROP KEY a; \
             CREATE TABLE aria (a INT PRIMARY KEY) ENGINE=Aria; INSERT INTO aria SELECT seq FROM seq_1_to_1000; \
             CREATE TABLE myisam (a INT PRIMARY KEY) ENGINE=MyISAM; INSERT INTO myisam SELECT seq FROM seq_1_to_1000",
        );
        self.import();
    }

    fn tables(&self) -> Vec<(&'static str, &'static str)> {
        let mut tables = vec![
            ("dynamic", "ROW_FORMAT=DYNAMIC"),
            ("compact", "ROW_FORMAT=COMPACT"),
            ("redundant", "ROW_FORMAT=REDUNDANT"),
            ("compressed", "PAGE_COMPRESSED=1"),
            ("encrypted", "ENCRYPTED=YES"),
            ("both_of_them", "PAGE_COMPRESSED=1 ENCRYPTED=YES"),
        ];
        if self.page_bytes <= 16 << 10 {
            tables.extend([
                ("zip_1", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=1"),
                ("zip_2", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=2"),
                ("zip_4", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4"),
                (
                    "zip_encrypted",
                    "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4 ENCRYPTED=YES",
                ),
            ]);
        }
        if self.page_bytes == 16 << 10 {
            tables.extend([
                ("zip_8", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8"),
                ("zip_16", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=16"),
            ]);
        }
        tables
    }

    /// A tablespace of another table, with another number.
    fn import(&self) {
        let directory = self.server.data_dir().join("shop");
        self.server.sql(
            "USE shop; CREATE TABLE imported LIKE unindexed; ALTER TABLE imported DISCARD TABLESPACE",
        );
        let output = self.server.sql(&format!(
            "USE shop; FLUSH TABLES unindexed FOR EXPORT;\n\
             \\! cp {from}/unindexed.ibd {from}/imported.ibd\n\
             \\! cp {from}/unindexed.cfg {from}/imported.cfg\n\
             UNLOCK TABLES; ALTER TABLE imported IMPORT TABLESPACE; \
             SELECT COUNT(*) FROM imported",
            from = directory.display()
        ));
        assert_eq!(output, "2572");
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    pub async fn stop(&self) {
        self.server.engine.stop().await.unwrap();
    }

    pub async fn page_check(&self) -> Arc<dyn PageCheck> {
        self.server.engine.page_check().await.unwrap().unwrap()
    }

    /// All files, with what the test knows of them by their names.
    pub fn files(&self) -> Vec<DataFile> {
        let data = self.server.data_dir();
        walkdir::WalkDir::new(&data)
            .into_iter()
            .map(Result::unwrap)
            .filter(|entry| entry.file_type().is_file() && entry.metadata().unwrap().len() > 0)
            .map(|entry| {
                let name = entry.path().strip_prefix(&data).unwrap();
                self.file(name.to_str().unwrap())
            })
            .collect()
    }

    pub fn file(&self, name: &str) -> DataFile {
        let bytes = fs::read(self.server.data_dir().join(name)).unwrap();
        let is_old = bytes.len() > 57 && bytes[57] & 0x10 == 0;
        let zip = name
            .strip_prefix("shop/zip_")
            .and_then(|rest| rest.strip_suffix(".ibd"))
            .map(|kib| kib.parse().unwrap_or(4));
        let system = name.strip_prefix("ibdata");
        let first = match system {
            Some("2") => 12 << 20,
            Some("3") => 16 << 20,
            _ => 0,
        } / self.page_bytes as u64;
        let extent = ((1 << 20) / self.page_bytes).max(64) as u64;
        let mut passed_over = Vec::new();
        if system.is_some() {
            passed_over.push(extent..3 * extent);
        }
        if system.is_none() && bytes.len() > 50 {
            let pages = u32::from_be_bytes(bytes[46..50].try_into().unwrap());
            passed_over.push(u64::from(pages)..u64::MAX);
        }
        DataFile {
            name: name.to_owned(),
            bytes: Arc::new(bytes),
            page_bytes: zip.map_or(self.page_bytes, |kib: usize| kib << 10),
            layout: match zip {
                Some(_) => Layout::Zip,
                None if is_old => Layout::Ranges,
                None => Layout::Full,
            },
            first,
            extent: (first == 0).then_some(extent),
            passed_over,
        }
    }

    /// Pages that `innochecksum` finds damaged.
    pub fn innochecksum(&self, file: &DataFile) -> Vec<u64> {
        let path = self.server.path("shown");
        fs::write(&path, &*file.bytes).unwrap();
        let output = Command::new("innochecksum")
            .arg("--allow-mismatches=1000000")
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr)
            .unwrap()
            .lines()
            .map(|line| {
                let page = line.strip_prefix("Fail: page::").unwrap();
                page.strip_suffix(" invalid").unwrap().parse().unwrap()
            })
            .collect()
    }
}
