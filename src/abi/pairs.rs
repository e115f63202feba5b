// SPDX-License-Identifier: Apache-2.0
//! The serialized form of header maps: count, lengths, then name NUL value NUL for each, all numbers little endian.

use super::Status;

/// Most pairs of a map that a guest may pass.
pub const MAX_PAIRS: usize = 1024;
/// Most bytes of a map that a guest may pass.
pub const MAX_BYTES: usize = 1 << 20;

/// A list of name and value bytes that owns them, in two buffers that are used again.
#[derive(Default, Clone, Debug)]
pub struct PairList {
    bytes: Vec<u8>,
    lengths: Vec<(u32, u32)>,
}

impl PairList {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Drops all pairs, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.lengths.clear();
    }

    /// Appends a pair.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        self.bytes.extend_from_slice(value);
        self.bytes.push(0);
        self.lengths.push((name.len() as u32, value.len() as u32));
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Sum of the lengths of names and values.
    pub fn byte_size(&self) -> usize {
        self.bytes.len() - 2 * self.lengths.len()
    }

    /// The pairs in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut at = 0;
        self.lengths.iter().map(move |&(name, value)| {
            let name_end = at + name as usize;
            let value_start = name_end + 1;
            let value_end = value_start + value as usize;
            let pair = (&self.bytes[at..name_end], &self.bytes[value_start..value_end]);
            at = value_end + 1;
            pair
        })
    }

    /// First value with this name, which is lower case; names are compared without regard to case.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Length of the serialized form; 0 for an empty list, which the ABI passes as no bytes at all.
    pub fn encoded_len(&self) -> usize {
        if self.is_empty() {
            0
        } else {
            4 + 8 * self.lengths.len() + self.bytes.len()
        }
    }

    /// Writes the serialized form into `out`, which is `encoded_len` bytes long.
    pub fn encode(&self, out: &mut [u8]) {
        if out.is_empty() {
            return;
        }
        let (head, rest) = out.split_at_mut(4);
        head.copy_from_slice(&(self.lengths.len() as u32).to_le_bytes());
        let (table, bytes) = rest.split_at_mut(8 * self.lengths.len());
        for (slot, (name, value)) in table.chunks_exact_mut(8).zip(&self.lengths) {
            slot[..4].copy_from_slice(&name.to_le_bytes());
            slot[4..].copy_from_slice(&value.to_le_bytes());
        }
        bytes.copy_from_slice(&self.bytes);
    }
}

/// A serialized map inside guest memory, checked once, read without copying.
#[derive(Clone, Copy, Debug)]
pub struct Pairs<'a> {
    table: &'a [u8],
    bytes: &'a [u8],
}

impl<'a> Pairs<'a> {
    /// Checks a serialized map. No bytes, a single zero byte and a count of 0 are all the empty map, as SDKs send each of them.
    pub fn decode(raw: &'a [u8]) -> Result<Self, Status> {
        const EMPTY: Pairs<'static> = Pairs { table: &[], bytes: &[] };
        if raw.is_empty() || raw == [0] {
            return Ok(EMPTY);
        }
        let bad = Status::BadArgument;
        if raw.len() > MAX_BYTES {
            return Err(bad);
        }
        let (head, rest) = raw.split_first_chunk::<4>().ok_or(bad)?;
        let count = u32::from_le_bytes(*head) as usize;
        if count > MAX_PAIRS {
            return Err(bad);
        }
        let (table, bytes) = rest.split_at_checked(8 * count).ok_or(bad)?;
        let pairs = Self { table, bytes };
        let mut at = 0usize;
        for (name, value) in pairs.lengths() {
            for length in [name, value] {
                at = at.checked_add(length).ok_or(bad)?;
                if bytes.get(at) != Some(&0) {
                    return Err(bad);
                }
                at += 1;
            }
        }
        if at == bytes.len() {
            Ok(pairs)
        } else {
            Err(bad)
        }
    }

    fn lengths(&self) -> impl Iterator<Item = (usize, usize)> + 'a {
        self.table.chunks_exact(8).map(|slot| {
            let number = |at: usize| u32::from_le_bytes([slot[at], slot[at + 1], slot[at + 2], slot[at + 3]]) as usize;
            (number(0), number(4))
        })
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.table.len() / 8
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The pairs in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let bytes = self.bytes;
        let mut at = 0;
        self.lengths().map(move |(name, value)| {
            let name_end = at + name;
            let value_start = name_end + 1;
            let value_end = value_start + value;
            let pair = (&bytes[at..name_end], &bytes[value_start..value_end]);
            at = value_end + 1;
            pair
        })
    }

    /// First value with this name, compared without regard to case.
    pub fn get(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Makes `list` a copy that owns its bytes, names in lower case.
    pub fn copy_to(&self, list: &mut PairList) {
        list.clear();
        for (name, value) in self.iter() {
            let start = list.bytes.len();
            list.push(name, value);
            list.bytes[start..start + name.len()].make_ascii_lowercase();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn encoded(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut list = PairList::new();
        for (name, value) in pairs {
            list.push(name.as_bytes(), value.as_bytes());
        }
        let mut out = vec![0; list.encoded_len()];
        list.encode(&mut out);
        out
    }

    #[test]
    fn round_trip() {
        let raw = encoded(&[("a", "1"), ("a", "2"), ("empty", "")]);
        let pairs = Pairs::decode(&raw).unwrap();
        let seen: Vec<_> = pairs.iter().collect();
        assert_eq!(seen, [(&b"a"[..], &b"1"[..]), (b"a", b"2"), (b"empty", b"")]);
        assert_eq!(pairs.get(b"A"), Some(&b"1"[..]));
        let mut copy = PairList::new();
        pairs.copy_to(&mut copy);
        assert_eq!(copy.byte_size(), 1 + 1 + 1 + 1 + 5);
    }

    #[test]
    fn known_bytes() {
        assert_eq!(encoded(&[("k", "vv")]), b"\x01\0\0\0\x01\0\0\0\x02\0\0\0k\0vv\0");
    }

    #[test]
    fn every_form_of_empty() {
        for raw in [&b""[..], b"\0", b"\0\0\0\0"] {
            assert!(Pairs::decode(raw).unwrap().is_empty());
        }
        assert_eq!(encoded(&[]), b"");
    }

    #[test]
    fn malformed_is_bad_argument() {
        let good = encoded(&[("name", "value"), ("x", "y")]);
        for cut in 2..good.len() {
            assert_eq!(Pairs::decode(&good[..cut]).unwrap_err(), Status::BadArgument, "cut at {cut}");
        }
        let mut trailing = good.clone();
        trailing.push(0);
        assert!(Pairs::decode(&trailing).is_err());
        let mut no_nul = good.clone();
        *no_nul.last_mut().unwrap() = 1;
        assert!(Pairs::decode(&no_nul).is_err());
        assert!(Pairs::decode(b"\xff\xff\xff\xff").is_err());
        assert!(Pairs::decode(b"\x01\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0").is_err());
    }
}
