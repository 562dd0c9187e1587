//! What one run of this demo does, as plain data.
//!
//! The command line fills a [`Plan`]; the scenario reads it.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use mesh_xds::event_log::EventFormat;

use crate::topology::DataPlane;

/// How long to wait for Envoy by default.
const READY_LIMIT: Duration = Duration::from_secs(20);

/// The settings of one run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The Envoy to use; found or installed if `None`.
    pub envoy: Option<PathBuf>,
    /// Whether to use the lab ports, because everything stays up after the run.
    pub stay: bool,
    /// How to print the messages between the clients and the control plane, if they are printed.
    pub xds_log: Option<EventFormat>,
    /// How long to wait for Envoy to become ready.
    pub ready_limit: Duration,
    /// The data planes that take part.
    pub planes: Planes,
    /// The only step to run; all of them if `None`.
    pub step: Option<Step>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            envoy: None,
            stay: false,
            xds_log: None,
            ready_limit: READY_LIMIT,
            planes: Planes::default(),
            step: None,
        }
    }
}

/// Which data planes take part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Planes {
    /// Envoy only
    Envoy,
    /// gRPC clients that speak xDS themselves only
    Proxyless,
    /// Both, side by side
    #[default]
    Both,
}

impl Planes {
    /// Returns whether this data plane takes part.
    pub fn has(self, plane: DataPlane) -> bool {
        match self {
            Self::Both => true,
            Self::Envoy => plane == DataPlane::Envoy,
            Self::Proxyless => plane == DataPlane::Proxyless,
        }
    }
}

/// A step of the scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Step {
    /// One address and no xDS: what there is without a mesh
    Plain,
    /// Calls are spread evenly, of all four kinds
    Calls,
    /// Three regions get 70, 20 and 10 %
    Localities,
    /// A region loses its backends one by one, and gets them back
    Priorities,
    /// A backend answers UNAVAILABLE for a while
    Outlier,
    /// Load reports keep a region under its capacity
    Feedback,
    /// Backends join, leave, and are all replaced while calls run
    Rolling,
    /// The control plane is away for a while
    Restart,
    /// What the proxy costs
    Cost,
}

impl Step {
    /// Returns its title.
    pub fn title(self) -> &'static str {
        match self {
            Self::Plain => "One address and no mesh",
            Self::Calls => "Calls of all four kinds over three backends",
            Self::Localities => "Three regions are to get 70, 20 and 10 %",
            Self::Priorities => "A region falls ill, the next one takes over, and it heals",
            Self::Outlier => "A backend says that it is well, and fails",
            Self::Feedback => "Two Envoys overload a region that neither could overload alone",
            Self::Rolling => "Backends join, leave, and are all replaced while calls run",
            Self::Restart => "The control plane is stopped, and started again",
            Self::Cost => "What a call costs",
        }
    }

    /// Returns whether the step is about a feature that only Envoy has.
    pub(crate) fn needs_envoy(self) -> bool {
        matches!(self, Self::Feedback)
    }
}
