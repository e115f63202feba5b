// SPDX-License-Identifier: Apache-2.0
//! Guests that log each callback with its arguments, as `request_headers 2 3 1`, and then do what a test gives them to do.

use crate::support::*;
use proxywasm::abi::LogLevel;
use proxywasm::*;

/// What these guests have besides the prelude. `$show TYPE` logs a buffer as `buffer=BYTES` or `buffer!STATUS`; `$respond STATUS`
/// sends a local response with body `text`; `$call` starts an HTTP call to `auth` and gives its token; `$next` counts its calls.
const HELPERS: &str = r#"
  (global $t (mut i32) (i32.const 24576))
  (global $n (mut i32) (i32.const 0))
  (func $next (result i32) (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))
  (func $t_text (param $at i32) (param $len i32)
    (memory.copy (global.get $t) (local.get $at) (local.get $len))
    (global.set $t (i32.add (global.get $t) (local.get $len))))
  (func $t_digits (param $n i32)
    (if (i32.ge_u (local.get $n) (i32.const 10))
      (then (call $t_digits (i32.div_u (local.get $n) (i32.const 10)))))
    (i32.store8 (global.get $t) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
    (global.set $t (i32.add (global.get $t) (i32.const 1))))
  (func $t_number (param $n i32)
    (i32.store8 (global.get $t) (i32.const 32))
    (global.set $t (i32.add (global.get $t) (i32.const 1)))
    (call $t_digits (local.get $n)))
  (func $t_end
    (call $say (i32.const 24576) (i32.sub (global.get $t) (i32.const 24576)))
    (global.set $t (i32.const 24576)))
  (data (i32.const 21000) "buffer=buffer!details heretextauth")
  (func $show (param $type i32)
    (local $status i32)
    (local.set $status (call $proxy_get_buffer_bytes
      (local.get $type) (i32.const 0) (i32.const 0x7fffffff) (global.get $out) (global.get $out_len)))
    (if (local.get $status)
      (then (call $t_text (i32.const 21007) (i32.const 7)) (call $t_digits (local.get $status)))
      (else (call $t_text (i32.const 21000) (i32.const 7))
        (call $t_text (i32.load (global.get $out)) (i32.load (global.get $out_len)))))
    (call $t_end))
  (func $respond (param $status i32)
    (drop (call $proxy_send_local_response (local.get $status) (i32.const 21014) (i32.const 12)
      (i32.const 21026) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const -1))))
  (func $call (result i32)
    (drop (call $proxy_http_call (i32.const 21030) (i32.const 4) (i32.const 20000) (i32.const PAIRS)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1000) (i32.const 28)))
    (i32.load (i32.const 28)))
  (func $effective (param $id i32) (drop (call $proxy_set_effective_context (local.get $id))))
  (func $continue (param $stream i32) (drop (call $proxy_continue_stream (local.get $stream))))
  (func $tick_ms (param $ms i32) (drop (call $proxy_set_tick_period_milliseconds (local.get $ms))))
"#;

/// Headers of the call that `$call` starts.
const CALL_HEADERS: &[(&str, &str)] = &[(":method", "GET"), (":path", "/"), (":authority", "auth")];

fn encoded(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut out = (headers.len() as u32).to_le_bytes().to_vec();
    for (name, value) in headers {
        out.extend((name.len() as u32).to_le_bytes());
        out.extend((value.len() as u32).to_le_bytes());
    }
    for (name, value) in headers {
        out.extend([name.as_bytes(), &[0], value.as_bytes(), &[0]].concat());
    }
    out
}

/// Bytes as they are written in WebAssembly text.
pub fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
}

/// A guest to be.
#[derive(Clone)]
pub struct Guest {
    version: &'static str,
    callbacks: Vec<(String, Option<String>, bool)>,
    extra: String,
}

impl Guest {
    /// ABI 0.2.1, without any callback.
    pub fn new() -> Self {
        Self { version: "0_2_1", callbacks: Vec::new(), extra: String::new() }
    }

    /// With every callback there is; each logs itself.
    pub fn everything() -> Self {
        CALLBACKS.iter().fold(Self::new(), |guest, (name, ..)| guest.log(name))
    }

