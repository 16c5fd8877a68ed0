//! Lines of bounded length.

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};
use zeroize::{Zeroize as _, Zeroizing};

/// What the next line is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A whole line is in the buffer, without its end.
    Line,
    /// There is nothing more. What was begun and not ended is gone.
    End,
    /// It is longer than the limit.
    TooLong,
}

/// Reads the next line into `line`, and never more than `most` bytes of it.
pub(crate) async fn next(
    from: &mut (impl AsyncBufRead + Unpin),
    line: &mut Zeroizing<Vec<u8>>,
    most: usize,
) -> std::io::Result<Next> {
    line.zeroize();
    loop {
        let part = from.fill_buf().await?;
        if part.is_empty() {
            return Ok(Next::End);
        }
        let end = part.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(part.len());
        if line.len() + taken > most {
            return Ok(Next::TooLong);
        }
        line.extend_from_slice(&part[..taken]);
        from.consume(end.map_or(taken, |end| end + 1));
        if end.is_some() {
            return Ok(Next::Line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_longer_than_the_limit_is_never_held() {
        let mut line = Zeroizing::new(Vec::new());
        let mut from: &[u8] = b"one\n\nfour\nfives\n";
        for (expected, text) in [(Next::Line, "one"), (Next::Line, ""), (Next::Line, "four"), (Next::TooLong, "")] {
            assert_eq!(next(&mut from, &mut line, 4).await.expect("memory can be read"), expected);
            assert_eq!(line.as_slice(), text.as_bytes());
        }
    }

    #[tokio::test]
    async fn a_line_that_breaks_off_is_no_line() {
        let mut line = Zeroizing::new(Vec::new());
        let mut from: &[u8] = b"{\"id\":1";
        assert_eq!(next(&mut from, &mut line, 100).await.expect("memory can be read"), Next::End);
    }
}
