// SPDX-License-Identifier: Apache-2.0
//! `trait Host` over the callbacks of a C program. What the program gives back is checked before it is believed.

use super::boundary::{result_of, Failure, Outcome};
use super::convert::{bytes, read_sized, slice, EMPTY_SLICE};
use super::types::*;
use super::vtable::proxywasm_host;
use crate::abi::pairs::PairList;
use crate::abi::{LogLevel, MapType, MetricType, Status, StreamType};
use crate::error::ErrorKind;
use crate::host::*;
use crate::shared::queues::Waker;
use crate::stream::Direction;
use crate::token::Token;
use libc::c_void;
use parking_lot::RwLock;
use std::cell::RefCell;
use std::mem::size_of;
use std::sync::Arc;

/// Most headers of a map that a host can have; a larger number is taken for nonsense.
const MAX_HEADERS: usize = 1 << 16;

/// What `wake` needs, until the worker is freed.
struct Wake {
    function: unsafe extern "C" fn(*mut c_void),
    user_data: *mut c_void,
}

// SAFETY: the header says that `wake` is called from any thread; that its user data bears it is the host's part.
unsafe impl Send for Wake {}
// SAFETY: as above.
unsafe impl Sync for Wake {}

/// Shared with other threads, so that none of them calls a host whose worker is gone.
#[derive(Default)]
pub(super) struct WakeCell(RwLock<Option<Wake>>);

impl WakeCell {
    fn wake(&self) {
        if let Some(wake) = &*self.0.read() {
            // SAFETY: a function of the host with the user data it gave for it; the lock keeps the worker from being freed meanwhile.
            unsafe { (wake.function)(wake.user_data) }
        }
    }

    /// From now on nobody is woken.
    pub(super) fn close(&self) {
        *self.0.write() = None;
    }
}

/// The callbacks of a C program.
pub(super) struct CHost {
    table: proxywasm_host,
    user_data: *mut c_void,
    wake: Arc<WakeCell>,
    /// Used again for every map that is read, and for every map that is shown.
    read: RefCell<Vec<proxywasm_pair>>,
}

const EMPTY_PAIR: proxywasm_pair = proxywasm_pair { name: EMPTY_SLICE, value: EMPTY_SLICE };

/// What a host's status means.
pub(super) fn status(number: i32) -> HostResult {
    match Status::from_i32(number) {
        Some(Status::Ok) => Ok(()),
        Some(status) => Err(status),
        None => Err(Status::InternalFailure),
    }
}

/// What a host's slice holds; a slice that cannot be is the host's failure.
#[inline]
fn given<'a>(slice: proxywasm_slice) -> HostResult<&'a [u8]> {
    bytes(slice, "value").map_err(|_| Status::InternalFailure)
}

fn data(stream: Option<StreamData>) -> *mut c_void {
    stream.map_or(std::ptr::null_mut(), |stream| stream.0 as *mut c_void)
}

fn pair_array<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<proxywasm_pair> {
    pairs.map(|(name, value)| proxywasm_pair { name: slice(name), value: slice(value) }).collect()
}

/// Calls a member of the table; without it the host is said not to have it.
macro_rules! call {
    ($self:ident . $member:ident ( $($argument:expr),* )) => {
        match $self.table.$member {
            // SAFETY: a function of the host with the arguments that the header says; pointers among them are good for the call.
            Some(function) => Ok(unsafe { function($self.user_data $(, $argument)*) }),
            None => Err(Status::Unimplemented),
        }
    };
}

impl CHost {
    /// Reads and checks a table.
    pub(super) fn new(table: *const proxywasm_host, user_data: *mut c_void) -> Outcome<Self> {
        let table = read_sized(table, "host")?;
        let groups = [
            (
                "define_metric, increment_metric, record_metric, get_metric",
                [
                    table.define_metric.is_some(),
                    table.increment_metric.is_some(),
                    table.record_metric.is_some(),
                    table.get_metric.is_some(),
                ]
                .to_vec(),
            ),
            (
                "get_shared_data, set_shared_data",
                [table.get_shared_data.is_some(), table.set_shared_data.is_some()].to_vec(),
            ),
            (
                "register_queue, resolve_queue, enqueue, dequeue",
                [
                    table.register_queue.is_some(),
                    table.resolve_queue.is_some(),
                    table.enqueue.is_some(),
                    table.dequeue.is_some(),
                ]
                .to_vec(),
            ),
        ];
        for (names, set) in groups {
            if set.iter().any(|&member| member != set[0]) {
                return Err(Failure::invalid(format!("set all of {names} in proxywasm_host, or none")));
            }
        }
        Ok(Self::with(table, user_data))
    }

