// SPDX-License-Identifier: Apache-2.0
//! The registry of foreign functions: what a guest calls by name with `proxy_call_foreign_function`.

use crate::abi::Status;
use hashbrown::HashMap;
use std::sync::Arc;

/// A foreign function: reads the argument, appends its result to `out`, which counts also when it fails.
pub type ForeignFunction = Arc<dyn Fn(&[u8], &mut Vec<u8>) -> Result<(), Status> + Send + Sync>;

/// Foreign functions by name.
#[derive(Clone, Default)]
pub struct ForeignFunctions(HashMap<Vec<u8>, ForeignFunction>);

impl ForeignFunctions {
    /// Adds a function, in place of one of that name.
    pub fn insert(&mut self, name: &[u8], function: ForeignFunction) {
        self.0.insert(name.to_vec(), function);
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<&ForeignFunction> {
        self.0.get(name)
    }
}
