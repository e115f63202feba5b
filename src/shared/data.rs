// SPDX-License-Identifier: Apache-2.0
//! Shared data: a store of values by `vm_id` and key, with compare-and-swap.
//!
//! The whole `vm_id` and key are compared, never only a hash of them. The table is cut into shards with a lock each, so
//! that workers which use different keys rarely meet; a read takes one shared lock and allocates nothing but what `out`
//! lacks.

use std::collections::hash_map::RandomState;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::HashTable;
use parking_lot::{Mutex, RwLock};

use super::{joined, Budget};
use crate::abi::Status;

/// Bytes the store keeps at most: keys, values, and [`ENTRY_OVERHEAD`] for each entry.
pub const MAX_BYTES: usize = 64 << 20;
/// Length of a key at most.
pub const MAX_KEY_BYTES: usize = 64 << 10;
/// What an entry is charged besides its bytes: about what its table slot and its two heap blocks take. Without it a
/// guest could have the host keep any number of entries that are nearly empty.
pub const ENTRY_OVERHEAD: usize = 128;

/// A power of two, see `SharedData::shard`.
const SHARDS: usize = 16;

/// The store. Keys of guests with different `vm_id`s never meet.
pub struct SharedData {
    shards: [Shard; SHARDS],
    // Keys may come from requests, so the hash is a keyed one that a client cannot aim at.
    hasher: RandomState,
    users: Mutex<HashMap<Box<[u8]>, usize>>,
    last_cas: AtomicU32,
    budget: Budget,
}

// A cache line each: a lock that is taken on one shard must not slow down its neighbour.
#[repr(align(64))]
#[derive(Default)]
struct Shard(RwLock<HashTable<Entry>>);

struct Entry {
    hash: u64,
    // The vm_id and the key in one block; where the first ends decides which pair it is.
    name: Box<[u8]>,
    vm_id_len: usize,
    value: Box<[u8]>,
    cas: u32,
}

impl Entry {
    fn is_of(&self, vm_id: &[u8]) -> bool {
        self.vm_id_len == vm_id.len() && self.name.starts_with(vm_id)
    }

    fn is(&self, vm_id: &[u8], key: &[u8]) -> bool {
        self.vm_id_len == vm_id.len() && self.name.strip_prefix(vm_id) == Some(key)
    }

    fn cost(&self) -> usize {
        ENTRY_OVERHEAD + self.name.len() + self.value.len()
    }
}

impl Default for SharedData {
    fn default() -> Self {
        Self::new()
    }
}

impl SharedData {
    /// An empty store.
    pub fn new() -> Self {
        Self::with_limit(MAX_BYTES)
    }

    fn with_limit(bytes: usize) -> Self {
        Self {
            shards: Default::default(),
            hasher: RandomState::new(),
            users: Mutex::default(),
            last_cas: AtomicU32::new(0),
            budget: Budget::new(bytes),
        }
    }

    /// Copies the value into `out`, which is cleared first in any case, and returns its cas number.
    ///
    /// # Errors
    /// `NotFound` without such a key, `InternalFailure` without memory for the copy.
    pub fn get(&self, vm_id: &[u8], key: &[u8], out: &mut Vec<u8>) -> Result<u32, Status> {
        out.clear();
        let hash = self.hash(vm_id, key);
        let table = self.shard(hash).0.read();
        let entry = table.find(hash, |entry| entry.is(vm_id, key)).ok_or(Status::NotFound)?;
        out.try_reserve(entry.value.len()).map_err(|_| Status::InternalFailure)?;
        out.extend_from_slice(&entry.value);
        Ok(entry.cas)
    }

    /// Stores a copy of `value` under a new cas number: with `cas` 0, or when the key is new, unconditionally, else
    /// only if the value still has that cas number.
    ///
    /// Data of a `vm_id` that nobody has retained is kept until its next user is gone.
    ///
    /// # Errors
    /// `CasMismatch`; `InternalFailure` beyond [`MAX_KEY_BYTES`] or [`MAX_BYTES`]. The old value stays then.
    pub fn set(&self, vm_id: &[u8], key: &[u8], value: &[u8], cas: u32) -> Result<(), Status> {
        if key.len() > MAX_KEY_BYTES {
            return Err(Status::InternalFailure);
        }
        let hash = self.hash(vm_id, key);
        let mut table = self.shard(hash).0.write();
        if let Some(entry) = table.find_mut(hash, |entry| entry.is(vm_id, key)) {
            if cas != 0 && cas != entry.cas {
                return Err(Status::CasMismatch);
            }
            self.replace(&mut entry.value, value)?;
            entry.cas = self.next_cas();
            return Ok(());
        }
        let mut entry =
            Entry { hash, name: joined(&[vm_id, key])?, vm_id_len: vm_id.len(), value: joined(&[value])?, cas: 0 };
        table.try_reserve(1, |entry| entry.hash).map_err(|_| Status::InternalFailure)?;
        self.budget.take(entry.cost())?;
        entry.cas = self.next_cas();
        table.insert_unique(hash, entry, |entry| entry.hash);
        Ok(())
    }

