//! Compression both ways: ClickHouse's own blocks (`compress=1`, `decompress=1`) and HTTP's content encodings.

use std::io::{self, Read, Write};

use axum::http::HeaderMap;
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};

/// Of a block's head: 16 bytes of checksum, then what the checksum covers: method, size compressed, size plain.
const CHECKSUM: usize = 16;
const HEAD: usize = 9;
const METHOD_NONE: u8 = 0x02;
const METHOD_LZ4: u8 = 0x82;
const METHOD_ZSTD: u8 = 0x90;
/// A block that claims more than this, packed or plain, is refused before memory is taken for it.
const MAX_BLOCK_BYTES: usize = 64 << 20;
/// Plain bytes of the blocks that are written, as ClickHouse cuts them.
const BLOCK_BYTES: usize = 1 << 20;

/// An HTTP content encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Gzip,
    Zstd,
    /// The LZ4 frame format, which ClickHouse's clients call `lz4`.
    Lz4,
}

impl Encoding {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Gzip, Self::Zstd, Self::Lz4].into_iter().find(|encoding| encoding.name() == name)
    }

    /// The first encoding of `Accept-Encoding` that is known here; one with `q=0` is not accepted.
    pub(super) fn accepted(headers: &HeaderMap) -> Option<Self> {
        headers.get(ACCEPT_ENCODING)?.to_str().ok()?.split(',').find_map(|item| {
            let (name, quality) = item.split_once(';').unwrap_or((item, ""));
            let refused = matches!(quality.trim(), "q=0" | "q=0.0");
            Self::from_name(name.trim()).filter(|_| !refused)
        })
    }

    /// The body's `Content-Encoding`. `Err`: one that is not known here.
    pub(super) fn of_body(headers: &HeaderMap) -> Result<Option<Self>, String> {
        let Some(value) = headers.get(CONTENT_ENCODING) else { return Ok(None) };
        match value.to_str().map(str::trim) {
            Ok("" | "identity") => Ok(None),
            Ok(name) => Self::from_name(name)
                .map(Some)
                .ok_or_else(|| format!("Content-Encoding {name} is not known here: use gzip, zstd or lz4")),
            Err(_) => Err("Content-Encoding is not text".to_owned()),
        }
    }
}

/// How a body is packed: HTTP's encoding outside, ClickHouse's blocks inside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Packing {
    pub(super) blocks: bool,
    pub(super) encoding: Option<Encoding>,
}

/// Reads a body unpacked.
pub(super) fn reader<'r>(
    packing: Packing,
    body: impl Read + Send + 'r,
) -> io::Result<Box<dyn Read + Send + 'r>> {
    let decoded: Box<dyn Read + Send + 'r> = match packing.encoding {
        None => Box::new(body),
        Some(Encoding::Gzip) => Box::new(flate2::read::MultiGzDecoder::new(body)),
        Some(Encoding::Zstd) => Box::new(zstd::stream::read::Decoder::new(body)?),
        Some(Encoding::Lz4) => Box::new(lz4_flex::frame::FrameDecoder::new(body)),
    };
    Ok(if packing.blocks { Box::new(Blocks::new(decoded)) } else { decoded })
}

/// Unpacks ClickHouse's blocks, checksum checked.
struct Blocks<R> {
    inner: R,
    plain: Vec<u8>,
    at: usize,
}

impl<R: Read> Blocks<R> {
    fn new(inner: R) -> Self {
        Self { inner, plain: Vec::new(), at: 0 }
    }

    /// Reads the next block; `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let invalid = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
        let mut head = [0; CHECKSUM + HEAD];
        // The end of the body is only good between two blocks.
        let first = self.inner.read(&mut head)?;
        if first == 0 {
            return Ok(false);
        }
        self.inner.read_exact(&mut head[first..])?;
        let (checksum, rest) = head.split_at(CHECKSUM);
        let size = |at: usize| -> usize {
            let bytes = [rest[at], rest[at + 1], rest[at + 2], rest[at + 3]];
            usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX)
        };
        let (method, packed_size, plain_size) = (rest[0], size(1), size(5));
        if !(HEAD..=MAX_BLOCK_BYTES).contains(&packed_size) || plain_size > MAX_BLOCK_BYTES {
            return Err(invalid("a compressed block's size is out of bounds (at most 64 MiB)"));
        }
        let mut covered = vec![0; packed_size];
        covered[..HEAD].copy_from_slice(rest);
        self.inner.read_exact(&mut covered[HEAD..])?;
        if checksum_of(&covered) != checksum {
            return Err(invalid("a compressed block's checksum does not match"));
        }
        let packed = &covered[HEAD..];
        self.plain.resize(plain_size, 0);
        self.at = 0;
        let written = match method {
            METHOD_NONE if packed.len() == plain_size => {
                self.plain.copy_from_slice(packed);
                plain_size
            }
            METHOD_LZ4 => lz4_flex::block::decompress_into(packed, &mut self.plain)
                .map_err(|_| invalid("a compressed block is no valid LZ4"))?,
            METHOD_ZSTD => zstd::bulk::decompress_to_buffer(packed, &mut self.plain)?,
            _ => return Err(invalid("a compressed block's method is neither none, LZ4 nor ZSTD")),
        };
        if written != plain_size {
            return Err(invalid("a compressed block is shorter than it says"));
        }
        Ok(true)
    }
}

