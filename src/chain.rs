// SPDX-License-Identifier: Apache-2.0
//! A chain: the plugins that a stream passes, in order.

use crate::error::{Error, ErrorKind, Result};
use crate::instance::Instance;
use crate::plugin::Phases;
use crate::services::Services;
use std::cell::Cell;
use std::rc::Rc;

/// Which VMs the streams of a chain use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Isolation {
    /// Those of the worker, as in Envoy.
    #[default]
    Shared,
    /// VMs of their own: in one stream, plugins with one VM key share one.
    Stream,
    /// A VM of its own for each plugin of each stream.
    Plugin,
}

/// Plugins in the order in which requests pass them; responses pass them backward. Cheap to clone.
#[derive(Clone)]
pub struct Chain(Rc<ChainInner>);

pub struct ChainInner {
    pub(crate) services: Rc<Services>,
    pub(crate) instances: Vec<Rc<Instance>>,
    pub(crate) phases: Phases,
    isolation: Cell<Isolation>,
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
        let (services, isolation) = (services.clone(), Cell::default());
        Ok(Self(Rc::new(ChainInner { services, instances, phases: Phases(phases), isolation })))
    }

    /// Which VMs streams use that begin from now on.
    pub fn set_isolation(&self, isolation: Isolation) {
        self.0.isolation.set(isolation);
    }

    /// Which VMs streams use that begin now.
    pub fn isolation(&self) -> Isolation {
        self.0.isolation.get()
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
