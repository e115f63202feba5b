// SPDX-License-Identifier: Apache-2.0
//! A proxy made of tables: what tests put in is what guests see, what guests do is kept for tests to look at.

use proxywasm::abi::pairs::PairList;
use proxywasm::abi::{LogLevel, MapType, Status, StreamType};
use proxywasm::*;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

pub type Headers = Vec<(Vec<u8>, Vec<u8>)>;

/// Something that the library asked of the host.
#[derive(Debug, PartialEq, Eq, Clone)]
pub enum Event {
    LocalResponse {
        stream: usize,
        status: u32,
        grpc_status: Option<u32>,
        details: String,
        body: String,
        headers: Headers,
    },
    Resume {
        stream: usize,
        request: bool,
    },
    Close {
        stream: usize,
        which: StreamType,
    },
    HttpCall {
        stream: Option<usize>,
        token: Token,
        upstream: String,
        headers: Headers,
        body: Vec<u8>,
        trailers: Headers,
        timeout_ms: u32,
    },
    GrpcCall {
        token: Token,
        upstream: String,
        service: String,
        method: String,
        metadata: Headers,
        message: Vec<u8>,
        timeout_ms: u32,
    },
    GrpcStream {
        token: Token,
        upstream: String,
        service: String,
        method: String,
        metadata: Headers,
    },
    GrpcSend {
        token: Token,
        message: Vec<u8>,
        end: bool,
    },
    GrpcClose {
        token: Token,
    },
    Cancel {
        token: Token,
    },
    VmFailed {
        plugin: String,
        kind: ErrorKind,
    },
    Foreign {
        name: String,
        argument: Vec<u8>,
    },
    SetProperty {
        path: Vec<u8>,
        value: Vec<u8>,
    },
}

#[derive(Default)]
pub struct State {
    /// Records of the log: level, plugin, context id, text.
    pub log: Vec<(LogLevel, String, u32, String)>,
    /// Header maps, the same for every stream. A map that is not there is not available.
    pub maps: HashMap<MapType, Headers>,
    /// Attributes by path.
    pub properties: HashMap<Vec<u8>, Vec<u8>>,
    /// What calls answer in place of Ok: by the name of the method of `Host`.
    pub answers: HashMap<&'static str, Status>,
    /// What foreign functions give.
    pub foreign: HashMap<Vec<u8>, (HostResult, Vec<u8>)>,
    pub events: Vec<Event>,
    pub now_realtime: u64,
    pub now_monotonic: u64,
    pub log_level: Option<LogLevel>,
}

/// A handle to the tables.
#[derive(Clone, Default)]
pub struct Mock(pub Rc<RefCell<State>>);

impl Mock {
    /// Texts of the log since the last call.
    pub fn take_log(&self) -> Vec<String> {
        self.0.borrow_mut().log.drain(..).map(|(.., text)| text).collect()
    }

    pub fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.borrow_mut().events)
    }

    pub fn set_map(&self, map: MapType, headers: &[(&str, &str)]) {
        let headers = headers.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).collect();
        self.0.borrow_mut().maps.insert(map, headers);
    }

    /// A map as text pairs.
    pub fn map(&self, map: MapType) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let state = self.0.borrow();
        state.maps.get(&map).into_iter().flatten().map(|(n, v)| (text(n), text(v))).collect()
    }

    pub fn answer(&self, method: &'static str, status: Status) {
        self.0.borrow_mut().answers.insert(method, status);
    }

    pub fn advance(&self, milliseconds: u64) {
        self.0.borrow_mut().now_monotonic += milliseconds * 1_000_000;
    }

    /// The token of the last call that a guest started.
    pub fn last_token(&self) -> Token {
        let state = self.0.borrow();
        let token = state.events.iter().rev().find_map(|event| match event {
            Event::HttpCall { token, .. } | Event::GrpcCall { token, .. } | Event::GrpcStream { token, .. } => {
                Some(*token)
            }
            _ => None,
        });
        token.expect("a call was started")
    }
}

/// The host over a mock.
pub struct MockHost(pub Mock);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn owned<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Headers {
    pairs.map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

impl MockHost {
    /// The answer set for a method, after noting what it was asked.
    fn note(&self, method: &str, event: Option<Event>) -> HostResult {
        let mut state = self.0 .0.borrow_mut();
        state.events.extend(event);
        state.answers.get(method).map_or(Ok(()), |status| Err(*status))
    }

