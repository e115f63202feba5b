// SPDX-License-Identifier: Apache-2.0
//! Header maps: those of the stream are the host's, those of callouts the library's.

use super::{give_value, give_with, parts, write_u32, Cx, Fail, HostcallResult};
use crate::abi::pairs::{PairList, Pairs};
use crate::abi::{memory, MapType, Status};
use crate::host::{Host, HostResult, StreamData};
use crate::stream::Stream;
use crate::vm::VmState;
use std::rc::Rc;

fn map_type(number: u32) -> Result<MapType, Status> {
    MapType::from_i32(number as i32).ok_or(Status::BadArgument)
}

/// The pairs of a callout, while its callback runs.
fn call_map(state: &VmState, map: MapType) -> Option<&PairList> {
    match map {
        MapType::GrpcInitialMetadata => state.call_data.initial_metadata.as_ref(),
        MapType::GrpcTrailingMetadata => state.call_data.trailing_metadata.as_ref(),
        MapType::CallResponseHeaders => state.call_data.headers.as_ref(),
        MapType::CallResponseTrailers => state.call_data.trailers.as_ref(),
        _ => None,
    }
}

/// The stream whose map can be read now.
fn readable(state: &VmState, map: MapType) -> Option<StreamData> {
    let (stream, _) = state.context().stream()?;
    stream.map_access(map).0.then(|| stream.data())
}

/// The stream whose map can be changed now.
fn writable(state: &VmState, map: MapType) -> Result<&Rc<Stream>, Status> {
    let (stream, _) = state.context().stream().ok_or(Status::BadArgument)?;
    if stream.map_access(map).1 {
        Ok(stream)
    } else {
        Err(Status::BadArgument)
    }
}

/// A name in lower case: as the guest gave it where that will do, otherwise in `buffer`.
#[inline]
fn lower<'a>(name: &'a [u8], buffer: &'a mut Vec<u8>) -> &'a [u8] {
    if !has_upper(name) {
        return name;
    }
    buffer.clear();
    buffer.extend(name.iter().map(u8::to_ascii_lowercase));
    buffer
}

/// Whether there is a capital letter. Eight bytes at a time: this is run for each header that a guest names.
#[inline]
fn has_upper(name: &[u8]) -> bool {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // The top bit of each byte tells, which no sum of the others reaches from a byte next to it.
    let upper = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        let low = word & (0x7f * EACH);
        (low + (0x80 - b'A' as u64) * EACH) & !(low + (0x7f - b'Z' as u64) * EACH) & !word & (0x80 * EACH) != 0
    };
    match name.last_chunk::<8>() {
        Some(last) => name.as_chunks::<8>().0.iter().any(upper) || upper(last),
        None => name.iter().any(u8::is_ascii_uppercase),
    }
}

pub(super) fn get(cx: &mut Cx<'_>, map: u32, name: u32, name_len: u32, out_value: u32, out_len: u32) -> HostcallResult {
    let map = map_type(map)?;
    give_value(cx, out_value, out_len, |memory, state, value| {
        let mut buffer = state.name.borrow_mut();
        match find(state, map, lower(memory::read(memory, name, name_len)?, &mut buffer), value) {
            // ABI 0.1.0 could not tell a missing header from an empty one.
            Err(Status::NotFound) if !state.abi.missing_header_is_not_found() => Ok(()),
            result => result,
        }
    })
}

fn find(state: &VmState, map: MapType, name: &[u8], value: &mut Vec<u8>) -> HostResult {
    if let Some(list) = call_map(state, map) {
        let reason = || state.call_data.reasons.as_ref().filter(|_| map == MapType::CallResponseHeaders)?.get(name);
        value.extend_from_slice(list.get(name).or_else(reason).ok_or(Status::NotFound)?);
        return Ok(());
    }
    match readable(state, map) {
        Some(stream) => state.services.host.get_header(stream, map, name, value),
        // A log callback may ask for maps that the stream never had.
        None if state.context().stream().is_some_and(|(stream, _)| stream.is_logging()) => Err(Status::NotFound),
        None => Err(Status::BadArgument),
    }
}