    pub fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    fn set(mut self, name: &str, body: Option<&str>, logged: bool) -> Self {
        assert!(CALLBACKS.iter().any(|(known, ..)| *known == name), "no callback {name}");
        self.callbacks.retain(|(known, ..)| known != name);
        self.callbacks.push((name.to_owned(), body.map(str::to_owned), logged));
        self
    }

    /// Adds a callback that logs itself.
    pub fn log(self, name: &str) -> Self {
        self.set(name, None, true)
    }

    /// Adds a callback that logs itself and then runs `body`, which leaves the result.
    pub fn on(self, name: &str, body: &str) -> Self {
        self.set(name, Some(body), true)
    }

    /// Adds a callback that logs itself and gives this result.
    pub fn gives(self, name: &str, result: u32) -> Self {
        self.set(name, Some(&format!("(i32.const {result})")), true)
    }

    /// Adds a callback that runs `body` and logs nothing by itself.
    pub fn quiet(self, name: &str, body: &str) -> Self {
        self.set(name, Some(body), false)
    }

    /// Adds text to the module.
    pub fn wat(mut self, text: &str) -> Self {
        self.extra.push_str(text);
        self
    }

    pub fn build(&self) -> Vec<u8> {
        let pairs = encoded(CALL_HEADERS);
        let mut text = HELPERS.replace("PAIRS", &pairs.len().to_string());
        text.push_str(&format!("(data (i32.const 20000) \"{}\")\n", escaped(&pairs)));
        for (index, (name, body, logged)) in self.callbacks.iter().enumerate() {
            let (_, params, result) = CALLBACKS.iter().find(|(known, ..)| known == name).unwrap();
            let params = params - usize::from(self.version == "0_1_0" && name.ends_with("_headers"));
            let at = 16384 + 48 * index;
            text.push_str(&format!("(data (i32.const {at}) \"{name}\")\n(func (export \"proxy_on_{name}\")"));
            text.push_str(&" (param i32)".repeat(params));
            text.push_str(if result.is_some() { " (result i32)\n" } else { "\n" });
            if *logged {
                text.push_str(&format!("(call $t_text (i32.const {at}) (i32.const {}))\n", name.len()));
                (0..params).for_each(|i| text.push_str(&format!("(call $t_number (local.get {i}))\n")));
                text.push_str("(call $t_end)\n");
            }
            match (body, result) {
                (Some(body), _) => text.push_str(body),
                (None, Some(result)) => text.push_str(&format!("(i32.const {result})")),
                (None, None) => {}
            }
            text.push_str(")\n");
        }
        guest_of(self.version, &(text + &self.extra))
    }
}

/// The first call gives one result, later ones another.
pub fn first_then(first: u32, then: u32) -> String {
    format!("(select (i32.const {first}) (i32.const {then}) (i32.eq (call $next) (i32.const 1)))")
}

/// What plugins logged since the last look, as `plugin: text`.
pub fn log_by_plugin(mock: &Mock) -> Vec<String> {
    mock.0.borrow_mut().log.drain(..).map(|(_, plugin, _, text)| format!("{plugin}: {text}")).collect()
}

/// The records of level critical since the last look: plugin, context id, text. Forgets the others.
pub fn critical(mock: &Mock) -> Vec<(String, u32, String)> {
    let log = std::mem::take(&mut mock.0.borrow_mut().log);
    let critical = log.into_iter().filter(|(level, ..)| *level == LogLevel::Critical);
    critical.map(|(_, plugin, context, text)| (plugin, context, text)).collect()
}

/// A config with this name, in a VM of its own.
pub fn named(name: &str) -> PluginConfig {
    let mut config = PluginConfig::new(name);
    config.vm_id = name.to_owned();
    config
}

/// `action headers trailers end` of an outcome, to compare at once.
pub fn told(outcome: &Outcome) -> (Action, bool, bool, bool) {
    assert!(outcome.failure.is_none(), "{outcome:?}");
    (outcome.action, outcome.headers, outcome.trailers, outcome.end_of_stream)
}

/// The local responses among the events: stream, status, details.
pub fn local_responses(mock: &Mock) -> Vec<(usize, u32, String)> {
    let events = mock.0.borrow().events.clone();
    let responses = events.into_iter().filter_map(|event| match event {
        Event::LocalResponse { stream, status, details, .. } => Some((stream, status, details)),
        _ => None,
    });
    responses.collect()
}
