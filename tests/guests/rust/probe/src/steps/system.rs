// SPDX-License-Identifier: Apache-2.0
//! Steps on the log, the clock and WASI, and those that go wrong.

use std::hint::black_box;
use std::io::Write;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use proxy_wasm::hostcalls;
use proxy_wasm::types::LogLevel;
use serde_json::Value;

use super::args::Args;
use super::{asks, does, Act};
use crate::state;

pub fn parse(op: &str, args: &mut Args) -> Result<Option<Act>, String> {
    match op {
        "log" => {
            let (level, text) = (args.number()?, args.text()?);
            does(move |run| {
                let level = match level.u32(run)? {
                    0 => LogLevel::Trace,
                    1 => LogLevel::Debug,
                    2 => LogLevel::Info,
                    3 => LogLevel::Warn,
                    4 => LogLevel::Error,
                    5 => LogLevel::Critical,
                    level => return Err(format!("{level} is no level")),
                };
                hostcalls::log(level, &text.str(run)?).unwrap();
                Ok(())
            })
        }
        "time" => asks(|_| Ok(Value::from(state::now()))),
        "random" => {
            let count = args.number()?;
            asks(move |run| wasi::random(count.usize(run)?))
        }
        "env" => asks(|_| wasi::environment()),
        "print" => {
            let text = args.text()?;
            does(move |run| line(std::io::stdout(), text.bytes(run)))
        }
        "print_error" => {
            let text = args.text()?;
            does(move |run| line(std::io::stderr(), text.bytes(run)))
        }
        "trap" => does(|_| trap()),
        "loop" => does(|_| loop {
            black_box(());
        }),
        "bomb" => does(|_| {
            let mut memory = vec![];
            loop {
                memory.push(vec![black_box(1u8); 1 << 20]);
                black_box(&mut memory);
            }
        }),
        "recurse" => does(|_| {
            black_box(recurse(1, black_box(&AtomicU32::new(0))));
            Ok(())
        }),
        "exit" => {
            let code = args.number()?;
            does(move |run| process::exit(code.i64(run)? as i32))
        }
        _ => Ok(None),
    }
}

/// One line in one write.
fn line(mut to: impl Write, mut text: Vec<u8>) -> Result<(), String> {
    text.push(b'\n');
    to.write_all(&text).and_then(|()| to.flush()).map_err(|error| error.to_string())
}

#[cfg(target_arch = "wasm32")]
fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

#[cfg(not(target_arch = "wasm32"))]
fn trap() -> ! {
    process::abort()
}

/// Comes back only where there is stack without end. What it reads at each level keeps it from becoming a loop.
#[inline(never)]
fn recurse(depth: u32, deepest: &AtomicU32) -> u32 {
    if depth == deepest.load(Ordering::Relaxed) {
        return depth;
    }
    recurse(depth.wrapping_add(1), deepest).wrapping_mul(3) ^ deepest.load(Ordering::Relaxed)
}

#[cfg(target_os = "wasi")]
mod wasi {
    use super::*;
    use crate::report;

    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    extern "C" {
        fn random_get(bytes: *mut u8, size: usize) -> u16;
    }

    pub fn random(count: usize) -> Result<Value, String> {
        let mut bytes = vec![0; count];
        // SAFETY: it writes `count` bytes.
        match unsafe { random_get(bytes.as_mut_ptr(), count) } {
            0 => Ok(report::bytes(&bytes)),
            errno => Ok(serde_json::json!({"err": errno})),
        }
    }

    pub fn environment() -> Result<Value, String> {
        let variables = std::env::vars_os();
        Ok(report::pairs(variables.map(|(name, value)| (name.into_encoded_bytes(), value.into_encoded_bytes()))))
    }
}

#[cfg(not(target_os = "wasi"))]
mod wasi {
    use super::*;

    pub fn random(_count: usize) -> Result<Value, String> {
        Err("built without WASI".into())
    }

    pub fn environment() -> Result<Value, String> {
        Err("built without WASI".into())
    }
}
