// SPDX-License-Identifier: Apache-2.0
//! stdout and stderr of a guest, as records of the log. Runtimes write a line in many pieces, so lines are put together first.

use crate::abi::LogLevel;
use crate::vm::VmState;

/// Longest line; a longer one is cut into several.
const MAX_LINE: usize = 64 << 10;

/// The lines that have begun.
#[derive(Default)]
pub(crate) struct Stdio {
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Stdio {
    /// Whether a line has begun and not ended.
    pub(crate) fn is_pending(&self) -> bool {
        !self.out.is_empty() || !self.err.is_empty()
    }

    fn line(&mut self, level: LogLevel) -> &mut Vec<u8> {
        match level {
            LogLevel::Info => &mut self.out,
            _ => &mut self.err,
        }
    }
}

impl VmState {
    /// Takes what a guest writes, logs the lines that are complete.
    pub(crate) fn write_stdio(&mut self, level: LogLevel, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, complete) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            for part in text.chunks(MAX_LINE) {
                let line = self.stdio.line(level);
                if line.len() + part.len() > MAX_LINE {
                    self.log_line(level);
                }
                self.stdio.line(level).extend_from_slice(part);
            }
            if complete {
                self.log_line(level);
            }
        }
    }

    /// Logs what has begun, at the end of a callback.
    pub(crate) fn flush_stdio(&mut self) {
        for level in [LogLevel::Info, LogLevel::Error] {
            if !self.stdio.line(level).is_empty() {
                self.log_line(level);
            }
        }
    }

    fn log_line(&mut self, level: LogLevel) {
        let mut line = std::mem::take(self.stdio.line(level));
        let context = self.context();
        self.services.log(context.plugin(), self.stream_data(), context.id(), level, &line);
        line.clear();
        *self.stdio.line(level) = line;
    }
}
