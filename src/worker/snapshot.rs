//! What the workers run on: one immutable picture of configuration, TLS material and routes.
//!
//! Made by control, swapped whole; a connection keeps the snapshot that it began with.

use std::sync::Arc;

use crate::config::plan::Plan;
use crate::core::route::{Conflict, Router};
use crate::tls::Material;

/// One generation of everything that a reload can change.
#[derive(Debug)]
pub struct Snapshot {
    pub plan: Plan,
    pub material: Material,
    /// One a listener, in the plan's order.
    pub routers: Vec<Router>,
    /// Where each listener's chains begin in a flat list of all chains (for counters).
    chain_offsets: Vec<usize>,
}

impl Snapshot {
    /// # Errors
    /// Two chains of a listener match the same client; `config::load` has refused that before.
    pub fn new(plan: Plan, material: Material) -> Result<Arc<Self>, Conflict> {
        let mut routers = Vec::with_capacity(plan.listeners.len());
        let mut chain_offsets = Vec::with_capacity(plan.listeners.len());
        let mut chains = 0;
        for listener in &plan.listeners {
            let matches: Vec<_> = (0..)
                .map(crate::core::route::ChainId)
                .zip(listener.chains.iter().map(|chain| chain.matches.clone()))
                .collect();
            routers.push(Router::build(&matches)?);
            chain_offsets.push(chains);
            chains += listener.chains.len();
        }
        Ok(Arc::new(Self { plan, material, routers, chain_offsets }))
    }

    /// How many filter chains all listeners have together.
    pub fn chains(&self) -> usize {
        self.plan.listeners.iter().map(|listener| listener.chains.len()).sum()
    }

    /// The place of a chain in a flat list of all chains.
    pub fn chain_index(&self, listener: usize, chain: crate::core::route::ChainId) -> usize {
        self.chain_offsets[listener] + usize::from(chain.0)
    }
}
