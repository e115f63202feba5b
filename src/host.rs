// SPDX-License-Identifier: Apache-2.0
//! `trait Host`: the only way in which the core speaks to a proxy.
//!
//! Values come back in buffers of the caller, so that nothing the host lends is held while the guest runs.

use crate::abi::pairs::PairList;
use crate::abi::{LogLevel, MapType, MetricType, Status, StreamType};
use crate::error::ErrorKind;
use crate::shared::queues::Waker;
use crate::stream::Direction;
use crate::token::Token;

/// What the host knows a stream by: the value it gave when it made the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct StreamData(pub usize);

/// One record of the log.
#[derive(Debug)]
pub struct LogRecord<'a> {
    /// Level.
    pub level: LogLevel,
    /// Context id, 0 for none.
    pub context_id: u32,
    /// Plugin name.
    pub plugin: &'a str,
    /// Root id.
    pub root_id: &'a str,
    /// VM id.
    pub vm_id: &'a str,
    /// Text, any bytes.
    pub message: &'a [u8],
}

/// A response sent in place of the upstream's.
#[derive(Debug)]
pub struct LocalResponse<'a> {
    /// HTTP status.
    pub status: u32,
    /// gRPC status, 0 to 16.
    pub grpc_status: Option<u32>,
    /// Reason, for logs.
    pub details: &'a [u8],
    /// Body.
    pub body: &'a [u8],
    /// Headers to append.
    pub headers: &'a PairList,
}

/// An HTTP call to start.
#[derive(Debug)]
pub struct HttpCall<'a> {
    /// Cluster or upstream name.
    pub upstream: &'a [u8],
    /// Headers.
    pub headers: &'a PairList,
    /// Body.
    pub body: &'a [u8],
    /// Trailers.
    pub trailers: &'a PairList,
    /// Timeout, 0 for none.
    pub timeout_ms: u32,
}

/// A gRPC call or stream to start.
#[derive(Debug)]
pub struct GrpcCall<'a> {
    /// Serialized GrpcService or cluster name.
    pub upstream: &'a [u8],
    /// Service.
    pub service: &'a [u8],
    /// Method.
    pub method: &'a [u8],
    /// Initial metadata.
    pub metadata: &'a PairList,
    /// Message of a unary call.
    pub message: &'a [u8],
    /// Timeout, 0 for none.
    pub timeout_ms: u32,
}

/// Result of a hostcall that gives nothing back.
pub type HostResult<T = ()> = Result<T, Status>;

