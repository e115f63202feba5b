// SPDX-License-Identifier: Apache-2.0
//! Steps on bodies and other buffers.

use proxy_wasm::hostcalls;
use proxy_wasm::types::BufferType;
use serde_json::{json, Value};

use super::args::Args;
use super::{asks, does, may_ask, Act, Run};
use crate::report;
use crate::script::Callback;

pub fn parse(op: &str, args: &mut Args) -> Result<Option<Act>, String> {
    match op {
        "body" => {
            let (buffer, start, max) = (args.buffer()?, args.number()?, args.number()?);
            asks(move |run| {
                let bytes = hostcalls::get_buffer(buffer, start.usize(run)?, max.usize(run)?).unwrap();
                Ok(report::optional(bytes))
            })
        }
        "digest" => {
            let buffer = args.buffer()?;
            asks(move |run| {
                let size = read(run, buffer);
                Ok(digest(run, buffer, size))
            })
        }
        "count" => {
            let buffer = args.buffer()?;
            may_ask(move |run| {
                // A body that waits is still there when its trailers come: it has been read.
                let trailers = matches!(run.callback, Callback::RequestTrailers | Callback::ResponseTrailers);
                let size = if trailers { 0 } else { read(run, buffer) };
                Ok(run.end.then(|| digest(run, buffer, size)))
            })
        }
        "set_body" => {
            let (buffer, start, size, text) = (args.buffer()?, args.number()?, args.number()?, args.text()?);
            does(move |run| {
                hostcalls::set_buffer(buffer, start.usize(run)?, size.usize(run)?, &text.bytes(run)).unwrap();
                Ok(())
            })
        }
        "fill_body" => {
            let (buffer, start, size) = (args.buffer()?, args.number()?, args.number()?);
            let (byte, count) = (args.number()?, args.number()?);
            does(move |run| {
                let byte = u8::try_from(byte.u32(run)?).map_err(|_| "no byte")?;
                let bytes = vec![byte; count.usize(run)?];
                hostcalls::set_buffer(buffer, start.usize(run)?, size.usize(run)?, &bytes).unwrap();
                Ok(())
            })
        }
        _ => Ok(None),
    }
}

/// Adds a buffer to its digest. Returns how much it is.
fn read(run: &mut Run, buffer: BufferType) -> usize {
    let bytes = hostcalls::get_buffer(buffer, 0, usize::MAX).unwrap().unwrap_or_default();
    let digest = run.state.digests.entry(buffer as u32).or_default();
    digest.total += bytes.len() as u64;
    digest.crc = crc32(digest.crc, &bytes);
    bytes.len()
}

fn digest(run: &Run, buffer: BufferType, size: usize) -> Value {
    let digest = run.state.digests.get(&(buffer as u32)).copied().unwrap_or_default();
    json!({"size": size, "total": digest.total, "crc": digest.crc})
}

const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

fn crc32(crc: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!crc, |crc, byte| CRC[usize::from(crc as u8 ^ byte)] ^ crc >> 8)
}
