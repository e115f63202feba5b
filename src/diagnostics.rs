// SPDX-License-Identifier: Apache-2.0
//! Hands `tracing` events of the library to a sink of the host, without touching any process-wide logger.

use crate::abi::LogLevel;
use std::fmt::Write;
use std::sync::Arc;
use tracing::field::{Field, Visit};
use tracing::{span, Event, Level, Metadata, Subscriber};

/// Takes the library's own diagnostics. Called on the thread on which the thing happened.
pub trait LogSink: Send + Sync {
    /// Takes one message.
    fn log(&self, level: LogLevel, message: &str);
}

struct SinkSubscriber {
    level: LogLevel,
    sink: Arc<dyn LogSink>,
}

fn level_of(level: &Level) -> LogLevel {
    match *level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
    }
}

/// `message key=value key=value`
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}

impl Subscriber for SinkSubscriber {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("proxywasm") && level_of(metadata.level()) as i32 >= self.level as i32
    }
    // The library opens no spans.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        line.message.push_str(&line.fields);
        self.sink.log(level_of(event.metadata().level()), &line.message);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// A dispatcher that hands events from `level` on to `sink`.
pub(crate) fn dispatch(level: LogLevel, sink: Arc<dyn LogSink>) -> tracing::Dispatch {
    tracing::Dispatch::new(SinkSubscriber { level, sink })
}
