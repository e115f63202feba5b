// SPDX-License-Identifier: Apache-2.0
//! Conversion of what C passes. Every pointer is checked for NULL here; that a pointer which is not NULL points to what its type
//! says is the caller's part of the contract.

use super::boundary::{Failure, Outcome};
use super::types::*;
use crate::abi::pairs::PairList;
use crate::body::Chunk;
use bytes::Bytes;
use libc::c_void;
use std::mem::{size_of, MaybeUninit};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

/// Largest struct that a newer program may pass.
const MAX_STRUCT: usize = 64 << 10;

/// A handle that must be there.
pub(super) fn handle<'a, T>(pointer: *const T, name: &str) -> Outcome<&'a T> {
    // SAFETY: the caller passes NULL or a handle that it got from this library and has not freed.
    unsafe { pointer.as_ref() }.ok_or_else(|| Failure::invalid(format!("{name} is NULL")))
}

/// A handle that is changed. Configs only: they are used by one thread at a time.
pub(super) fn handle_mut<'a, T>(pointer: *mut T, name: &str) -> Outcome<&'a mut T> {
    // SAFETY: as above, and the header demands that no other thread uses a config meanwhile.
    unsafe { pointer.as_mut() }.ok_or_else(|| Failure::invalid(format!("{name} is NULL")))
}

/// Takes back a handle that `give` handed out; `None` for NULL.
pub(super) fn take<T>(pointer: *mut T) -> Option<Box<T>> {
    // SAFETY: the caller passes NULL or a handle of `give` that it will not use again.
    (!pointer.is_null()).then(|| unsafe { Box::from_raw(pointer) })
}

/// A place for a result.
pub(super) struct Out<T>(*mut T);

pub(super) fn out<T>(pointer: *mut T, name: &str) -> Outcome<Out<T>> {
    if pointer.is_null() {
        return Err(Failure::invalid(format!("{name} is NULL")));
    }
    Ok(Out(pointer))
}

impl<T> Out<T> {
    pub(super) fn set(&self, value: T) {
        // SAFETY: not NULL, and the caller passes a place for a T.
        unsafe { self.0.write(value) }
    }
}

/// Hands an object out as a handle.
pub(super) fn give<T>(place: &Out<*mut T>, object: T) {
    place.set(Box::into_raw(Box::new(object)));
}

/// The bytes of a slice.
pub(super) fn bytes<'a>(slice: proxywasm_slice, name: &str) -> Outcome<&'a [u8]> {
    array(slice.data, slice.len, name)
}

/// The text of a slice.
pub(super) fn text<'a>(slice: proxywasm_slice, name: &str) -> Outcome<&'a str> {
    std::str::from_utf8(bytes(slice, name)?).map_err(|_| Failure::invalid(format!("{name} is not UTF-8")))
}

/// An array; NULL is good when it has no elements.
pub(super) fn array<'a, T>(pointer: *const T, count: usize, name: &str) -> Outcome<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        return Err(Failure::invalid(format!("{name} is NULL but has {count} elements")));
    }
    if count > isize::MAX as usize / size_of::<T>().max(1) {
        return Err(Failure::invalid(format!("{name} has {count} elements, more than an address space holds")));
    }
    // SAFETY: not NULL, not larger than can be, and the caller passes so many elements.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

pub(super) const EMPTY_SLICE: proxywasm_slice = proxywasm_slice { data: std::ptr::null(), len: 0 };

/// Lends bytes to C.
pub(super) fn slice(bytes: &[u8]) -> proxywasm_slice {
    proxywasm_slice { data: bytes.as_ptr(), len: bytes.len() }
}

/// Copies an array of pairs.
pub(super) fn pair_list(pointer: *const proxywasm_pair, count: usize, name: &str) -> Outcome<PairList> {
    let mut list = PairList::new();
    for pair in array(pointer, count, name)? {
        list.push(bytes(pair.name, name)?, bytes(pair.value, name)?);
    }
    Ok(list)
}

/// Bytes of the host that are valid during the call, or until released.
struct HostBytes {
    data: *const u8,
    len: usize,
    release: Option<unsafe extern "C" fn(*mut c_void)>,
    release_ctx: *mut c_void,
    /// False once the call was refused: then the bytes are still the host's and are not released.
    taken: Option<Arc<AtomicBool>>,
}

// SAFETY: a worker and all that it holds stay on one thread; `Bytes` asks for Send because it cannot know.
unsafe impl Send for HostBytes {}

