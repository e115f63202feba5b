// SPDX-License-Identifier: Apache-2.0
//! WASI preview 1 for guests that have no files, no network and no arguments: what toolchains import, with the answers they take well.

mod stdio;

pub(crate) use stdio::Stdio;

use crate::abi::{memory, LogLevel, Status};
use crate::hostcalls::{parts, Cx, Fail};
use crate::vm::VmState;
use wasmtime::Linker;

/// The names under which toolchains import WASI; the functions are the same.
pub(crate) const MODULES: &[&str] = &["wasi_snapshot_preview1", "wasi_unstable"];

/// `__wasi_errno_t`
#[derive(Clone, Copy, PartialEq, Eq)]
enum Errno {
    Success = 0,
    Badf = 8,
    Fault = 21,
    Inval = 28,
    Io = 29,
    Noent = 44,
    Nosys = 52,
    Notdir = 20,
    Notsup = 58,
}

impl From<Status> for Errno {
    fn from(_: Status) -> Self {
        Self::Fault
    }
}

impl From<Fail> for Errno {
    fn from(_: Fail) -> Self {
        Self::Fault
    }
}

type WasiResult = Result<(), Errno>;

/// The guest called `proc_exit`: it ends there.
#[derive(Debug, thiserror::Error)]
#[error("the guest called proc_exit({0})")]
pub(crate) struct ProcExit(u32);

/// Links functions that do something, and those whose answer is always the same.
macro_rules! wasi {
    (
        functions { $($name:ident ($($param:ident: $type:ty),*);)* }
        answers { $($answer:ident: $($stub:ident ($($stub_type:ty),*)),*;)* }
    ) => {
        /// All functions of preview 1.
        pub(crate) const FUNCTIONS: &[&str] = &["proc_exit", $(stringify!($name),)* $($(stringify!($stub),)*)*];

        /// Offers the functions under every module name.
        pub(crate) fn link(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
            for module in MODULES {
                linker.func_wrap(module, "proc_exit", |code: u32| -> wasmtime::Result<()> { Err(ProcExit(code).into()) })?;
                $(linker.func_wrap(module, stringify!($name), |mut cx: Cx<'_>, $($param: $type),*| {
                    match $name(&mut cx, $($param),*) {
                        Ok(()) => Errno::Success as u32,
                        Err(errno) => errno as u32,
                    }
                })?;)*
                $($(linker.func_wrap(module, stringify!($stub), |$(_: $stub_type),*| Errno::$answer as u32)?;)*)*
            }
            Ok(())
        }
    };
}

wasi! {
    functions {
        args_get(argv: u32, buffer: u32);
        args_sizes_get(out_count: u32, out_size: u32);
        environ_get(environ: u32, buffer: u32);
        environ_sizes_get(out_count: u32, out_size: u32);
        clock_res_get(clock: u32, out_resolution: u32);
        clock_time_get(clock: u32, precision: u64, out_time: u32);
        fd_fdstat_get(fd: u32, out_stat: u32);
        fd_write(fd: u32, vectors: u32, count: u32, out_written: u32);
        fd_pwrite(fd: u32, vectors: u32, count: u32, offset: u64, out_written: u32);
        fd_allocate(fd: u32, offset: u64, len: u64);
        fd_datasync(fd: u32);
        fd_sync(fd: u32);
        fd_tell(fd: u32, out_offset: u32);
        fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64);
        fd_filestat_set_size(fd: u32, size: u64);
        fd_filestat_set_times(fd: u32, atime: u64, mtime: u64, flags: u32);
        fd_renumber(from: u32, to: u32);
        poll_oneoff(subscriptions: u32, events: u32, count: u32, out_count: u32);
        random_get(buffer: u32, len: u32);
    }
    answers {
        Success: sched_yield(), fd_advise(u32, u64, u64, u32), fd_close(u32), fd_seek(u32, i64, u32, u32);
        Badf: fd_prestat_get(u32, u32), fd_filestat_get(u32, u32);
        Nosys: fd_prestat_dir_name(u32, u32, u32), fd_fdstat_set_flags(u32, u32), fd_read(u32, u32, u32, u32),
            fd_pread(u32, u32, u32, u64, u32);
        Notdir: fd_readdir(u32, u32, u32, u64, u32);
        Noent: path_open(u32, u32, u32, u32, u32, u64, u64, u32, u32);
        Notsup: path_create_directory(u32, u32, u32), path_filestat_get(u32, u32, u32, u32, u32),
            path_filestat_set_times(u32, u32, u32, u32, u64, u64, u32), path_link(u32, u32, u32, u32, u32, u32, u32),
            path_readlink(u32, u32, u32, u32, u32, u32), path_remove_directory(u32, u32, u32),
            path_rename(u32, u32, u32, u32, u32, u32), path_symlink(u32, u32, u32, u32, u32),
            path_unlink_file(u32, u32, u32), proc_raise(u32), sock_accept(u32, u32, u32),
            sock_recv(u32, u32, u32, u32, u32, u32), sock_send(u32, u32, u32, u32, u32), sock_shutdown(u32, u32);
    }
}

/// stdout and stderr are all there is.
fn is_output(fd: u32) -> WasiResult {
    match fd {
        1 | 2 => Ok(()),
        _ => Err(Errno::Badf),
    }
}

fn args_get(_: &mut Cx<'_>, _: u32, _: u32) -> WasiResult {
    Ok(())
}

fn args_sizes_get(cx: &mut Cx<'_>, out_count: u32, out_size: u32) -> WasiResult {
    let (memory, _) = parts(cx)?;
    memory::write_u32(memory, out_count, 0)?;
    Ok(memory::write_u32(memory, out_size, 0)?)
}