    fn with_map<R>(&self, method: &str, map: MapType, run: impl FnOnce(&mut Headers) -> R) -> HostResult<R> {
        self.note(method, None)?;
        let mut state = self.0 .0.borrow_mut();
        state.maps.get_mut(&map).map(run).ok_or(Status::BadArgument)
    }
}

impl Host for MockHost {
    fn log(&self, _: Option<StreamData>, record: &LogRecord<'_>) {
        let entry = (record.level, record.plugin.to_owned(), record.context_id, text(record.message));
        self.0 .0.borrow_mut().log.push(entry);
    }
    fn log_level(&self) -> LogLevel {
        self.0 .0.borrow().log_level.unwrap_or(LogLevel::Info)
    }
    fn now_realtime_ns(&self) -> Option<u64> {
        Some(self.0 .0.borrow().now_realtime)
    }
    fn now_monotonic_ns(&self) -> Option<u64> {
        // A clock that shows 0 is broken.
        Some(self.0 .0.borrow().now_monotonic + 1_000_000_000)
    }
    fn get_header(&self, _: StreamData, map: MapType, name: &[u8], out: &mut Vec<u8>) -> HostResult {
        self.with_map("get_header", map, |headers| {
            let found = headers.iter().find(|(n, _)| n == name);
            found.map(|(_, value)| out.extend_from_slice(value)).ok_or(Status::NotFound)
        })?
    }
    fn get_headers(&self, _: StreamData, map: MapType, out: &mut PairList) -> HostResult {
        self.with_map("get_headers", map, |headers| headers.iter().for_each(|(name, value)| out.push(name, value)))
    }
    fn add_header(&self, _: StreamData, map: MapType, name: &[u8], value: &[u8]) -> HostResult {
        // Adding to trailers makes them.
        if matches!(map, MapType::RequestTrailers | MapType::ResponseTrailers) {
            self.0 .0.borrow_mut().maps.entry(map).or_default();
        }
        self.with_map("add_header", map, |headers| headers.push((name.to_vec(), value.to_vec())))
    }
    fn replace_header(&self, _: StreamData, map: MapType, name: &[u8], value: &[u8]) -> HostResult {
        self.with_map("replace_header", map, |headers| {
            headers.retain(|(n, _)| n != name);
            headers.push((name.to_vec(), value.to_vec()));
        })
    }
    fn remove_header(&self, _: StreamData, map: MapType, name: &[u8]) -> HostResult {
        self.with_map("remove_header", map, |headers| headers.retain(|(n, _)| n != name))
    }
    fn set_headers(&self, _: StreamData, map: MapType, pairs: &PairList) -> HostResult {
        self.with_map("set_headers", map, |headers| *headers = owned(pairs.iter()))
    }
    fn get_property(&self, _: Option<StreamData>, path: &[u8], out: &mut Vec<u8>) -> HostResult {
        self.note("get_property", None)?;
        let state = self.0 .0.borrow();
        state.properties.get(path).map(|value| out.extend_from_slice(value)).ok_or(Status::NotFound)
    }
    fn set_property(&self, _: StreamData, path: &[u8], value: &[u8]) -> HostResult {
        let event = Event::SetProperty { path: path.to_vec(), value: value.to_vec() };
        self.note("set_property", Some(event))?;
        Err(Status::Unimplemented)
    }
    fn send_local_response(&self, stream: StreamData, response: &LocalResponse<'_>) -> HostResult {
        let event = Event::LocalResponse {
            stream: stream.0,
            status: response.status,
            grpc_status: response.grpc_status,
            details: text(response.details),
            body: text(response.body),
            headers: owned(response.headers.iter()),
        };
        self.note("send_local_response", Some(event))
    }
    fn resume_stream(&self, stream: StreamData, direction: Direction) {
        let _ = self.note("", Some(Event::Resume { stream: stream.0, request: direction == Direction::Request }));
    }
    fn close_stream(&self, stream: StreamData, which: StreamType) {
        let _ = self.note("", Some(Event::Close { stream: stream.0, which }));
    }
    fn http_call(&self, stream: Option<StreamData>, token: Token, call: &HttpCall<'_>) -> HostResult {
        let event = Event::HttpCall {
            stream: stream.map(|stream| stream.0),
            token,
            upstream: text(call.upstream),
            headers: owned(call.headers.iter()),
            body: call.body.to_vec(),
            trailers: owned(call.trailers.iter()),
            timeout_ms: call.timeout_ms,
        };
        self.note("http_call", Some(event))
    }
    fn cancel_call(&self, token: Token) {
        let _ = self.note("", Some(Event::Cancel { token }));
    }
    fn grpc_call(&self, _: Option<StreamData>, token: Token, call: &GrpcCall<'_>) -> HostResult {
        let event = Event::GrpcCall {
            token,
            upstream: text(call.upstream),
            service: text(call.service),
            method: text(call.method),
            metadata: owned(call.metadata.iter()),
            message: call.message.to_vec(),
            timeout_ms: call.timeout_ms,
        };
        self.note("grpc_call", Some(event))
    }
    fn grpc_stream(&self, _: Option<StreamData>, token: Token, call: &GrpcCall<'_>) -> HostResult {
        let event = Event::GrpcStream {
            token,
            upstream: text(call.upstream),
            service: text(call.service),
            method: text(call.method),
            metadata: owned(call.metadata.iter()),
        };
        self.note("grpc_stream", Some(event))
    }
    fn grpc_send(&self, token: Token, message: &[u8], end: bool) -> HostResult {
        self.note("grpc_send", Some(Event::GrpcSend { token, message: message.to_vec(), end }))
    }
    fn grpc_close(&self, token: Token) -> HostResult {
        self.note("grpc_close", Some(Event::GrpcClose { token }))
    }
    fn call_foreign_function(
        &self,
        _: Option<StreamData>,
        name: &[u8],
        argument: &[u8],
        out: &mut Vec<u8>,
    ) -> HostResult {
        self.note("", Some(Event::Foreign { name: text(name), argument: argument.to_vec() }))?;
        let state = self.0 .0.borrow();
        let (answer, result) = state.foreign.get(name).ok_or(Status::NotFound)?;
        out.extend_from_slice(result);
        *answer
    }
    fn vm_failed(&self, plugin: &str, kind: ErrorKind) {
        let _ = self.note("", Some(Event::VmFailed { plugin: plugin.to_owned(), kind }));
    }
}