impl AsRef<[u8]> for HostBytes {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: checked by `array` when it was made; the host keeps the bytes until the call returns or, with `release`, until that
        // is called. The core copies what is borrowed before the call returns.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

impl Drop for HostBytes {
    fn drop(&mut self) {
        let taken = self.taken.as_ref().is_none_or(|taken| taken.load(Ordering::Relaxed));
        if let (Some(release), true) = (self.release, taken) {
            // SAFETY: called once, with what the host gave for it.
            unsafe { release(self.release_ctx) }
        }
    }
}

/// Chunks of the host, which it can still get back.
pub(super) struct GivenChunks {
    pub(super) chunks: Vec<Chunk>,
    taken: Arc<AtomicBool>,
}

impl GivenChunks {
    /// The call was refused: the chunks stay the host's.
    pub(super) fn give_back(self) {
        self.taken.store(false, Ordering::Relaxed);
    }
}

pub(super) fn chunks(pointer: *const proxywasm_chunk, count: usize) -> Outcome<GivenChunks> {
    let given = array(pointer, count, "chunks")?;
    for chunk in given {
        array(chunk.data, chunk.len, "data of a chunk")?;
    }
    let taken = Arc::new(AtomicBool::new(true));
    let chunks = given.iter().map(|chunk| {
        let data = if chunk.len == 0 { std::ptr::NonNull::dangling().as_ptr() } else { chunk.data };
        let (release, release_ctx) = (chunk.release, chunk.release_ctx);
        let taken = release.map(|_| taken.clone());
        let host = HostBytes { data, len: chunk.len, release, release_ctx, taken };
        Chunk { bytes: Bytes::from_owner(host), borrowed: release.is_none() }
    });
    Ok(GivenChunks { chunks: chunks.collect(), taken })
}

/// Borrowed slices of the host as chunks.
pub(super) fn borrowed(pointer: *const proxywasm_slice, count: usize, name: &str) -> Outcome<Vec<Chunk>> {
    let mut chunks = Vec::with_capacity(count.min(64));
    for given in array(pointer, count, name)? {
        let bytes = bytes(*given, name)?;
        let host = HostBytes {
            data: bytes.as_ptr(),
            len: bytes.len(),
            release: None,
            release_ctx: std::ptr::null_mut(),
            taken: None,
        };
        chunks.push(Chunk { bytes: Bytes::from_owner(host), borrowed: true });
    }
    Ok(chunks)
}

/// Structs of plain data that begin with their size, of which a shorter one is older and a longer one newer than the library.
///
/// # Safety
/// All zeroes is a value of the type, and its first field is `struct_size: usize`.
pub(super) unsafe trait SizedStruct: Sized {}

macro_rules! sized {
    ($($name:ty),*) => {
        // SAFETY: `repr(C)`, made of integers, raw pointers and optional functions, `struct_size` first.
        $(unsafe impl SizedStruct for $name {})*
    };
}
sized!(
    proxywasm_limits,
    proxywasm_outcome,
    proxywasm_http_response,
    proxywasm_module_info,
    proxywasm_worker_stats,
    super::vtable::proxywasm_host
);

/// The size that a caller says its struct has.
pub(super) fn struct_size<T: SizedStruct>(pointer: *const T, name: &str) -> Outcome<usize> {
    if pointer.is_null() {
        return Err(Failure::invalid(format!("{name} is NULL")));
    }
    // SAFETY: not NULL, and the caller passes a struct whose first field is its size.
    let size = unsafe { pointer.cast::<usize>().read() };
    if size < size_of::<usize>() || size > MAX_STRUCT {
        return Err(Failure::invalid(format!("struct_size of {name} is {size}: set it to sizeof(*{name})")));
    }
    Ok(size)
}

/// Reads a struct; what an older program does not have is zero.
pub(super) fn read_sized<T: SizedStruct>(pointer: *const T, name: &str) -> Outcome<T> {
    let size = struct_size(pointer, name)?;
    let known = size.min(size_of::<T>());
    // SAFETY: the caller says that so many bytes are there.
    let given = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), size) };
    if given[known..].iter().any(|&byte| byte != 0) {
        let text = format!("{name} has {size} bytes, this library knows {known}, and what it does not know is in use");
        return Err(Failure::new(proxywasm_result::ABI_MISMATCH, text));
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: `known` bytes are there on both sides, and zeroes are a value of T.
    unsafe {
        std::ptr::copy_nonoverlapping(pointer.cast::<u8>(), value.as_mut_ptr().cast::<u8>(), known);
        Ok(value.assume_init())
    }
}

/// Writes a struct for the caller, as much of it as its program knows, and leaves its `struct_size` as it is.
pub(super) fn write_sized<T: SizedStruct>(pointer: *mut T, value: &T, name: &str) -> Outcome {
    let size = struct_size(pointer, name)?;
    if size == size_of::<T>() {
        // SAFETY: the caller's struct is the library's. A copy of constant size, as nearly always.
        unsafe { std::ptr::copy_nonoverlapping(value, pointer, 1) };
        return Ok(());
    }
    let (head, known) = (size_of::<usize>(), size.min(size_of::<T>()));
    // SAFETY: the caller says that so many bytes are there, and T has them too.
    unsafe {
        let from = std::ptr::from_ref(value).cast::<u8>();
        std::ptr::copy_nonoverlapping(from.add(head), pointer.cast::<u8>().add(head), known - head);
    }
    Ok(())
}
