// SPDX-License-Identifier: Apache-2.0
//! Guests as scripts: for each callback the hostcalls it makes, each with what it is expected to show.
//!
//! A line is `name arguments ; shows => expected`, the name without `proxy_`. The guest logs the status and then, on the same line,
//! what is to be shown. Without `=> expected` the status must be 0.
//!
//! Arguments: numbers (`5`, `-8`; `5L` is 64 bits wide); `'text'` with `\0`, `\n` and `\x41`, or `{name=value|name=value}` for a
//! serialized map, both of which are two arguments, pointer and length; `out` for the pointers `$out` and `$out_len`; `$0`, `$1`
//! for the parameters of the callback; `@28` for the word at an address.
//!
//! Shows: `text` for the bytes that `$out` and `$out_len` tell, in brackets, or `-` unless the status is 0; `@16` for a word;
//! `@16L` for a double word; `@16%4` for the rest of a word divided by 4. Before each call `$out`, `$out_len` and `$out_cas` are set to 7, so that what is not written is seen.
//!
//! Other lines: `return 1`, `say $1` (a number), `same $1 @28` (0 if they are equal, as expected), `trap`, and `#` for a comment.

use super::{chunk, guest_with, Direction, Mock, Setup, CALLBACKS};
use proxywasm::abi::pairs::PairList;
use std::collections::HashMap;

/// Puts together the line that the guest logs, from 16384 on.
const HELPERS: &str = r#"
  (global $line (mut i32) (i32.const 16384))
  (global $failed (mut i32) (i32.const 0))
  (func $put (param $byte i32)
    (i32.store8 (global.get $line) (local.get $byte))
    (global.set $line (i32.add (global.get $line) (i32.const 1))))
  (func $put_number (param $n i64)
    (if (i64.ge_u (local.get $n) (i64.const 10)) (then (call $put_number (i64.div_u (local.get $n) (i64.const 10)))))
    (call $put (i32.wrap_i64 (i64.add (i64.const 48) (i64.rem_u (local.get $n) (i64.const 10))))))
  (func $prepare
    (i32.store (i32.const 16) (i32.const 7)) (i32.store (i32.const 20) (i32.const 7)) (i32.store (i32.const 24) (i32.const 7)))
  (func $begin (param $status i32)
    (global.set $line (i32.const 16384))
    (global.set $failed (local.get $status))
    (call $put_number (i64.extend_i32_u (local.get $status))))
  (func $show_number (param $n i64) (call $put (i32.const 32)) (call $put_number (local.get $n)))
  (func $show_text
    (call $put (i32.const 32))
    (if (global.get $failed) (then (call $put (i32.const 45)) (return)))
    (call $put (i32.const 91))
    (memory.copy (global.get $line) (i32.load (i32.const 16)) (i32.load (i32.const 20)))
    (global.set $line (i32.add (global.get $line) (i32.load (i32.const 20))))
    (call $put (i32.const 93)))
  (func $end (call $say (i32.const 16384) (i32.sub (global.get $line) (i32.const 16384))))
"#;

/// A guest, and what it is expected to log in each callback.
pub struct Script {
    pub wasm: Vec<u8>,
    /// By callback: the line of the script and what it logs.
    expected: HashMap<String, Vec<(String, String)>>,
}

/// The serialized form of a map.
pub fn encoded(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut list = PairList::new();
    pairs.iter().for_each(|(name, value)| list.push(name.as_bytes(), value.as_bytes()));
    let mut out = vec![0; list.encoded_len()];
    list.encode(&mut out);
    out
}

/// `name=value|name=value`
fn encoded_text(text: &str) -> Vec<u8> {
    let pairs: Vec<_> = text.split('|').filter_map(|pair| pair.split_once('=')).collect();
    encoded(&pairs)
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some('0') => bytes.push(0),
                Some('n') => bytes.push(b'\n'),
                Some('x') => {
                    let digits: String = rest.by_ref().take(2).collect();
                    bytes.push(u8::from_str_radix(&digits, 16).expect("two hex digits"));
                }
                other => panic!("escape {other:?} in {text}"),
            },
            c => bytes.extend(c.to_string().bytes()),
        }
    }
    bytes
}

