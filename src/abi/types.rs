// SPDX-License-Identifier: Apache-2.0
//! The enumerations of the ABI.

/// Declares an enumeration of the ABI together with the conversion from the number a guest or a host passes.
macro_rules! abi_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(i32)]
        pub enum $name { $($(#[$vmeta])* $variant = $number,)* }

        impl $name {
            /// The member with this number.
            pub const fn from_i32(number: i32) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

abi_enum! {
    /// Result of a hostcall (`proxy_status_t`).
    Status {
        /// Done.
        Ok = 0,
        /// No such thing.
        NotFound = 1,
        /// An argument is wrong, or the object cannot be changed now.
        BadArgument = 2,
        /// The value could not be serialized.
        SerializationFailure = 3,
        /// The argument could not be parsed.
        ParseFailure = 4,
        /// A bad expression.
        BadExpression = 5,
        /// A guest pointer is outside the guest's memory.
        InvalidMemoryAccess = 6,
        /// The queue is empty.
        Empty = 7,
        /// The value was changed in between.
        CasMismatch = 8,
        /// The result has another type than expected.
        ResultMismatch = 9,
        /// The host failed.
        InternalFailure = 10,
        /// The connection is gone.
        BrokenConnection = 11,
        /// The host has no such function.
        Unimplemented = 12,
    }
}

abi_enum! {
    /// Log level (`proxy_log_level_t`).
    LogLevel {
        /// Trace.
        Trace = 0,
        /// Debug.
        Debug = 1,
        /// Info.
        Info = 2,
        /// Warning.
        Warn = 3,
        /// Error.
        Error = 4,
        /// Critical.
        Critical = 5,
    }
}

abi_enum! {
    /// Header map (`proxy_map_type_t`).
    MapType {
        /// Request headers.
        RequestHeaders = 0,
        /// Request trailers.
        RequestTrailers = 1,
        /// Response headers.
        ResponseHeaders = 2,
        /// Response trailers.
        ResponseTrailers = 3,
        /// Initial metadata of a gRPC stream.
        GrpcInitialMetadata = 4,
        /// Trailing metadata of a gRPC stream.
        GrpcTrailingMetadata = 5,
        /// Response headers of an HTTP call.
        CallResponseHeaders = 6,
        /// Response trailers of an HTTP call.
        CallResponseTrailers = 7,
    }
}

abi_enum! {
    /// Buffer (`proxy_buffer_type_t`).
    BufferType {
        /// Request body.
        RequestBody = 0,
        /// Response body.
        ResponseBody = 1,
        /// Data from the client of a TCP connection.
        DownstreamData = 2,
        /// Data from the upstream of a TCP connection.
        UpstreamData = 3,
        /// Response body of an HTTP call.
        CallResponseBody = 4,
        /// Message of a gRPC call or stream.
        GrpcMessage = 5,
        /// Configuration of the VM.
        VmConfiguration = 6,
        /// Configuration of the plugin.
        PluginConfiguration = 7,
        /// Argument of `proxy_on_foreign_function`.
        CallData = 8,
    }
}

abi_enum! {
    /// Stream (`proxy_stream_type_t`).
    StreamType {
        /// HTTP request.
        HttpRequest = 0,
        /// HTTP response.
        HttpResponse = 1,
        /// Connection to the client.
        Downstream = 2,
        /// Connection to the upstream.
        Upstream = 3,
    }
}

abi_enum! {
    /// Kind of metric (`proxy_metric_type_t`).
    MetricType {
        /// Only grows.
        Counter = 0,
        /// Goes up and down.
        Gauge = 1,
        /// A distribution.
        Histogram = 2,
    }
}

abi_enum! {
    /// Who closed a TCP connection (`proxy_peer_type_t`).
    PeerType {
        /// Not known.
        Unknown = 0,
        /// The proxy.
        Local = 1,
        /// The other side.
        Remote = 2,
    }
}