impl<R: Read> Read for Blocks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.plain.len() {
            if !self.fill()? {
                return Ok(0);
            }
        }
        let count = buffer.len().min(self.plain.len() - self.at);
        buffer[..count].copy_from_slice(&self.plain[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// CityHash 1.0.2 in the order of bytes that ClickHouse writes: low half first.
fn checksum_of(covered: &[u8]) -> [u8; CHECKSUM] {
    cityhash_rs::cityhash_102_128(covered).rotate_left(64).to_le_bytes()
}

/// Packs a response, piece by piece: what goes in comes out at once, so that a slow query's rows arrive as they come.
pub(super) struct Packer {
    blocks: bool,
    encoder: Encoder,
}

enum Encoder {
    Plain(Vec<u8>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Lz4(lz4_flex::frame::FrameEncoder<Vec<u8>>),
}

impl Packer {
    pub(super) fn new(packing: Packing) -> io::Result<Self> {
        let encoder = match packing.encoding {
            None => Encoder::Plain(Vec::new()),
            Some(Encoding::Gzip) => {
                Encoder::Gzip(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(3)))
            }
            Some(Encoding::Zstd) => Encoder::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 1)?),
            Some(Encoding::Lz4) => Encoder::Lz4(lz4_flex::frame::FrameEncoder::new(Vec::new())),
        };
        Ok(Self { blocks: packing.blocks, encoder })
    }

    /// `plain`, packed.
    pub(super) fn pack(&mut self, plain: &[u8]) -> io::Result<Vec<u8>> {
        if self.blocks {
            for piece in plain.chunks(BLOCK_BYTES) {
                let block = block(piece)?;
                self.encoder.write(&block)?;
            }
        } else {
            self.encoder.write(plain)?;
        }
        self.encoder.take()
    }

    /// What ends the packed body.
    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        match self.encoder {
            Encoder::Plain(buffer) => Ok(buffer),
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Zstd(encoder) => encoder.finish(),
            Encoder::Lz4(encoder) => encoder.finish().map_err(io::Error::from),
        }
    }
}

impl Encoder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(buffer) => buffer.write_all(bytes),
            Self::Gzip(encoder) => encoder.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
            Self::Lz4(encoder) => encoder.write_all(bytes),
        }
    }

    /// Flushes and takes what has come out.
    fn take(&mut self) -> io::Result<Vec<u8>> {
        Ok(std::mem::take(match self {
            Self::Plain(buffer) => buffer,
            Self::Gzip(encoder) => {
                encoder.flush()?;
                encoder.get_mut()
            }
            Self::Zstd(encoder) => {
                encoder.flush()?;
                encoder.get_mut()
            }
            Self::Lz4(encoder) => {
                encoder.flush()?;
                encoder.get_mut()
            }
        }))
    }
}

/// One LZ4 block of ClickHouse's.
fn block(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut block = vec![0; CHECKSUM + HEAD + lz4_flex::block::get_maximum_output_size(plain.len())];
    let packed =
        lz4_flex::block::compress_into(plain, &mut block[CHECKSUM + HEAD..]).map_err(io::Error::other)?;
    block.truncate(CHECKSUM + HEAD + packed);
    let size = |bytes: usize| u32::try_from(bytes).map(u32::to_le_bytes).map_err(io::Error::other);
    block[CHECKSUM] = METHOD_LZ4;
    block[CHECKSUM + 1..CHECKSUM + 5].copy_from_slice(&size(HEAD + packed)?);
    block[CHECKSUM + 5..CHECKSUM + HEAD].copy_from_slice(&size(plain.len())?);
    let checksum = checksum_of(&block[CHECKSUM..]);
    block[..CHECKSUM].copy_from_slice(&checksum);
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Option<Encoding>; 4] =
        [None, Some(Encoding::Gzip), Some(Encoding::Zstd), Some(Encoding::Lz4)];

    fn packed(packing: Packing, pieces: &[&[u8]]) -> Vec<u8> {
        let mut packer = Packer::new(packing).unwrap();
        let mut body: Vec<u8> = pieces.iter().flat_map(|piece| packer.pack(piece).unwrap()).collect();
        body.extend(packer.finish().unwrap());
        body
    }

    fn unpacked(packing: Packing, body: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        reader(packing, body)?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    #[test]
    fn what_is_packed_comes_back() {
        let long: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
        for encoding in ALL {
            for blocks in [false, true] {
                let packing = Packing { blocks, encoding };
                let body = packed(packing, &[b"one", &long, b"two"]);
                let plain = unpacked(packing, &body).unwrap();
                assert!(plain == [b"one".as_slice(), &long, b"two"].concat(), "{packing:?}");
            }
        }
    }

    #[test]
    fn a_piece_can_be_read_before_the_next_is_written() {
        for encoding in ALL {
            let packing = Packing { blocks: true, encoding };
            let mut packer = Packer::new(packing).unwrap();
            let body = packer.pack(b"first").unwrap();
            let mut plain = [0; 5];
            reader(packing, body.as_slice()).unwrap().read_exact(&mut plain).unwrap();
            assert_eq!(&plain, b"first", "{encoding:?}");
        }
    }

    #[test]
    fn a_broken_block_is_refused() {
        let packing = Packing { blocks: true, encoding: None };
        let good = packed(packing, &[b"some bytes, some bytes, some bytes"]);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(unpacked(packing, &bad).is_err(), "byte {at}");
            assert!(at == 0 || unpacked(packing, &good[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn the_first_known_encoding_is_taken() {
        let check = |accept: &'static str, expected: Option<Encoding>| {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, accept.parse().unwrap())]);
            assert_eq!(Encoding::accepted(&headers), expected, "{accept}");
        };
        check("br, gzip;q=0.8, zstd", Some(Encoding::Gzip));
        check("lz4", Some(Encoding::Lz4));
        check("gzip;q=0, zstd", Some(Encoding::Zstd));
        check("identity", None);
    }
}