    /// A host without any callback.
    pub(super) fn silent() -> Self {
        // SAFETY: made of a number and optional functions, for all of which zero is a value.
        let table = unsafe { std::mem::zeroed() };
        Self::with(table, std::ptr::null_mut())
    }

    fn with(table: proxywasm_host, user_data: *mut c_void) -> Self {
        let wake = table.wake.map(|function| Wake { function, user_data });
        Self { table, user_data, wake: Arc::new(WakeCell(RwLock::new(wake))), read: RefCell::default() }
    }

    pub(super) fn wake_cell(&self) -> Arc<WakeCell> {
        self.wake.clone()
    }

    /// Asks for a map with room for `pairs`; gives the number it has.
    fn read_map(&self, stream: StreamData, map: MapType, pairs: &mut [proxywasm_pair]) -> HostResult<usize> {
        let mut count = 0;
        let room = if pairs.is_empty() { std::ptr::null_mut() } else { pairs.as_mut_ptr() };
        status(call!(self.get_headers(data(Some(stream)), map as i32, room, pairs.len(), &mut count))?)?;
        if count > MAX_HEADERS {
            return Err(Status::InternalFailure);
        }
        Ok(count)
    }
}

impl Host for CHost {
    fn log(&self, stream: Option<StreamData>, record: &LogRecord<'_>) {
        let record = proxywasm_log_record {
            struct_size: size_of::<proxywasm_log_record>(),
            level: record.level as i32,
            context_id: record.context_id,
            plugin: slice(record.plugin.as_bytes()),
            root_id: slice(record.root_id.as_bytes()),
            vm_id: slice(record.vm_id.as_bytes()),
            message: slice(record.message),
        };
        let _ = call!(self.log(data(stream), &record));
    }

    fn log_level(&self) -> LogLevel {
        let level = call!(self.log_level());
        level.ok().and_then(LogLevel::from_i32).unwrap_or(LogLevel::Info)
    }

    fn now_realtime_ns(&self) -> Option<u64> {
        call!(self.now_realtime_ns()).ok()
    }

    fn now_monotonic_ns(&self) -> Option<u64> {
        call!(self.now_monotonic_ns()).ok()
    }

    fn get_header(&self, stream: StreamData, map: MapType, name: &[u8], out: &mut Vec<u8>) -> HostResult {
        let mut value = EMPTY_SLICE;
        status(call!(self.get_header(data(Some(stream)), map as i32, slice(name), &mut value))?)?;
        out.extend_from_slice(given(value)?);
        Ok(())
    }

    fn header_count(&self, stream: StreamData, map: MapType) -> HostResult<u32> {
        Ok(self.read_map(stream, map, &mut [])? as u32)
    }

    fn get_headers(&self, stream: StreamData, map: MapType, out: &mut PairList) -> HostResult {
        let mut pairs = self.read.borrow_mut();
        // What is there from the last map has room enough, most of the time. Cleared, so that a host which claims more than it wrote
        // makes empty headers and no stale ones.
        pairs.fill(EMPTY_PAIR);
        let mut count = self.read_map(stream, map, &mut pairs)?;
        if count > pairs.len() {
            pairs.resize(count, EMPTY_PAIR);
            count = self.read_map(stream, map, &mut pairs)?;
        }
        for pair in pairs.get(..count).ok_or(Status::InternalFailure)? {
            out.push(given(pair.name)?, given(pair.value)?);
        }
        Ok(())
    }

    fn add_header(&self, stream: StreamData, map: MapType, name: &[u8], value: &[u8]) -> HostResult {
        status(call!(self.add_header(data(Some(stream)), map as i32, slice(name), slice(value)))?)
    }

    fn replace_header(&self, stream: StreamData, map: MapType, name: &[u8], value: &[u8]) -> HostResult {
        status(call!(self.replace_header(data(Some(stream)), map as i32, slice(name), slice(value)))?)
    }

