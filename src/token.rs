// SPDX-License-Identifier: Apache-2.0
//! The table of calls in flight. A token names (VM, context); a stale one is found to be stale.

use crate::vm::Vm;
use std::rc::Weak;

/// Names a call that the host carries out. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Token(pub u64);

/// What kind of call a token names. The number is the class that guest tokens carry in their low bits, as in Envoy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CallKind {
    Http = 0,
    GrpcCall = 1,
    GrpcStream = 2,
}

/// A call in flight.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) vm: Weak<Vm>,
    pub(crate) root: u32,
    /// The number by which the guest knows it.
    pub(crate) guest_token: u32,
    pub(crate) kind: CallKind,
    /// Its last completion has come and waits to be delivered.
    pub(crate) answered: bool,
}

/// A slot is used again under another generation, so that an old token finds nothing.
#[derive(Default)]
struct Slot {
    generation: u32,
    call: Option<Call>,
}

#[derive(Default)]
pub(crate) struct TokenTable {
    slots: Vec<Slot>,
    free: Vec<u32>,
    live: usize,
}

impl TokenTable {
    pub(crate) fn insert(&mut self, call: Call) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.call = Some(call);
        self.live += 1;
        Token(u64::from(slot.generation) << 32 | u64::from(index + 1))
    }

    fn slot(&mut self, token: Token) -> Option<(u32, &mut Slot)> {
        let index = (token.0 as u32).checked_sub(1)?;
        let slot = self.slots.get_mut(index as usize)?;
        (slot.generation == (token.0 >> 32) as u32).then_some((index, slot))
    }

    pub(crate) fn get(&mut self, token: Token) -> Option<&Call> {
        self.slot(token)?.1.call.as_ref()
    }

    /// Notes that the last completion has come.
    pub(crate) fn set_answered(&mut self, token: Token) {
        if let Some(call) = self.slot(token).and_then(|(_, slot)| slot.call.as_mut()) {
            call.answered = true;
        }
    }

    pub(crate) fn remove(&mut self, token: Token) -> Option<Call> {
        let (index, slot) = self.slot(token)?;
        let call = slot.call.take()?;
        self.free.push(index);
        self.live -= 1;
        Some(call)
    }

    /// Number of calls in flight.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// The tokens of all calls in flight.
    pub(crate) fn tokens(&self) -> Vec<Token> {
        let live = self.slots.iter().enumerate().filter(|(_, slot)| slot.call.is_some());
        live.map(|(index, slot)| Token(u64::from(slot.generation) << 32 | (index as u64 + 1))).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn call(guest_token: u32) -> Call {
        Call { vm: Weak::new(), root: 1, guest_token, kind: CallKind::Http, answered: false }
    }

    #[test]
    fn a_used_token_is_stale_even_when_its_slot_is_used_again() {
        let mut table = TokenTable::default();
        let first = table.insert(call(4));
        assert_eq!(table.remove(first).unwrap().guest_token, 4);
        let second = table.insert(call(8));
        assert_ne!(first, second);
        assert!(table.get(first).is_none());
        assert!(table.remove(first).is_none());
        assert_eq!(table.get(second).unwrap().guest_token, 8);
        assert_eq!((table.len(), table.tokens()), (1, vec![second]));
    }

    #[test]
    fn nonsense_is_not_found() {
        let mut table = TokenTable::default();
        for token in [0, 1, u64::MAX, 1 << 32] {
            assert!(table.remove(Token(token)).is_none());
        }
    }
}
