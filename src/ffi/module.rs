// SPDX-License-Identifier: Apache-2.0
//! Section: module.

use super::boundary::{boundary, boundary_void};
use super::convert::{bytes, give, handle, out, take, write_sized};
use super::engine::proxywasm_engine;
use super::types::*;
use crate::module::Module;
use std::mem::size_of;

/// A compiled module. Counted, any thread.
pub struct proxywasm_module(pub(super) Module);

/// Compiles a module from its binary form; `code` is not needed afterwards. Takes as long as a compiler takes (some 100 ms for a
/// megabyte of code), unless the engine has one of equal bytes that was not freed yet: that is shared. Its exports and imports are checked: those of ABI 0.1.0, 0.2.0 and 0.2.1, each module choosing by its marker.
///
/// Errors: INVALID_ARGUMENT, BAD_MODULE, UNKNOWN_ABI, MISSING_EXPORT, DENIED_IMPORT.
#[no_mangle]
pub extern "C" fn proxywasm_module_compile(
    engine: *const proxywasm_engine,
    code: proxywasm_slice,
    out_module: *mut *mut proxywasm_module,
) -> i32 {
    boundary(|| {
        let engine = handle(engine, "engine")?;
        let place = out(out_module, "out_module")?;
        give(&place, proxywasm_module(Module::compile(&engine.0, bytes(code, "code")?)?));
        Ok(())
    })
}

/// Tells what a module is. The caller sets `out_info->struct_size`.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_module_get_info(
    module: *const proxywasm_module,
    out_info: *mut proxywasm_module_info,
) -> i32 {
    boundary(|| {
        let module = handle(module, "module")?;
        let info = proxywasm_module_info {
            struct_size: size_of::<proxywasm_module_info>(),
            abi_version: module.0.abi_version().number(),
            initial_memory: module.0.initial_memory(),
            digest: *module.0.digest(),
        };
        write_sized(out_info, &info, "out_info")
    })
}

/// Lets go of a module; it lives until its plugins are gone too.
#[no_mangle]
pub extern "C" fn proxywasm_module_free(module: *mut proxywasm_module) {
    boundary_void(|| {
        drop(take(module));
        Ok(())
    });
}