    fn remove_header(&self, stream: StreamData, map: MapType, name: &[u8]) -> HostResult {
        status(call!(self.remove_header(data(Some(stream)), map as i32, slice(name)))?)
    }

    fn set_headers(&self, stream: StreamData, map: MapType, pairs: &PairList) -> HostResult {
        let Some(set_headers) = self.table.set_headers else {
            let mut old = PairList::new();
            self.get_headers(stream, map, &mut old)?;
            for (name, _) in old.iter() {
                self.remove_header(stream, map, name)?;
            }
            return pairs.iter().try_for_each(|(name, value)| self.add_header(stream, map, name, value));
        };
        let mut array = self.read.borrow_mut();
        array.clear();
        array.extend(pairs.iter().map(|(name, value)| proxywasm_pair { name: slice(name), value: slice(value) }));
        // SAFETY: as in `call!`.
        status(unsafe { set_headers(self.user_data, data(Some(stream)), map as i32, array.as_ptr(), array.len()) })
    }

    fn get_property(&self, stream: Option<StreamData>, path: &[u8], out: &mut Vec<u8>) -> HostResult {
        if self.table.get_property.is_none() {
            return Err(Status::NotFound);
        }
        let mut value = EMPTY_SLICE;
        status(call!(self.get_property(data(stream), slice(path), &mut value))?)?;
        out.extend_from_slice(given(value)?);
        Ok(())
    }

    fn set_property(&self, stream: StreamData, path: &[u8], value: &[u8]) -> HostResult {
        status(call!(self.set_property(data(Some(stream)), slice(path), slice(value)))?)
    }

    fn send_local_response(&self, stream: StreamData, response: &LocalResponse<'_>) -> HostResult {
        let headers = pair_array(response.headers.iter());
        let response = proxywasm_local_response {
            struct_size: size_of::<proxywasm_local_response>(),
            status: response.status,
            grpc_status: response.grpc_status.map_or(-1, |status| status as i32),
            details: slice(response.details),
            body: slice(response.body),
            headers: headers.as_ptr(),
            header_count: headers.len(),
        };
        status(call!(self.send_local_response(data(Some(stream)), &response))?)
    }

    fn resume_stream(&self, stream: StreamData, direction: Direction) {
        let _ = call!(self.resume_stream(data(Some(stream)), direction as i32));
    }

    fn close_stream(&self, stream: StreamData, which: StreamType) {
        let _ = call!(self.close_stream(data(Some(stream)), which as i32));
    }

    fn http_call(&self, stream: Option<StreamData>, token: Token, http: &HttpCall<'_>) -> HostResult {
        let (headers, trailers) = (pair_array(http.headers.iter()), pair_array(http.trailers.iter()));
        let request = proxywasm_http_request {
            struct_size: size_of::<proxywasm_http_request>(),
            upstream: slice(http.upstream),
            headers: headers.as_ptr(),
            header_count: headers.len(),
            body: slice(http.body),
            trailers: trailers.as_ptr(),
            trailer_count: trailers.len(),
            timeout_ms: http.timeout_ms,
        };
        status(call!(self.http_call(data(stream), token.0, &request))?)
    }

    fn cancel_call(&self, token: Token) {
        let _ = call!(self.cancel_call(token.0));
    }

    fn grpc_call(&self, stream: Option<StreamData>, token: Token, grpc: &GrpcCall<'_>) -> HostResult {
        let metadata = pair_array(grpc.metadata.iter());
        let request = grpc_request(grpc, &metadata);
        status(call!(self.grpc_call(data(stream), token.0, &request))?)
    }

    fn grpc_stream(&self, stream: Option<StreamData>, token: Token, grpc: &GrpcCall<'_>) -> HostResult {
        let metadata = pair_array(grpc.metadata.iter());
        let request = grpc_request(grpc, &metadata);
        status(call!(self.grpc_stream(data(stream), token.0, &request))?)
    }

    fn grpc_send(&self, token: Token, message: &[u8], end_of_stream: bool) -> HostResult {
        status(call!(self.grpc_send(token.0, slice(message), end_of_stream))?)
    }

    fn grpc_close(&self, token: Token) -> HostResult {
        status(call!(self.grpc_close(token.0))?)
    }

