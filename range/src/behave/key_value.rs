//! The protocol of the key-value stores: `S key length\n` then the bytes, answered `+\n`; `G key\n`, answered `length\n` and the bytes.

use std::io;

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

/// Longest value, bytes.
pub(super) const MAX_VALUE: usize = 16 * 1024;
/// Longest command line, bytes.
const MAX_LINE: u64 = 256;

/// What a client wants.
#[derive(Debug, PartialEq)]
pub(super) enum Wish {
    Set(String, Vec<u8>),
    Get(String),
}

/// The next wish; `None` where the client closed.
pub(super) async fn wish(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Wish>> {
    let mut line = String::new();
    if (&mut *stream).take(MAX_LINE).read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some("S"), Some(key), Some(length)) => {
            let length = length.parse().ok().filter(|&length| length <= MAX_VALUE).ok_or(io::ErrorKind::InvalidData)?;
            let mut value = vec![0; length];
            stream.read_exact(&mut value).await?;
            Ok(Some(Wish::Set(key.to_owned(), value)))
        }
        (Some("G"), Some(key), None) => Ok(Some(Wish::Get(key.to_owned()))),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Answers a `Set`.
pub(super) async fn kept(stream: &mut BufReader<TcpStream>) -> io::Result<()> {
    stream.write_all(b"+\n").await
}

/// Answers a `Get`; a key that is not there is an empty value.
pub(super) async fn found(stream: &mut BufReader<TcpStream>, value: &[u8]) -> io::Result<()> {
    stream.write_all(&[format!("{}\n", value.len()).as_bytes(), value].concat()).await
}
