//! The database that is backed up: what lies in it, and what changes between two backups.

use anyhow::Result;
use seawall_tests::harness::mariadb::Server;

const TEXT_ROWS: u32 = 250_000;
const RANDOM_ROWS: u32 = 120_000;
/// Rows of a `random` table that lie on one page of 16 KiB, about.
const ROWS_ON_A_PAGE: u32 = 56;

/// Tables of which one half compresses well and the other not at all; how many of each.
pub async fn fill(primary: &Server, mib: u64) -> Result<u32> {
    primary.execute(&["CREATE DATABASE bench"]).await?;
    let size = "SELECT CAST(COALESCE(SUM(data_length + index_length), 0) AS UNSIGNED) \
                FROM information_schema.tables WHERE table_schema = 'bench'";
    for table in 0.. {
        let text = format!(
            "CREATE TABLE bench.text_{table} (id INT PRIMARY KEY, a VARCHAR(200), b INT, KEY (b)) \
             AS SELECT seq AS id, CONCAT('customer ', seq, ' lives in street ', seq % 977, ' of city ', \
             seq % 89, ' and pays by invoice number ', seq * 31) AS a, seq % 1000 AS b \
             FROM seq_1_to_{TEXT_ROWS}"
        );
        let random = format!(
            "CREATE TABLE bench.random_{table} (id INT PRIMARY KEY, a VARBINARY(1000)) \
             AS SELECT seq AS id, UNHEX(CONCAT(SHA2(seq + {table} * 1e7, 512), SHA2(-seq - {table} * 1e7, 512), \
             SHA2(RAND(), 512), SHA2(RAND(), 512))) AS a FROM seq_1_to_{RANDOM_ROWS}"
        );
        primary.execute(&["USE bench", &text, &random]).await?;
        primary
            .execute(&[&format!(
                "ANALYZE TABLE bench.text_{table}, bench.random_{table}"
            )])
            .await?;
        let bytes: u64 = primary.value(size).await?;
        if bytes >= mib << 20 {
            return Ok(table + 1);
        }
    }
    Ok(0)
}

/// Writes to about one page in a hundred of the `random` tables, spread evenly.
pub async fn change_one_page_in_a_hundred(
    primary: &Server,
    tables: u32,
    round: usize,
) -> Result<()> {
    let step = ROWS_ON_A_PAGE * 100;
    for table in 0..tables {
        // Every table from another row on, and every round from another.
        let first = (u32::try_from(round)? * 997 + table * 131) % step;
        primary
            .execute(&[&format!(
                "UPDATE bench.random_{table} SET a = UNHEX(CONCAT(SHA2(RAND(), 512), SHA2(RAND(), 512), \
                 SHA2(RAND(), 512), SHA2(RAND(), 512))) WHERE id % {step} = {first}"
            )])
            .await?;
    }
    Ok(())
}