    /// Counts one more user of the `vm_id`.
    pub fn retain(&self, vm_id: &[u8]) {
        let mut users = self.users.lock();
        if let Some(count) = users.get_mut(vm_id) {
            *count += 1;
        } else {
            users.insert(vm_id.into(), 1);
        }
    }

    /// Counts one user less; when it was the last, drops the data of the `vm_id`. Without a user nothing happens.
    pub fn release(&self, vm_id: &[u8]) {
        // Locked to the end: who retains the vm_id anew meanwhile must not lose what it then stores.
        let mut users = self.users.lock();
        match users.get_mut(vm_id) {
            None => return,
            Some(count) if *count > 1 => {
                *count -= 1;
                return;
            }
            Some(_) => users.remove(vm_id),
        };
        for shard in &self.shards {
            let mut table = shard.0.write();
            table.retain(|entry| {
                let keep = !entry.is_of(vm_id);
                if !keep {
                    self.budget.give(entry.cost());
                }
                keep
            });
            // The slots would otherwise outlive the entries they were charged with.
            table.shrink_to_fit(|entry| entry.hash);
        }
    }

    fn replace(&self, old: &mut Box<[u8]>, new: &[u8]) -> Result<(), Status> {
        // The common case, a counter or a time, needs no memory.
        if old.len() == new.len() {
            old.copy_from_slice(new);
            return Ok(());
        }
        // Only growth is charged before the copy: a full store can still shrink its values.
        let growth = new.len().saturating_sub(old.len());
        self.budget.take(growth)?;
        match joined(&[new]) {
            Ok(copy) => {
                self.budget.give(old.len().saturating_sub(new.len()));
                *old = copy;
                Ok(())
            }
            Err(status) => {
                self.budget.give(growth);
                Err(status)
            }
        }
    }

    fn next_cas(&self) -> u32 {
        loop {
            let cas = self.last_cas.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            // 0 would mean "unconditional" to the guest that gets it.
            if cas != 0 {
                return cas;
            }
        }
    }

    fn hash(&self, vm_id: &[u8], key: &[u8]) -> u64 {
        self.hasher.hash_one((vm_id, key))
    }