fn environ_get(cx: &mut Cx<'_>, environ: u32, buffer: u32) -> WasiResult {
    let (memory, state) = parts(cx)?;
    let (mut slot, mut at) = (environ, buffer);
    for (name, value) in &state.plugin.config().environment {
        let entry = [name.as_bytes(), b"=", value.as_bytes(), b"\0"].concat();
        memory::write_u32(memory, slot, at)?;
        memory::write(memory, at, entry.len() as u32)?.copy_from_slice(&entry);
        slot = slot.wrapping_add(4);
        at = at.wrapping_add(entry.len() as u32);
    }
    Ok(())
}

fn environ_sizes_get(cx: &mut Cx<'_>, out_count: u32, out_size: u32) -> WasiResult {
    let (memory, state) = parts(cx)?;
    let environment = &state.plugin.config().environment;
    let size: usize = environment.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    memory::write_u32(memory, out_count, environment.len() as u32)?;
    Ok(memory::write_u32(memory, out_size, size as u32)?)
}

fn clock_res_get(cx: &mut Cx<'_>, clock: u32, out_resolution: u32) -> WasiResult {
    if clock > 1 {
        return Err(Errno::Notsup);
    }
    Ok(memory::write_u64(parts(cx)?.0, out_resolution, 1)?)
}

fn clock_time_get(cx: &mut Cx<'_>, clock: u32, _: u64, out_time: u32) -> WasiResult {
    let services = &cx.data().services;
    let now = match clock {
        0 => services.now_realtime_ns(),
        1 => services.now_monotonic_ns(),
        _ => return Err(Errno::Notsup),
    };
    Ok(memory::write_u64(parts(cx)?.0, out_time, now)?)
}

fn fd_fdstat_get(cx: &mut Cx<'_>, fd: u32, out_stat: u32) -> WasiResult {
    /// `__WASI_RIGHTS_FD_WRITE`
    const RIGHT_TO_WRITE: u64 = 64;
    is_output(fd)?;
    let (memory, _) = parts(cx)?;
    // File type and flags, then the two sets of rights.
    memory::write_u64(memory, out_stat, 0)?;
    memory::write_u64(memory, out_stat.wrapping_add(8), RIGHT_TO_WRITE)?;
    Ok(memory::write_u64(memory, out_stat.wrapping_add(16), 0)?)
}

/// Most bytes that one call writes; a guest that has more calls again, as POSIX has it.
const MAX_WRITE: u32 = 1 << 20;

fn fd_write(cx: &mut Cx<'_>, fd: u32, vectors: u32, count: u32, out_written: u32) -> WasiResult {
    is_output(fd)?;
    let (memory, state) = parts(cx)?;
    let mut written = 0u32;
    for index in 0..count {
        let vector = vectors.wrapping_add(index.wrapping_mul(8));
        let start = memory::read_u32(memory, vector)?;
        let len = memory::read_u32(memory, vector.wrapping_add(4))?.min(MAX_WRITE - written);
        let bytes = memory::read(memory, start, len)?;
        state.write_stdio(if fd == 1 { LogLevel::Info } else { LogLevel::Error }, bytes);
        written += len;
        if written == MAX_WRITE {
            break;
        }
    }
    Ok(memory::write_u32(memory, out_written, written)?)
}

fn fd_pwrite(cx: &mut Cx<'_>, fd: u32, vectors: u32, count: u32, _: u64, out_written: u32) -> WasiResult {
    fd_write(cx, fd, vectors, count, out_written)
}

fn fd_allocate(_: &mut Cx<'_>, fd: u32, _: u64, _: u64) -> WasiResult {
    is_output(fd)
}

fn fd_datasync(_: &mut Cx<'_>, fd: u32) -> WasiResult {
    is_output(fd)
}

fn fd_sync(_: &mut Cx<'_>, fd: u32) -> WasiResult {
    is_output(fd)
}

fn fd_tell(cx: &mut Cx<'_>, fd: u32, out_offset: u32) -> WasiResult {
    is_output(fd)?;
    Ok(memory::write_u64(parts(cx)?.0, out_offset, 0)?)
}

fn fd_fdstat_set_rights(_: &mut Cx<'_>, fd: u32, _: u64, _: u64) -> WasiResult {
    is_output(fd)
}

fn fd_filestat_set_size(_: &mut Cx<'_>, fd: u32, _: u64) -> WasiResult {
    is_output(fd)
}

fn fd_filestat_set_times(_: &mut Cx<'_>, fd: u32, _: u64, _: u64, _: u32) -> WasiResult {
    is_output(fd)
}

fn fd_renumber(_: &mut Cx<'_>, from: u32, to: u32) -> WasiResult {
    is_output(from)?;
    is_output(to)?;
    Err(Errno::Notsup)
}

/// Nothing ever happens, and at once: Go polls to sleep, also inside its allocator, and takes an error for fatal.
fn poll_oneoff(cx: &mut Cx<'_>, _: u32, _: u32, _: u32, out_count: u32) -> WasiResult {
    Ok(memory::write_u32(parts(cx)?.0, out_count, 0)?)
}

/// Most random bytes at once.
const MAX_RANDOM: u32 = 64 << 10;

fn random_get(cx: &mut Cx<'_>, buffer: u32, len: u32) -> WasiResult {
    if len > MAX_RANDOM {
        return Err(Errno::Inval);
    }
    let bytes = memory::write(parts(cx)?.0, buffer, len)?;
    getrandom::fill(bytes).map_err(|_| Errno::Io)
}
