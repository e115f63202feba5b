// SPDX-License-Identifier: Apache-2.0
//! What every exported function goes through: errors become results and a text, panics become PANIC.

use super::types::proxywasm_result;
use crate::error::{Error, ErrorKind};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{catch_unwind, AssertUnwindSafe};

/// A failure on its way to C: its result and its text.
pub(super) struct Failure(Box<Inner>);

pub(super) struct Inner {
    pub(super) result: proxywasm_result,
    pub(super) message: String,
}

impl std::ops::Deref for Failure {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

pub(super) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    #[cold]
    pub(super) fn new(result: proxywasm_result, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { result, message: message.into() }))
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(proxywasm_result::INVALID_ARGUMENT, message)
    }

    /// The result of a panic that was caught.
    pub(super) fn panic(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text");
        Self::new(proxywasm_result::PANIC, format!("a fault inside the library was caught: {text}"))
    }
}

pub(super) fn result_of(kind: ErrorKind) -> proxywasm_result {
    match kind {
        ErrorKind::InvalidArgument => proxywasm_result::INVALID_ARGUMENT,
        ErrorKind::NotFound => proxywasm_result::NOT_FOUND,
        ErrorKind::Reentrant => proxywasm_result::REENTRANT,
        ErrorKind::Busy => proxywasm_result::BUSY,
        ErrorKind::Unsupported => proxywasm_result::UNSUPPORTED,
        ErrorKind::BadModule => proxywasm_result::BAD_MODULE,
        ErrorKind::UnknownAbi => proxywasm_result::UNKNOWN_ABI,
        ErrorKind::MissingExport => proxywasm_result::MISSING_EXPORT,
        ErrorKind::DeniedImport => proxywasm_result::DENIED_IMPORT,
        ErrorKind::GuestTrap => proxywasm_result::GUEST_TRAP,
        ErrorKind::GuestTimeout => proxywasm_result::GUEST_TIMEOUT,
        ErrorKind::GuestLimit => proxywasm_result::GUEST_LIMIT,
        ErrorKind::GuestRejected => proxywasm_result::GUEST_REJECTED,
        ErrorKind::GuestUnavailable => proxywasm_result::GUEST_UNAVAILABLE,
        ErrorKind::NoMemory => proxywasm_result::NO_MEMORY,
        ErrorKind::Internal => proxywasm_result::INTERNAL,
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(result_of(error.kind()), error.to_string())
    }
}

thread_local! {
    /// Whether LAST_ERROR holds the text of the last call. Its address tells threads apart, faster than their ids.
    static FAILED: Cell<bool> = const { Cell::new(false) };
    static LAST_ERROR: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Tells the calling thread from all others that live.
#[inline(always)]
pub(super) fn this_thread() -> usize {
    FAILED.with(|failed| std::ptr::from_ref(failed) as usize)
}

pub(super) fn last_error<R>(read: impl FnOnce(&str) -> R) -> R {
    if FAILED.get() {
        LAST_ERROR.with_borrow(|text| read(text))
    } else {
        read("")
    }
}

#[cold]
fn set_last_error(text: String) {
    FAILED.set(true);
    LAST_ERROR.with_borrow_mut(|last| *last = text);
}

fn clear_last_error() {
    FAILED.set(false);
}

/// Keeps a failure's text for `proxywasm_last_error`, gives its number.
pub(super) fn report(failure: Failure) -> i32 {
    let inner = *failure.0;
    set_last_error(inner.message);
    inner.result as i32
}

/// Runs the body of an exported function.
pub(super) fn boundary(run: impl FnOnce() -> Outcome) -> i32 {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => {
            // At the end, because callbacks may have made calls that failed.
            clear_last_error();
            proxywasm_result::OK as i32
        }
        Ok(Err(failure)) => report(failure),
        Err(payload) => report(Failure::panic(&*payload)),
    }
}

/// The same for a function without a result: what fails is kept for `proxywasm_last_error`.
pub(super) fn boundary_void(run: impl FnOnce() -> Outcome) {
    boundary(run);
}
