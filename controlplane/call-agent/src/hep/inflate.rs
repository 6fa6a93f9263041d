//! Compressed payloads: zlib (RFC 1950), gzip (RFC 1952) or bare deflate (RFC 1951).

use miniz_oxide::inflate::{decompress_to_vec_with_limit, decompress_to_vec_zlib_with_limit};

/// Inflates to at most `limit` bytes.
pub(super) fn inflate(compressed: &[u8], limit: usize) -> Option<Vec<u8>> {
    if let [0x1f, 0x8b, 8, flags, ..] = compressed {
        let deflated = compressed.get(gzip_header(compressed, *flags)?..)?;
        return decompress_to_vec_with_limit(deflated, limit).ok();
    }
    decompress_to_vec_zlib_with_limit(compressed, limit)
        .or_else(|_| decompress_to_vec_with_limit(compressed, limit))
        .ok()
}

/// How long the header is (RFC 1952, section 2.3).
fn gzip_header(member: &[u8], flags: u8) -> Option<usize> {
    const HEADER_CRC: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    let mut at = 10;
    if flags & EXTRA != 0 {
        let length = member.get(at..at + 2)?;
        at += 2 + usize::from(u16::from_le_bytes(length.try_into().ok()?));
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            at += member.get(at..)?.iter().position(|&byte| byte == 0)? + 1;
        }
    }
    if flags & HEADER_CRC != 0 {
        at += 2;
    }
    Some(at)
}