    fn metrics(&self) -> Option<&dyn HostMetrics> {
        self.table.define_metric.is_some().then_some(self)
    }

    fn shared_data(&self) -> Option<&dyn HostSharedData> {
        self.table.get_shared_data.is_some().then_some(self)
    }

    fn queues(&self) -> Option<&dyn HostQueues> {
        self.table.register_queue.is_some().then_some(self)
    }

    fn call_foreign_function(
        &self,
        stream: Option<StreamData>,
        name: &[u8],
        argument: &[u8],
        out: &mut Vec<u8>,
    ) -> HostResult {
        if self.table.call_foreign_function.is_none() {
            return Err(Status::NotFound);
        }
        let mut result = EMPTY_SLICE;
        let code = call!(self.call_foreign_function(data(stream), slice(name), slice(argument), &mut result))?;
        out.extend_from_slice(given(result)?);
        status(code)
    }

    fn vm_failed(&self, plugin: &str, kind: ErrorKind) {
        let _ = call!(self.vm_failed(slice(plugin.as_bytes()), result_of(kind) as i32));
    }

    fn timeout_changed(&self) {
        let _ = call!(self.timeout_changed());
    }

    fn waker(&self) -> Option<Waker> {
        let wake = self.wake.clone();
        self.table.wake.map(|_| Arc::new(move || wake.wake()) as Waker)
    }
}

fn grpc_request(grpc: &GrpcCall<'_>, metadata: &[proxywasm_pair]) -> proxywasm_grpc_request {
    proxywasm_grpc_request {
        struct_size: size_of::<proxywasm_grpc_request>(),
        upstream: slice(grpc.upstream),
        service: slice(grpc.service),
        method: slice(grpc.method),
        metadata: metadata.as_ptr(),
        metadata_count: metadata.len(),
        message: slice(grpc.message),
        timeout_ms: grpc.timeout_ms,
    }
}

impl HostMetrics for CHost {
    fn define(&self, kind: MetricType, name: &[u8]) -> HostResult<u32> {
        let mut id = 0;
        status(call!(self.define_metric(kind as i32, slice(name), &mut id))?)?;
        Ok(id)
    }

    fn increment(&self, id: u32, delta: i64) -> HostResult {
        status(call!(self.increment_metric(id, delta))?)
    }

    fn record(&self, id: u32, value: u64) -> HostResult {
        status(call!(self.record_metric(id, value))?)
    }

    fn get(&self, id: u32) -> HostResult<u64> {
        let mut value = 0;
        status(call!(self.get_metric(id, &mut value))?)?;
        Ok(value)
    }
}

impl HostSharedData for CHost {
    fn get(&self, vm_id: &[u8], key: &[u8], out: &mut Vec<u8>) -> HostResult<u32> {
        let (mut value, mut cas) = (EMPTY_SLICE, 0);
        status(call!(self.get_shared_data(slice(vm_id), slice(key), &mut value, &mut cas))?)?;
        out.extend_from_slice(given(value)?);
        Ok(cas)
    }

    fn set(&self, vm_id: &[u8], key: &[u8], value: &[u8], cas: u32) -> HostResult {
        status(call!(self.set_shared_data(slice(vm_id), slice(key), slice(value), cas))?)
    }
}

impl HostQueues for CHost {
    fn register(&self, vm_id: &[u8], name: &[u8]) -> HostResult<u32> {
        let mut queue = 0;
        status(call!(self.register_queue(slice(vm_id), slice(name), &mut queue))?)?;
        Ok(queue)
    }

    fn resolve(&self, vm_id: &[u8], name: &[u8]) -> HostResult<u32> {
        let mut queue = 0;
        status(call!(self.resolve_queue(slice(vm_id), slice(name), &mut queue))?)?;
        Ok(queue)
    }

    fn enqueue(&self, queue: u32, value: &[u8]) -> HostResult {
        status(call!(self.enqueue(queue, slice(value)))?)
    }

    fn dequeue(&self, queue: u32, out: &mut Vec<u8>) -> HostResult {
        let mut value = EMPTY_SLICE;
        status(call!(self.dequeue(queue, &mut value))?)?;
        out.extend_from_slice(given(value)?);
        Ok(())
    }
}