/// What a line is expected to log: escapes resolved, maps serialized.
fn expectation(text: &str) -> String {
    let bytes = match (text.find('{'), text.rfind('}')) {
        (Some(from), Some(to)) => {
            let map = encoded_text(&text[from + 1..to]);
            [&text.as_bytes()[..from], b"[", &map, b"]", &text.as_bytes()[to + 1..]].concat()
        }
        _ => unescape(text),
    };
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Splits at spaces outside quotes and braces.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut until) = (Vec::new(), String::new(), None);
    for c in text.chars() {
        match (until, c) {
            (Some(end), c) if c == end => until = None,
            (None, '\'') => until = Some('\''),
            (None, '{') => until = Some('}'),
            (None, ' ') => {
                words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

/// Where `separator` stands outside quotes.
fn split_outside<'a>(text: &'a str, separator: &str) -> (&'a str, Option<&'a str>) {
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        if c == '\'' {
            quoted = !quoted;
        } else if !quoted && text[at..].starts_with(separator) {
            return (text[..at].trim(), Some(text[at + separator.len()..].trim()));
        }
    }
    (text.trim(), None)
}

/// The data segment in the making.
struct Data {
    at: usize,
    text: String,
}

impl Data {
    fn add(&mut self, bytes: &[u8]) -> String {
        let (at, len) = (self.at, bytes.len());
        let hex: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
        self.text += &format!("(data (i32.const {at}) \"{hex}\")\n");
        self.at += len + 1;
        assert!(self.at < 16384, "the script has too much text");
        format!("(i32.const {at}) (i32.const {len})")
    }

    fn argument(&mut self, word: &str) -> String {
        if let Some(text) = word.strip_prefix('\'').and_then(|word| word.strip_suffix('\'')) {
            return self.add(&unescape(text));
        }
        if let Some(text) = word.strip_prefix('{').and_then(|word| word.strip_suffix('}')) {
            return self.add(&encoded_text(text));
        }
        match word {
            "out" => "(global.get $out) (global.get $out_len)".to_owned(),
            _ if word.starts_with('$') => format!("(local.get {})", &word[1..]),
            _ if word.starts_with('@') => format!("(i32.load (i32.const {}))", &word[1..]),
            _ => match word.strip_suffix('L') {
                Some(wide) => format!("(i64.const {wide})"),
                None => format!("(i32.const {word})"),
            },
        }
    }
}

/// A guest of ABI 0.2.1 that makes the hostcalls of each callback.
pub fn script(callbacks: &[(&str, &str)]) -> Script {
    script_of("0_2_1", &[], callbacks)
}

/// The same for a version of the ABI, with more imports: module, name and type. A call of those is written `module.name`.
pub fn script_of(version: &str, imports: &[(&str, &str, &str)], callbacks: &[(&str, &str)]) -> Script {
    let import = |(module, name, ty): &(&str, &str, &str)| {
        format!("(import \"{module}\" \"{name}\" (func ${module}.{name} {ty}))\n")
    };
    script_with(version, &imports.iter().map(import).collect::<String>(), callbacks)
}

/// The same with imports in WebAssembly text. A function whose name has a dot in it is called as it is.
pub fn script_with(version: &str, imports: &str, callbacks: &[(&str, &str)]) -> Script {
    let mut data = Data { at: 1024, text: String::new() };
    let mut functions = String::new();
    let mut expected = HashMap::new();
    for &(name, lines) in callbacks {
        let known = CALLBACKS.iter().find(|(known, ..)| *known == name);
        let &(_, params, mut result) = known.unwrap_or_else(|| panic!("callback {name}"));
        let params = params - usize::from(version == "0_1_0" && name.ends_with("_headers"));
        let mut body = String::new();
        let mut list = Vec::new();
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (call, expectation_text) = split_outside(line, "=>");
            let (call, shows) = split_outside(call, ";");
            let mut words = words(call).into_iter();
            let function = words.next().unwrap_or_else(|| panic!("{line}"));
            let arguments: Vec<String> = words.map(|word| data.argument(&word)).collect();
            let arguments = arguments.join(" ");
            match &*function {
                "return" => {
                    result = Some(call["return".len()..].trim().parse().expect("a number"));
                    continue;
                }
                "trap" => {
                    body += "unreachable\n";
                    continue;
                }
                "say" => body += &format!("(call $begin {arguments})"),
                "same" => body += &format!("(call $begin (i32.ne {arguments}))"),
                _ => {
                    let callee = if function.contains('.') { function.clone() } else { format!("proxy_{function}") };
                    body += &format!("(call $prepare) (call $begin (call ${callee} {arguments}))");
                }
            }
            for show in shows.unwrap_or("").split_whitespace() {
                body += &match (show, show.strip_suffix('L')) {
                    ("text", _) => "(call $show_text)".to_owned(),
                    (_, None) if show.ends_with("%4") => {
                        let at = &show[1..show.len() - 2];
                        format!("(call $show_number (i64.rem_u (i64.load32_u (i32.const {at})) (i64.const 4)))")
                    }
                    (_, Some(at)) => format!("(call $show_number (i64.load (i32.const {})))", &at[1..]),
                    _ => format!("(call $show_number (i64.extend_i32_u (i32.load (i32.const {}))))", &show[1..]),
                };
            }
            body += "(call $end)\n";
            list.push((line.to_owned(), expectation(expectation_text.unwrap_or("0"))));
        }
        let given = if result.is_some() && known.is_some_and(|known| known.2.is_some()) { "(result i32)" } else { "" };
        let value = if given.is_empty() { String::new() } else { format!("(i32.const {})", result.unwrap_or(0)) };
        let params = "i32 ".repeat(params);
        functions += &format!("(func (export \"proxy_on_{name}\") (param {params}) {given} {body} {value})\n");
        expected.insert(name.to_owned(), list);
    }
    Script { wasm: guest_with(version, imports, &format!("{HELPERS} {} {functions}", data.text)), expected }
}

