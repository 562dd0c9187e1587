//! Following a source that changes while we run: a file, a folder, a host name.
//!
//! ```text
//! read ──> what was published? ──yes──> nothing to do, and an earlier error is over
//!   ^            │ no
//!   │            v
//!   ├───── as the look before? ──no──> look again soon: the source may be half-written
//!   │            │ yes
//!   │            v
//!   └────────── parse ──good──> published
//!                 └──bad──> logged once; what was published stays
//! ```
//!
//! A [`Source`] reads and parses. A [`Follower`] decides what to publish, and its rules need neither a clock nor a
//! runtime; only [`first`](Follower::first) and [`follow`](Follower::follow) wait between two looks.
//!
//! The follower polls and does not subscribe to file system events: editors replace the file, container mounts replace
//! the folder, and a subscription is bound to what was there before.

mod source;

mod text;

mod follower;

pub use follower::{CONFIRM_AFTER, Change, Follower, PollOutcome, PollTiming};
pub use source::{Reading, Source};
pub use text::text;
