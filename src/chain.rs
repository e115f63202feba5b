// SPDX-License-Identifier: Apache-2.0
//! A chain: the plugins that a stream passes, in order.

use crate::error::{Error, ErrorKind, Result};
use crate::instance::Instance;
use crate::plugin::Phases;
use crate::services::Services;
use std::rc::Rc;

/// Plugins in the order in which requests pass them; responses pass them backward. Cheap to clone.
#[derive(Clone)]
pub struct Chain(Rc<ChainInner>);

pub struct ChainInner {
    pub(crate) services: Rc<Services>,
    pub(crate) instances: Vec<Rc<Instance>>,
    pub(crate) phases: Phases,
}

impl std::ops::Deref for Chain {
    type Target = ChainInner;
    fn deref(&self) -> &ChainInner {
        &self.0
    }
}

impl Chain {
    pub(crate) fn new(services: &Rc<Services>, instances: Vec<Rc<Instance>>) -> Result<Self> {
        if instances.iter().any(|instance| !Rc::ptr_eq(&instance.services, services)) {
            return Err(Error::new(ErrorKind::InvalidArgument, "an instance of the chain belongs to another worker"));
        }
        // Contexts begin with the request or the connection, so these are always run.
        let always = if instances.is_empty() { 0 } else { Phases::REQUEST_HEADERS.0 | Phases::NEW_CONNECTION.0 };
        let phases = instances.iter().fold(always, |bits, instance| bits | instance.plugin.phases().0);
        Ok(Self(Rc::new(ChainInner { services: services.clone(), instances, phases: Phases(phases) })))
    }

    /// The phases in which any of its plugins takes part; others need not be run.
    pub fn phases(&self) -> Phases {
        self.0.phases
    }

    /// Number of plugins.
    pub fn len(&self) -> usize {
        self.0.instances.len()
    }

    /// Whether it has no plugin.
    pub fn is_empty(&self) -> bool {
        self.0.instances.is_empty()
    }
}