/// A proxy, seen from the core. What is not implemented answers `Unimplemented`; the services that the library has itself
/// (`metrics`, `shared_data`, `queues`, clocks) answer `None`, which means: use the library's.
///
/// The core never calls a method while another one runs, and always on the worker's thread.
#[allow(unused_variables, reason = "the defaults name their parameters for the reader")]
pub trait Host {
    /// Takes a log record.
    fn log(&self, stream: Option<StreamData>, record: &LogRecord<'_>) {}
    /// Lowest level that is written.
    fn log_level(&self) -> LogLevel {
        LogLevel::Info
    }
    /// Nanoseconds since 1970.
    fn now_realtime_ns(&self) -> Option<u64> {
        None
    }
    /// Nanoseconds of a clock that never goes back.
    fn now_monotonic_ns(&self) -> Option<u64> {
        None
    }

    /// First value of a header, appended to `out`. `name` is lower case.
    fn get_header(&self, stream: StreamData, map: MapType, name: &[u8], out: &mut Vec<u8>) -> HostResult {
        Err(Status::Unimplemented)
    }
    /// Number of headers.
    fn header_count(&self, stream: StreamData, map: MapType) -> HostResult<u32> {
        let mut list = PairList::new();
        self.get_headers(stream, map, &mut list)?;
        Ok(list.len() as u32)
    }
    /// All headers, appended to `out`.
    fn get_headers(&self, stream: StreamData, map: MapType, out: &mut PairList) -> HostResult {
        Err(Status::Unimplemented)
    }
    /// Appends a header.
    fn add_header(&self, stream: StreamData, map: MapType, name: &[u8], value: &[u8]) -> HostResult {
        Err(Status::Unimplemented)
    }
    /// Makes a value the only one of a header.
    fn replace_header(&self, stream: StreamData, map: MapType, name: &[u8], value: &[u8]) -> HostResult {
        Err(Status::Unimplemented)
    }
    /// Removes a header.
    fn remove_header(&self, stream: StreamData, map: MapType, name: &[u8]) -> HostResult {
        Err(Status::Unimplemented)
    }
    /// Makes `pairs` the whole map.
    fn set_headers(&self, stream: StreamData, map: MapType, pairs: &PairList) -> HostResult {
        let mut old = PairList::new();
        self.get_headers(stream, map, &mut old)?;
        for (name, _) in old.iter() {
            self.remove_header(stream, map, name)?;
        }
        for (name, value) in pairs.iter() {
            self.add_header(stream, map, name, value)?;
        }
        Ok(())
    }

    /// An attribute in Envoy's encoding, appended to `out`. `path` is NUL separated.
    fn get_property(&self, stream: Option<StreamData>, path: &[u8], out: &mut Vec<u8>) -> HostResult {
        Err(Status::NotFound)
    }
    /// Sets an attribute; `Unimplemented` leaves it to the library.
    fn set_property(&self, stream: StreamData, path: &[u8], value: &[u8]) -> HostResult {
        Err(Status::Unimplemented)
    }

    /// Answers the client.
    fn send_local_response(&self, stream: StreamData, response: &LocalResponse<'_>) -> HostResult {
        Err(Status::Unimplemented)
    }
    /// A pause has ended.
    fn resume_stream(&self, stream: StreamData, direction: Direction) {}
    /// Ends the stream.
    fn close_stream(&self, stream: StreamData, which: StreamType) {}

    /// Starts an HTTP call.
    fn http_call(&self, stream: Option<StreamData>, token: Token, call: &HttpCall<'_>) -> HostResult {
        Err(Status::Unimplemented)
    }
    /// The answer is wanted no longer.
    fn cancel_call(&self, token: Token) {}
    /// Starts a unary gRPC call.
    fn grpc_call(&self, stream: Option<StreamData>, token: Token, call: &GrpcCall<'_>) -> HostResult {
        Err(Status::Unimplemented)
    }
    /// Opens a gRPC stream.
    fn grpc_stream(&self, stream: Option<StreamData>, token: Token, call: &GrpcCall<'_>) -> HostResult {
        Err(Status::Unimplemented)
    }
    /// Sends on a gRPC stream.
    fn grpc_send(&self, token: Token, message: &[u8], end_of_stream: bool) -> HostResult {
        Err(Status::Unimplemented)
    }
    /// Half-closes a gRPC stream.
    fn grpc_close(&self, token: Token) -> HostResult {
        Err(Status::Unimplemented)
    }

    /// The host's metrics.
    fn metrics(&self) -> Option<&dyn HostMetrics> {
        None
    }
    /// The host's shared data.
    fn shared_data(&self) -> Option<&dyn HostSharedData> {
        None
    }
    /// The host's shared queues.
    fn queues(&self) -> Option<&dyn HostQueues> {
        None
    }
    /// Calls a function of the proxy; what it gives is appended to `out` and counts also with a failure.
    fn call_foreign_function(
        &self,
        stream: Option<StreamData>,
        name: &[u8],
        argument: &[u8],
        out: &mut Vec<u8>,
    ) -> HostResult {
        Err(Status::NotFound)
    }

    /// A VM failed.
    fn vm_failed(&self, plugin: &str, kind: ErrorKind) {}
    /// The worker's next deadline has become nearer.
    fn timeout_changed(&self) {}
    /// What wakes this worker from another thread.
    fn waker(&self) -> Option<Waker> {
        None
    }
}

/// Metrics of a host.
pub trait HostMetrics {
    /// Defines a metric.
    fn define(&self, kind: MetricType, name: &[u8]) -> HostResult<u32>;
    /// Adds.
    fn increment(&self, id: u32, delta: i64) -> HostResult;
    /// Records.
    fn record(&self, id: u32, value: u64) -> HostResult;
    /// Reads.
    fn get(&self, id: u32) -> HostResult<u64>;
}

/// Shared data of a host.
pub trait HostSharedData {
    /// Reads a value into `out`, gives its cas.
    fn get(&self, vm_id: &[u8], key: &[u8], out: &mut Vec<u8>) -> HostResult<u32>;
    /// Writes a value.
    fn set(&self, vm_id: &[u8], key: &[u8], value: &[u8], cas: u32) -> HostResult;
}

/// Shared queues of a host.
pub trait HostQueues {
    /// Finds or makes a queue, to be notified.
    fn register(&self, vm_id: &[u8], name: &[u8]) -> HostResult<u32>;
    /// Finds a queue.
    fn resolve(&self, vm_id: &[u8], name: &[u8]) -> HostResult<u32>;
    /// Appends.
    fn enqueue(&self, queue: u32, value: &[u8]) -> HostResult;
    /// Takes the oldest item into `out`.
    fn dequeue(&self, queue: u32, out: &mut Vec<u8>) -> HostResult;
}