/// Runs something with the list for pairs, emptied.
fn with_list<R>(
    cx: &mut Cx<'_>,
    run: impl FnOnce(&mut Cx<'_>, &mut PairList) -> HostcallResult<R>,
) -> HostcallResult<R> {
    let mut list = cx.data().pairs.take();
    list.clear();
    let result = run(cx, &mut list);
    cx.data().pairs.replace(list);
    result
}

/// Reads a whole map into a list; false: there is no such map now.
fn read_map(state: &VmState, map: MapType, list: &mut PairList) -> Result<bool, Status> {
    if let Some(call) = call_map(state, map) {
        call.iter().for_each(|(name, value)| list.push(name, value));
        return Ok(true);
    }
    match readable(state, map) {
        Some(stream) => state.services.host.get_headers(stream, map, list).map(|()| true),
        None => Ok(false),
    }
}

/// A map that is not there reads as empty.
pub(super) fn get_pairs(cx: &mut Cx<'_>, map: u32, out_value: u32, out_len: u32) -> HostcallResult {
    let map = map_type(map)?;
    with_list(cx, |cx, list| {
        match read_map(cx.data(), map, list) {
            Ok(_) => {}
            Err(Status::BadArgument) => list.clear(),
            Err(status) => return Err(status.into()),
        }
        give_with(cx, list.encoded_len(), out_value, out_len, |memory, _| list.encode(memory))
    })
}

/// The size of a map is that of its names and values in bytes, as in Envoy.
pub(super) fn size(cx: &mut Cx<'_>, map: u32, out_size: u32) -> HostcallResult {
    let map = map_type(map)?;
    with_list(cx, |cx, list| match read_map(cx.data(), map, list)? {
        true => write_u32(cx, out_size, list.byte_size() as u32),
        false => Err(Fail::Status(Status::BadArgument)),
    })
}

/// Runs a change of a map and notes that it was made.
fn change(
    cx: &mut Cx<'_>,
    map: u32,
    run: impl FnOnce(&[u8], &dyn Host, StreamData, MapType, &mut Vec<u8>, &mut PairList) -> HostResult,
) -> HostcallResult {
    let map = map_type(map)?;
    let (memory, state) = parts(cx)?;
    let stream = writable(state, map)?;
    let (mut name, mut list) = (state.name.borrow_mut(), state.pairs.borrow_mut());
    run(memory, &*state.services.host, stream.data(), map, &mut name, &mut list)?;
    stream.map_changed(map);
    Ok(())
}

pub(super) fn add(cx: &mut Cx<'_>, map: u32, name: u32, name_len: u32, value: u32, len: u32) -> HostcallResult {
    change(cx, map, |memory, host, stream, map, buffer, _| {
        let name = lower(memory::read(memory, name, name_len)?, buffer);
        host.add_header(stream, map, name, memory::read(memory, value, len)?)
    })
}

pub(super) fn replace(cx: &mut Cx<'_>, map: u32, name: u32, name_len: u32, value: u32, len: u32) -> HostcallResult {
    change(cx, map, |memory, host, stream, map, buffer, _| {
        let name = lower(memory::read(memory, name, name_len)?, buffer);
        host.replace_header(stream, map, name, memory::read(memory, value, len)?)
    })
}

pub(super) fn remove(cx: &mut Cx<'_>, map: u32, name: u32, name_len: u32) -> HostcallResult {
    change(cx, map, |memory, host, stream, map, buffer, _| {
        let name = lower(memory::read(memory, name, name_len)?, buffer);
        match host.remove_header(stream, map, name) {
            Err(Status::NotFound) => Ok(()),
            result => result,
        }
    })
}

pub(super) fn set_pairs(cx: &mut Cx<'_>, map: u32, value: u32, len: u32) -> HostcallResult {
    change(cx, map, |memory, host, stream, map, _, list| {
        Pairs::decode(memory::read(memory, value, len)?)?.copy_to(list);
        host.set_headers(stream, map, list)
    })
}

#[cfg(test)]
mod tests {
    use super::has_upper;

    #[test]
    fn capital_letters_are_found_wherever_they_are() {
        for byte in 0..=u8::MAX {
            for len in 1..20 {
                for at in 0..len {
                    let mut name = vec![b'-'; len];
                    name[at] = byte;
                    assert_eq!(has_upper(&name), byte.is_ascii_uppercase(), "byte {byte} at {at} of {len}");
                }
            }
        }
    }
}
