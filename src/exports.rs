// SPDX-License-Identifier: Apache-2.0
//! The callbacks that a guest exports: one table, from which the check at load and the typed functions are made.

use crate::abi::AbiVersion;
use crate::error::{Error, ErrorKind, Result};
use crate::plugin::Capabilities;
use crate::vm::VmState;
use wasmtime::{ExternType, Instance, Store, TypedFunc, ValType};

/// Declares the table: field, exported name, parameters, result; `Phases` bits where the callback belongs to a stream.
macro_rules! callbacks {
    ($($field:ident = $name:literal ($($param:ty),*) -> $result:ty;)*) => {
        /// The callbacks of a guest, resolved once. None where the guest has none.
        pub(crate) struct Exports {
            $(pub(crate) $field: Option<TypedFunc<($($param,)*), $result>>,)*
            pub(crate) on_request_headers: Option<HeadersCallback>,
            pub(crate) on_response_headers: Option<HeadersCallback>,
        }

        /// Name, number of parameters, whether there is a result.
        const CALLBACKS: &[(&str, usize, bool)] = &[
            $(($name, <[&str]>::len(&[$(stringify!($param)),*]), std::mem::size_of::<$result>() != 0),)*
        ];

        impl Exports {
            pub(crate) fn resolve(
                store: &mut Store<VmState>,
                instance: &Instance,
                abi: AbiVersion,
                capabilities: &Capabilities,
            ) -> wasmtime::Result<Self> {
                let mut find = Finder { store, instance, capabilities };
                Ok(Self {
                    $($field: find.typed($name)?,)*
                    on_request_headers: find.headers("proxy_on_request_headers", abi)?,
                    on_response_headers: find.headers("proxy_on_response_headers", abi)?,
                })
            }
        }
    };
}

callbacks! {
    initialize = "_initialize" () -> ();
    main = "main" (u32, u32) -> u32;
    main_void = "__main_void" () -> u32;
    start = "_start" () -> ();
    malloc = "malloc" (u32) -> u32;
    memory_allocate = "proxy_on_memory_allocate" (u32) -> u32;
    on_context_create = "proxy_on_context_create" (u32, u32) -> ();
    on_vm_start = "proxy_on_vm_start" (u32, u32) -> u32;
    on_configure = "proxy_on_configure" (u32, u32) -> u32;
    on_tick = "proxy_on_tick" (u32) -> ();
    on_queue_ready = "proxy_on_queue_ready" (u32, u32) -> ();
    on_new_connection = "proxy_on_new_connection" (u32) -> u32;
    on_downstream_data = "proxy_on_downstream_data" (u32, u32, u32) -> u32;
    on_upstream_data = "proxy_on_upstream_data" (u32, u32, u32) -> u32;
    on_downstream_close = "proxy_on_downstream_connection_close" (u32, u32) -> ();
    on_upstream_close = "proxy_on_upstream_connection_close" (u32, u32) -> ();
    on_request_body = "proxy_on_request_body" (u32, u32, u32) -> u32;
    on_response_body = "proxy_on_response_body" (u32, u32, u32) -> u32;
    on_request_trailers = "proxy_on_request_trailers" (u32, u32) -> u32;
    on_response_trailers = "proxy_on_response_trailers" (u32, u32) -> u32;
    on_request_metadata = "proxy_on_request_metadata" (u32, u32) -> u32;
    on_response_metadata = "proxy_on_response_metadata" (u32, u32) -> u32;
    on_http_call_response = "proxy_on_http_call_response" (u32, u32, u32, u32, u32) -> ();
    on_grpc_initial_metadata = "proxy_on_grpc_receive_initial_metadata" (u32, u32, u32) -> ();
    on_grpc_receive = "proxy_on_grpc_receive" (u32, u32, u32) -> ();
    on_grpc_trailing_metadata = "proxy_on_grpc_receive_trailing_metadata" (u32, u32, u32) -> ();
    on_grpc_close = "proxy_on_grpc_close" (u32, u32, u32) -> ();
    on_foreign_function = "proxy_on_foreign_function" (u32, u32, u32) -> ();
    on_done = "proxy_on_done" (u32) -> u32;
    on_log = "proxy_on_log" (u32) -> ();
    on_delete = "proxy_on_delete" (u32) -> ();
}

