// SPDX-License-Identifier: Apache-2.0
//! Writing reports to the plugin's log.

use std::fmt::Write;

use proxy_wasm::hostcalls;
use proxy_wasm::types::{LogLevel, Status};
use serde_json::{json, Value};

/// The most that one record of the log carries; longer reports go out in pieces.
const PIECE: usize = 1200;

/// The string whose characters each stand for a byte.
pub fn bytes(bytes: &[u8]) -> Value {
    Value::String(bytes.iter().map(|byte| char::from(*byte)).collect())
}

pub fn optional(value: Option<Vec<u8>>) -> Value {
    value.map_or(Value::Null, |value| bytes(&value))
}

pub fn pairs<Name: AsRef<[u8]>, Item: AsRef<[u8]>>(pairs: impl IntoIterator<Item = (Name, Item)>) -> Value {
    pairs.into_iter().map(|(name, value)| json!([bytes(name.as_ref()), bytes(value.as_ref())])).collect()
}

pub fn error(status: Status) -> Value {
    json!({"err": status as u32})
}

/// `value` as JSON in pure ASCII.
pub fn ascii(value: &Value) -> String {
    let text = value.to_string();
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() * 2);
    for character in text.chars() {
        if (' '..='~').contains(&character) {
            escaped.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
    }
    escaped
}

/// Puts a report, which is ASCII, into the log.
pub fn send(mut report: &str) {
    while report.len() > PIECE {
        let (piece, rest) = report.split_at(PIECE);
        record("probe~", piece);
        report = rest;
    }
    record("probe:", report);
}

fn record(mark: &str, piece: &str) {
    let _ = hostcalls::log(LogLevel::Info, &format!("{mark}{piece}"));
}