    fn shard(&self, hash: u64) -> &Shard {
        // Bits that the table itself does not use: it takes the lowest and the seven highest ones.
        &self.shards[(hash >> 48) as usize & (SHARDS - 1)]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use std::thread;

    use super::*;

    fn value(data: &SharedData, vm_id: &[u8], key: &[u8]) -> Result<(Vec<u8>, u32), Status> {
        let mut out = b"old".to_vec();
        let result = data.get(vm_id, key, &mut out);
        assert!(result.is_ok() || out.is_empty());
        result.map(|cas| (out, cas))
    }

    #[test]
    fn cas_numbers_guard_values() {
        let data = SharedData::new();
        assert_eq!(value(&data, b"v", b"k"), Err(Status::NotFound));
        // A new key takes any cas number.
        data.set(b"v", b"k", b"one", 42).unwrap();
        assert_eq!(value(&data, b"v", b"k").unwrap(), (b"one".to_vec(), 1));
        data.set(b"v", b"k", b"two", 0).unwrap();
        assert_eq!(value(&data, b"v", b"k").unwrap(), (b"two".to_vec(), 2));
        assert_eq!(data.set(b"v", b"k", b"bad", 1), Err(Status::CasMismatch));
        data.set(b"v", b"k", b"three", 2).unwrap();
        assert_eq!(value(&data, b"v", b"k").unwrap(), (b"three".to_vec(), 3));
        // One counter for all keys.
        data.set(b"w", b"other", b"", 0).unwrap();
        assert_eq!(value(&data, b"w", b"other").unwrap(), (Vec::new(), 4));
    }

    #[test]
    fn cas_numbers_skip_zero_after_a_wrap() {
        let data = SharedData::new();
        data.last_cas.store(u32::MAX - 1, Ordering::Relaxed);
        data.set(b"v", b"k", b"x", 0).unwrap();
        assert_eq!(value(&data, b"v", b"k").unwrap().1, u32::MAX);
        data.set(b"v", b"k", b"x", u32::MAX).unwrap();
        assert_eq!(value(&data, b"v", b"k").unwrap().1, 1);
    }

    #[test]
    fn keys_are_compared_whole() {
        let data = SharedData::new();
        // These two have the same CRC-32, which stores elsewhere have taken for the key.
        let keys: [(&[u8], &[u8]); 6] =
            [(b"", b"plumless"), (b"", b"buckeroo"), (b"ab", b"c"), (b"a", b"bc"), (b"abc", b""), (b"", b"abc")];
        for (number, (vm_id, key)) in keys.iter().enumerate() {
            data.set(vm_id, key, &[number as u8], 0).unwrap();
        }
        for (number, (vm_id, key)) in keys.iter().enumerate() {
            assert_eq!(value(&data, vm_id, key).unwrap().0, [number as u8]);
        }
    }

    #[test]
    fn an_entry_is_not_found_by_its_hash_alone() {
        let (name, value) = (joined(&[b"ab", b"c"]).unwrap(), Box::default());
        let entry = Entry { hash: 0, name, vm_id_len: 2, value, cas: 1 };
        assert!(entry.is(b"ab", b"c") && entry.is_of(b"ab"));
        assert!(!entry.is(b"ab", b"d"));
        for (vm_id, key) in [(&b"a"[..], &b"bc"[..]), (b"abc", b""), (b"", b"abc"), (b"xy", b"c")] {
            assert!(!entry.is(vm_id, key) && !entry.is_of(vm_id));
        }
    }

    #[test]
    fn data_lives_as_long_as_its_last_user() {
        let data = SharedData::new();
        data.retain(b"v");
        data.retain(b"v");
        data.retain(b"w");
        for key in 0..100u8 {
            data.set(b"v", &[key], b"x", 0).unwrap();
        }
        data.set(b"w", b"k", b"y", 0).unwrap();
        data.release(b"v");
        assert!(value(&data, b"v", &[7]).is_ok());
        data.release(b"v");
        for key in 0..100u8 {
            assert_eq!(value(&data, b"v", &[key]), Err(Status::NotFound));
        }
        data.release(b"v");
        assert_eq!(value(&data, b"w", b"k").unwrap().0, b"y");
        assert_eq!(data.budget.used(), ENTRY_OVERHEAD + 3);
        data.release(b"w");
        assert_eq!(data.budget.used(), 0);
    }

    #[test]
    fn guests_cannot_fill_the_host() {
        let data = SharedData::new();
        let long = vec![b'k'; MAX_KEY_BYTES + 1];
        assert_eq!(data.set(b"v", &long, b"", 0), Err(Status::InternalFailure));
        data.set(b"v", &long[1..], b"", 0).unwrap();

        let small = SharedData::with_limit(ENTRY_OVERHEAD + 12);
        small.set(b"v", b"k", &[1; 10], 0).unwrap();
        assert_eq!(small.set(b"v", b"k", &[2; 11], 0), Err(Status::InternalFailure));
        assert_eq!(small.set(b"v", b"l", b"", 0), Err(Status::InternalFailure));
        assert_eq!(value(&small, b"v", b"k").unwrap(), (vec![1; 10], 1));
        small.set(b"v", b"k", &[3; 4], 0).unwrap();
        assert_eq!(small.budget.used(), ENTRY_OVERHEAD + 6);
        small.set(b"v", b"k", &[4; 10], 0).unwrap();
        assert_eq!(small.budget.used(), ENTRY_OVERHEAD + 12);
    }

    #[test]
    fn get_reuses_the_buffer() {
        let data = SharedData::new();
        data.set(b"v", b"k", &[1; 100], 0).unwrap();
        let mut out = Vec::with_capacity(100);
        let block = out.as_ptr();
        data.get(b"v", b"k", &mut out).unwrap();
        assert_eq!((out.as_ptr(), out.len()), (block, 100));
    }

    #[test]
    fn two_threads_append_by_cas() {
        let data = SharedData::new();
        data.set(b"v", b"k", b"", 0).unwrap();
        thread::scope(|scope| {
            for thread in 0..2u8 {
                let data = &data;
                scope.spawn(move || {
                    let mut text = Vec::new();
                    for _ in 0..1000 {
                        loop {
                            let cas = data.get(b"v", b"k", &mut text).unwrap();
                            text.push(thread);
                            match data.set(b"v", b"k", &text, cas) {
                                Ok(()) => break,
                                Err(status) => assert_eq!(status, Status::CasMismatch),
                            }
                        }
                    }
                });
            }
        });
        let (text, cas) = value(&data, b"v", b"k").unwrap();
        assert_eq!((text.len(), cas), (2000, 2001));
        assert_eq!(text.iter().filter(|&&thread| thread == 0).count(), 1000);
    }
}