/// A header callback: 0.1.0 is not told the end of the stream.
pub(crate) enum HeadersCallback {
    Count(TypedFunc<(u32, u32), u32>),
    CountAndEnd(TypedFunc<(u32, u32, u32), u32>),
}

impl HeadersCallback {
    pub(crate) fn call(
        &self,
        store: &mut Store<VmState>,
        context: u32,
        count: u32,
        end: bool,
    ) -> wasmtime::Result<u32> {
        match self {
            Self::Count(function) => function.call(store, (context, count)),
            Self::CountAndEnd(function) => function.call(store, (context, count, u32::from(end))),
        }
    }
}

struct Finder<'a> {
    store: &'a mut Store<VmState>,
    instance: &'a Instance,
    capabilities: &'a Capabilities,
}

impl Finder<'_> {
    fn typed<P, R>(&mut self, name: &str) -> wasmtime::Result<Option<TypedFunc<P, R>>>
    where
        P: wasmtime::WasmParams,
        R: wasmtime::WasmResults,
    {
        // A callback that is not allowed is treated as absent. What is no callback cannot be restricted.
        if name.starts_with("proxy_on_") && name != "proxy_on_memory_allocate" && !self.capabilities.allows(name) {
            return Ok(None);
        }
        match self.instance.get_func(&mut *self.store, name) {
            Some(function) => function.typed(&*self.store).map(Some),
            None => Ok(None),
        }
    }

    fn headers(&mut self, name: &str, abi: AbiVersion) -> wasmtime::Result<Option<HeadersCallback>> {
        if abi.headers_end_of_stream() {
            Ok(self.typed(name)?.map(HeadersCallback::CountAndEnd))
        } else {
            Ok(self.typed(name)?.map(HeadersCallback::Count))
        }
    }
}

/// Checks that a module exports what it must, and every callback with the type of its ABI version.
pub(crate) fn check(wasm: &wasmtime::Module, abi: AbiVersion) -> Result<()> {
    let headers = if abi.headers_end_of_stream() { 3 } else { 2 };
    let header_callbacks = [("proxy_on_request_headers", headers, true), ("proxy_on_response_headers", headers, true)];
    for &(name, params, result) in CALLBACKS.iter().chain(&header_callbacks) {
        let Some(export) = wasm.get_export(name) else { continue };
        let right = match &export {
            ExternType::Func(function) => {
                function.params().len() == params
                    && function.results().len() == usize::from(result)
                    && function.params().chain(function.results()).all(|t| matches!(t, ValType::I32))
            }
            _ => false,
        };
        if !right {
            let found = match export {
                ExternType::Func(function) => function.to_string(),
                _ => "no function".into(),
            };
            let result = if result { " and one i32 result" } else { " and no result" };
            let text = format!("export {name} is {found}; ABI {abi:?} says {params} i32 parameters{result}");
            return Err(Error::new(ErrorKind::MissingExport, text));
        }
    }
    if wasm.get_export("malloc").is_none() && wasm.get_export("proxy_on_memory_allocate").is_none() {
        let text =
            "the module exports neither malloc nor proxy_on_memory_allocate, through which the host gives it data";
        return Err(Error::new(ErrorKind::MissingExport, text));
    }
    match wasm.get_export("memory") {
        Some(ExternType::Memory(memory)) if !memory.is_64() && !memory.is_shared() => Ok(()),
        Some(_) => {
            Err(Error::new(ErrorKind::MissingExport, "export memory is not a 32 bit memory of the module's own"))
        }
        None => {
            Err(Error::new(ErrorKind::MissingExport, "the module does not export its memory under the name memory"))
        }
    }
}
