// SPDX-License-Identifier: Apache-2.0
//! A body as a rope of segments: what the host offers, what plugins hold, what goes on. Bytes are copied only when a plugin reads
//! or replaces them, or when borrowed ones must outlive the call that offered them.

use crate::abi::Status;
use bytes::Bytes;

/// A piece of a body that the host offers.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub(crate) bytes: Bytes,
    /// The bytes are the host's and valid for this call only.
    pub(crate) borrowed: bool,
}

impl Chunk {
    /// Bytes that the library may keep as long as it likes.
    pub fn owned(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), borrowed: false }
    }
}

/// A body, or a part of one.
#[derive(Default, Debug)]
pub(crate) struct Body {
    segments: Vec<Chunk>,
    len: usize,
}

impl Body {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        // No segment is empty, so the length tells of them, too. Most bodies are empty whenever they are cleared.
        if self.len != 0 {
            self.segments.clear();
            self.len = 0;
        }
    }

    pub(crate) fn push(&mut self, chunk: Chunk) {
        if !chunk.bytes.is_empty() {
            self.len += chunk.bytes.len();
            self.segments.push(chunk);
        }
    }

    /// Moves all of `other` to the end.
    pub(crate) fn append(&mut self, other: &mut Body) {
        self.len += other.len;
        other.len = 0;
        if self.segments.is_empty() {
            std::mem::swap(&mut self.segments, &mut other.segments);
        } else {
            self.segments.append(&mut other.segments);
        }
    }

    pub(crate) fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.segments.iter().map(|segment| &segment.bytes[..])
    }

    /// Copies borrowed segments, so that they outlive the call that lent them.
    pub(crate) fn own(&mut self) {
        for segment in self.segments.iter_mut().filter(|segment| segment.borrowed) {
            *segment = Chunk::owned(Bytes::copy_from_slice(&segment.bytes));
        }
    }

    /// Copies `out.len()` bytes from `start` on. The range is inside, the caller has seen to it.
    pub(crate) fn copy_to(&self, start: usize, out: &mut [u8]) {
        let (mut skip, mut at) = (start, 0);
        for segment in &self.segments {
            if at == out.len() {
                break;
            }
            if skip >= segment.bytes.len() {
                skip -= segment.bytes.len();
                continue;
            }
            let piece = &segment.bytes[skip..];
            let count = piece.len().min(out.len() - at);
            out[at..at + count].copy_from_slice(&piece[..count]);
            at += count;
            skip = 0;
        }
    }

    /// `proxy_set_buffer_bytes` as Envoy does it: at 0 the first `size` bytes are replaced, at the end is appended, between the
    /// two is refused.
    pub(crate) fn set(&mut self, start: usize, size: usize, value: &[u8]) -> Result<(), Status> {
        if start == 0 {
            self.drain(size);
            self.len += value.len();
            if !value.is_empty() {
                self.segments.insert(0, Chunk::owned(Bytes::copy_from_slice(value)));
            }
            Ok(())
        } else if start >= self.len {
            self.push(Chunk::owned(Bytes::copy_from_slice(value)));
            Ok(())
        } else {
            Err(Status::BadArgument)
        }
    }

    fn drain(&mut self, size: usize) {
        if size >= self.len {
            return self.clear();
        }
        self.len -= size;
        let mut left = size;
        let whole = self.segments.iter().take_while(|segment| {
            let fits = segment.bytes.len() <= left;
            left -= if fits { segment.bytes.len() } else { 0 };
            fits
        });
        let whole = whole.count();
        self.segments.drain(..whole);
        if left > 0 {
            if let Some(first) = self.segments.first_mut() {
                first.bytes = first.bytes.slice(left..);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(parts: &[&'static str]) -> Body {
        let mut body = Body::new();
        for part in parts {
            body.push(Chunk::owned(part.as_bytes()));
        }
        body
    }

    fn text(body: &Body) -> String {
        let mut out = vec![0; body.len()];
        body.copy_to(0, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn reads_across_segments() {
        let body = body(&["hel", "", "lo w", "orld"]);
        let mut out = [0; 5];
        body.copy_to(2, &mut out);
        assert_eq!((&out[..], body.len()), (&b"llo w"[..], 11));
    }

    #[test]
    fn set_prepends_replaces_appends_and_refuses() {
        let cases: [(usize, usize, &str, Result<&str, Status>); 7] = [
            (0, 0, ">", Ok(">abcdef")),
            (0, 2, ">", Ok(">cdef")),
            (0, 4, "", Ok("ef")),
            (0, 100, "x", Ok("x")),
            (6, 0, "<", Ok("abcdef<")),
            (99, 7, "<", Ok("abcdef<")),
            (3, 1, "?", Err(Status::BadArgument)),
        ];
        for (start, size, value, expected) in cases {
            let mut body = body(&["abc", "def"]);
            let result = body.set(start, size, value.as_bytes());
            assert_eq!(result.map(|()| text(&body)), expected.map(str::to_owned), "at {start} size {size}");
            assert!(expected.is_err() || body.len() == text(&body).len());
        }
    }
}
