//! What a program prints, read to its end and kept up to a bound: a check command may print a line
//! for each of a million rows, and what it says first and last is what tells.

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Kept of the beginning, and as much of the end. Far more than any server prints of its settings.
const KEPT_BYTES: usize = 512 << 10;
const READ_BYTES: usize = 32 << 10;

/// Everything that `stream` gives; of more than two times [`KEPT_BYTES`] the middle is left out, and
/// a line says so.
pub(super) async fn read_bounded(stream: impl AsyncRead + Unpin) -> std::io::Result<String> {
    read_keeping(stream, KEPT_BYTES).await
}

async fn read_keeping(mut stream: impl AsyncRead + Unpin, kept: usize) -> std::io::Result<String> {
    let (mut first, mut last) = (Vec::new(), Vec::new());
    let mut left_out = 0_u64;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = match stream.read(&mut buffer).await? {
            0 => break,
            read => &buffer[..read],
        };
        let (head, rest) = read.split_at(read.len().min(kept - first.len()));
        first.extend_from_slice(head);
        last.extend_from_slice(rest);
        // Not at each read: moving the end forward costs as much as it is long.
        if last.len() >= kept * 2 {
            left_out += drop_first(&mut last, kept);
        }
    }
    left_out += drop_first(&mut last, kept);
    let (first, last) = (
        String::from_utf8_lossy(&first),
        String::from_utf8_lossy(&last),
    );
    Ok(match left_out {
        0 => format!("{first}{last}"),
        bytes => format!("{first}\n... {bytes} bytes left out ...\n{last}"),
    })
}

/// All but the last `kept` bytes; how many those were.
fn drop_first(bytes: &mut Vec<u8>, kept: usize) -> u64 {
    let surplus = bytes.len().saturating_sub(kept);
    bytes.drain(..surplus);
    surplus as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_much_the_beginning_and_the_end_are_kept_and_of_little_everything() {
        let kept = |text: &'static str| async { read_keeping(text.as_bytes(), 4).await.unwrap() };
        assert_eq!(kept("").await, "");
        assert_eq!(kept("12345678").await, "12345678");
        assert_eq!(
            kept("123456789").await,
            "1234\n... 1 bytes left out ...\n6789"
        );
    }

    #[tokio::test]
    async fn the_end_of_what_comes_in_many_pieces_is_its_end() {
        let lines: String = (0..100_000).map(|n| format!("line {n}\n")).collect();
        let text = read_keeping(lines.as_bytes(), 30_000).await.unwrap();
        assert!(text.len() < 61_000, "{}", text.len());
        assert!(text.starts_with("line 0\nline 1\n"));
        assert!(text.ends_with("line 99998\nline 99999\n"));
        let left_out = lines.len() - 60_000;
        assert!(text.contains(&format!("\n... {left_out} bytes left out ...\n")));
    }
}
