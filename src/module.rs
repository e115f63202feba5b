// SPDX-License-Identifier: Apache-2.0
//! A compiled plugin module: recognised as Proxy-Wasm, its exports and imports checked, or refused with a reason.

use crate::abi::AbiVersion;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::plugin::Capabilities;
use crate::vm::VmState;
use crate::{exports, hostcalls};
use sha2::{Digest, Sha256};
use std::sync::{Arc, Weak};
use wasmtime::{ExternType, InstancePre};

/// A compiled module. Cheap to clone, shared by all threads.
#[derive(Clone)]
pub struct Module(Arc<ModuleInner>);

pub struct ModuleInner {
    pub(crate) engine: Engine,
    pub(crate) wasm: wasmtime::Module,
    pub(crate) abi: AbiVersion,
    pub(crate) digest: [u8; 32],
    pub(crate) initial_memory: u64,
    /// Linked, with nothing denied.
    pub(crate) pre: InstancePre<VmState>,
}

impl std::ops::Deref for Module {
    type Target = ModuleInner;
    fn deref(&self) -> &ModuleInner {
        &self.0
    }
}

impl Module {
    /// Compiles a module from its binary form, or finds the one of equal bytes that the engine has.
    pub fn compile(engine: &Engine, bytes: &[u8]) -> Result<Self> {
        recognise(bytes)?;
        let digest = Sha256::digest(bytes).into();
        if let Some(known) = engine.modules.lock().get(&digest).and_then(Weak::upgrade) {
            return Ok(Self(known));
        }
        let wasm = wasmtime::Module::new(&engine.wasm, bytes)
            .map_err(|e| Error::new(ErrorKind::BadModule, format!("not a valid WebAssembly module: {e:#}")))?;
        let module = Self::from_wasm(engine, wasm, digest)?;
        let mut modules = engine.modules.lock();
        modules.retain(|_, module| module.strong_count() > 0);
        modules.insert(digest, Arc::downgrade(&module.0));
        Ok(module)
    }

    fn from_wasm(engine: &Engine, wasm: wasmtime::Module, digest: [u8; 32]) -> Result<Self> {
        let abi = abi_version(&wasm)?;
        exports::check(&wasm, abi)?;
        let unknown = check_imports(&wasm)?;
        // What the linker finds wrong now is an import with another type than the ABI's.
        let pre = hostcalls::link(engine.linker()?, &wasm, &Capabilities::default())
            .map_err(|e| Error::new(ErrorKind::DeniedImport, format!("{e:#}")))?;
        if !unknown.is_empty() {
            engine.diagnose(|| {
                tracing::warn!(
                    imports = unknown.join(", "),
                    "the module imports functions that no version of Proxy-Wasm has; they will answer UNIMPLEMENTED"
                );
            });
        }
        let initial_memory = wasm.exports().find_map(|export| match export.ty() {
            ExternType::Memory(memory) => Some(memory.minimum().saturating_mul(memory.page_size())),
            _ => None,
        });
        Ok(Self(Arc::new(ModuleInner {
            engine: engine.clone(),
            wasm,
            abi,
            digest,
            initial_memory: initial_memory.unwrap_or(0),
            pre,
        })))
    }

    /// The version of the ABI that it speaks.
    pub fn abi_version(&self) -> AbiVersion {
        self.abi
    }

    /// SHA-256 of its bytes.
    pub fn digest(&self) -> &[u8; 32] {
        &self.0.digest
    }

    /// Memory that an instance starts with, in bytes.
    pub fn initial_memory(&self) -> u64 {
        self.0.initial_memory
    }
}

/// Tells the common mistakes apart before a compiler error would hide them.
fn recognise(bytes: &[u8]) -> Result<()> {
    let bad = |text: String| Err(Error::new(ErrorKind::BadModule, text));
    match bytes {
        [] => bad("the module is empty".into()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => bad(
            "this is a WebAssembly component; Proxy-Wasm plugins are core modules: build for wasm32-wasip1, not wasip2"
                .into(),
        ),
        [0, b'a', b's', b'm', ..] if bytes.len() < 8 => bad("the module is truncated inside its header".into()),
        [0, b'a', b's', b'm', version @ ..] => {
            bad(format!("WebAssembly version {:02x?} is not supported, only version 1", &version[..4]))
        }
        [0x1f, 0x8b, ..] => bad("this is a gzip archive: unpack it to the .wasm file inside".into()),
        [0x7f, b'E', b'L', b'F', ..] => {
            bad("this is a native ELF file, not WebAssembly: build for a wasm32 target".into())
        }
        [b'(', ..] => bad("this is WebAssembly text: convert it to the binary form, for instance with wat2wasm".into()),
        _ => bad("not a WebAssembly module: it does not begin with the bytes \\0asm".into()),
    }
}

fn abi_version(wasm: &wasmtime::Module) -> Result<AbiVersion> {
    let markers = || {
        wasm.exports().filter(|export| {
            export.name().starts_with(AbiVersion::MARKER_PREFIX) && matches!(export.ty(), ExternType::Func(_))
        })
    };
    // The first that is known counts: a module may speak a dialect of another host as well.
    if let Some(version) = markers().find_map(|marker| AbiVersion::from_marker(marker.name())) {
        return Ok(version);
    }
    if let Some(marker) = markers().next() {
        let text = format!("the module speaks {}; this library speaks 0_1_0, 0_2_0 and 0_2_1", marker.name());
        return Err(Error::new(ErrorKind::UnknownAbi, text));
    }
    let imports_from = |module: &str| wasm.imports().any(|import| import.module() == module);
    let has = |name: &str| wasm.get_export(name).is_some();
    let why = if imports_from("http_handler") || has("handle_request") {
        "it is an http-wasm plugin, another standard"
    } else if wasm.imports().any(|import| import.module() == "env" && import.name().starts_with("_proxy_")) {
        "it was built for Proxy-Wasm before 0.1.0: rebuild it with a current SDK"
    } else if has("_start") && (imports_from("wasi_snapshot_preview1") || imports_from("wasi_unstable")) {
        "it is a plain WASI program"
    } else {
        "it exports no function proxy_abi_version_*: build it with a Proxy-Wasm SDK"
    };
    Err(Error::new(ErrorKind::UnknownAbi, format!("not a Proxy-Wasm module: {why}")))
}

/// Checks each import against what is offered; gives the unknown hostcalls, which are stubbed.
fn check_imports(wasm: &wasmtime::Module) -> Result<Vec<String>> {
    let mut unknown = Vec::new();
    for import in wasm.imports() {
        let (module, name) = (import.module(), import.name());
        if !matches!(import.ty(), ExternType::Func(_)) {
            let text = format!("import {module}.{name} is not a function; Proxy-Wasm offers functions only");
            return Err(Error::new(ErrorKind::DeniedImport, text));
        }
        if hostcalls::is_offered(module, name) {
            continue;
        }
        if module != "env" || !name.starts_with("proxy_") {
            let text = format!("import {module}.{name} is offered by no Proxy-Wasm host");
            return Err(Error::new(ErrorKind::DeniedImport, text));
        }
        unknown.push(name.to_owned());
    }
    Ok(unknown)
}