impl Script {
    /// Compares the log since the last look with what these callbacks, run in this order, are expected to log.
    pub fn check(&self, mock: &Mock, callbacks: &[&str]) {
        let lines: Vec<_> = callbacks.iter().flat_map(|name| &self.expected[*name]).collect();
        let log = mock.take_log();
        let mut report = String::new();
        for (at, (line, expected)) in lines.iter().enumerate() {
            match log.get(at) {
                Some(found) if found == expected => {}
                found => report += &format!("\n  {line}\n    expected {expected:?}\n    found    {found:?}"),
            }
        }
        log.iter().skip(lines.len()).for_each(|more| report += &format!("\n  besides: {more:?}"));
        assert!(report.is_empty(), "{report}");
    }

    /// A worker with this guest, whose start has been checked.
    pub fn setup(&self) -> Setup {
        let setup = Setup::new(&self.wasm);
        self.check_start(&setup.mock);
        setup
    }

    /// Checks what the start of the guest logged.
    pub fn check_start(&self, mock: &Mock) {
        let start = ["context_create", "vm_start", "configure"];
        let start: Vec<_> = start.into_iter().filter(|name| self.expected.contains_key(*name)).collect();
        self.check(mock, &start);
    }
}

/// Runs the lines in `proxy_on_configure`.
pub fn in_configure(lines: &str) -> Setup {
    script(&[("configure", lines)]).setup()
}

/// Runs the lines in `proxy_on_request_headers` of a stream, after `prepare`.
pub fn in_request(prepare: impl FnOnce(&Mock), lines: &str) -> Setup {
    let script = script(&[("request_headers", lines)]);
    let setup = script.setup();
    prepare(&setup.mock);
    let stream = setup.http(1);
    let outcome = stream.on_headers(Direction::Request, 1, false).unwrap();
    assert!(outcome.failure.is_none(), "{outcome:?}");
    script.check(&setup.mock, &["request_headers"]);
    drop(stream);
    setup
}

/// Shows a stream of data 1 everything: request and response with bodies and trailers, then its end.
pub fn run_exchange(setup: &Setup) {
    let stream = setup.http(1);
    for direction in [Direction::Request, Direction::Response] {
        stream.on_headers(direction, 1, false).unwrap();
        stream.on_body(direction, &chunk("body"), false).unwrap();
        stream.on_trailers(direction, 1).unwrap();
    }
    stream.log().unwrap();
    stream.done().unwrap();
    stream.finish().unwrap();
}
