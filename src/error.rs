// SPDX-License-Identifier: Apache-2.0
//! The library's error: what failed, said to the person who can mend it.

/// What kind of failure it is; the C results are made of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A bad argument.
    InvalidArgument,
    /// Unknown token, queue or name.
    NotFound,
    /// Not inside a callback of the same worker.
    Reentrant,
    /// The stream holds as much as it may.
    Busy,
    /// The stream's kind has no such phase.
    Unsupported,
    /// Not a module that can run here.
    BadModule,
    /// No ABI marker that is known.
    UnknownAbi,
    /// A needed function is missing, or has the wrong type.
    MissingExport,
    /// An import that no Proxy-Wasm host offers.
    DeniedImport,
    /// The guest trapped.
    GuestTrap,
    /// The guest ran past its deadline.
    GuestTimeout,
    /// The guest failed for want of memory.
    GuestLimit,
    /// The guest refused to start.
    GuestRejected,
    /// The plugin has no working VM at present.
    GuestUnavailable,
    /// A fault inside the library.
    Internal,
    /// No memory or address space.
    NoMemory,
}

/// An error: a kind for programs, a sentence for people. One pointer wide, so that results are returned in registers.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .0.message)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
}

impl Error {
    /// An error of this kind with this sentence.
    #[cold]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into() }))
    }

    /// Its kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The same error, its sentence led by whose it is.
    pub fn context(mut self, whose: impl std::fmt::Display) -> Self {
        self.0.message = format!("{whose}: {}", self.0.message);
        self
    }
}

/// Result with the library's error.
pub type Result<T> = std::result::Result<T, Error>;
